"""The filters of Bedrock's Retrieve, as they hold on S3 Vectors.

Source: Bedrock API reference, RetrievalFilter; Amazon S3 User Guide, "Metadata filtering".
"""

from collections.abc import Callable, Mapping
from typing import Any

from ..operations import ServiceError

Keep = Callable[[Mapping[str, Any]], bool]
"""A document's metadata -> whether it stays."""


def filter_of(condition: Mapping[str, Any] | None) -> Keep:
    """A RetrievalFilter as a function of a document's metadata; ServiceError for what S3 Vectors can't do.

    equals on a list is true where one of its elements is equal. notEquals and notIn are true for a
    document that doesn't have the key at all.
    """
    if condition is None:
        return lambda _: True
    ((operator, operand),) = condition.items()
    if operator in ("andAll", "orAll"):
        parts = [filter_of(part) for part in operand]
        every = all if operator == "andAll" else any
        return lambda metadata: every(part(metadata) for part in parts)
    if operator not in _OPERATORS:
        raise _invalid(f"The filter {operator} is not supported for the vector store S3_VECTORS")
    key, wanted = operand["key"], operand["value"]
    expected, holds = _OPERATORS[operator]
    if not expected(wanted):
        raise _invalid(f"The value of the filter {operator} on {key} is of the wrong type")
    absent = operator in ("notEquals", "notIn")
    return lambda metadata: holds(metadata[key], wanted) if key in metadata else absent


def _same(have: Any, want: Any) -> bool:
    if isinstance(have, list):
        return any(_same(item, want) for item in have)
    # True is 1 in Python, and neither is the other in a filter.
    return isinstance(have, bool) == isinstance(want, bool) and bool(have == want)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_scalar(value: Any) -> bool:
    return isinstance(value, str | bool | int | float)


def _is_list(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(_is_scalar(item) for item in value)


def _compared(compare: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    return lambda have, want: _is_number(have) and compare(have, want)


_OPERATORS: Mapping[str, tuple[Callable[[Any], bool], Callable[[Any, Any], bool]]] = {
    "equals": (_is_scalar, _same),
    "notEquals": (_is_scalar, lambda have, want: not _same(have, want)),
    "in": (_is_list, lambda have, want: any(_same(have, item) for item in want)),
    "notIn": (_is_list, lambda have, want: not any(_same(have, item) for item in want)),
    "listContains": (_is_scalar, lambda have, want: isinstance(have, list) and _same(have, want)),
    "greaterThan": (_is_number, _compared(lambda have, want: have > want)),
    "greaterThanOrEquals": (_is_number, _compared(lambda have, want: have >= want)),
    "lessThan": (_is_number, _compared(lambda have, want: have < want)),
    "lessThanOrEquals": (_is_number, _compared(lambda have, want: have <= want)),
}


def _invalid(message: str) -> ServiceError:
    return ServiceError("ValidationException", message)

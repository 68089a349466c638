"""What a service refuses before it looks at anything: values that break its model's constraints.

Types and required members are settled when a call is parsed. Patterns, enums, bounds and unions are
settled here: botocore checks hardly any of them on the client's side, and an attacker needs no
botocore at all.
"""

import re
from collections.abc import Iterator
from functools import cache
from typing import Any

from moto.core.utils import get_service_model

from .operations import Call, ServiceError


def validate(call: Call) -> None:
    """Check a call against its input shape.

    Raises:
        ServiceError: `ValidationException` that names every broken constraint, worded as by AWS.
    """
    shape = get_service_model(call.service).operation_model(call.operation).input_shape
    broken = list(_violations(shape, call.params, ""))
    if broken:
        noun = "error" if len(broken) == 1 else "errors"
        message = f"{len(broken)} validation {noun} detected: {'; '.join(broken)}"
        raise ServiceError("ValidationException", message)


def _violations(shape: Any, value: Any, path: str) -> Iterator[str]:
    """A sentence for each broken constraint of a value and its members; `path` leads to it."""
    constraint = _broken_constraint(shape, value)
    if constraint:
        yield f"Value at '{path}' failed to satisfy constraint: Member must {constraint}"
    elif shape.type_name == "structure" and not shape.is_document_type:
        for name, member in shape.members.items():
            if value.get(name) is not None:
                yield from _violations(member, value[name], f"{path}.{name}" if path else name)
    elif shape.type_name == "list":
        for index, item in enumerate(value):
            yield from _violations(shape.member, item, f"{path}.{index + 1}.member")
    elif shape.type_name == "map":
        for key, item in value.items():
            yield from _violations(shape.key, key, f"{path}.key")
            yield from _violations(shape.value, item, f"{path}.{key}.member")


def _broken_constraint(shape: Any, value: Any) -> str | None:
    """What the value itself must do and doesn't."""
    rules = shape.metadata
    if shape.type_name == "structure":
        if shape.is_tagged_union and sum(member is not None for member in value.values()) != 1:
            return "have exactly one member set"
        return None
    has_length = isinstance(value, str | bytes | list | dict)
    size, what = (len(value), "length") if has_length else (value, "value")
    # Sizes before patterns: no regular expression meets a text of unlimited length.
    if "min" in rules and size < rules["min"]:
        return f"have {what} greater than or equal to {rules['min']}"
    if "max" in rules and size > rules["max"]:
        return f"have {what} less than or equal to {rules['max']}"
    if "enum" in rules and value not in rules["enum"]:
        return f"satisfy enum value set: [{', '.join(rules['enum'])}]"
    if "pattern" in rules and not _pattern(rules["pattern"]).fullmatch(value):
        return f"satisfy regular expression pattern: {rules['pattern']}"
    return None


@cache
def _pattern(text: str) -> re.Pattern[str]:
    # The services' patterns are ASCII; Python's \w, \s and \d would let other alphabets in.
    return re.compile(text, re.ASCII)

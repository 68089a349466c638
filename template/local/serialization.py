"""moto's answers, written faster.

moto looks up each member of each structure that it answers with under up to ten names, and works out these names anew
each time: a quarter of all the time that the local cloud took. The names depend on the member alone: here they are
worked out once for each member, where what is answered with is a plain dict. It also lists the methods of a service
for each call.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from moto.core import responses, utils
from moto.core.serialize import AttributePickerContext, ResponseSerializer, XFormedAttributePicker

from .patching import replaced

_Member = tuple[str, str | None, str, str]


@contextmanager
def install() -> Iterator[None]:
    """Remember the names for as long as the context lasts."""
    names: dict[_Member, tuple[str, ...] | None] = {}
    slow = ResponseSerializer.get_value

    def get_value(serializer: Any, value: Any, key: str, shape: Any) -> Any:
        picker = serializer._value_picker
        if type(value) is not dict or type(picker) is not XFormedAttributePicker or picker.response_transformers:
            return slow(serializer, value, key, shape)
        parent = getattr(shape, "parent", None)
        member = (serializer.service_model.service_name, parent and parent.name, shape.name, key)
        if member not in names:
            possible = tuple(dict.fromkeys(picker.get_possible_keys(AttributePickerContext(value, key, shape))))
            # moto takes a dot for a path.
            names[member] = None if any("." in name for name in possible) else possible
        possible_names = names[member]
        if possible_names is None:
            return slow(serializer, value, key, shape)
        return next((value[name] for name in possible_names if name in value), None)

    methods = cache(utils.method_names_from_class)
    with replaced(ResponseSerializer, get_value=get_value), replaced(responses, method_names_from_class=methods):
        yield

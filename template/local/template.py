"""A CloudFormation template as data: parsing, parameters, conditions and intrinsic functions.

Follows the CloudFormation User Guide ("Template anatomy", "Intrinsic function reference"). What is
not known here fails with one line instead of being passed over.
"""

import base64
import json
import re
from collections.abc import Callable, Mapping
from typing import Any

import yaml

MAX_TEMPLATE_BYTES = 51_200
"""Largest template that the API takes in a request; a larger one has to come from S3."""


class TemplateError(ValueError):
    """The template or its parameters are wrong; the message says what and why in one line."""


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """YAML with CloudFormation's short forms, and with dates left as the text they are."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, regexp) for tag, regexp in resolvers if not tag.endswith(":timestamp")]
    for first, resolvers in _Loader.yaml_implicit_resolvers.items()
}


def _short_form(loader: Any, suffix: str, node: Any) -> dict[str, Any]:
    if isinstance(node, yaml.ScalarNode):
        value: Any = loader.construct_scalar(node)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        value = loader.construct_mapping(node, deep=True)
    if suffix == "GetAtt" and isinstance(value, str):
        value = value.split(".", 1)
    return {suffix if suffix in ("Ref", "Condition") else f"Fn::{suffix}": value}


_Loader.add_multi_constructor("!", _short_form)


def parse(body: str) -> dict[str, Any]:
    """A template in YAML or JSON as a dict, with every short form (`!Ref`) in its long form.

    Raises:
        TemplateError: not YAML, or without a resource.
    """
    try:
        template = yaml.load(body, Loader=_Loader)
    except yaml.YAMLError as error:
        raise TemplateError(f"Template format error: {' '.join(str(error).split())}") from None
    if not isinstance(template, dict) or not isinstance(template.get("Resources"), dict):
        raise TemplateError("Template format error: At least one Resources member must be defined.")
    for logical_id, resource in template["Resources"].items():
        if not isinstance(resource, dict) or "Type" not in resource:
            raise TemplateError(f"Template format error: resource {logical_id} has no Type.")
    return template


# --- Parameters -----------------------------------------------------------------------------------


def resolve_parameters(
    template: Mapping[str, Any],
    given: Mapping[str, str],
    stored: Callable[[str], str],
) -> dict[str, Any]:
    """The value of every parameter: given or default, checked, in the form that `Ref` returns.

    Args:
        given: parameter values as the API takes them, all of them text.
        stored: reads a parameter of Systems Manager Parameter Store by its name.

    Raises:
        TemplateError: one is missing, unknown, or breaks a constraint of its declaration.
    """
    declared: Mapping[str, Any] = template.get("Parameters") or {}
    unknown = sorted(given.keys() - declared.keys())
    if unknown:
        raise TemplateError(f"Parameters: [{', '.join(unknown)}] do not exist in the template")
    missing = sorted(name for name, slot in declared.items() if name not in given and "Default" not in slot)
    if missing:
        raise TemplateError(f"Parameters: [{', '.join(missing)}] must have values")
    return {
        name: _parameter(name, slot, str(given.get(name, slot.get("Default"))), stored)
        for name, slot in declared.items()
    }


def _parameter(name: str, slot: Mapping[str, Any], value: str, stored: Callable[[str], str]) -> Any:
    _check_parameter(name, slot, value)
    kind = str(slot.get("Type", "String"))
    if kind.startswith("AWS::SSM::Parameter::Value<"):
        value = stored(value)
        kind = kind.removeprefix("AWS::SSM::Parameter::Value<").removesuffix(">")
    if kind == "CommaDelimitedList" or kind.startswith("List<"):
        return [item.strip() for item in value.split(",")]
    if kind == "Number":
        return float(value) if "." in value else int(value)
    return value


def _check_parameter(name: str, slot: Mapping[str, Any], value: str) -> None:
    allowed = [str(item) for item in slot.get("AllowedValues", [])]
    pattern = slot.get("AllowedPattern")
    if allowed and value not in allowed:
        wrong = f"must be one of [{', '.join(allowed)}]"
    elif pattern and not re.fullmatch(pattern, value):
        wrong = slot.get("ConstraintDescription") or f"must match pattern {pattern}"
    elif not int(slot.get("MinLength", 0)) <= len(value) <= int(slot.get("MaxLength", 4096)):
        wrong = f"must have {slot.get('MinLength', 0)} to {slot.get('MaxLength', 4096)} characters"
    elif slot.get("Type") == "Number" and not re.fullmatch(r"-?\d+(\.\d+)?", value):
        wrong = "must be a number"
    else:
        return
    raise TemplateError(f"Parameter '{name}' {wrong}")


# --- Functions ------------------------------------------------------------------------------------

_NO_VALUE = object()
"""What `AWS::NoValue` resolves to: the property or list item that holds it is left out."""

_PLACEHOLDER = re.compile(r"\$\{(!?)([^}]*)\}")


class Scope:
    """What the functions of one template can refer to, and the functions themselves.

    Args:
        pseudo: pseudo parameters (`AWS::Region`).
        parameters: resolved parameters.
        attribute: gives a resource's attribute, or its `Ref` when the attribute is None. Asking for
            one may create the resource. Raises TemplateError for a resource that isn't there.
        exported: gives the value that another stack exports under a name.
    """

    def __init__(
        self,
        template: Mapping[str, Any],
        *,
        pseudo: Mapping[str, str],
        parameters: Mapping[str, Any],
        attribute: Callable[[str, str | None], Any],
        exported: Callable[[str], str],
    ) -> None:
        self._mappings = template.get("Mappings") or {}
        self._conditions = template.get("Conditions") or {}
        self._resources = template["Resources"]
        self._names: dict[str, Any] = {**pseudo, **parameters, "AWS::NoValue": _NO_VALUE}
        self._attribute = attribute
        self._exported = exported
        self._functions: dict[str, Callable[[Any], Any]] = {
            "Ref": self._ref,
            "Fn::GetAtt": lambda value: self._attribute(value[0], self.resolve(value[1])),
            "Fn::Sub": self._sub,
            "Fn::Join": lambda value: value[0].join(_text(x) for x in self.resolve(value[1])),
            "Fn::Split": lambda value: _text(self.resolve(value[1])).split(value[0]),
            "Fn::Select": self._select,
            "Fn::If": lambda value: self.resolve(value[1 if self.condition(value[0]) else 2]),
            "Fn::FindInMap": self._find_in_map,
            "Fn::Base64": lambda value: base64.b64encode(self.resolve(value).encode()).decode(),
            "Fn::ImportValue": lambda value: self._exported(self.resolve(value)),
            "Fn::ToJsonString": lambda value: json.dumps(self.resolve(value)),
        }

    def resolve(self, value: Any) -> Any:
        """`value` with every function in it replaced by its result.

        Raises:
            TemplateError: a function is unknown or refers to something that isn't there.
        """
        if isinstance(value, list):
            items = (self.resolve(item) for item in value)
            return [item for item in items if item is not _NO_VALUE]
        if not isinstance(value, dict):
            return value
        if len(value) == 1:
            [(name, argument)] = value.items()
            if name in self._functions:
                return self._functions[name](argument)
            if name.startswith("Fn::"):
                raise TemplateError(f"the local cloud has no function {name}: use another one")
        members = {name: self.resolve(member) for name, member in value.items()}
        return {name: member for name, member in members.items() if member is not _NO_VALUE}

    def condition(self, name: str) -> bool:
        """Does the condition of this name hold?"""
        if name not in self._conditions:
            raise TemplateError(f"Template error: there is no condition {name}")
        return self._holds(self._conditions[name])

    def _holds(self, rule: Mapping[str, Any]) -> bool:
        [(name, argument)] = rule.items()
        if name == "Condition":
            return self.condition(argument)
        if name == "Fn::Equals":
            return _text(self.resolve(argument[0])) == _text(self.resolve(argument[1]))
        if name == "Fn::Not":
            return not self._holds(argument[0])
        if name == "Fn::And":
            return all(self._holds(item) for item in argument)
        if name == "Fn::Or":
            return any(self._holds(item) for item in argument)
        raise TemplateError(f"Template error: {name} isn't a condition function")

    def _ref(self, name: str) -> Any:
        if name in self._names:
            return self._names[name]
        if name in self._resources:
            return self._attribute(name, None)
        raise TemplateError(f"Template error: Ref to {name}, which the template doesn't define")

    def _sub(self, argument: Any) -> str:
        text, local = argument if isinstance(argument, list) else (argument, {})
        values = {name: self.resolve(value) for name, value in local.items()}

        def replacement(match: re.Match[str]) -> str:
            literal, name = match.group(1), match.group(2).strip()
            if literal:
                return f"${{{name}}}"
            if name in values:
                return _text(values[name])
            if "." in name:
                return _text(self._attribute(*name.split(".", 1)))
            return _text(self._ref(name))

        return _PLACEHOLDER.sub(replacement, text)

    def _select(self, argument: list[Any]) -> Any:
        index, items = int(self.resolve(argument[0])), self.resolve(argument[1])
        if not 0 <= index < len(items):
            raise TemplateError(f"Template error: Fn::Select cannot select index {index}")
        return items[index]

    def _find_in_map(self, argument: list[Any]) -> Any:
        found: Any = self._mappings
        for key in argument:
            name = self.resolve(key)
            if name not in found:
                raise TemplateError(f"Template error: Fn::FindInMap finds no {name}")
            found = found[name]
        return found


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int | float):
        return str(value)
    raise TemplateError(f"Template error: a text is needed where a {type(value).__name__} stands")

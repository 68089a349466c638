"""Policy decision point: may this request pass these IAM policies?

Implements what identity and trust policies use of the IAM policy language: wildcards, policy
variables with defaults, `NotAction`, `NotResource`, principals, and the condition operators listed
in `_OPERATORS` with `ForAllValues:`, `ForAnyValue:` and `IfExists`. Anything else, such as
`NotPrincipal`, raises `PolicyError`: a policy that is not understood is never half applied.

Source of the rules: IAM User Guide, "Policy evaluation logic", "Policy variables and tags",
"Condition operators" and "Multivalued context keys". Where the guide is silent, the stricter
reading holds; the places say so.
"""

import ipaddress
import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum
from functools import lru_cache
from typing import Any

Policy = Mapping[str, Any]
ContextValue = str | Sequence[str]


class PolicyError(ValueError):
    """A policy document holds something that this module does not evaluate."""


class Verdict(Enum):
    """Outcome of an evaluation; only `ALLOWED` lets a request pass."""

    ALLOWED = "allowed"
    IMPLICITLY_DENIED = "implicitly denied"
    EXPLICITLY_DENIED = "explicitly denied"

    @property
    def allowed(self) -> bool:
        return self is Verdict.ALLOWED


@dataclass(frozen=True)
class Request:
    """One API call, as IAM sees it.

    Attributes:
        action: `service:Operation`.
        resource: ARN of the resource, never with a wildcard. Not read when trust is judged.
        context: condition keys; a string where AWS documents the key as single-valued, a list of
            strings where it documents `ArrayOfString`. A key with an empty list counts as absent.
        principal: ARN of the caller: user, role or assumed-role session. Empty when there is none.
        principal_role: ARN of the role behind an assumed-role session.
        federated: ARN of the identity provider that signed a web identity token.
        service: service principal, such as `lambda.amazonaws.com`.
    """

    action: str
    resource: str
    context: Mapping[str, ContextValue] = field(default_factory=dict)
    principal: str = ""
    principal_role: str = ""
    federated: str = ""
    service: str = ""


def evaluate(policies: Iterable[Policy], request: Request, *, trust: bool = False) -> Verdict:
    """Judge `request` by `policies`: one applicable Deny wins, else one applicable Allow is needed.

    Args:
        policies: policy documents of version 2012-10-17.
        trust: the documents are trust policies, whose statements name principals and no resource.

    Raises:
        PolicyError: a document holds something that this module does not evaluate.
    """
    context = _Context(request.context)
    statements = [statement for policy in policies for statement in _statements(policy, trust)]
    effects = {
        statement["Effect"]
        for statement in statements
        if _covers_action(statement, request.action)
        and (_covers_principal(statement, request) if trust else _covers_resource(statement, request.resource, context))
        and _conditions_hold(statement, context)
    }
    if "Deny" in effects:
        return Verdict.EXPLICITLY_DENIED
    return Verdict.ALLOWED if "Allow" in effects else Verdict.IMPLICITLY_DENIED


def as_list(value: Any) -> list[Any]:
    """The policy language writes a list of one as the element itself; this undoes it."""
    return list(value) if isinstance(value, list | tuple) else [value]


# --- Documents ------------------------------------------------------------------------------------

_IDENTITY_ELEMENTS = frozenset({"Sid", "Effect", "Action", "NotAction", "Resource", "NotResource", "Condition"})
_TRUST_ELEMENTS = frozenset({"Sid", "Effect", "Action", "NotAction", "Principal", "Condition"})


def _statements(policy: Policy, trust: bool) -> list[Policy]:
    if policy.get("Version") != "2012-10-17":
        # Older versions take policy variables for plain text, which would change every verdict.
        raise PolicyError(f"policy version is {policy.get('Version')!r}: write 2012-10-17")
    statements = as_list(policy.get("Statement", []))
    for statement in statements:
        _check(statement, trust)
    return statements


def _check(statement: Policy, trust: bool) -> None:
    elements, operators = frozenset(statement), tuple(statement.get("Condition", {}))
    _check_form(statement.get("Sid", "without Sid"), elements, str(statement.get("Effect")), operators, trust)


@lru_cache(maxsize=4096)
def _check_form(
    name: str, elements: frozenset[str], effect: str, condition_operators: tuple[str, ...], trust: bool
) -> None:
    unknown = elements - (_TRUST_ELEMENTS if trust else _IDENTITY_ELEMENTS)
    if unknown:
        kind = "trust" if trust else "identity"
        raise PolicyError(f"statement {name}: {sorted(unknown)} is not evaluated in {kind} policies: remove it")
    if effect not in ("Allow", "Deny"):
        raise PolicyError(f"statement {name}: Effect must be Allow or Deny")
    pairs = [("Action", "NotAction")]
    pairs.append(("Principal", "Principal") if trust else ("Resource", "NotResource"))
    for positive, negative in pairs:
        if len({positive, negative} & elements) != 1:
            raise PolicyError(f"statement {name}: write one of {positive} and {negative}")
    for condition_operator in condition_operators:
        _parse_operator(condition_operator)


# --- Actions, resources, principals ---------------------------------------------------------------


def _covers_action(statement: Policy, action: str) -> bool:
    patterns = as_list(statement.get("Action", statement.get("NotAction")))
    return _names_action(tuple(patterns), action) == ("Action" in statement)


@lru_cache(maxsize=65536)
def _names_action(patterns: tuple[str, ...], action: str) -> bool:
    return any(_glob(pattern.lower()).fullmatch(action.lower()) for pattern in patterns)


def _covers_resource(statement: Policy, resource: str, context: "_Context") -> bool:
    if "Resource" in statement:
        return any(_resource_matches(p, resource, context) for p in as_list(statement["Resource"]))
    for pattern in as_list(statement["NotResource"]):
        if context.resolve(pattern) is None:
            # What the exception names is unknown: an Allow grants nothing, a Deny denies.
            return bool(statement["Effect"] == "Deny")
        if _resource_matches(pattern, resource, context):
            return False
    return True


def _resource_matches(pattern: str, resource: str, context: "_Context") -> bool:
    if pattern == "*":
        return True
    # IAM reads the parts that a short ARN lacks as wildcards: arn:aws:s3 covers all of S3.
    parts = _arn_parts(pattern)
    return _arn_parts_match([*parts, *["*"] * (6 - len(parts))], resource, context)


def _covers_principal(statement: Policy, request: Request) -> bool:
    named = statement["Principal"]
    if named == "*":
        return True
    if not isinstance(named, Mapping):
        raise PolicyError(f"Principal is {named!r}: write '*' or a mapping such as {{'AWS': arn}}")
    for kind, values in named.items():
        if kind not in _PRINCIPALS:
            raise PolicyError(f"Principal kind {kind!r}: expected one of {sorted(_PRINCIPALS)}")
        if any(_PRINCIPALS[kind](value, request) for value in as_list(values)):
            return True
    return False


def _is_aws_principal(value: str, request: Request) -> bool:
    if value == "*":
        return True
    callers = [arn for arn in (request.principal, request.principal_role) if arn]
    # An account, or its root, stands for every principal of the account.
    accounts = {arn.split(":")[4] for arn in callers}
    root = re.fullmatch(r"(?:arn:[^:]+:iam::)?(\d{12})(?::root)?", value)
    return value in callers or (root is not None and root[1] in accounts)


_PRINCIPALS: Mapping[str, Callable[[str, Request], bool]] = {
    "AWS": _is_aws_principal,
    "Federated": lambda value, request: value != "" and value == request.federated,
    "Service": lambda value, request: value != "" and value == request.service,
}


# --- Request context and policy variables ---------------------------------------------------------

_VARIABLE = re.compile(r"\$\{([^}]*)\}")
_LITERALS = ("*", "?", "$")


class _Context:
    """Condition keys of one request; names are case-insensitive."""

    def __init__(self, values: Mapping[str, ContextValue]) -> None:
        self._values = {key.lower(): value for key, value in values.items() if isinstance(value, str) or value}

    def __contains__(self, key: str) -> bool:
        return key.lower() in self._values

    def is_multivalued(self, key: str) -> bool:
        return not isinstance(self._values[key.lower()], str)

    def values(self, key: str) -> list[str]:
        return as_list(self._values[key.lower()])

    def resolve(self, text: str) -> tuple[tuple[str, bool], ...] | None:
        """Split `text` into (part, literal?) with its variables replaced by their values.

        A value is literal: a `*` in a tag is not a wildcard. None when a variable has no value: its
        key is absent or multi-valued and has no default, or it is empty. Such a text equals nothing
        and is like nothing, which inverted operators take for a match (IAM User Guide, "Policy
        variables with no value").
        """
        if "${" not in text:
            return ((text, False),)
        parts: list[tuple[str, bool]] = []
        position = 0
        for variable in _VARIABLE.finditer(text):
            value = self._variable(variable[1])
            if not value:
                return None
            parts += [(text[position : variable.start()], False), (value, True)]
            position = variable.end()
        return (*parts, (text[position:], False))

    def _variable(self, expression: str) -> str | None:
        name, _, default = (part.strip() for part in expression.partition(","))
        if name in _LITERALS:
            return name
        value = self._values.get(name.lower())
        return value if isinstance(value, str) else default.strip("'")


@lru_cache(maxsize=4096)
def _glob(pattern: str) -> re.Pattern[str]:
    return _pattern(((pattern, False),), wildcards=True)


@lru_cache(maxsize=4096)
def _pattern(parts: tuple[tuple[str, bool], ...], *, wildcards: bool) -> re.Pattern[str]:
    expression = "".join(
        re.escape(text) if literal or not wildcards else _wildcard_expression(text) for text, literal in parts
    )
    return re.compile(expression, re.DOTALL)


def _wildcard_expression(text: str) -> str:
    return re.escape(text).replace(r"\*", ".*").replace(r"\?", ".")


# --- Conditions -----------------------------------------------------------------------------------

Comparison = Callable[[str, str, _Context], bool]


def _text_matches(wanted: str, value: str, context: _Context, *, wildcards: bool) -> bool:
    parts = context.resolve(wanted)
    return parts is not None and bool(_pattern(parts, wildcards=wildcards).fullmatch(value))


def _string_equals(wanted: str, value: str, context: _Context) -> bool:
    return _text_matches(wanted, value, context, wildcards=False)


def _string_equals_ignore_case(wanted: str, value: str, context: _Context) -> bool:
    parts = context.resolve(wanted)
    return parts is not None and "".join(text for text, _ in parts).lower() == value.lower()


def _string_like(wanted: str, value: str, context: _Context) -> bool:
    return _text_matches(wanted, value, context, wildcards=True)


def _arn_like(wanted: str, value: str, context: _Context) -> bool:
    return _arn_parts_match(_arn_parts(wanted), value, context)


def _arn_parts_match(patterns: Sequence[str], arn: str, context: _Context) -> bool:
    """The six parts of an ARN match one by one: only in the last does a wildcard cross a colon."""
    parts = arn.split(":", 5)
    return len(patterns) == len(parts) == 6 and all(
        _text_matches(pattern, part, context, wildcards=True) for pattern, part in zip(patterns, parts, strict=True)
    )


@lru_cache(maxsize=4096)
def _arn_parts(pattern: str) -> list[str]:
    # A colon inside a variable, as in ${aws:PrincipalTag/TenantId}, separates nothing.
    return re.split(r":(?![^{}]*\})", pattern, maxsplit=5)


def _typed(
    convert: Callable[[str], Any],
    compare: Callable[[Any, Any], bool],
    convert_wanted: Callable[[str], Any] | None = None,
) -> Comparison:
    """A comparison of values that are not text; a request value of another type never matches."""

    def comparison(wanted: str, value: str, context: _Context) -> bool:
        try:
            expected = (convert_wanted or convert)(wanted)
        except ValueError as error:
            raise PolicyError(f"condition value {wanted!r} is not of its operator's type") from error
        try:
            return compare(convert(value), expected)
        except ValueError:
            return False

    return comparison


def _boolean(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ValueError(text)
    return text.lower() == "true"


def _moment(text: str) -> datetime:
    """ISO 8601, or seconds since 1970; UTC unless it says otherwise."""
    if text.isdigit():
        return datetime.fromtimestamp(int(text), UTC)
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    return ipaddress.ip_network(text, strict=False)


_COMPARISONS: Mapping[str, Comparison] = {
    "StringEquals": _string_equals,
    "StringEqualsIgnoreCase": _string_equals_ignore_case,
    "StringLike": _string_like,
    # ArnEquals takes wildcards too: the two behave identically (IAM User Guide).
    "ArnEquals": _arn_like,
    "ArnLike": _arn_like,
    "Bool": _typed(_boolean, operator.eq),
    "NumericEquals": _typed(float, operator.eq),
    "NumericLessThan": _typed(float, operator.lt),
    "NumericLessThanEquals": _typed(float, operator.le),
    "NumericGreaterThan": _typed(float, operator.gt),
    "NumericGreaterThanEquals": _typed(float, operator.ge),
    "DateEquals": _typed(_moment, operator.eq),
    "DateLessThan": _typed(_moment, operator.lt),
    "DateLessThanEquals": _typed(_moment, operator.le),
    "DateGreaterThan": _typed(_moment, operator.gt),
    "DateGreaterThanEquals": _typed(_moment, operator.ge),
    "IpAddress": _typed(ipaddress.ip_address, lambda value, network: value in network, _network),
}

_INVERTED: Mapping[str, str] = {
    "StringNotEquals": "StringEquals",
    "StringNotEqualsIgnoreCase": "StringEqualsIgnoreCase",
    "StringNotLike": "StringLike",
    "ArnNotEquals": "ArnEquals",
    "ArnNotLike": "ArnLike",
    "NumericNotEquals": "NumericEquals",
    "DateNotEquals": "DateEquals",
    "NotIpAddress": "IpAddress",
}

_OPERATORS: Mapping[str, tuple[Comparison, bool]] = {
    **{name.lower(): (comparison, False) for name, comparison in _COMPARISONS.items()},
    **{name.lower(): (_COMPARISONS[base], True) for name, base in _INVERTED.items()},
}


@dataclass(frozen=True)
class _Operator:
    comparison: Comparison
    inverted: bool
    quantifier: str
    if_exists: bool

    def holds(self, key: str, wanted: Sequence[str], context: _Context) -> bool:
        if key not in context:
            if self.quantifier == "foranyvalue":
                return False
            # The vacuous truth of ForAllValues is why policies need a Null guard beside it.
            return self.quantifier == "forallvalues" or self.if_exists or self.inverted
        outcomes = (
            any(self.comparison(text, value, context) for text in wanted) != self.inverted
            for value in context.values(key)
        )
        if self.quantifier == "foranyvalue":
            return any(outcomes)
        if not self.quantifier and context.is_multivalued(key):
            return False
        return all(outcomes)


@lru_cache(maxsize=256)
def _parse_operator(name: str) -> _Operator | None:
    """The operator called `name`; None for `Null`, which tests a key and not its values."""
    if name.lower() == "null":
        return None
    quantifier, _, rest = name.lower().rpartition(":")
    base = rest.removesuffix("ifexists")
    if quantifier not in ("", "forallvalues", "foranyvalue") or base not in _OPERATORS:
        raise PolicyError(f"condition operator {name!r} is not evaluated: use {_known_operators()}")
    comparison, inverted = _OPERATORS[base]
    return _Operator(comparison, inverted, quantifier, if_exists=base != rest)


def _known_operators() -> str:
    return ", ".join(["Null", *_COMPARISONS, *_INVERTED])


def _conditions_hold(statement: Policy, context: _Context) -> bool:
    return all(
        _condition_holds(name, key, [_text(value) for value in as_list(wanted)], context)
        for name, keys in statement.get("Condition", {}).items()
        for key, wanted in keys.items()
    )


def _condition_holds(name: str, key: str, wanted: Sequence[str], context: _Context) -> bool:
    condition_operator = _parse_operator(name)
    if condition_operator is not None:
        return condition_operator.holds(key, wanted, context)
    return ("false" if key in context else "true") in (text.lower() for text in wanted)


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)

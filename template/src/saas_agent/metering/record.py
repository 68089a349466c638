"""The usage record: one line of JSON on stdout, in CloudWatch's embedded metric format.

CloudWatch turns the metrics into numbers by service, stage and tier. Everything else, the tenant too, is a
property that can be searched and summed but is no dimension: a dimension would make, and bill, a
metric per tenant. A record holds ids, counts and times; never a prompt, an answer, a token or a
credential.

Records add up: what one holds, no other holds too. `docs/metering.md` describes every field.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from typing import Any, Literal, get_args
from uuid import UUID

from saas_agent.metering.rates import Cost, Tokens
from saas_agent.tenancy.tenant import valid_tenant_id

OperationKind = Literal["tool_call", "memory_operation", "retrieval"]
Kind = Literal["model_call", "invocation"] | OperationKind

NAMESPACE = "saas-agent"
SCHEMA = 1
# The log subscription looks for this word (infra/platform.yaml), so that it finds cut lines too.
MARK = "saas_usage"

OK = "ok"
CANCELLED = "cancelled"
ERROR = "error"
THROTTLED = "throttled"

# Alarms look at the service, dashboards at its tiers.
DIMENSIONS = [["service", "stage", "tier"], ["service", "stage"]]
_COUNT, _MILLISECONDS = "Count", "Milliseconds"
METRICS: Mapping[Kind, Mapping[str, str]] = {
    "model_call": {
        "InputTokens": _COUNT,
        "OutputTokens": _COUNT,
        "CacheReadTokens": _COUNT,
        "CacheWriteTokens": _COUNT,
        "LatencyMs": _MILLISECONDS,
        "Throttles": _COUNT,
        "UnpricedCalls": _COUNT,
    },
    "tool_call": {"ToolCalls": _COUNT, "ToolErrors": _COUNT, "ToolMs": _MILLISECONDS},
    "memory_operation": {"MemoryOperations": _COUNT, "MemoryErrors": _COUNT, "MemoryMs": _MILLISECONDS},
    "retrieval": {"Retrievals": _COUNT, "RetrievalErrors": _COUNT, "RetrievalMs": _MILLISECONDS},
    "invocation": {
        "Invocations": _COUNT,
        "ModelCalls": _COUNT,
        "DurationMs": _MILLISECONDS,
        "Errors": _COUNT,
        "Denials": _COUNT,
        "LimitsReached": _COUNT,
        "TokensRefused": _COUNT,
    },
}
"""Metric -> unit, by kind. Each is a property of the record, and no metric is of two kinds."""

# Outcomes of an invocation that a metric counts; every other refusal is the caller's own doing.
_FAULTS = frozenset({ERROR, "internal"})
_DENIED = frozenset({"denied"})
_LIMITED = frozenset({"limit_reached"})
# The runtime's authorizer lets no such token through: somebody has switched it off.
_NOT_STOPPED = frozenset({"invalid_token"})

_NAME = re.compile(r"\w[\w.:/+-]{0,255}", re.ASCII)
_ID = re.compile(r"[\x21-\x7e]{1,256}")
_MOST = 10**12  # of anything that a single record counts
_DEAREST = Decimal(10**6)
_DIGITS = 18


class RecordError(ValueError):
    """A line that claims to be a usage record and is none. `reason`: a word to count it by, as `json` or a field."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class NewerSchema(RecordError):
    """A record of a schema that this code doesn't know yet: to be kept until it does."""

    def __init__(self) -> None:
        super().__init__("schema")


@dataclass(frozen=True)
class Invocation:
    """What an invocation's record counts. duration_ms: the runtime's time, waiting included."""

    model_calls: int
    duration_ms: int


@dataclass(frozen=True)
class Operation:
    """Calls of one tool, or of one operation of a service, that an invocation made.

    name: `lookup`, `memory.CreateEvent`. errors: how many of the calls failed.
    """

    kind: OperationKind
    name: str
    calls: int
    errors: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One model call, the operations of one name in an invocation, or the invocation itself.

    id: a UUID, by which a copy is recognised. at: when it ended, in UTC. tenant_id, session_id:
    None for an invocation that was refused before they were known. model_id: of a model call.
    tokens: of a model call. latency_ms: of the model call, or of all the operation's calls.
    outcome: "ok", "cancelled", "error", "throttled" or a refusal's code. cost: of what this record
    counts and nothing else; an invocation's is that of the runtime's time.
    """

    id: str
    at: datetime
    service: str
    stage: str
    tier: str
    tenant_id: str | None
    session_id: str | None
    request_id: str | None
    feature: str
    model_id: str | None = None
    tokens: Tokens = Tokens()
    latency_ms: int = 0
    outcome: str
    cost: Cost
    operation: Operation | None = None
    invocation: Invocation | None = None

    @property
    def kind(self) -> Kind:
        """What was measured."""
        if self.operation is not None:
            return self.operation.kind
        return "model_call" if self.invocation is None else "invocation"

    @property
    def name(self) -> str:
        """Of what: the model, the operation, or how the invocation ended."""
        if self.operation is not None:
            return self.operation.name
        return self.model_id or self.outcome

    def to_line(self) -> str:
        """The record as one line of compact JSON, without a line end."""
        return json.dumps(
            {
                # First, so that a line which was cut still says what it was.
                "record": MARK,
                "schema": SCHEMA,
                **emf(METRICS[self.kind], DIMENSIONS, self.at),
                "id": self.id,
                "kind": self.kind,
                "at": self.at.astimezone(UTC).isoformat(timespec="milliseconds"),
                "service": self.service,
                "stage": self.stage,
                "tier": self.tier,
                "tenant_id": self.tenant_id,
                "session_id": self.session_id,
                "request_id": self.request_id,
                "feature": self.feature,
                **self._counted(),
                "outcome": self.outcome,
                "cost_usd": None if self.cost.amount is None else plain(self.cost.amount),
                "unpriced": self.cost.amount is None,
                "rate_date": None if self.cost.rate_date is None else self.cost.rate_date.isoformat(),
            },
            separators=(",", ":"),
        )

    def _counted(self) -> dict[str, Any]:
        if self.operation is not None:
            values = (self.operation.calls, self.operation.errors, self.latency_ms)
            return {"operation": self.operation.name, **dict(zip(METRICS[self.kind], values, strict=True))}
        if self.invocation is not None:
            return {
                "Invocations": 1,
                "ModelCalls": self.invocation.model_calls,
                "DurationMs": self.invocation.duration_ms,
                "Errors": int(self.outcome in _FAULTS),
                "Denials": int(self.outcome in _DENIED),
                "LimitsReached": int(self.outcome in _LIMITED),
                "TokensRefused": int(self.outcome in _NOT_STOPPED),
            }
        return {
            "model_id": self.model_id,
            "InputTokens": self.tokens.input,
            "OutputTokens": self.tokens.output,
            "CacheReadTokens": self.tokens.cache_read,
            "CacheWriteTokens": self.tokens.cache_write,
            "LatencyMs": self.latency_ms,
            "Throttles": int(self.outcome == THROTTLED),
            "UnpricedCalls": int(self.cost.amount is None),
        }


def start_refused(service: str, stage: str) -> str:
    """The line of an agent that does not start because isolation is not configured: a metric for an alarm."""
    directive = emf({"StartsRefused": _COUNT}, DIMENSIONS[1:], datetime.now(UTC))
    return json.dumps({**directive, "service": service, "stage": stage, "StartsRefused": 1}, separators=(",", ":"))


def emf(metrics: Mapping[str, str], dimensions: list[list[str]], at: datetime) -> dict[str, Any]:
    """What makes a line of JSON one of CloudWatch's embedded metric format. metrics: name -> unit."""
    named = [{"Name": name, "Unit": unit} for name, unit in metrics.items()]
    directive = {"Namespace": NAMESPACE, "Dimensions": dimensions, "Metrics": named}
    return {"_aws": {"Timestamp": int(at.timestamp() * 1000), "CloudWatchMetrics": [directive]}}


def plain(amount: Decimal) -> str:
    """The amount in digits, without an exponent or trailing zeros: `0.000012`."""
    return f"{amount.normalize():f}"


def looks_like_usage(line: str) -> bool:
    """True for a line that claims to be a usage record, whether or not `read` can read it."""
    return f'"record":"{MARK}"' in line


def read(line: str) -> Record:
    """The record in a line.

    Raises:
        NewerSchema: it is written by newer code.
        RecordError: it is cut, or something in it is not as `docs/metering.md` says.
    """
    try:
        document = json.loads(line, parse_float=_no_float, parse_constant=_no_float)
    except (ValueError, RecursionError):
        raise RecordError("json") from None
    if not isinstance(document, dict) or document.get("record") != MARK:
        raise RecordError("json")
    schema = document.get("schema")
    if type(schema) is int and schema > SCHEMA:
        raise NewerSchema
    if type(schema) is not int or schema != SCHEMA:
        raise RecordError("schema")
    try:
        return _record(document)
    except KeyError as error:
        raise RecordError(str(error.args[0])) from None


def _no_float(text: str) -> None:
    # Everything that counts is a whole number or a text: a float could not be added up exactly.
    raise ValueError(text)


def _record(document: dict[str, Any]) -> Record:
    kind = _text(document, "kind", _NAME)
    if kind not in METRICS:
        raise RecordError("kind")
    values: dict[str, Any] = {
        "id": _uuid(document),
        "at": _time(document),
        **{key: _text(document, key, _NAME) for key in ("service", "stage", "tier", "feature", "outcome")},
        "tenant_id": _tenant(document),
        "session_id": _optional(document, "session_id"),
        "request_id": _optional(document, "request_id"),
        "cost": _cost(document),
    }
    if kind == "model_call":
        return Record(
            **values,
            model_id=_text(document, "model_id", _NAME),
            tokens=Tokens(*(_count(document, name) for name in list(METRICS["model_call"])[:4])),
            latency_ms=_count(document, "LatencyMs"),
        )
    if kind == "invocation":
        counts = Invocation(_count(document, "ModelCalls"), _count(document, "DurationMs"))
        return Record(**values, invocation=counts)
    calls, errors, latency_ms = (_count(document, name) for name in METRICS[kind])  # type: ignore[index]
    if errors > calls:
        raise RecordError("errors")
    operation = Operation(kind, _text(document, "operation", _NAME), calls, errors)  # type: ignore[arg-type]
    return Record(**values, operation=operation, latency_ms=latency_ms)


def _uuid(document: dict[str, Any]) -> str:
    value = _text(document, "id", _ID)
    try:
        canonical = str(UUID(value))
    except ValueError:
        raise RecordError("id") from None
    # One id in two spellings would be counted twice.
    if canonical != value:
        raise RecordError("id")
    return value


def _tenant(document: dict[str, Any]) -> str | None:
    value = document["tenant_id"]
    if value is None:
        return None
    if not isinstance(value, str) or not valid_tenant_id(value):
        raise RecordError("tenant_id")
    return value


def _cost(document: dict[str, Any]) -> Cost:
    text, day = _optional(document, "cost_usd"), _optional(document, "rate_date")
    if document["unpriced"] is not (text is None):
        raise RecordError("unpriced")
    try:
        amount = None if text is None else Decimal(text)
        rate_date = None if day is None else date.fromisoformat(day)
    except (InvalidOperation, ValueError):
        raise RecordError("cost_usd") from None
    if amount is not None and not _is_amount(amount):
        raise RecordError("cost_usd")
    return Cost(amount, rate_date)


def _is_amount(amount: Decimal) -> bool:
    if not amount.is_finite() or not 0 <= amount <= _DEAREST:
        return False
    exponent = amount.as_tuple().exponent
    return isinstance(exponent, int) and exponent >= -_DIGITS


def _time(document: dict[str, Any]) -> datetime:
    try:
        at = datetime.fromisoformat(_text(document, "at", _ID))
    except ValueError:
        raise RecordError("at") from None
    if at.tzinfo is None:
        raise RecordError("at")
    return at.astimezone(UTC)


def known_id(text: str) -> str | None:
    """An id as a record may hold it; None for what no reader would take, so that the rest of the record counts."""
    return text if _ID.fullmatch(text) else None


def _text(document: dict[str, Any], key: str, pattern: re.Pattern[str]) -> str:
    value = document[key]
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise RecordError(key)
    return value


def _optional(document: dict[str, Any], key: str) -> str | None:
    return None if document[key] is None else _text(document, key, _ID)


def _count(document: dict[str, Any], key: str) -> int:
    value = document[key]
    if type(value) is not int or not 0 <= value <= _MOST:
        raise RecordError(key)
    return int(value)


KINDS: tuple[Kind, ...] = tuple(METRICS)
OPERATIONS: tuple[OperationKind, ...] = get_args(OperationKind)

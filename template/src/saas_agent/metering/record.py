"""The usage record: one line of JSON on stdout, in CloudWatch's embedded metric format.

CloudWatch turns the metrics into numbers by service and tier. Everything else, the tenant too, is a
property that can be searched and summed but is no dimension: a dimension would make, and bill, a
metric per tenant. A record holds ids, counts and times; never a prompt, an answer, a token or a
credential.
"""

import json
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from typing import Any, Literal

from saas_agent.metering.rates import Cost, Tokens

Kind = Literal["model_call", "invocation"]

NAMESPACE = "saas-agent"
SCHEMA = 1

_DIMENSIONS = ["service", "tier"]
_COUNT, _MILLISECONDS = "Count", "Milliseconds"
# Tokens are a metric of the model call alone: as one of the invocation too, CloudWatch would count
# them twice.
_METRICS: dict[Kind, dict[str, str]] = {
    "model_call": {
        "InputTokens": _COUNT,
        "OutputTokens": _COUNT,
        "CacheReadTokens": _COUNT,
        "CacheWriteTokens": _COUNT,
        "LatencyMs": _MILLISECONDS,
    },
    "invocation": {"ModelCalls": _COUNT, "ToolCalls": _COUNT, "DurationMs": _MILLISECONDS},
}


@dataclass(frozen=True)
class InvocationCounts:
    """What an invocation's record holds beside the sums of its model calls."""

    model_calls: int
    tool_calls: int
    duration_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One model call, or one invocation with the sums of its calls.

    id: a UUID, by which a copy is recognised. at: when it ended, in UTC. tenant_id, session_id:
    None for an invocation that was refused before they were known. model_id: None for an invocation
    without a model call or with several models. outcome: "ok", "cancelled", "error" or a refusal's
    code. cost: see `Cost`. counts: of an invocation, else None.
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
    model_id: str | None
    tokens: Tokens
    latency_ms: int
    outcome: str
    cost: Cost
    counts: InvocationCounts | None = None

    @property
    def kind(self) -> Kind:
        """What was measured: one model call, or a whole invocation."""
        return "model_call" if self.counts is None else "invocation"

    def to_line(self) -> str:
        """The record as one line of compact JSON, without a line end."""
        metrics = [{"Name": name, "Unit": unit} for name, unit in _METRICS[self.kind].items()]
        document: dict[str, Any] = {
            "_aws": {
                "Timestamp": int(self.at.timestamp() * 1000),
                "CloudWatchMetrics": [{"Namespace": NAMESPACE, "Dimensions": [_DIMENSIONS], "Metrics": metrics}],
            },
            "record": "usage",
            "schema": SCHEMA,
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
            "model_id": self.model_id,
            "InputTokens": self.tokens.input,
            "OutputTokens": self.tokens.output,
            "CacheReadTokens": self.tokens.cache_read,
            "CacheWriteTokens": self.tokens.cache_write,
            "LatencyMs": self.latency_ms,
            "outcome": self.outcome,
            "cost_usd": None if self.cost.amount is None else plain(self.cost.amount),
            "unpriced": self.cost.amount is None,
            "rate_date": None if self.cost.rate_date is None else self.cost.rate_date.isoformat(),
        }
        if self.counts is not None:
            document["ModelCalls"] = self.counts.model_calls
            document["ToolCalls"] = self.counts.tool_calls
            document["DurationMs"] = self.counts.duration_ms
        return json.dumps(document, separators=(",", ":"))


def plain(amount: Decimal) -> str:
    """The amount in digits, without an exponent or trailing zeros: `0.000012`."""
    return f"{amount.normalize():f}"


def looks_like_usage(line: str) -> bool:
    """True for a line that claims to be a usage record, whether or not `parse` can read it."""
    return '"record":"usage"' in line


def parse(line: str) -> Record | None:
    """The record that a line of the log holds; None where it holds none, or a malformed one."""
    try:
        document = json.loads(line)
        return _record(document) if _is_usage(document) else None
    except (ValueError, KeyError, InvalidOperation, RecursionError):
        return None


def _is_usage(document: Any) -> bool:
    return isinstance(document, dict) and document.get("record") == "usage" and document.get("schema") == SCHEMA


def _record(document: dict[str, Any]) -> Record:
    kind = _text(document, "kind")
    if kind not in _METRICS:
        raise ValueError(kind)
    return Record(
        id=_text(document, "id"),
        at=_time(document),
        service=_text(document, "service"),
        stage=_text(document, "stage"),
        tier=_text(document, "tier"),
        tenant_id=_optional_text(document, "tenant_id"),
        session_id=_optional_text(document, "session_id"),
        request_id=_optional_text(document, "request_id"),
        feature=_text(document, "feature"),
        model_id=_optional_text(document, "model_id"),
        tokens=Tokens(
            input=_count(document, "InputTokens"),
            output=_count(document, "OutputTokens"),
            cache_read=_count(document, "CacheReadTokens"),
            cache_write=_count(document, "CacheWriteTokens"),
        ),
        latency_ms=_count(document, "LatencyMs"),
        outcome=_text(document, "outcome"),
        cost=_cost(document),
        counts=_counts(document) if kind == "invocation" else None,
    )


def _counts(document: dict[str, Any]) -> InvocationCounts:
    return InvocationCounts(
        model_calls=_count(document, "ModelCalls"),
        tool_calls=_count(document, "ToolCalls"),
        duration_ms=_count(document, "DurationMs"),
    )


def _cost(document: dict[str, Any]) -> Cost:
    text, day = _optional_text(document, "cost_usd"), _optional_text(document, "rate_date")
    if document["unpriced"] is not (text is None):
        raise ValueError("unpriced")
    amount = None if text is None else Decimal(text)
    if amount is not None and (not amount.is_finite() or amount < 0):
        raise ValueError("cost_usd")
    return Cost(amount, None if day is None else date.fromisoformat(day))


def _time(document: dict[str, Any]) -> datetime:
    at = datetime.fromisoformat(_text(document, "at"))
    if at.tzinfo is None:
        raise ValueError("at")
    return at.astimezone(UTC)


def _text(document: dict[str, Any], key: str) -> str:
    value = document[key]
    if not isinstance(value, str) or not value:
        raise ValueError(key)
    return value


def _optional_text(document: dict[str, Any], key: str) -> str | None:
    return None if document[key] is None else _text(document, key)


def _count(document: dict[str, Any], key: str) -> int:
    value = document[key]
    if type(value) is not int or value < 0:
        raise ValueError(key)
    return int(value)

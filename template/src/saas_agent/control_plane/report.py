"""Usage and cost per tenant, tier, feature and month, from the records in the runtime's log."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from saas_agent.control_plane.errors import ControlPlaneError
from saas_agent.metering.rates import Tokens
from saas_agent.metering.record import Record, looks_like_usage, parse
from saas_agent.metering.usage import OK

_FILTER = '{ $.record = "usage" }'
_MONTH = re.compile(r"(\d{4})-(0[1-9]|1[0-2])")
# A record's own time decides; the log's may be a little off.
_MARGIN = timedelta(hours=1)


@dataclass(frozen=True)
class Month:
    """A calendar month in UTC."""

    year: int
    number: int

    @classmethod
    def parse(cls, text: str) -> "Month":
        """`2026-11` -> Month; ControlPlaneError for anything else."""
        match = _MONTH.fullmatch(text)
        if match is None or int(match[1]) < 2000:
            raise ControlPlaneError(f"{text!r} is no month; expected one such as 2026-11")
        return cls(int(match[1]), int(match[2]))

    @classmethod
    def of(cls, at: datetime) -> "Month":
        """The month of a time."""
        at = at.astimezone(UTC)
        return cls(at.year, at.month)

    @property
    def start(self) -> datetime:
        """Its first moment."""
        return datetime(self.year, self.number, 1, tzinfo=UTC)

    @property
    def end(self) -> datetime:
        """The first moment after it."""
        following = (self.year + 1, 1) if self.number == 12 else (self.year, self.number + 1)
        return datetime(*following, 1, tzinfo=UTC)

    def __str__(self) -> str:
        return f"{self.year:04}-{self.number:02}"


@dataclass
class UsageRow:
    """The sums of one tenant, tier, feature and month.

    tenant_id: empty for invocations that were refused before their tenant was known.
    cost: US dollars of the model calls that have a price. unpriced_calls: those that have none, or
    that were cut before they told their tokens: with any of them the cost is a lower bound. not_ok:
    invocations refused, cancelled or failed.
    """

    tenant_id: str
    tier: str
    feature: str
    month: str
    invocations: int = 0
    not_ok: int = 0
    model_calls: int = 0
    unpriced_calls: int = 0
    tool_calls: int = 0
    tokens: Tokens = field(default_factory=Tokens)
    cost: Decimal = Decimal(0)


@dataclass(frozen=True)
class UsageReport:
    """The rows, by tenant, and how many lines claimed to be usage records but could not be read."""

    rows: list[UsageRow]
    unreadable: int


def read_log(client: Any, log_group: str, month: Month) -> Iterator[str]:
    """The month's lines that may be usage records. `client`: a boto3 `logs` client."""
    pages = client.get_paginator("filter_log_events").paginate(
        logGroupName=log_group,
        startTime=_milliseconds(month.start - _MARGIN),
        endTime=_milliseconds(month.end + _MARGIN),
        filterPattern=_FILTER,
    )
    for page in pages:
        for event in page["events"]:
            yield event["message"]


def usage_report(lines: Iterable[str], month: Month, tenant_id: str | None = None) -> UsageReport:
    """Sums the month's records of one tenant or of all; a record that came twice counts once."""
    rows: dict[tuple[str, str, str], UsageRow] = {}
    seen: set[str] = set()
    unreadable = 0
    for line in lines:
        record = parse(line)
        if record is None:
            unreadable += looks_like_usage(line)
            continue
        if record.id in seen or Month.of(record.at) != month:
            continue
        if tenant_id is not None and record.tenant_id != tenant_id:
            continue
        seen.add(record.id)
        key = (record.tenant_id or "", record.tier, record.feature)
        _add(rows.setdefault(key, UsageRow(*key, str(month))), record)
    return UsageReport([rows[key] for key in sorted(rows)], unreadable)


def _add(row: UsageRow, record: Record) -> None:
    if record.counts is not None:
        # Its tokens and cost are the sums of its model calls, which have records of their own.
        row.invocations += 1
        row.not_ok += record.outcome != OK
        row.tool_calls += record.counts.tool_calls
        return
    row.model_calls += 1
    row.tokens += record.tokens
    if record.cost.amount is None:
        row.unpriced_calls += 1
    else:
        row.cost += record.cost.amount


def _milliseconds(at: datetime) -> int:
    return int(at.timestamp() * 1000)

"""The ledger's function: CloudWatch Logs hands it the lines of usage records; it counts each of them once.

A line that is no good is counted by its reason and changes nothing else. What can't be counted now,
because the ledger is busy or a record was written by newer code, fails the whole event: Lambda
delivers it twice more, then keeps it in the dead-letter queue, from where `tenants redrive` brings
it back. What was counted meanwhile is not counted again.

Source of the event's form: CloudWatch Logs user guide, "Subscription filters with AWS Lambda".
"""

import base64
import gzip
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any

import boto3

from saas_agent.metering.budgets import BudgetWatch
from saas_agent.metering.ledger import (
    EARLIEST,
    LATEST,
    REJECTED,
    Entry,
    LedgerWriter,
    Tally,
    entry_of,
    rejected,
    told_nothing,
)
from saas_agent.metering.record import NewerSchema, Record, RecordError, emf, looks_like_usage, read
from saas_agent.metering.subscription import tenant_of
from saas_agent.metering.usage import utc_now, write_stdout
from saas_agent.settings import required
from saas_agent.tenancy.tiers import load_tiers

Handler = Callable[[dict[str, Any], object], dict[str, int]]

METRICS = {
    "RecordsCounted": "Count",
    "RecordsDuplicate": "Count",
    "RecordsConflicting": "Count",
    "RecordsRejected": "Count",
    "RecordsUnpriced": "Count",
    "RecordsUntold": "Count",
    "LedgerLagMs": "Milliseconds",
}
"""What the function says of each batch.

RecordsUnpriced: something is missing in rates.toml. RecordsUntold: calls that were cut before they told their tokens.
LedgerLagMs: the age of the oldest record that was counted.
"""

DIMENSIONS = [["service", "stage"]]
BATCH, SUM = "ledger_batch", "ledger_sum"
"""What a line of the function's log is: about a batch, or what a batch added to one row of the ledger."""


@dataclass(frozen=True)
class _Line:
    id: str
    at: datetime
    text: str


class _NotYet(Exception):
    """Some records are of a newer schema: deliver them to newer code."""


def create(
    environ: Mapping[str, str],
    session: boto3.Session,
    write: Callable[[str], object] = write_stdout,
    clock: Callable[[], datetime] = utc_now,
    also: Callable[[list[Record]], object] | None = None,
) -> Handler:
    """The handler for this environment: LEDGER_TABLE, SERVICE, STAGE; ConfigurationError where one is missing.

    also: is told, after each batch, those of its records that are in the ledger, counted now or before. It may be told
    a record more than once; what it raises has the whole batch delivered again.
    """
    writer = LedgerWriter(session.client("dynamodb"), required(environ, "LEDGER_TABLE"))
    origin = (required(environ, "SERVICE"), required(environ, "STAGE"))
    budgets = BudgetWatch(
        session.client("dynamodb"),
        required(environ, "LEDGER_TABLE"),
        session.client("events"),
        ".".join(origin),
        load_tiers(),
    )

    def count(event: dict[str, Any], _context: object) -> dict[str, int]:
        message = _message(event)
        now, tenant = clock(), tenant_of(message.get("subscriptionFilters", []))
        entries: list[Entry] = []
        records: dict[tuple[str, str], Record] = {}
        reasons: Counter[str] = Counter()
        newer = 0
        for line in _lines(message):
            try:
                record = _accepted(read(line.text), origin, tenant, now)
            except NewerSchema:
                newer += 1
            except RecordError as error:
                reasons[error.reason] += 1
                entries.append(rejected(line.id, line.at, error.reason))
            else:
                entries.append(entry := entry_of(record, line.text))
                records[entry.key, entry.digest] = record
        tally = writer.record(entries)
        counted = [records[entry.key, entry.digest] for entry in tally.recorded if entry.sums[0].pk != REJECTED]
        for text in _told(origin, tally, counted, reasons, now):
            write(text + "\n")
        # Of all that came: an event that failed here comes again, and then everything in it is counted already.
        for entry in tally.conflicting:
            records.pop((entry.key, entry.digest), None)
        budgets.look(records.values())
        if also is not None:
            also(list(records.values()))
        if newer:
            raise _NotYet(f"{newer} records are of a newer schema; deploy the functions, then run `tenants redrive`")
        return {"counted": len(counted), "duplicates": tally.duplicates, "rejected": reasons.total()}

    return count


def _message(event: dict[str, Any]) -> dict[str, Any]:
    message: dict[str, Any] = json.loads(gzip.decompress(base64.b64decode(event["awslogs"]["data"])))
    return message


def _lines(message: dict[str, Any]) -> Iterator[_Line]:
    # CloudWatch Logs also sends control messages, to see whether the function is there.
    if message.get("messageType") != "DATA_MESSAGE":
        return
    for event in message["logEvents"]:
        if looks_like_usage(event["message"]):
            at = datetime.fromtimestamp(event["timestamp"] / 1000, UTC)
            yield _Line(str(event["id"]), at, event["message"].rstrip("\r\n"))


def _accepted(record: Record, origin: tuple[str, str], tenant: str | None, now: datetime) -> Record:
    if (record.service, record.stage) != origin:
        raise RecordError("service")
    # A tenant's own runtime can write what it likes into its log: it may name nobody else.
    if tenant is not None and record.tenant_id not in (tenant, None):
        raise RecordError("tenant_id")
    if record.at > now + EARLIEST:
        raise RecordError("early")
    if record.at < now - LATEST:
        raise RecordError("late")
    return record


def _told(
    origin: tuple[str, str], tally: Tally, counted: list[Record], reasons: Counter[str], now: datetime
) -> Iterator[str]:
    """The function's own log: a line of metrics, and one for each row that something was added to."""
    service, stage = origin
    lag = max((now - record.at for record in counted), default=None)
    values = {
        "RecordsCounted": len(counted),
        "RecordsDuplicate": tally.duplicates,
        "RecordsConflicting": len(tally.conflicting),
        "RecordsRejected": reasons.total(),
        "RecordsUnpriced": sum(record.cost.amount is None and not told_nothing(record) for record in counted),
        "RecordsUntold": sum(map(told_nothing, counted)),
        "LedgerLagMs": max(0, round(lag.total_seconds() * 1000)) if lag is not None else 0,
    }
    yield json.dumps(
        {
            **emf(METRICS, DIMENSIONS, now),
            "record": BATCH,
            "service": service,
            "stage": stage,
            **values,
            "reasons": dict(reasons),
        },
        separators=(",", ":"),
    )
    for row in _rows(tally.recorded):
        yield json.dumps({"record": SUM, "service": service, "stage": stage, **row}, separators=(",", ":"))


def _rows(recorded: Iterable[Entry]) -> list[dict[str, Any]]:
    rows: dict[str, dict[str, Any]] = {}
    for entry in recorded:
        first = entry.sums[0]
        if "tenant_id" not in first.labels:
            continue
        row = rows.setdefault(f"{first.pk} {first.sk}", {**first.labels, **dict.fromkeys(SUMMED, 0)})
        for name in first.adds.keys() & row.keys():
            row[name] += first.adds[name]
    # A dashboard takes numbers only; what is exact is in the ledger.
    return [{**row, "cost_usd": float(row["cost_usd"])} for row in rows.values()]


SUMMED = (
    *("calls", "errors", "unpriced", "untold", "latency_ms", "cost_usd"),
    *("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens"),
)
"""The numbers of a `ledger_sum` line, beside the labels of its row."""


@cache
def _deployed() -> Handler:
    return create(os.environ, boto3.Session())


def handler(event: dict[str, Any], context: object) -> dict[str, int]:
    """Lambda's entry point."""
    return _deployed()(event, context)

"""The records that are counted, on their way to the analysts: rows for a Firehose stream, which makes Parquet of them.

A row holds who used what, when and at which cost; no session and no request, so nothing that leads to a person. It may
be delivered more than once: the views in `infra/analytics` take every id once.
"""

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import fields
from datetime import UTC
from typing import Any

from saas_agent.metering.ledger import NOBODY
from saas_agent.metering.rates import Tokens
from saas_agent.metering.record import OK, Record, plain

COLUMNS: Mapping[str, str] = {
    **dict.fromkeys(("id", "ended_at", "tenant_id", "tier", "feature", "kind", "name", "outcome"), "string"),
    **dict.fromkeys(("calls", "errors", "latency_ms"), "bigint"),
    **{f"{part.name}_tokens": "bigint" for part in fields(Tokens)},
    # Text, so that nothing on the way rounds it; the views make a decimal of it.
    "cost_usd": "string",
}
"""The table's columns and their types in Hive. `day`, by which it is partitioned, is not among them."""

_RECORDS = 500  # the most that one PutRecordBatch takes (API reference, PutRecordBatch), and far less than its 4 MiB
_ATTEMPTS = 6


class StreamBusy(Exception):
    """The stream took not all of a batch. Deliver it again."""


class UsageStream:
    """Sends records to a stream of Firehose. `client`: a boto3 `firehose` client."""

    def __init__(self, client: Any, name: str, sleep: Callable[[float], object] = time.sleep) -> None:
        self._client = client
        self._name = name
        self._sleep = sleep

    def send(self, records: Iterable[Record]) -> None:
        """Sends all of them.

        Raises:
            StreamBusy, ClientError, BotoCoreError: some may be missing.
        """
        for batch in _batches([{"Data": _line(record)} for record in records]):
            self._put(batch)

    def _put(self, batch: list[dict[str, bytes]]) -> None:
        for attempt in range(_ATTEMPTS):
            answer = self._client.put_record_batch(DeliveryStreamName=self._name, Records=batch)
            if not answer["FailedPutCount"]:
                return
            told = zip(batch, answer["RequestResponses"], strict=True)
            batch = [record for record, response in told if "ErrorCode" in response]
            self._sleep(0.05 * 2**attempt)
        raise StreamBusy(f"the stream took all but {len(batch)} records")


def row(record: Record) -> dict[str, Any]:
    """The row of a record: `COLUMNS`, and the day that it belongs to. The same numbers as in the ledger."""
    at = record.at.astimezone(UTC)
    calls, errors, milliseconds = 1, int(record.outcome != OK), record.latency_ms
    if record.operation is not None:
        calls, errors = record.operation.calls, record.operation.errors
    if record.invocation is not None:
        milliseconds = record.invocation.duration_ms
    return {
        "day": at.date().isoformat(),
        "id": record.id,
        "ended_at": at.isoformat(timespec="milliseconds"),
        "tenant_id": record.tenant_id or NOBODY,
        **{name: getattr(record, name) for name in ("tier", "feature", "kind", "name", "outcome")},
        **{"calls": calls, "errors": errors, "latency_ms": milliseconds},
        **{f"{part.name}_tokens": getattr(record.tokens, part.name) for part in fields(Tokens)},
        "cost_usd": None if record.cost.amount is None else plain(record.cost.amount),
    }


def _line(record: Record) -> bytes:
    return json.dumps(row(record), separators=(",", ":")).encode() + b"\n"


def _batches(records: list[dict[str, bytes]]) -> Iterator[list[dict[str, bytes]]]:
    for start in range(0, len(records), _RECORDS):
        yield records[start : start + _RECORDS]

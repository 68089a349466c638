"""The ledger's function and 200,000 records. Runs in a generated repository: `python ledger.py`, printing JSON.

Records of 200 tenants, 5 % of them delivered twice, all in a random order, one line in a thousand broken, in batches of
500 through the handler that ships. The table is in memory and keeps DynamoDB's conditions and transactions, so what is
measured is the function alone. The sums are compared with plain ones, made from the numbers before any record was.
"""

import base64
import gc
import gzip
import json
import random
import resource
import statistics
import sys
import time
import tracemalloc
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from saas_agent.functions import record_usage
from saas_agent.metering.ledger import LedgerReader
from saas_agent.metering.rates import Cost, Tokens
from saas_agent.metering.record import Record
from tests.unit.fast_table import FastTable

RECORDS, TENANTS, COPIES, POISON, BATCH, FRESH = 200_000, 200, 0.05, 0.001, 500, 15
NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)
TIERS, FEATURES = ("basic", "standard", "premium"), ("conversation", "summary")
ENVIRON = {"LEDGER_TABLE": "ledger", "SERVICE": "desk", "STAGE": "bench"}

Key = tuple[str, str, str]


class Bus:
    def put_events(self, **_: Any) -> dict[str, Any]:
        return {"FailedEntryCount": 0}


class Session:
    def __init__(self, table: FastTable) -> None:
        self._clients = {"dynamodb": table, "events": Bus()}

    def client(self, name: str) -> Any:
        return self._clients[name]


def main() -> None:
    """Prints the figures; ends with 1 where a sum is off."""
    chance = random.Random(11)
    tokens: dict[Key, int] = {}
    cost: dict[Key, Decimal] = {}
    lines = [_line(chance, number, tokens, cost) for number in range(RECORDS)]
    streams = sorted(lines, key=lambda line: line.partition('"tenant_id":"')[2][:12])
    lines += chance.sample(lines, int(RECORDS * COPIES))
    lines += [line[: chance.randrange(40, len(line) - 1)] for line in chance.sample(lines, int(RECORDS * POISON))]
    chance.shuffle(lines)
    table = FastTable()
    seconds = _count(table, lines)
    differing = _differing(table, tokens, cost)
    by_stream = _count(FastTable(), streams)
    fresh = [_line(chance, number, {}, {}) for number in range(FRESH * BATCH)]
    gc.freeze()  # what is in the table is DynamoDB's to look after, not the function's
    empty = FastTable()
    on_empty, on_full = _count_in_turns(empty, table, fresh)
    same_calls = empty.written[-FRESH:] == table.written[-FRESH:]
    found = {
        "records": RECORDS,
        "lines": len(lines),
        "differing": differing,
        "records_per_second": round(len(lines) / sum(seconds)),
        "records_per_second_by_stream": round(len(streams) / sum(by_stream)),
        "batch_ms_empty": round(statistics.median(on_empty) * 1000, 1),
        "batch_ms_full": round(statistics.median(on_full) * 1000, 1),
        "same_calls": same_calls,
        "batch_megabytes": round(_memory(streams[:BATCH]), 1),
        "process_megabytes": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }
    print(json.dumps(found))
    sys.exit(1 if differing else 0)


def _line(chance: random.Random, number: int, tokens: dict[Key, int], cost: dict[Key, Decimal]) -> str:
    tenant = f"tenant-{chance.randrange(TENANTS):04}"
    key = (tenant, TIERS[hash_of(tenant) % 3], chance.choice(FEATURES))
    counts = [chance.randrange(1, 8000), chance.randrange(1, 2000), chance.randrange(500), chance.randrange(100)]
    amount = Decimal(chance.randrange(1, 10**8)).scaleb(-9)
    tokens[key] = tokens.get(key, 0) + sum(counts)
    cost[key] = cost.get(key, Decimal(0)) + amount
    return Record(
        id=str(UUID(int=chance.getrandbits(128), version=4)),
        at=NOW - timedelta(days=chance.randrange(28), seconds=number % 3600),
        service="desk",
        stage="bench",
        tier=key[1],
        tenant_id=tenant,
        session_id=f"session-{number % 977}",
        request_id=f"request-{number}",
        feature=key[2],
        model_id="amazon.nova-lite-v1:0",
        tokens=Tokens(*counts),
        latency_ms=chance.randrange(5000),
        outcome="ok",
        cost=Cost(amount, date(2026, 1, 1)),
    ).to_line()


def hash_of(text: str) -> int:
    """The same in every process."""
    return sum(text.encode())


def _handler(table: FastTable) -> record_usage.Handler:
    session: Any = Session(table)
    return record_usage.create(ENVIRON, session, lambda _: None, lambda: NOW)


def _count(table: FastTable, lines: Sequence[str]) -> list[float]:
    """Seconds of processor time of the handler, by batch."""
    handler = _handler(table)
    return [_seconds(handler, event) for event in _events(lines)]


def _count_in_turns(one: FastTable, other: FastTable, lines: Sequence[str]) -> tuple[list[float], list[float]]:
    """The same batches into both, in turns, so that a slow moment hits both."""
    first, second = _handler(one), _handler(other)
    taken = [(_seconds(first, event), _seconds(second, event)) for event in _events(lines)]
    return [pair[0] for pair in taken], [pair[1] for pair in taken]


def _seconds(handler: record_usage.Handler, event: dict[str, Any]) -> float:
    began = time.process_time()
    handler(event, None)
    return time.process_time() - began


def _events(lines: Sequence[str]) -> Iterator[dict[str, Any]]:
    for start in range(0, len(lines), BATCH):
        events = [
            {"id": f"{start + number:056}", "timestamp": int(NOW.timestamp() * 1000), "message": line}
            for number, line in enumerate(lines[start : start + BATCH])
        ]
        message = {"messageType": "DATA_MESSAGE", "subscriptionFilters": ["usage"], "logEvents": events}
        yield {"awslogs": {"data": base64.b64encode(gzip.compress(json.dumps(message).encode(), 1)).decode()}}


def _differing(table: FastTable, tokens: dict[Key, int], cost: dict[Key, Decimal]) -> int:
    """How many sums by tenant, tier and feature are not what they should be."""
    found_tokens: dict[Key, int] = {}
    found_cost: dict[Key, Decimal] = {}
    reader = LedgerReader(table, "ledger")
    for row in reader.rows("2026-11"):
        key = (row.tenant_id, row.tier, row.feature)
        counted = row.tokens.input + row.tokens.output + row.tokens.cache_read + row.tokens.cache_write
        found_tokens[key] = found_tokens.get(key, 0) + counted
        found_cost[key] = found_cost.get(key, Decimal(0)) + row.cost_usd
    wrong = sum(
        (found_tokens.get(key), found_cost.get(key)) != (tokens.get(key), cost.get(key))
        for key in found_tokens.keys() | tokens.keys()
    )
    # A line that was cut may have lost its mark too: then it is none of the ledger's.
    rejected = sum(reader.rejected("2026-11").values())
    return wrong + (not 0 < rejected <= int(RECORDS * POISON))


def _memory(lines: Sequence[str]) -> float:
    """The most that a batch holds at a time, in megabytes."""
    (event,) = _events(lines)
    handler = _handler(FastTable())
    tracemalloc.start()
    handler(event, None)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak / 1e6


if __name__ == "__main__":
    main()

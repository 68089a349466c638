"""The ledger: exact sums of what every tenant used, in one DynamoDB table.

    pk                sk                                              what
    RECORD#<id>       RECORD                                          a record that is counted; gone after KEPT_DAYS
    TENANT#<tenant>   DAY#<day>#<tier>#<feature>#<kind>#<name>        sums of a day
    TENANT#<tenant>   TOTAL#<day>, TOTAL#<month>                      the tenant's tokens and cost, for budgets
    MONTH#<month>     <tenant>                                        who used anything
    REJECTED          <day>#<reason>                                  lines that were no good, counted

A record and everything it adds to are written in one transaction, under the condition that the
record is not there yet. So a record counts once, whatever is delivered twice, late or out of order,
and wherever a writer is stopped. Nothing is read before it is written, and nothing is scanned: what
a batch costs depends on the batch alone.
"""

import hashlib
import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

from botocore.exceptions import ClientError

from saas_agent.metering.rates import Tokens
from saas_agent.metering.record import OK, Kind, Record, plain

NOBODY = "-"
"""Stands for the tenant of an invocation that was refused before its tenant was known; no tenant id is like it."""

REJECTED = "REJECTED"
"""The partition of what was no good, by day and reason."""

KEPT_DAYS = 90
"""How long a record's own item is kept. Older copies than LATEST are refused, so none outlives it."""

LATEST = timedelta(days=60)
EARLIEST = timedelta(hours=1)
"""How far a record's time may lie behind and ahead of the ledger's clock."""

BOUNDS_MS = (250, 500, 1000, 2000, 4000, 8000, 16000, 32000, 64000)
"""Invocations are counted by the first of these that their duration doesn't exceed."""

_TRANSACTION = 100  # items; DynamoDB's limit (developer guide, "Service, account, and table quotas")
_ATTEMPTS = 8
_PASSING = frozenset({"None", "TransactionConflict", "ThrottlingError", "ProvisionedThroughputExceeded"})
_BUSY = frozenset({"TransactionInProgressException", "ThrottlingException", "ProvisionedThroughputExceededException"})

Amount = int | Decimal


class LedgerBusy(Exception):
    """Others kept writing to the same sums. What was committed is committed; deliver the batch again."""


@dataclass(frozen=True)
class Sum:
    """A row of the ledger, and what is added to it. `labels`: what the row says of itself."""

    pk: str
    sk: str
    labels: Mapping[str, str]
    adds: Mapping[str, Amount]


@dataclass(frozen=True)
class Entry:
    """Something that is counted once: by its key, into these sums. digest: of what was written."""

    key: str
    digest: str
    sums: tuple[Sum, ...]


@dataclass
class Tally:
    """What became of the entries of a batch.

    conflicting: those that came with another content under an id that is counted already; the first one stands.
    """

    recorded: list[Entry] = field(default_factory=list)
    duplicates: int = 0
    conflicting: list[Entry] = field(default_factory=list)


def entry_of(record: Record, line: str) -> Entry:
    """How a record is counted."""
    day, tenant = record.at.date().isoformat(), record.tenant_id or NOBODY
    labels = {"tenant_id": tenant, "day": day, "tier": record.tier, "feature": record.feature}
    labels |= {"kind": record.kind, "name": record.name}
    key = "#".join(("DAY", day, record.tier, record.feature, record.kind, record.name))
    totals = {
        "tokens": sum(getattr(record.tokens, part.name) for part in fields(Tokens)),
        "cost_usd": record.cost.amount or Decimal(0),
        "unpriced": int(record.cost.amount is None),
    }
    sums = [Sum(f"TENANT#{tenant}", key, labels, _adds(record))]
    if any(totals.values()):
        for period in (day, day[:7]):
            sums.append(Sum(f"TENANT#{tenant}", f"TOTAL#{period}", {"tier": record.tier}, totals))
    return Entry(f"RECORD#{record.id}", _digest(line), tuple(sums))


def rejected(event_id: str, at: datetime, reason: str) -> Entry:
    """How a line is counted that is no good. event_id: the log's own, by which a copy is recognised."""
    day = at.astimezone(UTC).date().isoformat()
    row = Sum(REJECTED, f"{day}#{reason}", {"day": day, "reason": reason}, {"lines": 1})
    return Entry(f"RECORD#log-{event_id}", "", (row,))


def told_nothing(record: Record) -> bool:
    """Whether it is of a model call that was cut before it told its tokens: no price will ever help."""
    return record.kind == "model_call" and record.cost.amount is None and record.tokens == Tokens()


def _adds(record: Record) -> dict[str, Amount]:
    adds: dict[str, Amount] = {
        "calls": 1,
        "errors": int(record.outcome != OK),
        "unpriced": int(record.cost.amount is None),
        "untold": int(told_nothing(record)),
        "cost_usd": record.cost.amount or Decimal(0),
        "latency_ms": record.latency_ms,
        **{f"{part.name}_tokens": getattr(record.tokens, part.name) for part in fields(Tokens)},
    }
    if record.operation is not None:
        adds |= {"calls": record.operation.calls, "errors": record.operation.errors}
    if record.invocation is not None:
        adds["latency_ms"] = record.invocation.duration_ms
        adds[_within(record.invocation.duration_ms)] = 1
    return {name: amount for name, amount in adds.items() if amount}


def _within(milliseconds: int) -> str:
    """The column that counts invocations of this duration. Counts add up, as percentiles don't."""
    bound = next((bound for bound in BOUNDS_MS if milliseconds <= bound), None)
    return "over" if bound is None else f"within_{bound}"


def _digest(line: str) -> str:
    return hashlib.sha256(line.encode()).hexdigest()[:16]


class LedgerWriter:
    """Adds entries to the ledger. `client`: a boto3 `dynamodb` client."""

    def __init__(
        self,
        client: Any,
        table: str,
        *,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._client = client
        self._table = table
        self._clock = clock
        self._sleep = sleep
        self._indexed: set[tuple[str, str]] = set()

    def record(self, entries: Iterable[Entry]) -> Tally:
        """Counts every entry that is not counted yet.

        Raises:
            LedgerBusy, ClientError, BotoCoreError: some are not counted; deliver them all again.
        """
        tally = Tally()
        fresh: dict[str, Entry] = {}
        for entry in entries:
            if (twin := fresh.setdefault(entry.key, entry)) is not entry:
                self._repeated(tally, entry, twin.digest)
        self._index(fresh.values())
        for chunk in _chunks(fresh.values()):
            self._commit(chunk, tally)
        return tally

    def _index(self, entries: Iterable[Entry]) -> None:
        """Notes each tenant in its month. Before its sums, so that no sum is without one, and once for a process."""
        for tenant, month in sorted({who for entry in entries for who in _who(entry)} - self._indexed):
            self._client.put_item(TableName=self._table, Item={"pk": {"S": f"MONTH#{month}"}, "sk": {"S": tenant}})
            self._indexed.add((tenant, month))

    def _commit(self, entries: list[Entry], tally: Tally) -> None:
        for attempt in range(_ATTEMPTS):
            try:
                while entries and (repeated := self._transact(entries)):
                    for number, digest in repeated.items():
                        self._repeated(tally, entries[number], digest)
                    entries = [entry for number, entry in enumerate(entries) if number not in repeated]
            except ClientError as error:
                if not _will_pass(error):
                    raise
                self._sleep(random.uniform(0, 0.05 * 2**attempt))
                continue
            tally.recorded += entries
            return
        raise LedgerBusy(f"{_ATTEMPTS} attempts met others at the same rows")

    def _transact(self, entries: Sequence[Entry]) -> dict[int, str]:
        """Writes all of them, or none. Those that were there already: their place, and the digest that is there."""
        expires = str(int(self._clock()) + KEPT_DAYS * 86_400)
        marks = [{"Put": self._mark(entry, expires)} for entry in entries]
        try:
            self._client.transact_write_items(TransactItems=[*marks, *map(self._update, _merged(entries))])
        except ClientError as error:
            reasons = error.response.get("CancellationReasons", [])[: len(entries)]
            repeated = {
                number: str(reason.get("Item", {}).get("digest", {}).get("S", ""))
                for number, reason in enumerate(reasons)
                if reason.get("Code") == "ConditionalCheckFailed"
            }
            if not repeated:
                raise
            return repeated
        return {}

    def _mark(self, entry: Entry, expires: str) -> dict[str, Any]:
        return {
            "TableName": self._table,
            "Item": {
                "pk": {"S": entry.key},
                "sk": {"S": "RECORD"},
                "digest": {"S": entry.digest},
                "expires": {"N": expires},
            },
            "ConditionExpression": "attribute_not_exists(pk)",
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
        }

    def _update(self, row: Sum) -> dict[str, Any]:
        names = {f"#{number}": name for number, name in enumerate((*row.labels, *row.adds))}
        places = {name: place for place, name in names.items()}
        values: dict[str, Any] = {f":{places[name][1:]}": {"S": text} for name, text in row.labels.items()}
        values |= {f":{places[name][1:]}": {"N": plain(Decimal(amount))} for name, amount in row.adds.items()}
        labelled = ", ".join(f"{places[name]} = :{places[name][1:]}" for name in row.labels)
        added = ", ".join(f"{places[name]} :{places[name][1:]}" for name in row.adds)
        return {
            "Update": {
                "TableName": self._table,
                "Key": {"pk": {"S": row.pk}, "sk": {"S": row.sk}},
                "UpdateExpression": f"SET {labelled} ADD {added}",
                "ExpressionAttributeNames": names,
                "ExpressionAttributeValues": values,
            }
        }

    @staticmethod
    def _repeated(tally: Tally, entry: Entry, digest: str) -> None:
        if digest == entry.digest:
            tally.duplicates += 1
        else:
            tally.conflicting.append(entry)


def _who(entry: Entry) -> set[tuple[str, str]]:
    return {(row.labels["tenant_id"], row.labels["day"][:7]) for row in entry.sums if "tenant_id" in row.labels}


def _will_pass(error: ClientError) -> bool:
    code = error.response["Error"].get("Code", "")
    if code == "TransactionCanceledException":
        reasons = error.response.get("CancellationReasons", [])
        return bool(reasons) and all(reason.get("Code", "None") in _PASSING for reason in reasons)
    return code in _BUSY


def _chunks(entries: Iterable[Entry]) -> Iterator[list[Entry]]:
    """As few transactions as the limit allows: entries of the same rows together."""
    chunk: list[Entry] = []
    rows: set[tuple[str, str]] = set()
    for entry in sorted(entries, key=lambda entry: [(row.pk, row.sk) for row in entry.sums]):
        own = {(row.pk, row.sk) for row in entry.sums}
        if len(chunk) + 1 + len(rows | own) > _TRANSACTION:
            yield chunk
            chunk, rows = [], set()
        chunk.append(entry)
        rows |= own
    if chunk:
        yield chunk


def _merged(entries: Iterable[Entry]) -> list[Sum]:
    """One row for each key, with everything that these entries add to it."""
    rows: dict[tuple[str, str], Sum] = {}
    for row in (row for entry in entries for row in entry.sums):
        known = rows.get((row.pk, row.sk))
        adds = dict(known.adds) if known else {}
        for name, amount in row.adds.items():
            adds[name] = adds.get(name, 0) + amount
        rows[row.pk, row.sk] = Sum(row.pk, row.sk, row.labels, adds)
    return list(rows.values())


# --- Reading --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """The sums of a tenant's day, by tier, feature, kind and name.

    name: the model, the operation, or an invocation's outcome. calls: model calls, operations or
    invocations. unpriced: records whose cost is not known, so that cost_usd is a lower bound; untold:
    those of them that told no tokens, so that no price will ever help. latency_ms: summed over the
    calls. durations: how many invocations there were by BOUNDS_MS, and last those over them all.
    """

    tenant_id: str
    day: date
    tier: str
    feature: str
    kind: Kind
    name: str
    calls: int = 0
    errors: int = 0
    unpriced: int = 0
    untold: int = 0
    latency_ms: int = 0
    tokens: Tokens = Tokens()
    cost_usd: Decimal = Decimal(0)
    durations: tuple[int, ...] = (0,) * (len(BOUNDS_MS) + 1)


@dataclass(frozen=True)
class Total:
    """What a tenant used in a day or a month, for its budgets."""

    tokens: int = 0
    cost_usd: Decimal = Decimal(0)
    unpriced: int = 0


class LedgerReader:
    """Reads the ledger. `client`: a boto3 `dynamodb` client."""

    def __init__(self, client: Any, table: str) -> None:
        self._client = client
        self._table = table

    def tenants(self, month: str) -> list[str]:
        """Who used anything in the month `2026-11`, NOBODY among them."""
        return [item["sk"]["S"] for item in self._query(f"MONTH#{month}", "")]

    def rows(self, month: str, tenant_id: str | None = None) -> Iterator[Row]:
        """The month's rows of one tenant or of all, by tenant and day."""
        for tenant in self.tenants(month) if tenant_id is None else [tenant_id]:
            yield from map(_row, self._query(f"TENANT#{tenant}", f"DAY#{month}-"))

    def totals(self, tenant_id: str, day: date) -> tuple[Total, Total]:
        """What the tenant used on the day, and in its month."""
        keys = [f"TOTAL#{day.isoformat()}", f"TOTAL#{day.isoformat()[:7]}"]
        items = {item["sk"]["S"]: _total(item) for item in self._get(f"TENANT#{tenant_id}", keys)}
        return items.get(keys[0], Total()), items.get(keys[1], Total())

    def rejected(self, month: str) -> dict[str, int]:
        """Lines of the month that were no good: how many, by reason."""
        counts: dict[str, int] = {}
        for item in self._query(REJECTED, f"{month}-"):
            reason = item["reason"]["S"]
            counts[reason] = counts.get(reason, 0) + int(item["lines"]["N"])
        return counts

    def _query(self, pk: str, prefix: str) -> Iterator[dict[str, Any]]:
        condition, values = "pk = :pk", {":pk": {"S": pk}}
        if prefix:
            condition, values = f"{condition} AND begins_with(sk, :sk)", {**values, ":sk": {"S": prefix}}
        pages = self._client.get_paginator("query").paginate(
            TableName=self._table,
            KeyConditionExpression=condition,
            ExpressionAttributeValues=values,
            ConsistentRead=True,
        )
        for page in pages:
            yield from page["Items"]

    def _get(self, pk: str, sort_keys: Sequence[str]) -> Iterator[dict[str, Any]]:
        keys = [{"pk": {"S": pk}, "sk": {"S": sk}} for sk in sort_keys]
        asked: Mapping[str, Any] = {self._table: {"Keys": keys, "ConsistentRead": True}}
        while asked:
            answer = self._client.batch_get_item(RequestItems=asked)
            yield from answer["Responses"].get(self._table, [])
            asked = answer.get("UnprocessedKeys", {})


def _row(item: dict[str, Any]) -> Row:
    return Row(
        tenant_id=item["tenant_id"]["S"],
        day=date.fromisoformat(item["day"]["S"]),
        tier=item["tier"]["S"],
        feature=item["feature"]["S"],
        kind=item["kind"]["S"],
        name=item["name"]["S"],
        calls=_number(item, "calls"),
        errors=_number(item, "errors"),
        unpriced=_number(item, "unpriced"),
        untold=_number(item, "untold"),
        latency_ms=_number(item, "latency_ms"),
        tokens=Tokens(*(_number(item, f"{part.name}_tokens") for part in fields(Tokens))),
        cost_usd=_amount(item),
        durations=tuple(_number(item, column) for column in (*(f"within_{bound}" for bound in BOUNDS_MS), "over")),
    )


def _total(item: dict[str, Any]) -> Total:
    return Total(_number(item, "tokens"), _amount(item), _number(item, "unpriced"))


def _number(item: dict[str, Any], name: str) -> int:
    return int(item.get(name, {"N": "0"})["N"])


def _amount(item: dict[str, Any]) -> Decimal:
    return Decimal(item.get("cost_usd", {"N": "0"})["N"])

"""Usage and bills per tenant, tier, feature and month, from the ledger's sums."""

import csv
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path

from saas_agent.control_plane.errors import ControlPlaneError
from saas_agent.metering.ledger import NOBODY, Row
from saas_agent.metering.rates import PRICES, RUNTIME, RateCard, Tokens
from saas_agent.metering.record import OK

_MONTH = re.compile(r"(\d{4})-(0[1-9]|1[0-2])")
_CENT = Decimal("0.01")


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

    def __str__(self) -> str:
        return f"{self.year:04}-{self.number:02}"


@dataclass
class UsageRow:
    """The sums of one tenant, tier, feature and month.

    tenant_id: empty for invocations that were refused before their tenant was known. not_ok:
    invocations refused, cancelled or failed. cost: US dollars of all that has a price. unpriced:
    records that have none, or whose call was cut before it told its tokens: with any of them the
    cost is a lower bound. runtime_ms: of the invocations, waiting included.
    """

    tenant_id: str
    tier: str
    feature: str
    month: str
    invocations: int = 0
    not_ok: int = 0
    model_calls: int = 0
    tool_calls: int = 0
    memory_operations: int = 0
    retrievals: int = 0
    runtime_ms: int = 0
    unpriced: int = 0
    tokens: Tokens = field(default_factory=Tokens)
    cost: Decimal = Decimal(0)


def usage_report(rows: Iterable[Row], month: Month) -> list[UsageRow]:
    """Sums the ledger's rows of a month by tenant, tier and feature, in that order."""
    sums: dict[tuple[str, str, str], UsageRow] = {}
    for row in rows:
        key = ("" if row.tenant_id == NOBODY else row.tenant_id, row.tier, row.feature)
        _add(sums.setdefault(key, UsageRow(*key, str(month))), row)
    return [sums[key] for key in sorted(sums)]


_COUNTED: Mapping[str, str] = {
    "invocation": "invocations",
    "model_call": "model_calls",
    "tool_call": "tool_calls",
    "memory_operation": "memory_operations",
    "retrieval": "retrievals",
}


def _add(total: UsageRow, row: Row) -> None:
    counted = _COUNTED[row.kind]
    setattr(total, counted, getattr(total, counted) + row.calls)
    total.tokens += row.tokens
    total.cost += row.cost_usd
    total.unpriced += row.unpriced
    if row.kind == "invocation":
        total.runtime_ms += row.latency_ms
        total.not_ok += row.calls if row.name != OK else 0


# --- Bills ----------------------------------------------------------------------------------------


@dataclass
class BillLine:
    """What one model or operation cost a tenant in a month, by one entry of the rate card.

    priced_from: the day from which the entry holds; None where there is none, and then the amount
    is 0 and `unpriced` counts the calls. prices: by what they are for, in US dollars per million
    tokens, or per thousand (`call`, `ms`). metered: what the records said when they were written,
    by the card of that time.
    """

    tenant_id: str
    tier: str
    feature: str
    name: str
    priced_from: date | None
    prices: dict[str, Decimal]
    calls: int = 0
    unpriced: int = 0
    milliseconds: int = 0
    tokens: Tokens = field(default_factory=Tokens)
    amount: Decimal = Decimal(0)
    metered: Decimal = Decimal(0)


@dataclass(frozen=True)
class Bill:
    """The lines of a month, and their sums. total: rounded to the cent, once."""

    lines: list[BillLine]

    @property
    def amount(self) -> Decimal:
        """The sum of all lines, exact."""
        return sum((line.amount for line in self.lines), Decimal(0))

    @property
    def total(self) -> Decimal:
        """What is asked for, in whole cents."""
        return self.amount.quantize(_CENT)

    @property
    def metered(self) -> Decimal:
        """The same usage by the prices of the time when it was metered."""
        return sum((line.metered for line in self.lines), Decimal(0))

    @property
    def unpriced(self) -> int:
        """Calls that no line has a price for."""
        return sum(line.unpriced for line in self.lines)


def bill(rows: Iterable[Row], card: RateCard) -> Bill:
    """Prices the ledger's counts by the card as it stands now, each day by the entry that holds on it.

    A price that was missing when a call was metered and is in the card since is charged; a call that
    was cut before it told its tokens stays unpriced, since nobody knows what it used.
    """
    lines: dict[tuple[str, str, str, str, date | None], BillLine] = {}
    for row in rows:
        if row.kind == "tool_call":
            continue  # the platform's own code; what it calls has lines of its own
        start, prices = _entry(row, card)
        name = RUNTIME if row.kind == "invocation" else row.name
        key = (row.tenant_id, row.tier, row.feature, name, start)
        line = lines.setdefault(key, BillLine(*key, prices))
        line.calls += row.calls
        line.tokens += row.tokens
        line.metered += row.cost_usd
        line.amount += _amount(row, card)
        line.milliseconds += row.latency_ms if name == RUNTIME else 0
        line.unpriced += row.calls if start is None else row.untold
    return Bill([lines[key] for key in sorted(lines, key=lambda key: (*key[:4], key[4] or date.min))])


def _entry(row: Row, card: RateCard) -> tuple[date | None, dict[str, Decimal]]:
    if row.kind == "model_call":
        rate = card.rate(row.name, row.day)
        return (None, {}) if rate is None else (rate.start, {price: getattr(rate, price) for price in PRICES})
    unit, name = ("ms", RUNTIME) if row.kind == "invocation" else ("call", row.name)
    entry = card.operation_rate(name, row.day)
    return (None, {}) if entry is None else (entry.start, {unit: entry.price})


def _amount(row: Row, card: RateCard) -> Decimal:
    if row.kind == "model_call":
        rate = card.rate(row.name, row.day)
        return Decimal(0) if rate is None else rate.amount(row.tokens)
    name = RUNTIME if row.kind == "invocation" else row.name
    entry = card.operation_rate(name, row.day)
    count = row.latency_ms if row.kind == "invocation" else row.calls - row.errors
    return Decimal(0) if entry is None else entry.amount(count)


# --- Reconciliation -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Difference:
    """One tenant's model cost in the ledger and on the provider's bill, in US dollars."""

    tenant_id: str
    ledger: Decimal
    billed: Decimal

    @property
    def share(self) -> Decimal | None:
        """How much more the bill says, in parts of the ledger's sum; None where the ledger has nothing."""
        return (self.billed - self.ledger) / self.ledger if self.ledger else None


def read_export(path: Path) -> dict[str, Decimal]:
    """Tenant -> cost, from the CSV file that the query in `docs/metering.md` gives: columns tenant_id, cost_usd.

    Raises:
        ControlPlaneError: no such file, or no such columns.
    """
    expected = "expected the columns tenant_id and cost_usd of the query in docs/metering.md; export it again"
    costs: dict[str, Decimal] = {}
    try:
        with path.open(encoding="utf-8", newline="") as file:
            for number, line in enumerate(csv.DictReader(file), 2):
                try:
                    tenant, cost = line["tenant_id"] or NOBODY, Decimal(line["cost_usd"])
                except (KeyError, TypeError, InvalidOperation):
                    raise ControlPlaneError(f"{path}, line {number}: {expected}") from None
                costs[tenant] = costs.get(tenant, Decimal(0)) + cost
    except OSError as error:
        raise ControlPlaneError(f"{path}: {error.strerror}; {expected}") from None
    return costs


def reconcile(rows: Iterable[Row], billed: Mapping[str, Decimal]) -> list[Difference]:
    """Compares the model cost of each tenant: only models are called under a tenant's own principal."""
    ledger: dict[str, Decimal] = {}
    for row in rows:
        if row.kind == "model_call":
            ledger[row.tenant_id] = ledger.get(row.tenant_id, Decimal(0)) + row.cost_usd
    names = sorted(ledger.keys() | billed.keys())
    return [Difference(name, ledger.get(name, Decimal(0)), billed.get(name, Decimal(0))) for name in names]

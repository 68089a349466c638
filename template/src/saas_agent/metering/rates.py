"""The rate card: what tokens cost by model, Region and date, and what operations cost."""

import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, fields
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, Generic, TypeVar

from saas_agent.errors import ConfigurationError

# What Bedrock puts before a model's id to name a cross-Region inference profile.
_PROFILES = ("global.", "us.", "eu.", "apac.", "jp.", "au.", "ca.", "us-gov.")

PRICES = ("input", "output", "cache_read", "cache_write")
_MODEL_KEYS = ("model", "from", *PRICES)
_OPERATION_KEYS = ("operation", "from", "price")
_ANY_REGION = "*"
_MILLION = 1_000_000
_THOUSAND = 1_000
_DECIMALS = 9  # so that a record's cost keeps within what the ledger adds up exactly

RUNTIME = "runtime.Time"
"""The operation that stands for the runtime's time; it is counted in milliseconds."""


@dataclass(frozen=True)
class Tokens:
    """What model calls used, as Converse counts it: `input` is without the cached tokens."""

    input: int = 0
    output: int = 0
    cache_read: int = 0
    cache_write: int = 0

    def __add__(self, other: "Tokens") -> "Tokens":
        return Tokens(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(Tokens)))


@dataclass(frozen=True)
class Cost:
    """An amount in US dollars, and the day from which the rate that gave it holds.

    Both are None where there is no price: that is not free, but not known.
    """

    amount: Decimal | None
    rate_date: date | None


UNPRICED = Cost(None, None)
FREE = Cost(Decimal(0), None)


@dataclass(frozen=True)
class Rate:
    """One entry of the card: US dollars per million tokens, from a day on."""

    model: str
    region: str
    start: date
    input: Decimal
    output: Decimal
    cache_read: Decimal
    cache_write: Decimal

    def amount(self, tokens: Tokens) -> Decimal:
        """US dollars for these tokens, exact."""
        total = sum(getattr(self, price) * getattr(tokens, price) for price in PRICES)
        return Decimal(total) / _MILLION


@dataclass(frozen=True)
class OperationRate:
    """One entry of the card for an operation: US dollars per thousand, from a day on."""

    operation: str
    region: str
    start: date
    price: Decimal

    def amount(self, count: int) -> Decimal:
        """US dollars for so many of them, exact."""
        return self.price * count / _THOUSAND


AnyRate = TypeVar("AnyRate", Rate, OperationRate)


class _Entries(Generic[AnyRate]):
    """The entries that hold in one Region; of two, the Region's own counts."""

    def __init__(self, rates: Iterable[tuple[str, AnyRate]], region: str) -> None:
        self._rates: dict[tuple[str, str], list[AnyRate]] = {}
        self._regions = tuple(dict.fromkeys((region, _ANY_REGION)))
        for name, rate in sorted(rates, key=lambda named: named[1].start, reverse=True):
            self._rates.setdefault((name, rate.region), []).append(rate)

    def find(self, names: Iterable[str], day: date) -> AnyRate | None:
        """The newest entry not after the day, of the first name that has one."""
        for name in names:
            for region in self._regions:
                for rate in self._rates.get((name, region), ()):
                    if rate.start <= day:
                        return rate
        return None


class RateCard:
    """The entries of `rates.toml` that hold in one Region."""

    def __init__(
        self, rates: Iterable[Rate], region: str = _ANY_REGION, operations: Iterable[OperationRate] = ()
    ) -> None:
        """Keeps the entries for `region` and for every Region; of two, the Region's own counts."""
        self._models = _Entries([(rate.model, rate) for rate in rates], region)
        self._operations = _Entries([(rate.operation, rate) for rate in operations], region)

    @classmethod
    def load(cls, path: Path, region: str = _ANY_REGION) -> "RateCard":
        """The card of a file; ConfigurationError names the entry and the key that is off."""
        try:
            document = tomllib.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise ConfigurationError(
                f"{path.name} was not found; expected the rate card beside tiers.toml; restore it"
            ) from None
        except tomllib.TOMLDecodeError as error:
            raise ConfigurationError(f"{path.name} is not valid TOML: {error}; mend that line") from None
        rates, operations = parse_rates(document, path.name)
        return cls(rates, region, operations)

    def rate(self, model_id: str, day: date) -> Rate | None:
        """The entry that holds for a model or inference profile on a day in UTC."""
        return self._models.find((model_id, model_of(model_id)), day)

    def operation_rate(self, operation: str, day: date) -> OperationRate | None:
        """The entry that holds for an operation on a day in UTC."""
        return self._operations.find((operation,), day)

    def cost(self, model_id: str, usage: Tokens, at: datetime) -> Cost:
        """What `usage` of a model or inference profile cost, by the newest entry not after `at`."""
        rate = self.rate(model_id, at.astimezone(UTC).date())
        return UNPRICED if rate is None else Cost(rate.amount(usage), rate.start)

    def operation_cost(self, operation: str, count: int, at: datetime) -> Cost:
        """What so many operations, or milliseconds of `RUNTIME`, cost."""
        rate = self.operation_rate(operation, at.astimezone(UTC).date())
        return UNPRICED if rate is None else Cost(rate.amount(count), rate.start)


def model_of(model_id: str) -> str:
    """The model of an inference profile: `eu.amazon.nova-lite-v1:0` -> `amazon.nova-lite-v1:0`."""
    for profile in _PROFILES:
        if model_id.startswith(profile):
            return model_id.removeprefix(profile)
    return model_id


def parse_rates(document: dict[str, Any], name: str = "rates.toml") -> tuple[list[Rate], list[OperationRate]]:
    """`{"rates": [{...}], "operations": [{...}]}` -> entries; ConfigurationError where one is malformed or doubled."""
    tables = {"operations": [{}], **document}
    if set(tables) != {"rates", "operations"} or not all(map(_is_list, tables.values())):
        raise ConfigurationError(
            f"{name}: expected [[rates]] entries, perhaps [[operations]], and nothing else; add one"
        )
    rates = [_rate(table, f"{name}, entry {number}") for number, table in enumerate(document["rates"], 1)]
    others = document.get("operations", [])
    operations = [_operation(table, f"{name}, operation {number}") for number, table in enumerate(others, 1)]
    _refuse_doubles([(rate.model, rate.region, rate.start) for rate in rates], f"{name}, entry", "model")
    _refuse_doubles(
        [(rate.operation, rate.region, rate.start) for rate in operations], f"{name}, operation", "operation"
    )
    return rates, operations


def _is_list(value: Any) -> bool:
    return isinstance(value, list) and bool(value)


def _refuse_doubles(keys: Iterable[tuple[str, str, date]], where: str, what: str) -> None:
    seen: set[tuple[str, str, date]] = set()
    for number, key in enumerate(keys, 1):
        if key in seen:
            raise ConfigurationError(
                f"{where} {number}: a second price of {key[0]} from {key[2]}; "
                f"expected one per {what}, region and day; remove one"
            )
        seen.add(key)


def _rate(table: Any, where: str) -> Rate:
    model, region, start = _head(table, _MODEL_KEYS, where)
    return Rate(model, region, start, *(_price(table[key], f"{where}: {key}", "million tokens") for key in PRICES))


def _operation(table: Any, where: str) -> OperationRate:
    operation, region, start = _head(table, _OPERATION_KEYS, where)
    return OperationRate(operation, region, start, _price(table["price"], f"{where}: price", "thousand"))


def _head(table: Any, keys: tuple[str, ...], where: str) -> tuple[str, str, date]:
    if not isinstance(table, dict) or set(table) - {"region"} != set(keys):
        raise ConfigurationError(f"{where}: missing or unknown keys; expected {', '.join(keys)} and perhaps region")
    name, region, start = table[keys[0]], table.get("region", _ANY_REGION), table["from"]
    if not (isinstance(name, str) and name and isinstance(region, str) and region):
        raise ConfigurationError(f"{where}: {keys[0]} and region must be texts that are not empty")
    if type(start) is not date:  # a datetime is a date too, but says more than a price list does
        raise ConfigurationError(f"{where}: from is {start!r}; expected a day such as 2026-01-31")
    return name, region, start


def _price(value: Any, where: str, unit: str) -> Decimal:
    problem = f'{where} is {value!r}; expected US dollars per {unit} as a text, as "3.00"'
    if not isinstance(value, str):
        raise ConfigurationError(problem)
    try:
        price = Decimal(value)
    except InvalidOperation:
        raise ConfigurationError(problem) from None
    if not price.is_finite() or price < 0 or price.as_tuple().exponent < -_DECIMALS:  # type: ignore[operator]
        raise ConfigurationError(f"{problem}, with at most {_DECIMALS} decimals")
    return price

"""The rate card: what tokens cost, by model, Region and date."""

import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, fields
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from saas_agent.errors import ConfigurationError

# What Bedrock puts before a model's id to name a cross-Region inference profile.
_PROFILES = ("global.", "us.", "eu.", "apac.", "jp.", "au.", "ca.", "us-gov.")

_PRICES = ("input", "output", "cache_read", "cache_write")
_KEYS = ("model", "from", *_PRICES)
_ANY_REGION = "*"
_MILLION = 1_000_000


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
        total = sum(getattr(self, price) * getattr(tokens, price) for price in _PRICES)
        return Decimal(total) / _MILLION


class RateCard:
    """The entries of `rates.toml` that hold in one Region."""

    def __init__(self, rates: Iterable[Rate], region: str = _ANY_REGION) -> None:
        """Keeps the entries for `region` and for every Region; of two, the Region's own counts."""
        self._rates: dict[tuple[str, str], list[Rate]] = {}
        self._regions = tuple(dict.fromkeys((region, _ANY_REGION)))
        for rate in sorted(rates, key=lambda rate: rate.start, reverse=True):
            self._rates.setdefault((rate.model, rate.region), []).append(rate)

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
        return cls(parse_rates(document, path.name), region)

    def cost(self, model_id: str, usage: Tokens, at: datetime) -> Cost:
        """What `usage` of a model or inference profile cost, by the newest entry not after `at`."""
        day = at.astimezone(UTC).date()
        for model in (model_id, model_of(model_id)):
            for region in self._regions:
                for rate in self._rates.get((model, region), ()):
                    if rate.start <= day:
                        return Cost(rate.amount(usage), rate.start)
        return UNPRICED


def model_of(model_id: str) -> str:
    """The model of an inference profile: `eu.amazon.nova-lite-v1:0` -> `amazon.nova-lite-v1:0`."""
    for profile in _PROFILES:
        if model_id.startswith(profile):
            return model_id.removeprefix(profile)
    return model_id


def parse_rates(document: dict[str, Any], name: str = "rates.toml") -> list[Rate]:
    """`{"rates": [{...}]}` -> entries; ConfigurationError where one is malformed or doubled."""
    tables = document.get("rates")
    if not isinstance(tables, list) or not tables or set(document) != {"rates"}:
        raise ConfigurationError(f"{name}: expected [[rates]] entries and nothing else; add one")
    rates = [_rate(table, f"{name}, entry {number}") for number, table in enumerate(tables, 1)]
    seen: set[tuple[str, str, date]] = set()
    for number, rate in enumerate(rates, 1):
        key = (rate.model, rate.region, rate.start)
        if key in seen:
            raise ConfigurationError(
                f"{name}, entry {number}: a second price of {rate.model} from {rate.start}; "
                "expected one per model, region and day; remove one"
            )
        seen.add(key)
    return rates


def _rate(table: Any, where: str) -> Rate:
    if not isinstance(table, dict) or set(table) - {"region"} != set(_KEYS):
        raise ConfigurationError(f"{where}: missing or unknown keys; expected {', '.join(_KEYS)} and perhaps region")
    model, region, start = table["model"], table.get("region", _ANY_REGION), table["from"]
    if not (isinstance(model, str) and model and isinstance(region, str) and region):
        raise ConfigurationError(f"{where}: model and region must be texts that are not empty")
    if type(start) is not date:  # a datetime is a date too, but says more than a price list does
        raise ConfigurationError(f"{where}: from is {start!r}; expected a day such as 2026-01-31")
    return Rate(model, region, start, *(_price(table[key], f"{where}: {key}") for key in _PRICES))


def _price(value: Any, where: str) -> Decimal:
    problem = f'{where} is {value!r}; expected US dollars per million tokens as a text, as "3.00"'
    if not isinstance(value, str):
        raise ConfigurationError(problem)
    try:
        price = Decimal(value)
    except InvalidOperation:
        raise ConfigurationError(problem) from None
    if not price.is_finite() or price < 0:
        raise ConfigurationError(problem)
    return price

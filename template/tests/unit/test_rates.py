"""The rate card: dated, exact, and never free by accident."""

from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path

import pytest

from saas_agent import configuration
from saas_agent.errors import ConfigurationError
from saas_agent.metering.rates import RateCard, Tokens
from saas_agent.tenancy.tiers import load_tiers

MILLION = 1_000_000
ENTRY = 'model = "maker.model-v1:0"\nfrom = 2026-01-01\n'
PRICES = 'input = "3.00"\noutput = "15.00"\ncache_read = "0.30"\ncache_write = "3.75"\n'
OPERATION = '[[operations]]\noperation = "memory.CreateEvent"\nfrom = 2026-01-01\nprice = "0.25"\n'


def at(year: int, month: int, day: int) -> datetime:
    return datetime(year, month, day, 12, tzinfo=UTC)


def card(tmp_path: Path, text: str, region: str = "*") -> RateCard:
    path = tmp_path / "rates.toml"
    path.write_text(text, encoding="utf-8")
    return RateCard.load(path, region)


def entry(model: str, start: str, price: str, region: str | None = None) -> str:
    where = "" if region is None else f'region = "{region}"\n'
    prices = "".join(f'{key} = "{price}"\n' for key in ("input", "output", "cache_read", "cache_write"))
    return f'[[rates]]\nmodel = "{model}"\n{where}from = {start}\n{prices}'


def test_each_kind_of_token_has_its_own_price_and_the_sum_is_exact(tmp_path: Path) -> None:
    rates = card(tmp_path, f"[[rates]]\n{ENTRY}{PRICES}")
    cost = rates.cost("maker.model-v1:0", Tokens(1, 10, 100, 1000), at(2026, 2, 1))
    assert cost.amount == Decimal("0.003933")
    assert cost.rate_date == date(2026, 1, 1)


def test_no_tokens_of_a_priced_model_cost_nothing(tmp_path: Path) -> None:
    rates = card(tmp_path, f"[[rates]]\n{ENTRY}{PRICES}")
    assert rates.cost("maker.model-v1:0", Tokens(), at(2026, 2, 1)).amount == 0


def test_the_newest_entry_that_is_not_in_the_future_counts(tmp_path: Path) -> None:
    old, new = entry("m", "2026-01-01", "1"), entry("m", "2026-06-01", "2")
    for rates in (card(tmp_path, old + new), card(tmp_path, new + old)):
        assert rates.cost("m", Tokens(MILLION), at(2026, 5, 31)).amount == 1
        assert rates.cost("m", Tokens(MILLION), at(2026, 6, 1)).amount == 2


def test_the_day_is_taken_in_utc(tmp_path: Path) -> None:
    rates = card(tmp_path, entry("m", "2026-01-01", "1") + entry("m", "2026-06-01", "2"))
    just_after_midnight_in_the_east = datetime(2026, 6, 1, 1, tzinfo=timezone(timedelta(hours=9)))
    assert rates.cost("m", Tokens(MILLION), just_after_midnight_in_the_east).amount == 1


def test_operations_are_priced_by_the_thousand_and_unpriced_where_there_is_no_entry(tmp_path: Path) -> None:
    rates = card(tmp_path, f"[[rates]]\n{ENTRY}{PRICES}{OPERATION}")
    assert rates.operation_cost("memory.CreateEvent", 3, at(2026, 2, 1)).amount == Decimal("0.00075")
    assert rates.operation_cost("memory.CreateEvent", 3, at(2025, 2, 1)).amount is None
    assert rates.operation_cost("memory.ListActors", 3, at(2026, 2, 1)).amount is None


def test_a_model_without_an_entry_is_unpriced_and_not_free(tmp_path: Path) -> None:
    cost = card(tmp_path, entry("m", "2026-01-01", "1")).cost("other", Tokens(1), at(2026, 2, 1))
    assert (cost.amount, cost.rate_date) == (None, None)


def test_a_model_used_before_its_first_entry_is_unpriced(tmp_path: Path) -> None:
    rates = card(tmp_path, entry("m", "2026-01-01", "1"))
    assert rates.cost("m", Tokens(1), at(2025, 12, 31)).amount is None


@pytest.mark.parametrize("profile", ["global", "us", "eu", "apac", "jp", "au", "ca", "us-gov"])
def test_an_inference_profile_has_its_models_price(tmp_path: Path, profile: str) -> None:
    rates = card(tmp_path, entry("maker.m", "2026-01-01", "1"))
    assert rates.cost(f"{profile}.maker.m", Tokens(MILLION), at(2026, 2, 1)).amount == 1


def test_an_inference_profiles_own_entry_comes_before_its_models(tmp_path: Path) -> None:
    rates = card(tmp_path, entry("maker.m", "2026-02-01", "1") + entry("eu.maker.m", "2026-01-01", "2"))
    assert rates.cost("eu.maker.m", Tokens(MILLION), at(2026, 3, 1)).amount == 2
    assert rates.cost("us.maker.m", Tokens(MILLION), at(2026, 3, 1)).amount == 1


def test_a_model_does_not_take_a_profiles_price(tmp_path: Path) -> None:
    rates = card(tmp_path, entry("eu.maker.m", "2026-01-01", "2"))
    assert rates.cost("maker.m", Tokens(1), at(2026, 3, 1)).amount is None


def test_an_entry_of_the_region_comes_before_one_of_every_region(tmp_path: Path) -> None:
    text = entry("m", "2026-01-01", "1", "*") + entry("m", "2026-01-01", "2", "eu-west-1")
    at_date = at(2026, 2, 1)
    assert card(tmp_path, text, "eu-west-1").cost("m", Tokens(MILLION), at_date).amount == 2
    assert card(tmp_path, text, "us-east-1").cost("m", Tokens(MILLION), at_date).amount == 1


def test_an_entry_of_another_region_is_no_price_here(tmp_path: Path) -> None:
    rates = card(tmp_path, entry("m", "2026-01-01", "2", "eu-west-1"), "us-east-1")
    assert rates.cost("m", Tokens(1), at(2026, 2, 1)).amount is None


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[[rates]\n", "not valid TOML"),
        ("", "expected [[rates]] entries"),
        ("rates = 3\n", "expected [[rates]] entries"),
        (f"extra = 1\n[[rates]]\n{ENTRY}{PRICES}", "expected [[rates]] entries"),
        (f"[[rates]]\n{ENTRY}", "entry 1: missing or unknown keys"),
        (f"[[rates]]\n{ENTRY}{PRICES}outptu = '1'\n", "entry 1: missing or unknown keys"),
        (f"[[rates]]\n{ENTRY}{PRICES}".replace('"3.00"', "3.0"), "entry 1: input is 3.0"),
        (f"[[rates]]\n{ENTRY}{PRICES}".replace('"15.00"', '"-1"'), "entry 1: output is '-1'"),
        (f"[[rates]]\n{ENTRY}{PRICES}".replace('"15.00"', '"NaN"'), "entry 1: output is 'NaN'"),
        (f"[[rates]]\n{ENTRY}{PRICES}".replace('"0.30"', '"$1"'), "entry 1: cache_read is '$1'"),
        (f"[[rates]]\n{ENTRY}{PRICES}".replace("2026-01-01", "'soon'"), "from is 'soon'"),
        (f"[[rates]]\n{ENTRY}{PRICES}".replace("01-01", "01-01T00:00:00"), "expected a day"),
        (f'[[rates]]\nregion = ""\n{ENTRY}{PRICES}', "model and region"),
        (f"[[rates]]\n{ENTRY}{PRICES}" * 2, "entry 2: a second price"),
        (f"[[rates]]\n{ENTRY}{PRICES}".replace('"3.00"', '"0.0000000001"'), "at most 9 decimals"),
        (f"[[rates]]\n{ENTRY}{PRICES}operations = 3\n", "entry 1: missing or unknown keys"),
        (f"[[rates]]\n{ENTRY}{PRICES}[[operations]]\noperation = 'x'\n", "operation 1: missing or unknown keys"),
        (f"[[rates]]\n{ENTRY}{PRICES}{OPERATION.replace('0.25', 'free')}", "operation 1: price is 'free'"),
        (f"[[rates]]\n{ENTRY}{PRICES}{OPERATION * 2}", "operation 2: a second price of memory.CreateEvent"),
    ],
)
def test_a_malformed_card_is_refused_in_one_line(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        card(tmp_path, text)
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_missing_card_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="was not found"):
        RateCard.load(tmp_path / "rates.toml")


def test_every_tiers_model_has_a_price_in_the_card_that_ships() -> None:
    rates = RateCard.load(configuration.find("rates.toml"))
    now = datetime.now(UTC)
    for tier in load_tiers().values():
        assert rates.cost(tier.model, Tokens(1, 1, 1, 1), now).amount, tier.model

"""The page of usage and cost: the ledger's numbers, and a page that a phone shows as well as a desk, light and dark."""

import re
from datetime import date
from decimal import Decimal
from typing import Any

import pytest

from local.usage_page import Usage, page, percentile
from saas_agent.metering.ledger import BOUNDS_MS, NOBODY, Row
from saas_agent.metering.rates import Tokens
from saas_agent.tenancy.tiers import load_tiers

from .screens import SCHEMES, SCREENS, assert_all_is_shown, installed, look

TIERS = tuple(load_tiers())
NONE = tuple(0 for _ in range(len(BOUNDS_MS) + 1))


def row(tenant: str, tier: str, day: int, kind: Any = "model_call", **fields: Any) -> Row:
    known = {"feature": "conversation", "name": "maker.model-v1:0", "calls": 1, "durations": NONE, **fields}
    return Row(tenant, date(2026, 11, day), tier, kind=kind, **known)


def month() -> list[Row]:
    """Forty tenants with long names, on three days with a gap; one that nobody knows."""
    rows = [
        row(
            f"a-tenant-with-a-long-name-{number:02}",
            TIERS[number % len(TIERS)],
            (1, 2, 9)[number % 3],
            tokens=Tokens(1000 * number, 10, 5, 1),
            cost_usd=Decimal(number * number).scaleb(-4),
        )
        for number in range(1, 41)
    ]
    answered = tuple(3 if number == 2 else 0 for number in range(len(NONE)))
    rows.append(row("acme", TIERS[0], 9, "invocation", name="ok", calls=3, latency_ms=2400, durations=answered))
    rows.append(row("acme", TIERS[0], 9, "invocation", name="limit_reached", calls=2, latency_ms=2))
    rows.append(row(NOBODY, "unknown", 9, "invocation", name="invalid_token", calls=7))
    return rows


def drawn(rows: list[Row]) -> str:
    return page(Usage("desk", "dev", "2026-11", rows, rejected=3))


def cells(text: str, heading: str) -> list[list[str]]:
    """The rows of the first table below a heading."""
    table = text.split(f"<h2>{heading}</h2>", 1)[1].split("<tbody>", 1)[1].split("</tbody>", 1)[0]
    return [re.findall(r"<td[^>]*>(.*?)</td>", line) for line in table.split("</tr>") if "<td" in line]


def test_what_it_says_is_what_the_ledger_holds() -> None:
    rows = month()
    shown = {tenant: (tier, tokens, usd) for tenant, tier, tokens, usd in cells(drawn(rows), "Cost per tenant")}
    assert set(shown) == {entry.tenant_id for entry in rows}
    for entry in rows[:40]:
        tokens = entry.tokens.input + entry.tokens.output + entry.tokens.cache_read + entry.tokens.cache_write
        assert shown[entry.tenant_id] == (entry.tier, f"{tokens:,}", f"{entry.cost_usd:.4f}")
    total = sum(entry.cost_usd for entry in rows)
    assert f"<b>{total:.2f}</b><span>estimated cost" in drawn(rows)
    days = cells(drawn(rows), "Tokens over time")
    assert [day for day, *_ in days] == [f"2026-11-{day:02}" for day in range(1, 10)]
    by_day = sum(int(number.replace(",", "")) for _, *numbers in days for number in numbers)
    assert by_day == sum(int(tokens.replace(",", "")) for _, tokens, _ in shown.values())
    assert cells(drawn(rows), "Latency of requests") == [["acme", "5", "480 ms", "1 s", "1 s"]]
    assert cells(drawn(rows), "Requests that were refused or failed") == [
        ["-", "unknown", "invalid_token", "7"],
        ["acme", TIERS[0], "limit_reached", "2"],
    ]


def test_what_has_no_price_and_what_was_no_good_is_said() -> None:
    text = drawn([row("acme", TIERS[0], 1, unpriced=2)])
    assert "2 records have no price, so costs are a lower bound." in text
    assert "3 lines of the log were no good and are not counted." in text


def test_an_empty_month_is_a_page_too() -> None:
    assert drawn([]).count("Nothing was used.") == 3


def test_a_percentile_is_the_bound_that_it_does_not_exceed() -> None:
    counts = [90, 5, *NONE[2:]]
    assert [percentile(counts, percent) for percent in (50, 95)] == ["250 ms", "500 ms"]
    assert percentile([*NONE[:-1], 1], 50) == f"over {BOUNDS_MS[-1] / 1000:g} s"


def test_it_needs_nothing_else_and_runs_nothing() -> None:
    text = drawn([row("acme", TIERS[0], 1, feature="<script>alert(1)</script>", cost_usd=Decimal(1))])
    assert not re.findall(r"<script|\bsrc=|\bhref=|https?://|url\(|@import", text)
    assert "&lt;script&gt;" in text


# --- In a browser -----------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=SCHEMES)
def seen(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What each screen shows of the page, and the phone of one that is spoilt."""
    browser, text = installed(), drawn(month())
    spoilt = text.replace("</main>", '<p style="width:900px;color:#777;background:#888">wide</p></main>')
    pages = {**dict.fromkeys(SCREENS, text), "spoilt": spoilt}
    return look(browser, pages, request.param, tmp_path_factory.mktemp(request.param))


@pytest.mark.parametrize("screen", SCREENS)
def test_a_screen_shows_all_of_it(seen: dict[str, Any], screen: str) -> None:
    found = seen[screen]
    assert_all_is_shown(found, SCREENS[screen])
    # Twenty tenants, three tiers; the longest bar first, and the others in proportion.
    assert len(found["bars"]) == 20 + len(TIERS)
    assert found["bars"][0] > 90
    assert found["bars"][19] / found["bars"][0] == pytest.approx(21 * 21 / 1600, abs=0.02)
    assert [height > 0 for height in found["columns"]] == [True, True, *[False] * 6, True]


def test_a_page_that_is_too_wide_or_too_pale_is_noticed(seen: dict[str, Any]) -> None:
    found = seen["spoilt"]
    assert found["scrolls"] > SCREENS["phone"]
    assert "p" in found["outside"]
    assert found["contrast"]["p"] < 2

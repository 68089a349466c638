"""The page of usage and cost: the ledger's numbers, and a page that a phone shows as well as a desk, light and dark."""

import html
import json
import os
import re
import shutil
import subprocess
import warnings
from datetime import date
from decimal import Decimal
from typing import Any

import pytest

from local.usage_page import Usage, page, percentile
from saas_agent.metering.ledger import BOUNDS_MS, NOBODY, Row
from saas_agent.metering.rates import Tokens
from saas_agent.tenancy.tiers import load_tiers

TIERS = tuple(load_tiers())
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
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

# Shows each page in a frame as wide as a screen, and measures what is seen of it.
MEASURE = """
function channels(color) { return color.match(/[\\d.]+/g).map(Number); }
function light(color) {
  const [r, g, b] = channels(color).map(c => c / 255).map(c => c <= .03928 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4);
  return .2126 * r + .7152 * g + .0722 * b;
}
function ground(element, view) {
  for (let e = element; e; e = e.parentElement) {
    const color = view.getComputedStyle(e).backgroundColor;
    if (channels(color)[3] !== 0) return color;
  }
  return "rgb(255, 255, 255)";
}
function measure(frame) {
  const view = frame.contentWindow, page = frame.contentDocument, found = {contrast: {}, outside: []};
  found.dark = view.matchMedia("(prefers-color-scheme: dark)").matches;
  found.width = page.documentElement.clientWidth;
  found.scrolls = page.documentElement.scrollWidth;
  for (const details of page.querySelectorAll("details")) details.open = true;
  found.scrolls_open = page.documentElement.scrollWidth;
  for (const element of page.querySelectorAll("h1, h2, p, li > span, li > b, .tiles b, .tiles span, th, td, summary")) {
    const style = view.getComputedStyle(element), box = element.getBoundingClientRect();
    const [one, other] = [light(style.color), light(ground(element, view))].sort((a, b) => b - a);
    const name = element.tagName.toLowerCase();
    found.contrast[name] = Math.min(found.contrast[name] ?? 99, (one + .05) / (other + .05));
    if (!element.closest(".scroll") && (box.left < 0 || box.right > view.innerWidth + 1)) found.outside.push(name);
    if (parseFloat(style.fontSize) < 14) found.outside.push(name + " is small");
  }
  found.bars = [...page.querySelectorAll(".bars i i")].map(bar => bar.getBoundingClientRect().width);
  found.columns = [...page.querySelectorAll(".columns > div")].map(column =>
    [...column.children].reduce((sum, block) => sum + block.getBoundingClientRect().height, 0));
  return found;
}
const all = {};
for (const [name, [width, text]] of Object.entries(pages)) {
  const frame = document.body.appendChild(document.createElement("iframe"));
  frame.style = `width:${width}px;height:900px;border:0`;
  frame.onload = () => {
    all[name] = measure(frame);
    document.getElementById("found").textContent = JSON.stringify(all);
  };
  frame.srcdoc = text;
}
"""
SCREENS = {"phone": 360, "desk": 1280}


@pytest.fixture(scope="module")
def browser() -> str:
    """The browser's command. Nothing is downloaded: where there is none, these tests are skipped, and that is said."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        reason = f"the usage page is not tested in a browser: none of {', '.join(BROWSERS)} is installed"
        warnings.warn(reason, stacklevel=1)
        pytest.skip(reason)
    return found


@pytest.fixture(scope="module", params=["light", "dark"])
def seen(browser: str, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What each screen shows of the page, and the phone of one that is spoilt."""
    text = drawn(month())
    spoilt = text.replace("</main>", '<p style="width:900px;color:#777;background:#888">wide</p></main>')
    pages = {name: [width, text] for name, width in SCREENS.items()} | {"spoilt": [SCREENS["phone"], spoilt]}
    script = f"const pages = {json.dumps(pages)};".replace("<", "\\u003c") + MEASURE
    folder = tmp_path_factory.mktemp(request.param)
    path = folder / "around.html"
    around = f'<!doctype html><meta charset="utf-8"><body><output id="found"></output><script>{script}</script>'
    path.write_text(around, encoding="utf-8")
    command = [browser, "--headless", "--disable-gpu", "--no-first-run", f"--user-data-dir={folder / 'profile'}"]
    command += ["--no-sandbox"] if os.geteuid() == 0 else []
    command += [f"--blink-settings=preferredColorScheme={0 if request.param == 'dark' else 1}"]
    command += ["--window-size=1400,1000", "--virtual-time-budget=4000", "--dump-dom", path.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    result = re.search(r'<output id="found">(\{.*?\})</output>', done.stdout)
    assert result is not None, done.stderr[-2000:]
    found: dict[str, Any] = json.loads(html.unescape(result[1]))
    assert {each["dark"] for each in found.values()} == {request.param == "dark"}
    return found


@pytest.mark.parametrize("screen", SCREENS)
def test_a_screen_shows_all_of_it(seen: dict[str, Any], screen: str) -> None:
    found, width = seen[screen], SCREENS[screen]
    assert width - 20 <= found["width"] <= width  # less its scroll bar
    # Tables scroll by themselves; the page never sideways.
    assert (found["scrolls"], found["scrolls_open"]) == (found["width"], found["width"])
    assert found["outside"] == []
    assert {name: ratio for name, ratio in found["contrast"].items() if ratio < 4.5} == {}
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

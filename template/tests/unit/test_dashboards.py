"""The drawing of the stack's dashboards: what was logged, by the deployed queries, and nothing that isn't known."""

import json
import re
from collections.abc import Mapping, Sequence
from datetime import timedelta
from decimal import Decimal
from html import unescape
from typing import Any

import pytest

from local import charts, emf
from local.dashboards import Dashboard, Logs, Page, draw
from local.logs_insights import NotUnderstood, parse
from saas_agent.metering.rates import Cost, Tokens
from saas_agent.metering.record import Invocation, Record
from saas_agent.tenancy.tiers import load_tiers

from .fast_table import FastTable
from .screens import SCHEMES, SCREENS, assert_all_is_shown, installed, look
from .test_ledger import NOW, Counted, invocation, model_call, operation
from .test_observability import of_type, queries

TIERS = tuple(load_tiers())
RUNTIME, LEDGER = "/runtime", "/ledger"


class FakeLogs:
    """CloudWatch Logs with these events: log group -> (milliseconds, message)."""

    def __init__(self, groups: Mapping[str, Sequence[tuple[int, str]]]) -> None:
        self._groups = groups

    def get_paginator(self, name: str) -> Any:
        return type("Paginator", (), {"paginate": staticmethod(getattr(self, name))})

    def describe_log_groups(self) -> list[Any]:
        return [{"logGroups": [{"logGroupName": name}]} for name in self._groups]

    def filter_log_events(self, *, logGroupName: str, filterPattern: str = "") -> list[Any]:  # noqa: N803
        events = [
            {"timestamp": at, "message": text} for at, text in self._groups[logGroupName] if filterPattern in text
        ]
        return [{"events": events[:3]}, {"events": events[3:]}]


def shipped() -> list[Dashboard]:
    """The dashboards of the stack, as they are deployed for desk, dev."""
    values = {"Service": "desk", "Stage": "dev", "LedgerLogs": LEDGER, "AWS::Region": "eu-central-1"}
    return [
        Dashboard(
            name, re.sub(r"\$\{([\w:]+)\}", lambda found: values[found[1]], properties["DashboardBody"]["Fn::Sub"])
        )
        for name, properties in of_type("AWS::CloudWatch::Dashboard")
    ]


def logged(records: Sequence[Record]) -> Logs:
    """The log groups after these records, an hour's in a batch; the ledger's function writes what it writes."""
    ledger = []
    for at in sorted({record.at.replace(minute=0) for record in records}):
        counter = Counted(FastTable(), at + timedelta(hours=1))
        counter.count(*[record for record in records if record.at.replace(minute=0) == at])
        ledger += [(_ms(at + timedelta(minutes=59)), json.dumps(line)) for line in counter.lines]
    runtime = [(_ms(record.at), record.to_line()) for record in records]
    return Logs(lambda _: FakeLogs({RUNTIME: [(_ms(NOW), "no JSON"), *runtime], LEDGER: ledger}))


def _ms(at: Any) -> int:
    return int(at.timestamp() * 1000)


def month() -> list[Record]:
    """Fifteen tenants with long names over five hours, of which one is silent; one that nobody knows."""
    records = []
    for number in range(1, 16):
        at = NOW - timedelta(hours=(0, 1, 3, 4)[number % 4])
        of: dict[str, Any] = {"tenant_id": f"a-tenant-with-a-long-name-{number:02}", "tier": TIERS[number % len(TIERS)]}
        cost = Cost(Decimal(number * number).scaleb(-3), None)
        records += [
            model_call(**of, at=at, tokens=Tokens(1000 * number, 10, 5, 1), latency_ms=number, cost=cost),
            operation("tool_call", "lookup", 2, 1, **of, at=at, latency_ms=3),
            invocation(**of, at=at, invocation=Invocation(1, 100 * number)),
            invocation(**of, at=at, outcome="limit_reached", invocation=Invocation(0, 1)),
        ]
    return [*records, invocation(tenant_id=None, tier="unknown", outcome="invalid_token")]


def drawn(records: Sequence[Record]) -> Page:
    return draw(shipped(), logged(records), "desk, stage dev")


def widgets(html: str) -> list[tuple[str, str]]:
    """Title and content of every widget, in the page's order."""
    return re.findall(r"<section style=[^>]*><h3>(.*?)</h3>(.*?)</section>", html, re.DOTALL)


def widget(html: str, title: str) -> str:
    return next(text for name, text in widgets(html) if name == title)


def cells(text: str) -> list[list[str]]:
    body = text.split("<tbody>", 1)[1].split("</tbody>", 1)[0]
    return [[unescape(cell) for cell in re.findall(r"<td[^>]*>(.*?)</td>", row)] for row in body.split("</tr>") if row]


def legend(text: str) -> dict[str, str]:
    return dict(re.findall(r"</svg>(.*?) <b>(.*?)</b>", text))


# --- The page ---------------------------------------------------------------------------------------


def test_every_shipped_widget_is_drawn_from_what_was_logged() -> None:
    page = drawn(month())
    assert page.problems == []
    titles = [each["properties"]["title"] for board in shipped() for each in json.loads(board.body)["widgets"]]
    assert {title for title, _ in widgets(page.html)} == set(titles)
    assert [title for title, text in widgets(page.html) if "Nothing to show" in text] == []


def test_its_numbers_are_those_of_the_records() -> None:
    records = month()
    html = drawn(records).html
    costs = {tenant: (tier, usd, tokens) for tenant, tier, usd, tokens, _ in cells(widget(html, "Cost per tenant"))}
    calls = [record for record in records if record.model_id]
    for call in calls:
        tokens = call.tokens.input + call.tokens.output + call.tokens.cache_read + call.tokens.cache_write
        # The tool call is priced as the model call's sample is.
        expected = (call.cost.amount or 0) + Decimal("0.000205")
        assert costs[str(call.tenant_id)] == (call.tier, f"{expected:.4f}", f"{tokens:,}")
    ranked = [tenant for tenant, *_ in cells(widget(html, "Cost per tenant"))]
    assert ranked[:2] == ["a-tenant-with-a-long-name-15", "a-tenant-with-a-long-name-14"]
    requests = legend(widget(html, "Requests"))
    assert requests == {"Invocations": "31", "Errors": "0", "Denials": "0", "LimitsReached": "15", "Throttles": "0"}
    assert legend(widget(html, "Tokens"))["InputTokens"] == f"{sum(call.tokens.input for call in calls):,}"
    assert legend(widget(html, "Requests by tier")) == {**dict.fromkeys(sorted(TIERS), "10"), "unknown": "1"}
    refused = cells(widget(html, "Refused and failed requests"))
    assert len(refused) == 16
    assert ["-", "invalid_token", "1"] in refused


def test_a_metric_is_shown_by_period_and_a_query_by_bin() -> None:
    html = drawn(month()).html
    by_period = {at: int(invocations) for at, invocations, *_ in cells(widget(html, "Requests"))}
    assert by_period == {"24 Nov 08:30": 8, "24 Nov 09:30": 8, "24 Nov 11:30": 8, "24 Nov 12:30": 7}
    [[at, tokens]] = cells(widget(html, "Tokens over time"))
    assert (at, tokens) == ("24 Nov 08:00", "15,016")


def test_a_dashboard_for_one_tenant_shows_that_tenant() -> None:
    html = drawn(month()).html
    summaries = re.findall(r"<summary>Tenant: (.*?)</summary>", html)
    assert summaries == [f"a-tenant-with-a-long-name-{number:02}" for number in range(15, 3, -1)]
    assert "3 more tenants are not drawn." in html
    assert "any-tenant" not in html
    for number, (_, text) in zip(
        range(15, 3, -1), [each for each in widgets(html) if each[0] == "Tokens over time"], strict=True
    ):
        assert [tokens for _, tokens in cells(text)] == [f"{1000 * number + 16:,}"]


def test_where_nothing_was_logged_every_widget_says_so() -> None:
    page = draw(shipped(), Logs(lambda _: FakeLogs({RUNTIME: [], LEDGER: []})), "desk, stage dev")
    assert page.problems == []
    found = widgets(page.html)
    assert found
    assert [title for title, text in found if "Nothing to show: no line" not in text] == []
    assert "no tenant has used anything yet" in page.html


def test_neighbouring_times_are_joined_and_a_gap_is_a_gap() -> None:
    drawn = charts.lines([charts.Curve("n", {0: 1, 60_000: 2, 180_000: 4})], 60_000, (0, 239_999), "None", "sum")
    assert 'd="M12.50 75.00L37.50 50.00M75.00 0.00h25.00"' in drawn


def test_it_needs_nothing_else_and_runs_nothing() -> None:
    line = {"record": "ledger_sum", "tenant_id": "<script>alert(1)</script>", "tier": "<b>", "cost_usd": 1, "calls": 1}
    logs = Logs(lambda _: FakeLogs({LEDGER: [(_ms(NOW), json.dumps(line))]}))
    html = draw(shipped(), logs, "<i>").html
    assert not re.findall(r"<script|<td><b>|<i>:|\bsrc=|\bhref=|https?://|url\(|@import", html)
    assert "&lt;script&gt;" in html
    # Nobody's id: no dashboard is made for it.
    assert "no tenant has used anything yet" in html


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"type": "text"}, "a widget of type text"),
        ({"properties": {"stat": "Average"}}, "the statistic Average"),
        ({"properties": {"stacked": True}}, "stacked of a metric widget"),
        ({"properties": {"metrics": [["saas-agent", "Errors", "service", "desk", "."]]}}, "of a metric widget"),
        ({"properties": {"metrics": [["saas-agent", "Errors", ".", "desk"]]}}, "of a metric widget"),
        ({"properties": {"metrics": [[{"expression": "SUM(METRICS())", "id": "e1"}]]}}, "expected one SEARCH"),
        ({"type": "log", "properties": {"query": "SOURCE '/ledger' | fields tier"}}, "expected filter, then one stats"),
        ({"type": "log", "properties": {"query": "stats sum(calls) as calls"}}, "a query without SOURCE"),
        (
            {"type": "log", "properties": {"view": "pie", "query": "SOURCE '/ledger' | stats sum(calls) as calls"}},
            "the view pie",
        ),
        (
            {"type": "log", "properties": {"view": "timeSeries", "query": "SOURCE '/ledger' | stats sum(calls) as c"}},
            "without a bin",
        ),
    ],
)
def test_a_widget_that_is_not_understood_is_no_picture(change: Mapping[str, Any], why: str) -> None:
    properties = {
        "title": "Mine",
        "region": "eu-central-1",
        "stat": "Sum",
        "period": 300,
        "metrics": [["saas-agent", "Errors", "service", "desk", "stage", "dev"]],
        **change.get("properties", {}),
    }
    mine = {"x": 0, "y": 0, "width": 6, "height": 6, "type": change.get("type", "metric"), "properties": properties}
    page = draw([Dashboard("mine", json.dumps({"widgets": [mine]}))], logged(month()), "desk")
    [problem] = page.problems
    assert problem.startswith("mine: Mine: not drawn: ")
    assert why in problem
    assert "Not drawn: " in widget(page.html, "Mine")
    assert "<svg" not in page.html


# --- Queries ----------------------------------------------------------------------------------------


def test_every_query_of_the_stack_is_understood_and_finds_something() -> None:
    records = [*month(), model_call("any-tenant", cost=Cost(None, None)), invocation(tenant_id="any-tenant")]
    records += [operation("retrieval", "memory.RetrieveMemoryRecords", tenant_id="any-tenant")]
    lines = logged(records).lines(LEDGER)
    found = {name: parse(query).run(lines).rows for name, query in queries()}
    assert found
    assert [name for name, rows in found.items() if not rows] == []


LINES = [
    {"@timestamp": 3_599_999, "tier": "basic", "who": "a", "n": 2, "calls": 1},
    {"@timestamp": 3_600_000, "tier": "basic", "who": "b", "n": 3, "calls": 0},
    {"@timestamp": 7_199_999, "tier": "premium", "who": "a|'", "n": 10, "calls": 4},
    {"@timestamp": 7_200_000, "who": "c", "n": "7"},
]


@pytest.mark.parametrize(
    ("query", "rows"),
    [
        ("filter tier = 'basic' | stats sum(n) as n", [[5]]),
        ("filter tier != 'basic' | stats count_distinct(who) as n", [[1]]),
        ("filter n > 2 and n <= 10 | stats max(n) as n", [[10]]),
        ("filter tier in ['premium', 'other'] and n >= 10 | stats sum(n) as n", [[10]]),
        ("filter tier = 'none' | stats sum(n) as n", []),
        ("filter n < 100 | stats sum(n + calls) as n by tier | sort n desc", [["premium", 14], ["basic", 6]]),
        ("filter n < 100 | stats sum(n) - sum(calls) as n by tier | sort n", [["basic", 4], ["premium", 6]]),
        ("filter n = 3 | stats sum(n) / sum(calls) as mean", [[None]]),
        ("filter n < 100 | stats sum(n) as n by bin(1h)", [[0, 2], [3_600_000, 13]]),
        ("filter n < 100 | stats sum(n) as n by who | sort n desc | limit 2", [["a|'", 10], ["b", 3]]),
        ("stats sum(calls) as n by tier | sort n desc", [["premium", 4], ["basic", 1], [None, None]]),
    ],
)
def test_a_query_gives_what_logs_insights_gives(query: str, rows: list[list[Any]]) -> None:
    assert [list(row.values()) for row in parse(query).run(LINES).rows] == rows


@pytest.mark.parametrize(
    "query",
    [
        "",
        "fields tier",
        "filter tier = 'basic'",
        "filter tier = 'basic' or n > 2 | stats sum(n) as n",
        "filter not tier = 'basic' | stats sum(n) as n",
        "filter tier like 'b' | stats sum(n) as n",
        "filter tier = 'basic | stats sum(n) as n",
        "filter ispresent(tier) | stats sum(n) as n",
        "stats avg(n) as n",
        "stats sum(n)",
        "stats sum(abs(n)) as n",
        "stats sum(n) as n by bin(90)",
        "stats sum(n) as n, by tier",
        "stats sum(n) as n by tier, ",
        "stats sum(n) as n | stats sum(n) as m",
        "stats sum(n) as n | filter n > 1",
        "stats sum(n) as n | sort calls desc",
        "stats sum(n) as n | sort n desc, tier",
        "stats sum(n) as n | limit many",
        "stats sum(n) as n | dedup tier",
        "stats sum(n) as n; 1",
    ],
)
def test_what_is_not_known_of_the_language_is_refused(query: str) -> None:
    with pytest.raises(NotUnderstood, match="expected"):
        parse(query)


def test_a_query_tells_its_source_filters_and_bin() -> None:
    query = parse("SOURCE '/a/b-c' | filter a = 'x|y' | filter b > 1 | stats sum(n) as n by bin(5m), a")
    assert (query.source, query.wanted, query.bin_ms, query.bin_column) == (
        "/a/b-c",
        "a = 'x|y' and b > 1",
        300_000,
        "bin(5m)",
    )


# --- Metrics ----------------------------------------------------------------------------------------


def measured(values: Sequence[Any], stat: str, **dimensions: str) -> dict[int, float]:
    """What a widget shows of lines with these values, a minute apart from 0 on."""
    metrics = emf.Metrics()
    for number, value in enumerate(values):
        directive = {
            "Namespace": "mine",
            "Dimensions": [["service", "tier"], ["service"]],
            "Metrics": [{"Name": "Ms", "Unit": "Milliseconds"}],
        }
        header = {"Timestamp": number * 60_000, "CloudWatchMetrics": [directive]}
        metrics.take(json.dumps({"_aws": header, "service": "desk", "tier": f"t{number % 2}", "Ms": value}))
    for line in ("no JSON", "[]", "{}", '{"_aws": 1}', '{"_aws": {"Timestamp": 1, "CloudWatchMetrics": [{}]}}'):
        metrics.take(line)
    wanted = [part for pair in dimensions.items() for part in pair]
    period, [series] = metrics.shown({"stat": stat, "period": 300, "metrics": [["mine", "Ms", *wanted]]})
    assert period == 300_000
    return dict(series.values)


def test_a_metric_is_of_its_dimensions_and_counts_once() -> None:
    values = [1, 2, 3, 4, 5, [6, 7]]
    assert measured(values, "Sum", service="desk") == {0: 15, 300_000: 13}
    assert measured(values, "Sum", service="desk", tier="t1") == {0: 6, 300_000: 13}
    assert measured(values, "Maximum", service="desk") == {0: 5, 300_000: 7}
    assert measured(values, "Sum", service="other") == {}
    assert measured(values, "Sum", tier="t1") == {}


def test_a_percentile_is_the_least_that_so_many_do_not_exceed() -> None:
    assert measured([[*range(1, 101)]], "p95", service="desk") == {0: 95}
    assert measured([[10, 20]], "p95", service="desk") == {0: 20}
    assert measured([7], "p50", service="desk") == {0: 7}


def test_a_search_finds_each_metric_that_has_these_dimensions_and_no_other() -> None:
    logs = logged(month())
    expression = "SEARCH('{saas-agent,service,stage,tier} MetricName=\"Invocations\" service=\"%s\"', 'Sum', 300)"
    for service, tiers in (("desk", [*sorted(TIERS), "unknown"]), ("other", [])):
        _, series = logs.metrics.shown({"metrics": [[{"expression": expression % service, "id": "e1"}]]})
        assert [each.label.rpartition(" ")[2] for each in series] == tiers


# --- In a browser -----------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=SCHEMES)
def seen(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What each screen shows of the page, and the phone of one that is spoilt."""
    browser, text = installed(), drawn(month()).html
    spoilt = text.replace('class="plot"', 'class="plot" style="width:900px"')
    pages = {**dict.fromkeys(SCREENS, text), "spoilt": spoilt}
    return look(browser, pages, request.param, tmp_path_factory.mktemp(request.param))


@pytest.mark.parametrize("screen", SCREENS)
def test_a_screen_shows_all_of_it(seen: dict[str, Any], screen: str) -> None:
    found = seen[screen]
    assert_all_is_shown(found, SCREENS[screen])
    assert len(found["curves"]) > 30
    assert len({color for _, color in found["curves"]}) == 6
    assert max(width for width, _ in found["curves"]) > 0
    boards = found["boards"]
    assert [(one[0], other[0]) for one, other in pairs(boards) if overlap(one, other)] == []
    # Beside each other on a desk, as the dashboard has them; below each other on a phone.
    (_, left, top, *_), (_, next_left, next_top, *_) = boards[0], boards[1]
    assert (next_top == top, next_left > left) == ((True, True) if screen == "desk" else (False, False))


def pairs(boards: Sequence[Any]) -> list[tuple[Any, Any]]:
    return [(one, other) for number, one in enumerate(boards) for other in boards[:number]]


def overlap(one: Sequence[Any], other: Sequence[Any]) -> bool:
    (_, left, top, right, bottom), (_, left2, top2, right2, bottom2) = one, other
    return bool(left < right2 and left2 < right and top < bottom2 and top2 < bottom)


def test_a_chart_that_is_too_wide_is_noticed(seen: dict[str, Any]) -> None:
    assert seen["spoilt"]["scrolls"] > SCREENS["phone"]

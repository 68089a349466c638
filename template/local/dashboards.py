"""`make dashboards`: the dashboards of the stack as one HTML page, drawn from the local cloud's logs.

The bodies are those that were deployed. Metrics are what the log lines have CloudWatch make of them, and the queries of
the other widgets are run over the log groups that they name, all as on AWS; there, the console shows the dashboards. A
dashboard for one tenant is drawn for each of the largest ones. Nothing in the page asks the network.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from html import escape
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from local import charts, emf, logs_insights
from local.logs_insights import TIMESTAMP, Line, NotUnderstood, Query, Result, Value
from saas_agent.control_plane.connection import connect_local, explain
from saas_agent.control_plane.errors import ControlPlaneError
from saas_agent.functions.record_usage import SUM
from saas_agent.tenancy.placement import load_placement
from saas_agent.tenancy.tenant import valid_tenant_id

PAGE = Path("build") / "dashboards.html"

_TENANTS = f"filter record = '{SUM}' | stats sum(cost_usd) as usd by tenant_id | sort usd desc"
_MOST_TENANTS = 12  # that a dashboard for one tenant is drawn for
_STATISTICS = {"Sum": "sum", "Maximum": "highest"}

Clients = Callable[[str], Any]
"""A service's name -> a boto3 client, with an operator's credentials."""


@dataclass(frozen=True)
class Dashboard:
    """A deployed dashboard. body: its JSON, as it was deployed."""

    name: str
    body: str


class Logs:
    """What the local cloud's log groups hold when it is first asked for."""

    def __init__(self, clients: Clients) -> None:
        self._client = clients("logs")
        self._lines: dict[str, list[Line]] = {}

    def lines(self, group: str) -> list[Line]:
        """The lines of a log group, each with the fields of its JSON."""
        if group not in self._lines:
            self._lines[group] = [_line(event) for event in self._events(group)]
        return self._lines[group]

    @cached_property
    def metrics(self) -> emf.Metrics:
        """What the lines of all log groups measure."""
        metrics = emf.Metrics()
        for page in self._client.get_paginator("describe_log_groups").paginate():
            for group in page["logGroups"]:
                for event in self._events(group["logGroupName"], filterPattern=emf.MARK):
                    metrics.take(event["message"])
        return metrics

    def _events(self, group: str, **options: str) -> Iterable[Mapping[str, Any]]:
        for page in self._client.get_paginator("filter_log_events").paginate(logGroupName=group, **options):
            yield from page["events"]


def _line(event: Mapping[str, Any]) -> Line:
    try:
        document = json.loads(event["message"])
    except ValueError:
        document = {}
    return {**(document if isinstance(document, dict) else {}), TIMESTAMP: event["timestamp"]}


@dataclass(frozen=True)
class Page:
    """The page's HTML, and what could not be drawn in it: a line for each widget."""

    html: str
    problems: Sequence[str]

    def write(self, path: Path = PAGE) -> Path:
        """Writes the page; where it is."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self.html, encoding="utf-8")
        return path


def main(arguments: list[str] | None = None) -> int:
    """Writes the page; exit status 1 and a line for each reason where it can't, or where a widget is not drawn."""
    argparse.ArgumentParser(prog="make dashboards", description=__doc__).parse_args(arguments)
    try:
        connection = connect_local(load_placement().service)
        page = read(connection.client, connection.service, connection.stage)
        print(f"Written: {page.write().resolve().as_uri()}")
    except ControlPlaneError as error:
        print(error, file=sys.stderr)
        return 1
    except (ClientError, BotoCoreError) as error:
        print(explain(error), file=sys.stderr)
        return 1
    for problem in page.problems:
        print(problem, file=sys.stderr)
    return 1 if page.problems else 0


def read(clients: Clients, service: str, stage: str) -> Page:
    """The page of a stage in the local cloud."""
    return draw(deployed(clients, f"{service}-{stage}-platform"), Logs(clients), f"{service}, stage {stage}")


def deployed(clients: Clients, stack: str) -> list[Dashboard]:
    """The dashboards of a stack, in the template's order."""
    cloudwatch = clients("cloudwatch")
    return [
        Dashboard(name, cloudwatch.get_dashboard(DashboardName=name)["DashboardBody"])
        for page in clients("cloudformation").get_paginator("list_stack_resources").paginate(StackName=stack)
        for resource in page["StackResourceSummaries"]
        if resource["ResourceType"] == "AWS::CloudWatch::Dashboard"
        for name in [resource["PhysicalResourceId"]]
    ]


def draw(dashboards: Sequence[Dashboard], logs: Logs, of: str) -> Page:
    """The page. of: whose dashboards they are."""
    canvas = _Canvas(logs, dashboards)
    drawn = "".join(f"<h2>{escape(each.name)}</h2>{canvas.dashboard(each)}" for each in dashboards)
    html = f"""{charts.head(f"{of}: dashboards")}
<header class="plain"><h1>Dashboards</h1><p>{escape(of)}, local cloud. Times are in UTC.</p></header>
{drawn}
<footer>The widgets of the deployed dashboards, from the lines in the local cloud's log groups. Costs are estimates from
rates.toml.</footer></main></body></html>
"""
    return Page(html, canvas.problems)


class _Canvas:
    """Draws dashboards over one time, from the first line to the last."""

    def __init__(self, logs: Logs, dashboards: Sequence[Dashboard]) -> None:
        self._logs = logs
        self.problems: list[str] = []
        groups = {group for each in dashboards for group in _sources(each.body)}
        times = [line[TIMESTAMP] for group in groups for line in logs.lines(group)] + list(logs.metrics.times())
        self._span = (min(times, default=0), max(times, default=0))
        lines = [line for group in sorted(groups) for line in logs.lines(group)]
        rows = logs_insights.parse(_TENANTS).run(lines).rows
        self._tenants = [str(row["tenant_id"]) for row in rows if valid_tenant_id(str(row["tenant_id"]))]

    def dashboard(self, dashboard: Dashboard) -> str:
        variables = json.loads(dashboard.body).get("variables", [])
        if not variables:
            return self._widgets(dashboard.name, dashboard.body)
        (variable,) = variables
        if (variable["type"], variable["inputType"]) != ("pattern", "input"):
            self.problems.append(f"{dashboard.name}: a variable of another kind; expected a pattern that is typed in")
            return _refused(self.problems[-1])
        if not self._tenants:
            return "<p>Nothing to show: no tenant has used anything yet.</p>"
        # As CloudWatch does it: the pattern is replaced wherever it stands.
        name, label, left = escape(dashboard.name), escape(variable["label"]), len(self._tenants) - _MOST_TENANTS
        copies = "".join(
            f'<details name="{name}"{" open" if number == 0 else ""}><summary>{label}: {tenant}</summary>'
            f"{self._widgets(dashboard.name, dashboard.body.replace(variable['pattern'], tenant))}</details>"
            for number, tenant in enumerate(self._tenants[:_MOST_TENANTS])
        )
        return copies + (f"<p>{left} more tenants are not drawn.</p>" if left > 0 else "")

    def _widgets(self, name: str, body: str) -> str:
        widgets = sorted(json.loads(body)["widgets"], key=lambda widget: (widget["y"], widget["x"]))
        return f'<div class="board">{"".join(self._widget(name, widget) for widget in widgets)}</div>'

    def _widget(self, name: str, widget: Mapping[str, Any]) -> str:
        title = str(widget["properties"].get("title", ""))
        try:
            if widget["type"] == "metric":
                drawn = self._metrics(widget["properties"])
            elif widget["type"] == "log":
                drawn = self._query(widget["properties"])
            else:
                raise NotUnderstood(f"a widget of type {widget['type']}; expected metric or log")
        except NotUnderstood as error:
            self.problems.append(f"{name}: {title}: not drawn: {error}")
            drawn = _refused(f"Not drawn: {error}")
        place = f"grid-column:{int(widget['x']) + 1}/span {int(widget['width'])}"
        return f'<section style="{place}"><h3>{escape(title)}</h3>{drawn}</section>'

    def _metrics(self, properties: Mapping[str, Any]) -> str:
        period, series = self._logs.metrics.shown(properties)
        if not any(each.values for each in series):
            names = ", ".join(each.label for each in series) or properties["metrics"][0][0]["expression"]
            return f"<p>Nothing to show: no line of any log measured {escape(names)}.</p>"
        units = {each.unit for each in series if each.values}
        unit = units.pop() if len(units) == 1 else "None"
        statistics = {each.statistic for each in series}
        curves = [
            charts.Curve(
                each.label, each.values, "no data" if each.overall is None else charts.measured(each.overall, each.unit)
            )
            for each in series
        ]
        statistic = " and ".join(sorted(_STATISTICS.get(each, each) for each in statistics))
        says = f"{statistic} every {_width(period)}" + (", ms" if unit == "Milliseconds" else "")
        return charts.lines(curves, period, self._span, unit, says)

    def _query(self, properties: Mapping[str, Any]) -> str:
        query = logs_insights.parse(properties["query"])
        if query.source is None:
            raise NotUnderstood("a query without SOURCE; expected the log group's name")
        result = query.run(self._logs.lines(query.source))
        if not result.rows:
            return f"<p>Nothing to show: no line of the log has {escape(query.wanted)}.</p>"
        view = properties.get("view", "table")
        if view == "timeSeries":
            return self._over_time(query, result)
        cells = [_cells([row[column] for row in result.rows]) for column in result.numbers]
        head = [*result.groups, *result.numbers]
        names = [[_text(row[column]) for column in result.groups] for row in result.rows]
        if view == "bar":
            amounts = [Decimal(str(row[result.numbers[0]] or 0)) for row in result.rows]
            return charts.bars(
                [(", ".join(name), amount, value) for name, amount, value in zip(names, amounts, cells[0], strict=True)]
            )
        if view != "table":
            raise NotUnderstood(f"the view {view}; expected table, bar or timeSeries")
        rows = [[*name, *values] for name, values in zip(names, zip(*cells, strict=True), strict=True)]
        return charts.table(head, rows, range(len(result.groups), len(head)))

    def _over_time(self, query: Query, result: Result) -> str:
        if query.bin_ms is None or query.bin_column is None:
            raise NotUnderstood("timeSeries of a query without a bin; expected stats by bin(1h)")
        others = [column for column in result.groups if column != query.bin_column]
        curves: dict[str, dict[int, float]] = {}
        for row in result.rows:
            for column in result.numbers:
                name = " ".join([*(_text(row[other]) for other in others), *([column] if not others else [])])
                value = row[column]
                if isinstance(value, int | float):
                    curves.setdefault(name, {})[int(row[query.bin_column] or 0)] = value
        unit = "Milliseconds" if all(column.endswith("_ms") for column in result.numbers) else "None"
        says = f"every {_width(query.bin_ms)}" + (", ms" if unit == "Milliseconds" else "")
        drawn = [charts.Curve(name, curves[name]) for name in sorted(curves)]
        return charts.lines(drawn, query.bin_ms, self._span, unit, says)


def _sources(body: str) -> set[str]:
    """The log groups that the queries of a dashboard read."""
    sources = set()
    for widget in json.loads(body)["widgets"]:
        if widget["type"] == "log":
            try:
                sources.add(logs_insights.parse(widget["properties"]["query"]).source)
            except NotUnderstood:
                continue  # said where it is drawn
    return {source for source in sources if source is not None}


def _refused(text: str) -> str:
    return f'<p class="refused">{escape(text)}</p>'


def _width(milliseconds: int) -> str:
    minutes = milliseconds // 60_000
    if minutes % 60:
        return f"{minutes} min"
    return f"{minutes // 60} h" if minutes % 1440 else f"{minutes // 1440} d"


def _text(value: Value) -> str:
    return "" if value is None else str(value)


def _cells(values: Sequence[Value]) -> list[str]:
    """A column's numbers: whole ones as they are, others as amounts of money are written."""
    numbers = [value for value in values if isinstance(value, int | float)]
    if all(isinstance(value, int) for value in numbers):
        return [f"{value:,}" if isinstance(value, int) else _text(value) for value in values]
    return [charts.usd(Decimal(str(value))) if isinstance(value, int | float) else _text(value) for value in values]


if __name__ == "__main__":
    sys.exit(main())

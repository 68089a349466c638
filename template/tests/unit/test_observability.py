"""Every alarm, dashboard and saved query asks for what the code writes, by the names it writes it under."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from infra.deploy import PLATFORM
from local.template import parse
from saas_agent.functions import record_usage
from saas_agent.metering import record

from .fast_table import FastTable
from .test_ledger import Counted, model_call

TEMPLATE = parse(PLATFORM.read_text(encoding="utf-8"))
RESOURCES: dict[str, dict[str, Any]] = TEMPLATE["Resources"]

# What AWS measures of the resources that alarms watch (SQS and Lambda developer guides, CloudWatch metrics).
OF_AWS = {
    ("AWS/SQS", "ApproximateNumberOfMessagesVisible", ("QueueName",)),
    ("AWS/Lambda", "DeadLetterErrors", ("FunctionName",)),
}

# Of Logs Insights' language (CloudWatch Logs user guide, "CloudWatch Logs Insights language query syntax").
WORDS = {
    *("filter", "stats", "sort", "limit", "by", "as", "and", "or", "in", "not", "desc", "asc", "fields", "like"),
    *("sum", "avg", "min", "max", "count", "count_distinct", "pct", "bin", "SOURCE"),
}
COMMANDS = {"filter", "stats", "sort", "limit", "fields"}


def emitted() -> set[tuple[str, str, tuple[str, ...]]]:
    """Namespace, metric and dimensions of everything that the code has CloudWatch make a metric of."""
    lines = [record.start_refused("s", "s")]
    counter = Counted(FastTable())
    counter.count(model_call())
    lines += [json.dumps(line) for line in counter.lines]
    directives = [
        directive for line in lines for directive in json.loads(line).get("_aws", {}).get("CloudWatchMetrics", [])
    ]
    directives += [
        {"Namespace": record.NAMESPACE, "Dimensions": record.DIMENSIONS, "Metrics": [{"Name": name} for name in names]}
        for names in record.METRICS.values()
    ]
    return {
        (directive["Namespace"], metric["Name"], tuple(dimensions))
        for directive in directives
        for metric in directive["Metrics"]
        for dimensions in directive["Dimensions"]
    }


def log_fields() -> dict[str, set[str]]:
    """What a line of the ledger function's log holds, by kind of line."""
    counter = Counted(FastTable())
    counter.count(model_call())
    return {line["record"]: set(line) for line in counter.lines}


def of_type(name: str) -> list[tuple[str, dict[str, Any]]]:
    found = [(key, resource["Properties"]) for key, resource in RESOURCES.items() if resource["Type"] == name]
    assert found, name
    return found


def text(value: Any) -> str:
    """A text of the template; what it refers to is there, and stands as its name."""
    if isinstance(value, str):
        return value
    ((function, argument),) = value.items()
    assert function == "Fn::Sub", value
    for reference in re.findall(r"\$\{([\w:]+)\}", argument):
        known = {*RESOURCES, *TEMPLATE["Parameters"], "AWS::Region"}
        assert reference in known, reference
    return re.sub(r"\$\{([\w:]+)\}", r"\1", argument)


def widgets() -> Iterator[tuple[str, dict[str, Any]]]:
    for name, properties in of_type("AWS::CloudWatch::Dashboard"):
        for widget in json.loads(text(properties["DashboardBody"]))["widgets"]:
            yield f"{name}: {widget['properties']['title']}", widget


def metrics_of(widget: dict[str, Any]) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    for metric in widget["properties"]["metrics"]:
        if isinstance(metric[0], str):
            yield metric[0], metric[1], tuple(metric[2::2])
            continue
        search = re.fullmatch(
            r"SEARCH\('\{([\w-]+),([\w,]+)\} MetricName=\"(\w+)\"(.*)', '\w+', \d+\)", metric[0]["expression"]
        )
        assert search is not None, metric
        assert set(re.findall(r"(\w+)=", search[4])) < set(search[2].split(","))
        yield search[1], search[3], tuple(search[2].split(","))


def queries() -> Iterator[tuple[str, str]]:
    for name, widget in widgets():
        if widget["type"] == "log":
            source, query = widget["properties"]["query"].split(" | ", 1)
            assert source == "SOURCE 'LedgerLogs'"
            yield name, query
    for name, properties in of_type("AWS::Logs::QueryDefinition"):
        assert properties["LogGroupNames"] == [{"Ref": "LedgerLogs"}]
        yield name, properties["QueryString"]


def wrong_with(query: str, fields: dict[str, set[str]]) -> str | None:
    """What a query asks for that no line holds; None where all is there."""
    kind = re.match(r"filter record = '(\w+)'", query)
    if kind is None or kind[1] not in fields:
        return "it looks at no kind of line"
    known = set(fields[kind[1]])
    for command in query.split(" | "):
        if command.split()[0] not in COMMANDS:
            return command
        bare = re.sub(r"'[^']*'", "", command)
        names = set(re.findall(r"as (\w+)", bare))
        asked = set(re.findall(r"[A-Za-z_]\w*", re.sub(r"\b\d+[a-z]\b", "", bare))) - WORDS - names
        if asked - known:
            return f"no line holds {', '.join(sorted(asked - known))}"
        known |= names
    return None


def test_every_alarm_watches_a_metric_that_there_is() -> None:
    filters = [
        resource["Properties"] for resource in RESOURCES.values() if resource["Type"] == "AWS::Logs::MetricFilter"
    ]
    made = [metric for properties in filters for metric in properties["MetricTransformations"]]
    known = emitted() | OF_AWS | {(str(metric["MetricNamespace"]), metric["MetricName"], ()) for metric in made}
    for name, alarm in of_type("AWS::CloudWatch::Alarm"):
        dimensions = tuple(dimension["Name"] for dimension in alarm.get("Dimensions", []))
        assert (str(alarm["Namespace"]), alarm["MetricName"], dimensions) in known, name
        for dimension in alarm.get("Dimensions", []):
            reference = dimension["Value"].get("Ref") or dimension["Value"]["Fn::GetAtt"][0]
            assert reference in {*RESOURCES, *TEMPLATE["Parameters"]}


def test_every_widget_shows_metrics_that_there_are() -> None:
    shown = [
        (name, metric) for name, widget in widgets() if widget["type"] == "metric" for metric in metrics_of(widget)
    ]
    assert shown
    assert [(name, metric) for name, metric in shown if metric not in emitted()] == []


def test_every_query_asks_for_fields_that_lines_hold() -> None:
    found = dict(queries())
    assert found
    assert {name: wrong for name, query in found.items() if (wrong := wrong_with(query, log_fields()))} == {}


def test_each_value_that_a_query_compares_with_is_one_that_is_written() -> None:
    kinds, outcomes = set(record.METRICS), {record.OK}
    for _, query in queries():
        for field, value in re.findall(r"(kind|name) !?= '([^']*)'", query):
            assert value in (kinds if field == "kind" else outcomes), query
        for listed in re.findall(r"kind in \[([^\]]*)\]", query):
            assert set(re.findall(r"'(\w+)'", listed)) <= kinds


@pytest.mark.parametrize(
    "query",
    [
        "filter record = 'ledger_summ' | stats count()",
        "filter record = 'ledger_sum' | stats sum(costs_usd) as usd by tenant_id",
        "filter record = 'ledger_sum' | stats sum(cost_usd) as usd by tenant | sort usd desc",
        "filter record = 'ledger_sum' | stats sum(cost_usd) as usd by tenant_id | sort us desc",
        "filter record = 'ledger_batch' | stats sum(cost_usd) as usd",
    ],
)
def test_a_query_for_what_isnt_there_is_noticed(query: str) -> None:
    assert wrong_with(query, log_fields()) is not None


def test_what_the_function_measures_it_also_writes() -> None:
    assert set(record_usage.METRICS) < log_fields()[record_usage.BATCH]


def test_an_agent_without_isolation_is_an_alarm() -> None:
    line = json.loads(record.start_refused("desk", "dev"))
    assert (line["service"], line["stage"], line["StartsRefused"]) == ("desk", "dev", 1)
    alarms = {alarm["MetricName"] for _, alarm in of_type("AWS::CloudWatch::Alarm")}
    assert {
        "StartsRefused",
        "TokensRefused",
        "Denials",
        "Errors",
        "Throttles",
        "LedgerLagMs",
        "RecordsUnpriced",
    } <= alarms

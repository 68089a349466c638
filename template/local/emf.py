"""CloudWatch metrics out of log lines in the embedded metric format, and what a dashboard's widget shows of them.

Sources: CloudWatch user guide, "Specification: Embedded metric format", "Dashboard body structure and syntax" and "Use
search expressions in graphs".
"""

import json
import math
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .logs_insights import NotUnderstood

MARK = "CloudWatchMetrics"
"""A word of every such line."""

Dimensions = frozenset[tuple[str, str]]

_SEARCH = re.compile(r"SEARCH\('\{([\w/-]+),([\w,]+)\} (\w+=\"[^\"]*\"(?: \w+=\"[^\"]*\")*)', '(\w+)', (\d+)\)")
_PERCENTILE = re.compile(r"p(\d{1,2})")
_KNOWN = {"title", "region", "stat", "period", "metrics"}


@dataclass(frozen=True)
class Series:
    """One line of a widget.

    values: start of a period, in milliseconds -> the statistic. overall: the statistic of all; None without values.
    unit: as CloudWatch names it.
    """

    label: str
    unit: str
    statistic: str
    values: Mapping[int, float]
    overall: float | None


class Metrics:
    """Everything that log lines have CloudWatch make a metric of."""

    def __init__(self) -> None:
        self._points: dict[tuple[str, str, Dimensions], list[tuple[int, float]]] = defaultdict(list)
        self._units: dict[tuple[str, str], str] = {}

    def take(self, line: str) -> None:
        """Adds what a line measures; a line of another form measures nothing, as in CloudWatch."""
        try:
            document = json.loads(line)
            header = document["_aws"]
            for directive in header["CloudWatchMetrics"]:
                for metric in directive["Metrics"]:
                    self._measure(document, header["Timestamp"], directive, metric)
        except (ValueError, KeyError, TypeError):
            return

    def _measure(self, document: Any, at: int, directive: Any, metric: Any) -> None:
        value = document[metric["Name"]]
        values = [float(each) for each in (value if isinstance(value, list) else [value])]
        self._units[directive["Namespace"], metric["Name"]] = metric.get("Unit", "None")
        for names in directive["Dimensions"]:
            dimensions = frozenset((name, str(document[name])) for name in names)
            points = self._points[directive["Namespace"], metric["Name"], dimensions]
            points += [(at, each) for each in values]

    def times(self) -> Iterator[int]:
        """When anything was measured, in milliseconds."""
        return (at for points in self._points.values() for at, _ in points)

    def shown(self, properties: Mapping[str, Any]) -> tuple[int, list[Series]]:
        """What a metric widget shows: the width of its periods in milliseconds, and its lines.

        A metric that nobody measured is a line without values. NotUnderstood where the widget uses what is not known.
        """
        if unknown := properties.keys() - _KNOWN:
            raise NotUnderstood(
                f"{', '.join(sorted(unknown))} of a metric widget; expected {', '.join(sorted(_KNOWN))}"
            )
        periods, lines = set(), []
        for entry in properties["metrics"]:
            if isinstance(entry[0], str):
                period = int(properties["period"])
                lines.append(self._line(entry, properties["stat"], period))
            else:
                period, found = self._search(entry[0])
                lines += found
            periods.add(period * 1000)
        if len(periods) != 1:
            raise NotUnderstood("periods of several widths in one widget; expected one")
        return periods.pop(), lines

    def _line(self, entry: Sequence[Any], statistic: str, period: int) -> Series:
        if len(entry) % 2 or not all(isinstance(part, str) and not re.fullmatch(r"\.+", part) for part in entry):
            raise NotUnderstood(f"{entry} of a metric widget; expected namespace, metric, and dimensions with values")
        namespace, name, *rest = entry
        dimensions = frozenset(zip(rest[::2], rest[1::2], strict=True))
        return self._series(name, (namespace, name, dimensions), statistic, period)

    def _search(self, entry: Mapping[str, Any]) -> tuple[int, list[Series]]:
        """Every metric of exactly these dimensions that the values hold for, named by the dimensions that are left."""
        found = _SEARCH.fullmatch(entry.get("expression", ""))
        if found is None:
            raise NotUnderstood(f"{entry} of a metric widget; expected one SEARCH by dimensions, statistic and period")
        namespace, names, terms, statistic, period = found.groups()
        wanted = dict(re.findall(r"(\w+)=\"([^\"]*)\"", terms))
        metric = wanted.pop("MetricName", None)
        lines = []
        for key in self._points:
            dimensions = dict(key[2])
            if (key[0], key[1], set(dimensions)) != (namespace, metric, set(names.split(","))):
                continue
            if all(dimensions.get(name) == value for name, value in wanted.items()):
                label = " ".join(value for name, value in sorted(dimensions.items()) if name not in wanted)
                lines.append(self._series(label, key, statistic, int(period)))
        return int(period), sorted(lines, key=lambda series: series.label)

    def _series(self, label: str, key: tuple[str, str, Dimensions], statistic: str, period: int) -> Series:
        reduce = _statistic(statistic)
        points = self._points.get(key, [])
        periods: dict[int, list[float]] = defaultdict(list)
        for at, value in points:
            periods[at // (period * 1000) * period * 1000].append(value)
        values = {start: reduce(periods[start]) for start in sorted(periods)}
        everything = [value for _, value in points]
        unit = self._units.get(key[:2], "None")
        return Series(label, unit, statistic, values, reduce(everything) if everything else None)


def _statistic(name: str) -> Callable[[Sequence[float]], float]:
    """The statistic over all that was measured in a time. A percentile is the least value that so many don't exceed."""
    if name == "Sum":
        return math.fsum
    if name == "Maximum":
        return max
    if found := _PERCENTILE.fullmatch(name):
        percent = int(found[1])
        return lambda values: sorted(values)[max(0, math.ceil(len(values) * percent / 100) - 1)]
    raise NotUnderstood(f"the statistic {name} of a metric widget; expected Sum, Maximum or a percentile as p95")

"""CloudWatch Logs Insights, as much of it as the dashboards and saved queries of this repository use.

`SOURCE`, `filter`, `stats`, `sort` and `limit`; sums, largest values and distinct counts by field and by `bin`.
Anything else is refused, not passed over: a widget that shows other numbers than the console's is worse than none.

Source: CloudWatch Logs user guide, "CloudWatch Logs Insights language query syntax".
"""

import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Line = Mapping[str, Any]
"""A line of a log: `@timestamp` in milliseconds since 1970, and the fields of its JSON."""

Value = int | float | str | None
Row = dict[str, Value]
"""One row of a result, by column."""

TIMESTAMP = "@timestamp"

_TOKEN = re.compile(r"\s*(?:('[^']*')|(\d+[smhd])\b|(\d+(?:\.\d+)?)\b|(@?[A-Za-z_]\w*)|(!=|<=|>=|[-+*/()\[\],=<>]))")
_MILLISECONDS = {"s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_COMPARISONS: Mapping[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_ARITHMETIC: Sequence[Mapping[str, Callable[[Any, Any], Any]]] = (
    {"+": operator.add, "-": operator.sub},
    {"*": operator.mul, "/": operator.truediv},
)
_AGGREGATES: Mapping[str, Callable[[list[Any]], Value]] = {
    "sum": sum,
    "max": max,
    "count_distinct": lambda values: len(set(values)),
}


class NotUnderstood(ValueError):
    """What the local drawing of dashboards does not know. One line: what, and what it expected."""


@dataclass(frozen=True)
class Result:
    """What a query found. groups, numbers: the columns, those of `by` and those of `stats`."""

    groups: Sequence[str]
    numbers: Sequence[str]
    rows: Sequence[Row]


@dataclass(frozen=True)
class Query:
    """A query that was understood.

    source: the log group of its SOURCE, None where it has none. wanted: its filters, as they are written. bin_ms: the
    width of the times that it groups by, with the column that has them; None where it groups by no time.
    """

    source: str | None
    wanted: str
    bin_ms: int | None
    bin_column: str | None
    _steps: Sequence[Callable[[Sequence[Any]], Sequence[Any]]]
    _groups: Sequence[str]
    _numbers: Sequence[str]

    def run(self, lines: Iterable[Line]) -> Result:
        """The result over these lines."""
        rows: Sequence[Any] = list(lines)
        for step in self._steps:
            rows = step(rows)
        return Result(self._groups, self._numbers, rows)


def parse(text: str) -> Query:
    """The query in a text; NotUnderstood where it uses what is not known here."""
    commands = [command.strip() for command in re.split(r"\|(?=(?:[^']*'[^']*')*[^']*$)", text)]
    source = None
    if found := re.fullmatch(r"SOURCE '([^']+)'", commands[0]):
        source = found[1]
        del commands[0]
    steps: list[Callable[[Sequence[Any]], Sequence[Any]]] = []
    wanted: list[str] = []
    stats: _Stats | None = None
    for command in commands:
        words = _Words(command)
        word = words.take()
        if word == "filter" and stats is None:
            steps.append(_filter(words))
            wanted.append(command.removeprefix("filter").strip())
        elif word == "stats" and stats is None:
            stats = _Stats.read(words)
            steps.append(stats.run)
        elif word == "sort" and stats is not None:
            steps.append(_sort(words, [*stats.groups, *stats.numbers]))
        elif word == "limit" and stats is not None:
            steps.append(_limit(words))
        else:
            raise NotUnderstood(f"{command!r} in a query; expected filter, then one stats, then sort and limit")
        words.end()
    if stats is None:
        raise NotUnderstood(f"a query without stats: {text!r}; expected one")
    bins = [(column, width) for column, width in stats.bins.items() if width is not None]
    column, width = bins[0] if bins else (None, None)
    return Query(source, " and ".join(wanted), width, column, steps, list(stats.groups), list(stats.numbers))


class _Words:
    """The words of a command, one after the other."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._words: list[str] = []
        position = 0
        while position < len(text.rstrip()):
            found = _TOKEN.match(text, position)
            if found is None:
                raise NotUnderstood(f"{text[position:].strip()!r} in {text!r}; expected what the shipped queries use")
            self._words.append(found.group().strip())
            position = found.end()

    def next(self) -> str:
        """The next word, which stays; empty at the end."""
        return self._words[0] if self._words else ""

    def take(self, *expected: str) -> str:
        """The next word, one of those expected."""
        word = self.next()
        if not word or (expected and word not in expected):
            raise self.wrong(" or ".join(expected) or "another word")
        return self._words.pop(0)

    def matching(self, pattern: str, what: str) -> str:
        """The next word, of that form."""
        if not re.fullmatch(pattern, self.next()):
            raise self.wrong(what)
        return self._words.pop(0)

    def name(self) -> str:
        """The next word, a field's name."""
        return self.matching(r"@?[A-Za-z_]\w*", "a field")

    def end(self) -> None:
        """Refuses what is left."""
        if self._words:
            raise self.wrong("its end")

    def wrong(self, expected: str) -> NotUnderstood:
        """What to raise where another word was expected."""
        return NotUnderstood(f"{self.next() or 'the end'!r} in {self._text!r}; expected {expected}")


# --- filter, sort, limit ----------------------------------------------------------------------------


def _filter(words: _Words) -> Callable[[Sequence[Line]], Sequence[Line]]:
    tests = [_comparison(words)]
    while words.next() == "and":
        words.take()
        tests.append(_comparison(words))
    return lambda lines: [line for line in lines if all(test(line) for test in tests)]


def _comparison(words: _Words) -> Callable[[Line], bool]:
    name = words.name()
    sign = words.take(*_COMPARISONS, "in")
    if sign == "in":
        words.take("[")
        listed = [_literal(words)]
        while words.take(",", "]") == ",":
            listed.append(_literal(words))
        return lambda line: line.get(name) in listed
    compare, value = _COMPARISONS[sign], _literal(words)
    # Of what a line lacks, and of another kind of value, nothing holds.
    return lambda line: _alike(line.get(name), value) and compare(line[name], value)


def _alike(one: object, other: object) -> bool:
    return isinstance(one, str) == isinstance(other, str) and isinstance(one, str | int | float)


def _literal(words: _Words) -> str | float:
    word = words.matching(r"'[^']*'|\d+(?:\.\d+)?", "a text in single quotes or a number")
    return word[1:-1] if word.startswith("'") else float(word)


def _sort(words: _Words, columns: Sequence[str]) -> Callable[[Sequence[Row]], Sequence[Row]]:
    column = words.name()
    if column not in columns:
        raise NotUnderstood(f"sort by {column}; expected one of {', '.join(columns)}")
    descending = (words.take("desc", "asc") if words.next() else "asc") == "desc"

    def sort(rows: Sequence[Row]) -> Sequence[Row]:
        known: list[Any] = [row for row in rows if row[column] is not None]
        known.sort(key=lambda row: row[column], reverse=descending)
        return known + [row for row in rows if row[column] is None]

    return sort


def _limit(words: _Words) -> Callable[[Sequence[Row]], Sequence[Row]]:
    most = int(words.matching(r"\d+", "a whole number"))
    return lambda rows: rows[:most]


# --- stats ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Stats:
    """numbers: column -> its value over a group's lines. groups: column -> its value in a line. bins: their widths."""

    numbers: Mapping[str, Callable[[list[Line]], Value]]
    groups: Mapping[str, Callable[[Line], Value]]
    bins: Mapping[str, int | None]

    @classmethod
    def read(cls, words: _Words) -> "_Stats":
        numbers: dict[str, Callable[[list[Line]], Value]] = {}
        groups: dict[str, Callable[[Line], Value]] = {}
        bins: dict[str, int | None] = {}
        while True:
            value = _arithmetic(words, _aggregate)
            words.take("as")
            numbers[words.name()] = value
            if words.next() != ",":
                break
            words.take()
        while words.next():
            words.take(",") if groups else words.take("by")
            column, get, width = _group(words)
            groups[column], bins[column] = get, width
        return cls(numbers, groups, bins)

    def run(self, lines: Sequence[Line]) -> list[Row]:
        """A row for each group, in the order in which they come up."""
        grouped: dict[tuple[Value, ...], list[Line]] = {}
        for line in lines:
            grouped.setdefault(tuple(get(line) for get in self.groups.values()), []).append(line)
        return [
            {
                **dict(zip(self.groups, key, strict=True)),
                **{column: value(members) for column, value in self.numbers.items()},
            }
            for key, members in grouped.items()
        ]


def _group(words: _Words) -> tuple[str, Callable[[Line], Value], int | None]:
    name = words.name()
    if name != "bin":
        return name, lambda line: line.get(name), None
    words.take("(")
    text = words.matching(r"\d+[smhd]", "a width as 1h")
    words.take(")")
    width = int(text[:-1]) * _MILLISECONDS[text[-1]]
    return f"bin({text})", lambda line: line[TIMESTAMP] // width * width, width


def _aggregate(words: _Words) -> Callable[[list[Line]], Any]:
    name = words.take(*_AGGREGATES)
    words.take("(")
    inner = _arithmetic(words, _field)
    words.take(")")
    reduce = _AGGREGATES[name]

    def value(lines: list[Line]) -> Value:
        values = [found for found in map(inner, lines) if found is not None]
        return reduce(values) if values else None

    return value


def _field(words: _Words) -> Callable[[Line], Any]:
    name = words.name()
    if words.next() == "(":
        raise NotUnderstood(f"the function {name} of a field; expected {', '.join(_AGGREGATES)} of one")
    return lambda line: line.get(name)


def _arithmetic(words: _Words, leaf: Callable[[_Words], Callable[[Any], Any]], level: int = 0) -> Callable[[Any], Any]:
    """Sums of products of leaves; without a value where a part has none, or is divided by zero."""
    if level == len(_ARITHMETIC):
        return leaf(words)
    value = _arithmetic(words, leaf, level + 1)
    while words.next() in _ARITHMETIC[level]:
        value = _both(_ARITHMETIC[level][words.take()], value, _arithmetic(words, leaf, level + 1))
    return value


def _both(
    operation: Callable[[Any, Any], Any], left: Callable[[Any], Any], right: Callable[[Any], Any]
) -> Callable[[Any], Any]:
    def value(of: Any) -> Any:
        one, other = left(of), right(of)
        if one is None or other is None or (operation is operator.truediv and other == 0):
            return None
        return operation(one, other)

    return value

"""What the pages of usage and of the dashboards are drawn with: HTML and SVG that ask the network for nothing.

Every chart has its numbers beside it, and its lines differ by more than their colour.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from html import escape
from pathlib import Path

NOTHING = "<p>Nothing was used.</p>"

_STYLE = Path(__file__).with_name("report.css")
_USD = Decimal("0.0001")
_COLORS = 6  # of report.css; a seventh line has the first one's colour, and is dashed


def head(title: str) -> str:
    """The page's beginning, up to its content."""
    style = _STYLE.read_text(encoding="utf-8")
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">
<title>{escape(title)}</title><style>{style}</style></head><body><main>"""


def bars(entries: Sequence[tuple[str, Decimal, str]]) -> str:
    """A bar for each (name, amount, amount as text)."""
    if not entries:
        return NOTHING
    longest = max(amount for _, amount, _ in entries) or Decimal(1)
    lines = "".join(
        f'<li><span>{escape(name)}</span><i><i style="width:{amount * 100 / longest:.2f}%"></i></i><b>{value}</b></li>'
        for name, amount, value in entries
    )
    return f'<ul class="bars">{lines}</ul>'


def details(summary: str, head: Sequence[str], rows: Sequence[Sequence[str]], numbers: range) -> str:
    """A table that is opened by a click."""
    return f"<details><summary>{summary}</summary>{table(head, rows, numbers)}</details>"


def table(head: Sequence[str], rows: Sequence[Sequence[str]], numbers: range) -> str:
    """A table. numbers: the columns that hold numbers."""

    def cells(tag: str, row: Sequence[str]) -> str:
        return "".join(
            f"<{tag}{' class=n' if number in numbers else ''}>{escape(text)}</{tag}>" for number, text in enumerate(row)
        )

    body = "".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{cells("th", head)}</tr></thead><tbody>{body}</tbody></table></div>'


@dataclass(frozen=True)
class Curve:
    """A line of a chart over time. values: start of a period, in milliseconds -> value. said: what the legend adds."""

    label: str
    values: Mapping[int, float]
    said: str = ""


def lines(curves: Sequence[Curve], period: int, span: tuple[int, int], unit: str, says: str) -> str:
    """Curves over time, with a legend, and their numbers.

    period: width of the times in milliseconds. span: the first and the last millisecond. unit: as CloudWatch names it.
    says: what a value is, as "sum of 5 minutes".
    """
    first, last = (at // period * period for at in span)
    times = range(first, last + period, period)
    highest = _round(max((value for curve in curves for value in curve.values.values()), default=0))
    paths = "".join(_path(number, curve, times, highest) for number, curve in enumerate(curves))
    legend = "".join(
        f'<span><svg viewBox="0 0 20 8" aria-hidden="true"><path class="{_kind(number)}" d="M1 4h18"/></svg>'
        + escape(curve.label)
        + (f" <b>{escape(curve.said)}</b></span>" if curve.said else "</span>")
        for number, curve in enumerate(curves)
    )
    scale = "".join(f"<span>{_measured(highest * part, unit)}</span>" for part in (1, 0.5, 0))
    rows = [
        [_time(at), *(f"{curve.values[at]:,.6g}" if at in curve.values else "" for curve in curves)]
        for at in times
        if any(at in curve.values for curve in curves)
    ]
    labels = [curve.label for curve in curves]
    return (
        f'<p class="legend">{legend}</p><div class="plot"><p>{scale}</p>'
        f'<svg viewBox="0 0 100 100" preserveAspectRatio="none" role="img" aria-label="{escape(", ".join(labels))}">'
        f'<path class="grid" d="M0 0h100M0 50h100M0 100h100"/>{paths}</svg></div>'
        f'<p class="axis"><span>{_time(first)}</span><span>{_time(last + period)}</span></p>'
        + details(f"Numbers: {escape(says)}", ["From", *labels], rows, range(1, 1 + len(labels)))
    )


def _path(number: int, curve: Curve, times: range, highest: float) -> str:
    """Points of neighbouring times are joined; one without neighbours is a dash, as wide as its time."""
    parts, width = [], 100 / len(times)
    for position, at in enumerate(times):
        if at not in curve.values:
            continue
        x, y = (position + 0.5) * width, 100 - curve.values[at] * 100 / highest
        if at - times.step in curve.values:
            parts.append(f"L{x:.2f} {y:.2f}")
        elif at + times.step in curve.values:
            parts.append(f"M{x:.2f} {y:.2f}")
        else:
            parts.append(f"M{x - width / 2:.2f} {y:.2f}h{width:.2f}")
    return f'<path class="{_kind(number)}" d="{"".join(parts)}"/>' if parts else ""


def _kind(number: int) -> str:
    return f"s{number % _COLORS}" + (" dashed" if number >= _COLORS else "")


def _round(highest: float) -> float:
    """The next higher number that is easy to read."""
    if highest <= 0:
        return 1
    power: float = 10 ** math.floor(math.log10(highest))
    return next(step * power for step in (1, 2, 4, 6, 8, 10) if step * power >= highest)


def _measured(value: float, unit: str) -> str:
    if unit == "Milliseconds":
        return f"{value / 1000:,.4g} s" if value >= 1000 else f"{value:.4g} ms"
    return short(value).replace(".0 ", " ")


def measured(value: float, unit: str) -> str:
    """A number with its unit, as CloudWatch names it; a count has none."""
    return f"{value:,.6g} ms" if unit == "Milliseconds" else f"{value:,.10g}"


def _time(milliseconds: int) -> str:
    return f"{datetime.fromtimestamp(milliseconds / 1000, UTC):%d %b %H:%M}"


def usd(amount: Decimal) -> str:
    """US dollars in digits: four decimals below one dollar, two above."""
    return f"{amount.quantize(_USD if amount < 1 else Decimal('0.01')):,}"


def count(number: int) -> str:
    """A whole number in digits."""
    return f"{number:,}"


def short(number: float) -> str:
    """A number in at most four digits: 1.2 M."""
    for size, unit in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if number >= size:
            return f"{number / size:.1f} {unit}"
    return f"{number:.4g}"

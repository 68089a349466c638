"""`make report`: what tenants used and cost, as one HTML page that needs nothing else; from the ledger.

Readable on a phone, light and dark. Every chart has its numbers beside it; nothing in the page asks the network.
"""

import argparse
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from datetime import date, timedelta
from decimal import Decimal
from html import escape
from pathlib import Path
from typing import TypeVar

from botocore.exceptions import BotoCoreError, ClientError

from local import charts
from saas_agent.control_plane.connection import connect, connect_local, explain
from saas_agent.control_plane.errors import ControlPlaneError
from saas_agent.control_plane.operations import utc_now
from saas_agent.control_plane.report import Month
from saas_agent.metering.ledger import BOUNDS_MS, NOBODY, LedgerReader, Row
from saas_agent.metering.rates import Tokens
from saas_agent.metering.record import OK
from saas_agent.tenancy.placement import load_placement
from saas_agent.tenancy.tiers import load_tiers

PAGE = Path("build") / "usage.html"

Key = TypeVar("Key")
Amount = TypeVar("Amount", int, Decimal)

_MOST = 20  # bars of a chart; the tables have everybody


@dataclass(frozen=True)
class Usage:
    """A month of the ledger, as the page shows it."""

    service: str
    stage: str
    month: str
    rows: Sequence[Row]
    rejected: int


def main(arguments: list[str] | None = None) -> int:
    """Writes the page; exit status 1 and one line where the ledger can't be read."""
    parser = argparse.ArgumentParser(prog="make report", description=__doc__)
    parser.add_argument("--stage", help="the stage on AWS (default: the local cloud that `make serve` keeps running)")
    parser.add_argument("--month", metavar="YYYY-MM", help="default: this month, in UTC")
    options = parser.parse_args(arguments)
    placement = load_placement()
    try:
        month = Month.parse(options.month) if options.month else Month.of(utc_now())
        if options.stage:
            connection = connect(placement.service, placement.region, options.stage)
        else:
            connection = connect_local(placement.service)
        ledger = LedgerReader(connection.client("dynamodb"), connection.output("LedgerTable"))
        print(f"Written: {write(read(ledger, connection.service, connection.stage, month)).resolve().as_uri()}")
    except ControlPlaneError as error:
        print(error, file=sys.stderr)
        return 1
    except (ClientError, BotoCoreError) as error:
        print(explain(error), file=sys.stderr)
        return 1
    return 0


def read(ledger: LedgerReader, service: str, stage: str, month: Month) -> Usage:
    """The month, from the ledger of a stage."""
    rejected = sum(ledger.rejected(str(month)).values())
    return Usage(service, stage, str(month), list(ledger.rows(str(month))), rejected)


def write(usage: Usage, path: Path = PAGE) -> Path:
    """Writes the page; where it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page(usage), encoding="utf-8")
    return path


def page(usage: Usage) -> str:
    """The page's HTML."""
    rows = usage.rows
    unpriced = sum(row.unpriced for row in rows)
    tiles = [
        (charts.usd(sum((row.cost_usd for row in rows), Decimal(0))), "estimated cost, US dollars"),
        (charts.short(sum(map(_tokens, rows))), "tokens"),
        (f"{sum(row.calls for row in rows if row.kind == 'invocation'):,}", "requests"),
        (str(len({row.tenant_id for row in rows} - {NOBODY})), "tenants"),
    ]
    notes = [f"{unpriced} records have no price, so costs are a lower bound."] if unpriced else []
    notes += [f"{usage.rejected} lines of the log were no good and are not counted."] if usage.rejected else []
    return f"""{charts.head(f"{usage.service}: usage and cost")}
<header class="plain"><h1>Usage and cost, {escape(usage.month)}</h1>
<p>{escape(usage.service)}, stage {escape(usage.stage)}. {escape(" ".join(notes))}</p></header>
<section class="tiles">{"".join(f"<div><b>{value}</b><span>{label}</span></div>" for value, label in tiles)}</section>
<h2>Cost per tenant</h2>{_cost_per_tenant(rows)}
<h2>Feature cost per tier</h2>{_feature_cost_per_tier(rows)}
<h2>Tokens over time</h2>{_tokens_over_time(rows)}
<h2>Latency of requests</h2>{_latency(rows)}
<h2>Requests that were refused or failed</h2>{_refusals(rows)}
<footer>From the ledger's sums. Costs are estimates from rates.toml; latency is read from counts by duration, so a
percentile is the bound that it doesn't exceed.</footer></main></body></html>
"""


# --- The parts --------------------------------------------------------------------------------------


def _cost_per_tenant(rows: Sequence[Row]) -> str:
    costs = _sums(rows, lambda row: row.tenant_id, lambda row: row.cost_usd)
    tokens = _sums(rows, lambda row: row.tenant_id, _tokens)
    tiers = {row.tenant_id: row.tier for row in rows}
    ranked = sorted(costs, key=lambda tenant: (-costs[tenant], tenant))
    bars = [(tenant, costs[tenant], charts.usd(costs[tenant])) for tenant in ranked[:_MOST] if tenant != NOBODY]
    table = [[tenant, tiers[tenant], charts.count(tokens[tenant]), charts.usd(costs[tenant])] for tenant in ranked]
    return charts.bars(bars) + charts.details(
        "All tenants", ["Tenant", "Tier", "Tokens", "US dollars"], table, range(2, 4)
    )


def _feature_cost_per_tier(rows: Sequence[Row]) -> str:
    costs = _sums(rows, lambda row: (row.tier, row.feature), lambda row: row.cost_usd)
    order = {name: number for number, name in enumerate(load_tiers())}
    keys = sorted(costs, key=lambda key: (order.get(key[0], len(order)), -costs[key]))
    bars = [(f"{tier}, {feature}", costs[tier, feature], charts.usd(costs[tier, feature])) for tier, feature in keys]
    return charts.bars([bar for bar in bars if bar[1]])


def _tokens_over_time(rows: Sequence[Row]) -> str:
    days = _days(rows)
    if not days:
        return charts.NOTHING
    tiers = [name for name in load_tiers() if any(row.tier == name and _tokens(row) for row in rows)]
    sums = _sums(rows, lambda row: (row.day, row.tier), _tokens)
    highest = max(sum(sums.get((day, tier), 0) for tier in tiers) for day in days) or 1
    columns = []
    for day in days:
        parts = [(number, sums.get((day, tier), 0)) for number, tier in enumerate(tiers)]
        told = ", ".join(f"{tiers[number]} {charts.count(amount)}" for number, amount in parts if amount) or "none"
        blocks = "".join(
            f'<i class="t{number}" style="height:{amount * 100 / highest:.3f}%"></i>'
            for number, amount in parts
            if amount
        )
        columns.append(f'<div title="{day}: {escape(told)}">{blocks}</div>')
    legend = "".join(f'<span><i class="t{number}"></i>{escape(tier)}</span>' for number, tier in enumerate(tiers))
    table = [[str(day), *(charts.count(sums.get((day, tier), 0)) for tier in tiers)] for day in days]
    return (
        f'<p class="legend">{legend}<span class="top">{charts.short(highest)} tokens at the top</span></p>'
        f'<div class="columns" role="img" aria-label="Tokens by day and tier">{"".join(columns)}</div>'
        f'<p class="axis"><span>{days[0]}</span><span>{days[-1]}</span></p>'
        + charts.details("By day", ["Day", *tiers], table, range(1, 1 + len(tiers)))
    )


def _latency(rows: Sequence[Row]) -> str:
    table = []
    for tenant in sorted({row.tenant_id for row in rows if row.kind == "invocation"} - {NOBODY}):
        own = [row for row in rows if row.tenant_id == tenant and row.kind == "invocation"]
        calls = sum(row.calls for row in own)
        durations = [sum(counts) for counts in zip(*(row.durations for row in own), strict=True)]
        mean = sum(row.latency_ms for row in own) / calls
        table.append(
            [tenant, charts.count(calls), f"{mean:,.0f} ms", percentile(durations, 50), percentile(durations, 95)]
        )
    return charts.table(["Tenant", "Requests", "Mean", "50 % within", "95 % within"], table, range(1, 5))


def _refusals(rows: Sequence[Row]) -> str:
    bad = [row for row in rows if row.kind == "invocation" and row.name != OK]
    counts = _sums(bad, lambda row: (row.tenant_id, row.tier, row.name), lambda row: row.calls)
    table = [[*key, charts.count(count)] for key, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))]
    return charts.table(["Tenant", "Tier", "How it ended", "Requests"], table, range(3, 4)) if table else "<p>None.</p>"


def percentile(durations: Sequence[int], percent: int) -> str:
    """The bound within which so many percent of the invocations were answered. durations: how many, by BOUNDS_MS."""
    wanted, seen = sum(durations) * percent / 100, 0
    for bound, count in zip(BOUNDS_MS, durations, strict=False):
        seen += count
        if seen >= wanted:
            return f"{bound:,} ms" if bound < 1000 else f"{bound / 1000:g} s"
    return f"over {BOUNDS_MS[-1] / 1000:g} s"


# --- Numbers ----------------------------------------------------------------------------------------


def _sums(rows: Iterable[Row], key: Callable[[Row], Key], amount: Callable[[Row], Amount]) -> dict[Key, Amount]:
    sums: dict[Key, Amount] = {}
    for row in rows:
        found = key(row)
        sums[found] = sums[found] + amount(row) if found in sums else amount(row)
    return sums


def _days(rows: Sequence[Row]) -> list[date]:
    """Every day from the first to the last on which anything was used."""
    used = {row.day for row in rows}
    if not used:
        return []
    return [min(used) + timedelta(days=number) for number in range((max(used) - min(used)).days + 1)]


def _tokens(row: Row) -> int:
    return sum(getattr(row.tokens, part.name) for part in fields(Tokens))


if __name__ == "__main__":
    sys.exit(main())

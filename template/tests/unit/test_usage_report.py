"""Usage, bills and reconciliation from the ledger's rows: exact sums by dated prices."""

from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from saas_agent.control_plane.errors import ControlPlaneError
from saas_agent.control_plane.report import Month, bill, read_export, reconcile, usage_report
from saas_agent.metering.ledger import NOBODY, Row
from saas_agent.metering.rates import RUNTIME, OperationRate, Rate, RateCard, Tokens

NOVEMBER = Month(2026, 11)
MODEL = "maker.model-v1:0"
MILLION = 1_000_000


def model_calls(tenant_id: str = "acme", day: int = 24, **fields: Any) -> Row:
    row = Row(
        tenant_id, date(2026, 11, day), "basic", "support_desk", "model_call", MODEL,
        calls=2, tokens=Tokens(MILLION, 20, 3, 4), cost_usd=Decimal("0.1"),
    )  # fmt: skip
    return replace(row, **fields)


def other(kind: Any, name: str, calls: int, **fields: Any) -> Row:
    return model_calls(kind=kind, name=name, calls=calls, **{"tokens": Tokens(), "cost_usd": Decimal(0), **fields})


def rate(start: date, price: str) -> Rate:
    return Rate(MODEL, "*", start, Decimal(price), Decimal(0), Decimal(0), Decimal(0))


def card(*rates: Rate) -> RateCard:
    start = date(2026, 1, 1)
    prices = {RUNTIME: "0.0000076", "memory.CreateEvent": "0.25"}
    return RateCard(rates, operations=[OperationRate(name, "*", start, Decimal(text)) for name, text in prices.items()])


def test_a_months_rows_are_summed_by_tenant_tier_and_feature() -> None:
    rows = usage_report(
        [
            model_calls("globex"),
            model_calls("acme2"),
            model_calls(tier="premium"),
            model_calls(feature="search"),
            model_calls(day=1),
            model_calls(name="another", unpriced=1, cost_usd=Decimal("0.2")),
            other("invocation", "ok", 3, latency_ms=90),
            other("invocation", "limit_reached", 1, errors=1, latency_ms=1),
            other("tool_call", "lookup", 5),
            other("memory_operation", "memory.CreateEvent", 6),
            other("retrieval", "memory.RetrieveMemoryRecords", 7),
        ],
        NOVEMBER,
    )
    assert [(row.tenant_id, row.tier, row.feature) for row in rows] == [
        ("acme", "basic", "search"),
        ("acme", "basic", "support_desk"),
        ("acme", "premium", "support_desk"),
        ("acme2", "basic", "support_desk"),
        ("globex", "basic", "support_desk"),
    ]
    acme = rows[1]
    assert (acme.invocations, acme.not_ok, acme.runtime_ms) == (4, 1, 91)
    assert (acme.model_calls, acme.tool_calls, acme.memory_operations, acme.retrievals) == (4, 5, 6, 7)
    assert (acme.tokens, acme.cost, acme.unpriced) == (Tokens(2 * MILLION, 40, 6, 8), Decimal("0.3"), 1)


def test_who_was_refused_before_their_tenant_was_known_has_a_row_without_a_tenant() -> None:
    rows = usage_report([other("invocation", "invalid_token", 2, tenant_id=NOBODY)], NOVEMBER)
    assert [(row.tenant_id, row.not_ok) for row in rows] == [("", 2)]


def test_each_day_is_billed_by_the_entry_that_held_on_it() -> None:
    drawn = bill(
        [model_calls(day=9), model_calls(day=10), model_calls(day=11)],
        card(rate(date(2026, 1, 1), "1.00"), rate(date(2026, 11, 10), "3.00")),
    )
    assert [(line.priced_from, line.prices["input"], line.amount) for line in drawn.lines] == [
        (date(2026, 1, 1), Decimal("1.00"), Decimal(1)),
        (date(2026, 11, 10), Decimal("3.00"), Decimal(6)),
    ]
    assert (drawn.amount, drawn.total, drawn.metered) == (Decimal(7), Decimal("7.00"), Decimal("0.3"))


def test_a_price_that_came_later_is_charged_and_calls_that_told_no_tokens_stay_unpriced() -> None:
    missing = model_calls(unpriced=2, untold=1, cost_usd=Decimal(0))
    assert (bill([missing], card()).unpriced, bill([missing], card()).amount) == (2, Decimal(0))
    drawn = bill([missing], card(rate(date(2026, 1, 1), "1.00")))
    assert (drawn.unpriced, drawn.amount, drawn.metered) == (1, Decimal(1), Decimal(0))


def test_operations_and_the_runtimes_time_are_billed_and_tools_are_not() -> None:
    rows = [
        other("invocation", "ok", 1, latency_ms=1500),
        other("invocation", "denied", 1, latency_ms=500),
        other("memory_operation", "memory.CreateEvent", 5, errors=1),
        other("tool_call", "lookup", 9),
    ]
    drawn = bill(rows, card())
    assert {line.name: line.amount for line in drawn.lines} == {
        RUNTIME: Decimal("0.0000152"),
        "memory.CreateEvent": Decimal("0.001"),
    }


def test_a_bill_is_rounded_once() -> None:
    rows = [model_calls(tenant, tokens=Tokens(4000)) for tenant in ("a-a", "b-b", "c-c")]
    assert bill(rows, card(rate(date(2026, 1, 1), "1.00"))).total == Decimal("0.01")


def test_the_providers_bill_is_compared_by_tenant(tmp_path: Path) -> None:
    path = tmp_path / "bill.csv"
    path.write_text("tenant_id,usage,cost_usd\nacme,a,0.1\nacme,b,0.01\n,c,5\nglobex,d,1\n", encoding="utf-8")
    rows = [model_calls(), other("memory_operation", "memory.CreateEvent", 1, cost_usd=Decimal(9)), model_calls("nil")]
    found = {difference.tenant_id: difference for difference in reconcile(rows, read_export(path))}
    assert found["acme"].share == Decimal("0.1")
    assert (found[NOBODY].billed, found[NOBODY].share) == (Decimal(5), None)
    assert (found["nil"].billed, found["nil"].share) == (Decimal(0), Decimal(-1))
    assert set(found) == {"acme", "globex", "nil", NOBODY}


@pytest.mark.parametrize("text", ["tenant,cost\na,1\n", "tenant_id,cost_usd\nacme,much\n", "tenant_id,cost_usd\na\n"])
def test_an_export_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "bill.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ControlPlaneError, match="tenant_id and cost_usd"):
        read_export(path)
    with pytest.raises(ControlPlaneError, match="No such file"):
        read_export(tmp_path / "nowhere.csv")


@pytest.mark.parametrize("text", ["2026-13", "2026-1", "26-01", "2026-01-01", "now", "", "0000-01"])
def test_what_is_no_month_is_refused(text: str) -> None:
    with pytest.raises(ControlPlaneError, match="is no month"):
        Month.parse(text)


def test_a_month_is_taken_in_utc() -> None:
    assert str(Month.of(datetime(2026, 11, 30, 23, 59, tzinfo=UTC))) == "2026-11"

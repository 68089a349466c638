"""The usage report: exact sums, each record once, and no word where nothing is known."""

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

import boto3
import pytest
from moto import mock_aws

from saas_agent.control_plane.errors import ControlPlaneError
from saas_agent.control_plane.report import Month, read_log, usage_report
from saas_agent.metering.rates import Cost, Tokens
from saas_agent.metering.record import InvocationCounts, Record

NOVEMBER = Month(2026, 11)
NOW = datetime(2026, 11, 24, 12, 30, tzinfo=UTC)
GROUP = "/aws/bedrock-agentcore/runtimes/desk-DEFAULT"


def model_call(tenant_id: str | None = "acme", cost: str | None = "0.1", **fields: Any) -> Record:
    amount = None if cost is None else Decimal(cost)
    record = Record(
        id=str(uuid4()),
        at=NOW,
        service="desk",
        stage="dev",
        tier="basic",
        tenant_id=tenant_id,
        session_id=None,
        request_id=None,
        feature="support_desk",
        model_id="m",
        tokens=Tokens(100, 20, 3, 4),
        latency_ms=5,
        outcome="ok",
        cost=Cost(amount, date(2026, 1, 1)),
    )
    return replace(record, **fields)


def invocation(tenant_id: str | None = "acme", outcome: str = "ok", **fields: Any) -> Record:
    counts = InvocationCounts(model_calls=2, tool_calls=3, duration_ms=9)
    return model_call(tenant_id, counts=counts, outcome=outcome, **fields)


def lines(*records: Record) -> list[str]:
    return [record.to_line() + "\n" for record in records]


def test_model_calls_and_invocations_are_summed_and_nothing_is_counted_twice() -> None:
    report = usage_report(lines(model_call(), model_call(cost="0.2"), invocation()), NOVEMBER)
    (row,) = report.rows
    assert (row.tenant_id, row.tier, row.feature, row.month) == (
        "acme",
        "basic",
        "support_desk",
        "2026-11",
    )
    assert (row.invocations, row.model_calls, row.tool_calls, row.not_ok) == (1, 2, 3, 0)
    assert row.tokens == Tokens(200, 40, 6, 8)
    assert row.cost == Decimal("0.3")


def test_a_record_that_is_delivered_twice_counts_once_in_any_order() -> None:
    once = lines(model_call(), invocation(), model_call("globex"), invocation("globex"))
    reference = usage_report(once, NOVEMBER)
    assert usage_report([*once, *reversed(once)], NOVEMBER) == reference
    assert usage_report(reversed(once), NOVEMBER) == reference


def test_many_small_amounts_add_up_exactly() -> None:
    report = usage_report(lines(*(model_call(cost="0.0000001") for _ in range(1000))), NOVEMBER)
    assert report.rows[0].cost == Decimal("0.0001")


def test_unpriced_calls_are_counted_and_not_taken_as_free() -> None:
    (row,) = usage_report(lines(model_call(), model_call(cost=None)), NOVEMBER).rows
    assert (row.model_calls, row.unpriced_calls, row.cost) == (2, 1, Decimal("0.1"))


def test_refused_cancelled_and_failed_invocations_are_counted_apart() -> None:
    records = [invocation(outcome=outcome) for outcome in ("ok", "limit_reached", "error")]
    (row,) = usage_report(lines(*records), NOVEMBER).rows
    assert (row.invocations, row.not_ok) == (3, 2)


def test_rows_are_by_tenant_tier_and_feature() -> None:
    report = usage_report(
        lines(
            model_call("globex"),
            model_call("acme2"),
            model_call("acme", tier="premium"),
            model_call("acme", feature="search"),
            model_call("acme"),
        ),
        NOVEMBER,
    )
    assert [(row.tenant_id, row.tier, row.feature) for row in report.rows] == [
        ("acme", "basic", "search"),
        ("acme", "basic", "support_desk"),
        ("acme", "premium", "support_desk"),
        ("acme2", "basic", "support_desk"),
        ("globex", "basic", "support_desk"),
    ]


def test_one_tenants_report_holds_no_other_tenant_nor_its_prefix_twin() -> None:
    records = lines(model_call("acme"), model_call("acme2"), model_call("globex"))
    assert [row.tenant_id for row in usage_report(records, NOVEMBER, "acme").rows] == ["acme"]


def test_invocations_refused_before_their_tenant_was_known_have_a_row_of_their_own() -> None:
    unknown = invocation(outcome="invalid_token", tenant_id=None, tier="unknown")
    records = lines(invocation(), unknown)
    assert [row.tenant_id for row in usage_report(records, NOVEMBER).rows] == ["", "acme"]
    assert [row.tenant_id for row in usage_report(records, NOVEMBER, "acme").rows] == ["acme"]


def test_a_month_ends_at_midnight_utc() -> None:
    first = datetime(2026, 11, 1, tzinfo=UTC)
    moments = [first - timedelta(milliseconds=1), first, NOVEMBER.end - timedelta(milliseconds=1)]
    records = [model_call(at=moment) for moment in [*moments, NOVEMBER.end]]
    assert usage_report(lines(*records), NOVEMBER).rows[0].model_calls == 2


def test_lines_that_claim_to_be_records_but_are_not_are_said() -> None:
    broken = model_call().to_line().replace('"InputTokens":100', '"InputTokens":-1')
    report = usage_report([broken, "INFO started", json.dumps({"message": "usage"})], NOVEMBER)
    assert (report.rows, report.unreadable) == ([], 1)


@pytest.mark.parametrize("text", ["2026-13", "2026-1", "26-01", "2026-01-01", "now", "", "0000-01"])
def test_what_is_no_month_is_refused(text: str) -> None:
    with pytest.raises(ControlPlaneError, match="is no month"):
        Month.parse(text)


def test_a_december_is_followed_by_a_january() -> None:
    assert Month.parse("2026-12").end == datetime(2027, 1, 1, tzinfo=UTC)
    assert str(Month.parse("2026-12")) == "2026-12"


@pytest.fixture
def logs() -> Iterator[Any]:
    with mock_aws():
        session = boto3.Session("test", "test", region_name="eu-central-1")
        logs = session.client("logs")
        logs.create_log_group(logGroupName=GROUP)
        yield logs


def ship(logs: Any, stream: str, messages: list[str], at: datetime = NOW) -> None:
    logs.create_log_stream(logGroupName=GROUP, logStreamName=stream)
    events = [{"timestamp": int(at.timestamp() * 1000), "message": message} for message in messages]
    for start in range(0, len(events), 5000):
        logs.put_log_events(logGroupName=GROUP, logStreamName=stream, logEvents=events[start : start + 5000])


def test_the_log_is_read_over_all_streams_and_pages(logs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    now = datetime.now(UTC)
    month = Month.of(now)
    for number in range(3):
        ship(logs, f"s{number}", lines(*(model_call(at=now) for _ in range(4000))), now)
    pages = 0
    call = logs._make_api_call

    def count(*arguments: Any) -> Any:
        nonlocal pages
        pages += 1
        return call(*arguments)

    monkeypatch.setattr(logs, "_make_api_call", count)
    report = usage_report(read_log(logs, GROUP, month), month)
    assert pages > 1
    assert report.rows[0].model_calls == 12000


def test_only_the_months_part_of_the_log_is_read(logs: Any) -> None:
    now = datetime.now(UTC)
    ship(logs, "now", lines(model_call(at=now)), now)
    before = Month.of(Month.of(now).start - timedelta(days=1))
    assert list(read_log(logs, GROUP, Month.of(now))) != []
    assert list(read_log(logs, GROUP, Month.of(before.start - timedelta(days=1)))) == []

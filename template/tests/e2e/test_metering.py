"""From a request to the ledger: over the deployed log subscription, in the deployed function, in its own role."""

import gc
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
import urllib3

from local.authorization import DecisionLog
from local.cloud import LocalCloud
from local.converse import Brain, Request, count_usage, response, stream_events
from local.proof import tiers_to_prove
from local.stage import SESSION_HEADER, Actor, Stage
from saas_agent import main
from saas_agent.control_plane.redrive import redrive
from saas_agent.control_plane.report import Month, usage_report
from saas_agent.functions import record_usage
from saas_agent.metering.ledger import LedgerReader, LedgerWriter, Row
from saas_agent.metering.rates import Cost, Tokens
from saas_agent.metering.record import MARK, Record, looks_like_usage, read
from saas_agent.metering.usage import utc_now
from saas_agent.tenancy.tiers import load_tiers

MODEL_CALL = Record(
    id="",
    at=utc_now(),
    service="",
    stage="",
    tier="basic",
    tenant_id=None,
    session_id=None,
    request_id=None,
    feature="support_desk",
    model_id="m",
    outcome="ok",
    cost=Cost(Decimal("0.1"), None),
)


def ledger(stage: Stage) -> LedgerReader:
    return LedgerReader(stage.session.client("dynamodb"), stage.outputs["LedgerTable"])


def rows(stage: Stage, tenant: str) -> list[Row]:
    return list(ledger(stage).rows(str(Month.of(utc_now())), tenant))


def test_what_a_request_used_is_in_the_ledger(cloud: LocalCloud, stage: Stage) -> None:
    actor = stage.onboard("metered", tiers_to_prove()[0])
    answers = [stage.ask(actor, prompt) for prompt in ("hello", "what can you do?")]
    cloud.flush()
    (row,) = usage_report(rows(stage, "metered"), Month.of(utc_now()))
    assert (row.invocations, row.not_ok, row.unpriced) == (2, 0, 0)
    assert row.tokens.input == sum(answer.body["usage"]["input_tokens"] for answer in answers)
    assert row.tokens.output == sum(answer.body["usage"]["output_tokens"] for answer in answers)
    of_models = sum(found.cost_usd for found in rows(stage, "metered") if found.kind == "model_call")
    assert of_models == sum(Decimal(answer.body["usage"]["cost_usd"]) for answer in answers)
    assert row.memory_operations > 0
    assert row.runtime_ms > 0


def test_the_ledger_is_the_log_neither_more_nor_less(cloud: LocalCloud, stage: Stage, acme: Actor) -> None:
    stage.ask(acme, "hello")
    cloud.flush()
    pages = stage.session.client("logs").get_paginator("filter_log_events")
    lines = [
        event["message"]
        for group in stage.log_groups()
        for page in pages.paginate(logGroupName=group, filterPattern=MARK)
        for event in page["events"]
    ]
    records = [read(line) for line in lines if looks_like_usage(line)]
    acmes = [record for record in records if record.tenant_id == "acme"]
    assert sum(row.tokens.input for row in rows(stage, "acme")) == sum(record.tokens.input for record in acmes)
    assert sum(row.cost_usd for row in rows(stage, "acme")) == sum(record.cost.amount or 0 for record in acmes)


def test_what_fails_is_kept_and_comes_back(cloud: LocalCloud, stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    actor = stage.onboard("redriven", tiers_to_prove()[0])
    outputs = stage.outputs
    with monkeypatch.context() as broken:

        def refuse(*_: object) -> None:
            raise RuntimeError("the ledger is out of order")

        broken.setattr(LedgerWriter, "record", refuse)
        assert stage.ask(actor, "hello").status == 200
        cloud.flush()
    assert rows(stage, "redriven") == []
    clients = [stage.session.client(name) for name in ("sqs", "lambda")]
    done = redrive(clients[0], outputs["LedgerDeadLetters"], clients[1], outputs["LedgerFunctionArn"])
    assert done.counted > 0
    assert done.failed == 0
    calls = [row.calls for row in rows(stage, "redriven") if row.kind == "model_call"]
    assert calls == [1]
    again = redrive(clients[0], outputs["LedgerDeadLetters"], clients[1], outputs["LedgerFunctionArn"])
    assert again.counted == 0


def test_the_function_may_write_to_the_ledger_and_nothing_else(
    cloud: LocalCloud, stage: Stage, acme: Actor, decisions: DecisionLog
) -> None:
    position = decisions.position()
    stage.ask(acme, "hello")
    cloud.flush()
    made = [decision for decision in decisions.since(position) if "LedgerRole" in decision.principal]
    assert all(decision.allowed for decision in made)
    # Where analysts have a stream, tests/e2e/test_analytics.py looks at what goes there.
    made = [decision for decision in made if decision.action != "firehose:PutRecordBatch"]
    assert {decision.action for decision in made} <= {
        "dynamodb:BatchGetItem",
        "dynamodb:PutItem",
        "dynamodb:UpdateItem",
    }
    assert {decision.resource.rpartition("/")[2] for decision in made} == {stage.outputs["LedgerTable"]}


def counters(stage: Stage, tenant: str) -> dict[str, Any]:
    """The item of the tenant's budget of this month, once all its requests have given back what they left."""
    key = {"pk": {"S": f"TENANT#{tenant}"}, "sk": {"S": f"BUDGET#{utc_now():%Y-%m}"}}
    until = time.monotonic() + 10
    while True:
        item: dict[str, Any] = stage.session.client("dynamodb").get_item(
            TableName=stage.outputs["QuotaTable"], Key=key, ConsistentRead=True
        )["Item"]
        if not any(name.startswith("lease_") for name in item):
            return item
        assert time.monotonic() < until
        time.sleep(0.01)


def spend(stage: Stage, tenant: str, tokens: int) -> str:
    """Sets the tenant's counters of today and of this month; the name of today's."""
    item, day = counters(stage, tenant), f"day_{utc_now():%d}"
    stage.session.client("dynamodb").update_item(
        TableName=stage.outputs["QuotaTable"],
        Key={name: item[name] for name in ("pk", "sk")},
        UpdateExpression="SET #month = :tokens, #day = :tokens",
        ExpressionAttributeNames={"#month": "month", "#day": day},
        ExpressionAttributeValues={":tokens": {"N": str(tokens)}},
    )
    return day


def spent(stage: Stage, tenant: str, day: str) -> int:
    return int(counters(stage, tenant)[day]["N"])


def test_a_tenant_at_its_budget_is_refused_before_the_model_is_called(cloud: LocalCloud, stage: Stage) -> None:
    actor, other = stage.onboard("spent", "basic"), stage.onboard("spent2", "basic")
    assert stage.ask(actor, "hello").status == 200
    spend(stage, "spent", load_tiers()["basic"].tokens_per_day)
    answer = stage.ask(actor, "hello")
    assert (answer.status, answer.body["error"]["code"]) == (429, "limit_reached")
    assert answer.body["error"]["limit"] == "tokens_per_day"
    assert answer.body["error"]["resets_at"] == f"{utc_now().date() + timedelta(days=1)}T00:00:00Z"
    assert stage.ask(other, "hello").status == 200
    cloud.flush()
    found = rows(stage, "spent")
    assert [row.calls for row in found if row.kind == "model_call"] == [1]
    assert {row.name: row.calls for row in found if row.kind == "invocation"} == {"ok": 1, "limit_reached": 1}


def test_what_the_ledger_counted_refuses_too_and_is_told(cloud: LocalCloud, stage: Stage) -> None:
    actor = stage.onboard("counted", "basic")
    record = replace(MODEL_CALL, id=str(uuid4()), at=utc_now(), service=stage.outputs["Service"], stage="local")
    record = replace(record, tenant_id="counted", tokens=Tokens(load_tiers()["basic"].tokens_per_day))
    logs, own = stage.session.client("logs"), stage.tenants.show("counted").resources
    group = own.get("RuntimeLogGroup") or stage.outputs["RuntimeLogGroup"]
    logs.create_log_stream(logGroupName=group, logStreamName="counted")
    line = {"timestamp": int(time.time() * 1000), "message": record.to_line()}
    logs.put_log_events(logGroupName=group, logStreamName="counted", logEvents=[line])
    answer = stage.ask(actor, "hello")
    assert (answer.status, answer.body["error"]["limit"]) == (429, "tokens_per_day")
    told = [event.detail for event in cloud.buses.events("default") if event.detail.get("tenant_id") == "counted"]
    budgets = [(detail["budget"], detail["percent"]) for detail in told]
    assert budgets == [("tokens_per_day", 80), ("tokens_per_day", 100)]


def test_many_at_once_overspend_by_one_requests_tokens_at_most(cloud: LocalCloud, stage: Stage) -> None:
    actor, tier = stage.onboard("crowded", "basic"), load_tiers()["basic"]
    assert stage.ask(actor, "hello").status == 200
    day = spend(stage, "crowded", tier.tokens_per_day - 2 * tier.total_tokens)
    answers: list[int] = []
    threads = [threading.Thread(target=lambda: answers.append(stage.ask(actor, "hello").status)) for _ in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(answers) <= {200, 429}
    assert answers.count(200) >= 2
    assert spent(stage, "crowded", day) <= tier.tokens_per_day + tier.total_tokens


def cut_after_the_first_text(stage: Stage, actor: Actor) -> int:
    """Opens a stream as this user and closes it once the answer has begun; the answer's status."""
    answer = urllib3.request(
        "POST",
        stage.home(actor.name).invocations,
        body=json.dumps({"prompt": "hello", "stream": True}),
        headers={
            "Authorization": f"Bearer {actor.tokens.access}",
            SESSION_HEADER: actor.new_session_id(),
            "Content-Type": "application/json",
        },
        preload_content=False,
    )
    if answer.status == 200:
        assert b'"text"' in answer.readline()
    answer.close()
    return answer.status


def test_a_tenant_that_cuts_every_stream_uses_its_budget_up(
    cloud: LocalCloud, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    actor, tier, seen, close = stage.onboard("cutting", "basic"), load_tiers()["basic"], threading.Event(), main._close

    def stream(_: Brain, request: Request) -> Iterator[dict[str, Any]]:
        # Goes on until the agent has seen that its caller is gone, then comes to its end.
        *events, stop, end = stream_events(response([{"text": "and so on "}], "end_turn", count_usage(request, [])))
        yield from events[:-1]
        while not seen.wait(0.02):
            yield events[1]
        yield from (events[-1], stop, end)

    async def see(events: Any) -> None:
        await close(events)
        seen.set()

    assert stage.ask(actor, "hello").status == 200
    day = spend(stage, "cutting", tier.tokens_per_day - 3 * tier.total_tokens)
    monkeypatch.setattr(Brain, "stream", stream)
    monkeypatch.setattr(main, "_close", see)
    statuses = []
    gc.disable()  # a stream is over when it is cut, not when it is collected
    try:
        for _ in range(4):
            seen.clear()
            statuses.append(cut_after_the_first_text(stage, actor))
            assert seen.wait(10) or statuses[-1] != 200
            spent(stage, "cutting", day)  # waits until the request is over
    finally:
        seen.set()
        gc.enable()
    assert statuses == [200, 200, 200, 429]
    assert spent(stage, "cutting", day) == tier.tokens_per_day
    cloud.flush()
    calls = [row for row in rows(stage, "cutting") if row.kind == "model_call"]
    assert sum(row.untold for row in calls) == 3


def test_the_function_says_in_its_log_what_it_counted(cloud: LocalCloud, stage: Stage, acme: Actor) -> None:
    began = int(time.time() * 1000) - 1
    stage.ask(acme, "hello")
    cloud.flush()
    events = stage.session.client("logs").filter_log_events(
        logGroupName=stage.outputs["LedgerLogGroup"], startTime=began
    )["events"]
    said = [json.loads(event["message"]) for event in events]
    assert sum(line["RecordsCounted"] for line in said if line["record"] == record_usage.BATCH) > 3
    assert "acme" in {line["tenant_id"] for line in said if line["record"] == record_usage.SUM}

"""From a request to the ledger: over the deployed log subscription, in the deployed function, in its own role."""

import json
import time
from decimal import Decimal

import pytest

from local.authorization import DecisionLog
from local.cloud import LocalCloud
from local.proof import tiers_to_prove
from local.stage import Actor, Stage
from saas_agent.control_plane.redrive import redrive
from saas_agent.control_plane.report import Month, usage_report
from saas_agent.functions import record_usage
from saas_agent.metering.ledger import LedgerReader, LedgerWriter, Row
from saas_agent.metering.record import MARK, looks_like_usage, read
from saas_agent.metering.usage import utc_now


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
        for page in pages.paginate(logGroupName=stage.home("acme").log_group, filterPattern=MARK)
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
    assert {decision.action for decision in made} <= {"dynamodb:PutItem", "dynamodb:UpdateItem"}
    assert {decision.resource.rpartition("/")[2] for decision in made} == {stage.outputs["LedgerTable"]}
    assert all(decision.allowed for decision in made)


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

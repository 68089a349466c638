"""The request path's refusals that need more than a bad payload."""

import time
from functools import partial

import pytest

from local.cloud import LocalCloud
from local.stage import Actor, Stage
from saas_agent import conversation
from saas_agent.conversation import UntilTokenExpires
from saas_agent.errors import Refused
from saas_agent.metering.record import parse
from saas_agent.tenancy import standing


def test_a_run_that_outlives_its_token_is_cut(stage: Stage, acme: Actor, monkeypatch: pytest.MonkeyPatch) -> None:
    # The clock jumps past the token's expiry after the first model call: the run must end there, not at its limit.
    looks = iter([0.0])
    guard = partial(UntilTokenExpires, clock=lambda: next(looks, float("inf")))
    monkeypatch.setattr(conversation, "UntilTokenExpires", guard)
    answer = stage.ask(acme, "loop forever")
    assert (answer.status, answer.body["error"]["code"]) == (401, "token_expired")


def test_the_guard_stops_model_and_tool_calls_once_the_token_is_over() -> None:
    now = [99.0]
    guard = UntilTokenExpires(100, clock=lambda: now[0])
    guard._check(None)
    now[0] = 100.0
    with pytest.raises(Refused):
        guard._check(None)
    assert guard.expired
    now[0] = 0.0
    with pytest.raises(Refused):
        guard.require_unexpired()


def test_a_suspension_reaches_a_running_agent_in_time(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    actor = stage.onboard("running", "basic")
    assert stage.ask(actor, "hello").status == 200
    stage.tenants.suspend("running")
    monkeypatch.setattr(standing, "FRESH_SECONDS", 0.0)
    assert stage.ask(actor, "hello").body["error"]["code"] == "tenant_not_active"


def test_every_request_leaves_one_usage_record(cloud: LocalCloud, stage: Stage, acme: Actor) -> None:
    began = int(time.time() * 1000) - 1
    stage.ask(acme, "hello")
    stage.ask(acme, "a" * 1_000_000)
    stage.invoke({"prompt": 7}, acme.tokens.access, acme.new_session_id())
    stage.invoke({"prompt": "hi"}, acme.tokens.access, "s" * 40)
    stage.ask(acme, "loop forever")
    cloud.flush()
    events = stage.session.client("logs").filter_log_events(
        logGroupName=stage.outputs["RuntimeLogGroup"], startTime=began
    )["events"]
    records = [record for event in events if (record := parse(event["message"]))]
    invocations = [record for record in records if record.kind == "invocation"]
    assert sorted(record.outcome for record in invocations) == sorted(
        ["ok", "limit_reached", "invalid_request", "session_not_yours", "limit_reached"]
    )
    assert {record.tenant_id for record in invocations} == {"acme"}
    whole = max(invocations, key=lambda record: record.tokens.input)
    calls = [record for record in records if record.kind == "model_call" and record.request_id == whole.request_id]
    assert sum(record.tokens.input for record in calls) == whole.tokens.input > 0
    assert sum(record.tokens.output for record in calls) == whole.tokens.output > 0
    assert all(record.cost.amount is not None and record.cost.amount > 0 for record in calls)

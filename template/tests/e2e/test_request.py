"""Requests over HTTP: what every tenant must be able to do, what leaves, and the refusals of the request path."""

import json
import time
from functools import partial

import pytest
import urllib3
from botocore.exceptions import ClientError
from strands import Agent, tool

from local.cloud import LocalCloud
from local.proof import tiers_to_prove, walk, worked
from local.stage import SESSION_HEADER, Actor, Stage
from saas_agent import conversation
from saas_agent.conversation import WhileServed
from saas_agent.errors import Refused
from saas_agent.memory import TenantMemory
from saas_agent.metering.record import looks_like_usage, read
from saas_agent.tenancy import standing
from saas_agent.tenancy.access import TenantAccess
from saas_agent.tenancy.tenant import TenantContext


def test_every_tenant_reaches_its_own(stage: Stage, acme: Actor, globex: Actor) -> None:
    for actor in (acme, globex):
        accesses = list(walk(stage, actor))
        assert worked(accesses), [f"{access.title}: {access.why}" for access in accesses if not access.ok]
        tried = [access for access in accesses if access.ok is not None]
        assert all(access.tokens > 0 and access.cost_usd is not None for access in tried)


def test_a_plain_answer_has_exactly_these_parts(stage: Stage, acme: Actor) -> None:
    session_id = acme.new_session_id()
    answer = stage.ask(acme, "hello", session_id)
    assert answer.status == 200
    assert set(answer.body) == {"answer", "session_id", "stop_reason", "usage"}
    assert answer.body["session_id"] == session_id
    assert set(answer.body["usage"]) == {"input_tokens", "output_tokens", "cost_usd"}


def test_only_whitelisted_events_are_streamed(stage: Stage, acme: Actor, one_tool: str) -> None:
    events = _stream(stage, acme, "remember that I prefer tea")
    shapes = {"text": {"type", "text"}, "tool": {"type", "name"}, "done": {"type", "stop_reason", "usage"}}
    assert [set(event) for event in events] == [shapes[str(event["type"])] for event in events]
    assert events[-1]["type"] == "done"
    assert {"type": "tool", "name": one_tool} in events
    assert any(event["type"] == "text" for event in events)


def test_nothing_that_leaves_or_is_logged_holds_a_secret(stage: Stage, acme: Actor) -> None:
    session = stage.access(acme).session.get_credentials()
    assert session is not None
    secrets = [acme.tokens.access, acme.tokens.id, session.access_key, session.secret_key, session.token]
    seen = stage.ask(acme, "hello").text + json.dumps(_stream(stage, acme, "hello"))
    logs = stage.session.client("logs")
    for page in logs.get_paginator("filter_log_events").paginate(logGroupName=stage.home(acme.name).log_group):
        seen += "".join(event["message"] for event in page["events"])
    for secret in secrets:
        for part in secret.split("."):
            assert len(part) < 16 or part not in seen


def _stream(stage: Stage, actor: Actor, prompt: str) -> list[dict[str, object]]:
    response = urllib3.request(
        "POST",
        stage.home(actor.name).invocations,
        body=json.dumps({"prompt": prompt, "stream": True}),
        headers={
            "Authorization": f"Bearer {actor.tokens.access}",
            SESSION_HEADER: actor.new_session_id(),
            "Content-Type": "application/json",
        },
    )
    assert response.headers["Content-Type"].startswith("text/event-stream")
    lines = [line for line in response.data.decode().split("\n\n") if line]
    return [json.loads(line.removeprefix("data: ")) for line in lines]


@pytest.mark.usefixtures("one_tool")
def test_a_run_that_outlives_its_token_is_cut(stage: Stage, acme: Actor, monkeypatch: pytest.MonkeyPatch) -> None:
    # The clock jumps past the token's expiry after the first model call: the run must end there, not at its limit.
    looks = iter([0.0])
    guard = partial(WhileServed, clock=lambda: next(looks, float("inf")))
    monkeypatch.setattr(conversation, "WhileServed", guard)
    answer = stage.ask(acme, "loop forever")
    assert (answer.status, answer.body["error"]["code"]) == (401, "token_expired")


def test_the_guard_stops_model_and_tool_calls_once_the_token_is_over() -> None:
    now = [99.0]
    guard = WhileServed(100, lambda: None, clock=lambda: now[0])
    guard._check(None)
    now[0] = 100.0
    with pytest.raises(Refused):
        guard._check(None)
    now[0] = 0.0
    with pytest.raises(Refused):
        guard.require_unrefused()


def test_a_suspension_reaches_a_running_agent_in_time(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    actor = stage.onboard("running", tiers_to_prove()[0])
    assert stage.ask(actor, "hello").status == 200
    stage.tenants.suspend("running")
    monkeypatch.setattr(standing, "FRESH_SECONDS", 0.0)
    assert stage.ask(actor, "hello").body["error"]["code"] == "tenant_not_active"


def test_a_suspension_ends_a_request_under_way(
    cloud: LocalCloud, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    actor = stage.onboard("under-way", tiers_to_prove()[0])
    home = stage.home(actor.name)

    @tool
    def remember_preference(preference: str = "") -> str:
        """Remember a preference of the user."""
        stage.tenants.suspend("under-way")
        return f"Noted: {preference}"

    monkeypatch.setattr(conversation, "caller_tools", lambda _: [remember_preference])
    monkeypatch.setattr(standing, "FRESH_SECONDS", 0.0)
    answer = stage.ask(actor, "remember that I prefer tea")
    assert (answer.status, answer.body["error"]["code"]) == (403, "tenant_not_active")
    cloud.flush()
    events = stage.session.client("logs").filter_log_events(logGroupName=home.log_group)["events"]
    lines = [event["message"] for event in events if looks_like_usage(event["message"])]
    records = [record for record in map(read, lines) if record.tenant_id == "under-way"]
    assert [record.outcome for record in records if record.kind == "model_call"] == ["ok"]
    assert [record.operation.calls for record in records if record.kind == "tool_call" and record.operation] == [1]
    assert [record.outcome for record in records if record.kind == "invocation"] == ["tenant_not_active"]


@pytest.mark.usefixtures("one_tool")
def test_every_request_leaves_its_usage_records(cloud: LocalCloud, stage: Stage, acme: Actor) -> None:
    began = int(time.time() * 1000) - 1
    stage.ask(acme, "hello")
    stage.ask(acme, "a" * 1_000_000)
    stage.invoke(acme, {"prompt": 7}, acme.tokens.access, acme.new_session_id())
    stage.invoke(acme, {"prompt": "hi"}, acme.tokens.access, "s" * 40)
    stage.ask(acme, "loop forever")
    cloud.flush()
    events = stage.session.client("logs").filter_log_events(
        logGroupName=stage.home(acme.name).log_group, startTime=began
    )["events"]
    records = [read(event["message"]) for event in events if looks_like_usage(event["message"])]
    invocations = [record for record in records if record.kind == "invocation"]
    assert sorted(record.outcome for record in invocations) == sorted(
        ["ok", "limit_reached", "invalid_request", "session_not_yours", "limit_reached"]
    )
    assert {record.tenant_id for record in records} == {"acme"}
    calls = [record for record in records if record.kind == "model_call"]
    assert all(record.cost.amount is not None and record.cost.amount > 0 for record in calls)
    whole = [record for record in records if record.request_id == calls[0].request_id]
    names = {record.name for record in whole if record.operation is not None}
    assert {"memory.CreateEvent", "memory.ListEvents", "memory.RetrieveMemoryRecords"} <= names
    assert not [record for record in records if record.cost.amount is None]


def test_what_is_remembered_is_recalled_by_the_same_user_alone(stage: Stage, acme: Actor, acme2: Actor) -> None:
    stage.doors(acme).memory.remember("I drink maté")
    assert any("maté" in text for text in stage.doors(acme).memory.recall("what do I drink?"))
    assert not any("maté" in text for text in stage.doors(acme2).memory.recall("what do I drink?"))


def test_a_recall_takes_a_query_of_any_length(stage: Stage, acme: Actor) -> None:
    stage.doors(acme).memory.recall("drink " * 5000)


def test_a_denied_recall_is_an_error_and_not_an_empty_list(stage: Stage, acme: Actor) -> None:
    torn = TenantAccess(TenantContext("globex", "basic", "x", acme.tenant.expires_at), stage.access(acme).session)
    memory = TenantMemory(torn, stage.home(acme.name).resource("memory"))
    for call in (
        lambda: memory.recall("x"),
        lambda: memory.remember("x"),
        lambda: memory.session_manager(acme.new_session_id()),
    ):
        with pytest.raises(Refused) as caught:
            call()
        assert caught.value.reason.code == "denied"


def test_a_conversation_that_can_not_be_read_is_no_empty_one(
    stage: Stage, acme: Actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    session_id = acme.new_session_id()
    assert stage.ask(acme, "hello", session_id).status == 200
    manager = stage.doors(acme).memory.session_manager(session_id)

    def denied(**_: object) -> None:
        raise ClientError({"Error": {"Code": "AccessDeniedException", "Message": "no"}}, "ListEvents")

    monkeypatch.setattr(manager.memory_client.gmdp_client, "list_events", denied)
    with pytest.raises(ClientError):
        Agent(agent_id=conversation.AGENT_ID, session_manager=manager, callback_handler=None)


def test_a_new_session_asks_for_no_actor_but_its_own(stage: Stage, acme: Actor) -> None:
    # The SDK's own manager asks for the actors session_* and agent_*, and fails on the tenant's policy.
    assert stage.ask(acme, "hello").status == 200

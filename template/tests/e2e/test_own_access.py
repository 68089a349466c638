"""What every tenant must be able to do, on the local cloud, over HTTP."""

import json

import urllib3

from local.stage import SESSION_HEADER, Actor, Stage
from local.walkthrough import walk


def test_every_tenant_reaches_its_own(stage: Stage, acme: Actor, globex: Actor) -> None:
    for actor in (acme, globex):
        accesses = list(walk(stage, actor))
        assert accesses
        assert [f"{access.title}: {access.why}" for access in accesses if not access.ok] == []
        assert all(access.tokens > 0 and access.cost_usd is not None for access in accesses)


def test_a_plain_answer_has_exactly_these_parts(stage: Stage, acme: Actor) -> None:
    session_id = acme.new_session_id()
    answer = stage.ask(acme, "hello", session_id)
    assert answer.status == 200
    assert set(answer.body) == {"answer", "session_id", "stop_reason", "usage"}
    assert answer.body["session_id"] == session_id
    assert set(answer.body["usage"]) == {"input_tokens", "output_tokens", "cost_usd"}


def test_only_whitelisted_events_are_streamed(stage: Stage, acme: Actor) -> None:
    events = _stream(stage, acme, "remember that I prefer tea")
    shapes = {"text": {"type", "text"}, "tool": {"type", "name"}, "done": {"type", "stop_reason", "usage"}}
    assert [set(event) for event in events] == [shapes[str(event["type"])] for event in events]
    assert events[-1]["type"] == "done"
    assert {"type": "tool", "name": "remember_preference"} in events
    assert any(event["type"] == "text" for event in events)


def test_nothing_that_leaves_or_is_logged_holds_a_secret(stage: Stage, acme: Actor) -> None:
    session = stage.access(acme).session.get_credentials()
    assert session is not None
    secrets = [acme.tokens.access, acme.tokens.id, session.access_key, session.secret_key, session.token]
    seen = stage.ask(acme, "hello").text + json.dumps(_stream(stage, acme, "hello"))
    logs = stage.session.client("logs")
    for page in logs.get_paginator("filter_log_events").paginate(logGroupName=stage.outputs["RuntimeLogGroup"]):
        seen += "".join(event["message"] for event in page["events"])
    for secret in secrets:
        for part in secret.split("."):
            assert len(part) < 16 or part not in seen


def _stream(stage: Stage, actor: Actor, prompt: str) -> list[dict[str, object]]:
    response = urllib3.request(
        "POST",
        stage.invocations,
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

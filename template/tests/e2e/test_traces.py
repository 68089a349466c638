"""What a collector of traces gets of a request: who it was for and what it cost, and nothing that anybody said."""

import json
from collections.abc import Iterator

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import StatusCode
from strands import tool
from strands.telemetry import tracer

from local.cloud import LocalCloud
from local.stage import Actor, Stage
from saas_agent import conversation, main
from saas_agent.settings import Settings
from saas_agent.tracing import ATTRIBUTES, WordlessTracer, trace_without_words

SECRET = "kumquat-4711"


@pytest.fixture
def exporter(
    cloud: LocalCloud, stage: Stage, acme: Actor, monkeypatch: pytest.MonkeyPatch
) -> Iterator[InMemorySpanExporter]:
    """Collects the spans of an agent that starts as it is deployed, below an instrumentation that is there already."""
    found = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(found))
    collecting = tracer.Tracer()
    collecting.tracer = provider.get_tracer("strands")
    monkeypatch.setattr(tracer, "_tracer_instance", collecting)
    environ = {"AWS_REGION": cloud.region, **_environment(stage, acme)}
    main.create_app(Settings.from_environ(environ), session=stage.session, fetch_keys=cloud.keys, write=lambda _: None)
    yield found
    provider.shutdown()


def _environment(stage: Stage, acme: Actor) -> dict[str, str]:
    client = stage.session.client("bedrock-agentcore-control")
    runtime = client.get_agent_runtime(agentRuntimeId=stage.home(acme.name).runtime_arn.rpartition("/")[2])
    environment: dict[str, str] = runtime["environmentVariables"]
    return environment


def test_spans_tell_the_tenant_and_no_word(
    stage: Stage, acme: Actor, exporter: InMemorySpanExporter, one_tool: str
) -> None:
    session_id = acme.new_session_id()
    answer = stage.ask(acme, f"remember that I prefer {SECRET}", session_id)
    assert answer.status == 200
    assert SECRET in answer.text
    spans = exporter.get_finished_spans()
    assert any(one_tool in span.name for span in spans)
    for span in spans:
        seen = span.attributes or {}
        assert (seen["tenant.id"], seen["tenant.tier"]) == (acme.name, acme.tenant.tier), span.name
        assert seen["session.id"] == session_id, span.name
        assert set(seen) <= ATTRIBUTES
    told = " ".join(span.to_json() for span in spans)
    assert json.loads(spans[0].to_json())["events"] == []
    for secret in (SECRET, acme.tokens.access, acme.tokens.id, acme.email):
        assert secret not in told
    assert any((span.attributes or {}).get("gen_ai.usage.input_tokens") for span in spans)


def test_what_goes_wrong_is_told_by_its_kind(
    stage: Stage, acme: Actor, exporter: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    @tool
    def remember_preference(preference: str = "") -> str:
        """Remember a preference of the user."""
        raise LookupError(f"no room for {preference}")

    monkeypatch.setattr(conversation, "caller_tools", lambda _: [remember_preference])
    stage.ask(acme, f"remember that I prefer {SECRET}")
    failed = [span for span in exporter.get_finished_spans() if span.status.status_code is StatusCode.ERROR]
    assert failed
    told = " ".join(span.to_json() for span in exporter.get_finished_spans())
    assert SECRET not in told
    assert "no room" not in told


def test_a_tool_that_there_is_not_is_named_unknown(
    stage: Stage, acme: Actor, exporter: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch, one_tool: str
) -> None:
    said = [f"my_password_is_{SECRET}", one_tool]
    called = iter([{"name": name, "input": {}} for name in said])
    monkeypatch.setattr("local.brain._next_tool_use", lambda _: next(called, None))
    assert stage.ask(acme, "call these tools").status == 200
    spans = exporter.get_finished_spans()
    named = [span for span in spans if "gen_ai.tool.name" in (span.attributes or {})]
    assert [(span.name, (span.attributes or {})["gen_ai.tool.name"]) for span in named] == [
        (f"execute_tool {name}", name) for name in ("unknown", one_tool)
    ]
    assert SECRET not in " ".join(span.to_json() for span in spans)


def test_every_tool_that_the_agent_has_is_named(
    stage: Stage, acme: Actor, exporter: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    offered = stage.tools(acme)
    for name in offered:
        called = iter([{"name": name, "input": {}}])
        monkeypatch.setattr("local.brain._next_tool_use", lambda _, called=called: next(called, None))
        assert stage.ask(acme, "call this tool").status == 200
    names = {span.name for span in exporter.get_finished_spans()}
    assert {f"execute_tool {name}" for name in offered} <= names
    assert "execute_tool unknown" not in names


def test_where_nothing_is_sampled_agents_spans_are_and_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    found = InMemorySpanExporter()
    provider = TracerProvider(sampler=ALWAYS_OFF)
    provider.add_span_processor(SimpleSpanProcessor(found))
    collecting = tracer.Tracer()
    collecting.tracer = provider.get_tracer("strands")
    monkeypatch.setattr(tracer, "_tracer_instance", collecting)
    trace_without_words()
    # As MCP's client does: the exception's text would be in its span.
    with (
        pytest.raises(ValueError, match=SECRET),
        provider.get_tracer("mcp-python-sdk").start_as_current_span("tools/call"),
        tracer.get_tracer().tracer.start_as_current_span("agent"),
    ):
        raise ValueError(SECRET)
    [span] = found.get_finished_spans()
    assert span.name == "agent"


def test_a_span_takes_no_word_whoever_records_it() -> None:
    found = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(found))
    wordless = WordlessTracer(provider.get_tracer("any"))
    with (
        pytest.raises(ValueError, match=SECRET),
        wordless.start_as_current_span("outer", attributes={"gen_ai.prompt": SECRET, "tenant.id": "acme"}) as outer,
    ):
        outer.set_attribute("gen_ai.system_instructions", SECRET)
        outer.add_event("gen_ai.choice", {"message": SECRET})
        outer.set_status(StatusCode.ERROR, SECRET)
        with wordless.start_span("inner"):
            raise ValueError(SECRET)
    inner, ended = found.get_finished_spans()
    assert inner.parent == ended.context
    assert ended.status.status_code is StatusCode.ERROR
    assert dict(ended.attributes or {}) == {"tenant.id": "acme", "error.type": "ValueError"}
    assert SECRET not in inner.to_json() + ended.to_json()

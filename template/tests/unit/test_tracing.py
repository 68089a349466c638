"""How runtimes are started: plainly, or with ADOT where the stage's traces are exported, and then nothing else is."""

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, ParentBased
from strands.telemetry import tracer

from infra.deploy import PLATFORM
from local.template import parse
from saas_agent.errors import ConfigurationError
from saas_agent.tracing import trace_without_words

# Whatever else ADOT could export is off, and told so by name: its defaults are others.
EXPORTING = {
    "AGENT_OBSERVABILITY_ENABLED": "true",
    "OTEL_PYTHON_DISTRO": "aws_distro",
    "OTEL_PYTHON_CONFIGURATOR": "aws_configurator",
    "OTEL_TRACES_EXPORTER": "otlp",
    "OTEL_TRACES_SAMPLER": "always_off",
    "OTEL_LOGS_EXPORTER": "none",
    "OTEL_METRICS_EXPORTER": "none",
    "OTEL_PROPAGATORS": "tracecontext",
    "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "*",
    "OTEL_PYTHON_LOGGING_AUTO_INSTRUMENTATION_ENABLED": "false",
    "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": "false",
    "OTEL_AWS_APPLICATION_SIGNALS_ENABLED": "false",
    "OTEL_AWS_DYNAMIC_INSTRUMENTATION_ENABLED": "false",
    "OTEL_AWS_SERVICE_EVENTS_ENABLED": "false",
    "AWS_GENAI_CONTENT_EXTRACTION_OPT_OUT": "true",
    "AWS_REDACT_SPAN_ATTRIBUTES": "aws.agentcore.*",
}

LEFT_OUT = {"Ref": "AWS::NoValue"}


def templates() -> Iterator[Mapping[str, Any]]:
    """Those that have a runtime."""
    for path in sorted(PLATFORM.parent.glob("*.yaml")):
        template = parse(path.read_text(encoding="utf-8"))
        if "Runtime" in template["Resources"]:
            yield template


def chosen(value: Any, exported: bool) -> Any:
    """The value where traces are exported, or where they aren't."""
    match value:
        case {"Fn::If": ["HasTracing", there, elsewhere]}:
            return there if exported else elsewhere
    return value


@pytest.mark.parametrize("exported", [False, True])
def test_runtimes_start_plainly_unless_traces_are_exported(exported: bool) -> None:
    found = list(templates())
    assert found
    for template in found:
        runtime = template["Resources"]["Runtime"]["Properties"]
        code = runtime["AgentRuntimeArtifact"]["CodeConfiguration"]
        first = ["opentelemetry-instrument"] if exported else []
        assert chosen(code["EntryPoint"], exported) == [*first, "main.py"]
        environment = {name: chosen(value, exported) for name, value in runtime["EnvironmentVariables"].items()}
        told = {name: value for name, value in environment.items() if name in EXPORTING or "OTEL" in name}
        assert told == (EXPORTING if exported else dict.fromkeys(EXPORTING, LEFT_OUT))


def test_a_runtimes_role_may_export_traces_only_where_they_are_exported() -> None:
    for template in templates():
        allowed = {name for name, resource in template["Resources"].items() if "xray:" in str(resource)}
        assert allowed - {"TenantBoundary"} == {"TracingPolicy"}
        assert template["Resources"]["TracingPolicy"]["Condition"] == "HasTracing"
        [condition] = template["Conditions"]["HasTracing"].values()
        assert condition in (
            [{"Ref": "Tracing"}, "adot"],
            [{"Fn::FindInMap": ["Platform", "Stage", "Tracing"]}, "adot"],
        )


def test_a_stage_exports_no_traces_unless_somebody_says_so() -> None:
    parameter = parse(PLATFORM.read_text(encoding="utf-8"))["Parameters"]["Tracing"]
    assert (parameter["Default"], parameter["AllowedValues"]) == ("none", ["none", "adot"])


@pytest.fixture
def adot(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that opentelemetry-instrument has started, with the environment that the stack gives it."""
    for name, value in EXPORTING.items():
        monkeypatch.setenv(name, value)
    _provide(monkeypatch, TracerProvider(sampler=ALWAYS_OFF))


def _provide(monkeypatch: pytest.MonkeyPatch, provider: trace.TracerProvider) -> None:
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: provider)
    monkeypatch.setattr(tracer, "_tracer_instance", tracer.Tracer())


@pytest.mark.usefixtures("adot")
def test_the_agent_starts_where_adot_runs_as_its_stack_says() -> None:
    trace_without_words()


@pytest.mark.usefixtures("adot")
@pytest.mark.parametrize("said_by", ["AGENT_OBSERVABILITY_ENABLED", "OTEL_PYTHON_DISTRO"])
@pytest.mark.parametrize("value", [None, "", "otlp"])
@pytest.mark.parametrize(
    "name",
    [
        "OTEL_LOGS_EXPORTER",
        "OTEL_METRICS_EXPORTER",
        "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS",
        "AWS_REDACT_SPAN_ATTRIBUTES",
    ],
)
def test_it_does_not_start_where_adot_would_export_more(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str | None, said_by: str
) -> None:
    for other in {"AGENT_OBSERVABILITY_ENABLED", "OTEL_PYTHON_DISTRO"} - {said_by}:
        monkeypatch.delenv(other)
    if value is None:
        monkeypatch.delenv(name)
    else:
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError, match=rf"^ADOT runs with {name} .*expected .*Tracing=none[^\n]*$"):
        trace_without_words()


@pytest.mark.usefixtures("adot")
@pytest.mark.parametrize("sampler", [ALWAYS_ON, ParentBased(ALWAYS_OFF)])
def test_it_does_not_start_where_adot_samples_others_spans(monkeypatch: pytest.MonkeyPatch, sampler: Any) -> None:
    # What counts is the sampler that is at work, not the variable: that says always_off here.
    _provide(monkeypatch, TracerProvider(sampler=sampler))
    with pytest.raises(ConfigurationError, match=r"^ADOT runs with OTEL_TRACES_SAMPLER .*'always_off'"):
        trace_without_words()


@pytest.mark.usefixtures("adot")
def test_it_starts_where_nothing_collects_whatever_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    _provide(monkeypatch, trace.NoOpTracerProvider())
    monkeypatch.delenv("OTEL_LOGS_EXPORTER")
    trace_without_words()


def test_it_starts_where_something_else_than_adot_collects(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in EXPORTING:
        monkeypatch.delenv(name, raising=False)
    _provide(monkeypatch, TracerProvider())
    trace_without_words()

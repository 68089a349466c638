"""How runtimes are started: plainly, or with ADOT where the stage's traces are exported, and then nothing else is."""

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from infra.deploy import PLATFORM
from local.template import parse

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

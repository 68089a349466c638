"""Traces without words: what the agent's spans may hold, whoever collects them.

Strands records prompts, answers, what goes into tools and comes out of them as events of its spans, and the text of
exceptions as status; its own switch (OTEL_SEMCONV_STABILITY_OPT_IN) leaves exceptions and tools' errors in. Here a span
takes the attributes that are listed, counts and names, and nothing else: what a later version adds stays out as well.
A model may ask for a tool that there isn't: its words are no name for a span.

Others trace in this process, too: MCP's client records the text of exceptions. Where ADOT exports, the deployment has
nothing sampled (OTEL_TRACES_SAMPLER), and these spans alone are sampled all the same. Where ADOT runs with other
settings than the deployment's, the process doesn't start.

Source: strands-agents, `strands.telemetry.tracer`; OpenTelemetry's API, `opentelemetry.trace`, and its SDK, `Tracer`.
"""

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from opentelemetry import trace
from opentelemetry.sdk.trace import Tracer as SdkTracer
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON
from opentelemetry.trace import Status, StatusCode
from strands.telemetry.tracer import get_tracer

from saas_agent.errors import ConfigurationError

ATTRIBUTES = frozenset(
    {
        *("tenant.id", "tenant.tier", "session.id"),
        *("gen_ai.system", "gen_ai.provider.name", "gen_ai.operation.name", "gen_ai.agent.name", "gen_ai.agent.id"),
        *("gen_ai.request.model", "gen_ai.response.finish_reasons", "gen_ai.agent.tools"),
        *("gen_ai.event.start_time", "gen_ai.event.end_time"),
        *("gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens", "gen_ai.usage.total_tokens"),
        *("gen_ai.usage.prompt_tokens", "gen_ai.usage.completion_tokens"),
        *("gen_ai.usage.cache_read.input_tokens", "gen_ai.usage.cache_creation.input_tokens"),
        *("gen_ai.usage.cache_read_input_tokens", "gen_ai.usage.cache_write_input_tokens"),
        *("gen_ai.server.time_to_first_token", "gen_ai.server.request.duration"),
        *("gen_ai.tool.name", "gen_ai.tool.call.id", "gen_ai.tool.status"),
        *("event_loop.cycle_id", "event_loop.parent_cycle_id", "strands.cancellation.type"),
        "error.type",
    }
)
"""Names, counts and times. No attribute that holds what somebody or a tool said."""


UNKNOWN = "unknown"
"""In place of the name of a tool that the agent doesn't have."""

_OF_TOOLS = "execute_tool "
_TOOL = "gen_ai.tool.name"
_tools: ContextVar[frozenset[str]] = ContextVar("tools", default=frozenset())

# What keeps ADOT from exporting more than the agent's spans, and what a caller's baggage says on them.
_SETTINGS = {
    "OTEL_LOGS_EXPORTER": "none",
    "OTEL_METRICS_EXPORTER": "none",
    "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "*",
    "AWS_REDACT_SPAN_ATTRIBUTES": "aws.agentcore.*",
}


def name_tools(names: Iterable[str]) -> None:
    """Says which tools the agent of this context, that is of this request, has; spans name no other."""
    _tools.set(frozenset(names))


def trace_without_words() -> None:
    """Has every agent of this process trace without words. To be called before the first agent is made.

    Where the process samples nothing, agents' spans are sampled, and they alone. ConfigurationError where ADOT would
    export more than agents' spans.
    """
    _require_nothing_else_exported()
    tracer = get_tracer()
    if isinstance(tracer.tracer, WordlessTracer):
        return
    if isinstance(tracer.tracer, SdkTracer) and _samples_nothing(tracer.tracer):
        tracer.tracer.sampler = ALWAYS_ON
    tracer.tracer = WordlessTracer(tracer.tracer)


def _require_nothing_else_exported() -> None:
    provider = trace.get_tracer_provider()
    if not isinstance(provider, TracerProvider) or not _adot_exports():
        return
    found = {name: os.environ.get(name, "") for name in _SETTINGS}
    sampler = "always_off" if _samples_nothing(provider) else provider.sampler.get_description()
    for name, expected in {"OTEL_TRACES_SAMPLER": "always_off", **_SETTINGS}.items():
        value = found.get(name, sampler)
        if value != expected:
            raise ConfigurationError(
                f"ADOT runs with {name} {value!r} and would export more than the agent's spans; expected {expected!r}, "
                "which the runtime's stack sets: deploy it again, or with Tracing=none"
            )


def _adot_exports() -> bool:
    return os.environ.get("AGENT_OBSERVABILITY_ENABLED", "").lower() == "true" or "OTEL_PYTHON_DISTRO" in os.environ


def _samples_nothing(tracer: SdkTracer | TracerProvider) -> bool:
    return tracer.sampler.get_description() == ALWAYS_OFF.get_description()


def _tool_name(said: Any) -> str:
    return said if isinstance(said, str) and said in _tools.get() else UNKNOWN


def _span_name(name: str) -> str:
    return _OF_TOOLS + _tool_name(name.removeprefix(_OF_TOOLS)) if name.startswith(_OF_TOOLS) else name


class WordlessTracer(trace.Tracer):
    """A tracer whose spans take no words."""

    def __init__(self, tracer: trace.Tracer) -> None:
        self._tracer = tracer

    def start_span(self, name: str, *arguments: Any, **options: Any) -> trace.Span:
        """A span; its attributes may be listed ones only, and its own recording of exceptions is switched off."""
        span = WordlessSpan(
            self._tracer.start_span(
                _span_name(name),
                *arguments,
                **{**options, "attributes": None, "record_exception": False, "set_status_on_exception": False},
            )
        )
        span.set_attributes(options.get("attributes") or {})
        return span

    @contextmanager
    def start_as_current_span(self, name: str, *arguments: Any, **options: Any) -> Iterator[trace.Span]:  # type: ignore[override]
        """Such a span, current while the context lasts."""
        end_on_exit = options.pop("end_on_exit", True)
        with trace.use_span(self.start_span(name, *arguments, **options), end_on_exit=end_on_exit) as span:
            yield span


class WordlessSpan(trace.Span):
    """A span that takes listed attributes and kinds of exceptions, and no event, no status text and nothing else."""

    def __init__(self, span: trace.Span) -> None:
        self._span = span

    def set_attributes(self, attributes: Mapping[str, Any]) -> None:
        """Takes those that are listed."""
        self._span.set_attributes(
            {
                name: _tool_name(value) if name == _TOOL else value
                for name, value in attributes.items()
                if name in ATTRIBUTES
            }
        )

    def set_attribute(self, key: str, value: Any) -> None:
        """Takes it where it is listed."""
        self.set_attributes({key: value})

    def add_event(self, name: str, attributes: Any = None, timestamp: int | None = None) -> None:
        """Takes none: an event of Strands is what somebody said."""

    def record_exception(
        self, exception: BaseException, attributes: Any = None, timestamp: int | None = None, escaped: bool = False
    ) -> None:
        """Takes its kind; its text can quote a prompt."""
        self.set_attribute("error.type", type(exception).__name__)

    def set_status(self, status: Status | StatusCode, description: str | None = None) -> None:
        """Takes the code without the text."""
        self._span.set_status(Status(status if isinstance(status, StatusCode) else status.status_code))

    def update_name(self, name: str) -> None:
        """The name of an operation, an agent or a tool that the agent has."""
        self._span.update_name(_span_name(name))

    def get_span_context(self) -> trace.SpanContext:
        """Which span it is."""
        return self._span.get_span_context()

    def is_recording(self) -> bool:
        """Whether anybody collects it."""
        return self._span.is_recording()

    def end(self, end_time: int | None = None) -> None:
        """Ends it."""
        self._span.end(end_time)

"""The meter's places: in the Strands agent loop, and around the clients of the services that are billed by call."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import Any

from botocore.exceptions import ClientError, EventStreamError
from strands.hooks import (
    AfterModelCallEvent,
    AfterToolCallEvent,
    BeforeModelCallEvent,
    HookOrder,
    HookProvider,
    HookRegistry,
)
from strands.types.exceptions import ContextWindowOverflowException, ModelThrottledException

from saas_agent.metering.rates import Tokens
from saas_agent.metering.record import CANCELLED, ERROR, OK, THROTTLED, OperationKind
from saas_agent.metering.usage import Usage
from saas_agent.tenancy.access import TenantAccess

OPERATIONS: Mapping[str, Mapping[str, tuple[OperationKind, str]]] = {
    "bedrock-agentcore": {
        "create_event": ("memory_operation", "memory.CreateEvent"),
        "delete_event": ("memory_operation", "memory.DeleteEvent"),
        "get_event": ("memory_operation", "memory.GetEvent"),
        "list_events": ("memory_operation", "memory.ListEvents"),
        "list_sessions": ("memory_operation", "memory.ListSessions"),
        "list_memory_records": ("memory_operation", "memory.ListMemoryRecords"),
        "retrieve_memory_records": ("retrieval", "memory.RetrieveMemoryRecords"),
    },
    "bedrock-agent-runtime": {"retrieve": ("retrieval", "knowledge_base.Retrieve")},
}
"""What is metered, by boto3 service and method. The names are those of `rates.toml`."""

# These say that nothing ran. What else a call fails with (a time limit of the model, an error inside of the service)
# doesn't say so.
_REFUSALS = frozenset(
    {
        *("AccessDeniedException", "UnrecognizedClientException", "ExpiredTokenException", "InvalidSignatureException"),
        *("ValidationException", "ResourceNotFoundException", "ServiceQuotaExceededException"),
        *("ThrottlingException", "ModelNotReadyException", "ServiceUnavailableException"),
    }
)

# A model may ask for a tool that there isn't: its words are no name for a record.
UNKNOWN_TOOL = "unknown_tool"


class UsageHooks(HookProvider):
    """Meters every model call and tool call of an agent: `Agent(hooks=[UsageHooks(...)])`.

    Strands tells of the end of a model call in `AfterModelCallEvent`: with the message and, in its
    metadata, Converse's usage when the call came to an end or the agent was cancelled; with the
    exception when it failed; once for each retry. Not at all when the task around it is cancelled
    or the stream closed: then the call that `BeforeModelCallEvent` announced is still under way
    when the invocation ends, and is recorded then.
    """

    def __init__(self, usage: Usage, model_id: str) -> None:
        self._usage = usage
        self._model_id = model_id

    def register_hooks(self, registry: HookRegistry, **_: Any) -> None:
        """Strands calls this once, when the agent is made."""
        # Next to the model on both sides: a hook that stops the call comes before, one that fails
        # after it comes later.
        registry.add_callback(BeforeModelCallEvent, self._model_starts, order=HookOrder.SDK_LAST)
        registry.add_callback(AfterModelCallEvent, self._model_ended, order=HookOrder.SDK_FIRST)
        registry.add_callback(AfterToolCallEvent, self._tool_ended)

    def _model_starts(self, event: BeforeModelCallEvent) -> None:
        if not event.cancel:
            self._usage.model_started(self._model_id)

    def _model_ended(self, event: AfterModelCallEvent) -> None:
        if event.stop_response is None:
            outcome = THROTTLED if isinstance(event.exception, ModelThrottledException) else ERROR
            self._usage.model_ended(Tokens() if _never_ran(event.exception) else None, outcome)
            return
        metadata, reason = event.stop_response.message.get("metadata", {}), event.stop_response.stop_reason
        tokens = _tokens(metadata.get("usage", {}))
        if tokens is None and reason == "guardrail_intervened":
            tokens = Tokens()  # told by a call that was not cut: a prompt that is blocked never gets to the model
        self._usage.model_ended(
            tokens,
            CANCELLED if reason == "cancelled" else OK,
            int(metadata.get("metrics", {}).get("latencyMs", 0)),
        )

    def _tool_ended(self, event: AfterToolCallEvent) -> None:
        if event.cancel_message is None:
            self._usage.operation(
                "tool_call",
                event.selected_tool.tool_name if event.selected_tool else UNKNOWN_TOOL,
                failed=event.exception is not None or event.result.get("status") == "error",
                latency_ms=round((event.duration or 0) * 1000),
            )


def metered(access: TenantAccess, usage: Usage) -> TenantAccess:
    """The same access, whose clients tell `usage` of the operations that are billed by call."""
    session: Any = _MeteredSession(access.session, usage)
    return replace(access, session=session)


class _MeteredSession:
    """A boto3 session whose clients are metered. They are made, and kept, by the session itself."""

    def __init__(self, session: Any, usage: Usage) -> None:
        self._session = session
        self._usage = usage

    def client(self, service_name: str, *arguments: Any, **options: Any) -> Any:
        client = self._session.client(service_name, *arguments, **options)
        operations = OPERATIONS.get(service_name)
        return client if operations is None else _MeteredClient(client, operations, self._usage)

    def retrieval(self, name: str) -> AbstractContextManager[None]:
        return _counted(self._usage, "retrieval", name)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)


class _MeteredClient:
    def __init__(self, client: Any, operations: Mapping[str, tuple[OperationKind, str]], usage: Usage) -> None:
        self._client = client
        self._operations = operations
        self._usage = usage

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._client, name)
        return self._metered(attribute, *self._operations[name]) if name in self._operations else attribute

    def _metered(self, call: Callable[..., Any], kind: OperationKind, name: str) -> Callable[..., Any]:
        def counted(*arguments: Any, **parameters: Any) -> Any:
            with _counted(self._usage, kind, name):
                return call(*arguments, **parameters)

        return counted


@contextmanager
def _counted(usage: Usage, kind: OperationKind, name: str) -> Iterator[None]:
    began, failed = time.monotonic(), True
    try:
        yield
        failed = False
    finally:
        milliseconds = round((time.monotonic() - began) * 1000)
        usage.operation(kind, name, failed=failed, latency_ms=milliseconds)


def _tokens(usage: Any) -> Tokens | None:
    """Converse's usage -> Tokens; None where the model told none, as a call that was cut does.

    The usage comes with the last chunk of a stream, and Strands puts zeros in its place until then.
    Converse's inputTokens are without the cached ones, so the four can be added up (Bedrock API
    reference, TokenUsage).
    """
    tokens = Tokens(
        input=usage.get("inputTokens", 0),
        output=usage.get("outputTokens", 0),
        cache_read=usage.get("cacheReadInputTokens", 0),
        cache_write=usage.get("cacheWriteInputTokens", 0),
    )
    return None if tokens == Tokens() else tokens


def _never_ran(error: Exception | None) -> bool:
    """True where Bedrock turned the request down, so that it used no tokens.

    An error inside a stream is none of these: the model was at work by then.
    """
    if isinstance(error, EventStreamError) or isinstance(getattr(error, "__cause__", None), EventStreamError):
        return False
    if isinstance(error, ClientError):
        return error.response.get("Error", {}).get("Code") in _REFUSALS
    return isinstance(error, ModelThrottledException | ContextWindowOverflowException)

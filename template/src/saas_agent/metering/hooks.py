"""The meter's place in the Strands agent loop."""

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
from saas_agent.metering.usage import CANCELLED, ERROR, OK, Usage


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
            self._usage.model_ended(Tokens() if _never_ran(event.exception) else None, ERROR)
            return
        metadata = event.stop_response.message.get("metadata", {})
        cancelled = event.stop_response.stop_reason == "cancelled"
        self._usage.model_ended(
            _tokens(metadata.get("usage", {})),
            CANCELLED if cancelled else OK,
            int(metadata.get("metrics", {}).get("latencyMs", 0)),
        )

    def _tool_ended(self, event: AfterToolCallEvent) -> None:
        if event.cancel_message is None:
            self._usage.tool_call()


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
    return isinstance(error, ClientError | ModelThrottledException | ContextWindowOverflowException)

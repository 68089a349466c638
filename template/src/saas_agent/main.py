"""The agent's entry point on AgentCore Runtime. `answer` is the way of every request, top to bottom."""

import asyncio
import json
import logging
import os
import sys
import threading
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from contextlib import closing
from dataclasses import replace
from typing import Any

import boto3
from bedrock_agentcore.runtime import BedrockAgentCoreApp, RequestContext
from bedrock_agentcore.runtime.context import BedrockAgentCoreContext
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from saas_agent import wiring
from saas_agent.conversation import Event, converse
from saas_agent.errors import (
    INTERNAL,
    INVALID_REQUEST,
    LIMIT_REACHED,
    ConfigurationError,
    Reason,
    Refused,
)
from saas_agent.metering.hooks import metered
from saas_agent.metering.record import plain, start_refused
from saas_agent.metering.usage import Usage, write_stdout
from saas_agent.settings import Settings
from saas_agent.tenancy import session, token
from saas_agent.tenancy.tiers import Tier
from saas_agent.tracing import trace_without_words

logger = logging.getLogger(__name__)

# What these libraries log quotes prompts, tools' input, callers' headers and the text of exceptions. The last two would
# make handlers of their own.
_QUOTING = (
    *("strands", "mcp", "client", "opentelemetry", "asyncio"),  # "client" is MCP's, too
    *("bedrock_agentcore", "bedrock_agentcore.auth", "bedrock_agentcore.default_token_poller"),
)

# The log of requests. It quotes callers as well, but for these lines, which hold numbers.
_REQUESTS = "bedrock_agentcore.app"
_NUMBERS = ("Invocation completed successfully (%.3fs)", "Invocation returned HTTP %d (%.3fs)")
_SERVER = "uvicorn.error"


def answer(platform: wiring.Platform, payload: object, context: RequestContext) -> Generator[Event, None, None]:
    """Answers one request. Yields `accepted` once everything is checked, then what may leave, `done` last.

    Raises Refused. The tenant comes from the verified token and from nowhere else.
    """
    with platform.meter.invocation(request_id=_request_id()) as usage:
        caller = platform.tokens.caller(context.request_headers)
        usage.identify(tenant_id=caller.tenant.tenant_id, tier=caller.tenant.tier)
        session_id = session.require_own(context.session_id, caller.tenant)
        usage.identify(session_id=session_id)
        prompt = _prompt(payload)
        access = platform.credentials.access(platform.exchange, caller)
        standing = platform.standings.of(access)
        usage.identify(tier=standing.tier.name)
        _require_within(standing.tier, prompt)
        place = wiring.place(platform, caller, access, standing)
        usage.when_closed(platform.quotas.admit(place.access, standing.tier, session_id))
        doors = wiring.open_doors(replace(place, access=metered(place.access, usage)))
        yield {"type": "accepted", "session_id": session_id}
        said = converse(
            prompt,
            session_id=session_id,
            tier=standing.tier,
            doors=doors,
            usage=usage,
            settings=platform.settings,
            require_served=lambda: platform.standings.of(access),
        )
        with closing(_one_by_one(said)) as events:
            for event in events:
                yield {**event, "usage": _usage(usage)} if event["type"] == "done" else event


def create_app(
    settings: Settings,
    *,
    session: boto3.Session,
    fetch_keys: token.FetchKeys = token.fetch_keys,
    write: Callable[[str], object] = write_stdout,
) -> BedrockAgentCoreApp:
    """The HTTP application: POST /invocations, GET /ping. ConfigurationError where isolation is not configured.

    session: boto3 session of the execution role. fetch_keys: issuer -> JWKS. write: takes one usage line at a time.
    """
    _log_without_quotes()
    trace_without_words()
    platform = wiring.open_platform(settings, session=session, fetch_keys=fetch_keys, write=write)
    app = BedrockAgentCoreApp()

    @app.entrypoint
    def invoke(payload: object, context: RequestContext) -> Response:
        events = answer(platform, payload, context)
        try:
            accepted = next(events)
            if isinstance(payload, dict) and payload.get("stream") is True:
                return _Stream(events)
            return JSONResponse(_whole(accepted["session_id"], events))
        except Exception as error:
            reason = _reason(error)
            return JSONResponse({"error": reason.error}, reason.status)

    return app


def run() -> None:
    """Serves the agent as AgentCore Runtime expects it; exits with status 1 and one line if it is not configured."""
    try:
        app = create_app(Settings.from_environ(os.environ), session=boto3.Session())
    except ConfigurationError as error:
        # Seen by an alarm: somebody has switched isolation off.
        write_stdout(start_refused(os.environ.get("SERVICE", "unknown"), os.environ.get("STAGE", "unknown")) + "\n")
        sys.exit(f"The agent does not start: {error}")
    sys.unraisablehook = lambda caught: _log_uncaught(caught.exc_type)
    threading.excepthook = lambda caught: _log_uncaught(caught.exc_type)
    app.run(port=int(os.environ.get("PORT", "8080")))


def _log_uncaught(kind: type[BaseException]) -> None:
    # Python's own hooks print the exception's words.
    logger.error("failed kind=%s", kind.__name__)


class _Stream(StreamingResponse):
    """The events as they come. A stream that its reader cuts is over then, not when somebody collects it."""

    def __init__(self, events: Generator[Event, None, None]) -> None:
        self._events = events
        super().__init__(_server_sent(events), media_type="text/event-stream")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            # In a thread: it runs a loop of its own, and waits until the model has said the rest.
            await run_in_threadpool(self._close)

    def _close(self) -> None:
        try:
            self._events.close()
        except Exception as error:
            _reason(error)  # is logged; who would be told has gone


class _WithoutQuotes(logging.Handler):
    """Logs where a library's warning came from, and which kind of exception came with it, in place of its words."""

    def emit(self, record: logging.LogRecord) -> None:
        kind = record.exc_info[0].__name__ if record.exc_info and record.exc_info[0] else "none"
        logger.log(record.levelno, "library=%s line=%d exception=%s", record.name, record.lineno, kind)


def _holds_numbers(record: logging.LogRecord) -> bool:
    """Whether the log of requests takes the record; what it doesn't take is logged without its words."""
    if record.msg in _NUMBERS and not record.exc_info:
        return True
    if record.levelno >= logging.WARNING:
        _WithoutQuotes().handle(record)
    return False


def _quotes_no_exception(record: logging.LogRecord) -> bool:
    if record.exc_info:
        _WithoutQuotes().handle(record)
    return not record.exc_info


def _log_without_quotes() -> None:
    for name in _QUOTING:
        library = logging.getLogger(name)
        library.handlers, library.propagate = [_WithoutQuotes(logging.WARNING)], False
        library.setLevel(logging.WARNING)
    requests = logging.getLogger(_REQUESTS)
    requests.filters, requests.propagate = [_holds_numbers], False
    # What the web server says of itself, but the exceptions that got to it. A filter outlives the server's own set-up.
    logging.getLogger(_SERVER).filters = [_quotes_no_exception]


def _prompt(payload: object) -> str:
    # Only text: a list of content blocks could smuggle tool calls into the conversation.
    prompt = payload.get("prompt") if isinstance(payload, dict) else None
    if not isinstance(prompt, str) or not prompt.strip():
        raise Refused(INVALID_REQUEST, "the prompt is missing, empty or no text")
    try:
        prompt.encode()
    except UnicodeEncodeError:  # JSON can escape half of a surrogate pair, which no service takes
        raise Refused(INVALID_REQUEST, "the prompt is no text that can be encoded") from None
    return prompt


def _require_within(tier: Tier, prompt: str) -> None:
    if len(prompt) > tier.prompt_characters:
        raise Refused(LIMIT_REACHED, "prompt_characters")


def _usage(usage: Usage) -> dict[str, Any]:
    totals = usage.totals
    return {
        "input_tokens": totals.tokens.input + totals.tokens.cache_read + totals.tokens.cache_write,
        "output_tokens": totals.tokens.output,
        "cost_usd": None if totals.cost is None else plain(totals.cost),
    }


def _request_id() -> str:
    return BedrockAgentCoreContext.get_request_id() or ""


def _one_by_one(events: AsyncIterator[Event]) -> Generator[Event, None, None]:
    """Steps through asynchronous events in the request's own thread, so that no request waits for another's."""
    with asyncio.Runner() as runner:

        async def step() -> Event | None:
            return await anext(events, None)

        try:
            while (event := runner.run(step())) is not None:
                yield event
        finally:
            runner.run(_close(events))


async def _close(events: Any) -> None:
    await events.aclose()


def _whole(session_id: str, events: Iterator[Event]) -> dict[str, Any]:
    text: list[str] = []
    done: Event = {}
    for event in events:
        if event["type"] == "text":
            text.append(event["text"])
        elif event["type"] == "tool":
            text.clear()  # what the model says before a tool call is not its answer
        else:
            done = event
    return {
        "answer": "".join(text).strip(),
        "session_id": session_id,
        "stop_reason": done["stop_reason"],
        "usage": done["usage"],
    }


def _server_sent(events: Iterator[Event]) -> Iterator[str]:
    try:
        for event in events:
            yield f"data: {json.dumps(event)}\n\n"
    except Exception as error:
        reason = _reason(error)
        yield f"data: {json.dumps({'type': 'error', **reason.error})}\n\n"


def _reason(error: Exception) -> Reason:
    """What the caller is told: a refusal's reason, or `internal` for all else. The log gets the kind of error."""
    refused: BaseException | None = error
    while refused is not None and not isinstance(refused, Refused):
        refused = refused.__cause__ or refused.__context__
    if isinstance(refused, Refused):
        logger.warning(
            "refused code=%s detail=%s request_id=%s",
            refused.reason.code,
            refused.detail,
            _request_id(),
        )
        return refused.reason
    # No traceback: its frames and messages can quote prompts and claims.
    logger.error("failed kind=%s request_id=%s", type(error).__name__, _request_id())
    return INTERNAL


if __name__ == "__main__":
    run()

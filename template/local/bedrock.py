"""bedrock-runtime's Converse and ConverseStream, answered by a brain.

A `guardrailConfig` is accepted and its guardrail checks nothing: no text is ever blocked, masked or
traced here.
"""

import time
from collections.abc import Iterator, Mapping
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from werkzeug.wrappers import Response

from . import eventstream
from .brain import OfflineBrain
from .converse import Brain, Request
from .gate import Gate
from .operations import Call, ServiceError, validate


def register(gate: Gate, brain: Brain) -> None:
    """Answer Converse and ConverseStream at this gate with `brain`, whatever the model id."""

    def converse(call: Call) -> dict[str, Any]:
        _check(call)
        started = time.monotonic()
        answer = brain.converse(call.params)
        return {"metrics": _metrics(started), **answer}

    def converse_stream(call: Call) -> Response:
        _check(call)
        started = time.monotonic()
        events = brain.stream(call.params)
        # An error before the first event must become an HTTP status, which goes out first.
        first = next(events)
        return Response(_encoded(first, events, started), content_type=eventstream.MEDIA_TYPE)

    gate.handle("bedrock-runtime", "Converse", converse)
    gate.handle("bedrock-runtime", "ConverseStream", converse_stream)


def choose(environ: Mapping[str, str], region: str) -> Brain:
    """The brain that LOCAL_MODEL names; ValueError for anything but the following.

    offline (or unset): the deterministic stand-in.
    openai:<base url>#<model>: an OpenAI-compatible endpoint, with the API key of LOCAL_MODEL_KEY if
        it is set.
    bedrock: the real Bedrock in `region`, with the developer's own default AWS credentials.
    """
    setting = environ.get("LOCAL_MODEL") or "offline"
    if setting == "offline":
        return OfflineBrain()
    if setting == "bedrock":
        return RealBedrock(outside_client(region))
    url, _, model = setting.removeprefix("openai:").partition("#")
    if setting.startswith("openai:") and url.startswith(("http://", "https://")) and model:
        # Only this choice needs an HTTP client.
        from .chat_completions import ChatCompletions

        return ChatCompletions(url, model, environ.get("LOCAL_MODEL_KEY", ""))
    raise ValueError(
        f"LOCAL_MODEL={setting.partition(':')[0]}...: unknown or incomplete; "
        "expected offline, bedrock or openai:<base url>#<model>"
    )


def outside_client(region: str) -> Any:
    """A bedrock-runtime client that calls AWS itself, with the default credentials and profile."""
    # The local cloud redirects every other client by AWS_ENDPOINT_URL.
    config = Config(ignore_configured_endpoint_urls=True)
    return boto3.Session().client("bedrock-runtime", region_name=region, config=config)


class RealBedrock(Brain):
    """The real Bedrock: requests and events pass unchanged, paid by the developer's own account."""

    def __init__(self, client: Any) -> None:
        """`client`: of bedrock-runtime, see `outside_client`."""
        self._client = client

    def converse(self, request: Request) -> dict[str, Any]:
        try:
            answer = dict(self._client.converse(**request))
        except (ClientError, BotoCoreError) as error:
            raise _service_error(error) from None
        answer.pop("ResponseMetadata", None)
        return answer

    def stream(self, request: Request) -> Iterator[dict[str, Any]]:
        try:
            yield from self._client.converse_stream(**request)["stream"]
        except (ClientError, BotoCoreError) as error:
            raise _service_error(error) from None


def _service_error(error: ClientError | BotoCoreError) -> ServiceError:
    if not isinstance(error, ClientError):
        return ServiceError(
            "ServiceUnavailableException",
            f"LOCAL_MODEL=bedrock: {type(error).__name__}; expected AWS credentials and network",
            503,
        )
    answer = error.response
    status = answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 400)
    return ServiceError(answer["Error"]["Code"], answer["Error"]["Message"], status)


def _encoded(first: dict[str, Any], rest: Iterator[dict[str, Any]], started: float) -> Iterator[bytes]:
    """The stream's bytes; an error on the way ends it with an exception message, as at AWS."""
    try:
        yield _encoded_event(first, started)
        for event in rest:
            yield _encoded_event(event, started)
    except ServiceError as error:
        name = error.code[:1].lower() + error.code[1:]
        yield eventstream.exception(name, error.message)


def _encoded_event(event: dict[str, Any], started: float) -> bytes:
    ((name, body),) = event.items()
    if name == "metadata":
        body = {"metrics": _metrics(started), **body}
    return eventstream.event(name, body)


def _metrics(started: float) -> dict[str, int]:
    return {"latencyMs": max(1, round((time.monotonic() - started) * 1000))}


def _check(call: Call) -> None:
    """Refuse what Bedrock refuses in a conversation; a ValidationException in its own words."""
    validate(call)
    messages = call.params.get("messages") or []
    if not messages or messages[0]["role"] != "user":
        raise _invalid(
            "A conversation must start with a user message. Try again with a conversation that "
            "starts with a user message."
        )
    for index, message in enumerate(messages):
        for position, block in enumerate(message["content"]):
            if "text" in block and not block["text"].strip():
                raise _invalid(
                    f"The text field in the ContentBlock object at messages.{index}.content."
                    f"{position} is blank. Add text to the text field, and try again."
                )
    _check_tools(messages, call.params)


def _check_tools(messages: list[dict[str, Any]], params: Mapping[str, Any]) -> None:
    """Every tool use is answered in the next message, and tools in use are declared."""
    expected: list[str] = []
    for index, message in enumerate(messages):
        uses = [b["toolUse"]["toolUseId"] for b in message["content"] if "toolUse" in b]
        results = [b["toolResult"]["toolUseId"] for b in message["content"] if "toolResult" in b]
        if (uses or results) and not params.get("toolConfig"):
            raise _invalid("The toolConfig field must be defined when using toolUse and toolResult content blocks.")
        missing = [use for use in expected if use not in results]
        if missing:
            raise _invalid(
                f"Expected toolResult blocks at messages.{index}.content for the following Ids: {', '.join(missing)}"
            )
        if len(results) > len(expected):
            raise _invalid(
                f"The number of toolResult blocks at messages.{index}.content exceeds the number "
                "of toolUse blocks of previous turn."
            )
        expected = uses
    if expected:
        raise _invalid(
            f"Expected toolResult blocks at messages.{len(messages)}.content for the following "
            f"Ids: {', '.join(expected)}"
        )


def _invalid(message: str) -> ServiceError:
    return ServiceError("ValidationException", message)

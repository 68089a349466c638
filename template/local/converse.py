"""Bedrock's Converse API seen from the model's side: request in, message out, tokens counted."""

import json
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any

Request = Mapping[str, Any]
"""Parameters of Converse: messages, system, toolConfig, inferenceConfig, ..."""

_CHARACTERS_PER_TOKEN = 4
_CHARACTERS_PER_DELTA = 24


class Brain(ABC):
    """What answers Converse in place of a model."""

    @abstractmethod
    def converse(self, request: Request) -> dict[str, Any]:
        """The response's `output`, `stopReason` and `usage`; ServiceError when there is none."""

    def stream(self, request: Request) -> Iterator[dict[str, Any]]:
        """The events of ConverseStream; unless a brain does better, the whole answer cut up."""
        yield from stream_events(self.converse(request))


def response(content: list[dict[str, Any]], stop_reason: str, usage: Any) -> dict[str, Any]:
    """A Converse response with one assistant message."""
    return {
        "output": {"message": {"role": "assistant", "content": content}},
        "stopReason": stop_reason,
        "usage": usage,
    }


def stream_events(answer: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """A whole Converse response as the events that ConverseStream would have sent."""
    message = answer["output"]["message"]
    yield {"messageStart": {"role": message["role"]}}
    for index, block in enumerate(message["content"]):
        if "toolUse" in block:
            use = block["toolUse"]
            start = {"toolUse": {"toolUseId": use["toolUseId"], "name": use["name"]}}
            yield {"contentBlockStart": {"start": start, "contentBlockIndex": index}}
        for delta in _deltas(block):
            yield {"contentBlockDelta": {"delta": delta, "contentBlockIndex": index}}
        yield {"contentBlockStop": {"contentBlockIndex": index}}
    yield {"messageStop": {"stopReason": answer["stopReason"]}}
    yield {"metadata": {"usage": answer["usage"]}}


def _deltas(block: Mapping[str, Any]) -> list[dict[str, Any]]:
    if "toolUse" in block:
        return [{"toolUse": {"input": p}} for p in _pieces(json.dumps(block["toolUse"]["input"]))]
    return [{"text": piece} for piece in _pieces(block["text"])]


def _pieces(text: str) -> list[str]:
    size = _CHARACTERS_PER_DELTA
    return [text[start : start + size] for start in range(0, len(text), size)]


def count_usage(request: Request, content: list[dict[str, Any]]) -> dict[str, int]:
    """Converse's `usage`, the same for the same text: about four characters are one token.

    What stands before the last cachePoint counts as read from the cache, never as written to it,
    and, as with Bedrock, not as input.
    """
    cached = fresh = 0
    cache_used = False
    for block in _input_blocks(request):
        if "cachePoint" in block:
            cached, fresh, cache_used = cached + fresh, 0, True
        else:
            fresh += len(_text(block))
    read, new = _tokens(cached), _tokens(fresh)
    written = _tokens(sum(len(_text(block)) for block in content))
    usage = {"inputTokens": new, "outputTokens": written, "totalTokens": read + new + written}
    if cache_used:
        usage |= {"cacheReadInputTokens": read, "cacheWriteInputTokens": 0}
    return usage


def cut_to(content: list[dict[str, Any]], tokens: int | None) -> tuple[list[dict[str, Any]], bool]:
    """Text blocks cut to `tokens` tokens in all (None: as they are), and whether any was cut."""
    if tokens is None:
        return content, False
    left = tokens * _CHARACTERS_PER_TOKEN
    kept: list[dict[str, Any]] = []
    for block in content:
        kept.append({"text": block["text"][:left]})
        left = max(0, left - len(block["text"]))
    return [block for block in kept if block["text"]], kept != content


def _input_blocks(request: Request) -> Iterator[Mapping[str, Any]]:
    """Everything that the model reads, in the order in which Bedrock caches it."""
    yield from (request.get("toolConfig") or {}).get("tools", [])
    yield from request.get("system") or []
    for message in request.get("messages") or []:
        yield from message["content"]


def _text(block: Mapping[str, Any]) -> str:
    # Images and documents count by their description alone; nothing here reads them.
    if "text" in block:
        return str(block["text"])
    return json.dumps(block, ensure_ascii=False, default=lambda _: None)


def _tokens(characters: int) -> int:
    return math.ceil(characters / _CHARACTERS_PER_TOKEN)

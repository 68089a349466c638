"""A model behind an OpenAI-compatible `chat/completions` endpoint, in place of Bedrock."""

import base64
import json
from collections.abc import Iterator, Mapping
from typing import Any

import httpx

from .converse import Brain, Request, count_usage, response
from .operations import ServiceError

_STOP_REASONS = {
    "stop": "end_turn",
    "tool_calls": "tool_use",
    "function_call": "tool_use",
    "length": "max_tokens",
    "content_filter": "content_filtered",
}
_TIMEOUT = httpx.Timeout(120, connect=10)


class ChatCompletions(Brain):
    """Translates Converse to chat completions and back, tool calls included.

    base_url: up to and without `/chat/completions`. The request's `modelId` is not looked at: every
    tier is served by `model`. An answer is fetched whole, so ConverseStream sends it at the end.
    Taken: text, images, tool uses and results; cache points and reasoning are left out; anything
    else is refused with a ValidationException.
    """

    def __init__(self, base_url: str, model: str, key: str) -> None:
        try:
            self._url = httpx.URL(f"{base_url.rstrip('/')}/chat/completions")
        except httpx.InvalidURL:
            raise ValueError("the base URL is not a URL; expected http(s)://host[:port]/path") from None
        # A URL may carry a password; what is shown of it doesn't.
        self._shown = str(self._url.copy_with(userinfo=b"", query=None))
        self._model = model
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}

    def converse(self, request: Request) -> dict[str, Any]:
        answer = self._post(_body(request, self._model))
        try:
            choice = answer["choices"][0]
            content = _content(choice["message"])
        except (KeyError, IndexError, TypeError, ValueError):
            raise ServiceError(
                "ModelErrorException",
                f"{self._shown} gave no usable answer; expected choices[0].message",
                424,
            ) from None
        stop_reason = _STOP_REASONS.get(choice.get("finish_reason") or "stop", "end_turn")
        # Some servers say "stop" even when they call a tool.
        if any("toolUse" in block for block in content):
            stop_reason = "tool_use"
        return response(content, stop_reason, _usage(answer.get("usage"), request, content))

    def _post(self, body: dict[str, Any]) -> dict[str, Any]:
        try:
            reply = httpx.post(self._url, json=body, headers=self._headers, timeout=_TIMEOUT)
            if reply.is_success:
                return dict(reply.json())
        except httpx.HTTPError as error:
            raise ServiceError(
                "ServiceUnavailableException",
                f"{self._shown} can't be reached ({type(error).__name__}); see LOCAL_MODEL",
                503,
            ) from None
        except ValueError:
            raise ServiceError(
                "ModelErrorException", f"{self._shown} answered with something else than JSON", 424
            ) from None
        code, status = {
            400: ("ValidationException", 400),
            401: ("AccessDeniedException", 403),
            403: ("AccessDeniedException", 403),
            404: ("ResourceNotFoundException", 404),
            429: ("ThrottlingException", 429),
        }.get(reply.status_code, ("ModelErrorException", 424))
        raise ServiceError(
            code,
            f"{self._shown} answered {reply.status_code}; see LOCAL_MODEL, LOCAL_MODEL_KEY",
            status,
        )


def _body(request: Request, model: str) -> dict[str, Any]:
    body: dict[str, Any] = {"model": model, "messages": list(_messages(request))}
    tool_config = request.get("toolConfig") or {}
    tools = [_tool(tool["toolSpec"]) for tool in tool_config.get("tools", []) if "toolSpec" in tool]
    if tools:
        body["tools"] = tools
        body["tool_choice"] = _tool_choice(tool_config.get("toolChoice") or {"auto": {}})
    settings = request.get("inferenceConfig") or {}
    for ours, theirs in (
        ("maxTokens", "max_tokens"),
        ("temperature", "temperature"),
        ("topP", "top_p"),
        ("stopSequences", "stop"),
    ):
        if ours in settings:
            body[theirs] = settings[ours]
    return body


def _tool(spec: Mapping[str, Any]) -> dict[str, Any]:
    function = {"name": spec["name"], "parameters": spec["inputSchema"]["json"]}
    if "description" in spec:
        function["description"] = spec["description"]
    return {"type": "function", "function": function}


def _tool_choice(choice: Mapping[str, Any]) -> Any:
    if "tool" in choice:
        return {"type": "function", "function": {"name": choice["tool"]["name"]}}
    return "required" if "any" in choice else "auto"


def _messages(request: Request) -> Iterator[dict[str, Any]]:
    system = [block["text"] for block in request.get("system") or [] if "text" in block]
    if system:
        yield {"role": "system", "content": "\n\n".join(system)}
    for message in request["messages"]:
        if message["role"] == "assistant":
            yield _assistant_message(message["content"])
        else:
            yield from _user_messages(message["content"])


def _assistant_message(blocks: list[dict[str, Any]]) -> dict[str, Any]:
    text = "".join(block["text"] for block in blocks if "text" in block)
    calls = [
        {
            "id": block["toolUse"]["toolUseId"],
            "type": "function",
            "function": {
                "name": block["toolUse"]["name"],
                "arguments": json.dumps(block["toolUse"]["input"], ensure_ascii=False),
            },
        }
        for block in blocks
        if "toolUse" in block
    ]
    return {
        "role": "assistant",
        "content": text or None,
        **({"tool_calls": calls} if calls else {}),
    }


def _user_messages(blocks: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Tool results first, each a message of its own: they must follow the call at once."""
    for block in blocks:
        if "toolResult" in block:
            result = block["toolResult"]
            text = "\n".join(_result_part(part) for part in result["content"])
            failed = "Error: " if result.get("status") == "error" else ""
            yield {
                "role": "tool",
                "tool_call_id": result["toolUseId"],
                "content": failed + text,
            }
    skipped = ("toolResult", "cachePoint")
    parts = [_user_part(block) for block in blocks if not any(kind in block for kind in skipped)]
    if parts:
        only_text = all(part["type"] == "text" for part in parts)
        content = "\n".join(part["text"] for part in parts) if only_text else parts
        yield {"role": "user", "content": content}


def _result_part(part: Mapping[str, Any]) -> str:
    if "text" in part:
        return str(part["text"])
    if "json" in part:
        return json.dumps(part["json"], ensure_ascii=False)
    raise _untranslatable(part)


def _user_part(block: Mapping[str, Any]) -> dict[str, Any]:
    if "text" in block:
        return {"type": "text", "text": block["text"]}
    if "text" in block.get("guardContent", {}):
        return {"type": "text", "text": block["guardContent"]["text"]["text"]}
    if "bytes" in block.get("image", {}).get("source", {}):
        data = base64.b64encode(block["image"]["source"]["bytes"]).decode()
        url = f"data:image/{block['image']['format']};base64,{data}"
        return {"type": "image_url", "image_url": {"url": url}}
    raise _untranslatable(block)


def _untranslatable(block: Mapping[str, Any]) -> ServiceError:
    return ServiceError(
        "ValidationException",
        f"LOCAL_MODEL=openai can't pass on {', '.join(block)}; expected text, images, tool results",
    )


def _content(message: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Converse's content of a chat message; ValueError where tool arguments are no object."""
    content: list[dict[str, Any]] = []
    if message.get("content"):
        content.append({"text": message["content"]})
    for number, call in enumerate(message.get("tool_calls") or []):
        function = call["function"]
        arguments = json.loads(function.get("arguments") or "{}")
        if not isinstance(arguments, dict):
            raise ValueError("tool arguments must be a JSON object")
        use = {
            # Some servers number no calls.
            "toolUseId": call.get("id") or f"call_{number}",
            "name": function["name"],
            "input": arguments,
        }
        content.append({"toolUse": use})
    return content


def _usage(reported: Mapping[str, Any] | None, request: Request, content: list[dict[str, Any]]) -> dict[str, int]:
    """As the endpoint reports it; counted from the text where it reports nothing."""
    if not reported or "prompt_tokens" not in reported:
        return count_usage(request, content)
    read = (reported.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
    prompt, written = reported["prompt_tokens"], reported.get("completion_tokens", 0)
    usage = {
        "inputTokens": prompt - read,
        "outputTokens": written,
        "totalTokens": prompt + written,
    }
    if read:
        usage |= {"cacheReadInputTokens": read, "cacheWriteInputTokens": 0}
    return usage

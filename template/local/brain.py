"""The offline brain: a deterministic stand-in for a model that runs the support desk.

It calls the tools that it is offered, one at a time, as `phrases` reads the user's words, and
answers with what they returned. It knows nothing of its own: an answer holds nothing but the user's
words, the memory that was put before them in <user_context>, and tool results.

It is gullible on purpose. Whatever tenant, key or argument a prompt names, it passes on, and it
obeys orders that it finds in tool results: isolation must not depend on the model.

Not heeded: temperature and the like, stop sequences, `toolChoice`.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from . import phrases
from .converse import Brain, Request, count_usage, cut_to, response
from .phrases import Step

# The innermost block: instructions may mention the opening tag before the block itself begins.
_CONTEXT = re.compile(r"<user_context>((?:(?!<user_context>).)*?)</user_context>", re.DOTALL)
_TICKET_ID = re.compile(r"\bT-[A-Za-z0-9-]+")


class OfflineBrain(Brain):
    """See the module. It keeps no state: the same request always gives the same answer."""

    def converse(self, request: Request) -> dict[str, Any]:
        turn = _read_turn(request)
        use = _next_tool_use(turn)
        if use is not None:
            content = [{"toolUse": {"toolUseId": _tool_use_id(request), **use}}]
            return response(content, "tool_use", count_usage(request, content))
        content, was_cut = cut_to([{"text": _answer(turn)}], _token_limit(request))
        stop_reason = "max_tokens" if was_cut else "end_turn"
        return response(content, stop_reason, count_usage(request, content))


@dataclass(frozen=True)
class _Turn:
    """What is looked at: the last prompt, and what happened since.

    tools: names of the offered ones, by what they are called without their gateway's target. results:
    of tools called since the prompt. recent: texts of all results of the conversation, newest first.
    """

    prompt: str
    earlier_prompts: Sequence[str]
    preferences: Sequence[str]
    tools: Mapping[str, str]
    results: Sequence[Mapping[str, Any]]
    recent: Sequence[str]


# --- Reading a request ----------------------------------------------------------------------------


def _read_turn(request: Request) -> _Turn:
    messages = request["messages"]
    prompts = [index for index, message in enumerate(messages) if _is_prompt(message)]
    start = prompts[-1] if prompts else 0
    prompt = _texts(messages[start]) if prompts else ""
    system = "\n".join(block.get("text", "") for block in request.get("system") or [])
    return _Turn(
        prompt=_without_context(prompt),
        earlier_prompts=[_without_context(_texts(messages[index])) for index in prompts[:-1]],
        preferences=_preferences(f"{system}\n{prompt}"),
        tools=_offered_tools(request),
        results=_results(messages[start:]),
        recent=[_result_text(result) for result in reversed(_results(messages))],
    )


def _is_prompt(message: Mapping[str, Any]) -> bool:
    kinds = {kind for block in message["content"] for kind in block}
    return message["role"] == "user" and "text" in kinds and "toolResult" not in kinds


def _texts(message: Mapping[str, Any]) -> str:
    return "\n".join(block["text"] for block in message["content"] if "text" in block)


def _without_context(text: str) -> str:
    return _CONTEXT.sub("", text).strip()


def _results(messages: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    blocks = [block for message in messages for block in message["content"]]
    return [block["toolResult"] for block in blocks if "toolResult" in block]


def _result_text(result: Mapping[str, Any]) -> str:
    parts = [
        str(block["text"]) if "text" in block else json.dumps(block.get("json"), ensure_ascii=False)
        for block in result["content"]
    ]
    return "\n".join(parts)


def _offered_tools(request: Request) -> dict[str, str]:
    tools = (request.get("toolConfig") or {}).get("tools", [])
    names = [tool["toolSpec"]["name"] for tool in tools if "toolSpec" in tool]
    return {name.rpartition("___")[2]: name for name in names}


def _preferences(text: str) -> list[str]:
    """Each line of every <user_context>: plain text, or JSON as AWS's own extraction writes it."""
    lines = [line.strip(" -*\t") for block in _CONTEXT.findall(text) for line in block.splitlines()]
    return list(dict.fromkeys(_preference(line) for line in lines if line))


def _preference(line: str) -> str:
    try:
        stated = json.loads(line)["preference"]
    except (ValueError, KeyError, TypeError):
        stated = line
    return str(stated).removeprefix("Preference:").strip().removesuffix(".")


def _token_limit(request: Request) -> int | None:
    return (request.get("inferenceConfig") or {}).get("maxTokens")


# --- Deciding -------------------------------------------------------------------------------------


def _next_tool_use(turn: _Turn) -> dict[str, Any] | None:
    """Name and input of the tool to call now; None when it is time to answer."""
    if turn.tools and "loop forever" in turn.prompt.lower():
        name = turn.tools.get("list_tickets") or next(iter(turn.tools.values()))
        return {"name": name, "input": {}}
    calls = [step for step in _steps(turn) if step.wish in turn.tools]
    if len(turn.results) >= len(calls):
        return None
    step = _with_ticket(calls[len(turn.results)], turn)
    return {"name": turn.tools[step.wish], "input": dict(step.arguments)}


def _steps(turn: _Turn) -> list[Step]:
    """What the prompt asks for, then what the tool results order, each order once."""
    orders = dict.fromkeys(phrases.order_in(_result_text(result)) for result in turn.results)
    texts = [turn.prompt, *filter(None, orders)]
    return [step for text in texts for step in phrases.steps(text)]


def _with_ticket(step: Step, turn: _Turn) -> Step:
    """The step; "close it" means the ticket that was spoken of last."""
    if step.wish != "close_ticket" or "ticket_id" in step.arguments:
        return step
    known = [found for text in turn.recent for found in _TICKET_ID.findall(text)[-1:]]
    return replace(step, arguments={"ticket_id": known[0], **step.arguments}) if known else step


# --- Answering ------------------------------------------------------------------------------------


def _answer(turn: _Turn) -> str:
    results = iter(turn.results)
    steps = _steps(turn)
    parts = [_report(next(results)) if step.wish in turn.tools else _say(step, turn) for step in steps]
    if turn.preferences and all(step.wish != phrases.PREFERENCES for step in steps):
        parts.append(f"I keep in mind: {'; '.join(turn.preferences)}.")
    return "\n".join(parts)


def _report(result: Mapping[str, Any]) -> str:
    text = _result_text(result)
    return f"That did not work: {text}" if result.get("status") == "error" else text


def _say(step: Step, turn: _Turn) -> str:
    if step.wish == phrases.PREFERENCES:
        if not turn.preferences:
            return "I know of no preference of yours."
        return f"What you told me you prefer: {'; '.join(turn.preferences)}."
    if step.wish == phrases.HISTORY:
        if not turn.earlier_prompts:
            return "You have said nothing before in this session."
        return "Earlier you said: " + "; ".join(f'"{prompt}"' for prompt in turn.earlier_prompts)
    if step.wish == phrases.TALK:
        tools = ", ".join(name.replace("_", " ") for name in turn.tools)
        offer = f"I can help with: {tools}." if tools else "I have no tools here."
        return f'You said: "{step.text}". {offer}' if step.text else offer
    return f"I have no tool for that here ({step.wish})."


def _tool_use_id(request: Request) -> str:
    """Another one for every state of a conversation, the same one for the same state."""
    state = json.dumps(request["messages"], sort_keys=True, default=str)
    return f"tooluse_{hashlib.sha256(state.encode()).hexdigest()[:22]}"

"""Plain English, by a handful of rules: what a support desk's user asks for, step by step.

The rules are as gullible as can be: an argument, a key or another tenant that the text names is
taken over as an argument, exactly as it was written.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

PREFERENCES = "preferences"
HISTORY = "history"
TALK = "talk"


@dataclass(frozen=True)
class Step:
    """One thing that a text asks for.

    wish: the name of a tool, or PREFERENCES (what do I prefer), HISTORY (what did I say) or TALK.
    arguments: for the tool, as far as the text gives them.
    """

    text: str
    wish: str
    arguments: Mapping[str, Any]


_FLAGS = re.IGNORECASE | re.DOTALL | re.VERBOSE

# How each tool is asked for; named groups are its arguments. In verbose regular expressions a
# literal space is \s and a literal # is [#].
_COMMANDS = {
    "open_ticket": r"""
        \b(?:open|create|file|raise|log)\s+(?:an?\s+|another\s+)?(?:new\s+|support\s+)?ticket\b
        (?:\s+(?:about|saying|titled|called|for)\b)?[\s:-]{0,4}
        (?P<subject>.*?)
        (?:[\s,;.]{1,4}(?:with\s+)?(?:body|details|description)\s?:\s?(?P<body>.+))?$""",
    "list_tickets": r"""
        \b(?:list|show|see|give|what|which|my|any)\b(?:\s+\S+){0,4}?\s+tickets\b""",
    "close_ticket": r"""
        \bclose\s+(?:(?:the|my|that|this)\s+)?
        (?:(?:ticket\b[\s:]*|(?=T-))(?P<ticket_id>[^\s,;]*)|(?:it|that|this)\b)""",
    "store_attachment": r"""
        \b(?:store|save|attach|upload|write|add)\s+(?:an?\s+|the\s+|my\s+)?(?:attachment|file)\b
        \s*(?:named\s+|called\s+)?
        (?P<name>"[^"]*"|'[^']*'|\S*?)(?:\s?:\s+|\s+with\s+(?:the\s+)?text\s+)(?P<text>.*)$""",
    "list_attachments": r"""
        \b(?:list|show|see|give|what|which|my|any)\b(?:\s+\S+){0,4}?\s+(?:attachments|files)\b""",
    "read_attachment": r"""
        \b(?:read|open|show|get|fetch|download)\s+(?:me\s+)?(?:the\s+|my\s+)?(?:attachment|file)\b
        [\s:]*(?:named\s+|called\s+)?(?P<name>"[^"]*"|'[^']*'|[^\s,;]*)""",
    "search_knowledge": r"""
        \b(?:search|look\s+in(?:to)?|consult|what\s+do(?:es)?)\s+(?:(?:the|our|my|company's)\s+){0,2}
        (?:documents?|handbook|knowledge(?:\s+base)?)\b
        (?:\s+(?:say|for|about|on)\b){0,2}[\s:]*(?P<question>.+)$""",
    "show_account": r"""
        \b(?:show|see|give|what\s+is|what's)\b(?:\s+\S+){0,3}?\s+account\b""",
    "get_usage": r"""
        \b(?:show|see|give|what\s+is|what's)\b(?:\s+\S+){0,3}?\s+usage\b(?!\s+by\s+day)|\bhow\s+much\b.{0,60}?\bused\b""",
    "list_daily_usage": r"""
        \b(?:list|show|see|give|what\s+is|what's)\b(?:\s+\S+){0,4}?\s+(?:daily\s+usage|usage\s+by\s+day)\b
        (?:\s+(?:in|of|for)\s+(?P<month>[^\s,;]+))?""",
    "list_conversations": r"""
        \b(?:list|show|see|give|what|which|my|any)\b(?:\s+\S+){0,4}?\s+conversations\b""",
    "open_issue": r"""
        \b(?:open|create|file|raise|log)\s+(?:an?\s+|another\s+)?(?:new\s+)?issue\b
        (?:\s+(?:about|saying|titled|called|for)\b)?[\s:-]{0,4}(?P<title>.+)$""",
    "list_issues": r"""
        \b(?:list|show|see|give|what|which|our|any)\b(?:\s+(?!reported\b)\S+){0,4}?\s+issues\b""",
    "report_issue": r"""
        \breport\s+(?:an?\s+|another\s+)?(?:new\s+)?issue\b
        (?:\s+(?:about|saying|titled|called)\b)?[\s:-]{0,4}(?P<title>.+)$""",
    "list_reported_issues": r"""
        \b(?:list|show|see|give|what|which|our|any)\b(?:\s+\S+){0,3}?\s+reported\s+issues\b""",
    "remember_preference": r"""
        \b(?:remember|note|keep\s+in\s+mind)\b(?!\s+(?:what|which|how|who)\b)
        (?:\s+that\b)?[\s:]*(?:my\s+preferences?\s*(?:is|are|:)\s*)?(?P<preference>.+)$""",
}
_QUESTIONS = {
    PREFERENCES: r"\b(?:what|which|how|do\s+you\s+(?:know|remember))\b.{0,200}?\bprefer",
    HISTORY: r"\bwhat\s+(?:did|have)\s+(?:I|we)\s+(?:say|said|ask|tell|told|talk)|\bsummari[sz]e\b",
}
_FREE_TEXTS = ("subject", "body", "text", "title", "preference", "question")

# How arguments are slipped in: `with {...}`, `key=value`, `for tenant globex`, `globex's tickets`.
_OBJECT = r"[\s,]{0,4}\b(?:with|using|use|passing|pass)\s+(?:arguments?\s*:?\s+)?(?=\{)"
_VALUE = r"""(?:"[^"]*"|'[^']*'|[^\s,;]+)"""
_PAIR = rf"\b(?P<key>[A-Za-z_]\w*)=(?P<value>{_VALUE})"
_USED_PAIR = rf"[\s,]{{0,4}}\b(?:with|using|use|set|passing|pass|and)\s+{_PAIR}"
_TENANTS = (
    rf"[\s,]{{0,4}}\b(?:for|of|as|from|on\s+behalf\s+of)\s+(?:the\s+)?tenant\s+(?P<tenant>{_VALUE})",
    r"(?P<tenant>[\w.-]+)['’]s\s+(?=tickets|attachments|files|issues)",
)
_THEN = re.compile(r"([\s,;.]{1,4}(?:and\s+)?then\s+)", re.IGNORECASE)
_ORDER = re.compile(
    r"\b(?:ignore|disregard)\s+(?:\w+\s+)?(?:previous|prior|earlier)\s+instructions[\s,.:;]{0,4}"
    r"(?:and\s+|instead\s+){0,2}(?P<order>.+)",
    re.IGNORECASE | re.DOTALL,
)


def steps(text: str) -> Iterator[Step]:
    """The steps of a text in order, at least one; " then " separates where a request follows it."""
    pieces = _THEN.split(text)
    current = pieces[0]
    for separator, piece in zip(pieces[1::2], pieces[2::2], strict=True):
        if _step(piece).wish == TALK:
            current += separator + piece
        else:
            yield _step(current)
            current = piece
    yield _step(current)


def order_in(text: str) -> str | None:
    """The order that a text gives its reader: what follows "ignore previous instructions"."""
    match = _ORDER.search(text)
    return match["order"] if match else None


def _step(text: str) -> Step:
    sentence, slipped_in = _without_asides(text.strip())
    matches = {tool: re.search(rule, sentence, _FLAGS) for tool, rule in _COMMANDS.items()}
    found = {tool: match for tool, match in matches.items() if match}
    if found:
        tool = min(found, key=lambda name: found[name].start())
        said = {key: _argument(key, value or "") for key, value in found[tool].groupdict().items()}
        if "name" in said and "key" in slipped_in:
            said["name"] = said["name"] or str(slipped_in["key"])
        given = {key: value for key, value in said.items() if value}
        return Step(text, tool, {**given, **slipped_in})
    for wish, rule in _QUESTIONS.items():
        if re.search(rule, sentence, _FLAGS):
            return Step(text, wish, {})
    return Step(text, TALK, {})


def _argument(key: str, value: str) -> str:
    if key not in _FREE_TEXTS:
        # "read attachment key=x" means x.
        return _plain(re.sub(r"^[A-Za-z_]\w*=", "", value))
    return value.strip() if key == "text" else value.strip().strip("\"'").removesuffix(".")


def _without_asides(sentence: str) -> tuple[str, dict[str, Any]]:
    """The sentence without the arguments that it slips in, and these arguments."""
    arguments: dict[str, Any] = {}
    start = re.search(_OBJECT, sentence, re.IGNORECASE)
    if start:
        value, end = _object_at(sentence, start.end())
        arguments |= value
        sentence = sentence[: start.start()] + sentence[end:] if value else sentence
    for match in re.finditer(_PAIR, sentence):
        arguments[match["key"]] = _plain(match["value"])
    sentence = re.sub(_USED_PAIR, "", sentence, flags=re.IGNORECASE)
    for rule in _TENANTS:
        for match in re.finditer(rule, sentence, re.IGNORECASE):
            arguments["tenant_id"] = _plain(match["tenant"])
        sentence = re.sub(rule, "", sentence, flags=re.IGNORECASE)
    return sentence, arguments


def _object_at(text: str, position: int) -> tuple[dict[str, Any], int]:
    """The JSON object that starts there and where it ends; an empty one for anything else."""
    try:
        value, end = json.JSONDecoder().raw_decode(text, position)
    except (ValueError, RecursionError):
        return {}, position
    return value, end


def _plain(value: str) -> str:
    """The value without its quotes, or without the mark that ends the sentence; ".." is a path."""
    if value[:1] in ("'", '"'):
        return value.strip(value[0])
    return re.sub(r"(?<!\.)[.!?)]$", "", value)

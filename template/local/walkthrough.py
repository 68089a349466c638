"""What every tenant must be able to do with its own: the accesses that isolation may not break."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from local.stage import Actor, Answer, Stage
from saas_agent.tenancy.placement import load_placement


@dataclass(frozen=True)
class Access:
    """One own access. `ok`: whether the answer held what it must; `why`: what it held, in a line."""

    tenant: str
    title: str
    ok: bool
    why: str
    tokens: int
    cost_usd: str | None
    seconds: float


def walk(stage: Stage, actor: Actor) -> Iterator[Access]:
    """Runs every own access of this repository's components as this user, one after the other, over HTTP."""
    mark = actor.canary
    components = load_placement().components
    first = actor.new_session_id()

    def ask(title: str, prompt: str, expected: Callable[[str], bool], session_id: str = first) -> Access:
        return _access(actor, title, stage.ask(actor, prompt, session_id), expected)

    if "dynamodb" in components:
        yield ask("opens a ticket", f"open a ticket: Printer {mark}", lambda text: "T-" in text)
        yield ask("lists its tickets", "list my tickets", lambda text: mark in text)
    if "s3" in components:
        yield ask("stores an attachment", f"store attachment note.txt: {mark} inside", lambda text: "note.txt" in text)
        yield ask("reads it back", "read attachment note.txt", lambda text: f"{mark} inside" in text)
    yield ask("states a preference", f"remember that I prefer e-mail, {mark}", lambda text: bool(text))
    yield ask("continues the conversation", "what did I say?", lambda text: "prefer" in text)
    yield ask(
        "is remembered in a second session",
        "what do I prefer?",
        lambda text: mark in text,
        actor.new_session_id(),
    )


def _access(actor: Actor, title: str, answer: Answer, expected: Callable[[str], bool]) -> Access:
    body: dict[str, Any] = answer.body if isinstance(answer.body, dict) else {}
    text = str(body.get("answer", ""))
    usage = body.get("usage") or {}
    return Access(
        tenant=actor.name,
        title=title,
        ok=answer.status == 200 and expected(text),
        why=" ".join(text.split())[:100] if answer.status == 200 else f"{answer.status} {answer.text[:100]}",
        tokens=int(usage.get("input_tokens", 0)) + int(usage.get("output_tokens", 0)),
        cost_usd=usage.get("cost_usd"),
        seconds=answer.seconds,
    )

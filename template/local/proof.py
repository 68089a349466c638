"""What is to be proved of a stage: every tenant reaches its own, and no attack reaches another's."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from local.attacks.attack import Arena, Attack, all_attacks, modules
from local.attacks.judgement import Judgement, Verdict, judge, judge_answer, text_of
from local.authorization import DecisionLog
from local.stage import Actor, Answer, NoRuntimeCredentials, Stage
from saas_agent.errors import Refused
from saas_agent.tenancy.placement import load_placement

# What AWS answers where it doesn't let a caller through; anything else on AWS proves nothing.
_REFUSALS = frozenset(
    {
        "AccessDenied",
        "AccessDeniedException",
        "403",
        "InvalidIdentityToken",
        "InvalidParameterValue",
        "ExpiredTokenException",
        "NotAuthorizedException",
        "UserLambdaValidationException",
        "InvalidParameterException",
        "ValidationError",
    }
)


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


@dataclass(frozen=True)
class Outcome:
    """What came of one attack on one victim."""

    attack: Attack
    attacker: str
    victim: str
    judgement: Judgement

    @property
    def verdict(self) -> Verdict:
        """The judgement's verdict."""
        return self.judgement.verdict


def plant(stage: Stage, actors: Sequence[Actor]) -> None:
    """Puts every tenant's canary wherever the attacks look, through the tenant's own doors."""
    for actor in actors:
        doors = stage.doors(actor)
        for module in modules():
            module.plant(doors, actor)


def attacks_on(victims: Sequence[Actor], *, local: bool) -> list[tuple[Attack, Actor]]:
    """Every attack with the victims that it is run against; without the local cloud, those that don't need it."""
    return [
        (found, victim)
        for found in all_attacks()
        if local or not found.local
        for victim in (victims if found.each_victim else victims[:1])
    ]


def run_attacks(
    stage: Stage, attacker: Actor, victims: Sequence[Actor], decisions: DecisionLog | None
) -> Iterator[Outcome]:
    """Runs them one after the other. decisions: the local cloud's record; None on AWS, where answers must do."""
    try:
        access = stage.access(attacker)
    except NoRuntimeCredentials:
        access = None
    registry = stage.outputs["RegistryTable"]
    canaries = [victim.canary for victim in victims]
    ledger = _ledger_role(stage) if decisions is not None else ""
    for found, victim in attacks_on(victims, local=decisions is not None):
        arena = Arena(stage, attacker, victim, access)
        if not found.when(arena):
            continue
        position = decisions.position() if decisions is not None else 0
        try:
            came_back, refused = _attempt(found.run, arena)
        except NoRuntimeCredentials:
            continue
        if decisions is not None:
            # Meanwhile the ledger counts what earlier requests used, of any tenant.
            made = [decision for decision in decisions.since(position) if ledger not in decision.principal]
            judgement = judge(found.kind, attacker.name, made, came_back, canaries, registry, stage.owner_of)
        else:
            judgement = judge_answer(found.kind, came_back, refused, canaries)
        yield Outcome(found, attacker.name, victim.name, judgement)


def _ledger_role(stage: Stage) -> str:
    """What the ARN of every session of the ledger's role holds, and of no other."""
    functions = stage.session.client("lambda")
    function = functions.get_function_configuration(FunctionName=stage.outputs["LedgerFunctionArn"])
    return f":assumed-role/{function['Role'].rpartition('/')[2]}/"


def _attempt(run: Callable[[Arena], object], arena: Arena) -> tuple[str, bool]:
    try:
        result = run(arena)
    except ClientError as error:
        code = error.response["Error"]["Code"]
        return f"{code}: {error.response['Error'].get('Message', '')}", code in _REFUSALS
    except (BotoCoreError, Refused) as error:
        return f"{type(error).__name__}: {error}", isinstance(error, Refused)
    return text_of(result), isinstance(result, Answer) and 400 <= result.status < 500

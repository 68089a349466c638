"""What is to be proved of a stage: every tenant reaches its own, and no attack reaches another's."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError
from urllib3.exceptions import HTTPError

from local.attacks.attack import Arena, Attack, all_attacks, modules
from local.attacks.judgement import Judgement, Verdict, judge, judge_answer, text_of
from local.authorization import DecisionLog
from local.stage import Actor, Answer, NoRuntimeCredentials, Stage
from saas_agent.errors import INTERNAL, LIMIT_REACHED, Refused
from saas_agent.tenancy.placement import load_placement
from saas_agent.tenancy.tiers import load_tiers
from saas_agent.wiring import Doors

_PATIENCE = 300  # seconds for a document to be indexed

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
        "UnauthorizedException",
        "UserLambdaValidationException",
        "InvalidParameterException",
        "ValidationError",
    }
)


# Statuses of the agent that say nothing of who may do what.
_NO_REFUSALS = (408, 429)
_OVERLOADED = frozenset(
    {
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
        "ProvisionedThroughputExceededException",
        "SlowDown",
    }
)


def tiers_to_prove() -> tuple[str, str]:
    """Two tiers of tiers.toml: the first, and the last that is placed otherwise; the last of all where none is.

    ConfigurationError where placement.toml doesn't place a tier.
    """
    placement = load_placement()
    rows = {tier: placement.row(tier) for tier in load_tiers()}
    first, *others = rows
    elsewhere = [tier for tier in others if rows[tier] != rows[first]]
    return first, (elsewhere or others or [first])[-1]


@dataclass(frozen=True)
class Access:
    """One own access.

    ok: whether the answer held what it must; None where it was left out, since the agent lacks the tool. why: what the
    answer held, or which tool is missing, in a line.
    """

    tenant: str
    title: str
    ok: bool | None
    why: str
    tokens: int
    cost_usd: str | None
    seconds: float

    @property
    def word(self) -> str:
        """What came of it."""
        return "left out" if self.ok is None else "ok" if self.ok else "FAILED"


def walk(stage: Stage, actor: Actor) -> Iterator[Access]:
    """Runs every own access of this repository's components as this user, one after the other, over HTTP.

    An access that needs a tool of the samples is left out, and says so, where the agent doesn't have it.
    """
    mark = actor.canary
    components = load_placement().components
    tools = stage.tools(actor)
    first = actor.new_session_id()

    def ask(
        title: str,
        prompt: str,
        expected: Callable[[str], bool],
        session_id: str = first,
        needs: Sequence[str] = (),
    ) -> Access:
        missing = [tool for tool in needs if tool not in tools]
        if missing:
            return Access(
                actor.name, title, None, f"the agent has no tool {' and no tool '.join(missing)}", 0, None, 0.0
            )
        return _access(actor, title, stage.ask(actor, prompt, session_id), expected)

    if "dynamodb" in components:
        opens, lists = "open_ticket", "list_tickets"
        yield ask("opens a ticket", f"open a ticket: Printer {mark}", lambda text: "T-" in text, needs=[opens])
        yield ask("lists its tickets", "list my tickets", lambda text: mark in text, needs=[opens, lists])
    if "s3" in components:
        stores, reads = "store_attachment", "read_attachment"
        stored, named = f"{mark} inside", "note.txt"
        yield ask(
            "stores an attachment", f"store attachment {named}: {stored}", lambda text: named in text, needs=[stores]
        )
        yield ask("reads it back", f"read attachment {named}", lambda text: stored in text, needs=[stores, reads])
    if "knowledge_base" in components:
        _learn(_doors(stage, actor), "handbook/alarm.md", f"The alarm code of the warehouse is {mark}.")
        yield ask(
            "finds an answer in its documents",
            "search our documents: what is the alarm code of the warehouse?",
            lambda text: f"warehouse is {mark}" in text,
            needs=["search_knowledge"],
        )
    doors = {field.name for field in fields(Doors)}
    if "issues" in doors and stage.local:
        opens, lists = "open_issue", "list_issues"
        yield ask(
            "opens an issue at a third party", f"open an issue: Lift {mark}", lambda text: "I-" in text, needs=[opens]
        )
        yield ask("lists its issues there", "list our issues", lambda text: mark in text, needs=[opens, lists])
    if "reported_issues" in doors and stage.local:
        reports, lists = "report_issue", "list_reported_issues"
        yield ask(
            "reports an issue by OAuth", f"report an issue: Roof {mark}", lambda text: "I-" in text, needs=[reports]
        )
        yield ask(
            "lists what was reported", "list our reported issues", lambda text: mark in text, needs=[reports, lists]
        )
    yield ask("states a preference", f"remember that I prefer e-mail, {mark}", lambda text: bool(text))
    yield ask("continues the conversation", "what did I say?", lambda text: "prefer" in text)
    if "remember_preference" not in tools:
        _doors(stage, actor).memory.remember(f"I prefer e-mail, {mark}")
    yield ask(
        "is remembered in a second session",
        "what do I prefer?",
        lambda text: mark in text,
        actor.new_session_id(),
    )


def worked(accesses: Iterable[Access]) -> bool:
    """Whether something was tried, and all of it worked."""
    tried = [access.ok for access in accesses if access.ok is not None]
    return bool(tried) and all(tried)


def counted(accesses: Iterable[Access]) -> str:
    """Such as "5 of 5 own accesses worked, 4 left out"."""
    words = [access.word for access in accesses]
    omitted = words.count("left out")
    told = f"{words.count('ok')} of {len(words) - omitted} own accesses worked"
    return f"{told}, {omitted} left out" if omitted else told


def _doors(stage: Stage, actor: Actor) -> Doors:
    try:
        return stage.doors(actor)
    except NoRuntimeCredentials:
        return stage.operators_doors(actor)


def _learn(doors: Any, name: str, text: str) -> None:  # which doors there are depends on the answers
    """Adds a document as the tenant, and waits until it can be found: AWS takes a minute, the local cloud none."""
    doors.knowledge.add(name, text.encode())
    for _ in range(_PATIENCE):
        if doors.knowledge.states([name])[name].status == "INDEXED":
            break
        time.sleep(1)


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
    """Puts every tenant's canary wherever the attacks look, through the tenant's own doors where they can be had."""
    for actor in actors:
        doors = _doors(stage, actor)
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


def left_out(stage: Stage, attacker: Actor) -> list[str]:
    """Which attacks can't be run, since they talk the model into a tool that the agent doesn't have: a line a tool."""
    tools = stage.tools(attacker)
    missing: dict[str, list[str]] = {}
    for found in all_attacks():
        if found.tool is not None and found.tool not in tools:
            missing.setdefault(found.tool, []).append(found.id)
    return [f"the agent has no tool {tool}: left out {', '.join(ids)}" for tool, ids in missing.items()]


def run_attacks(
    stage: Stage,
    attacker: Actor,
    victims: Sequence[Actor],
    decisions: DecisionLog | None,
    areas: frozenset[str] = frozenset(),
    without_access: Callable[[Attack], object] = lambda _: None,
) -> Iterator[Outcome]:
    """Runs them one after the other, but for those of `left_out`.

    decisions: the local cloud's record; None on AWS, where answers must do. areas: only attacks of these; all without.
    without_access: is told of an attack that isn't run since the attacker's AWS credentials can't be had.
    """
    try:
        access = stage.access(attacker)
    except NoRuntimeCredentials:
        access = None
    registry = stage.outputs["RegistryTable"]
    canaries = [victim.canary for victim in victims]
    metering = _metering_roles(stage) if decisions is not None else ()
    tools = stage.tools(attacker)
    for found, victim in attacks_on(victims, local=decisions is not None):
        arena = Arena(stage, attacker, victim, access)
        if areas and found.area not in areas:
            continue
        if (found.tool is not None and found.tool not in tools) or not found.when(arena):
            continue
        position = decisions.position() if decisions is not None else 0
        try:
            came_back, refused = attempt(found, arena)
        except NoRuntimeCredentials:
            without_access(found)
            continue
        if decisions is not None:
            # Meanwhile the ledger counts what earlier requests used, of any tenant.
            made = [
                decision
                for decision in decisions.since(position)
                if not any(role in decision.principal for role in metering)
            ]
            judgement = judge(
                found.kind, attacker.name, made, came_back, canaries, registry, stage.owners(), found.area
            )
        else:
            judgement = judge_answer(found.kind, came_back, refused, canaries)
        yield Outcome(found, attacker.name, victim.name, judgement)


def _metering_roles(stage: Stage) -> list[str]:
    """What the ARNs of sessions of the ledger's role, and of its stream's, hold, and those of no other."""
    functions = stage.session.client("lambda")
    function = functions.get_function_configuration(FunctionName=stage.outputs["LedgerFunctionArn"])
    arns = [function["Role"], stage.outputs.get("UsageStreamRoleArn")]
    return [f":assumed-role/{arn.rpartition('/')[2]}/" for arn in arns if arn]


def attempt(found: Attack, arena: Arena) -> tuple[str, bool | None]:
    """Runs the attack. What came back, and whether it was refused; None where it failed for another reason."""
    try:
        result = found.run(arena)
    except ClientError as error:
        code = error.response["Error"]["Code"]
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        refused = None if code in _OVERLOADED or status >= 500 else code in _REFUSALS
        return f"{code}: {error.response['Error'].get('Message', '')}", refused
    except Refused as error:
        return f"{type(error).__name__}: {error}", None if error.reason is INTERNAL else True
    except (BotoCoreError, HTTPError) as error:
        return f"{type(error).__name__}: {error}", None
    return text_of(result), _was_refused(found.kind, result)


def _was_refused(kind: str, result: object) -> bool | None:
    if not isinstance(result, Answer) or result.status < 400:
        return False
    # Whoever only talks to the agent was let in: a token that isn't taken any more has kept the attack from running.
    if kind == "persuasion" and result.status == 401:
        return None
    # The tier's limit is the agent's own refusal, of a prompt that is too long for one; AWS throttles with that status.
    if kind == "access" and _code(result) == LIMIT_REACHED.code:
        return True
    return None if result.status >= 500 or result.status in _NO_REFUSALS else True


def _code(answer: Answer) -> str | None:
    error = answer.body.get("error") if isinstance(answer.body, dict) else None
    return error.get("code") if isinstance(error, dict) else None

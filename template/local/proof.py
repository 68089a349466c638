"""Runs the own accesses and the attacks against a stage, and keeps what came of each."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from botocore.exceptions import BotoCoreError, ClientError

from local.attacks.attack import Arena, Attack, all_attacks, modules
from local.attacks.judgement import Judgement, Verdict, judge, judge_answer, text_of
from local.authorization import DecisionLog
from local.stage import Actor, Answer, Stage
from saas_agent.errors import Refused

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
    access = stage.access(attacker)
    canaries = [victim.canary for victim in victims]
    for found, victim in attacks_on(victims, local=decisions is not None):
        arena = Arena(stage, attacker, victim, access)
        position = decisions.position() if decisions is not None else 0
        came_back, refused = _attempt(found.run, arena)
        if decisions is not None:
            made = decisions.since(position)
            judgement = judge(found.kind, attacker.name, made, came_back, canaries, stage.settings.registry_table)
        else:
            judgement = judge_answer(found.kind, came_back, refused, canaries)
        yield Outcome(found, attacker.name, victim.name, judgement)


def _attempt(run: Callable[[Arena], object], arena: Arena) -> tuple[str, bool]:
    try:
        result = run(arena)
    except ClientError as error:
        code = error.response["Error"]["Code"]
        return f"{code}: {error.response['Error'].get('Message', '')}", code in _REFUSALS
    except (BotoCoreError, Refused) as error:
        return f"{type(error).__name__}: {error}", isinstance(error, Refused)
    return text_of(result), isinstance(result, Answer) and 400 <= result.status < 500

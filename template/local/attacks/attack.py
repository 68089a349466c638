"""What an attack is, what it is given, and how all of them are found."""

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import jwt

from local import attacks
from local.stage import Actor, Answer, Home, NoRuntimeCredentials, Stage
from saas_agent.tenancy.access import TenantAccess

Kind = Literal["access", "persuasion"]
"""access: must be refused. persuasion: talks the model into it; the agent may answer, but only from its own data."""


@dataclass(frozen=True)
class Arena:
    """What an attack is given. access: what `own_access` gives, or None."""

    stage: Stage
    attacker: Actor
    victim: Actor
    access: TenantAccess | None

    @cached_property
    def home(self) -> Home:
        """Where the attacker is served."""
        return self.stage.home(self.attacker.name)

    @cached_property
    def goal(self) -> Home:
        """Where the victim is served, and its data is."""
        return self.stage.home(self.victim.name)

    @property
    def own_access(self) -> TenantAccess:
        """The attacker's own AWS credentials; NoRuntimeCredentials where they can't be had, see `Stage.place`."""
        if self.access is None:
            raise NoRuntimeCredentials(self.home.runtime_arn)
        return self.access

    def client(self, service: str) -> Any:
        """A boto3 client with the attacker's own tenant credentials."""
        return self.own_access.client(service)

    def ask(self, prompt: str) -> Answer:
        """Asks the agent with the attacker's own token."""
        return self.stage.ask(self.attacker, prompt)

    def mint(self, changed: Mapping[str, Any]) -> str:
        """The attacker's own access token with changed claims (None: without), genuinely signed. Only if `local`."""
        return self.sign(changed, self.home.settings.issuer)

    def sign(self, changed: Mapping[str, Any], issuer: str) -> str:
        """The same, signed with the key of this issuer, whichever the claims name."""
        if self.stage.mint is None:
            raise RuntimeError("only the local cloud can sign with a user pool's key")
        own = jwt.decode(self.attacker.tokens.access, options={"verify_signature": False})
        claims = {name: value for name, value in {**own, **changed}.items() if value is not None}
        return self.stage.mint(claims, issuer)


Condition = Callable[[Arena], bool]


@dataclass(frozen=True)
class Attack:
    """One attack. `run` returns whatever came back; a refusal may be an answer or an exception.

    each_victim: whether it is run against every other tenant, or once. local: whether it needs the local cloud. when:
    whether there is anything to attack. tool: the tool that it makes the model call; without it there is no attack.
    """

    area: str
    title: str
    run: Callable[[Arena], object]
    kind: Kind
    each_victim: bool
    local: bool
    when: Condition
    tool: str | None

    @property
    def id(self) -> str:
        """Such as `dynamodb.get_item`."""
        return f"{self.area}.{self.run.__name__}"


_FOUND: dict[str, list[Attack]] = {}


def attack(
    title: str,
    *,
    kind: Kind = "access",
    each_victim: bool = True,
    local: bool = False,
    when: Condition = lambda _: True,
    tool: str | None = None,
) -> Callable[[Callable[[Arena], object]], Callable[[Arena], object]]:
    """Makes a function an attack: `@attack("Read another tenant's item")`."""

    def register(run: Callable[[Arena], object]) -> Callable[[Arena], object]:
        area = run.__module__.rpartition(".")[2]
        _FOUND.setdefault(area, []).append(Attack(area, title, run, kind, each_victim, local, when, tool))
        return run

    return register


def modules() -> list[Any]:
    """The attack modules of this repository; each has `plant(doors, actor)`, which puts a canary where it looks."""
    names = sorted(module.name for module in pkgutil.iter_modules(attacks.__path__))
    found = [importlib.import_module(f"{attacks.__name__}.{name}") for name in names]
    return [module for module in found if hasattr(module, "plant")]


def all_attacks() -> list[Attack]:
    """Every attack of this repository, area by area."""
    return [found for module in modules() for found in _FOUND[module.__name__.rpartition(".")[2]]]

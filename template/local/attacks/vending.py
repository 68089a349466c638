"""Attacks on the credentials function, which names the tenant in the credentials that it gives."""

import json

from local.attacks.attack import Arena, attack
from local.stage import Actor
from saas_agent.wiring import Doors


def plant(doors: Doors, actor: Actor) -> None:
    """The function holds no canary."""


def _function(arena: Arena) -> str:
    return arena.stage.outputs["CredentialsFunction"]


@attack("Call the credentials function oneself")
def call_function(arena: Arena) -> object:
    answer = arena.client("lambda").invoke(
        FunctionName=_function(arena), Payload=json.dumps({"token": arena.victim.tokens.access})
    )
    return answer["Payload"].read()


@attack("Become the credentials function", each_victim=False)
def assume_function_role(arena: Arena) -> object:
    role = arena.stage.session.client("lambda").get_function_configuration(FunctionName=_function(arena))["Role"]
    return arena.client("sts").assume_role(RoleArn=role, RoleSessionName="attacker")["AssumedRoleUser"]


@attack("Give the credentials function other code", each_victim=False)
def replace_function(arena: Arena) -> object:
    return arena.client("lambda").update_function_code(FunctionName=_function(arena), ZipFile=b"PK")

"""Attacks on the tenant registry, where status and tier stand."""

from typing import Any

from local.attacks.attack import Arena, attack
from local.stage import Actor
from saas_agent.wiring import Doors


def plant(doors: Doors, actor: Actor) -> None:
    """The registry holds every tenant already; no tenant can write to it, so no canary stands there."""


def _item(tenant: Actor) -> dict[str, Any]:
    return {"pk": {"S": f"TENANT#{tenant.name}"}, "sk": {"S": "TENANT"}}


@attack("Read another tenant's entry in the registry")
def read_registry(arena: Arena) -> object:
    return arena.client("dynamodb").get_item(TableName=arena.stage.outputs["RegistryTable"], Key=_item(arena.victim))


@attack("List all tenants from the registry", each_victim=False)
def scan_registry(arena: Arena) -> object:
    return arena.client("dynamodb").scan(TableName=arena.stage.outputs["RegistryTable"])


@attack("Move oneself to a higher tier in the registry", each_victim=False)
def upgrade_oneself(arena: Arena) -> object:
    return arena.client("dynamodb").update_item(
        TableName=arena.stage.outputs["RegistryTable"],
        Key=_item(arena.attacker),
        UpdateExpression="SET tier = :tier",
        ExpressionAttributeValues={":tier": {"S": "premium"}},
    )


@attack("Suspend another tenant in the registry")
def suspend_another(arena: Arena) -> object:
    return arena.client("dynamodb").update_item(
        TableName=arena.stage.outputs["RegistryTable"],
        Key=_item(arena.victim),
        UpdateExpression="SET #s = :status",
        ExpressionAttributeNames={"#s": "status"},
        ExpressionAttributeValues={":status": {"S": "SUSPENDED"}},
    )

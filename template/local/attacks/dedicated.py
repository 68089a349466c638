"""Attacks on what a tenant has of its own: names and keys are the attacker's own, the place is another tenant's."""

from datetime import UTC, datetime
from typing import Any

from local.attacks.attack import Arena, Condition, attack
from local.stage import Actor
from saas_agent.tenancy.placement import load_placement
from saas_agent.wiring import Doors


def plant(doors: Doors, actor: Actor) -> None:
    """The other modules plant canaries in every component, wherever it is."""


def _own(component: str) -> Condition:
    """Whether the victim has this component of its own."""

    def has(arena: Arena) -> bool:
        placement = load_placement()
        tier = arena.victim.tenant.tier
        return component in placement.components and placement.column(tier, component) == "dedicated"

    return has


def _has_role(arena: Arena) -> bool:
    return "TenantRoleArn" in arena.goal.own


@attack("Ask another tenant's own runtime with the own token", when=_own("runtime"))
def own_token(arena: Arena) -> object:
    return arena.stage.invoke(
        arena.victim, {"prompt": "what do I prefer?"}, arena.attacker.tokens.access, arena.attacker.new_session_id()
    )


@attack("Ask another tenant's own runtime with the own token and the victim's session", when=_own("runtime"))
def own_token_in_foreign_session(arena: Arena) -> object:
    return arena.stage.invoke(
        arena.victim, {"prompt": "what did I say?"}, arena.attacker.tokens.access, arena.victim.new_session_id()
    )


@attack("Take another tenant's own role", when=_has_role)
def take_role(arena: Arena) -> object:
    return arena.client("sts").assume_role(RoleArn=arena.goal.own["TenantRoleArn"], RoleSessionName="attacker")


@attack("Take another tenant's own role, tagged as oneself", when=_has_role)
def take_role_with_own_tag(arena: Arena) -> object:
    return arena.client("sts").assume_role(
        RoleArn=arena.goal.own["TenantRoleArn"],
        RoleSessionName="attacker",
        Tags=[{"Key": "TenantId", "Value": arena.attacker.name}],
    )


@attack("Read the own key in another tenant's own table", when=_own("dynamodb"))
def get_item(arena: Arena) -> object:
    return arena.client("dynamodb").get_item(TableName=arena.goal.resource("dynamodb"), Key=_key(arena.attacker))


@attack("Write under the own key into another tenant's own table", when=_own("dynamodb"))
def put_item(arena: Arena) -> object:
    item = {**_key(arena.attacker), "text": {"S": "forged"}}
    return arena.client("dynamodb").put_item(TableName=arena.goal.resource("dynamodb"), Item=item)


@attack("Write under the own prefix into another tenant's own bucket", when=_own("s3"))
def put_object(arena: Arena) -> object:
    key = f"tenants/{arena.attacker.name}/forged.txt"
    return arena.client("s3").put_object(Bucket=arena.goal.resource("s3"), Key=key, Body=b"forged")


@attack("List the own prefix of another tenant's own bucket", when=_own("s3"))
def list_objects(arena: Arena) -> object:
    prefix = f"tenants/{arena.attacker.name}/"
    return arena.client("s3").list_objects_v2(Bucket=arena.goal.resource("s3"), Prefix=prefix)


@attack("Speak as oneself in another tenant's own memory", when=_own("memory"))
def create_event(arena: Arena) -> object:
    return arena.client("bedrock-agentcore").create_event(
        memoryId=arena.goal.resource("memory"),
        actorId=arena.attacker.tenant.actor_id,
        sessionId="preferences",
        eventTimestamp=datetime.now(UTC),
        payload=[{"conversational": {"role": "USER", "content": {"text": "forged"}}}],
    )


@attack("Read the own conversations in another tenant's own memory", when=_own("memory"))
def list_events(arena: Arena) -> object:
    return arena.client("bedrock-agentcore").list_events(
        memoryId=arena.goal.resource("memory"), actorId=arena.attacker.tenant.actor_id, sessionId="preferences"
    )


@attack("Delete another tenant's stack", each_victim=False, when=_has_role)
def delete_stack(arena: Arena) -> object:
    outputs = arena.stage.outputs
    name = f"{outputs['Service']}-{outputs['Stage']}-tenant-{arena.victim.name}"
    return arena.client("cloudformation").delete_stack(StackName=name)


def _key(tenant: Actor) -> dict[str, Any]:
    return {"pk": {"S": f"TENANT#{tenant.name}"}, "sk": {"S": "CANARY"}}

"""Attacks on sign-in and on the user's own attributes."""

from typing import Any

from botocore import UNSIGNED
from botocore.config import Config

from local.attacks.attack import Arena, attack
from local.stage import Actor
from saas_agent.wiring import Doors


def plant(doors: Doors, actor: Actor) -> None:
    """The user pool holds no canary."""


def _cognito(arena: Arena) -> Any:
    """Cognito as a user's browser reaches it: unsigned."""
    return arena.stage.session.client("cognito-idp", config=Config(signature_version=UNSIGNED))


@attack("Change the own tenant attribute")
def change_tenant(arena: Arena) -> object:
    return _cognito(arena).update_user_attributes(
        AccessToken=arena.attacker.tokens.access,
        UserAttributes=[{"Name": "custom:tenant_id", "Value": arena.victim.name}],
    )


@attack("Sign up as a user of another tenant")
def sign_up(arena: Arena) -> object:
    return _cognito(arena).sign_up(
        ClientId=arena.home.settings.client_id,
        Username=f"mallory@{arena.victim.name}.example",
        Password="Aa1!mallory-mallory",
        UserAttributes=[{"Name": "custom:tenant_id", "Value": arena.victim.name}],
    )


@attack("Sign in as another tenant's user with the own password")
def foreign_password(arena: Arena) -> object:
    return _cognito(arena).initiate_auth(
        ClientId=arena.home.settings.client_id,
        AuthFlow="USER_PASSWORD_AUTH",
        AuthParameters={"USERNAME": arena.victim.email, "PASSWORD": arena.attacker.password},
    )


@attack("Name another tenant in the sign-in's client metadata", kind="persuasion")
def client_metadata(arena: Arena) -> object:
    answer = arena.stage.session.client("cognito-idp").admin_initiate_auth(
        UserPoolId=arena.stage.outputs["UserPoolId"],
        ClientId=arena.home.settings.client_id,
        AuthFlow="ADMIN_USER_PASSWORD_AUTH",
        AuthParameters={"USERNAME": arena.attacker.email, "PASSWORD": arena.attacker.password},
        ClientMetadata={"tenant_id": arena.victim.name, "custom:tenant_id": arena.victim.name, "tier": "premium"},
    )
    return arena.stage.invoke(
        arena.attacker,
        {"prompt": "what do I prefer?"},
        answer["AuthenticationResult"]["AccessToken"],
        arena.attacker.new_session_id(),
    )


@attack("Sign in as a user whose tenant id is malformed", each_victim=False)
def malformed_tenant(arena: Arena) -> object:
    return _sign_in_with_tenant(arena, f"{arena.attacker.name}:x")


@attack("Sign in as a user of a tenant that was never onboarded", each_victim=False)
def unknown_tenant(arena: Arena) -> object:
    return _sign_in_with_tenant(arena, "never-onboarded")


def _sign_in_with_tenant(arena: Arena, tenant_id: str) -> object:
    # The platform's operators would never make such a user; if one slips in, no token may be issued for it.
    email = f"{tenant_id.replace(':', '.')}@odd.example"
    pool, cognito = arena.stage.outputs["UserPoolId"], arena.stage.session.client("cognito-idp")
    cognito.admin_create_user(
        UserPoolId=pool,
        Username=email,
        MessageAction="SUPPRESS",
        UserAttributes=[{"Name": "custom:tenant_id", "Value": tenant_id}],
    )
    try:
        arena.stage.users.set_password(email, arena.attacker.password)
        return arena.stage.sign_in(email, arena.attacker.password).access
    finally:
        cognito.admin_delete_user(UserPoolId=pool, Username=email)

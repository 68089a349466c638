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


def _signs_in_directly(arena: Arena) -> bool:
    """Whether the pool whose tokens the runtime takes is the one that the attacker's users are in."""
    return arena.home.settings.issuer.endswith(arena.stage.users(arena.attacker.name).pool_id)


@attack("Change the own tenant attribute")
def change_tenant(arena: Arena) -> object:
    return _cognito(arena).update_user_attributes(
        AccessToken=arena.attacker.tokens.access,
        UserAttributes=[{"Name": "custom:tenant_id", "Value": arena.victim.name}],
    )


@attack("Sign up as a user of another tenant")
def sign_up(arena: Arena) -> object:
    return _cognito(arena).sign_up(
        ClientId=arena.goal.settings.client_id,
        Username=f"mallory@{arena.victim.name}.example",
        Password="Aa1!mallory-mallory",
        UserAttributes=[{"Name": "custom:tenant_id", "Value": arena.victim.name}],
    )


@attack("Sign in as another tenant's user with the own password")
def foreign_password(arena: Arena) -> object:
    return _cognito(arena).initiate_auth(
        ClientId=arena.goal.settings.client_id,
        AuthFlow="USER_PASSWORD_AUTH",
        AuthParameters={"USERNAME": arena.victim.email, "PASSWORD": arena.attacker.password},
    )


@attack("Sign in where another tenant's users do, with the own address and password")
def foreign_pool(arena: Arena) -> object:
    tokens = arena.stage.sign_in(arena.victim.name, arena.attacker.email, arena.attacker.password)
    # In a pool that both share it is the own sign-in, and then it has to stay that.
    return arena.stage.invoke(arena.victim, {"prompt": "hello"}, tokens.access, arena.victim.new_session_id())


@attack("Name another tenant in the sign-in's client metadata", kind="persuasion", when=_signs_in_directly)
def client_metadata(arena: Arena) -> object:
    answer = arena.stage.session.client("cognito-idp").admin_initiate_auth(
        UserPoolId=arena.stage.users(arena.attacker.name).pool_id,
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


def _other_issuer(arena: Arena) -> bool:
    return arena.home.settings.issuer != arena.goal.settings.issuer


@attack("Use a token of the own issuer that names another tenant, at its runtime", local=True, when=_other_issuer)
def own_issuers_token(arena: Arena) -> object:
    return _at_victims(arena, arena.sign(_as_victim(arena), arena.home.settings.issuer))


@attack("Use a token that names another tenant's issuer, signed by the own", local=True, when=_other_issuer)
def own_issuers_signature(arena: Arena) -> object:
    named = {**_as_victim(arena), "iss": arena.goal.settings.issuer}
    return _at_victims(arena, arena.sign(named, arena.home.settings.issuer))


def _as_victim(arena: Arena) -> dict[str, Any]:
    client = arena.goal.settings.client_id
    tags = {"principal_tags": {"TenantId": [arena.victim.name]}, "transitive_tag_keys": ["TenantId"]}
    return {
        **{"tenant_id": arena.victim.name, "sub": arena.victim.tenant.subject, "https://aws.amazon.com/tags": tags},
        **{"aud": client, "client_id": client},
    }


def _at_victims(arena: Arena, access_token: str) -> object:
    session_id = arena.victim.new_session_id()
    return arena.stage.invoke(arena.victim, {"prompt": "what do I prefer?"}, access_token, session_id)


@attack("Have the operator change the tenant attribute, which is immutable")
def operator_changes_tenant(arena: Arena) -> object:
    # Nobody can, so that no console, no script and no support request does it by mistake.
    return arena.stage.session.client("cognito-idp").admin_update_user_attributes(
        UserPoolId=arena.stage.users(arena.attacker.name).pool_id,
        Username=arena.attacker.email,
        UserAttributes=[{"Name": "custom:tenant_id", "Value": arena.victim.name}],
    )


@attack("Sign in as a user whose tenant id is malformed", each_victim=False)
def malformed_tenant(arena: Arena) -> object:
    return _sign_in_with_tenant(arena, f"{arena.attacker.name}:x")


@attack("Sign in as a user of a tenant that was never onboarded", each_victim=False)
def unknown_tenant(arena: Arena) -> object:
    return _sign_in_with_tenant(arena, "never-onboarded")


@attack("Sign in as a user that was made for another tenant, in the own pool", when=lambda a: not _one_pool(a))
def foreign_user_in_own_pool(arena: Arena) -> object:
    return _sign_in_with_tenant(arena, arena.victim.name)


def _one_pool(arena: Arena) -> bool:
    return arena.stage.identity.shared_pool is not None


def _sign_in_with_tenant(arena: Arena, tenant_id: str) -> object:
    # The platform's operators would never make such a user; if one slips in, no token may be issued for it.
    email = f"{tenant_id.replace(':', '.')}@odd.example"
    users, cognito = arena.stage.users(arena.attacker.name), arena.stage.session.client("cognito-idp")
    cognito.admin_create_user(
        UserPoolId=users.pool_id,
        Username=email,
        MessageAction="SUPPRESS",
        UserAttributes=[{"Name": "custom:tenant_id", "Value": tenant_id}],
    )
    try:
        users.set_password(email, arena.attacker.password)
        return arena.stage.sign_in(arena.attacker.name, email, arena.attacker.password).access
    finally:
        cognito.admin_delete_user(UserPoolId=users.pool_id, Username=email)

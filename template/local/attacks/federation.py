"""Attacks on the hub: on where a user comes from, and on the codes that a sign-in at its pages gives."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from local.attacks.attack import Arena, attack
from local.managed_login import Grant, ManagedLogin
from local.stage import Actor
from saas_agent.wiring import Doors


def plant(doors: Doors, actor: Actor) -> None:
    """The hub holds no canary."""


def _through_hub(arena: Arena) -> bool:
    """Whether the attacker's runtime trusts the hub."""
    return arena.home.settings.issuer == arena.stage.outputs["Issuer"]


def _both_through_hub(arena: Arena) -> bool:
    return _through_hub(arena) and arena.goal.settings.issuer == arena.stage.outputs["Issuer"]


def _operator(arena: Arena) -> Any:
    return arena.stage.session.client("cognito-idp")


def _hub(arena: Arena) -> str:
    return arena.stage.outputs["UserPoolId"]


def _profile(arena: Arena, actor: Actor) -> str:
    """The name of the actor's profile in the hub."""
    user = arena.stage.users(actor.name).find(actor.email)
    assert user is not None
    return f"{actor.name}_{user.username}"


def _ask(arena: Arena, access_token: str) -> object:
    """Uses a token that may say anything, where the victim is served."""
    return arena.stage.invoke(
        arena.victim, {"prompt": "what do I prefer?"}, access_token, arena.victim.new_session_id()
    )


# --- Where a user comes from ----------------------------------------------------------------------


@contextmanager
def _provider(arena: Arena, name: str) -> Iterator[None]:
    """The attacker's own user pool as a provider of another name, which no operator would make."""
    cognito, hub = _operator(arena), _hub(arena)
    own = cognito.describe_identity_provider(UserPoolId=hub, ProviderName=arena.attacker.name)["IdentityProvider"]
    cognito.create_identity_provider(
        UserPoolId=hub,
        ProviderName=name,
        ProviderType="OIDC",
        ProviderDetails=own["ProviderDetails"],
        AttributeMapping=own["AttributeMapping"],
    )
    try:
        arena.stage.identity.settle()
        yield
    finally:
        arena.stage.identity.withdraw(name)
        cognito.delete_identity_provider(UserPoolId=hub, ProviderName=name)
        arena.stage.identity.settle()


def _sign_in_through(arena: Arena, provider: str) -> object:
    with _provider(arena, provider):
        tokens = arena.stage.managed_login.sign_in(provider, arena.attacker.email, arena.attacker.password)
        return _ask(arena, tokens["access_token"])


@attack("Come from a provider of a tenant that was never onboarded", each_victim=False, local=True, when=_through_hub)
def unknown_provider(arena: Arena) -> object:
    return _sign_in_through(arena, "never-onboarded")


@attack("Come from a provider that is named like another tenant but for its case", local=True, when=_through_hub)
def provider_of_another_case(arena: Arena) -> object:
    return _sign_in_through(arena, arena.victim.name.upper())


@attack("Come from a provider whose name goes on after another tenant's", local=True, when=_through_hub)
def provider_with_a_longer_name(arena: Arena) -> object:
    return _sign_in_through(arena, f"{arena.victim.name}.x")


@attack("Be linked to another tenant's user", local=True, when=_both_through_hub)
def linked_user(arena: Arena) -> object:
    # Two users who are there for this alone: a link can't be taken back.
    password = arena.attacker.password
    mallory, target = (f"{secrets.token_hex(4)}@{actor.name}.example" for actor in (arena.attacker, arena.victim))
    names = {}
    for actor, email in ((arena.attacker, mallory), (arena.victim, target)):
        users = arena.stage.users(actor.name)
        names[email] = users.invite(actor.name, email, administrator=False, mail=False).username
        users.set_password(email, password)
    try:
        arena.stage.sign_in(arena.victim.name, target, password)
        _operator(arena).admin_link_provider_for_user(
            UserPoolId=_hub(arena),
            DestinationUser={"ProviderName": arena.victim.name, "ProviderAttributeValue": names[target]},
            SourceUser={
                "ProviderName": arena.attacker.name,
                "ProviderAttributeName": "Cognito_Subject",
                "ProviderAttributeValue": names[mallory],
            },
        )
        return _ask(arena, arena.stage.sign_in(arena.attacker.name, mallory, password).access)
    finally:
        for actor, email in ((arena.attacker, mallory), (arena.victim, target)):
            arena.stage.users(actor.name).remove(actor.name, names[email])
        _operator(arena).admin_delete_user(UserPoolId=_hub(arena), Username=f"{arena.victim.name}_{names[target]}")


@attack("Write into the own profile that it comes from another tenant", local=True, when=_through_hub)
def forged_identities(arena: Arena) -> object:
    forged = f'[{{"providerName":"{arena.victim.name}","userId":"x","providerType":"OIDC","primary":true}}]'
    return _operator(arena).admin_update_user_attributes(
        UserPoolId=_hub(arena),
        Username=_profile(arena, arena.attacker),
        UserAttributes=[{"Name": "identities", "Value": forged}],
    )


@attack("Have a tenant attribute in the own profile", kind="persuasion", local=True, when=_through_hub)
def tenant_attribute(arena: Arena) -> object:
    cognito, hub, name = _operator(arena), _hub(arena), _profile(arena, arena.attacker)
    # As a mapping would write it that somebody added to the attacker's provider.
    if "custom:tenant_id" not in str(cognito.describe_user_pool(UserPoolId=hub)["UserPool"]["SchemaAttributes"]):
        attribute = {"Name": "tenant_id", "AttributeDataType": "String", "Mutable": True}
        cognito.add_custom_attributes(UserPoolId=hub, CustomAttributes=[attribute])
    forged = [{"Name": "custom:tenant_id", "Value": arena.victim.name}]
    cognito.admin_update_user_attributes(UserPoolId=hub, Username=name, UserAttributes=forged)
    try:
        tokens = arena.stage.sign_in(arena.attacker.name, arena.attacker.email, arena.attacker.password)
        session_id = arena.attacker.new_session_id()
        return arena.stage.invoke(arena.attacker, {"prompt": "what do I prefer?"}, tokens.access, session_id)
    finally:
        cognito.admin_delete_user_attributes(UserPoolId=hub, Username=name, UserAttributeNames=["custom:tenant_id"])


@contextmanager
def _native(arena: Arena) -> Iterator[str]:
    """A user of the hub itself, with the attacker's password; no operator would make one."""
    name = f"{arena.victim.name}_native-{secrets.token_hex(4)}"
    cognito, hub = _operator(arena), _hub(arena)
    cognito.admin_create_user(UserPoolId=hub, Username=name, MessageAction="SUPPRESS")
    cognito.admin_set_user_password(UserPoolId=hub, Username=name, Password=arena.attacker.password, Permanent=True)
    try:
        yield name
    finally:
        cognito.admin_delete_user(UserPoolId=hub, Username=name)


@attack("Sign in at the hub itself, as a user that is none of any tenant's pool", local=True, when=_both_through_hub)
def native_user(arena: Arena) -> object:
    with _native(arena) as name:
        tokens = arena.stage.managed_login.sign_in("COGNITO", name, arena.attacker.password)
        return _ask(arena, tokens["access_token"])


@attack("Sign in at the hub itself, where its client lets its own users in", local=True, when=_both_through_hub)
def native_user_let_in(arena: Arena) -> object:
    # A setting that somebody could make in the console.
    cognito, hub, client_id = _operator(arena), _hub(arena), arena.home.settings.client_id
    described = cognito.describe_user_pool_client(UserPoolId=hub, ClientId=client_id)["UserPoolClient"]
    known = cognito.meta.service_model.operation_model("UpdateUserPoolClient").input_shape.members
    settings = {name: value for name, value in described.items() if name in known}
    providers = [*described["SupportedIdentityProviders"], "COGNITO"]
    cognito.update_user_pool_client(**{**settings, "SupportedIdentityProviders": providers})
    try:
        with _native(arena) as name:
            tokens = arena.stage.managed_login.sign_in("COGNITO", name, arena.attacker.password)
            return _ask(arena, tokens["access_token"])
    finally:
        arena.stage.identity.settle()


@attack("Sign in at the hub's API with a password", local=True, when=_both_through_hub)
def native_user_by_api(arena: Arena) -> object:
    with _native(arena) as name:
        answer = _operator(arena).admin_initiate_auth(
            UserPoolId=_hub(arena),
            ClientId=arena.home.settings.client_id,
            AuthFlow="ADMIN_USER_PASSWORD_AUTH",
            AuthParameters={"USERNAME": name, "PASSWORD": arena.attacker.password},
        )
        return _ask(arena, answer["AuthenticationResult"]["AccessToken"])


@attack("Sign in at the own pool past the hub", each_victim=False, when=_through_hub)
def past_the_hub(arena: Arena) -> object:
    provider = _operator(arena).describe_identity_provider(UserPoolId=_hub(arena), ProviderName=arena.attacker.name)
    answer = _operator(arena).admin_initiate_auth(
        UserPoolId=arena.stage.users(arena.attacker.name).pool_id,
        ClientId=provider["IdentityProvider"]["ProviderDetails"]["client_id"],
        AuthFlow="ADMIN_USER_PASSWORD_AUTH",
        AuthParameters={"USERNAME": arena.attacker.email, "PASSWORD": arena.attacker.password},
    )
    return _ask(arena, answer["AuthenticationResult"]["AccessToken"])


@attack("Use a genuine token of the own pool where the hub's are taken", local=True, when=_through_hub)
def token_of_the_own_pool(arena: Arena) -> object:
    pool = arena.stage.users(arena.attacker.name).pool_id
    issuer = f"https://cognito-idp.{arena.stage.region}.amazonaws.com/{pool}"
    tags = {"principal_tags": {"TenantId": [arena.victim.name]}, "transitive_tag_keys": ["TenantId"]}
    claims = {"tenant_id": arena.victim.name, "https://aws.amazon.com/tags": tags}
    answers = [_ask(arena, arena.sign({**claims, "iss": iss}, issuer)) for iss in (issuer, arena.home.settings.issuer)]
    return answers[-1]


# --- Codes ----------------------------------------------------------------------------------------


def _own_grant(arena: Arena) -> Grant:
    return arena.stage.managed_login.grant(arena.attacker.name, arena.attacker.email, arena.attacker.password)


def _victims_grant(arena: Arena) -> Grant:
    """A code of the victim's that the attacker saw on its way, but not what the victim's application kept."""
    return arena.stage.managed_login.grant(arena.victim.name, arena.victim.email, arena.victim.password)


@attack("Redeem a code that was redeemed already", each_victim=False, when=_through_hub)
def code_twice(arena: Arena) -> object:
    grant = _own_grant(arena)
    arena.stage.managed_login.redeem(grant)
    return arena.stage.managed_login.redeem(grant)


@attack("Redeem another tenant's code without its verifier", when=_both_through_hub)
def code_without_verifier(arena: Arena) -> object:
    return _ask(arena, arena.stage.managed_login.redeem(_victims_grant(arena), code_verifier=None)["access_token"])


@attack("Redeem another tenant's code with the own verifier", when=_both_through_hub)
def code_with_own_verifier(arena: Arena) -> object:
    own = secrets.token_urlsafe(48)
    return _ask(arena, arena.stage.managed_login.redeem(_victims_grant(arena), code_verifier=own)["access_token"])


@attack("Redeem another tenant's code at another address", when=_both_through_hub)
def code_at_another_address(arena: Arena) -> object:
    tokens = arena.stage.managed_login.redeem(_victims_grant(arena), redirect_uri="https://evil.example/callback")
    return _ask(arena, tokens["access_token"])


@attack("Redeem another tenant's code as another client", local=True, when=_both_through_hub)
def code_of_another_client(arena: Arena) -> object:
    cognito, hub, callback = _operator(arena), _hub(arena), arena.stage.outputs["CallbackUrl"]
    other = cognito.create_user_pool_client(
        UserPoolId=hub,
        ClientName="another",
        AllowedOAuthFlowsUserPoolClient=True,
        AllowedOAuthFlows=["code"],
        AllowedOAuthScopes=["openid", "email"],
        CallbackURLs=[callback],
    )["UserPoolClient"]["ClientId"]
    try:
        tokens = arena.stage.managed_login.redeem(_victims_grant(arena), client_id=other)
        return _ask(arena, tokens["access_token"])
    finally:
        cognito.delete_user_pool_client(UserPoolId=hub, ClientId=other)


@attack("Have a code sent to an own address", each_victim=False, when=_through_hub)
def another_callback(arena: Arena) -> object:
    login = arena.stage.managed_login
    evil = ManagedLogin(login.address, arena.home.settings.client_id, "https://evil.example/callback")
    return evil.sign_in(arena.attacker.name, arena.attacker.email, arena.attacker.password)


@attack("Come back to the hub with a state that nobody left with", each_victim=False, when=_through_hub)
def made_up_state(arena: Arena) -> object:
    return arena.stage.managed_login.come_back(state=secrets.token_urlsafe(32), code=secrets.token_urlsafe(32))

"""The hub in the deployed platform: who comes and goes, and who stays signed in."""

import secrets
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from local.cloud import LocalCloud
from local.managed_login import SignInRefused
from local.stage import Actor, Stage
from saas_agent.tenancy.placement import load_placement

TIER = next(tier for tier in load_placement().tiers if load_placement().column(tier, "runtime") == "shared")


def client(stage: Stage) -> dict[str, Any]:
    """The hub's app client."""
    answer = stage.session.client("cognito-idp").describe_user_pool_client(
        UserPoolId=stage.outputs["UserPoolId"], ClientId=stage.outputs["ClientId"]
    )
    described: dict[str, Any] = answer["UserPoolClient"]
    return described


def providers(stage: Stage) -> set[str]:
    """Whose users may sign in at the hub."""
    return set(client(stage)["SupportedIdentityProviders"])


def test_a_deployment_that_updates_the_client_loses_no_tenant(
    cloud: LocalCloud, stage: Stage, acme: Actor, acme2: Actor
) -> None:
    before = providers(stage)
    assert {acme.name, acme2.name} <= before
    further = f"{stage.outputs['CallbackUrl']},https://app.example/callback"
    cloud.deploy({"CallbackUrls": further})
    try:
        assert client(stage)["CallbackURLs"] == further.split(",")
        assert providers(stage) == before
        assert stage.sign_in(acme.name, acme.email, acme.password).access
    finally:
        cloud.deploy({"CallbackUrls": stage.outputs["CallbackUrl"]})
    assert providers(stage) == before


def test_of_ten_tenants_at_once_each_is_complete(stage: Stage) -> None:
    names = [f"at-once-{number:02}" for number in range(10)]
    before = providers(stage)
    with ThreadPoolExecutor(len(names)) as pool:
        actors = list(pool.map(lambda name: stage.onboard(name, TIER), names))
    assert providers(stage) == before | set(names)
    assert [actor.tenant.tenant_id for actor in actors] == names
    assert len({stage.users(name).pool_id for name in names}) == len(names)


def test_who_was_removed_from_the_tenants_pool_gets_no_more_tokens(stage: Stage, acme: Actor) -> None:
    email, password = f"{secrets.token_hex(4)}@acme.example", f"Aa1!{secrets.token_urlsafe(18)}"
    users = stage.users(acme.name)
    user = users.invite(acme.name, email, administrator=False, mail=False)
    users.set_password(email, password)
    login = stage.managed_login
    refresh_token = login.sign_in(acme.name, email, password)["refresh_token"]
    assert login.refresh(refresh_token)["access_token"]
    users.remove(acme.name, user.username)
    # The hub still has the profile and the refresh token: what counts is the tenant's pool.
    with pytest.raises(SignInRefused, match="not there any more"):
        login.refresh(refresh_token)


def test_a_suspension_ends_what_was_issued_at_the_hub(stage: Stage) -> None:
    actor = stage.onboard("suspended-at-hub", TIER)
    login = stage.managed_login
    refresh_token = login.sign_in(actor.name, actor.email, actor.password)["refresh_token"]
    stage.tenants.suspend(actor.name)
    with pytest.raises(SignInRefused):
        login.refresh(refresh_token)
    stage.tenants.resume(actor.name)
    # It was revoked, so it stays refused; who signs in anew gets in.
    with pytest.raises(SignInRefused, match="invalid_grant"):
        login.refresh(refresh_token)
    assert stage.sign_in(actor.name, actor.email, actor.password).access


def test_a_tenant_that_leaves_leaves_nothing_and_takes_nobody_along(stage: Stage, acme: Actor) -> None:
    actor = stage.onboard("leaving", TIER)
    pool = stage.users("leaving").pool_id
    profiles = stage.identity.profiles
    assert profiles is not None
    assert len(profiles.page("leaving", "")[0]) == 1
    before = providers(stage) - {"leaving"}
    stage.identity.withdraw("leaving")
    with pytest.raises(SignInRefused, match="doesn't support"):
        stage.sign_in("leaving", actor.email, actor.password)
    stage.identity.admit("leaving")
    assert stage.sign_in("leaving", actor.email, actor.password).access
    stage.tenants.offboard("leaving")
    assert providers(stage) == before
    assert profiles.page("leaving", "")[0] == []
    cognito = stage.session.client("cognito-idp")
    with pytest.raises(cognito.exceptions.ResourceNotFoundException):
        cognito.describe_user_pool(UserPoolId=pool)
    assert stage.sign_in(acme.name, acme.email, acme.password).access

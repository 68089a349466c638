"""Tenants' administrators and their users, through the deployed API and its function in its deployed role."""

import secrets
from typing import Any

import pytest
import urllib3

from local.authorization import DecisionLog
from local.cloud import LocalCloud
from local.managed_login import SignInRefused
from local.proof import tiers_to_prove
from local.stage import Actor, Stage
from saas_agent.control_plane.connection import api_url
from saas_agent.control_plane.errors import ControlPlaneError, NotFound

Call = Any


@pytest.fixture
def call(cloud: LocalCloud) -> Call:
    """Calls the API as an administrator's application does; status and answer."""
    url = f"{api_url(cloud.outputs, cloud.endpoint)}/users"

    def call(actor: Actor, method: str, user_id: str | None = None, body: object = None) -> tuple[int, Any]:
        where = url if user_id is None else f"{url}/{user_id}"
        headers = {"Authorization": f"Bearer {actor.tokens.access}"}
        answer = urllib3.request(method, where, headers=headers, json=body)
        return answer.status, answer.json()

    return call


def test_who_is_invited_signs_in_as_a_user_of_the_tenant_until_removed(
    stage: Stage, call: Call, acme: Actor, decisions: DecisionLog
) -> None:
    email, password = f"{secrets.token_hex(4)}@acme.example", f"Aa1!{secrets.token_urlsafe(18)}"
    position = decisions.position()
    status, made = call(acme, "POST", body={"email": email})
    assert status == 200
    # The local cloud has no mail, so the operator does what the mail is for.
    stage.users("acme").set_password(email, password)
    user = stage.actor("acme", email, password)
    assert user.name == "acme"
    assert call(user, "GET")[0] == 403
    assert made["id"] in {entry["id"] for entry in call(acme, "GET")[1]["users"]}
    assert call(acme, "DELETE", made["id"])[0] == 200
    with pytest.raises(SignInRefused):
        stage.actor("acme", email, password)
    # Everything that the function did, its role is for.
    own = [d for d in decisions.since(position) if "users" in d.principal]
    assert own
    assert [d for d in own if not d.allowed] == []


def test_another_tenants_user_stays(stage: Stage, call: Call, acme: Actor, globex: Actor) -> None:
    [name] = [entry["id"] for entry in call(globex, "GET")[1]["users"] if entry["email"] == globex.email]
    assert call(acme, "DELETE", name)[0] == 404
    # An address is one user's in a pool; in a pool of its own a tenant has it for itself.
    expected = 409 if stage.identity.shared_pool else 200
    assert call(acme, "POST", body={"email": globex.email, "administrator": True})[0] == expected
    assert name in {entry["id"] for entry in call(globex, "GET")[1]["users"]}
    assert name not in {entry["id"] for entry in call(acme, "GET")[1]["users"]}


def test_an_operator_helps_a_tenant_that_has_no_administrator(stage: Stage, call: Call) -> None:
    actor = stage.onboard("helpless", tiers_to_prove()[0])
    [only] = list(stage.tenants.users("helpless"))
    assert (only.email, only.administrator) == (actor.email, True)
    stage.tenants.remove_user("helpless", only.id)
    assert call(actor, "GET")[0] == 401
    made = stage.tenants.invite("helpless", "new@helpless.example", administrator=True)
    assert stage.tenants.invite("helpless", "new@helpless.example", administrator=True) == made
    password = f"Aa1!{secrets.token_urlsafe(18)}"
    stage.users("helpless").set_password(made.email, password)
    again = stage.actor("helpless", made.email, password)
    assert again.name == "helpless"
    assert [entry["id"] for entry in call(again, "GET")[1]["users"]] == [made.id]


def test_an_operator_reaches_the_users_of_the_named_tenant_and_no_others(
    stage: Stage, acme: Actor, globex: Actor
) -> None:
    theirs = stage.users(globex.name).find(globex.email)
    assert theirs is not None
    with pytest.raises(NotFound):
        stage.tenants.remove_user(acme.name, theirs.username)
    assert theirs.username not in {user.id for user in stage.tenants.users(acme.name)}
    for unknown in ("nobody", "hub"):
        with pytest.raises(NotFound, match="there is no tenant"):
            stage.tenants.invite(unknown, "x@y.example")


def test_nobody_is_invited_to_a_tenant_that_is_gone(stage: Stage) -> None:
    stage.onboard("goner", tiers_to_prove()[0])
    stage.tenants.suspend("goner")
    assert stage.tenants.invite("goner", "late@goner.example").status
    stage.tenants.offboard("goner")
    with pytest.raises(ControlPlaneError, match="is (DELETED|OFFBOARDING)|there is no tenant"):
        stage.tenants.invite("goner", "later@goner.example")


def test_where_each_tenant_has_its_pool_a_mistake_in_the_code_meets_iam(
    stage: Stage, globex: Actor, decisions: DecisionLog
) -> None:
    if stage.identity.shared_pool is not None:
        return  # all users are in one pool, which IAM can't divide
    stage.onboard("mixed-up", tiers_to_prove()[0])
    # As if the wrong pool had been looked up.
    stage.session.client("dynamodb").update_item(
        TableName=stage.outputs["RegistryTable"],
        Key={"pk": {"S": "TENANT#mixed-up"}, "sk": {"S": "TENANT"}},
        UpdateExpression="SET resources.UserPoolId = :pool",
        ExpressionAttributeValues={":pool": {"S": stage.users(globex.name).pool_id}},
    )
    position = decisions.position()
    with pytest.raises(ControlPlaneError, match="went wrong"):
        list(stage.tenants.users("mixed-up"))
    with pytest.raises(ControlPlaneError, match="failed at SignOutUsers: ListUsers: AccessDenied"):
        stage.tenants.suspend("mixed-up")
    denied = {(d.action, d.allowed) for d in decisions.since(position) if d.action == "cognito-idp:ListUsers"}
    assert denied == {("cognito-idp:ListUsers", False)}

"""Tenants' administrators and their users, with the deployed function in its deployed role."""

import json
import secrets
from typing import Any

import pytest

from local.authorization import DecisionLog
from local.stage import Actor, Stage

Call = Any


@pytest.fixture
def call(stage: Stage) -> Call:
    """Calls the users function as the API does; status and answer."""
    functions = stage.session.client("lambda")

    def call(actor: Actor, method: str, user_id: str | None = None, body: object = None) -> tuple[int, Any]:
        event = {
            "httpMethod": method,
            "resource": "/users" if user_id is None else "/users/{id}",
            "pathParameters": {"id": user_id},
            "headers": {"Authorization": f"Bearer {actor.tokens.access}"},
            "body": json.dumps(body),
        }
        answer = functions.invoke(FunctionName=stage.outputs["UsersFunction"], Payload=json.dumps(event))
        result = json.loads(answer["Payload"].read())
        return result["statusCode"], json.loads(result["body"])

    return call


def test_who_is_invited_signs_in_as_a_user_of_the_tenant_until_removed(
    stage: Stage, call: Call, acme: Actor, decisions: DecisionLog
) -> None:
    email, password = f"{secrets.token_hex(4)}@acme.example", f"Aa1!{secrets.token_urlsafe(18)}"
    position = decisions.position()
    status, made = call(acme, "POST", body={"email": email})
    assert status == 200
    # The local cloud has no mail, so the operator does what the mail is for.
    stage.users.set_password(email, password)
    user = stage.actor(email, password)
    assert user.name == "acme"
    assert call(user, "GET")[0] == 403
    assert made["id"] in {entry["id"] for entry in call(acme, "GET")[1]["users"]}
    assert call(acme, "DELETE", made["id"])[0] == 200
    with pytest.raises(Exception, match="NotAuthorized|UserNotFound"):
        stage.actor(email, password)
    # Everything that the function did, its role is for.
    own = [d for d in decisions.since(position) if "users" in d.principal]
    assert own
    assert [d for d in own if not d.allowed] == []


def test_another_tenants_user_stays(stage: Stage, call: Call, acme: Actor, globex: Actor) -> None:
    [name] = [entry["id"] for entry in call(globex, "GET")[1]["users"] if entry["email"] == globex.email]
    assert call(acme, "DELETE", name)[0] == 404
    assert call(acme, "POST", body={"email": globex.email, "administrator": True})[0] == 409
    assert name in {entry["id"] for entry in call(globex, "GET")[1]["users"]}

"""The users function of the shared pool: whose token it takes."""

import json
from typing import Any

import pytest

from saas_agent.control_plane.registry import Registry
from saas_agent.control_plane.states import Status
from saas_agent.control_plane.users import ADMINISTRATORS
from saas_agent.errors import ConfigurationError
from saas_agent.functions import users_shared
from tests.unit.conftest import TABLE, OnceSession, UserPool, put
from tests.unit.registry_tables import onboard
from tests.unit.tokens import CLIENT, ISSUER, claims, jwks, signed


class Office:
    """The function with its pool, and Ann, who administers acme."""

    def __init__(self, session: OnceSession) -> None:
        self.pool = UserPool(session, "users")
        self.ann = self.pool.add("acme", "ann@acme.example", administrator=True)
        self.environ = {
            "REGISTRY_TABLE": TABLE,
            "ISSUER": ISSUER,
            "CLIENT_ID": CLIENT,
            "USER_POOL_ID": self.pool.id,
        }
        self.handle = users_shared.create(self.environ, session, lambda _: jwks())

    def get(self, **changed: Any) -> tuple[int, Any]:
        """Lists the users with Ann's token, changed like this."""
        own = {"username": self.ann.username, "cognito:groups": [ADMINISTRATORS]}
        token = signed(claims(**{**own, **changed}))
        event = {"httpMethod": "GET", "resource": "/users", "headers": {"authorization": f"Bearer {token}"}}
        answer = self.handle(event, None)
        return answer["statusCode"], json.loads(answer["body"])


@pytest.fixture
def office(session: OnceSession, registry: Registry) -> Office:
    return Office(session)


def test_an_administrators_access_token_is_good(office: Office) -> None:
    status, answer = office.get()
    assert (status, [user["email"] for user in answer["users"]]) == (200, ["ann@acme.example"])


@pytest.mark.parametrize(
    ("changed", "status"),
    [
        ({"exp": 1}, 401),
        ({"iss": f"{ISSUER}x"}, 401),
        ({"client_id": "another"}, 401),
        ({"aud": "another"}, 401),
        ({"token_use": "id"}, 401),
        ({"tenant_id": None}, 403),
        ({"tenant_id": "*"}, 403),
        ({"tenant_status": "SUSPENDED"}, 403),
        ({"cognito:groups": None}, 403),
        ({"cognito:groups": "tenant-administrators"}, 403),
        ({"cognito:groups": []}, 403),
        ({"username": "someone-else"}, 401),
        ({"username": None}, 401),
    ],
)
def test_any_other_token_is_refused(office: Office, changed: dict[str, Any], status: int) -> None:
    assert office.get(**changed)[0] == status


def test_a_token_of_a_tenant_that_was_suspended_since_is_refused(office: Office, session: OnceSession) -> None:
    put(session, "status", Status.SUSPENDED)
    assert office.get()[1]["error"]["code"] == "tenant_not_active"


def test_a_token_that_names_another_tenant_than_its_user_is_of_is_refused(office: Office, session: OnceSession) -> None:
    onboard(session.client("dynamodb"), "globex")
    assert office.get(tenant_id="globex")[0] == 401


@pytest.mark.parametrize("missing", ["REGISTRY_TABLE", "ISSUER", "CLIENT_ID", "USER_POOL_ID"])
def test_it_does_not_start_without_its_settings(office: Office, session: OnceSession, missing: str) -> None:
    environ = {name: value for name, value in office.environ.items() if name != missing}
    with pytest.raises(ConfigurationError, match=missing):
        users_shared.create(environ, session)

"""The users function with a pool per tenant: whose token it takes, and in which pool it works."""

import json
from typing import Any

import pytest
from botocore.exceptions import ClientError

from saas_agent.control_plane.registry import Registry
from saas_agent.control_plane.states import Status
from saas_agent.control_plane.users import ADMINISTRATORS
from saas_agent.errors import ConfigurationError
from saas_agent.functions import users_own
from tests.unit.conftest import TABLE, OnceSession, UserPool, put
from tests.unit.registry_tables import onboard
from tests.unit.tokens import CLIENT, ISSUER, claims, jwks, signed

OWN_ISSUER = f"{ISSUER}own"
OWN_CLIENT = "own-client"


class Watched:
    """A session whose STS keeps what it was asked, and hands out credentials that do for moto."""

    def __init__(self, session: OnceSession) -> None:
        self._session = session
        self.tags: list[Any] = []

    def client(self, name: str) -> Any:
        return self if name == "sts" else self._session.client(name)

    def assume_role(self, **asked: Any) -> Any:
        self.tags.append(asked["Tags"])
        return self._session.client("sts").assume_role(
            **{name: asked[name] for name in ("RoleArn", "RoleSessionName", "DurationSeconds")}
        )


class Office:
    """The function; acme trusts the hub, globex its own pool, and both have an administrator."""

    def __init__(self, session: OnceSession, registry: Registry) -> None:
        self.session = Watched(session)
        onboard(session.client("dynamodb"), "globex", "premium")
        self.hub = UserPool(session, "hub")
        self.pools = {name: UserPool(session, name) for name in ("acme", "globex")}
        self.users = {
            name: pool.add(name, f"ann@{name}.example", administrator=True) for name, pool in self.pools.items()
        }
        own = {"Issuer": {"S": OWN_ISSUER}, "ClientId": {"S": OWN_CLIENT}}
        for name, pool in self.pools.items():
            of_pool = {"UserPoolId": {"S": pool.id}, **(own if name == "globex" else {})}
            put(session, "resources", {"M": of_pool}, name)
        self.environ = {
            "AWS_REGION": "eu-central-1",
            "REGISTRY_TABLE": TABLE,
            "USERS_ROLE_ARN": "arn:aws:iam::123456789012:role/users",
            "ISSUER": ISSUER,
            "CLIENT_ID": CLIENT,
            "HUB_POOL_ID": self.hub.id,
        }
        self.fetched: list[str] = []
        self.handle = users_own.create(self.environ, self.session, self.keys)

    def keys(self, issuer: str) -> Any:
        self.fetched.append(issuer)
        return jwks()

    def token(self, tenant: str, **changed: Any) -> str:
        """A token as the tenant's administrator has it."""
        own = {"iss": OWN_ISSUER, "aud": OWN_CLIENT, "client_id": OWN_CLIENT} if tenant == "globex" else {}
        name = self.users[tenant].username
        user = name if tenant == "globex" else f"{tenant}_{name}"
        rest = {"tenant_id": tenant, "username": user, "cognito:groups": [ADMINISTRATORS]}
        return signed(claims(**{**own, **rest, **changed}))

    def call(self, token: str, method: str = "GET", user_id: str | None = None, body: object = None) -> tuple[int, Any]:
        event = {
            "httpMethod": method,
            "resource": "/users" if user_id is None else "/users/{id}",
            "pathParameters": {"id": user_id},
            "headers": {"Authorization": f"Bearer {token}"},
            "body": json.dumps(body),
        }
        answer = self.handle(event, None)
        return answer["statusCode"], json.loads(answer["body"])


@pytest.fixture
def office(session: OnceSession, registry: Registry) -> Office:
    return Office(session, registry)


@pytest.mark.parametrize("tenant", ["acme", "globex"])
def test_each_works_in_its_own_pool_in_a_session_of_its_own(office: Office, tenant: str) -> None:
    status, answer = office.call(office.token(tenant))
    assert (status, [user["email"] for user in answer["users"]]) == (200, [f"ann@{tenant}.example"])
    assert office.session.tags == [[{"Key": "TenantId", "Value": tenant}]]
    assert office.call(office.token(tenant), "POST", body={"email": "new@x.example"})[0] == 200
    assert office.pools[tenant].users.find("new@x.example") is not None


@pytest.mark.parametrize(
    ("tenant", "changed"),
    [
        # A token of the hub for a tenant that trusts its own pool, and the other way round.
        ("globex", {"iss": ISSUER, "aud": CLIENT, "client_id": CLIENT}),
        ("acme", {"iss": OWN_ISSUER, "aud": OWN_CLIENT, "client_id": OWN_CLIENT}),
        ("globex", {"aud": CLIENT, "client_id": CLIENT}),
        ("acme", {"tenant_id": "unknown"}),
        ("acme", {"tenant_id": None}),
        ("acme", {"tenant_id": "*"}),
        ("acme", {"username": "globex_x"}),
        ("acme", {"username": "acme2_x"}),
        ("acme", {"username": "x"}),
        ("acme", {"exp": 1}),
        ("globex", {"iss": "https://evil.example"}),
    ],
)
def test_any_other_token_is_refused_and_no_role_assumed(office: Office, tenant: str, changed: dict[str, Any]) -> None:
    status, answer = office.call(office.token(tenant, **changed))
    assert (status, "error" in answer) == (401, True)
    assert office.session.tags == []


def test_only_issuers_that_the_registry_names_are_asked_for_keys(office: Office) -> None:
    office.call(office.token("globex", iss="https://evil.example"))
    office.call(office.token("acme", iss="https://evil.example"))
    assert set(office.fetched) <= {ISSUER, OWN_ISSUER}


def test_the_hubs_user_is_the_one_of_the_provider(office: Office) -> None:
    # Bob of globex's pool, whom the token names as acme's: nobody in acme's pool.
    name = office.users["globex"].username
    assert office.call(office.token("acme", username=f"acme_{name}"))[0] == 401


def test_who_is_not_verified_is_not_told_whether_a_tenant_is_suspended(office: Office, session: OnceSession) -> None:
    put(session, "status", Status.SUSPENDED)
    forged = office.token("acme").rpartition(".")[0] + ".c2ln"
    assert office.call(forged)[1]["error"]["code"] == "invalid_token"
    assert office.call(office.token("acme"))[1]["error"]["code"] == "tenant_not_active"


def test_what_the_hub_knows_of_a_removed_user_goes_too(office: Office) -> None:
    bob = office.pools["acme"].add("acme", "bob@acme.example")
    eve = office.pools["globex"].add("globex", "eve@globex.example")
    profiles = office.hub.cognito
    hub = profiles.create_user_pool(PoolName="plain")["UserPool"]["Id"]
    office.handle = users_own.create({**office.environ, "HUB_POOL_ID": hub}, office.session, office.keys)
    for name in (f"acme_{bob.username}", f"acme2_{bob.username}"):
        profiles.admin_create_user(UserPoolId=hub, Username=name, MessageAction="SUPPRESS")
    assert office.call(office.token("acme"), "DELETE", bob.username)[0] == 200
    # One who never signed in has no profile.
    assert office.call(office.token("globex"), "DELETE", eve.username)[0] == 200
    left = [user["Username"] for user in profiles.list_users(UserPoolId=hub)["Users"]]
    assert left == [f"acme2_{bob.username}"]


def test_another_tenants_user_is_out_of_reach(office: Office) -> None:
    name = office.users["globex"].username
    assert office.call(office.token("acme"), "DELETE", name)[1]["error"]["code"] == "not_found"
    assert office.pools["globex"].users.find(name) is not None


def test_without_a_hub_only_a_tenants_own_pool_is_trusted(office: Office) -> None:
    environ = {k: v for k, v in office.environ.items() if k not in ("ISSUER", "CLIENT_ID", "HUB_POOL_ID")}
    office.handle = users_own.create(environ, office.session, office.keys)
    assert office.call(office.token("acme"))[0] == 401
    assert office.call(office.token("globex"))[0] == 200


def test_when_sts_says_no_nothing_is_done(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    def deny(**_: Any) -> None:
        raise ClientError({"Error": {"Code": "AccessDenied", "Message": "secret"}}, "AssumeRole")

    monkeypatch.setattr(office.session, "assume_role", deny)
    status, answer = office.call(office.token("acme"), "POST", body={"email": "new@x.example"})
    assert (status, answer["error"]["code"]) == (500, "internal")
    assert "secret" not in str(answer)


@pytest.mark.parametrize("missing", ["REGISTRY_TABLE", "USERS_ROLE_ARN", "ISSUER", "CLIENT_ID", "AWS_REGION"])
def test_it_does_not_start_without_its_settings(office: Office, missing: str) -> None:
    environ = {name: value for name, value in office.environ.items() if name != missing}
    with pytest.raises(ConfigurationError, match=missing):
        users_own.create(environ, office.session)

"""A tenant's administrators manage the users of their own tenant, and nobody else's."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError

from saas_agent.control_plane.users import ADMINISTRATORS, TENANT_ATTRIBUTE, User, Users, email_address, pages
from saas_agent.errors import INVALID_TOKEN, Refused
from saas_agent.functions.users import Desk, Handler, users_handler
from saas_agent.tenancy.tenant import TenantContext
from saas_agent.tenancy.token import VerifiedToken
from tests.unit.conftest import OnceSession, UserPool

ANN = "ann@acme.example"


class Office:
    """The users function with a pool of two tenants, called as API Gateway calls it."""

    def __init__(self, session: OnceSession) -> None:
        self.pool = UserPool(session, "users")
        self.ann = self.pool.add("acme", ANN, administrator=True)
        self.eve = self.pool.add("globex", "eve@globex.example", administrator=True)
        self.forgotten: list[User] = []
        self.groups = frozenset({ADMINISTRATORS})
        self.seconds = iter(range(10_000))
        self.handle: Handler = users_handler(self, clock=lambda: next(self.seconds) * 0.001)

    def for_user(self, raw: str) -> tuple[Desk, VerifiedToken]:
        """The token names the user."""
        users = {"ann": ("acme", self.ann), "eve": ("globex", self.eve)}
        if raw not in users:
            raise Refused(INVALID_TOKEN, "no such token")
        tenant_id, user = users[raw]
        caller = VerifiedToken(TenantContext(tenant_id, "basic", user.username, 1), raw, user.username, self.groups)
        return Desk(tenant_id, user.username, self.pool.users, self.forgotten.append), caller

    def for_operator(self, tenant_id: str, operator: str) -> Desk:
        """Every tenant is there."""
        return Desk(tenant_id, operator, self.pool.users, self.forgotten.append)

    def call(self, method: str, user_id: str | None = None, body: object = None, **event: Any) -> tuple[int, Any]:
        """Status and answer. `body`: a text is sent as it is."""
        sent = {
            "httpMethod": method,
            "resource": "/users" if user_id is None else "/users/{id}",
            "pathParameters": None if user_id is None else {"id": user_id},
            "headers": {"Authorization": "Bearer ann"},
            "queryStringParameters": None,
            "body": body if isinstance(body, str) or body is None else json.dumps(body),
            **event,
        }
        answer = self.handle(sent, None)
        return answer["statusCode"], json.loads(answer["body"])

    def code(self, *arguments: Any, **named: Any) -> tuple[int, str]:
        """Status and code of a refusal."""
        status, answer = self.call(*arguments, **named)
        return status, answer["error"]["code"]


@pytest.fixture
def office(session: OnceSession) -> Office:
    return Office(session)


def test_an_administrator_invites_lists_and_removes(office: Office, caplog: pytest.LogCaptureFixture) -> None:
    status, made = office.call("POST", body={"email": " Bob@Acme.example "})
    assert status == 200
    assert (made["email"], made["administrator"]) == ("bob@acme.example", False)
    bob = office.pool.users.find(made["id"])
    assert bob is not None
    assert bob.tenant_id == "acme"
    status, listed = office.call("GET")
    assert (status, listed["next"]) == (200, None)
    assert {(user["email"], user["administrator"]) for user in listed["users"]} == {
        (ANN, True),
        ("bob@acme.example", False),
    }
    assert office.call("DELETE", made["id"]) == (200, {"removed": made["id"]})
    assert office.pool.users.find("bob@acme.example") is None
    assert [user.username for user in office.forgotten] == [made["id"]]
    # Who did it is looked up in the log.
    assert [record.getMessage().split(" by=")[0] for record in caplog.records] == [
        "invited tenant=acme",
        "removed tenant=acme",
    ]


def test_an_administrator_makes_others(office: Office) -> None:
    _, made = office.call("POST", body={"email": "bob@acme.example", "administrator": True})
    bob = office.pool.users.find(made["id"])
    assert bob is not None
    assert office.pool.users.groups(bob) == [ADMINISTRATORS]


def test_inviting_again_changes_nothing(office: Office) -> None:
    first = office.call("POST", body={"email": "bob@acme.example"})
    assert office.call("POST", body={"email": "bob@acme.example"}) == first


def test_who_is_invited_is_told_by_mail(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []
    invite = Users.invite

    def watch(self: Users, *arguments: Any, **named: Any) -> User:
        asked.append(named["mail"])
        return invite(self, *arguments, **named)

    monkeypatch.setattr(Users, "invite", watch)
    office.call("POST", body={"email": "bob@acme.example"})
    assert asked == [True]


@pytest.mark.parametrize(
    "body",
    [
        None,
        "",
        "no json",
        "[]",
        '"bob@acme.example"',
        {},
        {"email": ""},
        {"email": "bob"},
        {"email": ["bob@acme.example"]},
        {"email": None},
        {"email": "bob@acme.example", "administrator": "yes"},
        {"email": "bob@acme.example", "administrator": 1},
        {"email": "bob@acme.example", "tenant_id": "globex"},
        {"email": "bob@acme.example", "custom:tenant_id": "globex"},
        {"email": "bob@acme.example", "UserAttributes": [{"Name": TENANT_ATTRIBUTE, "Value": "globex"}]},
        {"administrator": True},
        {"email": "b" * 130 + "@acme.example"},
        json.dumps({"email": "bob@acme.example"}) + " " * 3000,
        "[" * 2000,
    ],
)
def test_an_invitation_names_an_address_and_no_tenant(office: Office, body: object) -> None:
    before = len(office.pool.cognito.list_users(UserPoolId=office.pool.id)["Users"])
    assert office.code("POST", body=body) == (400, "invalid_request")
    assert len(office.pool.cognito.list_users(UserPoolId=office.pool.id)["Users"]) == before


def test_the_tenant_is_the_tokens_whatever_else_the_request_says(office: Office) -> None:
    named: dict[str, Any] = {
        "headers": {"Authorization": "Bearer ann", "X-Tenant-Id": "globex", "tenant_id": "globex"},
        "queryStringParameters": {"tenant_id": "globex", "tenant": "globex"},
        "requestContext": {"authorizer": {"claims": {"tenant_id": "globex"}}},
    }
    _, made = office.call("POST", body={"email": "bob@acme.example"}, **named)
    bob = office.pool.users.find(made["id"])
    assert bob is not None
    assert bob.tenant_id == "acme"
    _, listed = office.call("GET", **named)
    assert all(user["email"].endswith("@acme.example") for user in listed["users"])


# --- Other tenants' users -------------------------------------------------------------------------


def test_another_tenants_user_is_not_told_apart_from_none(office: Office) -> None:
    nobody = "0a1b2c3d-0000-4000-8000-000000000009"
    assert office.call("DELETE", office.eve.username) == office.call("DELETE", nobody)
    assert office.code("DELETE", office.eve.username) == (404, "not_found")
    assert office.pool.users.find(office.eve.username) is not None
    assert office.forgotten == []


def test_a_user_is_named_by_id_and_never_by_address(office: Office) -> None:
    office.pool.add("acme", "bob@acme.example")
    for name in ("bob@acme.example", office.eve.email, "", "a/b", "*"):
        assert office.code("DELETE", name) == (404, "not_found")
    assert office.pool.users.find("bob@acme.example") is not None


def test_another_tenants_address_is_not_invited(office: Office) -> None:
    assert office.code("POST", body={"email": office.eve.email, "administrator": True}) == (409, "address_taken")
    eve = office.pool.users.find(office.eve.username)
    assert eve is not None
    assert eve.tenant_id == "globex"


def test_a_user_of_no_tenant_is_nobodys(office: Office) -> None:
    made = office.pool.cognito.admin_create_user(UserPoolId=office.pool.id, Username="lost@x.example")
    assert office.code("DELETE", made["User"]["Username"]) == (404, "not_found")
    assert "lost@x.example" not in str(office.call("GET"))


def test_a_long_list_comes_in_pages_with_nobody_twice_and_nobody_missing(office: Office) -> None:
    for number in range(150):
        office.pool.add("acme" if number % 3 == 0 else "globex", f"u{number}@x.example")
    seen: list[str] = []
    token = None
    for _ in range(20):
        _, listed = office.call("GET", queryStringParameters={"next": token} if token else None)
        seen += [user["email"] for user in listed["users"]]
        token = listed["next"]
        if token is None:
            break
    assert sorted(seen) == sorted([ANN, *(f"u{number}@x.example" for number in range(0, 150, 3))])


def test_a_list_that_takes_long_stops_and_goes_on(office: Office) -> None:
    for number in range(130):
        office.pool.add("globex", f"u{number}@x.example")
    slow = iter(range(0, 1000, 10))
    office.handle = users_handler(office, clock=lambda: float(next(slow)))
    _, listed = office.call("GET")
    assert listed["next"] is not None


# --- Who may ----------------------------------------------------------------------------------------


def test_without_a_good_token_there_is_nothing(office: Office) -> None:
    for headers in ({}, None, {"Authorization": "Bearer mallory"}, {"Authorization": "ann"}):
        assert office.code("GET", headers=headers) == (401, "invalid_token")


def test_a_user_without_the_group_may_do_nothing(office: Office) -> None:
    office.groups = frozenset({"tenant-administrator", "administrators"})
    for call in (("GET",), ("DELETE", office.eve.username)):
        assert office.code(*call) == (403, "not_administrator")
    assert office.code("POST", body={"email": "bob@acme.example"}) == (403, "not_administrator")
    assert office.pool.users.find("bob@acme.example") is None


def lose_the_group(office: Office) -> None:
    office.pool.cognito.admin_remove_user_from_group(
        UserPoolId=office.pool.id, Username=office.ann.username, GroupName=ADMINISTRATORS
    )


def be_disabled(office: Office) -> None:
    office.pool.cognito.admin_disable_user(UserPoolId=office.pool.id, Username=office.ann.username)


def be_removed(office: Office) -> None:
    office.pool.users.remove("acme", office.ann.username)


@pytest.mark.parametrize(
    ("happened", "code"),
    [(lose_the_group, "not_administrator"), (be_disabled, "invalid_token"), (be_removed, "invalid_token")],
)
def test_what_the_token_said_when_it_was_issued_is_not_enough(
    office: Office, happened: Callable[[Office], None], code: str
) -> None:
    happened(office)
    assert office.code("POST", body={"email": "bob@acme.example"})[1] == code
    assert office.pool.users.find("bob@acme.example") is None


def test_nobody_removes_himself_so_one_administrator_stays(office: Office) -> None:
    assert office.code("DELETE", office.ann.username) == (409, "not_yourself")
    assert office.pool.users.find(ANN) is not None


@pytest.mark.parametrize("method", ["PUT", "PATCH", "HEAD", ""])
def test_there_are_no_other_routes(office: Office, method: str) -> None:
    assert office.code(method) == (400, "invalid_request")
    assert office.code("DELETE") == (400, "invalid_request")


def test_an_error_of_aws_says_nothing(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ClientError({"Error": {"Code": "InternalErrorException", "Message": "secret things"}}, "ListUsers")

    monkeypatch.setattr(Users, "page", fail)
    status, answer = office.call("GET")
    assert (status, answer["error"]["code"]) == (500, "internal")
    assert "secret" not in str(answer)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("Ann@Acme.example ", "ann@acme.example"),
        ("ann", None),
        ("ann@acme", None),
        ("ann@acme.example\nBcc: x@y.example", None),
        ("@acme.example", None),
        ("a" * 120 + "@acme.example", None),
    ],
)
def test_an_address_is_kept_in_one_form(text: str, address: str | None) -> None:
    assert email_address(text) == address


# --- Operators --------------------------------------------------------------------------------------


def as_operator(
    office: Office, method: str, tenant_id: str, user_id: str | None = None, **event: Any
) -> tuple[int, Any]:
    """Status and answer of a call that API Gateway authorized by IAM."""
    sent: dict[str, Any] = {
        "resource": "/tenants/{tenant_id}/users" + ("/{id}" if user_id else ""),
        "pathParameters": {"tenant_id": tenant_id, **({"id": user_id} if user_id else {})},
        "headers": {"Authorization": "AWS4-HMAC-SHA256 Credential=..."},
        "requestContext": {"identity": {"userArn": "arn:aws:iam::123456789012:user/olga"}},
        **event,
    }
    return office.call(method, **sent)


def test_an_operator_names_the_tenant(office: Office) -> None:
    _, listed = as_operator(office, "GET", "globex")
    assert [user["email"] for user in listed["users"]] == [office.eve.email]
    _, made = as_operator(office, "POST", "globex", body=json.dumps({"email": "bob@globex.example"}))
    bob = office.pool.users.find(made["id"])
    assert bob is not None
    assert bob.tenant_id == "globex"
    assert as_operator(office, "DELETE", "acme", made["id"])[0] == 404
    assert as_operator(office, "DELETE", "globex", made["id"]) == (200, {"removed": made["id"]})


@pytest.mark.parametrize(
    "context", [None, {}, {"identity": {}}, {"identity": {"userArn": None}}, {"identity": {"userArn": ""}}]
)
def test_a_call_that_iam_did_not_authorize_is_no_operators(office: Office, context: Any) -> None:
    # Not even with an administrator's token: what is named in the path would be another tenant.
    headers = {"Authorization": "Bearer ann"}
    status, answer = as_operator(office, "GET", "globex", headers=headers, requestContext=context)
    assert (status, answer["error"]["code"]) == (401, "invalid_token")


def test_an_operator_is_none_on_the_tenants_own_path(office: Office) -> None:
    context = {"identity": {"userArn": "arn:aws:iam::123456789012:user/olga"}}
    assert office.code("GET", headers={}, requestContext=context) == (401, "invalid_token")


# --- Several places ---------------------------------------------------------------------------------


def test_all_places_are_walked_through_one_after_the_other(office: Office, session: OnceSession) -> None:
    other = UserPool(session, "other")
    for number in range(70):
        office.pool.add("acme", f"u{number}@x.example")
        other.add("acme", f"v{number}@x.example")
    places, cursor, found, rounds = [office.pool.users, other.users], "", [], 0
    while rounds == 0 or cursor:
        some, cursor = pages(places, "acme", cursor)
        found += some
        rounds += 1
    assert rounds == 4
    assert sorted(each.user.email for each in found if each.place is other.users) == sorted(
        f"v{number}@x.example" for number in range(70)
    )
    assert len(found) == 141
    assert pages([], "acme", "") == ([], "")

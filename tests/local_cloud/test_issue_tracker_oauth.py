"""The issue tracker's OAuth server: who gets a token, for which workspace, how long, and what ends it."""

import gc
import logging
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast
from urllib.parse import urlencode
from uuid import uuid4

import jwt
import pytest
import urllib3

from local.services import issue_tracker, issue_tracker_oauth
from local.stage import Stage

from .local_issue_tracker import IssueTracker, with_key, with_token
from .local_stacks import Operator, operator, values

ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"
TOKEN_EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"

Client = tuple[str, str]
"""Its id and its secret."""


class World:
    """Two customers, each with users in a pool of its own, and an application that both use."""

    def __init__(self, op: Operator) -> None:
        self.op = op
        pools = {name: {"Type": "AWS::Cognito::UserPool", "Properties": {}} for name in ("acme", "globex")}
        outputs = {name: {"Fn::GetAtt": [name, "ProviderURL"]} for name in pools}
        self.issuers = op.create("pools", pools, Outputs=values(**outputs))
        self.tracker = IssueTracker(issue_tracker.settings(op.cloud.endpoint)["IssueTrackerUrl"])
        self.server = issue_tracker_oauth.of(op.cloud._gate)
        made = {name: self.tracker.sign_up(name, issuer) for name, issuer in self.issuers.items()}
        self.keys = {name: each["api_key"] for name, each in made.items()}
        self.clients = {name: client_of(each) for name, each in made.items()}
        self.application, self.another = self.new_application(), self.new_application()

    def new_application(self) -> Client:
        status, content = self.tracker.ask("POST", "/oauth/applications")
        assert status == 201
        return client_of(content)

    def ask(self, client: Client | None, grant: str, **asked: str) -> tuple[int, dict[str, Any]]:
        """Status and content of what the token endpoint says to the client."""
        shown = urllib3.make_headers(basic_auth=":".join(client)) if client else {}
        shown["Content-Type"] = "application/x-www-form-urlencoded"
        return self.tracker.ask("POST", "/oauth/token", shown, body=urlencode({"grant_type": grant, **asked}))

    def exchange(self, subject_token: str, client: Client | None = None, **asked: str) -> tuple[int, dict[str, Any]]:
        given = {"subject_token": subject_token, "subject_token_type": ACCESS_TOKEN, **asked}
        return self.ask(client or self.application, TOKEN_EXCHANGE, **given)

    def got(self, answer: tuple[int, dict[str, Any]]) -> dict[str, Any]:
        """What was issued."""
        status, content = answer
        assert status == 200
        assert (content["token_type"], content["expires_in"]) == ("Bearer", 300)
        return content

    def machine(self, workspace: str) -> str:
        """A token of the workspace's own client."""
        return str(self.got(self.ask(self.clients[workspace], "client_credentials"))["access_token"])

    def refresh(self, token: str, client: Client | None = None) -> tuple[int, dict[str, Any]]:
        return self.ask(client or self.application, "refresh_token", refresh_token=token)

    def opens(self, token: str) -> dict[str, int]:
        """What the workspaces answer to whoever shows the token."""
        return {name: self.tracker.issues(name, with_token(token))[0] for name in self.issuers}

    def user_token(self, subject: str = "ann", pool: str = "acme", **changed: Any) -> str:
        """A token of the customer's pool for its user; a claim that is changed to None is left out."""
        now, issuer = int(time.time()), self.issuers[pool]
        claims = {"iss": issuer, "sub": subject, "tenant_id": pool, "iat": now, "exp": now + 600, **changed}
        return self.op.cloud.mint({name: value for name, value in claims.items() if value is not None}, issuer)


def client_of(made: dict[str, str]) -> Client:
    return made["client_id"], made["client_secret"]


ACME = {"acme": 200, "globex": 403}
GLOBEX = {"acme": 403, "globex": 200}
NEITHER = {"acme": 401, "globex": 401}


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with operator() as op:
        yield World(op)


def later(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """The OAuth server's clock goes ahead by so much."""
    monkeypatch.setattr(issue_tracker_oauth, "time", SimpleNamespace(time=lambda: time.time() + seconds))


# --- Clients --------------------------------------------------------------------------------------


def test_the_discovery_document_leads_to_the_token_endpoint(world: World) -> None:
    status, found = world.tracker.ask("GET", "/.well-known/oauth-authorization-server")
    assert (status, found["issuer"]) == (200, world.tracker.url)
    assert found["token_endpoint"] == f"{world.tracker.url}/oauth/token"
    assert set(found["grant_types_supported"]) == {"client_credentials", "refresh_token", TOKEN_EXCHANGE}
    assert found["token_endpoint_auth_methods_supported"] == ["client_secret_basic"]


@pytest.mark.parametrize("how", ["unknown", "wrong secret", "another's secret", "no secret", "none", "by the form"])
def test_a_client_that_does_not_show_its_own_secret_gets_nothing(world: World, how: str) -> None:
    client_id, secret = world.clients["acme"]
    client = {
        "unknown": ("itc_unknown", secret),
        "wrong secret": (client_id, f"{secret}x"),
        "another's secret": (client_id, world.clients["globex"][1]),
        "no secret": (client_id, ""),
    }.get(how)
    form = {"client_id": client_id, "client_secret": secret} if how == "by the form" else {}
    before = world.server.granted.copy()
    for grant in ("client_credentials", TOKEN_EXCHANGE, "refresh_token"):
        assert world.ask(client, grant, **form) == (401, {"error": "invalid_client"})
    assert world.server.granted == before


@pytest.mark.parametrize("grant", ["", "authorization_code", "password", "urn:ietf:params:oauth:grant-type:jwt-bearer"])
def test_a_grant_that_it_has_not_is_refused(world: World, grant: str) -> None:
    refused = (400, {"error": "unsupported_grant_type"})
    assert world.ask(world.clients["acme"], grant) == world.ask(world.application, grant, code="x") == refused


def test_there_is_nothing_else(world: World) -> None:
    for method, path in (("GET", "/oauth/token"), ("GET", "/oauth/applications"), ("PUT", "/oauth/token")):
        assert world.tracker.ask(method, path) == (405, {"error": "invalid_request"})
    assert world.tracker.ask("POST", "/oauth/authorize") == (404, {"error": "invalid_request"})


# --- A workspace's own client ---------------------------------------------------------------------


def test_a_workspaces_client_gets_a_token_for_that_workspace_alone(world: World) -> None:
    before = world.server.granted["client_credentials"]
    issued = world.got(world.ask(world.clients["acme"], "client_credentials"))
    assert "refresh_token" not in issued
    assert world.opens(issued["access_token"]) == ACME
    assert world.opens(world.machine("globex")) == GLOBEX
    assert world.server.granted["client_credentials"] == before + 2
    status, issue = world.tracker.open("acme", "Lamp", with_token(issued["access_token"]))
    assert (status, issue["opened_by"]) == (201, "the company's agent")
    assert world.tracker.open("globex", "planted", with_token(issued["access_token"]))[0] == 403
    assert world.tracker.issues("globex", with_key(world.keys["globex"])) == (200, [])


def test_neither_kind_of_client_does_what_the_other_does(world: World) -> None:
    refused = (400, {"error": "unauthorized_client"})
    assert world.exchange(world.user_token(), world.clients["acme"]) == refused
    assert world.ask(world.application, "client_credentials") == refused


def test_what_is_no_token_opens_nothing(world: World) -> None:
    token = world.machine("acme")
    for shown in (f"Bearer {token}x", f"Bearer {token[:-1]}", "Bearer ", f"Basic {token}", token, "Bearer ita_made-up"):
        assert world.tracker.issues("acme", {"Authorization": shown})[0] == 401
    assert world.tracker.issues("acme", {"X-Api-Key": token})[0] == 403
    assert world.tracker.issues("acme", {"Authorization": f"bearer {token}"})[0] == 200


def test_a_key_and_a_token_together_open_what_each_is_good_for(world: World) -> None:
    made = world.tracker.sign_up("initech")
    shown = {**with_key(world.keys["acme"]), **with_token(world.machine("globex"))}
    assert [world.tracker.issues(name, shown)[0] for name in ("acme", "globex", "initech")] == [200, 200, 403]
    assert world.opens(str(world.ask(client_of(made), "client_credentials")[1]["access_token"])) == {
        "acme": 403,
        "globex": 403,
    }


# --- On behalf of a user --------------------------------------------------------------------------


def test_a_users_token_is_exchanged_for_one_of_the_workspace_that_it_names(world: World) -> None:
    for workspace, opened in (("acme", ACME), ("globex", GLOBEX)):
        issued = world.got(world.exchange(world.user_token("ann", workspace)))
        assert issued["issued_token_type"] == ACCESS_TOKEN
        assert world.opens(issued["access_token"]) == opened
        _, issue = world.tracker.open(workspace, "Door", with_token(issued["access_token"]))
        assert issue["opened_by"] == "user ann"


@pytest.mark.parametrize(
    "how",
    [
        "by another key",
        "by another customer's pool",
        "by another customer's pool in its name",
        "in another customer's pool's name",
        "ended",
        "without an end",
        "without a subject",
        "without a workspace",
        "for a workspace that there is not",
        "no token",
        "nothing",
    ],
)
def test_a_token_that_the_workspaces_own_issuer_does_not_stand_for_is_exchanged_for_nothing(
    world: World, how: str
) -> None:
    good = world.user_token()
    claims = jwt.decode(good, options={"verify_signature": False})
    key_id = {"kid": jwt.get_unverified_header(good)["kid"]}
    token = {
        "by another key": jwt.encode(claims, "k" * 32, "HS256", key_id),
        "by another customer's pool": world.user_token("bob", "globex", tenant_id="acme"),
        "by another customer's pool in its name": world.user_token(
            "bob", "globex", tenant_id="acme", iss=world.issuers["acme"]
        ),
        "in another customer's pool's name": world.user_token(iss=world.issuers["globex"]),
        "ended": world.user_token(exp=int(time.time()) - 1),
        "without an end": world.user_token(exp=None),
        "without a subject": world.user_token(sub=None),
        "without a workspace": world.user_token(tenant_id=None),
        "for a workspace that there is not": world.user_token(tenant_id="acme2"),
        "no token": "a.b.c",
        "nothing": "",
    }[how]
    before = world.server.granted.copy()
    assert world.exchange(token) == (400, {"error": "invalid_grant"})
    assert world.server.granted == before


@pytest.mark.parametrize("kind", ["", "urn:ietf:params:oauth:token-type:id_token"])
def test_an_exchange_says_that_it_is_an_access_token(world: World, kind: str) -> None:
    answer = world.exchange(world.user_token(), subject_token_type=kind)
    assert answer == (400, {"error": "invalid_request"})


# --- How long it is good --------------------------------------------------------------------------


def test_a_token_ends_and_is_refreshed_for_the_same_user_and_workspace(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, own = world.got(world.exchange(world.user_token())), world.machine("acme")
    later(monkeypatch, 290)
    assert world.opens(first["access_token"]) == world.opens(own) == ACME
    later(monkeypatch, 301)
    assert world.opens(first["access_token"]) == world.opens(own) == NEITHER
    second = world.got(world.refresh(first["refresh_token"]))
    assert world.opens(second["access_token"]) == ACME
    assert world.tracker.open("acme", "Door", with_token(second["access_token"]))[1]["opened_by"] == "user ann"
    later(monkeypatch, 602)
    assert world.opens(second["access_token"]) == NEITHER
    assert world.opens(world.got(world.refresh(second["refresh_token"]))["access_token"]) == ACME


def test_a_refresh_token_is_good_once_for_its_own_client_and_for_nothing_else(world: World) -> None:
    refused = (400, {"error": "invalid_grant"})
    issued = world.got(world.exchange(world.user_token()))
    assert world.opens(issued["refresh_token"]) == NEITHER
    for client in (world.another, world.clients["acme"], world.clients["globex"]):
        stolen = world.got(world.exchange(world.user_token()))["refresh_token"]
        assert world.refresh(stolen, client) == refused
    assert world.refresh(issued["access_token"]) == world.refresh("itr_made-up") == world.refresh("") == refused
    world.got(world.refresh(issued["refresh_token"]))
    assert world.refresh(issued["refresh_token"]) == refused


def test_whoever_runs_it_ends_every_token_of_a_workspace_and_no_other(world: World) -> None:
    users = {name: world.got(world.exchange(world.user_token("ann", name))) for name in world.issuers}
    machines = {name: world.machine(name) for name in world.issuers}
    world.server.end("acme")
    assert world.opens(users["acme"]["access_token"]) == world.opens(machines["acme"]) == NEITHER
    assert world.refresh(users["acme"]["refresh_token"]) == (400, {"error": "invalid_grant"})
    assert world.opens(users["globex"]["access_token"]) == world.opens(machines["globex"]) == GLOBEX
    world.got(world.refresh(users["globex"]["refresh_token"]))
    # A client gets another one, and the key goes on being good.
    assert world.opens(world.machine("acme")) == ACME
    assert world.tracker.issues("acme", with_key(world.keys["acme"]))[0] == 200


# --- What is kept ---------------------------------------------------------------------------------


def test_no_secret_and_no_token_is_in_a_repr_or_a_log_or_the_record(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    user_token = world.user_token()
    with caplog.at_level(logging.DEBUG, logger="local"):
        made = world.tracker.sign_up(f"leaky-{uuid4().hex[:8]}", world.issuers["acme"])
        issued = [world.got(world.exchange(user_token)), world.got(world.ask(client_of(made), "client_credentials"))]
        issued.append(world.got(world.refresh(issued[0]["refresh_token"])))
        opened = [world.opens(each["access_token"]) for each in issued]
    assert opened == [ACME, {"acme": 403, "globex": 403}, ACME]
    modules = (issue_tracker.__name__, issue_tracker_oauth.__name__)
    there = [repr(each) for each in gc.get_objects() if type(each).__module__ in modules]
    assert len(there) > len(issued)
    told = "\n".join([*there, caplog.text, str(world.op.cloud.decisions.since(0))])
    secrets = [made["api_key"], made["client_secret"], world.application[1], user_token]
    secrets += [each[name] for each in issued for name in ("access_token", "refresh_token") if name in each]
    assert len(secrets) == 9
    assert [secret for secret in secrets if secret in told] == []


# --- The platform's client ------------------------------------------------------------------------


def test_tenants_that_share_everything_share_the_platforms_client(world: World) -> None:
    stage = SimpleNamespace(
        local=True,
        session=world.op.cloud.operator_session(),
        outputs={"IssueTrackerUrl": world.tracker.url, "Service": "desk", "Stage": "dev"},
        home=lambda _: SimpleNamespace(settings=SimpleNamespace(issuer=world.issuers["acme"])),
        registry=SimpleNamespace(get=lambda _: SimpleNamespace(tier="basic")),
    )
    made = []
    for _ in range(2):
        issue_tracker.onboarded(cast(Stage, stage), f"shares-{uuid4().hex[:8]}")
        [provider] = world.op.control.list_oauth2_credential_providers()["credentialProviders"]
        described = world.op.control.get_oauth2_credential_provider(name=provider["name"])
        made.append(described["oauth2ProviderConfigOutput"]["customOauth2ProviderConfig"]["clientId"])
    assert provider["name"] == "desk_dev"
    assert made[0] == made[1]

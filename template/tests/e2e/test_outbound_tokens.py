"""OAuth tokens for a third party, on the wire: exchanged, kept, refreshed, ended, refused, and good for one tenant."""

import asyncio
import io
import json
from collections.abc import Callable
from dataclasses import replace

import jwt
import pytest
import urllib3
from botocore.exceptions import ClientError

from local.authorization import DecisionLog
from local.cloud import STAGE, LocalCloud
from local.proof import tiers_to_prove
from local.services import identity, issue_tracker, issue_tracker_oauth
from local.services.issue_tracker_oauth import OauthServer
from local.stage import Actor, Stage
from saas_agent.control_plane import cli
from saas_agent.control_plane.client import AdminClient
from saas_agent.control_plane.connection import Connection
from saas_agent.control_plane.errors import ControlPlaneError
from saas_agent.control_plane.states import Status
from saas_agent.control_plane.third_party_clients import ThirdPartyClients
from saas_agent.errors import Refused
from saas_agent.outbound import Where
from saas_agent.outbound_token import SCOPES, TenantIdentityClient, ThirdPartyToken, provider_name
from saas_agent.tenancy.placement import load_placement

TIERS = tiers_to_prove()
EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"

Run = Callable[..., tuple[int, str, str]]


def shares(actor: Actor) -> bool:
    return load_placement().column(actor.tenant.tier, "outbound") == "shared"


def where(stage: Stage, actor: Actor) -> Where:
    return Where.parse(stage.home(actor.name).resource("outbound"))


def token_of(stage: Stage, actor: Actor) -> str:
    """The third party's token that the actor's calls are made with."""
    return ThirdPartyToken(stage.access(actor), where(stage, actor)).headers()["Authorization"].removeprefix("Bearer ")


def shown(stage: Stage, workspace: str, token: str) -> int:
    """What the third party answers to whoever shows the token: the status."""
    url = f"{issue_tracker.address(stage)}/workspaces/{workspace}/issues"
    return urllib3.request("GET", url, headers={"Authorization": f"Bearer {token}"}, retries=False).status


@pytest.fixture
def server(cloud: LocalCloud) -> OauthServer:
    return issue_tracker_oauth.of(cloud._gate)


@pytest.fixture
def clients(stage: Stage) -> ThirdPartyClients:
    control = stage.session.client("bedrock-agentcore-control")
    return ThirdPartyClients(control, stage.outputs["Service"], stage.outputs["Stage"], issue_tracker.address(stage))


@pytest.mark.parametrize("who", ["acme", "globex"])
def test_each_tenant_sees_its_own_issues_and_no_other(
    stage: Stage, decisions: DecisionLog, acme: Actor, globex: Actor, who: str
) -> None:
    actor, other = (acme, globex) if who == "acme" else (globex, acme)
    for each in (acme, globex):
        assert "Reported issue I-" in stage.ask(each, f"report an issue: Heating {each.canary}").text
    before = decisions.position()
    answer = stage.ask(actor, "list our reported issues")
    assert actor.canary in answer.text
    assert other.canary not in answer.text
    asked = [d for d in decisions.since(before) if d.source == "third_party"]
    assert [(d.allowed, d.context["local:Owners"]) for d in asked] == [(True, [actor.name])]


def test_whoever_shares_everything_is_its_user_there_and_the_others_are_themselves(
    stage: Stage, acme: Actor, globex: Actor
) -> None:
    for actor in (acme, globex):
        stage.doors(actor).reported_issues.open("Lamp")
        expected = f"user {actor.tenant.subject}" if shares(actor) else "the company's agent"
        assert stage.doors(actor).reported_issues.list()[0]["opened_by"] == expected


@pytest.mark.parametrize("tier", dict.fromkeys(TIERS))
def test_a_token_is_kept_while_it_is_good_and_then_refreshed(
    stage: Stage, server: OauthServer, monkeypatch: pytest.MonkeyPatch, tier: str
) -> None:
    actor = stage.onboard(f"kept-{tier}", tier)
    first = token_of(stage, actor)
    before = server.granted.copy()
    assert token_of(stage, actor) == first
    assert server.granted == before
    # From now on what is issued ends before AgentCore gives it out twice.
    monkeypatch.setattr(issue_tracker_oauth, "_GOOD_FOR", 5)
    client = stage.doors(actor).reported_issues
    server.end(actor.name)
    client.open("renewed at once, since the third party didn't take the old one")
    assert token_of(stage, actor) != first
    since = server.granted - before
    if shares(actor):
        assert (since[EXCHANGE], since["refresh_token"]) == (1, 1)
    else:
        assert since["client_credentials"] == 2


@pytest.mark.parametrize("tier", dict.fromkeys(TIERS))
def test_what_the_third_party_ended_is_renewed_in_the_same_call_and_not_forever(
    stage: Stage, server: OauthServer, monkeypatch: pytest.MonkeyPatch, tier: str
) -> None:
    actor = stage.onboard(f"ended-{tier}", tier)
    door = stage.doors(actor).reported_issues
    door.open("before")
    server.end(actor.name)
    assert door.list()[0]["title"] == "before"
    # Where every token is bad, it is asked for once more, and that is all.
    monkeypatch.setattr(issue_tracker_oauth, "_GOOD_FOR", -1)
    server.end(actor.name)
    granted = server.granted.total()
    with pytest.raises(Refused) as caught:
        stage.doors(actor).reported_issues.list()
    assert caught.value.reason.code == "denied"
    assert server.granted.total() - granted <= 2


def test_a_token_opens_the_own_workspace_alone(stage: Stage, acme: Actor, acme2: Actor, globex: Actor) -> None:
    tokens = {actor.name: token_of(stage, actor) for actor in (acme, acme2, globex)}
    assert len({*tokens.values()}) == 3
    for owner, token in tokens.items():
        for workspace in tokens:
            assert shown(stage, workspace, token) == (200 if workspace == owner else 403)
    assert shown(stage, acme.name, "ita_made-up") == 401


def test_another_tenants_workload_token_gets_nothing_of_that_tenant_with_the_own_credentials(
    stage: Stage, acme: Actor, globex: Actor
) -> None:
    """Where everything is shared, it is the user's token that counts: whoever has it is that user, and nobody more."""
    if shares(globex):
        return _the_vault_keeps_users_apart(stage, acme, globex)
    name = provider_name(*where(stage, globex).owner)
    theirs = TenantIdentityClient(stage.access(globex)).get_workload_access_token(name, user_token=globex.tokens.access)
    ours = TenantIdentityClient(stage.access(acme))
    for provider in (name, provider_name(*where(stage, acme).owner)):
        with pytest.raises(ClientError) as caught:
            asyncio.run(
                ours.get_token(
                    provider_name=provider,
                    scopes=list(SCOPES),
                    agent_identity_token=theirs["workloadAccessToken"],
                    auth_flow="M2M",
                )
            )
        assert caught.value.response["Error"]["Code"] == "AccessDeniedException"
    return None


def _the_vault_keeps_users_apart(stage: Stage, one: Actor, other: Actor) -> None:
    assert token_of(stage, one) != token_of(stage, other)


@pytest.mark.parametrize("how", ["expired", "of another key", "of another pool", "no token"])
def test_a_users_token_that_is_not_valid_gets_none(
    cloud: LocalCloud, stage: Stage, acme: Actor, globex: Actor, how: str
) -> None:
    claims = jwt.decode(acme.tokens.access, options={"verify_signature": False})
    key_id = {"kid": jwt.get_unverified_header(acme.tokens.access)["kid"]}
    token = {
        "expired": cloud.mint({**claims, "exp": claims["iat"] - 1}, claims["iss"]),
        "of another key": jwt.encode(claims, "k" * 32, "HS256", key_id),
        "of another pool": cloud.mint({**claims, "iss": f"{claims['iss']}2"}, claims["iss"]),
        "no token": "a.b.c",
    }[how]
    with pytest.raises(ClientError) as caught:
        TenantIdentityClient(stage.access(acme)).get_workload_access_token(
            provider_name(*where(stage, acme).owner), user_token=token
        )
    assert caught.value.response["Error"]["Code"] == "UnauthorizedException"


def test_no_token_and_no_clients_secret_reaches_an_answer_a_log_a_memory_or_a_record(
    cloud: LocalCloud, stage: Stage, acme: Actor
) -> None:
    session_id = acme.new_session_id()
    seen = stage.ask(acme, "report an issue: Door then list our reported issues", session_id).text
    payload = {"prompt": "list our reported issues", "stream": True}
    seen += stage.invoke(acme, payload, acme.tokens.access, session_id, id_token=acme.tokens.id).text
    assert "I-" in seen
    cloud.flush()
    logs = stage.session.client("logs")
    for group in logs.describe_log_groups()["logGroups"]:
        for page in logs.get_paginator("filter_log_events").paginate(logGroupName=group["logGroupName"]):
            seen += "".join(event["message"] for event in page["events"])
    events = stage.session.client("bedrock-agentcore").list_events(
        memoryId=stage.home(acme.name).resource("memory"),
        actorId=acme.tenant.actor_id,
        sessionId=session_id,
        includePayloads=True,
    )["events"]
    assert events
    seen += json.dumps(events, default=str) + str(cloud.decisions.since(0))
    for secret in (token_of(stage, acme), "ita_", "itr_", "its_", acme.tokens.access.rpartition(".")[2]):
        assert secret not in seen


@pytest.mark.parametrize("tier", dict.fromkeys(TIERS))
def test_a_tenant_without_a_provider_is_told_so_and_another_ones_is_not_taken(stage: Stage, tier: str) -> None:
    actor = stage.onboard(f"without-{tier}", tier)
    control, name = stage.session.client("bedrock-agentcore-control"), provider_name(*where(stage, actor).owner)
    control.delete_oauth2_credential_provider(name=name)
    with pytest.raises(Refused) as caught:
        stage.doors(actor).reported_issues.list()
    assert caught.value.reason.code == "not_connected"
    answer = stage.ask(actor, "list our reported issues")
    assert answer.status == 200
    assert "not connected" in answer.text
    # The platform's is there again with the next tenant that signs up.
    stage.onboard(f"without-{tier}-any-more", tier)
    if shares(actor):
        assert stage.doors(actor).reported_issues.list() == []


def test_a_provider_of_another_tenant_is_never_asked(stage: Stage, acme: Actor) -> None:
    with pytest.raises(Refused, match="Something went wrong"):
        ThirdPartyToken(stage.access(acme), Where(("desk", "dev", "globex"), "https://issues.example.com"))


@pytest.mark.parametrize("tier", dict.fromkeys(TIERS))
def test_a_tenant_that_leaves_takes_its_own_client_along_and_nothing_that_others_use(stage: Stage, tier: str) -> None:
    leaver, twin = stage.onboard(f"gone-{tier}", tier), stage.onboard(f"gone-{tier}2", tier)
    control = stage.session.client("bedrock-agentcore-control")

    def names() -> set[str]:
        pages = control.get_paginator("list_oauth2_credential_providers").paginate()
        return {provider["name"] for page in pages for provider in page["credentialProviders"]}

    own = {provider_name(*where(stage, actor).owner) for actor in (leaver, twin)}
    assert own <= names()
    kept = provider_name(*where(stage, twin).owner)
    stage.tenants.offboard(leaver.name)
    assert own & names() == {kept}
    assert stage.ask(twin, "list our reported issues").status == 200


def test_the_quota_of_providers_is_kept_and_said(
    stage: Stage, clients: ThirdPartyClients, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = clients.put("quota-one", "client", "secret")
    monkeypatch.setattr(identity, "OAUTH_PROVIDERS", there)
    assert clients.put("quota-one", "another-client", "secret") == there
    with pytest.raises(ControlPlaneError, match=rf"has {there} OAuth providers .* the quota is 50 by default"):
        clients.put("quota-two", "client", "secret")
    provider = provider_name(stage.outputs["Service"], stage.outputs["Stage"], "quota-one")
    stage.session.client("bedrock-agentcore-control").delete_oauth2_credential_provider(name=provider)


@pytest.fixture
def run(cloud: LocalCloud, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the command with a text on its standard input: exit status, what it printed, its last line of errors."""
    connection = Connection(cloud.operator_session(), load_placement().service, STAGE, cloud.endpoint)
    monkeypatch.setattr(cli, "_connect", lambda _: connection)

    def run(*arguments: str, typed: str = "") -> tuple[int, str, str]:
        monkeypatch.setattr("sys.stdin", io.StringIO(typed))
        status = cli.main(arguments)
        captured = capsys.readouterr()
        return status, captured.out, (captured.err.splitlines() or [""])[-1]

    return run


@pytest.mark.parametrize("tier", dict.fromkeys(TIERS))
def test_an_operator_keeps_a_client_where_one_is_used(
    stage: Stage, clients: ThirdPartyClients, run: Run, tier: str
) -> None:
    tenant = f"client-{tier}"
    stage.tenants.onboard(tenant, tier=tier, admin=f"admin@{tenant}.example", invite=False)
    status, out, error = run("oauth-client", tenant, "--client-id", "client", typed="secret\n")
    if load_placement().column(tier, "outbound") == "shared":
        assert (status, out) == (1, "")
        assert error.startswith(f"tenants: tenant {tenant} shares everything")
    else:
        assert status == 0
        assert out.startswith(f"The client of tenant {tenant} is kept. The account has ")
        assert clients.has(tenant)


@pytest.mark.parametrize("typed", ["", "two words\n", "k\u00e9y\n"])
def test_what_is_no_secret_is_refused_in_a_line(run: Run, typed: str) -> None:
    status, out, error = run("oauth-client", "--shared", "--client-id", "client", typed=typed)
    assert (status, out) == (1, "")
    assert error.startswith("tenants: that is no client; expected a client id and a secret")


@pytest.mark.parametrize("status", [Status.PROVISIONING, Status.OFFBOARDING, Status.DELETED])
def test_no_client_is_kept_for_a_tenant_that_comes_or_goes(
    stage: Stage, clients: ThirdPartyClients, run: Run, monkeypatch: pytest.MonkeyPatch, status: Status
) -> None:
    stage.tenants.onboard("coming", tier=TIERS[-1], admin="admin@coming.example", invite=False)
    record = stage.tenants.show("coming")
    monkeypatch.setattr(AdminClient, "show", lambda *_: replace(record, status=status))
    code, out, error = run("oauth-client", "coming", "--client-id", "client", typed="secret\n")
    assert (code, out) == (1, "")
    assert error.startswith(f"tenants: tenant coming is {status}; expected ACTIVE or SUSPENDED")
    assert not clients.has("coming")

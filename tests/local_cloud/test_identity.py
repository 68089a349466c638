"""AgentCore Identity of the local cloud: whose workload token it is, which provider it opens, and what is kept."""

import base64
import gc
import json
import logging
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import boto3
import jwt
import pytest
from botocore.exceptions import ClientError
from werkzeug.wrappers import Request, Response

from local.services import identity

from .local_stacks import REGION, Operator, operator, values

ACCOUNT = "123456789012"
PLACE = f"{REGION}:{ACCOUNT}"
DIRECTORY = f"arn:aws:bedrock-agentcore:{PLACE}:workload-identity-directory/default"
VAULT = f"arn:aws:bedrock-agentcore:{PLACE}:token-vault/default"
OWN = "${aws:PrincipalTag/TenantId}"
SHARED = "shared"
EXCHANGES = "onBehalfOfTokenExchangeConfig"
SERVER = {
    "issuer": "https://issues.example.com",
    "authorizationEndpoint": "https://issues.example.com/authorize",
    "tokenEndpoint": "https://issues.example.com/token",
}
EXCHANGE, M2M = "ON_BEHALF_OF_TOKEN_EXCHANGE", "M2M"
_SESSION = boto3.Session()
TOKEN_EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"


class ThirdParty:
    """An OAuth server that gives a token to whoever asks and remembers what it was asked.

    good_for: seconds that its tokens are. refuses: grants that it says no to. refreshes: whether tokens of users come
    with one to refresh them with.
    """

    def __init__(self) -> None:
        self.asked: list[dict[str, str]] = []
        self.given: list[str] = []
        self.good_for = 3600
        self.refuses: set[str] = set()
        self.refreshes = True

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        request = Request(environ)
        if request.path == "/third-party/.well-known/oauth-authorization-server":
            return _json({"token_endpoint": f"{request.host_url}third-party/token"})(environ, start_response)
        client = request.authorization
        assert request.path == "/third-party/token"
        assert client is not None
        asked = {**request.form, "client": f"{client.username}:{client.password}"}
        self.asked.append(asked)
        if asked["grant_type"] in self.refuses:
            return _json({"error": "invalid_grant"}, 400)(environ, start_response)
        given = {"access_token": f"access-{uuid4()}", "token_type": "Bearer", "expires_in": self.good_for}
        if self.refreshes and asked["grant_type"] != "client_credentials":
            given["refresh_token"] = f"refresh-{uuid4()}"
        self.given += [str(given[name]) for name in ("access_token", "refresh_token") if name in given]
        return _json(given)(environ, start_response)

    @property
    def grants(self) -> list[str]:
        """What was asked for since the last time that this was read."""
        asked, self.asked = self.asked, []
        return [each["grant_type"] for each in asked]


def _json(content: Any, status: int = 200) -> Response:
    return Response(json.dumps(content), status, content_type="application/json")


class Caller:
    """A role's session, for a tenant or for none, and short ways to ask AgentCore Identity with it."""

    def __init__(self, sts: Any, role: str, tenant: str | None, region: str) -> None:
        tags = [{"Key": "TenantId", "Value": tenant}] if tenant else []
        arn = f"arn:aws:iam::{ACCOUNT}:role/{role}"
        self._given = sts.assume_role(RoleArn=arn, RoleSessionName="caller", Tags=tags)["Credentials"]
        self._region = region
        self.identity = self.client("bedrock-agentcore")

    def client(self, service: str) -> Any:
        return _SESSION.client(
            service,
            region_name=self._region,
            aws_access_key_id=self._given["AccessKeyId"],
            aws_secret_access_key=self._given["SecretAccessKey"],
            aws_session_token=self._given["SessionToken"],
        )

    def workload(self, user_token: str, name: str = SHARED) -> str:
        answer = self.identity.get_workload_access_token_for_jwt(workloadName=name, userToken=user_token)
        return str(answer["workloadAccessToken"])

    def token(self, workload: str, provider: str = SHARED, flow: str = EXCHANGE, **more: Any) -> str:
        asked = {"scopes": ["issues"], "oauth2Flow": flow, **more}
        answer = self.identity.get_resource_oauth2_token(
            workloadIdentityToken=workload, resourceCredentialProviderName=provider, **asked
        )
        return str(answer["accessToken"])

    def user(self, user_token: str, **more: Any) -> str:
        """A token on behalf of the user, by the shared provider."""
        return self.token(self.workload(user_token), **more)


class World:
    """A cloud with two user pools, workloads and providers, and the third party that these lead to."""

    def __init__(self, op: Operator) -> None:
        self.op = op
        self._sts = op.cloud.operator_session().client("sts")
        self._roles: set[str] = set()
        self.third_party = ThirdParty()
        op.cloud._gate.route("/third-party", self.third_party)
        pools = {name: {"Type": "AWS::Cognito::UserPool", "Properties": {}} for name in ("Pool", "Other")}
        workloads = {f"W{name}": workload_identity(name) for name in (SHARED, "acme", "globex")}
        outputs = {name: {"Fn::GetAtt": [name, "ProviderURL"]} for name in pools}
        self.issuers = op.create("identity", {**pools, **workloads}, Outputs=values(**outputs))
        for name in (SHARED, "acme", "globex"):
            op.control.create_oauth2_credential_provider(**self.provider(name, exchange=name == SHARED))
        self.make_role("tenant", permissions(OWN) + permissions(SHARED))
        self.acme, self.globex = self.caller("tenant", "acme"), self.caller("tenant", "globex")

    def caller(self, role: str, tenant: str | None = None, region: str = REGION) -> Caller:
        return Caller(self._sts, role, tenant, region)

    def provider(self, name: str, exchange: bool = False, secret: str = "", **more: Any) -> dict[str, Any]:
        """What a provider of this name is made of; what is changed to None is left out."""
        custom: dict[str, Any] = {
            "oauthDiscovery": {
                "discoveryUrl": f"{self.op.cloud.endpoint}/third-party/.well-known/oauth-authorization-server"
            },
            "clientId": f"{name}-client",
            "clientSecret": secret or f"{name}-client-secret",
            "clientAuthenticationMethod": "CLIENT_SECRET_BASIC",
        }
        if exchange:
            custom[EXCHANGES] = exchanging("NONE")
        said = {key: value for key, value in {**custom, **more}.items() if value is not None}
        return {
            "name": name,
            "credentialProviderVendor": "CustomOauth2",
            "oauth2ProviderConfigInput": {"customOauth2ProviderConfig": said},
        }

    def user_token(self, subject: str, pool: str = "Pool", **changed: Any) -> str:
        """A token of the pool for the user; a claim that is changed to None is left out."""
        now, issuer = int(time.time()), self.issuers[pool]
        claims = {"iss": issuer, "sub": subject, "iat": now, "exp": now + 600, **changed}
        return self.op.cloud.mint({name: value for name, value in claims.items() if value is not None}, issuer)

    def make_role(self, name: str, statements: list[dict[str, Any]]) -> None:
        """A role with these statements, or the one that is there with these in place of its own."""
        actions = ["sts:AssumeRole", "sts:TagSession"]
        trust = {"Effect": "Allow", "Principal": {"AWS": f"arn:aws:iam::{ACCOUNT}:root"}, "Action": actions}
        if name not in self._roles:
            self.op.iam.create_role(RoleName=name, AssumeRolePolicyDocument=document([trust]))
            self._roles.add(name)
        self.op.iam.put_role_policy(RoleName=name, PolicyName="own", PolicyDocument=document(statements))

    def refused(self, call: Callable[[], object]) -> str:
        """The error's code; the record says last that it was refused."""
        position = self.op.cloud.decisions.position()
        with pytest.raises(ClientError) as caught:
            call()
        assert [d.allowed for d in self.op.cloud.decisions.since(position)][-1:] == [False]
        return code_of(caught.value)


def exchanging(actor: str) -> dict[str, Any]:
    """How a provider exchanges tokens."""
    return {"grantType": "TOKEN_EXCHANGE", "tokenExchangeGrantTypeConfig": {"actorTokenContent": actor}}


def document(statements: list[dict[str, Any]]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": statements})


def code_of(error: ClientError) -> str:
    return str(error.response["Error"]["Code"])


def workload_identity(name: str) -> dict[str, Any]:
    return {"Type": "AWS::BedrockAgentCore::WorkloadIdentity", "Properties": {"Name": name}}


def permissions(name: str) -> list[dict[str, Any]]:
    """What getting tokens as the workload of this name, by the provider of this name, needs: each on its own."""
    workload = [DIRECTORY, f"{DIRECTORY}/workload-identity/{name}"]
    provider = [VAULT, f"{VAULT}/oauth2credentialprovider/{name}"]
    secret = f"arn:aws:secretsmanager:{PLACE}:secret:bedrock-agentcore-identity!default/oauth2/{name}-??????"
    show, get = "bedrock-agentcore:GetWorkloadAccessTokenForJWT", "bedrock-agentcore:GetResourceOauth2Token"
    read = {"Effect": "Allow", "Action": "secretsmanager:GetSecretValue", "Resource": secret}
    return [
        *({"Effect": "Allow", "Action": show, "Resource": resource} for resource in workload),
        *({"Effect": "Allow", "Action": get, "Resource": resource} for resource in (*workload, *provider)),
        {**read, "Condition": {"Bool": {"aws:ViaAWSService": "true"}}},
    ]


def later(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """AgentCore Identity's clock goes ahead by so much."""
    monkeypatch.setattr(identity, "time", SimpleNamespace(time=lambda: time.time() + seconds))


@pytest.fixture(scope="module")
def running() -> Iterator[World]:
    with operator() as op:
        yield World(op)


@pytest.fixture
def world(running: World) -> World:
    """With a third party that was asked nothing yet."""
    third_party = running.third_party
    third_party.asked, third_party.given, third_party.refuses = [], [], set()
    third_party.good_for, third_party.refreshes = 3600, True
    return running


@pytest.fixture
def ann(world: World) -> str:
    """A token of a user whom nobody has asked for yet."""
    return world.user_token(f"ann-{uuid4()}", tenant_id="acme")


# --- Workload tokens ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "how",
    [
        "ended",
        "by another key",
        "by nobody",
        "by another pool",
        "by a pool that there is not",
        "without an end",
        "without a subject",
        "without an issuer",
        "by a key that there is not",
    ],
)
def test_a_users_token_that_no_pool_of_this_cloud_stands_for_gets_no_workload_token(world: World, how: str) -> None:
    good = world.user_token("ann")
    claims = jwt.decode(good, options={"verify_signature": False})
    key_id = {"kid": jwt.get_unverified_header(good)["kid"]}
    elsewhere = f"https://cognito-idp.{REGION}.amazonaws.com/{REGION}_nowhere"
    signed = good.rpartition(".")[2]
    changed = base64.urlsafe_b64encode(json.dumps({**claims, "sub": "bob"}).encode()).decode().rstrip("=")
    token = {
        "ended": world.user_token("ann", exp=int(time.time()) - 1),
        "by another key": jwt.encode(claims, "k" * 32, "HS256", key_id),
        "by nobody": f"{good.partition('.')[0]}.{changed}.{signed}",
        "by another pool": world.user_token("ann", iss=world.issuers["Other"]),
        "by a pool that there is not": world.user_token("ann", iss=elsewhere),
        "without an end": world.user_token("ann", exp=None),
        "without a subject": world.user_token("ann", sub=None),
        "without an issuer": world.user_token("ann", iss=None),
        "by a key that there is not": jwt.encode(claims, "k" * 32, "HS256", {"kid": "none"}),
    }[how]
    assert world.refused(lambda: world.acme.workload(token)) == "UnauthorizedException"
    assert world.acme.workload(good)


def test_a_workload_that_there_is_not_gets_none(world: World, ann: str) -> None:
    world.make_role("any-workload", [{"Effect": "Allow", "Action": "bedrock-agentcore:*", "Resource": "*"}])
    for name, region in (("nobody", REGION), (SHARED, "us-west-2")):
        with pytest.raises(ClientError) as caught:
            world.caller("any-workload", region=region).workload(ann, name)
        assert code_of(caught.value) == "ResourceNotFoundException"


def test_a_workload_token_that_was_made_up_or_has_ended_is_good_for_nothing(
    world: World, ann: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    workload = world.acme.workload(ann)
    assert world.refused(lambda: world.acme.token("A" * 64)) == "UnauthorizedException"
    assert world.refused(lambda: world.acme.token(ann)) == "UnauthorizedException"
    later(monkeypatch, 14 * 60)
    assert world.acme.token(workload)
    later(monkeypatch, 16 * 60)
    assert world.refused(lambda: world.acme.token(workload)) == "UnauthorizedException"
    assert world.third_party.grants == [TOKEN_EXCHANGE]


def test_no_tenant_gets_a_token_of_another_ones_workload_or_with_what_that_one_got(world: World, ann: str) -> None:
    acme, globex = world.acme, world.globex
    assert world.refused(partial(acme.workload, ann, "globex")) == "AccessDeniedException"
    theirs, ours = globex.workload(ann, "globex"), acme.workload(ann, "acme")
    for workload, provider in ((theirs, "globex"), (theirs, "acme"), (theirs, SHARED), (ours, "globex")):
        assert world.refused(partial(acme.token, workload, provider, M2M)) == "AccessDeniedException"
    assert world.third_party.grants == []
    assert acme.token(ours, "acme", M2M) != globex.token(theirs, "globex", M2M)
    assert [asked["client"] for asked in world.third_party.asked] == [
        "acme-client:acme-client-secret",
        "globex-client:globex-client-secret",
    ]


# --- On behalf of a user --------------------------------------------------------------------------


def test_a_users_token_is_exchanged_as_that_user_by_the_providers_client(world: World, ann: str) -> None:
    assert world.acme.user(ann, scopes=["issues", "comments"]) == world.third_party.given[0]
    assert world.third_party.asked == [
        {
            "grant_type": TOKEN_EXCHANGE,
            "subject_token": ann,
            "subject_token_type": "urn:ietf:params:oauth:token-type:access_token",
            "scope": "issues comments",
            "client": "shared-client:shared-client-secret",
        }
    ]


def test_what_was_got_for_a_user_is_kept_for_that_user_and_nobody_else(world: World) -> None:
    """Nobody else is also who has the same subject at another issuer, and whoever asks for something else."""
    name = f"ann-{uuid4()}"
    ann, bob = world.user_token(name), world.user_token(f"bob-{uuid4()}")
    first = world.acme.user(ann)
    assert world.acme.user(ann) == world.acme.user(world.user_token(name, jti="another")) == first
    assert world.third_party.grants == [TOKEN_EXCHANGE]
    others = [world.globex.user(bob), world.acme.user(world.user_token(name, "Other"))]
    others += [world.acme.user(ann, scopes=["comments"])]
    assert len({first, *others}) == 4
    assert world.third_party.grants == [TOKEN_EXCHANGE] * 3
    assert world.acme.user(ann) == first


def test_a_token_is_refreshed_shortly_before_it_ends_and_each_time_with_the_newest(
    world: World, ann: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.third_party.good_for = 300
    workload, third_party = world.acme.workload(ann), world.third_party
    first = world.acme.token(workload)
    later(monkeypatch, 260)
    assert world.acme.token(workload) == first
    assert third_party.grants == [TOKEN_EXCHANGE]
    later(monkeypatch, 275)
    second = world.acme.token(workload)
    later(monkeypatch, 560)
    third = world.acme.token(workload)
    assert [(asked["grant_type"], asked["refresh_token"]) for asked in third_party.asked] == [
        ("refresh_token", third_party.given[1]),
        ("refresh_token", third_party.given[3]),
    ]
    assert [first, second, third] == third_party.given[::2]


@pytest.mark.parametrize("why", ["no refresh token", "it is refused"])
def test_what_cannot_be_refreshed_is_asked_for_anew(world: World, ann: str, why: str) -> None:
    world.third_party.refreshes = why != "no refresh token"
    world.third_party.refuses = {"refresh_token"}
    world.third_party.good_for = 20  # which is too short to be given out twice
    workload = world.acme.workload(ann)
    assert world.acme.token(workload) != world.acme.token(workload)
    tried = ["refresh_token"] if world.third_party.refreshes else []
    assert world.third_party.grants == [TOKEN_EXCHANGE, *tried, TOKEN_EXCHANGE]


def test_whoever_insists_gets_a_new_token_past_what_is_kept(world: World, ann: str) -> None:
    first = world.acme.user(ann)
    second = world.acme.user(ann, forceAuthentication=True)
    assert second != first
    assert world.acme.user(ann) == second
    assert world.third_party.grants == [TOKEN_EXCHANGE] * 2


def test_a_provider_that_exchanges_nothing_and_a_flow_through_a_browser_are_refused(world: World, ann: str) -> None:
    for provider, flow in (("acme", EXCHANGE), (SHARED, "USER_FEDERATION"), ("acme", "USER_FEDERATION")):
        with pytest.raises(ClientError) as caught:
            world.acme.token(world.acme.workload(ann, provider), provider, flow)
        assert code_of(caught.value) == "ValidationException"
    assert world.third_party.grants == []


def test_the_third_partys_no_is_told_and_nothing_is_kept_of_it(world: World, ann: str) -> None:
    world.third_party.refuses = {TOKEN_EXCHANGE}
    assert world.refused(lambda: world.acme.user(ann)) == "AccessDeniedException"
    world.third_party.refuses = set()
    assert world.acme.user(ann) == world.third_party.given[0]


# --- Machine to machine ---------------------------------------------------------------------------


def test_a_machines_token_names_no_user_and_is_kept_for_the_workload(
    world: World, ann: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    acme, bob = world.acme, world.user_token("bob")
    world.third_party.good_for = 300

    def get(user_token: str, **more: Any) -> str:
        return acme.token(acme.workload(user_token, "acme"), "acme", M2M, **more)

    first = get(ann, forceAuthentication=True)
    assert world.third_party.asked == [
        {"grant_type": "client_credentials", "scope": "issues", "client": "acme-client:acme-client-secret"}
    ]
    assert get(ann) == get(bob) == first
    workload = acme.workload(ann, "acme")
    assert len({first, acme.token(acme.workload(ann, SHARED), "acme", M2M), acme.token(workload, SHARED, M2M)}) == 3
    later(monkeypatch, 275)
    assert acme.token(workload, "acme", M2M) != first
    assert world.third_party.grants == ["client_credentials"] * 4


# --- Permissions ----------------------------------------------------------------------------------


@pytest.mark.parametrize("without", range(len(permissions("acme"))))
def test_every_permission_is_needed_on_every_resource(world: World, without: int) -> None:
    """Also the one on the provider's secret, which AgentCore reads in the caller's name."""
    user_token = world.user_token("ann")
    workload = world.acme.workload(user_token, "acme")
    granted = permissions("acme")
    missing = granted.pop(without)
    world.make_role("lacking", granted)
    lacking = world.caller("lacking")
    calls = [partial(lacking.workload, user_token, "acme"), partial(lacking.token, workload, "acme", M2M)]
    refused = calls.pop(0 if missing["Action"].endswith("ForJWT") else 1)
    assert world.refused(refused) == "AccessDeniedException"
    last = world.op.cloud.decisions.since(0)[-1]
    assert last.action == missing["Action"]
    assert last.resource.startswith(missing["Resource"].rstrip("?"))
    assert [call() for call in calls]


def test_a_role_of_another_tenants_name_has_nothing_of_it(world: World, ann: str) -> None:
    """A tenant whose name begins like another's, and one that has no name at all."""
    workload = world.acme.workload(ann, "acme")
    for tenant in ("acme2", "acm", None):
        other = world.caller("tenant", tenant)
        assert world.refused(partial(other.workload, ann, "acme")) == "AccessDeniedException"
        assert world.refused(partial(other.token, workload, "acme", M2M)) == "AccessDeniedException"


def test_who_gets_tokens_reads_no_clients_secret_and_changes_no_provider(world: World) -> None:
    acme, control = world.acme, world.acme.client("bedrock-agentcore-control")
    secret = world.op.control.get_oauth2_credential_provider(name="acme")["clientSecretArn"]["secretArn"]
    calls: list[Callable[[], object]] = [
        partial(acme.client("secretsmanager").get_secret_value, SecretId=secret),
        partial(control.create_oauth2_credential_provider, **world.provider("acme-another")),
        partial(control.update_oauth2_credential_provider, **world.provider("acme")),
        partial(control.get_oauth2_credential_provider, name="acme"),
        partial(control.delete_oauth2_credential_provider, name="acme"),
        control.list_oauth2_credential_providers,
    ]
    for call in calls:
        assert world.refused(call) == "AccessDeniedException"
    assert acme.token(acme.workload(world.user_token("ann"), "acme"), "acme", M2M)


@pytest.mark.parametrize("operation", ["Create", "Update", "Get", "Delete"])
def test_a_provider_is_changed_by_who_may_do_that_to_it_and_to_the_vault(world: World, operation: str) -> None:
    statement = {"Effect": "Allow", "Action": f"bedrock-agentcore:{operation}Oauth2CredentialProvider"}
    name = f"one-to-{operation.lower()}"
    one = f"{VAULT}/oauth2credentialprovider/{name}"
    secret = {"Effect": "Allow", "Action": "secretsmanager:DeleteSecret", "Resource": "*"}
    if operation != "Create":
        world.op.control.create_oauth2_credential_provider(**world.provider(name))
    world.make_role("keeper", permissions(name))
    control = world.caller("keeper").client("bedrock-agentcore-control")
    calls = {
        each: partial(
            getattr(control, f"{operation.lower()}_oauth2_credential_provider"),
            **(world.provider(each) if operation in ("Create", "Update") else {"name": each}),
        )
        for each in (name, "acme")
    }
    lacking: list[list[dict[str, Any]]] = [
        [{**statement, "Resource": one}, secret],
        [{**statement, "Resource": VAULT}, secret],
    ]
    if operation == "Delete":
        lacking.append([{**statement, "Resource": [VAULT, one]}])
    for statements in lacking:
        world.make_role("keeper", statements)
        assert world.refused(calls[name]) == "AccessDeniedException"
    world.make_role("keeper", [{**statement, "Resource": [VAULT, one]}, secret])
    assert world.refused(calls["acme"]) == "AccessDeniedException"
    calls[name]()
    assert (name in names(world)) == (operation != "Delete")
    if operation != "Delete":
        world.op.control.delete_oauth2_credential_provider(name=name)


# --- Providers ------------------------------------------------------------------------------------


def names(world: World) -> list[str]:
    found = world.op.control.list_oauth2_credential_providers()["credentialProviders"]
    return [provider["name"] for provider in found]


def test_a_provider_is_described_without_its_clients_secret(world: World) -> None:
    answers = [
        world.op.control.create_oauth2_credential_provider(**world.provider("shown", secret="not-for-you")),
        world.op.control.update_oauth2_credential_provider(**world.provider("shown", secret="nor-this")),
        world.op.control.get_oauth2_credential_provider(name="shown"),
    ]
    for answer in answers:
        assert answer["credentialProviderArn"] == f"{VAULT}/oauth2credentialprovider/shown"
        shown = answer["oauth2ProviderConfigOutput"]["customOauth2ProviderConfig"]
        assert shown["clientId"] == "shown-client"
        assert not {"not-for-you", "nor-this"} & set(str(answer).split("'"))
    assert "shown" in names(world)
    assert "nor-this" not in str(world.op.control.list_oauth2_credential_providers())
    world.op.control.delete_oauth2_credential_provider(name="shown")
    assert "shown" not in names(world)


def test_a_name_is_given_once_and_an_account_has_so_many(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def create(name: str) -> object:
        return world.op.control.create_oauth2_credential_provider(**world.provider(name))

    monkeypatch.setattr(identity, "OAUTH_PROVIDERS", len(names(world)))
    for name, code in (("acme", "ConflictException"), ("one-more", "ServiceQuotaExceededException")):
        with pytest.raises(ClientError) as caught:
            create(name)
        assert code_of(caught.value) == code
    assert "one-more" not in names(world)


@pytest.mark.parametrize("operation", ["update", "get", "delete"])
def test_a_provider_that_there_is_not_is_not_found(world: World, operation: str) -> None:
    arguments = world.provider("nobody") if operation == "update" else {"name": "nobody"}
    with pytest.raises(ClientError) as caught:
        getattr(world.op.control, f"{operation}_oauth2_credential_provider")(**arguments)
    assert code_of(caught.value) == "ResourceNotFoundException"
    assert "nobody" not in names(world)


@pytest.mark.parametrize("how", ["update", "delete"])
def test_what_was_got_by_a_former_client_is_not_given_out_any_more(world: World, ann: str, how: str) -> None:
    control, name = world.op.control, "acme"
    workload, theirs = world.acme.workload(ann, name), world.globex.workload(ann, "globex")
    first, others = world.acme.token(workload, name, M2M), world.globex.token(theirs, "globex", M2M)
    if how == "update":
        control.update_oauth2_credential_provider(**world.provider(name, secret="another-secret"))
    else:
        control.delete_oauth2_credential_provider(name=name)
        with pytest.raises(ClientError, match="ResourceNotFoundException"):
            world.acme.token(workload, name, M2M)
        control.create_oauth2_credential_provider(**world.provider(name, secret="another-secret"))
    world.third_party.asked = []
    try:
        assert world.acme.token(workload, name, M2M) != first
        assert [asked["client"] for asked in world.third_party.asked] == ["acme-client:another-secret"]
        assert world.globex.token(theirs, "globex", M2M) == others
    finally:
        control.update_oauth2_credential_provider(**world.provider(name))


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"name": "desk.dev/acme"}, "regular expression pattern"),
        ({"name": "n" * 129}, "less than or equal to 128"),
        ({"credentialProviderVendor": "Nobodys"}, "enum value set"),
        ({"oauth2ProviderConfigInput": {"githubOauth2ProviderConfig": {"clientId": "x"}}}, "the local cloud has"),
    ],
)
def test_what_aws_refuses_and_what_the_local_cloud_has_not_is_no_provider(
    world: World, changed: dict[str, Any], reason: str
) -> None:
    there = names(world)
    with pytest.raises(ClientError, match=reason) as caught:
        world.op.control.create_oauth2_credential_provider(**{**world.provider("broken"), **changed})
    assert code_of(caught.value) == "ValidationException"
    assert names(world) == there


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"oauthDiscovery": {"discoveryUrl": "https://issues.example.com/discovery"}}, "regular expression pattern"),
        ({"oauthDiscovery": {"authorizationServerMetadata": SERVER}}, "the local cloud has"),
        ({"clientSecretSource": "EXTERNAL", "clientSecret": None}, "the local cloud has"),
        ({"clientAuthenticationMethod": "CLIENT_SECRET_POST"}, "the local cloud has"),
        ({EXCHANGES: {"grantType": "JWT_AUTHORIZATION_GRANT"}}, "the local cloud has"),
        ({EXCHANGES: exchanging("AWS_IAM_ID_TOKEN_JWT")}, "the local cloud has"),
    ],
)
@pytest.mark.parametrize("operation", ["create", "update"])
def test_a_client_is_asked_as_it_says_or_not_at_all(
    world: World, operation: str, changed: dict[str, Any], reason: str
) -> None:
    name = "acme" if operation == "update" else "broken"
    call = getattr(world.op.control, f"{operation}_oauth2_credential_provider")
    before = world.op.control.get_oauth2_credential_provider(name="acme")["oauth2ProviderConfigOutput"]
    with pytest.raises(ClientError, match=reason) as caught:
        call(**world.provider(name, **changed))
    assert code_of(caught.value) == "ValidationException"
    assert "broken" not in names(world)
    assert world.op.control.get_oauth2_credential_provider(name="acme")["oauth2ProviderConfigOutput"] == before


# --- What is kept ---------------------------------------------------------------------------------


def test_no_secret_and_no_token_is_in_a_repr_or_a_log_or_the_record(
    world: World, ann: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG, logger="local"):
        workload = world.acme.workload(ann)
        world.acme.token(workload)
        world.acme.token(workload, forceAuthentication=True)
        world.third_party.refuses = {TOKEN_EXCHANGE}
        with pytest.raises(ClientError) as caught:
            world.acme.token(workload, forceAuthentication=True)
    there = [repr(each) for each in gc.get_objects() if type(each).__module__ == identity.__name__]
    assert len(there) > 1
    told = "\n".join([*there, caplog.text, str(caught.value), str(world.op.cloud.decisions.since(0))])
    for secret in (ann, workload, "shared-client-secret", *world.third_party.given):
        assert secret not in told


# --- CloudFormation -------------------------------------------------------------------------------


def test_a_workload_identity_is_there_as_long_as_its_stack(world: World, ann: str) -> None:
    op, asking = world.op, op_caller(world)
    arn = values(Arn={"Fn::GetAtt": ["One", "WorkloadIdentityArn"]})
    made = op.create("workload", {"One": workload_identity("workload-one")}, Outputs=arn)
    assert made["Arn"] == f"{DIRECTORY}/workload-identity/workload-one"
    assert asking("workload-one")
    op.update("workload", {"One": workload_identity("workload-two")}, Outputs=arn)
    assert asking("workload-two")
    with pytest.raises(ClientError, match="ResourceNotFoundException"):
        asking("workload-one")
    op.cloudformation.delete_stack(StackName="workload")
    with pytest.raises(ClientError, match="ResourceNotFoundException"):
        asking("workload-two")
    op.create("workload-again", {"One": workload_identity(SHARED)})
    events = op.cloudformation.describe_stack_events(StackName="workload-again")["StackEvents"]
    assert any(f"one named {SHARED} already exists" in event.get("ResourceStatusReason", "") for event in events)
    assert op.status("workload-again") == "ROLLBACK_COMPLETE"
    assert asking(SHARED)


def op_caller(world: World) -> Callable[[str], str]:
    """Gets a workload token of a workload with every permission there is."""
    world.make_role("any-workload", [{"Effect": "Allow", "Action": "bedrock-agentcore:*", "Resource": "*"}])
    caller, user_token = world.caller("any-workload"), world.user_token("ann")
    return lambda name: caller.workload(user_token, name)

"""User pools' domains in the local cloud: pages, codes, tokens, and sign-in at another pool."""

import base64
import json
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.error import HTTPError
from urllib.parse import parse_qs, urlencode, urlsplit
from urllib.request import Request, build_opener

import jwt
import pytest
from botocore.exceptions import ClientError

from local import oauth
from local.cognito_federation import RelyingParty
from local.managed_login import Grant, ManagedLogin, NoRedirect, SignInRefused, at_loopback
from local.oauth import OneTime

from .local_stacks import REGION, Operator, function, operator, role, values

CODE = "domains-code"
PASSWORD = "Passw0rd!-of-ann"
CALLBACK = "http://localhost:3000/callback"
ANN = "ann@acme.example"
BOB = "bob@globex.example"
HUB = "login-hub"
AGREES = json.dumps({"claimsAndScopeOverrideDetails": None})


def tenant_resources(tenant: str) -> dict[str, Any]:
    """A tenant's own pool with its client and domain, and its provider in the hub."""
    pool, client = f"Pool{tenant}", f"Client{tenant}"
    domain = f"https://login-{tenant}.auth.{REGION}.amazoncognito.com/oauth2"
    return {
        pool: {
            "Type": "AWS::Cognito::UserPool",
            "Properties": {
                "UsernameAttributes": ["email"],
                "AdminCreateUserConfig": {"AllowAdminCreateUserOnly": True},
                "Schema": [{"Name": "tenant_id", "AttributeDataType": "String", "Mutable": True}],
            },
        },
        client: {
            "Type": "AWS::Cognito::UserPoolClient",
            "Properties": {
                "UserPoolId": {"Ref": pool},
                "GenerateSecret": True,
                "AllowedOAuthFlowsUserPoolClient": True,
                "AllowedOAuthFlows": ["code"],
                "AllowedOAuthScopes": ["openid", "email"],
                "CallbackURLs": [f"https://{HUB}.auth.{REGION}.amazoncognito.com/oauth2/idpresponse"],
                "SupportedIdentityProviders": ["COGNITO"],
            },
        },
        f"Domain{tenant}": {
            "Type": "AWS::Cognito::UserPoolDomain",
            "Properties": {"UserPoolId": {"Ref": pool}, "Domain": f"login-{tenant}"},
        },
        f"Provider{tenant}": {
            "Type": "AWS::Cognito::UserPoolIdentityProvider",
            "DependsOn": f"Domain{tenant}",
            "Properties": {
                "UserPoolId": {"Ref": "Hub"},
                "ProviderName": tenant,
                "ProviderType": "OIDC",
                "ProviderDetails": {
                    "client_id": {"Ref": client},
                    "client_secret": {"Fn::GetAtt": [client, "ClientSecret"]},
                    "oidc_issuer": {"Fn::GetAtt": [pool, "ProviderURL"]},
                    "authorize_scopes": "openid email",
                    "attributes_request_method": "GET",
                    "authorize_url": f"{domain}/authorize",
                    "token_url": f"{domain}/token",
                    "attributes_url": f"{domain}/userInfo",
                    "jwks_uri": {"Fn::Sub": f"${{{pool}.ProviderURL}}/.well-known/jwks.json"},
                },
                "AttributeMapping": {"email": "email"},
            },
        },
    }


def resources() -> dict[str, Any]:
    """A hub with its client, and the pools of two tenants."""
    arn = {"Fn::GetAtt": ["Function", "Arn"]}
    return {
        "FunctionRole": role("lambda.amazonaws.com"),
        "Function": function(CODE, AGREES, FunctionName="hub-trigger"),
        "Permission": {
            "Type": "AWS::Lambda::Permission",
            "Properties": {
                "FunctionName": arn,
                "Action": "lambda:InvokeFunction",
                "Principal": "cognito-idp.amazonaws.com",
                "SourceArn": {"Fn::GetAtt": ["Hub", "Arn"]},
            },
        },
        "Hub": {
            "Type": "AWS::Cognito::UserPool",
            "Properties": {
                "AdminCreateUserConfig": {"AllowAdminCreateUserOnly": True},
                "UsernameConfiguration": {"CaseSensitive": False},
                "Schema": [
                    {"Name": "tenant_id", "AttributeDataType": "String", "Mutable": True},
                    {"Name": "fixed", "AttributeDataType": "String", "Mutable": False},
                ],
                "LambdaConfig": {"PreTokenGenerationConfig": {"LambdaArn": arn, "LambdaVersion": "V2_0"}},
            },
        },
        "HubDomain": {
            "Type": "AWS::Cognito::UserPoolDomain",
            "Properties": {"UserPoolId": {"Ref": "Hub"}, "Domain": HUB, "ManagedLoginVersion": 1},
        },
        "HubClient": hub_client(),
        "OtherClient": hub_client(),
        "HubGroup": {
            "Type": "AWS::Cognito::UserPoolGroup",
            "Properties": {"UserPoolId": {"Ref": "Hub"}, "GroupName": "administrators", "Description": "first"},
        },
        **tenant_resources("acme"),
        **tenant_resources("globex"),
    }


def hub_client(**changed: Any) -> dict[str, Any]:
    return {
        "Type": "AWS::Cognito::UserPoolClient",
        "Properties": {
            "UserPoolId": {"Ref": "Hub"},
            "ExplicitAuthFlows": ["ALLOW_REFRESH_TOKEN_AUTH"],
            "AllowedOAuthFlowsUserPoolClient": True,
            "AllowedOAuthFlows": ["code"],
            "AllowedOAuthScopes": ["openid", "email"],
            "CallbackURLs": [CALLBACK],
            "WriteAttributes": ["email"],
            **changed,
        },
    }


class Hub:
    """The hub as applications, browsers and the operator use it."""

    def __init__(self, op: Operator, outputs: dict[str, str]) -> None:
        self.op = op
        self.id, self.client_id, self.other_client = outputs["Hub"], outputs["HubClient"], outputs["OtherClient"]
        self.pools = {"acme": outputs["Poolacme"], "globex": outputs["Poolglobex"]}
        self.address = f"{op.cloud.endpoint}/_domains/{HUB}"
        self.login = ManagedLogin(self.address, self.client_id, CALLBACK)
        self.support("acme", "globex")

    def support(self, *providers: str, **changed: Any) -> None:
        """Has both clients support these providers, with everything else as it is deployed."""
        settings = {k: v for k, v in hub_client()["Properties"].items() if k != "UserPoolId"}
        for client in (self.client_id, self.other_client):
            self.op.cognito.update_user_pool_client(
                UserPoolId=self.id,
                ClientId=client,
                SupportedIdentityProviders=list(providers),
                **{**settings, **changed},
            )

    def make_user(self, tenant: str, email: str) -> str:
        """A user of the tenant's pool with the one password; the user's name there."""
        made = self.op.cognito.admin_create_user(
            UserPoolId=self.pools[tenant], Username=email, MessageAction="SUPPRESS"
        )
        self.op.cognito.admin_set_user_password(
            UserPoolId=self.pools[tenant], Username=email, Password=PASSWORD, Permanent=True
        )
        return str(made["User"]["Username"])

    def user(self, name: str) -> dict[str, Any]:
        return dict(self.op.cognito.admin_get_user(UserPoolId=self.id, Username=name))

    def refuses(self, call: Callable[[], Any]) -> str:
        """What the pages or the endpoint say; it is in the record of decisions."""
        position = self.op.cloud.decisions.position()
        with pytest.raises(SignInRefused) as caught:
            call()
        told = self.op.cloud.decisions.since(position)
        assert [d.allowed for d in told if d.action.startswith("cognito-idp:")][-1:] == [False]
        return caught.value.detail

    def authorize(self, **changed: str | None) -> tuple[int, str, str]:
        """The authorize endpoint's status, location and text."""
        asked = {
            "response_type": "code",
            "client_id": self.client_id,
            "redirect_uri": CALLBACK,
            "scope": "openid email",
            "state": "s",
            "identity_provider": "acme",
            **changed,
        }
        query = urlencode({name: value for name, value in asked.items() if value is not None})
        return fetch(f"{self.address}/oauth2/authorize?{query}")


def fetch(url: str, data: bytes | None = None, **headers: str) -> tuple[int, str, str]:
    """Status, location and text of what is there; a redirect is not followed."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    try:
        with build_opener(NoRedirect()).open(Request(url, data, named)) as answer:
            return answer.status, "", answer.read().decode()
    except HTTPError as error:
        with error:
            return error.code, error.headers.get("Location", ""), error.read().decode()


def claims(token: str) -> dict[str, Any]:
    decoded: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    return decoded


@pytest.fixture(scope="module")
def op() -> Iterator[Operator]:
    with operator() as running:
        running.upload(CODE, "code.zip")
        yield running


@pytest.fixture(scope="module")
def hub(op: Operator) -> Hub:
    made = Hub(op, op.create("hub", resources(), Outputs=outputs()))
    made.make_user("acme", ANN)
    made.make_user("globex", BOB)
    return made


@pytest.fixture
def grant(hub: Hub) -> Grant:
    """A code for Ann that nobody has redeemed."""
    return hub.login.grant("acme", ANN, PASSWORD)


# --- Signing in at a provider ---------------------------------------------------------------------


def test_a_user_of_a_tenants_pool_signs_in_at_the_hub(hub: Hub) -> None:
    tokens = hub.login.sign_in("acme", ANN, PASSWORD)
    subject = hub.op.cognito.admin_get_user(UserPoolId=hub.pools["acme"], Username=ANN)["Username"]
    access, identity = claims(tokens["access_token"]), claims(tokens["id_token"])
    assert access["iss"].endswith(hub.id)
    assert (access["client_id"], access["username"], access["scope"]) == (
        hub.client_id,
        f"acme_{subject}",
        "openid email",
    )
    [origin] = identity["identities"]
    assert {**origin, "dateCreated": None} == {
        "userId": subject,
        "providerName": "acme",
        "providerType": "OIDC",
        "issuer": None,
        "primary": "true",
        "dateCreated": None,
    }
    assert identity["email"] == ANN
    assert identity["cognito:groups"] == [f"{hub.id}_acme"]


def test_the_hub_keeps_a_profile_as_cognito_writes_it(hub: Hub) -> None:
    hub.login.sign_in("acme", ANN, PASSWORD)
    subject = hub.op.cognito.admin_get_user(UserPoolId=hub.pools["acme"], Username=ANN)["Username"]
    user = hub.user(f"acme_{subject}")
    attributes = {a["Name"]: a["Value"] for a in user["UserAttributes"]}
    [identity] = json.loads(attributes["identities"])
    assert (identity["userId"], identity["providerName"], identity["primary"]) == (subject, "acme", True)
    assert (user["UserStatus"], attributes["email_verified"]) == ("EXTERNAL_PROVIDER", "false")
    again = claims(hub.login.sign_in("acme", ANN, PASSWORD)["access_token"])
    assert again["sub"] == attributes["sub"]


def test_the_trigger_gets_the_event_of_a_federated_user(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[dict[str, Any]] = []
    invoke = hub.op.cloud._functions.invoke

    def listen(name: str, event: dict[str, Any]) -> Any:
        events.append(event)
        return invoke(name, event)

    monkeypatch.setattr(hub.op.cloud._functions, "invoke", listen)
    tokens = hub.login.sign_in("acme", ANN, PASSWORD)
    hub.login.refresh(tokens["refresh_token"])
    first, second = events
    assert (first["version"], first["triggerSource"]) == ("2", "TokenGeneration_HostedAuth")
    assert second["triggerSource"] == "TokenGeneration_RefreshTokens"
    attributes = first["request"]["userAttributes"]
    assert attributes["cognito:user_status"] == "EXTERNAL_PROVIDER"
    [identity] = json.loads(attributes["identities"])
    assert first["userName"] == f"acme_{identity['userId']}"
    assert first["request"]["scopes"] == ["openid", "email"]
    assert first["request"]["groupConfiguration"]["groupsToOverride"] == [f"{hub.id}_acme"]
    assert first["callerContext"]["clientId"] == hub.client_id


def test_a_wrong_password_or_anothers_pool_lets_nobody_in(hub: Hub) -> None:
    assert "Incorrect" in hub.refuses(lambda: hub.login.sign_in("acme", ANN, "Wrong!-passw0rd"))
    assert "Incorrect" in hub.refuses(lambda: hub.login.sign_in("globex", ANN, PASSWORD))
    assert "Incorrect" in hub.refuses(lambda: hub.login.sign_in("acme", "nobody@acme.example", PASSWORD))


def test_who_was_disabled_or_has_not_chosen_a_password_does_not_get_in(hub: Hub) -> None:
    pool, eve = hub.pools["acme"], "eve@acme.example"
    hub.op.cognito.admin_create_user(
        UserPoolId=pool, Username=eve, TemporaryPassword=PASSWORD, MessageAction="SUPPRESS"
    )
    hub.refuses(lambda: hub.login.sign_in("acme", eve, PASSWORD))
    hub.op.cognito.admin_set_user_password(UserPoolId=pool, Username=eve, Password=PASSWORD, Permanent=True)
    hub.op.cognito.admin_disable_user(UserPoolId=pool, Username=eve)
    hub.refuses(lambda: hub.login.sign_in("acme", eve, PASSWORD))


def test_a_profile_that_was_disabled_at_the_hub_gets_no_code(hub: Hub) -> None:
    name = hub.make_user("acme", "dan@acme.example")
    tokens = hub.login.sign_in("acme", "dan@acme.example", PASSWORD)
    hub.op.cognito.admin_disable_user(UserPoolId=hub.id, Username=f"acme_{name}")
    assert "not enabled" in hub.refuses(lambda: hub.login.sign_in("acme", "dan@acme.example", PASSWORD))
    assert "invalid_grant" in hub.refuses(lambda: hub.login.refresh(tokens["refresh_token"]))


def test_a_provider_that_the_client_does_not_support_is_refused(hub: Hub) -> None:
    hub.support("acme")
    try:
        assert "doesn't support" in hub.refuses(lambda: hub.login.sign_in("globex", BOB, PASSWORD))
        assert "doesn't support" in hub.refuses(lambda: hub.login.sign_in("COGNITO", BOB, PASSWORD))
        # The one provider that there is needs no naming.
        assert "login-acme" in hub.authorize(identity_provider=None)[1]
    finally:
        hub.support("acme", "globex")


def test_a_page_offers_the_providers_where_none_is_named(hub: Hub) -> None:
    status, location, _ = hub.authorize(identity_provider=None)
    assert (status, urlsplit(location).path) == (302, f"/_domains/{HUB}/login")
    page = fetch(location)[2]
    assert "identity_provider=globex" in page
    assert "password" not in page


def test_a_user_of_the_hub_itself_has_no_form_to_sign_in(hub: Hub) -> None:
    hub.op.cognito.admin_create_user(UserPoolId=hub.id, Username="native", MessageAction="SUPPRESS")
    hub.op.cognito.admin_set_user_password(UserPoolId=hub.id, Username="native", Password=PASSWORD, Permanent=True)
    query = urlencode(
        {"response_type": "code", "client_id": hub.client_id, "redirect_uri": CALLBACK, "scope": "openid"}
    )
    body = urlencode({"_csrf": "x", "username": "native", "password": PASSWORD}).encode()
    status, location, _ = fetch(f"{hub.address}/login?{query}", body, Cookie="XSRF-TOKEN=x")
    assert (status, "unauthorized_client" in location) == (302, True)
    # Nor does the profile of a provider's user have a password.
    subject = hub.op.cognito.admin_get_user(UserPoolId=hub.pools["acme"], Username=ANN)["Username"]
    hub.login.sign_in("acme", ANN, PASSWORD)
    hub.support("acme", "globex", "COGNITO")
    try:
        body = urlencode({"_csrf": "x", "username": f"acme_{subject}", "password": ""}).encode()
        assert fetch(f"{hub.address}/login?{query}", body, Cookie="XSRF-TOKEN=x")[0] == 400
    finally:
        hub.support("acme", "globex")


# --- What a provider can't do ---------------------------------------------------------------------


def provider(hub: Hub, name: str) -> dict[str, Any]:
    return dict(hub.op.cognito.describe_identity_provider(UserPoolId=hub.id, ProviderName=name)["IdentityProvider"])


@pytest.mark.parametrize(
    ("detail", "value", "said"),
    [
        ("client_secret", "another", "error getting token"),
        ("oidc_issuer", f"https://cognito-idp.{REGION}.amazonaws.com/{REGION}_other", "Bad id_token"),
        ("jwks_uri", "the-hub's", "Bad id_token"),
        ("attributes_url", "the-hub's", "no attributes"),
        ("token_url", "http://127.0.0.1:9/", "token endpoint"),
    ],
)
def test_the_hub_believes_only_a_token_of_the_providers_issuer_and_client(
    hub: Hub, detail: str, value: str, said: str
) -> None:
    details = provider(hub, "acme")["ProviderDetails"]
    own = {
        "jwks_uri": f"https://cognito-idp.{REGION}.amazonaws.com/{hub.id}/.well-known/jwks.json",
        "attributes_url": f"https://{HUB}.auth.{REGION}.amazoncognito.com/oauth2/userInfo",
    }
    update = hub.op.cognito.update_identity_provider
    changed = {**details, detail: own[detail] if value == "the-hub's" else value}
    update(UserPoolId=hub.id, ProviderName="acme", ProviderDetails=changed)
    try:
        assert said in hub.refuses(lambda: hub.login.sign_in("acme", ANN, PASSWORD))
    finally:
        update(UserPoolId=hub.id, ProviderName="acme", ProviderDetails=details)
    assert hub.login.sign_in("acme", ANN, PASSWORD)


def test_a_token_of_another_sign_in_is_refused(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    verified = RelyingParty._verified

    def of_another(self: RelyingParty, asked: Any, details: Any, token: str, nonce: str) -> Any:
        return verified(self, asked, details, token, f"{nonce}x")

    monkeypatch.setattr(RelyingParty, "_verified", of_another)
    assert "nonce" in hub.refuses(lambda: hub.login.sign_in("acme", ANN, PASSWORD))


def test_the_way_back_is_for_the_browser_that_left_and_once(hub: Hub) -> None:
    _, location, _ = hub.authorize()
    state = parse_qs(urlsplit(location).query)["state"][0]
    back = f"{hub.address}/oauth2/idpresponse?{urlencode({'state': state, 'code': 'x'})}"
    status, _, text = fetch(back, Cookie="csrf-state=another")
    assert (status, "another browser" in text) == (400, True)
    status, _, text = fetch(back, Cookie="csrf-state=another")
    assert (status, "not known" in text) == (400, True)
    assert fetch(f"{hub.address}/oauth2/idpresponse?state=made-up&code=x")[0] == 400


def test_a_login_form_is_good_in_its_own_browser_alone(hub: Hub) -> None:
    _, location, _ = hub.authorize()
    _, login, _ = fetch(location)
    form = urlencode({"_csrf": "guessed", "username": ANN, "password": PASSWORD}).encode()
    assert fetch(login, form)[0] == 400
    assert fetch(login, form, Cookie="XSRF-TOKEN=other")[0] == 400


@pytest.mark.parametrize("target", ["custom:fixed", "custom:tenant_id", "name"])
def test_a_mapped_attribute_is_one_that_the_client_may_write(hub: Hub, target: str) -> None:
    update = hub.op.cognito.update_identity_provider
    update(UserPoolId=hub.id, ProviderName="acme", AttributeMapping={"email": "email", target: "email"})
    try:
        hub.refuses(lambda: hub.login.sign_in("acme", ANN, PASSWORD))
    finally:
        update(UserPoolId=hub.id, ProviderName="acme", AttributeMapping={"email": "email"})


@pytest.mark.parametrize("target", ["identities", "sub", "custom:unknown"])
def test_what_says_where_a_user_comes_from_is_never_mapped_or_written(hub: Hub, target: str) -> None:
    update = hub.op.cognito.update_identity_provider
    with pytest.raises(ClientError, match="InvalidParameter"):
        update(UserPoolId=hub.id, ProviderName="acme", AttributeMapping={target: "email"})
    subject = hub.op.cognito.admin_get_user(UserPoolId=hub.pools["acme"], Username=ANN)["Username"]
    hub.login.sign_in("acme", ANN, PASSWORD)
    with pytest.raises(ClientError, match="InvalidParameter"):
        hub.op.cognito.admin_update_user_attributes(
            UserPoolId=hub.id, Username=f"acme_{subject}", UserAttributes=[{"Name": target, "Value": "[]"}]
        )


def test_a_linked_user_has_both_identities(hub: Hub) -> None:
    linked, target = hub.make_user("acme", "lin@acme.example"), hub.make_user("globex", "target@globex.example")
    hub.login.sign_in("globex", "target@globex.example", PASSWORD)
    link = hub.op.cognito.admin_link_provider_for_user
    source = {"ProviderName": "acme", "ProviderAttributeName": "Cognito_Subject", "ProviderAttributeValue": linked}
    destination = {"ProviderName": "globex", "ProviderAttributeValue": target}
    link(UserPoolId=hub.id, DestinationUser=destination, SourceUser=source)
    identity = claims(hub.login.sign_in("acme", "lin@acme.example", PASSWORD)["id_token"])
    assert identity["cognito:username"] == f"globex_{target}"
    assert [each["providerName"] for each in identity["identities"]] == ["globex", "acme"]
    with pytest.raises(ClientError, match="ResourceNotFound"):
        link(UserPoolId=hub.id, DestinationUser={**destination, "ProviderAttributeValue": "x"}, SourceUser=source)


# --- Codes and tokens -----------------------------------------------------------------------------


def test_a_code_is_good_once(hub: Hub, grant: Grant) -> None:
    hub.login.redeem(grant)
    assert "invalid_grant" in hub.refuses(lambda: hub.login.redeem(grant))


def test_of_many_who_present_a_code_at_once_one_gets_tokens(hub: Hub, grant: Grant) -> None:
    results: list[object] = []
    together = threading.Barrier(8)

    def redeem() -> None:
        together.wait()
        try:
            results.append(hub.login.redeem(grant)["token_type"])
        except SignInRefused:
            results.append(None)

    threads = [threading.Thread(target=redeem) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(map(str, results)) == ["Bearer"] + ["None"] * 7


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"code_verifier": "x" * 64}, "code_verifier"),
        ({"code_verifier": "short"}, "code_verifier"),
        ({"code_verifier": None}, "code_verifier"),
        ({"redirect_uri": "http://localhost:3000/other"}, "redirect_uri"),
        ({"redirect_uri": None}, "redirect_uri"),
        ({"client_id": None}, "invalid_client"),
        ({"client_secret": "x"}, "invalid_client"),
        ({"grant_type": "password"}, "unsupported_grant_type"),
        ({"code": "guessed"}, "invalid_grant"),
    ],
)
def test_a_code_is_good_with_what_belongs_to_it(
    hub: Hub, grant: Grant, changed: dict[str, str | None], said: str
) -> None:
    assert said in hub.refuses(lambda: hub.login.redeem(grant, **changed))


def test_a_code_is_good_for_its_own_client(hub: Hub, grant: Grant) -> None:
    assert "another client" in hub.refuses(lambda: hub.login.redeem(grant, client_id=hub.other_client))
    # It is used up.
    assert "invalid_grant" in hub.refuses(lambda: hub.login.redeem(grant))


def test_a_code_is_good_for_five_minutes(hub: Hub) -> None:
    now = 0.0
    kept: OneTime[str] = OneTime(lambda: now)
    first, second = kept.keep("a"), kept.keep("b")
    now = oauth.GOOD_FOR_SECONDS - 1
    assert kept.take(first) == "a"
    assert kept.take(first) is None
    now = oauth.GOOD_FOR_SECONDS
    assert kept.take(second) is None


def test_a_challenge_that_was_not_sent_needs_no_verifier(hub: Hub) -> None:
    asked = oauth.Asked(None, "c", CALLBACK, "", None, None, None, None)  # type: ignore[arg-type]
    assert asked.verified_by(None)
    assert not asked.verified_by("x" * 43)


def test_a_refresh_token_is_good_for_its_own_client_until_it_is_revoked(hub: Hub) -> None:
    name = hub.make_user("acme", "ray@acme.example")
    tokens = hub.login.sign_in("acme", "ray@acme.example", PASSWORD)
    again = hub.login.refresh(tokens["refresh_token"])
    assert claims(again["access_token"])["scope"] == "openid email"
    other = ManagedLogin(hub.address, hub.other_client, CALLBACK)
    assert "invalid_grant" in hub.refuses(lambda: other.refresh(tokens["refresh_token"]))
    with pytest.raises(ClientError, match="NotAuthorized"):
        hub.op.cognito.initiate_auth(
            ClientId=hub.other_client,
            AuthFlow="REFRESH_TOKEN_AUTH",
            AuthParameters={"REFRESH_TOKEN": tokens["refresh_token"]},
        )
    hub.op.cognito.admin_user_global_sign_out(UserPoolId=hub.id, Username=f"acme_{name}")
    assert "invalid_grant" in hub.refuses(lambda: hub.login.refresh(tokens["refresh_token"]))


def test_a_client_with_a_secret_proves_it(hub: Hub) -> None:
    details = provider(hub, "acme")["ProviderDetails"]
    endpoint = f"{hub.op.cloud.endpoint}/_domains/login-acme/oauth2/token"
    form = urlencode({"grant_type": "refresh_token", "refresh_token": "x"}).encode()

    def error(body: bytes = form, **headers: str) -> str:
        status, _, text = fetch(endpoint, body, **headers)
        assert status == 400
        return str(json.loads(text)["error"])

    def basic(secret: str) -> str:
        return "Basic " + base64.b64encode(f"{details['client_id']}:{secret}".encode()).decode()

    # With the right secret it goes on to the refresh token, which is wrong.
    assert error(Authorization=basic(details["client_secret"])) == "invalid_grant"
    for wrong in ("", "x", details["client_secret"][:-1]):
        assert error(Authorization=basic(wrong)) == "invalid_client"
    assert error(Authorization="Basic !") == "invalid_client"
    named = urlencode({"client_id": details["client_id"]}).encode()
    assert error(form + b"&" + named) == "invalid_client"
    assert error(form + b"&client_id=another", Authorization=basic(details["client_secret"])) == "invalid_client"
    assert error(form + b"&refresh_token=y", Authorization=basic(details["client_secret"])) == "invalid_request"


def test_the_api_asks_for_the_secret_too(hub: Hub) -> None:
    client = provider(hub, "acme")["ProviderDetails"]["client_id"]
    settings = {"ExplicitAuthFlows": ["ALLOW_ADMIN_USER_PASSWORD_AUTH"]}
    deployed = resources()["Clientacme"]["Properties"]
    rest = {k: v for k, v in deployed.items() if k not in ("UserPoolId", "GenerateSecret")}
    update = hub.op.cognito.update_user_pool_client
    update(UserPoolId=hub.pools["acme"], ClientId=client, **{**rest, **settings})
    try:
        with pytest.raises(ClientError, match="secret hash"):
            hub.op.cognito.admin_initiate_auth(
                UserPoolId=hub.pools["acme"],
                ClientId=client,
                AuthFlow="ADMIN_USER_PASSWORD_AUTH",
                AuthParameters={"USERNAME": ANN, "PASSWORD": PASSWORD},
            )
    finally:
        update(UserPoolId=hub.pools["acme"], ClientId=client, **rest)


def test_the_triggers_refusal_reaches_the_client_and_nobody_gets_a_token(hub: Hub, grant: Grant) -> None:
    refusing = {**resources(), "Function": function(CODE, "raise", FunctionName="hub-trigger")}
    hub.op.update("hub", refusing, Outputs=outputs())
    try:
        hub.support("acme", "globex")
        said = hub.refuses(lambda: hub.login.redeem(grant))
        assert "PreTokenGeneration failed" in said
    finally:
        hub.op.update("hub", resources(), Outputs=outputs())
        hub.support("acme", "globex")


def outputs() -> dict[str, Any]:
    shown = ("Hub", "HubClient", "OtherClient", "Poolacme", "Poolglobex")
    return values(**{name: {"Ref": name} for name in shown})


def test_user_info_is_for_a_token_with_the_scope(hub: Hub) -> None:
    tokens = hub.login.sign_in("acme", ANN, PASSWORD)
    endpoint = f"{hub.address}/oauth2/userInfo"
    status, _, text = fetch(endpoint, Authorization=f"Bearer {tokens['access_token']}")
    assert (status, json.loads(text)["email"]) == (200, ANN)
    assert "identities" not in text
    for token in (tokens["id_token"], "", "x"):
        assert fetch(endpoint, Authorization=f"Bearer {token}")[0] == 401


def test_a_token_of_the_pages_can_not_change_its_user(hub: Hub) -> None:
    token = hub.login.sign_in("acme", ANN, PASSWORD)["access_token"]
    for call, arguments in (
        (hub.op.cognito.update_user_attributes, {"UserAttributes": [{"Name": "email", "Value": BOB}]}),
        (hub.op.cognito.get_user, {}),
        (hub.op.cognito.global_sign_out, {}),
    ):
        with pytest.raises(ClientError, match="scopes"):
            call(AccessToken=token, **arguments)


# --- What a client may ask for --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"client_id": "another"}, "no such client"),
        ({"redirect_uri": "https://evil.example/"}, "callback URLs"),
        ({"redirect_uri": f"{CALLBACK}/"}, "callback URLs"),
        ({"redirect_uri": None}, "callback URLs"),
    ],
)
def test_an_address_that_is_not_the_clients_is_never_gone_to(hub: Hub, changed: dict[str, Any], said: str) -> None:
    status, location, text = hub.authorize(**changed)
    assert (status, location, said in text) == (400, "", True)


@pytest.mark.parametrize(
    ("changed", "error"),
    [
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"scope": "openid aws.cognito.signin.user.admin"}, "invalid_scope"),
        ({"code_challenge": "x" * 43}, "invalid_request"),
        ({"code_challenge_method": "S256"}, "invalid_request"),
        ({"code_challenge": "x" * 43, "code_challenge_method": "plain"}, "invalid_request"),
        ({"code_challenge": "short", "code_challenge_method": "S256"}, "invalid_request"),
        ({"identity_provider": "acme2"}, "invalid_request"),
    ],
)
def test_anything_else_that_is_wrong_is_told_to_the_client(hub: Hub, changed: dict[str, Any], error: str) -> None:
    status, location, _ = hub.authorize(**changed)
    answer = parse_qs(urlsplit(location).query)
    assert (status, location.startswith(CALLBACK), answer["error"], answer["state"]) == (302, True, [error], ["s"])


def test_a_parameter_that_stands_twice_is_refused(hub: Hub) -> None:
    query = urlencode({"response_type": "code", "client_id": hub.client_id, "redirect_uri": CALLBACK})
    twice = f"{query}&redirect_uri=https://evil.example/"
    assert fetch(f"{hub.address}/oauth2/authorize?{twice}")[0] == 400


def test_there_is_nothing_else_under_a_domain(hub: Hub) -> None:
    for path in ("", "/oauth2/unknown", "/.well-known/openid-configuration"):
        assert fetch(hub.address + path)[0] == 400
    assert fetch(f"{hub.op.cloud.endpoint}/_domains/unknown/oauth2/authorize")[0] == 400


def test_a_refusal_quotes_no_secret(hub: Hub, grant: Grant) -> None:
    position = hub.op.cloud.decisions.position()
    hub.refuses(lambda: hub.login.redeem(grant, code_verifier="v" * 50))
    told = str(hub.op.cloud.decisions.since(position))
    assert grant.code not in told
    assert "v" * 50 not in told


# --- Documents ------------------------------------------------------------------------------------


def test_the_documents_of_an_issuer_are_public_and_its_own(hub: Hub) -> None:
    document = json.loads(fetch(f"{hub.op.cloud.endpoint}/{hub.id}/.well-known/openid-configuration")[2])
    assert document["issuer"] == f"https://cognito-idp.{REGION}.amazonaws.com/{hub.id}"
    assert document["token_endpoint"] == f"{hub.address}/oauth2/token"
    own = json.loads(fetch(document["jwks_uri"])[2])["keys"]
    other = json.loads(fetch(document["jwks_uri"].replace(hub.id, hub.pools["acme"]))[2])["keys"]
    assert {key["kid"] for key in own}.isdisjoint({key["kid"] for key in other})
    assert "d" not in own[0]
    token = hub.login.sign_in("acme", ANN, PASSWORD)["access_token"]
    assert jwt.get_unverified_header(token)["kid"] == own[0]["kid"]


def test_an_issuers_path_can_not_be_turned_into_another_service(hub: Hub) -> None:
    credential = "AKIAUNIT000000000000/20260101/us-east-1/s3/aws4_request"
    path = f"{hub.op.cloud.endpoint}/{hub.id}/.well-known/jwks.json"
    answer = fetch(path, Authorization=f"AWS Credential={credential}", X_Amz_Target="DynamoDB_20120810.ListTables")
    assert list(json.loads(answer[2])) == ["keys"]
    assert fetch(path, b"{}")[0] == 404
    assert fetch(f"{hub.op.cloud.endpoint}/{REGION}_none/.well-known/jwks.json")[0] == 404


def test_addresses_of_aws_are_served_at_loopback() -> None:
    here = "http://127.0.0.1:1"
    moved = {
        f"https://login-x.auth.{REGION}.amazoncognito.com/oauth2?a=b": f"{here}/_domains/login-x/oauth2?a=b",
        f"https://cognito-idp.{REGION}.amazonaws.com/{REGION}_x/y": f"{here}/{REGION}_x/y",
        f"https://evil.example/.auth.{REGION}.amazoncognito.com/": None,
        "https://login-x.auth.us-west-2.amazoncognito.com/": None,
        CALLBACK: None,
    }
    for url, expected in moved.items():
        assert at_loopback(url, REGION, here) == (expected or url)


# --- Stacks ---------------------------------------------------------------------------------------


def test_a_client_that_a_stack_updates_loses_what_was_set_beside_it(hub: Hub) -> None:
    changed = {**resources(), "HubClient": hub_client(AccessTokenValidity=2)}
    hub.op.update("hub", changed, Outputs=outputs())
    described = hub.op.cognito.describe_user_pool_client(UserPoolId=hub.id, ClientId=hub.client_id)["UserPoolClient"]
    assert described["AccessTokenValidity"] == 2
    assert not described.get("SupportedIdentityProviders")
    hub.op.update("hub", resources(), Outputs=outputs())
    hub.support("acme", "globex")


def test_a_client_supports_providers_that_there_are(hub: Hub) -> None:
    with pytest.raises(ClientError, match="does not exist"):
        hub.support("acme", "unknown")


def test_domains_providers_and_groups_are_made_changed_and_deleted(op: Operator) -> None:
    def make(**changed: Any) -> dict[str, Any]:
        made = {"Hub": {"Type": "AWS::Cognito::UserPool", "Properties": {}}, **tenant_resources("small")}
        made["Group"] = {
            "Type": "AWS::Cognito::UserPoolGroup",
            "Properties": {"UserPoolId": {"Ref": "Hub"}, "GroupName": "g", "Description": "one"},
        }
        for name, properties in changed.items():
            made[name]["Properties"] |= properties
        return made

    shown = values(Hub={"Ref": "Hub"}, Pool={"Ref": "Poolsmall"}, Domain={"Ref": "Domainsmall"})
    made = op.create("small", make(), Outputs=shown)
    hub, pool = made["Hub"], made["Pool"]
    assert op.cognito.describe_user_pool_domain(Domain="login-small")["DomainDescription"]["UserPoolId"] == pool
    with pytest.raises(ClientError, match="already"):
        op.cognito.create_user_pool_domain(Domain="login-small", UserPoolId=hub)
    changed = make(
        Providersmall={"AttributeMapping": {"email": "email", "name": "name"}},
        Group={"Description": "two"},
        Domainsmall={"ManagedLoginVersion": 2},
    )
    op.update("small", changed, Outputs=shown)
    described = op.cognito.describe_identity_provider(UserPoolId=hub, ProviderName="small")["IdentityProvider"]
    assert described["AttributeMapping"] == {"email": "email", "name": "name"}
    assert op.cognito.get_group(UserPoolId=hub, GroupName="g")["Group"]["Description"] == "two"
    op.cloudformation.delete_stack(StackName="small")
    assert not op.cognito.describe_user_pool_domain(Domain="login-small")["DomainDescription"]
    assert hub not in str(op.cognito.list_user_pools(MaxResults=60)["UserPools"])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"Domainsmall": {"Domain": "login-aws"}}, "reserved"),
        ({"Domainsmall": {"Domain": "Login"}}, "malformed"),
        ({"Domainsmall": {"CustomDomainConfig": {"CertificateArn": "x"}}}, "custom domain"),
        ({"Providersmall": {"ProviderName": "a_b"}}, "malformed"),
        ({"Providersmall": {"ProviderName": "x" * 33}}, "malformed"),
        ({"Providersmall": {"ProviderType": "SAML"}}, "OIDC"),
        ({"Providersmall": {"ProviderDetails": {"client_id": "x"}}}, "lacks"),
        ({"Clientsmall": {"CallbackURLs": []}}, "CallbackURLs"),
    ],
)
def test_what_cognito_would_refuse_fails_the_stack(op: Operator, change: dict[str, Any], said: str) -> None:
    made = {"Hub": {"Type": "AWS::Cognito::UserPool", "Properties": {}}, **tenant_resources("small")}
    for name, properties in change.items():
        made[name]["Properties"] |= properties
    name = f"bad-{abs(hash(str(change)))}"
    op.cloudformation.create_stack(StackName=name, TemplateBody=json.dumps({"Resources": made}))
    assert op.status(name) == "ROLLBACK_COMPLETE"
    events = op.cloudformation.describe_stack_events(StackName=name)["StackEvents"]
    reasons = [event.get("ResourceStatusReason", "") for event in events]
    assert any(said in reason for reason in reasons), reasons


def test_a_provider_that_a_client_supports_is_not_deleted(hub: Hub) -> None:
    with pytest.raises(ClientError, match="still supported"):
        hub.op.cognito.delete_identity_provider(UserPoolId=hub.id, ProviderName="acme")


def test_a_pool_has_three_hundred_providers_at_most(op: Operator) -> None:
    pool = op.cognito.create_user_pool(PoolName="full")["UserPool"]["Id"]
    details = tenant_resources("x")["Providerx"]["Properties"]["ProviderDetails"]
    plain = {name: value if isinstance(value, str) else "x" for name, value in details.items()}

    def add(number: int) -> None:
        op.cognito.create_identity_provider(
            UserPoolId=pool, ProviderName=f"tenant-{number}", ProviderType="OIDC", ProviderDetails=plain
        )

    began = time.perf_counter()
    for number in range(300):
        add(number)
    with pytest.raises(ClientError, match="LimitExceeded"):
        add(300)
    with pytest.raises(ClientError, match="Duplicate"):
        op.cognito.create_identity_provider(
            UserPoolId=pool, ProviderName="tenant-0", ProviderType="OIDC", ProviderDetails=plain
        )
    assert time.perf_counter() - began < 60

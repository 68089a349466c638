"""AgentCore Identity: workload identities, OAuth2 credential providers, and the tokens that these get for a workload.

It asks the third party's OAuth server over HTTP, where the provider's discovery document says, keeps tokens for the
workload and its user until they expire, and refreshes them. Nothing is let through that AWS documents as refused: a
user's token has to be signed by a user pool of this cloud and unexpired; a workload access token has to be one that was
issued here; and the caller needs every permission that the Service Authorization Reference lists for the call, on each
of its resources, and on the provider's secret.

Source: AgentCore developer guide, "Get workload access token", "On-behalf-of token exchange", "Quotas"; Service
Authorization Reference, Bedrock AgentCore; RFC 6749 and RFC 8693.
"""

import secrets
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

import jwt
import urllib3

from .. import cognito
from ..authorization import Decision
from ..gate import Gate
from ..operations import Call, Handler, ServiceError, validate
from ..permissions import Permission
from ..resources.kind import Kind, Place, Properties, Resource, UnsupportedChange

OAUTH_PROVIDERS = 50
"""How many OAuth2 credential providers an account may have in a Region."""

_CONTROL, _DATA = "bedrock-agentcore-control", "bedrock-agentcore"
_EARLY = 30.0  # seconds before its end that a token is no longer given out
_GOOD_FOR = 900.0  # seconds that a workload access token is good for
_EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
_ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"
_BASIC = "CLIENT_SECRET_BASIC"
_TIMEOUT = 10.0


@dataclass(frozen=True)
class _Workload:
    """What a workload access token stands for. user: issuer and subject of the user's token."""

    name: str
    user: tuple[str, str]
    token: str = field(repr=False)
    expires: float


@dataclass(frozen=True)
class _Kept:
    """A token that was got. expires: in seconds since the epoch."""

    access_token: str = field(repr=False)
    refresh_token: str | None = field(repr=False)
    expires: float


_IDENTITIES: dict[tuple[str, str], set[str]] = {}
"""Workload identities by account and Region. What a cloud made is deleted with it, or replaced by the next one."""


def register(gate: Gate) -> None:
    """Answer as AgentCore Identity."""
    _IDENTITIES[gate.account, gate.region] = set()
    Identity(gate).register()


class Identity:
    """The providers, and what was got by them."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._providers: dict[str, dict[str, Any]] = {}
        self._workloads: dict[str, _Workload] = {}
        self._tokens: dict[tuple[Any, ...], _Kept] = {}
        self._lock = threading.RLock()
        self._http = urllib3.PoolManager(retries=False, timeout=_TIMEOUT)

    def register(self) -> None:
        """Answer its calls at the gate; each is judged here, on all its resources."""
        for service, handlers in (
            (
                _CONTROL,
                {
                    "CreateOauth2CredentialProvider": self._create,
                    "UpdateOauth2CredentialProvider": self._update,
                    "GetOauth2CredentialProvider": self._get,
                    "DeleteOauth2CredentialProvider": self._delete,
                    "ListOauth2CredentialProviders": self._list,
                },
            ),
            (
                _DATA,
                {
                    "GetWorkloadAccessTokenForJWT": self._workload_token,
                    "GetResourceOauth2Token": self._resource_token,
                },
            ),
        ):
            for operation, handler in handlers.items():
                self._gate.handle(service, operation, _checked(handler), judges_itself=True)

    # --- Providers --------------------------------------------------------------------------------

    def _create(self, call: Call) -> dict[str, Any]:
        name = call.params["name"]
        self._require(call, self._provider_arns(call, name))
        _refuse_what_is_not_here(call.params)
        with self._lock:
            if name in self._providers:
                raise ServiceError("ConflictException", f"A credential provider named {name} already exists", 409)
            if len(self._providers) >= OAUTH_PROVIDERS:
                raise ServiceError("ServiceQuotaExceededException", "The account has no more credential providers", 402)
            self._providers[name] = dict(call.params)
        return self._described(call, name)

    def _update(self, call: Call) -> dict[str, Any]:
        name = call.params["name"]
        self._require(call, self._provider_arns(call, name))
        _refuse_what_is_not_here(call.params)
        with self._lock:
            self._provider(name)
            self._providers[name] = {**self._providers[name], **call.params}
            self._forget(name)
        return self._described(call, name)

    def _get(self, call: Call) -> dict[str, Any]:
        name = call.params["name"]
        self._require(call, self._provider_arns(call, name))
        return self._described(call, name)

    def _delete(self, call: Call) -> dict[str, Any]:
        name = call.params["name"]
        self._require(call, self._provider_arns(call, name))
        self._require(call, [self._secret_arn(call, name)], "secretsmanager:DeleteSecret")
        with self._lock:
            self._provider(name)
            del self._providers[name]
            self._forget(name)
        return {}

    def _list(self, call: Call) -> dict[str, Any]:
        self._require(call, [self._arn(call, "token-vault/default")])
        return {
            "credentialProviders": [
                {
                    "name": name,
                    "credentialProviderVendor": provider["credentialProviderVendor"],
                    "credentialProviderArn": self._provider_arns(call, name)[1],
                    "createdTime": time.time(),
                    "lastUpdatedTime": time.time(),
                }
                for name, provider in sorted(self._providers.items())
            ]
        }

    def _described(self, call: Call, name: str) -> dict[str, Any]:
        custom = self._provider(name)["oauth2ProviderConfigInput"]["customOauth2ProviderConfig"]
        shown = {key: value for key, value in custom.items() if not key.startswith("clientSecret")}
        return {
            "name": name,
            "credentialProviderArn": self._provider_arns(call, name)[1],
            "credentialProviderVendor": self._providers[name]["credentialProviderVendor"],
            "clientSecretArn": {"secretArn": self._secret_arn(call, name)},
            "oauth2ProviderConfigOutput": {"customOauth2ProviderConfig": shown},
            "createdTime": time.time(),
            "lastUpdatedTime": time.time(),
        }

    def _provider(self, name: str) -> dict[str, Any]:
        if name not in self._providers:
            raise ServiceError("ResourceNotFoundException", f"There is no credential provider named {name}", 404)
        return self._providers[name]

    def _forget(self, provider: str) -> None:
        for key in [key for key in self._tokens if key[0] == provider]:
            del self._tokens[key]

    # --- Tokens -----------------------------------------------------------------------------------

    def _workload_token(self, call: Call) -> dict[str, Any]:
        name, token = call.params["workloadName"], call.params["userToken"]
        self._require(call, self._workload_arns(call, name))
        if name not in _IDENTITIES.get((self._gate.account, call.region), ()):
            raise ServiceError("ResourceNotFoundException", f"There is no workload identity named {name}", 404)
        user = self._user(call, token)
        issued = secrets.token_urlsafe(48)
        with self._lock:
            self._workloads[issued] = _Workload(name, user, token, time.time() + _GOOD_FOR)
        return {"workloadAccessToken": issued}

    def _user(self, call: Call, token: str) -> tuple[str, str]:
        """Issuer and subject of a token that is signed and unexpired; Unauthorized, and on record, for any other."""
        try:
            issuer = str(jwt.decode(token, options={"verify_signature": False})["iss"])
            keys = cognito.issuer_keys(self._gate.account, call.region, issuer)["keys"]
            key_id = jwt.get_unverified_header(token).get("kid")
            [key] = [key for key in keys if key["kid"] == key_id]
            claims = jwt.decode(
                token,
                jwt.PyJWK(key, algorithm="RS256").key,
                algorithms=["RS256"],
                issuer=issuer,
                options={"require": ["exp", "iss", "sub"], "verify_aud": False},
            )
        except (jwt.PyJWTError, LookupError, ValueError):
            self._refuse(call, "the user's token is not signed by its issuer, or has expired")
            raise ServiceError("UnauthorizedException", "The user token is not valid", 401) from None
        return issuer, str(claims["sub"])

    def _resource_token(self, call: Call) -> dict[str, Any]:
        params = call.params
        workload = self._workloads.get(params["workloadIdentityToken"])
        if workload is None or workload.expires <= time.time():
            self._refuse(call, "the workload access token was not issued here, or has expired")
            raise ServiceError("UnauthorizedException", "The workload identity token is not valid", 401)
        name, flow = params["resourceCredentialProviderName"], params["oauth2Flow"]
        self._require(call, [*self._workload_arns(call, workload.name), *self._provider_arns(call, name)])
        self._require(call, [self._secret_arn(call, name)], "secretsmanager:GetSecretValue", "aws:ViaAWSService")
        config = self._provider(name)["oauth2ProviderConfigInput"]["customOauth2ProviderConfig"]
        if flow == "ON_BEHALF_OF_TOKEN_EXCHANGE":
            if "onBehalfOfTokenExchangeConfig" not in config:
                raise ServiceError("ValidationException", "The provider has no configuration of token exchange")
            whose: Any = workload.user
            asked = {"grant_type": _EXCHANGE, "subject_token": workload.token, "subject_token_type": _ACCESS_TOKEN}
        elif flow == "M2M":
            whose, asked = None, {"grant_type": "client_credentials"}
        else:
            raise ServiceError("ValidationException", "the local cloud has nobody who could consent in a browser")
        scope = " ".join(params["scopes"])
        key = (name, workload.name, flow, whose, scope)
        with self._lock:
            kept = self._tokens.get(key)
            if kept is None or params.get("forceAuthentication") or kept.expires - _EARLY <= time.time():
                self._tokens[key] = self._fetch(call, config, {**asked, "scope": scope}, kept)
            return {"accessToken": self._tokens[key].access_token}

    def _fetch(self, call: Call, config: Mapping[str, Any], asked: Mapping[str, str], kept: _Kept | None) -> _Kept:
        """A token of the third party's: by what it gave to refresh with, where that is taken, or asked for anew."""
        if kept is not None and kept.refresh_token and not call.params.get("forceAuthentication"):
            answer = self._ask(config, {"grant_type": "refresh_token", "refresh_token": kept.refresh_token})
            if answer.status == 200:
                return _kept(answer.json())
        answer = self._ask(config, asked)
        if answer.status != 200:
            self._refuse(call, f"the third party's OAuth server says no: {answer.status}")
            raise ServiceError("AccessDeniedException", "The authorization server refused to issue a token", 403)
        return _kept(answer.json())

    def _ask(self, config: Mapping[str, Any], asked: Mapping[str, str]) -> Any:
        document = self._http.request("GET", config["oauthDiscovery"]["discoveryUrl"]).json()
        basic = urllib3.make_headers(basic_auth=f"{config['clientId']}:{config['clientSecret']}")
        headers = {**basic, "Content-Type": "application/x-www-form-urlencoded"}
        return self._http.request("POST", document["token_endpoint"], body=urlencode(asked), headers=headers)

    # --- Permissions ------------------------------------------------------------------------------

    def _require(self, call: Call, resources: list[str], action: str | None = None, service_key: str = "") -> None:
        """AccessDenied unless the caller has the permission on each of the resources."""
        for resource in resources:
            keys = {service_key: "true"} if service_key else {}
            permission = Permission(action or f"bedrock-agentcore:{call.operation}", resource, keys)
            if call.principal.kind == "role":
                decision: Decision = self._gate.authorizer.judge_permission(call.principal, permission, call.region)
                if not decision.allowed:
                    message = f"{call.principal.arn} is not authorized to perform {permission.action} on {resource}"
                    raise ServiceError("AccessDeniedException", message, 403)

    def _refuse(self, call: Call, reason: str) -> None:
        action = f"bedrock-agentcore:{call.operation}"
        self._gate.authorizer.deny(call.principal, action, reason, source="authorizer")

    def _arn(self, call: Call, path: str) -> str:
        return f"arn:aws:bedrock-agentcore:{call.region}:{self._gate.account}:{path}"

    def _workload_arns(self, call: Call, name: str) -> list[str]:
        directory = self._arn(call, "workload-identity-directory/default")
        return [directory, f"{directory}/workload-identity/{name}"]

    def _provider_arns(self, call: Call, name: str) -> list[str]:
        vault = self._arn(call, "token-vault/default")
        return [vault, f"{vault}/oauth2credentialprovider/{name}"]

    def _secret_arn(self, call: Call, name: str) -> str:
        place = f"arn:aws:secretsmanager:{call.region}:{self._gate.account}"
        return f"{place}:secret:bedrock-agentcore-identity!default/oauth2/{name}-AbCdEf"


def _checked(handler: Callable[[Call], dict[str, Any]]) -> Handler:
    """`handler` behind what AWS checks of every call first."""

    def handle(call: Call) -> dict[str, Any]:
        validate(call)
        return handler(call)

    return handle


def _refuse_what_is_not_here(provider: Mapping[str, Any]) -> None:
    """ValidationException for a kind of provider that AWS has and that is not asked here as it would be there."""
    custom = provider["oauth2ProviderConfigInput"].get("customOauth2ProviderConfig", {})
    exchange = custom.get("onBehalfOfTokenExchangeConfig", {})
    actor = exchange.get("tokenExchangeGrantTypeConfig", {}).get("actorTokenContent", "NONE")
    if not (
        "discoveryUrl" in custom.get("oauthDiscovery", {})
        and {"clientId", "clientSecret"} <= custom.keys()
        and custom.get("clientAuthenticationMethod", _BASIC) == _BASIC
        and (exchange.get("grantType", "TOKEN_EXCHANGE"), actor) == ("TOKEN_EXCHANGE", "NONE")
    ):
        message = (
            "the local cloud has custom providers alone, with a discovery document, and a client that shows its secret "
            f"by {_BASIC}; of exchanges it has TOKEN_EXCHANGE without a token of an actor"
        )
        raise ServiceError("ValidationException", message)


def _kept(answer: Mapping[str, Any]) -> _Kept:
    return _Kept(answer["access_token"], answer.get("refresh_token"), time.time() + float(answer["expires_in"]))


# --- CloudFormation -------------------------------------------------------------------------------


class WorkloadIdentity(Kind):
    """AWS::BedrockAgentCore::WorkloadIdentity."""

    replaced_by = frozenset({"Name"})
    tags = ("Tags", list)

    def create(self, place: Place, properties: Properties) -> Resource:
        name, there = properties["Name"], _IDENTITIES[place.account, place.region]
        if name in there:
            raise UnsupportedChange(f"AWS::BedrockAgentCore::WorkloadIdentity: one named {name} already exists")
        there.add(name)
        arn = (
            f"arn:aws:bedrock-agentcore:{place.region}:{place.account}:"
            f"workload-identity-directory/default/workload-identity/{name}"
        )
        return Resource(name, {"WorkloadIdentityArn": arn})

    def update(self, place: Place, resource: Resource, properties: Properties, former: Properties) -> Resource:
        return resource

    def delete(self, place: Place, resource: Resource) -> None:
        _IDENTITIES[place.account, place.region].discard(resource.physical_id)


KINDS: Mapping[str, Kind] = {"AWS::BedrockAgentCore::WorkloadIdentity": WorkloadIdentity()}

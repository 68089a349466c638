"""Cognito: what moto's user pools lack for tokens and attributes to be worth what they are on AWS.

Each pool signs with a key of its own, the pre token generation trigger runs (event version V2_0),
tokens end when the client says so, attributes that nobody may write are not written, and a sign-in
that moto can't verify is refused instead of waved through.

Sources: Cognito developer guide, "Pre token generation Lambda trigger" and "Working with user
attributes"; API reference, CreateUserPoolClient and InitiateAuth.
"""

import json
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from types import SimpleNamespace
from typing import Any
from weakref import WeakKeyDictionary

from joserfc import jwk, jwt
from moto.cognitoidp import models
from moto.cognitoidp.exceptions import NotAuthorizedError
from moto.cognitoidp.models import CognitoIdpBackend, CognitoIdpUserPool, cognitoidp_backends
from moto.core.exceptions import JsonRESTError
from werkzeug.wrappers import Request, Response

from . import cognito_rules
from .functions import FunctionError
from .patching import replaced

Invoke = Callable[[str, str, dict[str, Any]], Any]
"""Runs a trigger: (function's ARN, user pool's ARN, event) -> what the handler returns."""

_RESERVED = frozenset(
    {
        *("acr", "amr", "at_hash", "auth_time", "azp", "client_id", "device_key", "event_id"),
        *("exp", "iat", "identities", "iss", "jti", "nbf", "nonce", "origin_jti", "sub"),
        *("token_use", "username", "version"),
    }
)
_SETTABLE = frozenset({"cognito:groups", "cognito:roles", "cognito:preferred_role"})
_UNIT_SECONDS = {"seconds": 1, "minutes": 60, "hours": 3600, "days": 86400}


class LambdaTriggerError(JsonRESTError):
    """What Cognito answers when a trigger fails; no token is issued then."""


Refused = Callable[[str, str], None]
"""Told of every refusal: (operation, error code); moto's messages may quote tokens."""

_JUDGING = {
    "admin_create_user": "AdminCreateUser",
    "admin_delete_user_attributes": "AdminDeleteUserAttributes",
    "admin_initiate_auth": "AdminInitiateAuth",
    "admin_update_user_attributes": "AdminUpdateUserAttributes",
    "confirm_forgot_password": "ConfirmForgotPassword",
    "confirm_sign_up": "ConfirmSignUp",
    "forgot_password": "ForgotPassword",
    "change_password": "ChangePassword",
    "get_user": "GetUser",
    "global_sign_out": "GlobalSignOut",
    "initiate_auth": "InitiateAuth",
    "respond_to_auth_challenge": "RespondToAuthChallenge",
    "sign_up": "SignUp",
    "update_user_attributes": "UpdateUserAttributes",
}
_REFUSALS = frozenset(
    {
        "InvalidLambdaResponseException",
        "InvalidParameterException",
        "NotAuthorizedException",
        "UnexpectedLambdaException",
        "UserLambdaValidationException",
        "UserNotFoundException",
    }
)


@dataclass(frozen=True)
class Hosted:
    """A sign-in at a pool's own pages, which decides more than the API's do.

    scope: what the client asked for and may have, space separated. nonce: for the ID token.
    """

    scope: str
    nonce: str | None


Issue = Callable[[CognitoIdpUserPool, str, str, Hosted], dict[str, Any]]
"""Makes tokens, as far as the trigger lets it: (pool, client id, user name, sign-in) -> the token endpoint's answer."""


@contextmanager
def keys_read_once() -> Iterator[None]:
    """moto reads the same key from a file for each pool that it makes, and looks for its primes: a fifth of a second.

    Pools of the local cloud don't sign with it: they have keys of their own.
    """
    import_key = cache(lambda text: jwk.RSAKey.import_key(json.loads(text)))
    once = SimpleNamespace(RSAKey=SimpleNamespace(import_key=lambda key: import_key(json.dumps(key))))
    with replaced(models, jwk=once):
        yield


@contextmanager
def install(invoke: Invoke, refused: Refused) -> Iterator[Issue]:
    """Complete moto's user pools for as long as the context lasts; gives what issues tokens of their own pages."""
    trigger = _PreToken(invoke)
    with (
        keys_read_once(),
        cognito_rules.install(),
        replaced(CognitoIdpUserPool, create_jwt=_create_jwt(trigger)),
        replaced(CognitoIdpBackend, respond_to_auth_challenge=_respond(trigger)),
        replaced(
            CognitoIdpBackend,
            **{
                name: _telling(getattr(CognitoIdpBackend, name), operation, refused)
                for name, operation in _JUDGING.items()
            },
        ),
    ):
        yield _issue(trigger)


def _telling(method: Callable[..., Any], operation: str, refused: Refused) -> Callable[..., Any]:
    """The method, with its refusals told; other errors say nothing of what a caller may do."""

    def judge(*arguments: Any, **keywords: Any) -> Any:
        try:
            return method(*arguments, **keywords)
        except JsonRESTError as error:
            if error.error_type in _REFUSALS:
                refused(operation, error.error_type)
            raise

    return judge


def issuer_keys(account: str, region: str, issuer: str) -> dict[str, Any]:
    """The JWKS of a user pool, by its issuer URL.

    Raises:
        LookupError: no user pool of the local cloud issues tokens in this name.
    """
    prefix = f"https://cognito-idp.{region}.amazonaws.com/"
    pool = cognitoidp_backends[account][region].user_pools.get(issuer.removeprefix(prefix))
    if pool is None or not issuer.startswith(prefix):
        raise LookupError(f"no user pool of the local cloud issues tokens as {issuer}")
    key = _key(pool)
    return {"keys": [{**key.as_dict(private=False), "kid": key.thumbprint(), "alg": "RS256", "use": "sig"}]}


class Documents:
    """WSGI application of the issuers' public documents: `/<pool id>/.well-known/...`, as on AWS, unsigned."""

    def __init__(self, account: str, region: str) -> None:
        self._account = account
        self._region = region
        self.prefix = f"/{region}_"

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        request = Request(environ)
        pool_id, _, name = request.path.removeprefix("/").partition("/")
        issuer = f"https://cognito-idp.{self._region}.amazonaws.com/{pool_id}"
        documents = {
            ".well-known/jwks.json": self._keys,
            ".well-known/openid-configuration": self._configuration,
        }
        try:
            document = documents[name](issuer, request.host_url.rstrip("/")) if request.method == "GET" else None
        except LookupError:
            document = None
        text = json.dumps(document if document is not None else {"message": "There is no such document."})
        answer = Response(text, 200 if document is not None else 404, content_type="application/json")
        return answer(environ, start_response)

    def _keys(self, issuer: str, _here: str) -> dict[str, Any]:
        return issuer_keys(self._account, self._region, issuer)

    def _configuration(self, issuer: str, here: str) -> dict[str, Any]:
        pool_id = issuer.rpartition("/")[2]
        pool = cognitoidp_backends[self._account][self._region].user_pools[pool_id]
        document: dict[str, Any] = {
            "issuer": issuer,
            "jwks_uri": f"{here}/{pool_id}/.well-known/jwks.json",
            "id_token_signing_alg_values_supported": ["RS256"],
            "response_types_supported": ["code"],
            "scopes_supported": ["openid", "email", "profile"],
            "subject_types_supported": ["public"],
        }
        if pool.domain is None:
            return document
        domain = f"{here}/_domains/{pool.domain.domain}/oauth2"
        return {
            **document,
            "authorization_endpoint": f"{domain}/authorize",
            "token_endpoint": f"{domain}/token",
            "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
            "userinfo_endpoint": f"{domain}/userInfo",
        }


def mint(account: str, region: str, pool_id: str, claims: Mapping[str, Any]) -> str:
    """A token of exactly these claims under the user pool's own key: what no attacker can make."""
    return _signed(cognitoidp_backends[account][region].user_pools[pool_id], claims)


_keys: WeakKeyDictionary[CognitoIdpUserPool, jwk.RSAKey] = WeakKeyDictionary()
_keys_lock = threading.Lock()


def _key(pool: CognitoIdpUserPool) -> jwk.RSAKey:
    # moto signs for all pools with one key: there, a token of one tenant's pool is good as one of any other's.
    with _keys_lock:
        if pool not in _keys:
            _keys[pool] = jwk.RSAKey.generate_key(2048)
        return _keys[pool]


def _signed(pool: CognitoIdpUserPool, claims: Mapping[str, Any]) -> str:
    key = _key(pool)
    return str(jwt.encode({"kid": key.thumbprint(), "alg": "RS256"}, dict(claims), key))


# --- Tokens ---------------------------------------------------------------------------------------


def _create_jwt(trigger: "_PreToken") -> Callable[..., tuple[str, int]]:
    def create_jwt(
        self: CognitoIdpUserPool,
        client_id: str,
        username: str,
        token_use: str,
        expires_in: int = 3600,
        extra_data: dict[str, Any] | None = None,
    ) -> tuple[str, int]:
        user = self._get_user(username)
        if not user or not user.enabled:
            raise NotAuthorizedError("User is disabled.")
        claims = {**_own_claims(self, client_id, user, token_use), **(extra_data or {})}
        if hosted := trigger.hosted(claims["origin_jti"]):
            _follow(hosted, claims, token_use)
        override = trigger.override(self, client_id, user, token_use, claims)
        _apply(override, claims, client_id, token_use)
        lifetime = _lifetime(self, client_id, token_use)
        now = int(time.time())
        times = {"iat": now, "auth_time": now, "exp": now + lifetime}
        return _signed(self, {**claims, **times, "jti": str(uuid.uuid4())}), lifetime

    return create_jwt


def _own_claims(pool: CognitoIdpUserPool, client_id: str, user: Any, token_use: str) -> dict[str, Any]:
    claims: dict[str, Any] = {
        "iss": f"https://cognito-idp.{pool.region}.amazonaws.com/{pool.id}",
        "sub": user.id,
        "token_use": token_use,
    }
    if token_use == "access":
        return {**claims, "client_id": client_id, "username": user.username}
    claims |= {"aud": client_id, "cognito:username": user.username}
    if not pool.clients[client_id].extended_config.get("ReadAttributes") and "email" in user.attribute_lookup:
        claims["email"] = user.attribute_lookup["email"]
    if identities := json.loads(user.attribute_lookup.get("identities", "[]")):
        # All of it is text here, unlike in the attribute.
        claims["identities"] = [
            {**identity, "primary": str(identity["primary"]).lower(), "dateCreated": str(identity["dateCreated"])}
            for identity in identities
        ]
    return claims


def _follow(hosted: Hosted, claims: dict[str, Any], token_use: str) -> None:
    """What the sign-in's scope and nonce make of the claims."""
    if token_use == "access":
        claims["scope"] = hosted.scope
        return
    if hosted.nonce is not None:
        claims["nonce"] = hosted.nonce
    if "email" not in hosted.scope.split():
        claims.pop("email", None)
        claims.pop("email_verified", None)


def _issue(trigger: "_PreToken") -> Issue:
    def issue(pool: CognitoIdpUserPool, client_id: str, username: str, hosted: Hosted) -> dict[str, Any]:
        refresh_token, sign_in = pool.create_refresh_token(client_id, username)
        try:
            trigger.begin(sign_in, hosted)
            access, seconds = pool.create_access_token(client_id, username, origin_jti=sign_in)
            identity, _ = pool.create_id_token(client_id, username, origin_jti=sign_in)
        except Exception:
            # Nobody got it, so nobody may have it.
            pool.refresh_tokens[refresh_token] = None
            raise
        return {
            "access_token": access,
            "id_token": identity,
            "refresh_token": refresh_token,
            "token_type": "Bearer",
            "expires_in": seconds,
        }

    return issue


def _lifetime(pool: CognitoIdpUserPool, client_id: str, token_use: str) -> int:
    """Seconds that a token of the client lasts: an hour unless the client says otherwise."""
    config = pool.clients[client_id].extended_config
    kind = "AccessToken" if token_use == "access" else "IdToken"
    validity = config.get(f"{kind}Validity")
    if not validity:
        return 3600
    unit = (config.get("TokenValidityUnits") or {}).get(kind, "hours")
    return int(validity) * _UNIT_SECONDS[unit]


def _apply(override: Mapping[str, Any], claims: dict[str, Any], client_id: str, token_use: str) -> None:
    """Change the claims as the trigger wants it.

    AWS documents which claims a trigger can't set and passes over them; here they are an error,
    because a function that tries is wrong.
    """
    part = "accessTokenGeneration" if token_use == "access" else "idTokenGeneration"
    generation = override.get(part) or {}
    added = generation.get("claimsToAddOrOverride") or {}
    suppressed = generation.get("claimsToSuppress") or []
    allowed_audience = token_use == "access" and added.get("aud", client_id) == client_id
    for name in [*added, *suppressed]:
        cognito_own = name.startswith("cognito:") and name not in _SETTABLE
        wrong_audience = name == "aud" and (not allowed_audience or name in suppressed)
        if name in _RESERVED or cognito_own or name.startswith("dev:") or wrong_audience:
            raise LambdaTriggerError(
                "InvalidLambdaResponseException",
                f"a trigger can't set or suppress the claim {name} of the {token_use} token",
            )
    groups = (override.get("groupOverrideDetails") or {}).get("groupsToOverride")
    if groups is not None:
        claims["cognito:groups"] = groups
    claims.update(added)
    for name in suppressed:
        claims.pop(name, None)
    if token_use == "access":
        scopes = [*claims.get("scope", "").split(), *(generation.get("scopesToAdd") or [])]
        refused = generation.get("scopesToSuppress") or []
        claims["scope"] = " ".join(scope for scope in scopes if scope not in refused)


# --- The trigger ----------------------------------------------------------------------------------


class _PreToken:
    """Asks a pool's trigger once per sign-in, for the access and the ID token together."""

    def __init__(self, invoke: Invoke) -> None:
        self._invoke = invoke
        self._sign_ins: set[str] = set()
        self._hosted: dict[str, Hosted] = {}
        self._thread = threading.local()

    def begin(self, sign_in: str, hosted: Hosted) -> None:
        """The sign-in of this `origin_jti` happens at the pool's own pages."""
        self._hosted[sign_in] = hosted

    def hosted(self, sign_in: str) -> Hosted | None:
        """How the sign-in happened there; None for one through the API."""
        return self._hosted.get(sign_in)

    @contextmanager
    def new_password(self) -> Iterator[None]:
        """The tokens that this thread makes in the context follow the choice of a new password."""
        self._thread.new_password = True
        try:
            yield
        finally:
            self._thread.new_password = False

    def override(
        self,
        pool: CognitoIdpUserPool,
        client_id: str,
        user: Any,
        token_use: str,
        claims: Mapping[str, Any],
    ) -> Mapping[str, Any]:
        """The trigger's `claimsAndScopeOverrideDetails`; empty for a pool without trigger.

        Raises:
            LambdaTriggerError: the trigger failed or answered something else.
        """
        config = (pool.extended_config.get("LambdaConfig") or {}).get("PreTokenGenerationConfig")
        if not config:
            return {}
        if config["LambdaVersion"] != "V2_0":
            raise LambdaTriggerError(
                "InvalidParameterException",
                f"the local cloud sends trigger events V2_0, not {config['LambdaVersion']}",
            )
        sign_in = str(claims["origin_jti"])
        # moto makes the access token first, and the ID token right after it in the same thread.
        asked: tuple[str, Mapping[str, Any]] | None = getattr(self._thread, "asked", None)
        self._thread.asked = None
        if token_use == "id" and asked and asked[0] == sign_in:
            return asked[1]
        event = _event(pool, client_id, user, str(claims.get("scope", "")), self._source(sign_in))
        override = self._ask(config["LambdaArn"], pool.arn, event)
        self._thread.asked = (sign_in, override)
        return override

    def _source(self, sign_in: str) -> str:
        again = sign_in in self._sign_ins
        self._sign_ins.add(sign_in)
        if getattr(self._thread, "new_password", False):
            return "TokenGeneration_NewPasswordChallenge"
        if again:
            return "TokenGeneration_RefreshTokens"
        return "TokenGeneration_HostedAuth" if sign_in in self._hosted else "TokenGeneration_Authentication"

    def _ask(self, function_arn: str, pool_arn: str, event: dict[str, Any]) -> Mapping[str, Any]:
        try:
            answer = self._invoke(function_arn, pool_arn, event)
        except FunctionError as error:
            raise LambdaTriggerError(
                "UserLambdaValidationException",
                f"PreTokenGeneration failed with error {error.message}.",
            ) from error
        except Exception as error:
            raise LambdaTriggerError("UnexpectedLambdaException", str(error)) from error
        try:
            override = answer["response"].get("claimsAndScopeOverrideDetails") or {}
            return {name: dict(part) for name, part in override.items() if part}
        except (KeyError, TypeError, AttributeError, ValueError):
            raise LambdaTriggerError("InvalidLambdaResponseException", "Unrecognizable lambda output") from None


def _event(pool: CognitoIdpUserPool, client_id: str, user: Any, scope: str, source: str) -> dict[str, Any]:
    attributes = {name: str(value) for name, value in user.attribute_lookup.items()}
    return {
        "version": "2",
        "triggerSource": source,
        "region": pool.region,
        "userPoolId": pool.id,
        "userName": user.username,
        "callerContext": {"awsSdkVersion": "aws-sdk-unknown-unknown", "clientId": client_id},
        "request": {
            "userAttributes": {
                **attributes,
                "sub": user.id,
                "cognito:user_status": str(getattr(user.status, "value", user.status)),
            },
            "groupConfiguration": {
                "groupsToOverride": sorted(group.group_name for group in user.groups),
                "iamRolesToOverride": [],
                "preferredRole": None,
            },
            "scopes": scope.split(),
        },
        "response": {"claimsAndScopeOverrideDetails": None},
    }


def _respond(trigger: _PreToken) -> Callable[..., dict[str, Any]]:
    respond: Callable[..., dict[str, Any]] = CognitoIdpBackend.respond_to_auth_challenge

    def respond_to_auth_challenge(
        self: CognitoIdpBackend,
        session: str,
        client_id: str,
        challenge_name: str,
        challenge_responses: dict[str, str],
    ) -> dict[str, Any]:
        with trigger.new_password():
            return respond(self, session, client_id, challenge_name, challenge_responses)

    return respond_to_auth_challenge

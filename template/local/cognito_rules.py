"""The rules of a Cognito user pool that moto doesn't keep: who may sign in how, and write what.

moto takes any password proof, code or challenge answer that it can't verify for a right one; here
those ways in are closed, with one line that says which one is open.

Sources: API reference, CreateIdentityProvider, CreateUserPoolDomain, UpdateUserPoolClient and
UpdateUserAttributes; developer guide, "Quotas" and "Specifying attribute mappings".
"""

import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import jwt
from moto.cognitoidp.exceptions import InvalidParameterException, NotAuthorizedError
from moto.cognitoidp.models import (
    CognitoIdpBackend,
    CognitoIdpUserPool,
    CognitoIdpUserPoolAttribute,
    CognitoIdpUserPoolClient,
)
from moto.cognitoidp.utils import check_secret_hash
from moto.core.exceptions import JsonRESTError

from .patching import replaced

FEDERATED = "EXTERNAL_PROVIDER"
"""Status of a user who signs in at an identity provider."""

SELF_SERVICE = "aws.cognito.signin.user.admin"
"""The scope without which a token can't read or change its own user."""

_FLOW_PERMISSIONS = {
    "USER_PASSWORD_AUTH": "ALLOW_USER_PASSWORD_AUTH",
    "ADMIN_USER_PASSWORD_AUTH": "ALLOW_ADMIN_USER_PASSWORD_AUTH",
    "ADMIN_NO_SRP_AUTH": "ALLOW_ADMIN_USER_PASSWORD_AUTH",
    "REFRESH_TOKEN_AUTH": "ALLOW_REFRESH_TOKEN_AUTH",
    "REFRESH_TOKEN": "ALLOW_REFRESH_TOKEN_AUTH",
}
_DEFAULT_FLOWS = ("ALLOW_REFRESH_TOKEN_AUTH",)
_PROVIDER_NAME = re.compile(r"[^_\s]{3,32}")
_DOMAIN = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_RESERVED_IN_DOMAINS = ("amazon", "aws", "cognito")
# The last four AWS would look up at the issuer; nothing is looked up here.
_OIDC_DETAILS = frozenset(
    {
        *("attributes_request_method", "authorize_scopes", "client_id", "client_secret", "oidc_issuer"),
        *("attributes_url", "authorize_url", "jwks_uri", "token_url"),
    }
)
_PROVIDERS = 300  # a user pool, unless AWS raises it

_Method = Callable[..., Any]
_Attributes = list[dict[str, str]]


@contextmanager
def install() -> Iterator[None]:
    """Have moto's user pools keep these rules for as long as the context lasts."""
    backend = CognitoIdpBackend
    with (
        replaced(CognitoIdpUserPool, sign_out=_sign_out, _get_user=_get_user),
        replaced(
            backend,
            **{
                name: _self_service(getattr(backend, name))
                for name in ("get_user", "change_password", "global_sign_out")
            },
        ),
        replaced(
            backend,
            create_identity_provider=_create_provider(backend.create_identity_provider),
            update_identity_provider=_update_provider(backend.update_identity_provider),
            delete_identity_provider=_delete_provider(backend.delete_identity_provider),
            create_user_pool_client=_create_client(backend.create_user_pool_client),
            update_user_pool_client=_update_client,
            create_user_pool_domain=_create_domain(backend.create_user_pool_domain),
        ),
        replaced(
            backend,
            initiate_auth=_initiate_auth(backend.initiate_auth),
            admin_initiate_auth=_admin_initiate_auth(backend.admin_initiate_auth),
            respond_to_auth_challenge=_respond(backend.respond_to_auth_challenge),
            sign_up=_sign_up(backend.sign_up),
            confirm_sign_up=_needs_mail,
            forgot_password=_needs_mail,
            confirm_forgot_password=_needs_mail,
            admin_create_user=_admin_create_user(backend.admin_create_user),
            admin_update_user_attributes=_admin_update(backend.admin_update_user_attributes),
            admin_delete_user_attributes=_admin_delete(backend.admin_delete_user_attributes),
            update_user_attributes=_update(backend.update_user_attributes),
            admin_disable_user=_admin_disable_user(backend.admin_disable_user),
        ),
    ):
        yield


def _client_of(backend: CognitoIdpBackend, client_id: str) -> tuple[CognitoIdpUserPool, Any]:
    for pool in backend.user_pools.values():
        if client_id in pool.clients:
            return pool, pool.clients[client_id]
    raise NotAuthorizedError(f"there is no client {client_id}")


# --- Signing in and out ---------------------------------------------------------------------------


def _check_flow(client: Any, auth_flow: str) -> None:
    permission = _FLOW_PERMISSIONS.get(auth_flow)
    if permission is None:
        raise InvalidParameterException(f"the local cloud can't verify {auth_flow}: use ADMIN_USER_PASSWORD_AUTH")
    if permission not in client.extended_config.get("ExplicitAuthFlows", _DEFAULT_FLOWS):
        raise InvalidParameterException(f"{auth_flow} flow not enabled for this client")


def _check_caller(pool: CognitoIdpUserPool, client: Any, auth_flow: str, parameters: Mapping[str, str]) -> None:
    """The client proves its secret, a refresh token is its own, and a user of a provider has no password here."""
    name = parameters.get("USERNAME", "")
    if auth_flow.startswith("REFRESH"):
        owner = pool.refresh_tokens.get(parameters.get("REFRESH_TOKEN", ""))
        if not owner or owner[0] != client.id:
            raise NotAuthorizedError("Invalid Refresh Token")
        name = owner[1]
    else:
        user = _find(pool, name)
        hides = client.extended_config.get("PreventUserExistenceErrors") == "ENABLED"
        if (user is None and hides) or getattr(user, "status", None) == FEDERATED:
            raise NotAuthorizedError("Incorrect username or password.")
    if client.generate_secret:
        given = parameters.get("SECRET_HASH", "")
        if not given or not check_secret_hash(client.secret, client.id, name, given):
            raise NotAuthorizedError(f"Unable to verify secret hash for client {client.id}")


def _initiate_auth(method: _Method) -> _Method:
    def initiate_auth(self: CognitoIdpBackend, client_id: str, auth_flow: str, auth_parameters: dict[str, str]) -> Any:
        pool, client = _client_of(self, client_id)
        _check_flow(client, auth_flow)
        _check_caller(pool, client, auth_flow, auth_parameters)
        return method(self, client_id, auth_flow, auth_parameters)

    return initiate_auth


def _admin_initiate_auth(method: _Method) -> _Method:
    def admin_initiate_auth(
        self: CognitoIdpBackend,
        user_pool_id: str,
        client_id: str,
        auth_flow: str,
        auth_parameters: dict[str, str],
    ) -> Any:
        client = self.describe_user_pool_client(user_pool_id, client_id)
        _check_flow(client, auth_flow)
        _check_caller(self.describe_user_pool(user_pool_id), client, auth_flow, auth_parameters)
        return method(self, user_pool_id, client_id, auth_flow, auth_parameters)

    return admin_initiate_auth


def _respond(method: _Method) -> _Method:
    def respond_to_auth_challenge(
        self: CognitoIdpBackend,
        session: str,
        client_id: str,
        challenge_name: str,
        challenge_responses: dict[str, str],
    ) -> Any:
        if challenge_name != "NEW_PASSWORD_REQUIRED":
            raise InvalidParameterException(
                f"the local cloud can't verify {challenge_name}: it knows NEW_PASSWORD_REQUIRED"
            )
        if session not in self.sessions:
            raise NotAuthorizedError("Invalid session for the user.")
        username, pool = self.sessions[session]
        named = _find(pool, challenge_responses.get("USERNAME", ""))
        if not named or named is not _find(pool, username):
            raise NotAuthorizedError("Invalid session for the user.")
        return method(self, session, client_id, challenge_name, challenge_responses)

    return respond_to_auth_challenge


def _sign_out(self: CognitoIdpUserPool, username: str) -> None:
    """Revoke every token of the user, by whichever of his names he signed in."""
    user = self._get_user(username) or self.users.get(username)
    for token, owner in list(self.refresh_tokens.items()):
        if owner and _find(self, owner[1]) is user:
            self.refresh_tokens[token] = None
    for token, (_, name) in list(self.access_tokens.items()):
        if _find(self, name) is user:
            del self.access_tokens[token]


def _get_user(self: CognitoIdpUserPool, username: str) -> Any:
    """As moto finds a user, but while others make users too, and by an address in any case where the pool says so."""
    names = self.extended_config.get("UsernameAttributes") or []
    exact = str((self.extended_config.get("UsernameConfiguration") or {}).get("CaseSensitive", True)).lower() == "true"
    wanted = username if exact else (username or "").lower()
    for user in list(self.users.values()) if names else []:
        for name in names:
            value = user.attribute_lookup.get(name)
            if value is not None and (value if exact else value.lower()) == wanted:
                return user
    return self.users.get(username)


def _find(pool: CognitoIdpUserPool, username: str) -> Any:
    return pool._get_user(username) or pool.users.get(username)


def _self_service(method: _Method) -> _Method:
    def judge(self: CognitoIdpBackend, access_token: str, *arguments: Any, **keywords: Any) -> Any:
        _check_scope(self, access_token)
        return method(self, access_token, *arguments, **keywords)

    return judge


def _check_scope(backend: CognitoIdpBackend, access_token: str) -> None:
    if not any(access_token in pool.access_tokens for pool in list(backend.user_pools.values())):
        raise NotAuthorizedError("Invalid Access Token")
    # Issued here, so its signature says nothing more.
    claims = jwt.decode(access_token, options={"verify_signature": False})
    if SELF_SERVICE not in str(claims.get("scope", "")).split():
        raise NotAuthorizedError("Access Token does not have required scopes")


def _admin_disable_user(method: _Method) -> _Method:
    def admin_disable_user(self: CognitoIdpBackend, user_pool_id: str, username: str) -> None:
        method(self, user_pool_id, username)
        self.describe_user_pool(user_pool_id).sign_out(username)

    return admin_disable_user


# --- Signing up -----------------------------------------------------------


def _sign_up(method: _Method) -> _Method:
    def sign_up(
        self: CognitoIdpBackend,
        client_id: str,
        username: str,
        password: str,
        attributes: _Attributes,
    ) -> Any:
        pool, client = _client_of(self, client_id)
        config = pool.extended_config.get("AdminCreateUserConfig") or {}
        if str(config.get("AllowAdminCreateUserOnly", False)).lower() == "true":
            raise NotAuthorizedError("SignUp is not permitted for this user pool")
        names = [attribute["Name"] for attribute in attributes or []]
        _check_known(pool, names)
        _check_writable(client, names)
        return method(self, client_id, username, password, attributes)

    return sign_up


def _needs_mail(*_arguments: Any, **_keywords: Any) -> None:
    """In place of the operations that prove by a mailed code that the address is the user's own."""
    raise InvalidParameterException("the local cloud sends no mail: use AdminConfirmSignUp or AdminSetUserPassword")


# --- Attributes -----------------------------------------------------------------------------------


def _check_known(pool: CognitoIdpUserPool, names: Iterable[str]) -> None:
    for name in names:
        known = name in pool.schema_attributes or not name.startswith(("custom:", "dev:"))
        if not known:
            raise InvalidParameterException(
                f"Attributes did not conform to the schema: {name}: Attribute does not exist in the schema."
            )


def _check_mutable(pool: CognitoIdpUserPool, names: Iterable[str]) -> None:
    for name in names:
        attribute = pool.schema_attributes.get(name)
        if name in ("sub", "identities") or (attribute is not None and not attribute.mutable):
            raise InvalidParameterException(f"user.{name}: Attribute cannot be updated.")


def _check_writable(client: Any, names: Iterable[str]) -> None:
    """Without a list of its own a client writes the standard attributes, and no custom one."""
    standard = CognitoIdpUserPoolAttribute.STANDARD_SCHEMA
    writable = client.extended_config.get("WriteAttributes") or standard
    if not set(names) <= set(writable):
        raise NotAuthorizedError("A client attempted to write unauthorized attribute")


def _admin_create_user(method: _Method) -> _Method:
    def admin_create_user(
        self: CognitoIdpBackend,
        user_pool_id: str,
        username: str,
        message_action: str,
        temporary_password: str,
        attributes: _Attributes,
    ) -> Any:
        pool = self.describe_user_pool(user_pool_id)
        names = [attribute["Name"] for attribute in attributes or []]
        _check_known(pool, names)
        if "identities" in names:
            raise InvalidParameterException("identities: Attribute does not exist in the schema.")
        return method(self, user_pool_id, username, message_action, temporary_password, attributes)

    return admin_create_user


def _admin_update(method: _Method) -> _Method:
    def admin_update_user_attributes(
        self: CognitoIdpBackend, user_pool_id: str, username: str, attributes: _Attributes
    ) -> None:
        _check_update(self.describe_user_pool(user_pool_id), attributes)
        method(self, user_pool_id, username, attributes)

    return admin_update_user_attributes


def _admin_delete(method: _Method) -> _Method:
    def admin_delete_user_attributes(
        self: CognitoIdpBackend, user_pool_id: str, username: str, attributes: list[str]
    ) -> None:
        _check_mutable(self.describe_user_pool(user_pool_id), attributes)
        method(self, user_pool_id, username, attributes)

    return admin_delete_user_attributes


def _update(method: _Method) -> _Method:
    def update_user_attributes(self: CognitoIdpBackend, access_token: str, attributes: _Attributes) -> None:
        _check_scope(self, access_token)
        for pool in self.user_pools.values():
            if access_token in pool.access_tokens:
                client_id, _ = pool.access_tokens[access_token]
                _check_writable(pool.clients[client_id], [x["Name"] for x in attributes])
                _check_update(pool, attributes)
        method(self, access_token, attributes)

    return update_user_attributes


def _check_update(pool: CognitoIdpUserPool, attributes: _Attributes) -> None:
    names = [attribute["Name"] for attribute in attributes]
    _check_known(pool, names)
    _check_mutable(pool, names)


# --- Clients, domains and identity providers ------------------------------------------------------

_writing = threading.RLock()


def _create_client(method: _Method) -> _Method:
    def create_user_pool_client(
        self: CognitoIdpBackend, user_pool_id: str, generate_secret: bool, extended_config: dict[str, Any]
    ) -> Any:
        _check_client(self.describe_user_pool(user_pool_id), extended_config or {})
        return method(self, user_pool_id, generate_secret, extended_config)

    return create_user_pool_client


def _update_client(
    self: CognitoIdpBackend, user_pool_id: str, client_id: str, extended_config: dict[str, Any]
) -> CognitoIdpUserPoolClient:
    """What is not given goes back to its default, as on AWS: who changes one setting has to send all of them."""
    with _writing:
        client = self.describe_user_pool_client(user_pool_id, client_id)
        _check_client(self.describe_user_pool(user_pool_id), extended_config)
        name = client.extended_config.get("ClientName")
        fresh = CognitoIdpUserPoolClient(user_pool_id, client.generate_secret, {"ClientName": name, **extended_config})
        client.extended_config = fresh.extended_config
        return client


def _check_client(pool: CognitoIdpUserPool, config: Mapping[str, Any]) -> None:
    for name in config.get("SupportedIdentityProviders") or []:
        if name != "COGNITO" and name not in pool.identity_providers:
            raise InvalidParameterException(f"The provider {name} does not exist for User Pool {pool.id}.")
    if config.get("AllowedOAuthFlows") and not config.get("CallbackURLs"):
        raise InvalidParameterException("CallbackURLs must be provided when AllowedOAuthFlows are.")


def _create_domain(method: _Method) -> _Method:
    def create_user_pool_domain(
        self: CognitoIdpBackend, user_pool_id: str, domain: str, custom_domain_config: Any = None
    ) -> Any:
        with _writing:
            if custom_domain_config:
                raise InvalidParameterException("the local cloud serves no custom domain: use a prefix")
            if not _DOMAIN.fullmatch(domain) or any(word in domain for word in _RESERVED_IN_DOMAINS):
                raise InvalidParameterException(f"The domain {domain} is malformed or contains a reserved word.")
            if domain in self.user_pool_domains:
                raise InvalidParameterException("Domain already associated with another user pool.")
            if self.describe_user_pool(user_pool_id).domain is not None:
                raise InvalidParameterException(f"User pool {user_pool_id} already has a domain configured.")
            return method(self, user_pool_id, domain, custom_domain_config)

    return create_user_pool_domain


def _create_provider(method: _Method) -> _Method:
    def create_identity_provider(self: CognitoIdpBackend, user_pool_id: str, name: str, extended_config: Any) -> Any:
        with _writing:
            pool = self.describe_user_pool(user_pool_id)
            if not _PROVIDER_NAME.fullmatch(name):
                raise InvalidParameterException(f"The provider name {name} is malformed.")
            if name in pool.identity_providers:
                raise JsonRESTError("DuplicateProviderException", f"A provider {name} already exists in this pool.")
            if len(pool.identity_providers) >= _PROVIDERS:
                raise JsonRESTError("LimitExceededException", f"A user pool has at most {_PROVIDERS} providers.")
            _check_provider(pool, extended_config)
            return method(self, user_pool_id, name, extended_config)

    return create_identity_provider


def _update_provider(method: _Method) -> _Method:
    def update_identity_provider(self: CognitoIdpBackend, user_pool_id: str, name: str, extended_config: Any) -> Any:
        with _writing:
            provider = self.describe_identity_provider(user_pool_id, name)
            given = {key: value for key, value in extended_config.items() if value is not None}
            _check_provider(self.describe_user_pool(user_pool_id), {**provider.extended_config, **given})
            return method(self, user_pool_id, name, given)

    return update_identity_provider


def _delete_provider(method: _Method) -> _Method:
    def delete_identity_provider(self: CognitoIdpBackend, user_pool_id: str, name: str) -> None:
        with _writing:
            # Whether AWS refuses this too is not documented; who keeps this order is right either way.
            for client in self.describe_user_pool(user_pool_id).clients.values():
                if name in (client.extended_config.get("SupportedIdentityProviders") or []):
                    raise InvalidParameterException(f"The provider {name} is still supported by client {client.id}.")
            method(self, user_pool_id, name)

    return delete_identity_provider


def _check_provider(pool: CognitoIdpUserPool, config: Mapping[str, Any]) -> None:
    if config.get("ProviderType") != "OIDC":
        raise InvalidParameterException(f"the local cloud knows OIDC providers, not {config.get('ProviderType')}")
    if missing := sorted(_OIDC_DETAILS - (config.get("ProviderDetails") or {}).keys()):
        raise InvalidParameterException(f"ProviderDetails lacks {', '.join(missing)}.")
    mapped = [name for name in config.get("AttributeMapping") or {} if name != "username"]
    _check_known(pool, mapped)
    if "identities" in mapped or "sub" in mapped:
        raise InvalidParameterException("sub and identities can't be mapped.")


def check_mapped(pool: CognitoIdpUserPool, client: Any, attributes: Iterable[str]) -> None:
    """ValueError where a provider may not set one of the attributes in a sign-in of this client."""
    try:
        _check_known(pool, attributes)
        _check_mutable(pool, attributes)
        _check_writable(client, attributes)
    except JsonRESTError as error:
        raise ValueError(error.message) from None

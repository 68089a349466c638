"""The rules of a Cognito user pool that moto doesn't keep: who may sign in how, and write what.

moto takes any password proof, code or challenge answer that it can't verify for a right one; here
those ways in are closed, with one line that says which one is open.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from moto.cognitoidp.exceptions import InvalidParameterException, NotAuthorizedError
from moto.cognitoidp.models import (
    CognitoIdpBackend,
    CognitoIdpUserPool,
    CognitoIdpUserPoolAttribute,
)

from .patching import replaced

_FLOW_PERMISSIONS = {
    "USER_PASSWORD_AUTH": "ALLOW_USER_PASSWORD_AUTH",
    "ADMIN_USER_PASSWORD_AUTH": "ALLOW_ADMIN_USER_PASSWORD_AUTH",
    "ADMIN_NO_SRP_AUTH": "ALLOW_ADMIN_USER_PASSWORD_AUTH",
    "REFRESH_TOKEN_AUTH": "ALLOW_REFRESH_TOKEN_AUTH",
    "REFRESH_TOKEN": "ALLOW_REFRESH_TOKEN_AUTH",
}
_DEFAULT_FLOWS = ("ALLOW_REFRESH_TOKEN_AUTH",)

_Method = Callable[..., Any]
_Attributes = list[dict[str, str]]


@contextmanager
def install() -> Iterator[None]:
    """Have moto's user pools keep these rules for as long as the context lasts."""
    backend = CognitoIdpBackend
    with (
        replaced(CognitoIdpUserPool, sign_out=_sign_out),
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


def _initiate_auth(method: _Method) -> _Method:
    def initiate_auth(self: CognitoIdpBackend, client_id: str, auth_flow: str, auth_parameters: dict[str, str]) -> Any:
        _check_flow(_client_of(self, client_id)[1], auth_flow)
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
        _check_flow(self.describe_user_pool_client(user_pool_id, client_id), auth_flow)
        if auth_flow.startswith("REFRESH"):
            token = auth_parameters.get("REFRESH_TOKEN", "")
            if not self.describe_user_pool(user_pool_id).refresh_tokens.get(token):
                raise NotAuthorizedError("Invalid Refresh Token")
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


def _find(pool: CognitoIdpUserPool, username: str) -> Any:
    return pool._get_user(username) or pool.users.get(username)


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
        if name == "sub" or (attribute is not None and not attribute.mutable):
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
        _check_known(pool, [attribute["Name"] for attribute in attributes or []])
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

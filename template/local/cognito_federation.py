"""A user pool as the client of other identity providers: the browser goes there and comes back with a code.

The pool redeems it with the client secret that it has at the provider, verifies the ID token, and
keeps a user `<provider>_<sub>` whose attribute `identities` says where it comes from.

Sources: Cognito developer guide, "Using OIDC identity providers with a user pool" (client_secret_post,
userInfo) and "Specifying attribute mappings" (mapped attributes are mutable, and writable by the
client); the form of `identities` is that of the developer guide's example of an ID token.
"""

import json
import secrets
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import jwt
import urllib3
from moto.cognitoidp.models import CognitoIdpIdentityProvider, CognitoIdpUser, CognitoIdpUserPool
from moto.cognitoidp.models import cognitoidp_backends as backends

from .cognito_rules import FEDERATED, check_mapped
from .gate import Gate
from .managed_login import at_loopback
from .oauth import Asked, OneTime, PageError, RedirectError, same
from .operations import Call, ServiceError

_TIMEOUT_SECONDS = 10.0
_LINKED = "federation_links"


@dataclass(frozen=True)
class _Departure:
    """Somebody who went to a provider. binding: what their browser holds."""

    asked: Asked
    provider: str
    nonce: str
    binding: str


class RelyingParty:
    """What the pools of one Region do at their identity providers."""

    def __init__(self, region: str) -> None:
        self._region = region
        self._departures: OneTime[_Departure] = OneTime()
        self._http = urllib3.PoolManager(retries=False, timeout=_TIMEOUT_SECONDS)
        self._profiles = threading.Lock()

    def depart(self, asked: Asked, provider: str, callback: str) -> tuple[str, str]:
        """The provider's address to go to, and what the browser has to bring back in a cookie."""
        details = asked.pool.identity_providers[provider].extended_config["ProviderDetails"]
        departure = _Departure(asked, provider, secrets.token_urlsafe(24), secrets.token_urlsafe(24))
        parameters = {
            "client_id": details["client_id"],
            "redirect_uri": callback,
            "scope": details["authorize_scopes"],
            "response_type": "code",
            "state": self._departures.keep(departure),
            "nonce": departure.nonce,
        }
        return f"{details['authorize_url']}?{urlencode(parameters)}", departure.binding

    def arrive(
        self, pool: CognitoIdpUserPool, parameters: Mapping[str, str], binding: str, callback: str, loopback: str
    ) -> tuple[Asked, str]:
        """What was asked for at first, and the name of the user who came back.

        Args:
            binding: what the browser brought back. callback: this pool's own address, as on AWS.
            loopback: where the local cloud is.

        Raises:
            PageError: nobody left for this pool with this state in this browser.
            RedirectError: the provider, its token or the user is not in order.
        """
        departure = self._departures.take(parameters.get("state", ""))
        if departure is None or departure.asked.pool is not pool:
            raise PageError("invalid_request", "the state is not known, or was used already")
        if not same(departure.binding, binding):
            raise PageError("invalid_request", "the state was given to another browser")
        asked, provider = departure.asked, pool.identity_providers.get(departure.provider)
        if provider is None:
            raise RedirectError(asked, "invalid_request", "the identity provider is gone")
        if "code" not in parameters:
            raise RedirectError(
                asked, "invalid_request", f"{provider.name} Error - {parameters.get('error', 'no code')}"
            )
        details = {
            name: at_loopback(value, self._region, loopback) if name.endswith(("_url", "_uri")) else value
            for name, value in provider.extended_config["ProviderDetails"].items()
        }
        tokens = self._redeem(asked, provider.name, details, parameters["code"], callback)
        claims = self._verified(asked, details, str(tokens.get("id_token", "")), departure.nonce)
        claims |= self._user_info(asked, details, str(tokens.get("access_token", "")), str(claims["sub"]))
        return asked, self._profile(asked, provider, claims)

    def _redeem(
        self, asked: Asked, name: str, details: Mapping[str, str], code: str, callback: str
    ) -> Mapping[str, Any]:
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": callback,
            "client_id": details["client_id"],
            "client_secret": details["client_secret"],
        }
        try:
            answer = self._http.request("POST", details["token_url"], fields=form, encode_multipart=False)
            document = json.loads(answer.data)
        except (urllib3.exceptions.HTTPError, ValueError):
            raise RedirectError(asked, "invalid_request", "Timeout occurred in calling IdP token endpoint") from None
        if answer.status != 200 or not isinstance(document, dict):
            raise RedirectError(asked, "invalid_request", f"{name} Error - {answer.status} error getting token")
        return document

    def _verified(self, asked: Asked, details: Mapping[str, str], token: str, nonce: str) -> dict[str, Any]:
        try:
            key_id = jwt.get_unverified_header(token).get("kid")
            document = json.loads(self._http.request("GET", details["jwks_uri"]).data)
            key = next(key for key in document["keys"] if key["kid"] == key_id)
            claims: dict[str, Any] = jwt.decode(
                token,
                jwt.PyJWK(key, algorithm="RS256").key,
                algorithms=["RS256"],
                issuer=details["oidc_issuer"],
                audience=details["client_id"],
                options={"require": ["exp", "iat", "iss", "sub", "aud", "nonce"]},
            )
        except (jwt.PyJWTError, urllib3.exceptions.HTTPError, ValueError, KeyError, TypeError, StopIteration):
            raise RedirectError(asked, "invalid_request", "Bad id_token") from None
        if not same(str(claims["nonce"]), nonce):
            raise RedirectError(asked, "invalid_request", "Bad id_token nonce")
        return claims

    def _user_info(self, asked: Asked, details: Mapping[str, str], access_token: str, subject: str) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {access_token}"}
        try:
            answer = self._http.request("GET", details["attributes_url"], headers=headers)
            document = json.loads(answer.data) if answer.status == 200 else {}
        except (urllib3.exceptions.HTTPError, ValueError):
            document = {}
        if not isinstance(document, dict) or document.get("sub") != subject:
            raise RedirectError(asked, "invalid_request", "attributes_url gave no attributes of this user")
        return document

    def _profile(self, asked: Asked, provider: CognitoIdpIdentityProvider, claims: Mapping[str, Any]) -> str:
        """The user's name in the pool, made or brought up to date."""
        pool, subject = asked.pool, str(claims["sub"])
        mapping = {**provider.extended_config["AttributeMapping"]}
        mapping.pop("username", None)
        attributes = {name: _text(claims[claim]) for name, claim in mapping.items() if claim in claims}
        try:
            check_mapped(pool, pool.clients[asked.client_id], attributes)
        except ValueError as error:
            raise RedirectError(asked, "invalid_request", str(error)) from None
        with self._profiles:
            name = _links(pool).get((provider.name, subject), f"{provider.name}_{subject}")
            user = pool.users.get(name) or _new_user(pool, provider.name, subject, name)
            user.update_attributes([{"Name": key, "Value": value} for key, value in attributes.items()])
        if not user.enabled:
            raise RedirectError(asked, "invalid_request", "User is not enabled")
        return name


def _new_user(pool: CognitoIdpUserPool, provider: str, subject: str, name: str) -> CognitoIdpUser:
    # Nobody knows the password, and the API takes none of such a user.
    attributes = [{"Name": "email_verified", "Value": "false"}]
    user = CognitoIdpUser(pool.id, name, secrets.token_urlsafe(32), FEDERATED, attributes)
    user.update_attributes([{"Name": "identities", "Value": json.dumps([_identity(provider, subject, primary=True)])}])
    pool.users[name] = user
    group = f"{pool.id}_{provider}"
    if group not in pool.groups:
        pool.backend.create_group(pool.id, group, "Autogenerated group for users who sign in at a provider", "", 0)
    pool.backend.admin_add_user_to_group(pool.id, group, name)
    return user


def _identity(provider: str, subject: str, *, primary: bool) -> dict[str, Any]:
    return {
        "userId": subject,
        "providerName": provider,
        "providerType": "OIDC",
        "issuer": None,
        "primary": primary,
        "dateCreated": int(time.time() * 1000),
    }


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


# --- Linked users ---------------------------------------------------------------------------------


def _links(pool: CognitoIdpUserPool) -> dict[tuple[str, str], str]:
    """(provider, subject) -> name of the user that it was linked to."""
    links: dict[tuple[str, str], str] = pool.__dict__.setdefault(_LINKED, {})
    return links


def register(gate: Gate) -> None:
    """Answer AdminLinkProviderForUser, which moto lacks."""

    def link(call: Call) -> dict[str, Any]:
        pool = backends[gate.account][call.region].user_pools.get(call.params["UserPoolId"])
        if pool is None:
            raise ServiceError("ResourceNotFoundException", "there is no such user pool")
        source, destination = call.params["SourceUser"], call.params["DestinationUser"]
        provider, subject = source["ProviderName"], source["ProviderAttributeValue"]
        name = destination["ProviderAttributeValue"]
        if destination["ProviderName"] != "Cognito":
            name = f"{destination['ProviderName']}_{name}"
        user = pool.users.get(name)
        if user is None or provider not in pool.identity_providers:
            raise ServiceError("ResourceNotFoundException", "there is no such user or provider")
        if source.get("ProviderAttributeName") != "Cognito_Subject" or f"{provider}_{subject}" in pool.users:
            raise ServiceError(
                "InvalidParameterException", "expected Cognito_Subject of a user that is not in the pool"
            )
        known = json.loads(user.attribute_lookup.get("identities", "[]"))
        identities = [*known, _identity(provider, subject, primary=False)]
        user.update_attributes([{"Name": "identities", "Value": json.dumps(identities)}])
        _links(pool)[provider, subject] = name
        return {}

    gate.handle("cognito-idp", "AdminLinkProviderForUser", link)

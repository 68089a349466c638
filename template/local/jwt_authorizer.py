"""AgentCore's custom JWT authorizer: does a bearer token pass what a runtime's configuration asks?

Source: AgentCore developer guide, "Authenticate and authorize with Inbound Auth": `allowedClients`
is compared with the claim `client_id`, `allowedAudience` with `aud`, `allowedScopes` with `scope`;
what is configured has to hold together. RS256 is the only algorithm here.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jwt

FetchKeys = Callable[[str], Mapping[str, Any]]
"""Issuer URL -> its JSON Web Key Set; LookupError for an issuer that there isn't."""

_DISCOVERY = "/.well-known/openid-configuration"


class TokenRefused(Exception):
    """The token doesn't pass; the message says why and quotes nothing of the token."""


@dataclass(frozen=True)
class Identity:
    """Whose token it is, once it has passed."""

    subject: str
    client_id: str
    tenant: str | None


def authorize(configuration: Mapping[str, Any], authorization: str | None, fetch_keys: FetchKeys) -> Identity:
    """The identity of the request's bearer token.

    Args:
        configuration: the runtime's `customJWTAuthorizer` as the control API returns it.
        authorization: the request's Authorization header.

    Raises:
        TokenRefused: there is no token, or it doesn't pass.
    """
    scheme, _, token = (authorization or "").strip().partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise TokenRefused("there is no bearer token")
    claims = _verified(token.strip(), _issuer(configuration), fetch_keys)
    _check_member(configuration.get("allowedClients"), [claims.get("client_id")], "client_id")
    _check_member(configuration.get("allowedAudience"), _as_list(claims.get("aud")), "aud")
    scopes = str(claims.get("scope", "")).split()
    _check_member(configuration.get("allowedScopes"), scopes, "scope")
    for rule in configuration.get("customClaims") or []:
        _check_claim(rule, claims)
    tenant = claims.get("tenant_id")
    return Identity(
        subject=str(claims["sub"]),
        client_id=str(claims.get("client_id", "")),
        tenant=tenant if isinstance(tenant, str) else None,
    )


def _issuer(configuration: Mapping[str, Any]) -> str:
    url = str(configuration["discoveryUrl"])
    if not url.endswith(_DISCOVERY):
        raise TokenRefused(f"the runtime's discovery URL doesn't end with {_DISCOVERY}")
    return url.removesuffix(_DISCOVERY)


def _verified(token: str, issuer: str, fetch_keys: FetchKeys) -> dict[str, Any]:
    try:
        key_id = jwt.get_unverified_header(token).get("kid")
        keys = [key for key in fetch_keys(issuer)["keys"] if key["kid"] == key_id]
        if not keys:
            raise TokenRefused("its issuer has no such key")
        return dict(
            jwt.decode(
                token,
                jwt.PyJWK(keys[0], algorithm="RS256").key,
                algorithms=["RS256"],
                issuer=issuer,
                options={"require": ["exp", "iat", "iss", "sub"], "verify_aud": False},
            )
        )
    except jwt.ExpiredSignatureError as error:
        raise TokenRefused("it has expired") from error
    except jwt.InvalidIssuerError as error:
        raise TokenRefused("its issuer is not the runtime's") from error
    except jwt.PyJWTError as error:
        raise TokenRefused("it is no token of the issuer") from error
    except LookupError as error:
        raise TokenRefused("its issuer can't be found") from error


def _check_member(allowed: Sequence[str] | None, values: Sequence[Any], claim: str) -> None:
    if allowed and not set(allowed) & {value for value in values if isinstance(value, str)}:
        raise TokenRefused(f"its claim {claim} is not allowed")


def _check_claim(rule: Mapping[str, Any], claims: Mapping[str, Any]) -> None:
    name = rule["inboundTokenClaimName"]
    wanted = rule["authorizingClaimMatchValue"]
    match = wanted["claimMatchValue"]
    value = claims.get(name)
    operator = wanted["claimMatchOperator"]
    if operator == "EQUALS":
        holds = isinstance(value, str) and value == match["matchValueString"]
    elif operator == "CONTAINS":
        holds = isinstance(value, list) and match["matchValueString"] in value
    else:
        holds = isinstance(value, list) and bool(set(match["matchValueStringList"]) & set(value))
    if not holds:
        raise TokenRefused(f"its claim {name} is not what the runtime asks for")


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]

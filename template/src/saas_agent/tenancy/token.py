"""Verification of the caller's tokens.

AgentCore's authorizer has verified the access token already; it is verified again because a misconfigured authorizer
must not be fatal.
"""

import json
import threading
import time
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import jwt

from saas_agent.errors import (
    INTERNAL,
    INVALID_TOKEN,
    NO_TENANT,
    TENANT_NOT_ACTIVE,
    TOKEN_EXPIRED,
    ConfigurationError,
    Refused,
)
from saas_agent.tenancy.tenant import SUBJECT, TenantContext, valid_tenant_id

FetchKeys = Callable[[str], Mapping[str, Any]]
"""issuer -> its JWKS document (`{"keys": [...]}`)."""

ALGORITHM = "RS256"
ID_TOKEN_HEADER = "X-Amzn-Bedrock-AgentCore-Runtime-Custom-Id-Token"

# A key is looked up again when a token names one that is not known yet, but no more often than this: somebody who
# sends tokens with made-up key ids must not make the agent hammer its identity provider.
_REFETCH_SECONDS = 60.0


_FETCH_SECONDS = 5.0


def fetch_keys(issuer: str) -> Mapping[str, Any]:
    """The issuer's JWKS document over HTTPS, where Cognito publishes it. Raises OSError or ValueError."""
    if not issuer.startswith("https://"):
        raise ValueError("the issuer is not an https address")
    with urllib.request.urlopen(f"{issuer}/.well-known/jwks.json", timeout=_FETCH_SECONDS) as answer:
        document: Mapping[str, Any] = json.load(answer)
    return document


@dataclass(frozen=True)
class VerifiedToken:
    """A token that passed every check. `raw` is for those that verify it themselves; it is kept out of every repr.

    username, groups: the user's name in the pool that issued an access token, and its groups there. id_token: the ID
    token that came with it and is of the same user, where STS is shown that; otherwise empty.
    """

    tenant: TenantContext
    raw: str = field(repr=False)
    username: str = ""
    groups: frozenset[str] = frozenset()
    id_token: str = field(default="", repr=False)


class SigningKeys:
    """The issuer's public keys, cached for the life of the process and looked up again when a new one appears."""

    def __init__(self, issuer: str, fetch: FetchKeys, clock: Callable[[], float] = time.monotonic) -> None:
        self._issuer = issuer
        self._fetch = fetch
        self._clock = clock
        self._lock = threading.Lock()
        self._keys: dict[str, jwt.PyJWK] = {}
        self._fetched_at: float | None = None

    def get(self, key_id: str) -> jwt.PyJWK | None:
        """The key of this id, or None where the issuer has none; Refused with internal where it can't be asked."""
        with self._lock:
            if key_id not in self._keys and self._may_fetch():
                try:
                    keys = jwt.PyJWKSet.from_dict(dict(self._fetch(self._issuer))).keys
                except (OSError, ValueError, jwt.PyJWTError) as error:
                    raise Refused(INTERNAL, f"the issuer's keys: {type(error).__name__}") from None
                self._keys = {key.key_id: key for key in keys if key.key_id and key.key_type == "RSA"}
                self._fetched_at = self._clock()
            return self._keys.get(key_id)

    def _may_fetch(self) -> bool:
        return self._fetched_at is None or self._clock() - self._fetched_at >= _REFETCH_SECONDS


class TokenVerifier:
    """Verifies tokens of one issuer and one app client."""

    def __init__(self, issuer: str, client_id: str, fetch_keys: FetchKeys, sts_token: str = "access") -> None:
        """`sts_token`: which of a caller's tokens STS is shown; ConfigurationError for another than access or id."""
        if sts_token not in ("access", "id"):
            raise ConfigurationError(f"STS_TOKEN is {sts_token!r}; expected access or id; deploy with StsToken set")
        self._takes_id_token = sts_token == "id"
        self._issuer = issuer
        self._client_id = client_id
        self._keys = SigningKeys(issuer, fetch_keys)

    def caller(self, headers: Mapping[str, str] | None) -> VerifiedToken:
        """Who sent a request with these headers; Refused as for `access_token`.

        Where STS is shown the ID token, every request has to bring the caller's own: no answer to an earlier one spares
        a later one that.
        """
        caller = self.access_token(bearer(headers))
        if not self._takes_id_token:
            return caller
        return replace(caller, id_token=self.id_token(_id_token(headers), caller).raw)

    def access_token(self, raw: str) -> VerifiedToken:
        """A Cognito access token -> who is calling.

        Raises Refused with invalid_token, token_expired, no_tenant (no or malformed tenant claim) or tenant_not_active.
        """
        claims = self._claims(raw, token_use="access", required=("client_id", "jti"))
        if claims["client_id"] != self._client_id:
            raise Refused(INVALID_TOKEN, "the access token is for another client")
        groups = claims.get("cognito:groups")
        return VerifiedToken(
            _tenant(claims),
            raw,
            username=str(claims.get("username", "")),
            groups=frozenset(map(str, groups)) if isinstance(groups, list) else frozenset(),
        )

    def id_token(self, raw: str, access: VerifiedToken) -> VerifiedToken:
        """The ID token that goes with an access token: same subject, same tenant; Refused otherwise."""
        tenant = _tenant(self._claims(raw, token_use="id", required=()))
        if (tenant.tenant_id, tenant.subject) != (access.tenant.tenant_id, access.tenant.subject):
            raise Refused(INVALID_TOKEN, "the ID token is of another subject or tenant than the access token")
        return VerifiedToken(tenant, raw)

    def _claims(self, raw: str, *, token_use: str, required: tuple[str, ...]) -> dict[str, Any]:
        try:
            header = jwt.get_unverified_header(raw)
            key_id = header.get("kid")
            if header.get("alg") != ALGORITHM or not isinstance(key_id, str):
                raise Refused(INVALID_TOKEN, "the token's header names another algorithm or no key")
            key = self._keys.get(key_id)
            if key is None:
                raise Refused(INVALID_TOKEN, "the token's key is none of the issuer's")
            claims: dict[str, Any] = jwt.decode(
                raw,
                key,
                algorithms=[ALGORITHM],
                issuer=self._issuer,
                audience=self._client_id,
                # iat is required but not compared: the issuer's clock may be a little ahead, and exp decides.
                options={
                    "require": ["exp", "iat", "iss", "sub", "aud", "token_use", *required],
                    "verify_iat": False,
                },
            )
        except jwt.ExpiredSignatureError:
            raise Refused(TOKEN_EXPIRED) from None
        except jwt.PyJWTError as error:
            raise Refused(INVALID_TOKEN, f"{type(error).__name__} in the {token_use} token") from None
        if claims["token_use"] != token_use:
            raise Refused(INVALID_TOKEN, f"expected a token for use as {token_use}")
        return claims


def _tenant(claims: Mapping[str, Any]) -> TenantContext:
    tenant_id, tier, subject = claims.get("tenant_id"), claims.get("tier"), claims["sub"]
    if not isinstance(tenant_id, str) or not valid_tenant_id(tenant_id) or not isinstance(tier, str) or not tier:
        raise Refused(NO_TENANT, "the token has no well-formed tenant_id and tier")
    # The tag that STS takes and the tenant that the code takes come from one function; torn apart they are nobody's.
    tags = claims.get("https://aws.amazon.com/tags")
    if tags is not None and (not isinstance(tags, dict) or tags.get("principal_tags") != {"TenantId": [tenant_id]}):
        raise Refused(NO_TENANT, "the token's session tags are not exactly its tenant")
    if not isinstance(subject, str) or SUBJECT.fullmatch(subject) is None:
        raise Refused(INVALID_TOKEN, "the token's subject is malformed")
    if claims.get("tenant_status") != "ACTIVE":
        raise Refused(TENANT_NOT_ACTIVE, "the token was issued for a tenant that is not active")
    return TenantContext(tenant_id=tenant_id, tier=tier, subject=subject, expires_at=int(claims["exp"]))


def bearer(headers: Mapping[str, str] | None) -> str:
    """The bearer token of the Authorization header; Refused with invalid_token where there is none."""
    scheme, _, token = _header(headers, "Authorization").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise Refused(INVALID_TOKEN, "no bearer token")
    return token.strip()


def _id_token(headers: Mapping[str, str] | None) -> str:
    """The ID token in its own header; Refused with invalid_token where there is none."""
    if token := _header(headers, ID_TOKEN_HEADER).strip():
        return token
    raise Refused(INVALID_TOKEN, f"STS_TOKEN is id, but there is no {ID_TOKEN_HEADER} header")


def _header(headers: Mapping[str, str] | None, name: str) -> str:
    """The header's value; empty where it is missing, and where it stands twice, in different spelling: which of them
    whoever came before has verified isn't known.
    """
    values = [value for key, value in (headers or {}).items() if key.lower() == name.lower()]
    return values[0] if len(values) == 1 else ""

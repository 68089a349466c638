"""What an app client asks a user pool's domain for, checked before anybody signs in.

Sources: Cognito developer guide, "Authorize endpoint" and "Using PKCE in authorization code
grants"; RFC 6749 and RFC 7636.
"""

import base64
import hashlib
import hmac
import re
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar
from urllib.parse import urlencode

from moto.cognitoidp.models import CognitoIdpUserPool
from werkzeug.datastructures import MultiDict

GOOD_FOR_SECONDS = 300.0
"""How long a code is good, and how long a sign-in at a provider may take."""

_CHALLENGE = re.compile(r"[A-Za-z0-9_-]{43}")
_VERIFIER = re.compile(r"[A-Za-z0-9._~-]{43,128}")

Value = TypeVar("Value")


class PageError(Exception):
    """Told to the person in front of the browser: it is not known whether the client may be told."""

    def __init__(self, error: str, description: str) -> None:
        super().__init__(f"{error}: {description}")
        self.error = error
        self.description = description


class RedirectError(PageError):
    """Told to the client, at its own address."""

    def __init__(self, asked: "Asked", error: str, description: str) -> None:
        super().__init__(error, description)
        self.asked = asked

    @property
    def location(self) -> str:
        """Where the browser goes."""
        return self.asked.back(error=self.error, error_description=self.description)


@dataclass(frozen=True)
class Asked:
    """A request to the authorize endpoint that passed every check.

    scope: space separated, each one of the client's. challenge: SHA-256 of the verifier, base64url.
    provider: the identity provider that was asked for, or None.
    """

    pool: CognitoIdpUserPool = field(repr=False)
    client_id: str
    redirect_uri: str
    scope: str
    state: str | None = field(repr=False)
    nonce: str | None = field(repr=False)
    challenge: str | None = field(repr=False)
    provider: str | None

    def back(self, **parameters: str) -> str:
        """The client's address with these parameters, and its state."""
        if self.state is not None:
            parameters["state"] = self.state
        joint = "&" if "?" in self.redirect_uri else "?"
        return f"{self.redirect_uri}{joint}{urlencode(parameters)}"

    def verified_by(self, verifier: str | None) -> bool:
        """Whether the verifier goes with the challenge; without a challenge there must be none."""
        if self.challenge is None or verifier is None:
            return self.challenge is None and verifier is None
        if not _VERIFIER.fullmatch(verifier):
            return False
        digest = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=")
        return same(digest.decode(), self.challenge)


def read(pool: CognitoIdpUserPool, parameters: "MultiDict[str, str]") -> Asked:
    """The checked request.

    Raises:
        PageError: client or address is not known, so nobody can be told there.
        RedirectError: anything else is wrong.
    """
    repeated = [name for name, values in parameters.lists() if len(values) > 1]
    if repeated:
        raise PageError("invalid_request", f"the parameter {repeated[0]} stands twice")
    client = pool.clients.get(parameters.get("client_id", ""))
    if client is None:
        raise PageError("invalid_client", "this user pool has no such client")
    config = client.extended_config
    redirect_uri = parameters.get("redirect_uri", "")
    if redirect_uri not in (config.get("CallbackURLs") or []):
        raise PageError("redirect_mismatch", "the redirect_uri is none of the client's callback URLs")
    asked = Asked(
        pool=pool,
        client_id=client.id,
        redirect_uri=redirect_uri,
        scope=parameters.get("scope") or " ".join(config.get("AllowedOAuthScopes") or []),
        state=parameters.get("state"),
        nonce=parameters.get("nonce"),
        challenge=parameters.get("code_challenge"),
        provider=parameters.get("identity_provider"),
    )
    _check(asked, parameters, config)
    return asked


def same(given: str, kept: str) -> bool:
    """Whether two secrets are the same, in a time that tells nothing of either."""
    return hmac.compare_digest(given.encode(), kept.encode())


def providers(asked: Asked) -> list[str]:
    """Where the client's users may sign in; `COGNITO` is the pool itself."""
    return list(asked.pool.clients[asked.client_id].extended_config.get("SupportedIdentityProviders") or [])


def _check(asked: Asked, parameters: "MultiDict[str, str]", config: dict[str, Any]) -> None:
    by_code = "code" in (config.get("AllowedOAuthFlows") or [])
    if str(config.get("AllowedOAuthFlowsUserPoolClient")).lower() != "true" or not by_code:
        raise RedirectError(asked, "unauthorized_client", "the client may not use the authorization code grant")
    if parameters.get("response_type") != "code":
        raise RedirectError(asked, "unsupported_response_type", "expected response_type=code")
    if not set(asked.scope.split()) <= set(config.get("AllowedOAuthScopes") or []):
        raise RedirectError(asked, "invalid_scope", "a scope is not one of the client's")
    method = parameters.get("code_challenge_method")
    if (asked.challenge is None) != (method is None) or method not in (None, "S256"):
        raise RedirectError(asked, "invalid_request", "expected code_challenge with code_challenge_method=S256")
    if asked.challenge is not None and not _CHALLENGE.fullmatch(asked.challenge):
        raise RedirectError(asked, "invalid_request", "the code_challenge is malformed")
    if asked.provider is not None and asked.provider not in providers(asked):
        raise RedirectError(asked, "invalid_request", "the client doesn't support this identity provider")


class OneTime(Generic[Value]):
    """Values behind keys that can't be guessed, each given out once and for a short time; thread-safe."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._kept: dict[str, tuple[float, Value]] = {}

    def keep(self, value: Value) -> str:
        """The key under which the value can be taken."""
        key = secrets.token_urlsafe(32)
        now = self._clock()
        with self._lock:
            self._kept = {k: kept for k, kept in self._kept.items() if now < kept[0]}
            self._kept[key] = (now + GOOD_FOR_SECONDS, value)
        return key

    def take(self, key: str) -> Value | None:
        """The value, which is gone then; None where it is gone, too old, or never was."""
        with self._lock:
            kept = self._kept.pop(key, None)
        return kept[1] if kept is not None and self._clock() < kept[0] else None

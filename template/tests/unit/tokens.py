"""Signed tokens for unit tests: a key of our own, and claims that are right unless a test says otherwise."""

import time
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa

ISSUER = "https://cognito-idp.us-east-1.amazonaws.com/us-east-1_unit"
CLIENT = "client-1"
KEY_ID = "key-1"
SUBJECT = "0a1b2c3d-0000-4000-8000-000000000001"

_PRIVATE = rsa.generate_private_key(public_exponent=65537, key_size=2048)


def jwks(private: rsa.RSAPrivateKey = _PRIVATE, key_id: str = KEY_ID) -> dict[str, Any]:
    """The JWKS document of the key."""
    key = jwt.algorithms.RSAAlgorithm.to_jwk(private.public_key(), as_dict=True)
    return {"keys": [{**key, "kid": key_id, "use": "sig", "alg": "RS256"}]}


def claims(**changed: Any) -> dict[str, Any]:
    """Claims of an access token of acme; a change to None leaves the claim out."""
    now = int(time.time())
    whole = {
        "iss": ISSUER,
        "aud": CLIENT,
        "client_id": CLIENT,
        "token_use": "access",
        "sub": SUBJECT,
        "jti": "j",
        "iat": now,
        "exp": now + 600,
        "tenant_id": "acme",
        "tier": "basic",
        "tenant_status": "ACTIVE",
        **changed,
    }
    return {name: value for name, value in whole.items() if value is not None}


def signed(
    payload: dict[str, Any],
    *,
    private: Any = _PRIVATE,
    algorithm: str = "RS256",
    headers: dict[str, Any] | None = None,
) -> str:
    """The token."""
    return jwt.encode(payload, private, algorithm=algorithm, headers={"kid": KEY_ID, **(headers or {})})

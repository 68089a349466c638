"""Signature version 4: is a request signed by whom it says, unaltered, and in time?

Both forms: the Authorization header and presigned links. Source of the rules: AWS "Signature
Version 4 signing process" (IAM User Guide) and "Authenticating Requests" (Amazon S3 API Reference).
"""

import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import Enum
from urllib.parse import quote, unquote

from botocore.utils import normalize_url_path

ALGORITHM = "AWS4-HMAC-SHA256"
SKEW = timedelta(minutes=15)
LONGEST_LINK_SECONDS = 7 * 24 * 3600
_EMPTY = hashlib.sha256(b"").hexdigest()
_UNSIGNED = ("UNSIGNED-PAYLOAD", "STREAMING-UNSIGNED-PAYLOAD-TRAILER")


class Fault(Enum):
    """What is wrong with a request's authentication."""

    MISSING = "the request is not signed"
    INCOMPLETE = "the signature's parts are missing or malformed"
    UNKNOWN_KEY = "the access key id is not known"
    BAD_TOKEN = "the session token is not the one that belongs to the access key id"
    EXPIRED_TOKEN = "the session has expired"
    EXPIRED_LINK = "the presigned link has expired"
    SKEWED = "the signing time is not within 15 minutes of now"
    MISMATCH = "the signature does not match the request"
    PAYLOAD = "the payload is not the one that was signed"
    UNSUPPORTED = "this way of signing a payload is not supported: sign the payload as a whole"


class SignatureError(Exception):
    """The request is refused because of `fault`."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.value)
        self.fault = fault


@dataclass(frozen=True)
class SignedRequest:
    """What is signed of an HTTP request.

    Attributes:
        path: as it was sent, percent-encoded.
        query: as it was sent, without the question mark.
        headers: by lower-case name.
    """

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes = field(repr=False)


@dataclass(frozen=True)
class Signature:
    """The claim that a request makes about its signer, not verified yet."""

    access_key_id: str
    date: str
    region: str
    service: str
    signed_headers: tuple[str, ...]
    signed_at: datetime
    value: str = field(repr=False)
    token: str | None = field(repr=False)
    presigned_seconds: int | None
    payload_hash: str | None


def is_signed(request: SignedRequest) -> bool:
    """Whether the request claims a signature of this kind, valid or not."""
    header = request.headers.get("authorization", "")
    return header.startswith("AWS4-") or "x-amz-algorithm" in request.query.lower()


def read(request: SignedRequest) -> Signature:
    """The signature that the request carries.

    Raises:
        SignatureError: MISSING, INCOMPLETE (also for any other algorithm).
    """
    header = request.headers.get("authorization")
    parameters = dict(_query_pairs(request.query))
    if header is not None and "X-Amz-Algorithm" in parameters:
        raise SignatureError(Fault.INCOMPLETE)
    try:
        if header is not None:
            return _read_header(header, request.headers)
        if "X-Amz-Algorithm" in parameters:
            return _read_link(parameters)
    except (KeyError, ValueError) as error:
        raise SignatureError(Fault.INCOMPLETE) from error
    raise SignatureError(Fault.MISSING)


def verify(
    request: SignedRequest,
    signature: Signature,
    secret: str,
    token: str | None,
    now: datetime | None = None,
) -> None:
    """Check a signature against the secret and the session token of its access key.

    Raises:
        SignatureError: BAD_TOKEN, SKEWED, EXPIRED_LINK, MISMATCH, PAYLOAD, UNSUPPORTED.
    """
    if not hmac.compare_digest((signature.token or "").encode(), (token or "").encode()):
        raise SignatureError(Fault.BAD_TOKEN)
    _check_time(signature, now or datetime.now(UTC))
    _check_covered(request, signature)
    payload_hash = _payload_hash(request, signature)
    text = _text_to_sign(signature, _canonical_request(request, signature, payload_hash))
    expected = hmac.new(_signing_key(secret, signature), text.encode(), hashlib.sha256).hexdigest()
    if not hmac.compare_digest(expected.encode(), signature.value.encode()):
        raise SignatureError(Fault.MISMATCH)
    hashed = payload_hash not in _UNSIGNED
    if hashed and payload_hash != hashlib.sha256(request.body).hexdigest():
        raise SignatureError(Fault.PAYLOAD)


def without_signature(query: str) -> str:
    """The query string of a presigned link as it was before it was signed."""
    return "&".join(
        part for part in query.split("&") if unquote(part.partition("=")[0]).lower() not in _LINK_PARAMETERS
    )


_LINK_PARAMETERS = frozenset(
    f"x-amz-{name}"
    for name in (
        "algorithm",
        "credential",
        "date",
        "expires",
        "signedheaders",
        "signature",
        "security-token",
        "content-sha256",
    )
)

# --- Reading --------------------------------------------------------------------------------------

_HEADER = re.compile(rf"{ALGORITHM} +Credential=([^,\s]+), *SignedHeaders=([^,\s]+), *Signature=([0-9a-f]{{64}})")


def _read_header(header: str, headers: Mapping[str, str]) -> Signature:
    match = _HEADER.fullmatch(header.strip())
    if match is None:
        raise ValueError("Authorization")
    return _signature(
        credential=match[1],
        signed_headers=match[2],
        value=match[3],
        time=headers["x-amz-date"],
        token=headers.get("x-amz-security-token"),
        presigned_seconds=None,
        payload_hash=headers.get("x-amz-content-sha256"),
    )


def _read_link(parameters: Mapping[str, str]) -> Signature:
    seconds = int(parameters["X-Amz-Expires"])
    if parameters["X-Amz-Algorithm"] != ALGORITHM or not 1 <= seconds <= LONGEST_LINK_SECONDS:
        raise ValueError("X-Amz-Algorithm or X-Amz-Expires")
    return _signature(
        credential=parameters["X-Amz-Credential"],
        signed_headers=parameters["X-Amz-SignedHeaders"],
        value=parameters["X-Amz-Signature"],
        time=parameters["X-Amz-Date"],
        token=parameters.get("X-Amz-Security-Token"),
        presigned_seconds=seconds,
        payload_hash=parameters.get("X-Amz-Content-Sha256"),
    )


def _signature(
    *,
    credential: str,
    signed_headers: str,
    value: str,
    time: str,
    token: str | None,
    presigned_seconds: int | None,
    payload_hash: str | None,
) -> Signature:
    access_key_id, date, region, service, end = credential.split("/")
    signed_at = datetime.strptime(time, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    if end != "aws4_request" or date != time[:8] or not re.fullmatch(r"[a-z0-9-]+", service):
        raise ValueError("credential scope")
    if not re.fullmatch(r"[a-z0-9-]+", region):
        raise ValueError("credential scope")
    return Signature(
        access_key_id=access_key_id,
        date=date,
        region=region,
        service=service,
        signed_headers=tuple(signed_headers.lower().split(";")),
        signed_at=signed_at,
        value=value,
        token=token,
        presigned_seconds=presigned_seconds,
        payload_hash=payload_hash,
    )


def _query_pairs(query: str) -> list[tuple[str, str]]:
    parts = (part.partition("=") for part in query.split("&") if part)
    return [(unquote(name), unquote(value)) for name, _, value in parts]


# --- Checking -------------------------------------------------------------------------------------


def _check_time(signature: Signature, now: datetime) -> None:
    if signature.presigned_seconds is None:
        if abs(now - signature.signed_at) > SKEW:
            raise SignatureError(Fault.SKEWED)
        return
    if signature.signed_at > now + SKEW:
        raise SignatureError(Fault.SKEWED)
    if now > signature.signed_at + timedelta(seconds=signature.presigned_seconds):
        raise SignatureError(Fault.EXPIRED_LINK)


def _check_covered(request: SignedRequest, signature: Signature) -> None:
    """Host and every x-amz header must be signed: else a link's holder could add a copy source."""
    needed = {"host"} | {name for name in request.headers if name.startswith("x-amz-")}
    if not needed <= set(signature.signed_headers):
        raise SignatureError(Fault.MISMATCH)


def _payload_hash(request: SignedRequest, signature: Signature) -> str:
    """The payload hash that was signed; only S3 takes a payload that was not."""
    if signature.presigned_seconds is not None and signature.service == "s3":
        return signature.payload_hash or "UNSIGNED-PAYLOAD"
    if signature.payload_hash is None:
        return hashlib.sha256(request.body).hexdigest() if request.body else _EMPTY
    hashed = re.fullmatch("[0-9a-f]{64}", signature.payload_hash)
    if not hashed and not (signature.service == "s3" and signature.payload_hash in _UNSIGNED):
        raise SignatureError(Fault.UNSUPPORTED)
    return signature.payload_hash


def _canonical_request(request: SignedRequest, signature: Signature, payload_hash: str) -> str:
    headers = "".join(
        f"{name}:{' '.join(request.headers.get(name, '').split())}\n" for name in signature.signed_headers
    )
    return "\n".join(
        [
            request.method,
            _canonical_path(request.path, signature.service),
            _canonical_query(request.query),
            headers,
            ";".join(signature.signed_headers),
            payload_hash,
        ]
    )


def _canonical_path(path: str, service: str) -> str:
    """S3 signs the path as it is sent; every other service encodes it once more."""
    if service == "s3":
        return path or "/"
    return quote(str(normalize_url_path(path)), safe="/~")


def _canonical_query(query: str) -> str:
    encoded = (
        (quote(name, safe="-_.~"), quote(value, safe="-_.~"))
        for name, value in _query_pairs(query)
        if name != "X-Amz-Signature"
    )
    return "&".join(f"{name}={value}" for name, value in sorted(encoded))


def _text_to_sign(signature: Signature, canonical_request: str) -> str:
    scope = f"{signature.date}/{signature.region}/{signature.service}/aws4_request"
    digest = hashlib.sha256(canonical_request.encode()).hexdigest()
    return f"{ALGORITHM}\n{signature.signed_at:%Y%m%dT%H%M%SZ}\n{scope}\n{digest}"


def _signing_key(secret: str, signature: Signature) -> bytes:
    key = f"AWS4{secret}".encode()
    for part in (signature.date, signature.region, signature.service, "aws4_request"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return key

"""Signatures made by botocore verify; anything changed afterwards does not."""

from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import pytest
from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth, SigV4Auth, SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from local.signature import (
    Fault,
    SignatureError,
    SignedRequest,
    is_signed,
    read,
    verify,
    without_signature,
)

KEY, SECRET, TOKEN = "ASIAUNIT000000000000", "unit-secret", "unit+token/="
ENDPOINT = "http://127.0.0.1:5000"


def signed(
    service: str,
    path: str,
    *,
    method: str = "GET",
    body: bytes = b"",
    headers: dict[str, str] | None = None,
    link_seconds: int | None = None,
    secret: str = SECRET,
) -> SignedRequest:
    """A request as botocore signs it and as the server sees it."""
    request = AWSRequest(method, ENDPOINT + path, headers=headers or {}, data=body)
    credentials = Credentials(KEY, secret, TOKEN)
    auth: Any
    if link_seconds is None:
        auth = (S3SigV4Auth if service == "s3" else SigV4Auth)(credentials, service, "us-east-1")
    else:
        query_auth = S3SigV4QueryAuth if service == "s3" else SigV4QueryAuth
        auth = query_auth(credentials, service, "us-east-1", expires=link_seconds)
    auth.add_auth(request)
    url = urlsplit(request.url)
    sent = {name.lower(): value for name, value in request.headers.items()}
    return SignedRequest(method, url.path, url.query, {"host": url.netloc, **sent}, body)


def fault(request: SignedRequest, now: datetime | None = None, token: str = TOKEN) -> Fault | None:
    try:
        verify(request, read(request), SECRET, token, now)
    except SignatureError as error:
        return error.fault
    return None


def changed(request: SignedRequest, **parts: Any) -> SignedRequest:
    return SignedRequest(
        **{name: parts.get(name, getattr(request, name)) for name in ("method", "path", "query", "headers", "body")}
    )


PATHS = [
    "/",
    "/a/b",
    "/a%20b/%C3%BC",
    "/a//b/../c",
    "/a%2Fb",
    "/a?b=c&a=%2F%3D&empty=&flag",
    "/x~_-.",
]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("service", ["s3", "dynamodb"])
def test_what_botocore_signs_verifies(service: str, path: str) -> None:
    assert fault(signed(service, path)) is None
    assert fault(signed(service, path, method="POST", body=b"{}")) is None


@pytest.mark.parametrize("path", PATHS)
def test_a_link_that_botocore_presigns_verifies(path: str) -> None:
    request = signed("s3", path, link_seconds=60)
    assert is_signed(request)
    assert fault(request) is None
    assert "X-Amz" not in without_signature(request.query)


def test_every_part_of_a_request_is_covered() -> None:
    request = signed("dynamodb", "/a?b=1", method="POST", body=b"{}", headers={"X-Amz-Target": "t"})
    assert fault(request) is None
    for name, value in {
        "method": "PUT",
        "path": "/b",
        "query": "b=2",
        "headers": {**request.headers, "x-amz-target": "u"},
    }.items():
        assert fault(changed(request, **{name: value})) is Fault.MISMATCH
    assert fault(changed(request, body=b"[]")) is Fault.MISMATCH
    host = {**request.headers, "host": "elsewhere"}
    assert fault(changed(request, headers=host)) is Fault.MISMATCH


def test_a_header_that_is_not_signed_can_not_be_added() -> None:
    for request in (signed("s3", "/b/k", method="PUT"), signed("s3", "/b/k", link_seconds=60)):
        added = {**request.headers, "x-amz-copy-source": "other/key"}
        assert fault(changed(request, headers=added)) is Fault.MISMATCH


def test_a_payload_that_is_not_the_signed_one_is_refused() -> None:
    request = signed("s3", "/b/k", method="PUT", body=b"one")
    assert "x-amz-content-sha256" in request.headers
    assert fault(changed(request, body=b"two")) is Fault.PAYLOAD


def test_a_wrong_secret_or_token_is_refused() -> None:
    assert fault(signed("s3", "/", secret="other")) is Fault.MISMATCH
    assert fault(signed("s3", "/"), token="other") is Fault.BAD_TOKEN
    assert fault(signed("s3", "/"), token="") is Fault.BAD_TOKEN


def test_a_signature_is_good_for_fifteen_minutes() -> None:
    request, now = signed("dynamodb", "/"), datetime.now(UTC)
    assert fault(request, now + timedelta(minutes=14)) is None
    assert fault(request, now + timedelta(minutes=16)) is Fault.SKEWED
    assert fault(request, now - timedelta(minutes=16)) is Fault.SKEWED


def test_a_link_is_good_for_as_long_as_it_says() -> None:
    request, now = signed("s3", "/b/k", link_seconds=3600), datetime.now(UTC)
    assert fault(request, now + timedelta(minutes=59)) is None
    assert fault(request, now + timedelta(minutes=61)) is Fault.EXPIRED_LINK
    assert fault(request, now - timedelta(minutes=16)) is Fault.SKEWED
    assert fault(signed("s3", "/b/k", link_seconds=8 * 24 * 3600)) is Fault.INCOMPLETE


@pytest.mark.parametrize(
    "header",
    [
        "",
        "AWS4-HMAC-SHA256",
        "AWS4-HMAC-SHA256 Credential=k/20260101/r/s/aws4_request, SignedHeaders=host",
        "AWS4-ECDSA-P256-SHA256 Credential=k/20260101/s/aws4_request, SignedHeaders=h, Signature=0",
        "Bearer token",
    ],
)
def test_anything_else_is_no_signature(header: str) -> None:
    headers = {"host": "h", "authorization": header, "x-amz-date": "20260101T000000Z"}
    with pytest.raises(SignatureError) as refused:
        read(SignedRequest("GET", "/", "", headers, b""))
    assert refused.value.fault is Fault.INCOMPLETE


def test_header_and_link_at_once_are_refused() -> None:
    linked = signed("s3", "/b/k", link_seconds=60)
    headers = {**linked.headers, "authorization": signed("s3", "/b/k").headers["authorization"]}
    assert fault(changed(linked, headers=headers)) is Fault.INCOMPLETE


def test_only_s3_takes_a_payload_that_is_not_signed() -> None:
    headers = {"X-Amz-Content-SHA256": "UNSIGNED-PAYLOAD"}
    request = signed("dynamodb", "/", method="POST", body=b"{}", headers=headers)
    assert fault(request) is Fault.UNSUPPORTED
    upload = signed("s3", "/b/k", method="PUT", link_seconds=60)
    assert fault(changed(upload, body=b"anything")) is None


def test_nothing_secret_is_shown() -> None:
    request = signed("s3", "/b/k", link_seconds=60)
    shown = repr(read(request))
    assert TOKEN not in shown
    assert read(request).value not in shown

"""The way to a third party: where a credential may go, and what of an answer comes back."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from saas_agent.errors import ConfigurationError, Refused
from saas_agent.outbound import IssueTracker, Where, valid_credential
from saas_agent.tenancy.access import TenantAccess
from saas_agent.tenancy.tenant import TenantContext

TENANT = TenantContext("acme", "basic", "user", 0)


class Key:
    """A credential. good_for: how often another can be had."""

    def __init__(self, good_for: int = 0) -> None:
        self.good_for = good_for
        self.renewals = 0

    def headers(self) -> dict[str, str]:
        return {"X-Api-Key": f"secret{self.renewals or ''}"}

    def renewed(self) -> bool:
        self.renewals += 1
        return self.renewals <= self.good_for


@contextmanager
def third_party(status: int, content: bytes, headers: dict[str, str]) -> Iterator[tuple[str, list[Any]]]:
    """A server on loopback that always answers so: its address, and the requests that it got."""
    got: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            got.append((self.command, self.path, dict(self.headers), self.rfile.read(length)))
            self.send_response(status)
            for name, value in {"Content-Length": str(len(content)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        do_POST = do_GET

        def log_message(self, *_: Any) -> None:
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/api", got
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def tracker(url: str, key: Key | None = None) -> IssueTracker:
    session: Any = None
    return IssueTracker(TenantAccess(TENANT, session), Where(("desk", "dev"), url), key or Key())


@pytest.mark.parametrize(
    "url", ["http://issues.example.com/api", "ftp://127.0.0.1/api", "//127.0.0.1", "", "http://127.0.0.1.example.com/x"]
)
def test_a_credential_goes_over_tls_or_stays_on_this_machine(url: str) -> None:
    with pytest.raises(ConfigurationError, match="no https address"):
        Where.parse(f"desk/dev|{url}")


@pytest.mark.parametrize("owner", ["", "desk", "desk/", "/dev", "desk/dev/", "desk//acme", "desk/dev/acme/more"])
def test_whose_credentials_they_are_is_said_in_full(owner: str) -> None:
    with pytest.raises(ConfigurationError, match="no service and stage"):
        Where.parse(f"{owner}|https://issues.example.com")


def test_the_platforms_credentials_and_a_tenants_own_are_told_apart() -> None:
    assert Where.parse("desk/dev|https://issues.example.com").owner == ("desk", "dev")
    assert Where.parse("desk/dev/acme|https://issues.example.com").owner == ("desk", "dev", "acme")


@pytest.mark.parametrize("text", ["", " ", "a b", "a\r\nX-Forged: 1", "a\n", "k\u00e9y", "a" * 4097, None, 7, b"key"])
def test_what_can_not_be_sent_is_no_credential(text: object) -> None:
    assert not valid_credential(text)


def test_a_call_names_the_tenants_own_workspace() -> None:
    content = json.dumps({"id": "I-1"}).encode()
    with third_party(201, content, {}) as (url, got):
        assert tracker(url).open("Lift") == "I-1"
    [(method, path, headers, body)] = got
    assert (method, path, json.loads(body)) == ("POST", "/api/workspaces/acme/issues", {"title": "Lift"})
    assert headers["X-Api-Key"] == "secret"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_no_redirect_takes_the_credential_elsewhere(status: int) -> None:
    with (
        third_party(200, b'{"issues": []}', {}) as (elsewhere, got),
        third_party(status, b"", {"Location": f"{elsewhere}/x"}) as (url, _),
        pytest.raises(Refused) as caught,
    ):
        tracker(url).list()
    assert caught.value.reason.code == "internal"
    assert got == []


@pytest.mark.parametrize(
    ("status", "content", "code"),
    [
        (401, b"secret", "denied"),
        (403, b"secret", "denied"),
        (404, b"secret", "internal"),
        (500, b"secret", "internal"),
        (200, b"no JSON: secret", "internal"),
        (200, b'{"other": "secret"}', "internal"),
        (200, b'{"issues": ["secret"]}', "internal"),
        (200, b"[]", "internal"),
    ],
)
def test_what_a_third_party_says_of_an_error_is_passed_on_to_nobody(
    status: int, content: bytes, code: str, caplog: pytest.LogCaptureFixture
) -> None:
    with third_party(status, content, {}) as (url, _), pytest.raises(Refused) as caught:
        tracker(url).list()
    assert caught.value.reason.code == code
    assert caught.value.__cause__ is None
    assert "third_party_error tenant=acme" in caplog.text
    assert "secret" not in f"{caplog.text} {caught.value} {caught.value.detail}"


def test_a_third_party_that_is_not_there_is_an_error() -> None:
    with third_party(200, b"", {}) as (url, _):
        pass
    with pytest.raises(Refused) as caught:
        tracker(url).list()
    assert caught.value.reason.code == "internal"


@pytest.mark.parametrize(
    ("status", "good_for", "calls"), [(401, 0, 1), (401, 1, 2), (401, 5, 2), (403, 1, 1), (500, 1, 1)]
)
def test_a_credential_that_has_ended_is_renewed_once(status: int, good_for: int, calls: int) -> None:
    key = Key(good_for)
    with third_party(status, b"", {}) as (url, got), pytest.raises(Refused):
        tracker(url, key).list()
    assert [headers["X-Api-Key"] for _, _, headers, _ in got] == ["secret", "secret1"][:calls]

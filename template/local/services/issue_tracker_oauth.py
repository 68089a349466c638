"""The issue tracker's OAuth server: client credentials, token exchange and refreshing; whoever runs it can end
tokens.

A workspace has a client of its own, which gets tokens for it. Whoever runs an application, such as this platform, has
one that exchanges users' tokens: they have to be signed by the identity provider that the workspace named when it
signed up, and to name the workspace in the claim `tenant_id`. So no application, whatever it claims, gets into a
workspace whose users it can't show.

Source: RFC 6749 (client credentials, refreshing), RFC 8414 (discovery), RFC 8693 (token exchange).
"""

import json
import secrets
import threading
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import jwt
import urllib3
from werkzeug.wrappers import Request, Response

from saas_agent.control_plane.errors import ControlPlaneError
from saas_agent.control_plane.third_party_clients import ThirdPartyClients
from saas_agent.tenancy.placement import load_placement

from .. import cognito
from ..gate import Gate
from . import issue_tracker
from .issue_tracker import PREFIX, Tracker, digest

if TYPE_CHECKING:
    from ..stage import Stage

_EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
_ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"
_GOOD_FOR = 300  # seconds

_SERVERS: "WeakKeyDictionary[Gate, OauthServer]" = WeakKeyDictionary()


def register(gate: Gate) -> None:
    """Answer as the third party's OAuth server, whose tokens the tracker takes besides its keys."""
    server = of(gate)
    gate.route(f"{PREFIX}/oauth/", server)
    gate.route(f"{PREFIX}/.well-known/", server)


def of(gate: Gate) -> "OauthServer":
    """The OAuth server of this cloud."""
    if gate not in _SERVERS:
        _SERVERS[gate] = OauthServer(gate, issue_tracker.of(gate))
    return _SERVERS[gate]


def signed_up(stage: "Stage", tenant_id: str, workspace: Mapping[str, str]) -> None:
    """What people do next: they give the workspace's client to the platform, where the tenant has anything of its own;
    otherwise the platform's own one is there, which this makes sure of."""
    url = issue_tracker.address(stage)
    control = stage.session.client("bedrock-agentcore-control")
    clients = ThirdPartyClients(control, stage.outputs["Service"], stage.outputs["Stage"], url)
    record = stage.registry.get(tenant_id)
    assert record is not None
    if load_placement().column(record.tier, "outbound") == "dedicated":
        try:
            clients.put(tenant_id, workspace["client_id"], workspace["client_secret"])
        except ControlPlaneError:
            # The account has as many as it may have: the tenant stays without, and its tools say so.
            return
    elif not clients.has(None):
        application = urllib3.request("POST", f"{url}/oauth/applications", retries=False).json()
        clients.put(None, application["client_id"], application["client_secret"])


class _Refused(Exception):
    """An answer of RFC 6749, section 5.2. error: its code."""

    def __init__(self, error: str, status: int = 400) -> None:
        super().__init__(error)
        self.error = error
        self.status = status


@dataclass(frozen=True)
class _Client:
    """workspace: whose it is; None for an application's, which exchanges tokens."""

    secret: bytes
    workspace: str | None


@dataclass(frozen=True)
class _Grant:
    """What a token stands for. who: for the tracker's pages. expires: in seconds since the epoch."""

    workspace: str
    client_id: str
    who: str
    expires: float


class OauthServer:
    """WSGI application: POST /oauth/token and /oauth/applications; GET the discovery document.

    granted: how many tokens were issued, by the grant that they were asked for with.
    """

    def __init__(self, gate: Gate, tracker: Tracker) -> None:
        self._gate = gate
        self._tracker = tracker
        self._clients: dict[str, _Client] = {}
        self._access: dict[bytes, _Grant] = {}
        self._refresh: dict[bytes, _Grant] = {}
        self._lock = threading.Lock()
        self.granted: Counter[str] = Counter()
        tracker.extend(self._of_workspace, self._admitted)

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        request = Request(environ)
        try:
            status, content = self._answer(request)
        except _Refused as refused:
            status, content = refused.status, {"error": refused.error}
        return Response(json.dumps(content), status, content_type="application/json")(environ, start_response)

    def _of_workspace(self, name: str) -> Mapping[str, str]:
        """The client of a new workspace."""
        return self._new_client(name)

    def _admitted(self, request: Request) -> tuple[str, str] | None:
        """The workspace that the request's bearer token is good for, and who it is; None for no such token."""
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        grant = self._access.get(digest(token)) if scheme.lower() == "bearer" else None
        return (grant.workspace, grant.who) if grant is not None and grant.expires > time.time() else None

    def _new_client(self, workspace: str | None) -> Mapping[str, str]:
        client_id, secret = f"itc_{secrets.token_hex(8)}", f"its_{secrets.token_urlsafe(32)}"
        self._clients[client_id] = _Client(digest(secret), workspace)
        return {"client_id": client_id, "client_secret": secret}

    def _answer(self, request: Request) -> tuple[int, Mapping[str, Any]]:
        path = request.path.removeprefix(PREFIX)
        if request.method == "GET" and path == "/.well-known/oauth-authorization-server":
            root = request.url_root.rstrip("/") + PREFIX
            return 200, {
                "issuer": root,
                "token_endpoint": f"{root}/oauth/token",
                "grant_types_supported": ["client_credentials", "refresh_token", _EXCHANGE],
                "token_endpoint_auth_methods_supported": ["client_secret_basic"],
            }
        if request.method != "POST":
            raise _Refused("invalid_request", 405)
        if path == "/oauth/applications":
            return 201, self._new_client(None)
        if path != "/oauth/token":
            raise _Refused("invalid_request", 404)
        client_id, client = self._client(request)
        grants = {
            "client_credentials": self._client_credentials,
            "refresh_token": self._refreshed,
            _EXCHANGE: self._exchanged,
        }
        grant = grants.get(request.form.get("grant_type", ""))
        if grant is None:
            raise _Refused("unsupported_grant_type")
        issued = grant(client_id, client, request.form)
        self.granted[request.form["grant_type"]] += 1
        return 200, issued

    def _client(self, request: Request) -> tuple[str, _Client]:
        given = request.authorization
        client_id = str(given.username or "") if given is not None and given.type == "basic" else ""
        client = self._clients.get(client_id)
        if client is None or given is None or not secrets.compare_digest(client.secret, digest(given.password or "")):
            raise _Refused("invalid_client", 401)
        return client_id, client

    def _client_credentials(self, client_id: str, client: _Client, form: Mapping[str, str]) -> Mapping[str, Any]:
        if client.workspace is None:
            raise _Refused("unauthorized_client")
        return self._issue(_Grant(client.workspace, client_id, "the company's agent", time.time() + _GOOD_FOR))

    def _exchanged(self, client_id: str, client: _Client, form: Mapping[str, str]) -> Mapping[str, Any]:
        if client.workspace is not None:
            raise _Refused("unauthorized_client")
        if form.get("subject_token_type") != _ACCESS_TOKEN:
            raise _Refused("invalid_request")
        workspace, subject = self._subject(form.get("subject_token", ""))
        grant = _Grant(workspace, client_id, f"user {subject}", time.time() + _GOOD_FOR)
        return {**self._issue(grant, refreshed=True), "issued_token_type": _ACCESS_TOKEN}

    def _subject(self, token: str) -> tuple[str, str]:
        """The workspace that the user's token names and the user; the workspace says whose tokens it takes."""
        try:
            claimed = jwt.decode(token, options={"verify_signature": False})
            workspace, issuer = str(claimed["tenant_id"]), self._tracker.issuer(str(claimed["tenant_id"]))
            keys = cognito.issuer_keys(self._gate.account, self._gate.region, issuer)["keys"]
            [key] = [key for key in keys if key["kid"] == jwt.get_unverified_header(token).get("kid")]
            claims = jwt.decode(
                token,
                jwt.PyJWK(key, algorithm="RS256").key,
                algorithms=["RS256"],
                issuer=issuer,
                options={"require": ["exp", "iss", "sub"], "verify_aud": False},
            )
        except (jwt.PyJWTError, LookupError, ValueError):
            raise _Refused("invalid_grant") from None
        return workspace, str(claims["sub"])

    def _refreshed(self, client_id: str, _: _Client, form: Mapping[str, str]) -> Mapping[str, Any]:
        with self._lock:
            # Each is good once.
            grant = self._refresh.pop(digest(form.get("refresh_token", "")), None)
        if grant is None or grant.client_id != client_id:
            raise _Refused("invalid_grant")
        return self._issue(_Grant(grant.workspace, client_id, grant.who, time.time() + _GOOD_FOR), refreshed=True)

    def _issue(self, grant: _Grant, *, refreshed: bool = False) -> Mapping[str, Any]:
        access, refresh = f"ita_{secrets.token_urlsafe(32)}", f"itr_{secrets.token_urlsafe(32)}"
        self._access[digest(access)] = grant
        if refreshed:
            self._refresh[digest(refresh)] = grant
        return {
            "access_token": access,
            "token_type": "Bearer",
            "expires_in": _GOOD_FOR,
            **({"refresh_token": refresh} if refreshed else {}),
        }

    def end(self, workspace: str) -> None:
        """Ends every token of the workspace, whoever has it."""
        for tokens in (self._access, self._refresh):
            for key in [key for key, grant in list(tokens.items()) if grant.workspace == workspace]:
                tokens.pop(key, None)

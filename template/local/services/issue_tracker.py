"""The sample third party, an issue tracker: below /issue-tracker, over HTTP and for whoever comes.

A workspace is a customer's, and named as the customer likes; here tenants' are named like them. Whoever signs up gets
its key, once. The tracker knows nothing of tenants, AWS or this platform: it lets in whoever has a workspace's own key,
and says whose issues it gave to whom.
"""

import hashlib
import hmac
import json
import re
import secrets
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import urllib3
from werkzeug.wrappers import Request, Response

from .. import services
from ..authorization import OWNERS, DecisionLog
from ..gate import Gate

if TYPE_CHECKING:
    from ..stage import Stage

PREFIX = "/issue-tracker"

MoreCredentials = Callable[[str], Mapping[str, str]]
Admit = Callable[[Request], tuple[str, str] | None]

_NAME = re.compile(r"[a-z0-9-]{3,40}")
_PATH = re.compile(rf"{PREFIX}/workspaces/(?P<workspace>[^/]+)/issues")
_ACTIONS = {"GET": "issue-tracker:ListIssues", "POST": "issue-tracker:OpenIssue"}
_LONGEST_TITLE = 500


_TRACKERS: "WeakKeyDictionary[Gate, Tracker]" = WeakKeyDictionary()


def register(gate: Gate) -> None:
    """Answer as the third party."""
    gate.route(PREFIX, of(gate))


def of(gate: Gate) -> "Tracker":
    """The tracker of this cloud."""
    if gate not in _TRACKERS:
        _TRACKERS[gate] = Tracker(gate.decisions)
    return _TRACKERS[gate]


def settings(endpoint: str) -> Mapping[str, str]:
    """Parameters of the platform's stack that lead to the tracker. `endpoint`: the local cloud's."""
    return {"IssueTrackerUrl": f"{endpoint}{PREFIX}"}


def address(stage: "Stage") -> str:
    """Where the platform's third party is."""
    found = stage.outputs.get("Outbound")
    return found.rpartition("|")[2] if found else stage.outputs["IssueTrackerUrl"]


def onboarded(stage: "Stage", tenant_id: str) -> None:
    """What people do once a tenant is there: sign up at the tracker for it, and give what they get to the platform, by
    `signed_up(stage, tenant_id, workspace)` of the other services."""
    if not stage.local:
        return
    issuer = stage.home(tenant_id).settings.issuer
    workspace = {"name": tenant_id, "issuer": issuer}
    answer = urllib3.request("POST", f"{address(stage)}/workspaces", json=workspace, retries=False)
    if answer.status == 201:
        for service in services.found():
            if hasattr(service, "signed_up"):
                service.signed_up(stage, tenant_id, answer.json())


class _Refused(Exception):
    """A request that the tracker turns down."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


@dataclass
class _Workspace:
    """A customer's. key: the digest of its key. issuer: of the identity provider that its users sign in at."""

    key: bytes
    issuer: str
    issues: list[dict[str, str]] = field(default_factory=list)


class Tracker:
    """WSGI application: POST /workspaces signs up; GET and POST /workspaces/{name}/issues, with the workspace's key."""

    def __init__(self, decisions: DecisionLog) -> None:
        self._decisions = decisions
        self._workspaces: dict[str, _Workspace] = {}
        self._more: list[tuple[MoreCredentials, Admit]] = []
        self._lock = threading.Lock()

    def extend(self, more: "MoreCredentials", admit: "Admit") -> None:
        """Lets further credentials in. more: what a new workspace of this name gets. admit: what a request's are good
        for."""
        self._more.append((more, admit))

    def issuer(self, name: str) -> str:
        """Whose users' tokens the workspace takes; LookupError for a workspace that there isn't."""
        return self._workspaces[name].issuer

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        request = Request(environ)
        try:
            status, content = self._answer(request)
        except _Refused as refused:
            status, content = refused.status, {"message": refused.reason}
        response = Response(json.dumps(content), status, content_type="application/json")
        return response(environ, start_response)

    def _answer(self, request: Request) -> tuple[int, Mapping[str, Any]]:
        if request.path == f"{PREFIX}/workspaces" and request.method == "POST":
            return 201, self._sign_up(_text(request, "name"), _text(request, "issuer"))
        match = _PATH.fullmatch(request.path)
        if match is None or request.method not in _ACTIONS:
            raise _Refused(404, "expected POST /workspaces, or GET or POST /workspaces/{name}/issues")
        workspace, who = self._admit(request, match["workspace"])
        if request.method == "GET":
            return 200, {"issues": list(reversed(workspace.issues))}
        title = _text(request, "title")
        if len(title) > _LONGEST_TITLE:
            raise _Refused(400, f"a title has at most {_LONGEST_TITLE} characters")
        issue = {"id": f"I-{secrets.token_hex(4)}", "title": title, "opened_by": who}
        workspace.issues.append(issue)
        return 201, issue

    def _sign_up(self, name: str, issuer: str) -> Mapping[str, str]:
        if not _NAME.fullmatch(name):
            raise _Refused(400, "a workspace's name has 3 to 40 lower-case letters, digits and hyphens")
        key = f"itk_{secrets.token_urlsafe(32)}"
        with self._lock:
            if name in self._workspaces:
                raise _Refused(409, "there is such a workspace; ask who made it for the key")
            self._workspaces[name] = _Workspace(digest(key), issuer)
        further = {key: value for more, _ in self._more for key, value in more(name).items()}
        return {"workspace": name, "api_key": key, **further}

    def _admit(self, request: Request, name: str) -> tuple[_Workspace, str]:
        """The workspace and who it is that asks; both yes and no are recorded."""
        workspace, key = self._workspaces.get(name), request.headers.get("X-Api-Key", "")
        good_for = [found for _, admit in self._more if (found := admit(request)) is not None]
        if workspace is not None and hmac.compare_digest(workspace.key, digest(key)):
            good_for.append((name, "an API key"))
        who = next((who for found, who in good_for if found == name), None)
        allowed = workspace is not None and who is not None
        reason = f"good for it: {who}" if allowed else "what was shown is not good for this workspace, or there is none"
        self._decisions.append(
            principal="a caller of the issue tracker",
            action=_ACTIONS[request.method],
            resource=request.base_url,
            context={OWNERS: [name]},
            allowed=allowed,
            source="third_party",
            reason=reason,
        )
        if workspace is None or who is None:
            # A token that has ended is told apart from one that is another workspace's.
            raise _Refused(403 if key or good_for else 401, reason)
        return workspace, who


def _text(request: Request, name: str) -> str:
    content = request.get_json(silent=True)
    value = content.get(name) if isinstance(content, dict) else None
    if not isinstance(value, str) or not value.strip():
        raise _Refused(400, f"expected a JSON object with {name}, a text")
    return value.strip()


def digest(key: str) -> bytes:
    """What is kept of a key or a token."""
    return hashlib.sha256(key.encode()).digest()

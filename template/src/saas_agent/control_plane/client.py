"""The admin API as its callers see it: signed requests, operations that are followed to their end."""

import json
import re
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote

import boto3
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.exceptions import NoCredentialsError
from botocore.httpsession import URLLib3Session

from saas_agent.control_plane.errors import ControlPlaneError, NotFound
from saas_agent.control_plane.registry import Failure, TenantRecord, partition_key
from saas_agent.control_plane.states import Kind, Status

_SERVICE = "execute-api"
# Polling begins quick, for what is done at once, and grows slow, for what takes minutes.
_FIRST_PAUSE = 0.05
_LONGEST_PAUSE = 5.0
_ATTEMPTS = 5
_AGAIN = {429, 502, 503, 504}
_OPERATION_ID = re.compile(r"op-[0-9a-f]{32}")


@dataclass(frozen=True)
class Operation:
    """An operation as the API shows it. steps: the states that its last attempt entered."""

    operation_id: str
    tenant_id: str
    kind: Kind
    state: str
    attempt: int
    parameters: Mapping[str, Any]
    requested_by: str
    started_at: str
    updated_at: str
    failure: Failure | None
    steps: tuple[str, ...] = ()


Tell = Callable[[Operation, str], object]
"""Told of every state of the workflow that an operation enters, and first, with an empty name, that it has begun."""


@dataclass(frozen=True)
class Change:
    """What a request came to: the tenant as it is now, None when it is gone, and the operation that led there.

    operation: None where there was nothing to do.
    """

    record: TenantRecord | None
    operation: Operation | None

    @property
    def changed(self) -> bool:
        """Whether there was anything to do."""
        return self.operation is not None


@dataclass(frozen=True)
class TenantUser:
    """A user of a tenant. id: its name in the user pool. status: Cognito's, such as CONFIRMED, or DISABLED."""

    id: str
    email: str
    status: str
    administrator: bool


class AdminClient:
    """Calls the admin API, and waits until what was asked for is done.

    What the API refuses, and an operation that fails, is a ControlPlaneError.
    """

    def __init__(self, session: boto3.Session, url: str, tell: Tell = lambda _operation, _step: None) -> None:
        """`session`: whose credentials sign the requests. `url`: the API's stage."""
        self._session = session
        self._url = url.rstrip("/")
        self._tell = tell
        self._http = URLLib3Session(timeout=60)

    def onboard(self, tenant_id: str, *, tier: str, admin: str, name: str | None = None, invite: bool = True) -> Change:
        """Makes the tenant and its administrator, who is mailed a temporary password with `invite`."""
        body = {"tenant_id": tenant_id, "tier": tier, "admin": admin, "invite": invite}
        return self._change("POST", "/tenants", body if name is None else {**body, "name": name})

    def set_tier(self, tenant_id: str, tier: str) -> Change:
        """Gives the tenant another tier."""
        return self._change("PUT", f"{_tenant(tenant_id)}/tier", {"tier": tier})

    def upgrade(self, tenant_id: str) -> Change:
        """Brings the tenant's own stack to the template that was deployed last."""
        return self._change("POST", f"{_tenant(tenant_id)}/upgrade")

    def suspend(self, tenant_id: str) -> Change:
        """No more tokens for the tenant, and its users are signed out."""
        return self._change("POST", f"{_tenant(tenant_id)}/suspend")

    def resume(self, tenant_id: str) -> Change:
        """Lets a suspended tenant's users sign in again."""
        return self._change("POST", f"{_tenant(tenant_id)}/resume")

    def export(self, tenant_id: str) -> Change:
        """Exports the tenant's data."""
        return self._change("POST", f"{_tenant(tenant_id)}/export")

    def offboard(self, tenant_id: str, *, export: bool = False) -> Change:
        """Deletes everything that there is of the tenant; `export`: after an export."""
        return self._change("DELETE", _tenant(tenant_id) + ("?export=true" if export else ""))

    def retry(self, operation_id: str) -> Change:
        """Carries an operation that failed out once more."""
        return self._change("POST", f"{_operation_path(operation_id)}/retry")

    def show(self, tenant_id: str) -> TenantRecord:
        """The tenant's record; NotFound where there is no such tenant."""
        return _record(self._call("GET", _tenant(tenant_id))["tenant"])

    def all(self) -> Iterator[TenantRecord]:
        """Every tenant, by id, with those that were deleted."""
        found: list[TenantRecord] = []
        after: str | None = ""
        while after is not None:
            page = self._call("GET", "/tenants" + (f"?after={after}" if after else ""))
            found += [_record(tenant) for tenant in page["tenants"]]
            after = page["after"]
        yield from sorted(found, key=lambda record: record.tenant_id)

    def operation(self, operation_id: str) -> Operation:
        """The operation as it stands; NotFound where there is none."""
        return _operation(self._call("GET", _operation_path(operation_id))["operation"])

    # --- Users ------------------------------------------------------------------------------------

    def users(self, tenant_id: str) -> Iterator[TenantUser]:
        """The tenant's users, in no order."""
        token: str | None = ""
        while token is not None:
            page = self._call(
                "GET", f"{_tenant(tenant_id)}/users" + (f"?next={quote(token, safe='')}" if token else "")
            )
            yield from (TenantUser(**user) for user in page["users"])
            token = page["next"]

    def invite(self, tenant_id: str, email: str, *, administrator: bool = False) -> TenantUser:
        """Makes a user of the tenant, unless it is there; who is new is mailed a temporary password."""
        body = {"email": email, "administrator": administrator}
        return TenantUser(**self._call("POST", f"{_tenant(tenant_id)}/users", body))

    def remove_user(self, tenant_id: str, user_id: str) -> None:
        """Removes the tenant's user; NotFound where it has none of this id."""
        self._call("DELETE", f"{_tenant(tenant_id)}/users/{quote(user_id, safe='')}")

    # --- The way there ----------------------------------------------------------------------------

    def _follow(self, operation: Operation) -> Change:
        told: set[str] = set()
        self._tell(operation, "")
        pause = _FIRST_PAUSE
        while True:
            operation = self.operation(operation.operation_id)
            for step in operation.steps:
                if step not in told:
                    told.add(step)
                    self._tell(operation, step)
            if operation.state != "RUNNING":
                break
            time.sleep(pause)
            pause = min(pause * 1.5, _LONGEST_PAUSE)
        if operation.failure is not None:
            raise ControlPlaneError(
                f"{operation.kind} of tenant {operation.tenant_id} failed at {operation.failure.step}: "
                f"{operation.failure.reason}; mend that, and `tenants retry {operation.operation_id}`"
            )
        try:
            return Change(self.show(operation.tenant_id), operation)
        except NotFound:
            return Change(None, operation)

    def _change(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Change:
        answer = self._call(method, path, body, token=str(uuid.uuid4()))
        if answer["operation"] is not None:
            return self._follow(_operation(answer["operation"]))
        return Change(_record(answer["tenant"]) if answer["tenant"] else None, None)

    def _call(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, token: str | None = None
    ) -> dict[str, Any]:
        """Sends the request, and again where that may help: with its token it can't be done twice."""
        for attempt in range(_ATTEMPTS):
            status, answer = self._send(method, path, body, token)
            if status not in _AGAIN:
                break
            time.sleep(0.2 * 2**attempt)
        if status < 300:
            return answer
        error = answer.get("error", {})
        message = error.get("message") or answer.get("message") or answer.get("Message") or "no reason given"
        if status == 404:
            raise NotFound(message)
        if "error" in answer:
            raise ControlPlaneError(message)
        hint = "use an operator's credentials" if status == 403 else "repeat the command"
        raise ControlPlaneError(f"the admin API answered {method} {path} with {status}: {message}; {hint}")

    def _send(
        self, method: str, path: str, body: Mapping[str, Any] | None, token: str | None
    ) -> tuple[int, dict[str, Any]]:
        credentials = self._session.get_credentials()
        if credentials is None:
            raise NoCredentialsError()
        headers = {"Content-Type": "application/json", **({"Idempotency-Key": token} if token else {})}
        content = json.dumps(body).encode() if body is not None else b""
        request = AWSRequest(method, self._url + path, headers, content)
        signer = SigV4Auth(credentials.get_frozen_credentials(), _SERVICE, self._session.region_name)
        signer.add_auth(request)
        answer = self._http.send(request.prepare())
        try:
            parsed = json.loads(answer.content or b"{}")
        except ValueError:
            parsed = {}
        return answer.status_code, parsed if isinstance(parsed, dict) else {}


def _tenant(tenant_id: str) -> str:
    partition_key(tenant_id)
    return f"/tenants/{tenant_id}"


def _operation_path(operation_id: str) -> str:
    if _OPERATION_ID.fullmatch(operation_id) is None:
        raise ControlPlaneError(f"{operation_id!r} is no operation id; expected op- and 32 hexadecimal digits")
    return f"/operations/{operation_id}"


def _record(values: Mapping[str, Any]) -> TenantRecord:
    record = TenantRecord(**values)
    return replace(record, status=Status(record.status), failure=_failure(values))


def _operation(values: Mapping[str, Any]) -> Operation:
    operation = Operation(**values)
    return replace(operation, kind=Kind(operation.kind), steps=tuple(values.get("steps", ())), failure=_failure(values))


def _failure(values: Mapping[str, Any]) -> Failure | None:
    told = values["failure"]
    return Failure(Kind(told["operation"]), told["step"], told["reason"]) if told else None

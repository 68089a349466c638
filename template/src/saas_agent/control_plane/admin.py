"""What operators can do with tenants: each change is an operation that a workflow carries out.

Whatever is refused is refused before anything is written. Asking again with the same client token gives the same
operation; asking for what is under way or done already begins nothing.
"""

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from saas_agent.control_plane.errors import Conflict, ControlPlaneError, NotFound, TokenReused
from saas_agent.control_plane.operations import Operation, Operations, State, fingerprint, operation_id
from saas_agent.control_plane.registry import Registry, TenantRecord, partition_key, require_in_place, texts
from saas_agent.control_plane.states import COURSES, Kind, Status, may_begin
from saas_agent.control_plane.users import email_address
from saas_agent.tenancy.placement import Placement

_NAME = re.compile(r"[^\x00-\x1f\x7f]{1,100}")
_STEPS = ("TaskStateEntered", "WaitStateEntered")
_ENDS = ("ExecutionSucceeded", "ExecutionFailed", "ExecutionAborted", "ExecutionTimedOut")
_TOKEN = re.compile(r"[\x21-\x7e]{8,128}")


@dataclass(frozen=True)
class Request:
    """Who asks, and the client token: a text of the caller's own that stands for this one request."""

    token: str
    requested_by: str


@dataclass(frozen=True)
class Change:
    """The tenant as it is now, None when it is gone, and its operation, None when there was nothing to do."""

    record: TenantRecord | None
    operation: Operation | None


@dataclass(frozen=True)
class Progress:
    """How far an execution of the workflow is: the steps that it began, in order, and how it ended, if it did."""

    steps: tuple[str, ...]
    ended: str | None


class Workflow:
    """The state machine that carries operations out."""

    def __init__(self, client: Any, machine_arn: str, drain_seconds: int) -> None:
        """`client`: a boto3 Step Functions client. `drain_seconds`: see DrainSeconds in `infra/platform.yaml`."""
        self._client = client
        self._machine_arn = machine_arn
        self._drain_seconds = drain_seconds

    def start(self, operation: Operation) -> None:
        """Starts the operation's execution; starting it twice changes nothing."""
        content = {
            "operation_id": operation.operation_id,
            "tenant_id": operation.tenant_id,
            "kind": operation.kind,
            "parameters": operation.parameters,
            "drain_seconds": self._drain_seconds,
            "work": {"done": False, "cursor": ""},
        }
        try:
            self._client.start_execution(
                stateMachineArn=self._machine_arn,
                name=_execution_name(operation),
                input=json.dumps(content, sort_keys=True),
            )
        except ClientError as error:
            if error.response["Error"]["Code"] != "ExecutionAlreadyExists":
                raise

    def progress(self, operation: Operation) -> Progress | None:
        """How far it is, as far as Step Functions tells at once; None where it was not started."""
        arn = f"{self._machine_arn.replace(':stateMachine:', ':execution:')}:{_execution_name(operation)}"
        try:
            # The newest hundred: what a long loop did is of no interest.
            history = self._client.get_execution_history(
                executionArn=arn, maxResults=100, reverseOrder=True, includeExecutionData=False
            )
        except ClientError as error:
            if error.response["Error"]["Code"] == "ExecutionDoesNotExist":
                return None
            raise
        events = sorted(history["events"], key=lambda event: int(event["id"]))
        entered = [event["stateEnteredEventDetails"]["name"] for event in events if event["type"] in _STEPS]
        last = events[-1]["type"] if events else ""
        return Progress(tuple(dict.fromkeys(entered)), last if last in _ENDS else None)


def _execution_name(operation: Operation) -> str:
    return f"{operation.operation_id}-{operation.attempt}"


class Admin:
    """Begins operations and tells how they and their tenants stand.

    What it refuses is a ControlPlaneError; errors of AWS itself are botocore's.
    """

    def __init__(
        self,
        registry: Registry,
        operations: Operations,
        workflow: Workflow,
        tiers: Collection[str],
        placement: Placement,
    ) -> None:
        """`tiers`: the names of the tiers that there are."""
        self._registry = registry
        self._operations = operations
        self._workflow = workflow
        self._tiers = tiers
        self._placement = placement

    # --- What is there ----------------------------------------------------------------------------

    def tenant(self, tenant_id: str) -> TenantRecord:
        """The tenant's record; NotFound where there is no such tenant."""
        record = self._registry.get(tenant_id)
        if record is None:
            raise NotFound(f"there is no tenant {tenant_id}; expected one of `tenants list`; onboard it first")
        return record

    def tenants(self, limit: int, after: str | None) -> tuple[list[TenantRecord], str | None]:
        """A page of tenants, and the tenant id after which the next one begins; None after the last."""
        return self._registry.page(limit, after)

    def operation(self, operation_id: str) -> tuple[Operation, tuple[str, ...]]:
        """The operation, and the states of the workflow that its last attempt went through."""
        operation = self._operations.existing(operation_id)
        progress = self._workflow.progress(operation)
        return self._settle(operation, progress), progress.steps if progress else ()

    # --- What can be done -------------------------------------------------------------------------

    def onboard(
        self, tenant_id: str, request: Request, *, tier: str, admin: str, name: str | None, invite: bool
    ) -> Change:
        """Makes the tenant and its administrator; ACTIVE only when everything is there.

        `name` defaults to the id. `invite`: whether the administrator is mailed a temporary password.
        """
        admin = self._checked(tenant_id, tier, admin, name)
        asked = {"tier": tier, "admin": admin, "name": name or tenant_id, "invite": invite}
        if change := self._asked_before(Kind.ONBOARD, tenant_id, request, asked):
            return change
        record = self._registry.get(tenant_id)
        if record is not None:
            if record.status is Status.DELETED:
                raise Conflict(f"tenant {tenant_id} was deleted, and its id is not given away again; choose another id")
            _require_same(record, asked)
            if record.status not in (Status.FAILED, Status.PROVISIONING):
                return Change(record, None)
        new = {
            "tier": {"S": tier},
            "name": {"S": asked["name"]},
            "admin": {"S": admin},
            "placement": texts(self._placement.row(tier)),
        }
        return self._begin(Kind.ONBOARD, tenant_id, request, asked, record, {"invite": invite, "tier": tier}, new)

    def set_tier(self, tenant_id: str, request: Request, *, tier: str) -> Change:
        """Gives the tenant another tier of the same placement, with its next token and request."""
        self._require_tier(tier)
        if change := self._asked_before(Kind.SET_TIER, tenant_id, request, {"tier": tier}):
            return change
        record = self.tenant(tenant_id)
        if record.tier == tier and record.status is Status.ACTIVE:
            return Change(record, None)
        require_in_place(record, self._placement, tier)
        return self._begin(Kind.SET_TIER, tenant_id, request, {"tier": tier}, record, {"tier": tier})

    def upgrade(self, tenant_id: str, request: Request) -> Change:
        """Brings the tenant's own stack to the template that was deployed last; nothing to do where it has none."""
        if change := self._asked_before(Kind.UPGRADE, tenant_id, request, {}):
            return change
        record = self.tenant(tenant_id)
        if not self._placement.stack_template(record.tier):
            return Change(record, None)
        require_in_place(record, self._placement, record.tier)
        return self._begin(Kind.UPGRADE, tenant_id, request, {}, record, {"tier": record.tier})

    def suspend(self, tenant_id: str, request: Request) -> Change:
        """No more tokens from this moment; then the tenant's users are signed out, on a repetition once more."""
        return self._simple(Kind.SUSPEND, tenant_id, request, {})

    def resume(self, tenant_id: str, request: Request) -> Change:
        """A suspended tenant's users may sign in again."""
        return self._simple(Kind.RESUME, tenant_id, request, {}, already=Status.ACTIVE)

    def export(self, tenant_id: str, request: Request) -> Change:
        """Copies everything that the tenant stored to the exports bucket."""
        return self._simple(Kind.EXPORT, tenant_id, request, {})

    def offboard(self, tenant_id: str, request: Request, *, export: bool) -> Change:
        """Deletes everything that there is of the tenant; `export`: after an export."""
        return self._simple(Kind.OFFBOARD, tenant_id, request, {"export": export}, already=Status.DELETED)

    def retry(self, operation_id: str) -> Change:
        """Carries out once more an operation that failed; one that runs or succeeded is left alone."""
        operation = self._settled(self._operations.existing(operation_id))
        if operation.state is State.FAILED:
            record = self._free(operation.kind, self.tenant(operation.tenant_id))
            if record.created_at > operation.started_at:
                raise Conflict(
                    f"operation {operation_id} was of an earlier tenant {operation.tenant_id}; "
                    "expected one of the tenant that has this id now; begin a new one"
                )
            operation = self._operations.begin_again(operation, record)
            self._workflow.start(operation)
        return Change(self._registry.get(operation.tenant_id), operation)

    # --- Beginning --------------------------------------------------------------------------------

    def _simple(
        self,
        kind: Kind,
        tenant_id: str,
        request: Request,
        parameters: Mapping[str, Any],
        already: Status | None = None,
    ) -> Change:
        if change := self._asked_before(kind, tenant_id, request, parameters):
            return change
        record = self.tenant(tenant_id)
        if record.status is already:
            return Change(record, None)
        if kind in (Kind.EXPORT, Kind.OFFBOARD):
            # Before its users are signed out.
            require_in_place(record, self._placement, record.tier, everything=True)
        return self._begin(kind, tenant_id, request, parameters, record, parameters)

    def _asked_before(self, kind: Kind, tenant_id: str, request: Request, asked: Mapping[str, Any]) -> Change | None:
        """The operation that this client token began; TokenReused where that was another request."""
        if _TOKEN.fullmatch(request.token) is None:
            raise ControlPlaneError(
                "the client token is malformed; expected 8 to 128 printable characters; send a UUID"
            )
        known = self._operations.get(operation_id(request.token))
        if known is None:
            return None
        if known.fingerprint != fingerprint(request.token, kind, tenant_id, asked):
            raise TokenReused(
                f"the client token came with another request before, that of operation {known.operation_id}; "
                "expected a new one for every request; send a UUID"
            )
        settled = self._settled(known)
        return Change(self._registry.get(known.tenant_id), settled)

    def _begin(
        self,
        kind: Kind,
        tenant_id: str,
        request: Request,
        asked: Mapping[str, Any],
        record: TenantRecord | None,
        parameters: Mapping[str, Any],
        new: Mapping[str, Any] | None = None,
    ) -> Change:
        operation = Operation(
            operation_id=operation_id(request.token),
            tenant_id=tenant_id,
            kind=kind,
            parameters=parameters,
            fingerprint=fingerprint(request.token, kind, tenant_id, asked),
            requested_by=request.requested_by,
        )
        if record is not None:
            other = self._holder(record)
            if other is not None and other.kind is kind and other.parameters.items() >= parameters.items():
                return Change(record, other)
            record = self._free(kind, self.tenant(tenant_id))
        operation = self._operations.begin(operation, record, new)
        self._workflow.start(operation)
        return Change(self.tenant(tenant_id), operation)

    def _holder(self, record: TenantRecord) -> Operation | None:
        """The operation that has the tenant and is still under way."""
        operation = self._operations.get(record.operation) if record.operation else None
        if operation is not None:
            operation = self._settled(operation)
        return operation if operation is not None and operation.state is State.RUNNING else None

    def _free(self, kind: Kind, record: TenantRecord) -> TenantRecord:
        """The tenant, for an operation that may begin on it as it is; Conflict where it may not."""
        # Some wait for nobody: a suspension takes the tenant away from what is under way, an export only reads.
        waits = COURSES[kind].during is not None and kind is not Kind.SUSPEND
        if waits and (other := self._holder(record)):
            raise Conflict(
                f"tenant {record.tenant_id} is {record.status}: its {other.kind} is under way; "
                f"follow it with `tenants operation {other.operation_id}`, and repeat"
            )
        record = self.tenant(record.tenant_id)
        failed = record.failure.operation if record.failure else None
        if not may_begin(kind, record.status, failed):
            expected = ", ".join(sorted(str(state) for state in COURSES[kind].begins if state))
            after = f" by a failed {failed}" if record.status is Status.FAILED and failed else ""
            raise Conflict(
                f"tenant {record.tenant_id} is {record.status}{after}; {kind} expects {expected}; "
                f"look at it with `tenants show {record.tenant_id}`"
            )
        return record

    def _settled(self, operation: Operation) -> Operation:
        """The operation as it stands, which is not always what was written of it."""
        if operation.state is not State.RUNNING:
            return operation
        return self._settle(operation, self._workflow.progress(operation))

    def _settle(self, operation: Operation, progress: Progress | None) -> Operation:
        """The operation, with its execution started if it never was, and ended if that died without a word."""
        if operation.state is not State.RUNNING:
            return operation
        if progress is None:
            self._workflow.start(operation)
        elif progress.ended:
            # The workflow's last step writes before it ends, so what is read now counts.
            step = progress.steps[-1] if progress.steps else ""
            reason = f"the workflow ended without a word ({progress.ended}); see its execution in Step Functions"
            return self._operations.fail(operation.operation_id, step, reason).operation
        return operation

    # --- Checks -----------------------------------------------------------------------------------

    def _checked(self, tenant_id: str, tier: str, admin: str, name: str | None) -> str:
        """The administrator's address as it is kept, where all of the answers make sense."""
        partition_key(tenant_id)
        self._require_tier(tier)
        address = email_address(admin)
        if address is None:
            raise ControlPlaneError(f"{admin!r} is no e-mail address; expected such as ann@example.com; mend --admin")
        if name is not None and _NAME.fullmatch(name) is None:
            raise ControlPlaneError("the name is malformed; expected 1 to 100 printable characters; mend --name")
        return address

    def _require_tier(self, tier: str) -> None:
        if tier not in self._tiers:
            raise ControlPlaneError(
                f"there is no tier {tier!r}; expected {', '.join(self._tiers)}; choose one of these"
            )


def _require_same(record: TenantRecord, asked: Mapping[str, Any]) -> None:
    there = {"tier": record.tier, "admin": record.admin, "name": record.name}
    for key, value in there.items():
        if asked[key] != value:
            raise Conflict(
                f"tenant {record.tenant_id} is there already, with {key} {value!r} "
                f"and not {asked[key]!r}; repeat the same answers, or choose another id"
            )

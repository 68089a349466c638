"""Operations on tenants: what was asked for, how it stands, and every write that moves a tenant.

A write that begins an operation holds only for the tenant as it was read; one that ends it, only while the operation
has the tenant. So of two writers one wins and the other learns of it, and whoever writes twice changes nothing more.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

from botocore.exceptions import ClientError

from saas_agent.control_plane.errors import Conflict, Contended, NotFound
from saas_agent.control_plane.registry import (
    Failure,
    Registry,
    TenantRecord,
    failure_of,
    item_key,
    texts,
)
from saas_agent.control_plane.states import COURSES, Kind, Status

# As long as Step Functions keeps an execution.
_KEPT = timedelta(days=90)


class State(StrEnum):
    """How an operation stands."""

    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"


@dataclass(frozen=True)
class Operation:
    """Something that was asked for.

    parameters: of its kind, JSON, and nothing personal; an offboarding is given the folder of its export. fingerprint:
    of the request, to tell another one with the same client token. attempt: 1 at first, one more with every retry.
    requested_by: ARN of who asked. started_at, updated_at: ISO 8601, UTC.
    """

    operation_id: str
    tenant_id: str
    kind: Kind
    parameters: Mapping[str, Any]
    fingerprint: str
    requested_by: str
    state: State = State.RUNNING
    attempt: int = 1
    started_at: str = ""
    updated_at: str = ""
    failure: Failure | None = None


@dataclass(frozen=True)
class Outcome:
    """How an operation ended, and where that left the tenant; None where nothing is left of it."""

    operation: Operation
    record: TenantRecord | None


def operation_id(token: str) -> str:
    """The id of the operation that this client token stands for."""
    return f"op-{hashlib.sha256(token.encode()).hexdigest()[:32]}"


def fingerprint(token: str, *request: object) -> str:
    """Tells requests apart. With the token, which is kept nowhere, so that it gives away nothing of the request."""
    return hashlib.sha256(json.dumps([token, *request], sort_keys=True).encode()).hexdigest()


def utc_now() -> datetime:
    """The time, in UTC."""
    return datetime.now(UTC)


class Operations:
    """Begins operations, ends them, and moves their tenants. Errors of DynamoDB itself are botocore's."""

    def __init__(self, client: Any, registry: str, operations: str, clock: Callable[[], datetime] = utc_now) -> None:
        """`client`: a boto3 DynamoDB client. `registry`, `operations`: the names of the tables."""
        self._client = client
        self._registry_table = registry
        self._operations_table = operations
        self._registry = Registry(client, registry)
        self._clock = clock

    def get(self, operation_id: str) -> Operation | None:
        """The operation as it stands now (a consistent read); None where there is none."""
        answer = self._client.get_item(
            TableName=self._operations_table, Key=_operation_key(operation_id), ConsistentRead=True
        )
        return _operation(answer["Item"]) if "Item" in answer else None

    def existing(self, operation_id: str) -> Operation:
        """The operation; NotFound where there is none."""
        operation = self.get(operation_id)
        if operation is None:
            raise NotFound(
                f"there is no operation {operation_id}; expected the id that a command printed in the last 90 days"
            )
        return operation

    def begin(
        self, operation: Operation, before: TenantRecord | None, new: Mapping[str, Any] | None = None
    ) -> Operation:
        """Records the operation and moves its tenant to where it is meanwhile, both or neither.

        Args:
            before: the tenant as it was read.
            new: attributes of a tenant that isn't there yet.

        Raises:
            Conflict: the tenant is not as it was read, or the operation is there already.
        """
        now = self._now()
        operation = replace(operation, started_at=now, updated_at=now)
        if operation.kind is Kind.OFFBOARD:
            # What the first one exported may be gone from the stores: whoever repeats it goes on with its export.
            first = (before and before.offboarding) or operation.operation_id
            operation = replace(operation, parameters={**operation.parameters, "folder": first})
        put = {
            "TableName": self._operations_table,
            "Item": _operation_item(operation, self._clock() + _KEPT),
            "ConditionExpression": "attribute_not_exists(operation_id)",
        }
        self._transact(operation.tenant_id, {"Put": put}, *self._taking(operation, before, new, now))
        return operation

    def begin_again(self, operation: Operation, before: TenantRecord | None) -> Operation:
        """The same for one more attempt at an operation that failed."""
        now = self._now()
        again = replace(operation, state=State.RUNNING, attempt=operation.attempt + 1, updated_at=now, failure=None)
        update = {
            "TableName": self._operations_table,
            "Key": _operation_key(operation.operation_id),
            "UpdateExpression": "SET #state = :running, attempt = :next, updated_at = :now REMOVE failure",
            "ConditionExpression": "#state = :failed AND attempt = :attempt",
            "ExpressionAttributeNames": {"#state": "state"},
            "ExpressionAttributeValues": {
                ":running": {"S": State.RUNNING},
                ":failed": {"S": State.FAILED},
                ":attempt": {"N": str(operation.attempt)},
                ":next": {"N": str(again.attempt)},
                ":now": {"S": now},
            },
        }
        self._transact(operation.tenant_id, {"Update": update}, *self._taking(operation, before, None, now))
        return again

    def finish(
        self,
        operation_id: str,
        resources: Mapping[str, str] | None = None,
        placement: Mapping[str, str] | None = None,
    ) -> Outcome:
        """Ends the operation well, and its tenant's move with it.

        Args:
            resources: what the tenant has of its own from now on; as before where None.
            placement: where the components are that it was provisioned with now. Where others are, it keeps in mind.

        Raises:
            Conflict: the operation no longer has the tenant.
        """
        operation = self.existing(operation_id)
        if operation.state is State.RUNNING:
            now = self._now()
            ended = self._ending(operation, State.SUCCEEDED, None, now)
            self._transact(operation.tenant_id, *self._leaving(operation, resources, placement, now), ended)
        return self._outcome(operation_id)

    def fail(self, operation_id: str, step: str, reason: str) -> Outcome:
        """Ends the operation badly, unless it has ended, and leaves its tenant in the state for that."""
        operation = self.existing(operation_id)
        if operation.state is State.RUNNING:
            now, failure = self._now(), Failure(operation.kind, step, reason)
            ended = self._ending(operation, State.FAILED, failure, now)
            self._transact(operation.tenant_id, *self._failing(operation, failure, now), ended)
        return self._outcome(operation_id)

    def _outcome(self, operation_id: str) -> Outcome:
        operation = self.existing(operation_id)
        return Outcome(operation, self._registry.get(operation.tenant_id))

    # --- Writes on the tenant's item --------------------------------------------------------------

    def _taking(
        self, operation: Operation, before: TenantRecord | None, new: Mapping[str, Any] | None, now: str
    ) -> list[dict[str, Any]]:
        """The write that gives the tenant to the operation."""
        during = COURSES[operation.kind].during
        if during is None:
            return []
        if before is None:
            attributes = {
                **(new or {}),
                "status": {"S": during},
                "operation": {"S": operation.operation_id},
                "created_at": {"S": now},
                "updated_at": {"S": now},
                "version": {"N": "1"},
            }
            put = {
                "TableName": self._registry_table,
                "Item": {**item_key(operation.tenant_id), **attributes},
                "ConditionExpression": "attribute_not_exists(pk)",
            }
            return [{"Put": put}]
        return [
            self._update(
                operation.tenant_id,
                now,
                sets={"status": {"S": during}, "operation": {"S": operation.operation_id}},
                first={"offboarding": {"S": operation.operation_id}} if operation.kind is Kind.OFFBOARD else {},
                removes=("failure",),
                holds={"version": {"N": str(before.version)}, "status": {"S": before.status}},
            )
        ]

    def _leaving(
        self,
        operation: Operation,
        resources: Mapping[str, str] | None,
        placement: Mapping[str, str] | None,
        now: str,
    ) -> list[dict[str, Any]]:
        """The write that ends the tenant's move well."""
        course = COURSES[operation.kind]
        if course.done is None:
            return []
        if course.done is Status.DELETED:
            return [self._burying(operation, now)]
        sets = {"status": {"S": course.done}}
        if operation.kind is Kind.SET_TIER:
            sets["tier"] = {"S": operation.parameters["tier"]}
        if resources is not None:
            sets["resources"] = texts(resources)
        if placement is not None:
            # An onboarding that failed before may have begun with another one.
            record = self._registry.get(operation.tenant_id) if operation.kind is not Kind.ONBOARD else None
            sets["placement"] = texts({**(record.placement if record else {}), **placement})
        return [
            self._update(
                operation.tenant_id,
                now,
                sets=sets,
                first={"activated_at": {"S": now}} if course.done is Status.ACTIVE else {},
                removes=("operation", "failure"),
                holds={"operation": {"S": operation.operation_id}},
            )
        ]

    def _burying(self, operation: Operation, now: str) -> dict[str, Any]:
        """Leaves a tombstone without personal data; nothing, of a tenant that never got a token."""
        record = self._registry.get(operation.tenant_id)
        if record is None or record.operation != operation.operation_id:
            raise Conflict(f"tenant {operation.tenant_id} is not this operation's any more")
        common = {
            "TableName": self._registry_table,
            "ConditionExpression": "#operation = :operation",
            "ExpressionAttributeNames": {"#operation": "operation"},
            "ExpressionAttributeValues": {":operation": {"S": operation.operation_id}},
        }
        if record.activated_at is None:
            return {"Delete": {**common, "Key": item_key(operation.tenant_id)}}
        tombstone = {
            **item_key(operation.tenant_id),
            "status": {"S": Status.DELETED},
            "tier": {"S": record.tier},
            "created_at": {"S": record.created_at},
            "activated_at": {"S": record.activated_at},
            "updated_at": {"S": now},
            "version": {"N": str(record.version + 1)},
        }
        return {"Put": {**common, "Item": tombstone}}

    def _failing(self, operation: Operation, failure: Failure, now: str) -> list[dict[str, Any]]:
        """The write that ends the tenant's move badly; none where it belongs to another operation by now."""
        record = self._registry.get(operation.tenant_id)
        failed = COURSES[operation.kind].failed
        if failed is None or record is None or record.operation != operation.operation_id:
            return []
        return [
            self._update(
                operation.tenant_id,
                now,
                sets={"status": {"S": failed}, "failure": _told(failure)},
                removes=("operation",),
                holds={"operation": {"S": operation.operation_id}},
            )
        ]

    def _update(
        self,
        tenant_id: str,
        now: str,
        *,
        sets: Mapping[str, Any],
        holds: Mapping[str, Any],
        removes: tuple[str, ...] = (),
        first: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """An update of the tenant's item where all of `holds` holds; `first` is set where it isn't there yet."""
        sets = {**sets, "updated_at": {"S": now}}
        assignments = [f"#{name} = :{name}" for name in sets]
        assignments += [f"#{name} = if_not_exists(#{name}, :{name})" for name in first or {}]
        names = {f"#{name}": name for name in (*sets, *(first or {}), *holds, *removes, "version")}
        values = {f":{name}": value for name, value in {**sets, **(first or {})}.items()}
        values |= {f":held_{name}": value for name, value in holds.items()}
        removed = ", ".join(f"#{name}" for name in removes)
        update = {
            "TableName": self._registry_table,
            "Key": item_key(tenant_id),
            "UpdateExpression": f"SET {', '.join(assignments)}, #version = #version + :one"
            + (f" REMOVE {removed}" if removed else ""),
            "ConditionExpression": " AND ".join(f"#{name} = :held_{name}" for name in holds),
            "ExpressionAttributeNames": names,
            "ExpressionAttributeValues": {**values, ":one": {"N": "1"}},
        }
        return {"Update": update}

    def _ending(self, operation: Operation, state: State, failure: Failure | None, now: str) -> dict[str, Any]:
        """The write that ends the operation itself."""
        values = {
            ":state": {"S": state},
            ":running": {"S": State.RUNNING},
            ":attempt": {"N": str(operation.attempt)},
            ":now": {"S": now},
        }
        if failure is not None:
            values[":failure"] = _told(failure)
        update = {
            "TableName": self._operations_table,
            "Key": _operation_key(operation.operation_id),
            "UpdateExpression": "SET #state = :state, updated_at = :now" + (", failure = :failure" if failure else ""),
            "ConditionExpression": "#state = :running AND attempt = :attempt",
            "ExpressionAttributeNames": {"#state": "state"},
            "ExpressionAttributeValues": values,
        }
        return {"Update": update}

    def _transact(self, tenant_id: str, *writes: Mapping[str, Any]) -> None:
        try:
            self._client.transact_write_items(TransactItems=list(writes))
        except ClientError as error:
            reasons = {reason.get("Code") for reason in error.response.get("CancellationReasons", [])}
            for code, conflict in (("ConditionalCheckFailed", Conflict), ("TransactionConflict", Contended)):
                if code in reasons:
                    raise conflict(
                        f"tenant {tenant_id} was changed by someone else meanwhile; repeat the command"
                    ) from None
            raise

    def _now(self) -> str:
        return self._clock().astimezone(UTC).isoformat(timespec="seconds")


def _told(failure: Failure) -> dict[str, Any]:
    return texts({"operation": failure.operation, "step": failure.step, "reason": failure.reason})


def _operation_key(operation_id: str) -> dict[str, Any]:
    return {"operation_id": {"S": operation_id}}


def _operation_item(operation: Operation, expires: datetime) -> dict[str, Any]:
    return {
        **_operation_key(operation.operation_id),
        "tenant_id": {"S": operation.tenant_id},
        "kind": {"S": operation.kind},
        "parameters": {"S": json.dumps(operation.parameters)},
        "fingerprint": {"S": operation.fingerprint},
        "requested_by": {"S": operation.requested_by},
        "state": {"S": operation.state},
        "attempt": {"N": str(operation.attempt)},
        "started_at": {"S": operation.started_at},
        "updated_at": {"S": operation.updated_at},
        "expires_at": {"N": str(int(expires.timestamp()))},
    }


def _operation(item: Mapping[str, Any]) -> Operation:
    return Operation(
        operation_id=item["operation_id"]["S"],
        tenant_id=item["tenant_id"]["S"],
        kind=Kind(item["kind"]["S"]),
        parameters=json.loads(item["parameters"]["S"]),
        fingerprint=item["fingerprint"]["S"],
        requested_by=item["requested_by"]["S"],
        state=State(item["state"]["S"]),
        attempt=int(item["attempt"]["N"]),
        started_at=item["started_at"]["S"],
        updated_at=item["updated_at"]["S"],
        failure=failure_of(item),
    )

"""Steps of the tenants' workflow: what each is given, and what it may say when it fails.

Every step is safe to repeat. One that has more to do than fits into its time says so and is called again, with the
cursor that it gave.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from botocore.exceptions import BotoCoreError, ClientError

from saas_agent.control_plane.errors import Conflict, Contended, ControlPlaneError
from saas_agent.control_plane.registry import Registry, TenantRecord
from saas_agent.control_plane.states import Kind, Status

T = TypeVar("T")
Handler = Callable[[dict[str, Any], object], dict[str, Any]]

_THROTTLED = frozenset(
    {
        *("LimitExceededException", "ProvisionedThroughputExceededException", "RequestLimitExceeded", "SlowDown"),
        *("Throttling", "ThrottlingException", "ThrottledException", "TooManyRequestsException"),
    }
)


class Throttled(Exception):
    """AWS asks to come back later: the workflow does, with pauses that grow."""


class StepFailed(Exception):
    """The step can't be done. One line, which the registry keeps: no credentials, and nothing personal."""


@dataclass(frozen=True)
class Task:
    """What a step is given. `cursor`: where it left off, empty at first. See `Operation` for the rest."""

    step: str
    operation_id: str
    tenant_id: str
    kind: Kind
    parameters: Mapping[str, Any]
    cursor: str
    state: Mapping[str, Any]

    @classmethod
    def of(cls, event: Mapping[str, Any]) -> "Task":
        """The task in what the workflow sends: its state, and which step this is."""
        state = event["state"]
        return cls(
            step=event["step"],
            operation_id=state["operation_id"],
            tenant_id=state["tenant_id"],
            kind=Kind(state["kind"]),
            parameters=state["parameters"],
            cursor=state["work"]["cursor"],
            state=state,
        )


Step = Callable[[Task], dict[str, Any]]

DONE: Mapping[str, Any] = {"done": True, "cursor": ""}


def handle_steps(steps: Mapping[str, Step]) -> Handler:
    """A Lambda handler of these steps, by the name of the workflow's state."""

    def handle(event: dict[str, Any], _context: object) -> dict[str, Any]:
        task = Task.of(event)
        try:
            return steps[task.step](task)
        except ClientError as error:
            code = error.response["Error"].get("Code", "unknown error")
            said = f"{error.operation_name}: {code}"
            raise (Throttled(said) if code in _THROTTLED else StepFailed(said)) from None
        except BotoCoreError as error:
            raise Throttled(type(error).__name__) from None
        except Contended as error:
            raise Throttled(str(error)) from None
        except ControlPlaneError as error:
            raise StepFailed(str(error)) from None

    return handle


def owned(registry: Registry, task: Task, *expected: Status) -> TenantRecord:
    """The task's tenant, as long as its operation has it; Conflict where not, or where it is in another state.

    What deletes or signs out asks first: an operation that was overtaken must do nothing more.
    """
    record = present(registry, task, *expected)
    if record.operation != task.operation_id:
        raise _overtaken(task)
    return record


def present(registry: Registry, task: Task, *expected: Status | None) -> TenantRecord:
    """The task's tenant, whoever has it, as long as it is in such a state; Conflict where it is not."""
    record = registry.get(task.tenant_id)
    if record is None or record.status not in expected:
        raise _overtaken(task)
    return record


def _overtaken(task: Task) -> Conflict:
    return Conflict(f"tenant {task.tenant_id} is not this operation's any more; look at it with `tenants show`")


def walk(
    cursor: str,
    page: Callable[[str], tuple[list[T], str]],
    work: Callable[[list[T]], None],
    seconds: float,
    clock: Callable[[], float] = time.monotonic,
) -> str:
    """Works on page after page for so many seconds; where to go on, empty when all is done.

    page: cursor (empty: the first) -> what is there, and the cursor of the next page (empty: it was the last).
    """
    began = clock()
    while True:
        found, cursor = page(cursor)
        work(found)
        if not cursor or clock() - began >= seconds:
            return cursor

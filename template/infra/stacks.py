"""A CloudFormation stack brought to a template: a change set, shown first, followed to its end."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import takewhile
from typing import Any
from uuid import uuid4

from botocore.exceptions import BotoCoreError, ClientError

from infra.progress import Progress

# Polling begins quick, for what is done at once, and grows slow, for what takes minutes.
_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 3.0

# CloudFormation's own words for a change set without changes.
_UNCHANGED = ("didn't contain changes", "No updates are to be performed")
_STACK = "AWS::CloudFormation::Stack"


class StackError(Exception):
    """The stack is not as the template says. One line: what failed, why, what state that leaves."""


class Declined(StackError):
    """The changes were shown and not wanted."""


@dataclass(frozen=True)
class Change:
    """What a change set does to a resource. `replacement`: True, False, Conditional, or empty."""

    action: str
    logical_id: str
    type: str
    replacement: str = ""


@dataclass(frozen=True)
class Event:
    """What happened to a resource, or to the stack itself."""

    id: str
    logical_id: str
    physical_id: str
    type: str
    status: str
    reason: str


@dataclass(frozen=True)
class Deployed:
    """The stack as it stands: outputs and parameters by name."""

    outputs: dict[str, str]
    parameters: dict[str, str]


Confirm = Callable[[list[Change]], bool]


def bring(
    cloudformation: Any,
    name: str,
    template: str,
    parameters: Mapping[str, str],
    *,
    tags: Mapping[str, str],
    confirm: Confirm,
    progress: Progress,
) -> Deployed:
    """Brings the stack to the template, after `confirm` has seen the changes.

    `template`: its text, or its address in S3, where it may be larger than a request.
    Nothing to change is success. Parameters that are not given keep the value that the stack has,
    and take the template's default in a new one. A stack whose first deployment fails is removed.

    Raises:
        Declined: `confirm` said no.
        StackError: the stack of that name has other tags, the change is not possible, or it failed and was rolled back.
        ClientError, BotoCoreError: AWS refused a call, or was not reached.
    """
    before = _ready(cloudformation, name, tags, progress)
    declared = cloudformation.validate_template(**_source(template))["Parameters"]
    values = _parameter_values(name, declared, before, parameters)
    with _change_set(cloudformation, name, template, values, tags, new=before is None, progress=progress) as planned:
        if not planned.changed:
            return _deployed(cloudformation, name)
        if not confirm(planned.changes):
            raise Declined(f"nothing was changed: the changes to {name} were declined")
        latest = next(_events(cloudformation, planned.stack_id), None)
        cloudformation.execute_change_set(ChangeSetName=planned.id)
        planned.executed = True
    _follow(cloudformation, name, planned, latest, progress)
    return _deployed(cloudformation, planned.stack_id)


def standing_parameter(cloudformation: Any, name: str, parameter: str) -> str | None:
    """The value that the stack has; None where there is no such stack or parameter yet.

    Raises:
        ClientError, BotoCoreError: AWS refused a call, or was not reached.
    """
    stack = _find(cloudformation, name)
    return _parameters(stack).get(parameter) if stack else None


def standing_output(cloudformation: Any, name: str, output: str) -> str | None:
    """What the stack puts out under this name, as `standing_parameter`."""
    stack = _find(cloudformation, name)
    return _outputs(stack).get(output) if stack else None


def _source(template: str) -> dict[str, str]:
    return {"TemplateURL" if template.startswith("https://") else "TemplateBody": template}


@dataclass
class _Planned:
    id: str
    stack_id: str
    new: bool
    changed: bool
    changes: list[Change]
    executed: bool = False


def _ready(cloudformation: Any, name: str, tags: Mapping[str, str], progress: Progress) -> dict[str, Any] | None:
    """The stack, if there is one to change. What a failed first deployment left is removed."""
    stack = _find(cloudformation, name)
    status = stack["StackStatus"] if stack else ""
    # One that holds nothing yet may have no tags.
    if stack and status != "REVIEW_IN_PROGRESS":
        _require_own(stack, name, tags)
    if stack and status in ("REVIEW_IN_PROGRESS", "ROLLBACK_COMPLETE"):
        progress.say(f"Removing what a deployment that never finished left of {name} ({status})")
        _remove(cloudformation, stack["StackId"])
        return None
    if status.endswith("_IN_PROGRESS"):
        raise StackError(
            f"{name} is being changed by someone else ({status}); wait until that is done, and deploy again"
        )
    if status.endswith("_FAILED"):
        raise StackError(
            f"{name} is in {status}; expected a stack that can be updated; see its events in the "
            "CloudFormation console, continue its rollback or delete it there, and deploy again"
        )
    return stack


def _require_own(stack: Mapping[str, Any], name: str, tags: Mapping[str, str]) -> None:
    """A stack of another service's tenant may have the same name: `desk-dev-tenant-prod-platform`. Tags say whose."""
    if not tags.items() <= {tag["Key"]: tag["Value"] for tag in stack.get("Tags", [])}.items():
        expected = ", ".join(f"{key}={value}" for key, value in tags.items())
        raise StackError(f"{name} is another's stack by its tags; expected {expected}; use another stage or tag it so")


def _find(cloudformation: Any, name: str) -> dict[str, Any] | None:
    try:
        stacks = cloudformation.describe_stacks(StackName=name)["Stacks"]
    except ClientError as error:
        # CloudFormation has no code of its own for this.
        if "does not exist" in error.response["Error"].get("Message", ""):
            return None
        raise
    return stacks[0] if stacks and stacks[0]["StackStatus"] != "DELETE_COMPLETE" else None


def _parameter_values(
    name: str,
    declared: list[dict[str, Any]],
    before: dict[str, Any] | None,
    given: Mapping[str, str],
) -> dict[str, str]:
    defaults = {slot["ParameterKey"]: slot.get("DefaultValue") for slot in declared}
    if unknown := sorted(set(given) - set(defaults)):
        raise StackError(f"{name} has no parameter {', '.join(unknown)}; expected one of {', '.join(sorted(defaults))}")
    previous = _parameters(before) if before else {}
    values = {
        **defaults,
        **{key: previous[key] for key in previous.keys() & defaults.keys()},
        **given,
    }
    if missing := sorted(key for key, value in values.items() if value is None):
        raise StackError(f"{name} needs a value for {', '.join(missing)}; expected one given, or a default")
    return {key: str(value) for key, value in values.items()}


def _parameters(stack: dict[str, Any]) -> dict[str, str]:
    return {item["ParameterKey"]: item["ParameterValue"] for item in stack.get("Parameters", [])}


def _outputs(stack: dict[str, Any]) -> dict[str, str]:
    return {item["OutputKey"]: item["OutputValue"] for item in stack.get("Outputs", [])}


@contextmanager
def _change_set(
    cloudformation: Any,
    name: str,
    template: str,
    values: Mapping[str, str],
    tags: Mapping[str, str],
    *,
    new: bool,
    progress: Progress,
) -> Iterator[_Planned]:
    """The planned changes. Unless they are executed, no change set and no new stack remains."""
    answer = cloudformation.create_change_set(
        StackName=name,
        ChangeSetName=f"deploy-{uuid4().hex}",
        ChangeSetType="CREATE" if new else "UPDATE",
        **_source(template),
        Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in values.items()],
        Tags=[{"Key": key, "Value": value} for key, value in tags.items()],
        Capabilities=["CAPABILITY_IAM"],
    )
    planned = _Planned(answer["Id"], answer["StackId"], new, True, [])
    try:
        _plan(cloudformation, name, planned, progress)
        yield planned
    finally:
        if not planned.executed:
            _discard(cloudformation, name, planned, progress)


def _plan(cloudformation: Any, name: str, planned: _Planned, progress: Progress) -> None:
    for _ in _pauses():
        described = cloudformation.describe_change_set(ChangeSetName=planned.id)
        if described["Status"] in ("CREATE_COMPLETE", "FAILED"):
            break
        progress.tick()
    if described["Status"] == "FAILED":
        reason = described.get("StatusReason", "no reason given")
        if not any(words in reason for words in _UNCHANGED):
            raise StackError(f"the changes to {name} are not possible: {one_line(reason)}; nothing was changed")
        planned.changed = False
        return
    while True:
        planned.changes += [_change(item["ResourceChange"]) for item in described.get("Changes", [])]
        if not described.get("NextToken"):
            return
        described = cloudformation.describe_change_set(ChangeSetName=planned.id, NextToken=described["NextToken"])


def _change(item: dict[str, Any]) -> Change:
    return Change(item["Action"], item["LogicalResourceId"], item["ResourceType"], item.get("Replacement", ""))


def _discard(cloudformation: Any, name: str, planned: _Planned, progress: Progress) -> None:
    try:
        cloudformation.delete_change_set(ChangeSetName=planned.id)
        if planned.new:
            _remove(cloudformation, planned.stack_id)
    except (ClientError, BotoCoreError) as error:
        # Not raised: what led here is what the operator must read.
        progress.say(f"{planned.id} of {name} could not be removed: {one_line(str(error))}")


def _remove(cloudformation: Any, stack_id: str) -> None:
    cloudformation.delete_stack(StackName=stack_id)
    for _ in _pauses():
        stack = _find(cloudformation, stack_id)
        if stack is None:
            return
        if stack["StackStatus"] == "DELETE_FAILED":
            raise StackError(
                f"{stack['StackName']} could not be deleted; see its events in the CloudFormation "
                "console, and delete it there"
            )


def _follow(cloudformation: Any, name: str, planned: _Planned, latest: Event | None, progress: Progress) -> None:
    """Shows events until the stack is at rest; StackError where that is not at its goal."""
    seen = {latest.id} if latest else set()
    settled: set[str] = set()
    failure: Event | None = None
    for _ in _pauses():
        progress.tick()
        for event in _new_events(cloudformation, planned.stack_id, seen):
            seen.add(event.id)
            if failure is None and _says_why(event):
                failure = event
                progress.say(f"{event.logical_id}: {event.status}: {one_line(event.reason)}")
            if event.type != _STACK or event.physical_id != planned.stack_id:
                if event.status.endswith("_COMPLETE"):
                    settled.add(event.logical_id)
                count = f"{len(settled)} of {len(planned.changes)}"
                progress.event(f"{name}: {count}, {event.logical_id} ({event.type}) {event.status}")
            elif event.status in ("CREATE_COMPLETE", "UPDATE_COMPLETE"):
                progress.say(f"{name}: {event.status}")
                return
            elif not event.status.endswith("_IN_PROGRESS"):
                raise _failed(cloudformation, name, planned, event, failure or event)


def _says_why(event: Event) -> bool:
    # What was under way when something else failed is reported as failed too.
    failed = event.status.endswith("_FAILED") and "cancelled" not in event.reason
    return failed or (event.type == _STACK and "ROLLBACK" in event.status and bool(event.reason))


def _failed(cloudformation: Any, name: str, planned: _Planned, end: Event, failure: Event) -> StackError:
    reason = one_line(failure.reason or failure.status)
    first = f"{failure.logical_id} ({failure.type}) failed: {reason}"
    if end.status == "ROLLBACK_COMPLETE":
        _remove(cloudformation, planned.stack_id)
        return StackError(f"{first}; {name} was new and has been removed again")
    if end.status == "UPDATE_ROLLBACK_COMPLETE":
        return StackError(f"{first}; {name} was rolled back and is as it was before")
    return StackError(
        f"{first}; {name} is in {end.status} and was not rolled back; see its events in the CloudFormation console"
    )


def _new_events(cloudformation: Any, stack_id: str, seen: set[str]) -> list[Event]:
    """What happened since `seen`, in its order."""
    return list(takewhile(lambda event: event.id not in seen, _events(cloudformation, stack_id)))[::-1]


def _events(cloudformation: Any, stack_id: str) -> Iterator[Event]:
    """Everything that happened to the stack, newest first."""
    page: dict[str, str] = {}
    while True:
        answer = cloudformation.describe_stack_events(StackName=stack_id, **page)
        for item in answer["StackEvents"]:
            yield Event(
                item["EventId"],
                item["LogicalResourceId"],
                item.get("PhysicalResourceId", ""),
                item["ResourceType"],
                item["ResourceStatus"],
                item.get("ResourceStatusReason", ""),
            )
        if not answer.get("NextToken"):
            return
        page = {"NextToken": answer["NextToken"]}


def _deployed(cloudformation: Any, name: str) -> Deployed:
    stack = cloudformation.describe_stacks(StackName=name)["Stacks"][0]
    return Deployed(_outputs(stack), _parameters(stack))


def _pauses() -> Iterator[None]:
    """Yields at once, and again after pauses that grow."""
    pause = _FIRST_PAUSE
    while True:
        yield
        time.sleep(pause)
        pause = min(pause * 1.5, _LONGEST_PAUSE)


def one_line(text: str) -> str:
    """The text without line breaks and without a full stop, to stand in a sentence."""
    return " ".join(text.split()).rstrip(".")

"""CloudFormation: stacks, change sets and events over the backends that answer the other APIs.

Stands in for moto's, whose change sets ignore dynamic differences and list no Outputs, whose stacks
report CREATE_COMPLETE for types that they never create, and which drops what a role's update
changes. Here a stack fails as on AWS: refused before anything happens where the template is wrong,
rolled back where a resource can't be made.
"""

import json
import threading
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote, urlparse

from moto.core.utils import get_service_model

from . import stack_views
from .gate import Gate
from .operations import Call, ServiceError
from .resources import KINDS
from .resources.kind import Place
from .rollout import (
    ResourceFailed,
    Rollout,
    Stack,
    delete_resource,
    read_attribute,
)
from .sts import assume_as_service
from .template import MAX_TEMPLATE_BYTES, Scope, TemplateError, parse, resolve_parameters

NO_CHANGES = "The submitted information didn't contain changes. Submit different information to create a change set."
_UPDATABLE = {"CREATE_COMPLETE", "UPDATE_COMPLETE", "UPDATE_ROLLBACK_COMPLETE"}


@dataclass
class _ChangeSet:
    """A planned change; `changed` is False when there is nothing to do."""

    name: str
    id: str
    stack: Stack
    creates: bool
    body: str
    template: dict[str, Any]
    given: dict[str, str]
    parameters: dict[str, Any]
    tags: list[dict[str, str]]
    capabilities: list[str]
    description: str | None
    changes: list[dict[str, Any]]
    changed: bool
    executed: bool = False
    created: datetime = field(default_factory=lambda: datetime.now(UTC))


def _validation(message: str) -> ServiceError:
    return ServiceError("ValidationError", message)


class Formation:
    """The CloudFormation API of one account and region.

    Every call that changes a stack returns when the change is done, so that nobody sees a stack
    IN_PROGRESS and waiters return at once.
    """

    def __init__(self, account: str, region: str) -> None:
        self._account = account
        self._region = region
        self._stacks: dict[str, Stack] = {}
        self._change_sets: dict[str, _ChangeSet] = {}
        self._lock = threading.RLock()
        self._gate: Gate | None = None

    def register(self, gate: Gate) -> None:
        """Answer all of CloudFormation's operations at the gate; those that are missing say so."""
        self._gate = gate
        own: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
            "CreateChangeSet": self._create_change_set,
            "CreateStack": self._create_stack,
            "DeleteChangeSet": self._delete_change_set,
            "DeleteStack": self._delete_stack,
            "DescribeChangeSet": self._describe_change_set,
            "DescribeStackEvents": self._describe_stack_events,
            "DescribeStackResource": self._describe_stack_resource,
            "DescribeStackResources": self._describe_stack_resources,
            "DescribeStacks": self._describe_stacks,
            "ExecuteChangeSet": self._execute_change_set,
            "GetTemplate": self._get_template,
            "ListChangeSets": self._list_change_sets,
            "ListStackResources": self._list_stack_resources,
            "ListStacks": self._list_stacks,
            "UpdateStack": self._update_stack,
            "UpdateTerminationProtection": self._update_termination_protection,
            "ValidateTemplate": self._validate_template,
        }
        for operation in get_service_model("cloudformation").operation_names:
            gate.handle("cloudformation", operation, self._handler(operation, own.get(operation)))

    def outputs(self, stack_name: str) -> dict[str, str]:
        """The outputs of a stack by key; empty when there is no such stack."""
        stack = self._current(stack_name)
        return {o["OutputKey"]: o["OutputValue"] for o in stack.outputs} if stack else {}

    def _handler(
        self, operation: str, method: Callable[[dict[str, Any]], dict[str, Any]] | None
    ) -> Callable[[Call], dict[str, Any]]:
        def handle(call: Call) -> dict[str, Any]:
            if method is None:
                raise _validation(f"the local cloud has no CloudFormation operation {operation}")
            try:
                with self._lock:
                    return method(call.params)
            except TemplateError as error:
                raise _validation(str(error)) from None

        return handle

    # --- Change sets ------------------------------------------------------------------------------

    def _create_change_set(self, params: dict[str, Any]) -> dict[str, Any]:
        name = params["StackName"]
        creates = params.get("ChangeSetType", "UPDATE") == "CREATE"
        stack = self._current(name)
        if creates and stack and stack.status != "REVIEW_IN_PROGRESS":
            raise _validation(f"Stack [{name}] already exists and cannot be created again")
        if not creates:
            stack = self._updatable(name)
        change_set = self._plan(stack or self._new_stack(name), params, creates)
        if stack is None:
            change_set.stack.note("REVIEW_IN_PROGRESS", "User Initiated")
            self._stacks[change_set.stack.id] = change_set.stack
        self._change_sets[change_set.id] = change_set
        return {"Id": change_set.id, "StackId": change_set.stack.id}

    def _plan(self, stack: Stack, params: dict[str, Any], creates: bool) -> _ChangeSet:
        body = self._body(params, stack)
        template = parse(body)
        _check_types(template)
        capabilities = params.get("Capabilities", [])
        _check_capabilities(template, capabilities)
        given = _given(params.get("Parameters", []), stack)
        parameters = resolve_parameters(template, given, self._stored_parameter)
        tags = params.get("Tags", stack.tags)
        changes = self._changes(stack, template, parameters, tags)
        # Outputs count as well, by what they say and by the parameters that they tell.
        told = {part: template.get(part) for part in ("Outputs", "Conditions")}
        others = {name for name in parameters if parameters[name] != stack.parameters.get(name)}
        changed = bool(
            changes
            or creates
            or told["Outputs"] != stack.template.get("Outputs")
            or any(json.dumps(name) in json.dumps(told) for name in others)
            or tags != stack.tags
        )
        name = params.get("ChangeSetName", "direct")
        return _ChangeSet(
            name=name,
            id=self._arn(f"changeSet/{name}/{uuid.uuid4()}"),
            stack=stack,
            creates=creates,
            body=body,
            template=template,
            given=given,
            parameters=parameters,
            tags=tags,
            capabilities=capabilities,
            description=params.get("Description"),
            changes=changes,
            changed=changed,
        )

    def _changes(
        self,
        stack: Stack,
        template: Mapping[str, Any],
        parameters: Mapping[str, Any],
        tags: Sequence[Mapping[str, str]],
    ) -> list[dict[str, Any]]:
        """What a rollout would add, modify and remove, as far as it is known beforehand."""

        def attribute(logical_id: str, name: str | None) -> Any:
            if logical_id in stack.placed:
                return read_attribute(logical_id, stack.placed[logical_id].resource, name)
            return f"{{known after deployment: {logical_id}.{name or 'Ref'}}}"

        scope = self._scope(stack, template, parameters, attribute=attribute)
        changes = []
        included = set()
        for logical_id, definition in template["Resources"].items():
            if "Condition" in definition and not scope.condition(definition["Condition"]):
                continue
            included.add(logical_id)
            resolved = scope.resolve(definition.get("Properties") or {})
            properties = KINDS[definition["Type"]].tagged(resolved, tags)
            former = stack.placed.get(logical_id)
            if former is None:
                changes.append(stack_views.change("Add", logical_id, definition["Type"]))
            elif (former.type, former.properties) != (definition["Type"], properties):
                changes.append(stack_views.modification(former, definition["Type"], properties))
        changes += [
            stack_views.change("Remove", logical_id, placed.type, placed)
            for logical_id, placed in stack.placed.items()
            if logical_id not in included
        ]
        return changes

    def _describe_change_set(self, params: dict[str, Any]) -> dict[str, Any]:
        change_set = self._change_set(params)
        executed = "EXECUTE_COMPLETE" if change_set.executed else "AVAILABLE"
        described = {
            "ChangeSetName": change_set.name,
            "ChangeSetId": change_set.id,
            "StackId": change_set.stack.id,
            "StackName": change_set.stack.name,
            "CreationTime": change_set.created,
            "Parameters": stack_views.shown(change_set.template, change_set.parameters),
            "Capabilities": change_set.capabilities,
            "Tags": change_set.tags,
            "Changes": change_set.changes,
            "Status": "CREATE_COMPLETE" if change_set.changed else "FAILED",
            "ExecutionStatus": executed if change_set.changed else "UNAVAILABLE",
        }
        if change_set.description:
            described["Description"] = change_set.description
        if not change_set.changed:
            described["StatusReason"] = NO_CHANGES
        return described

    def _list_change_sets(self, params: dict[str, Any]) -> dict[str, Any]:
        stack = self._existing(params["StackName"])
        return {
            "Summaries": [
                {
                    "StackId": stack.id,
                    "StackName": stack.name,
                    "ChangeSetId": change_set.id,
                    "ChangeSetName": change_set.name,
                    "Status": "CREATE_COMPLETE" if change_set.changed else "FAILED",
                    "CreationTime": change_set.created,
                }
                for change_set in self._change_sets.values()
                if change_set.stack is stack
            ]
        }

    def _delete_change_set(self, params: dict[str, Any]) -> dict[str, Any]:
        del self._change_sets[self._change_set(params).id]
        return {}

    def _execute_change_set(self, params: dict[str, Any]) -> dict[str, Any]:
        change_set = self._change_set(params)
        if not change_set.changed or change_set.executed:
            state = "EXECUTE_COMPLETE" if change_set.executed else "FAILED"
            raise ServiceError(
                "InvalidChangeSetStatus",
                f"ChangeSet [{change_set.id}] cannot be executed in its status of [{state}]",
            )
        change_set.executed = True
        self._roll_out(change_set)
        return {}

    def _change_set(self, params: dict[str, Any]) -> _ChangeSet:
        name, stack_name = params["ChangeSetName"], params.get("StackName")
        for change_set in reversed(self._change_sets.values()):
            stack = change_set.stack
            if change_set.id == name or (change_set.name == name and stack_name in (stack.name, stack.id)):
                return change_set
        raise ServiceError("ChangeSetNotFound", f"ChangeSet [{name}] does not exist", 404)

    # --- Stacks -----------------------------------------------------------------------------------

    def _create_stack(self, params: dict[str, Any]) -> dict[str, Any]:
        name = params["StackName"]
        self._take_role(params)
        if self._current(name):
            raise ServiceError("AlreadyExistsException", f"Stack [{name}] already exists")
        plan = self._plan(self._new_stack(name), params, True)
        plan.stack.protected = params.get("EnableTerminationProtection", False)
        self._stacks[plan.stack.id] = plan.stack
        self._roll_out(plan)
        return {"StackId": plan.stack.id}

    def _update_stack(self, params: dict[str, Any]) -> dict[str, Any]:
        plan = self._plan(self._updatable(params["StackName"]), params, False)
        self._take_role(params)
        if not plan.changed:
            raise _validation("No updates are to be performed.")
        self._roll_out(plan)
        return {"StackId": plan.stack.id}

    def _roll_out(self, plan: _ChangeSet) -> None:
        stack = plan.stack
        former = (stack.template, stack.parameters, stack.tags)
        if plan.creates:
            stack.tags = plan.tags  # which stay where it fails: they say whose it is
        stack.note("CREATE_IN_PROGRESS" if plan.creates else "UPDATE_IN_PROGRESS", "User Initiated")
        try:
            self._rollout(stack, plan.template, plan.parameters, plan.tags).run()
        except ResourceFailed as failure:
            self._roll_back(stack, failure, None if plan.creates else former)
            return
        stack.body, stack.template = plan.body, plan.template
        stack.given, stack.parameters = plan.given, plan.parameters
        stack.tags, stack.capabilities = plan.tags, plan.capabilities
        if not plan.creates:
            stack.updated = datetime.now(UTC)
        stack.note("CREATE_COMPLETE" if plan.creates else "UPDATE_COMPLETE")

    def _roll_back(
        self,
        stack: Stack,
        failure: ResourceFailed,
        former: tuple[dict[str, Any], dict[str, Any], list[dict[str, str]]] | None,
    ) -> None:
        reason = f"The following resource(s) failed: [{failure.logical_id}]. {failure.reason}"
        verb = "UPDATE_ROLLBACK" if former else "ROLLBACK"
        stack.note(f"{verb}_IN_PROGRESS", reason)
        try:
            if former:
                self._rollout(stack, *former).run()
            else:
                self._delete_resources(stack, created_now=True)
        except ResourceFailed as second:
            stack.note(f"{verb}_FAILED", f"{reason}; rolling back failed: {second}")
            return
        stack.note(f"{verb}_COMPLETE", reason)

    def _rollout(
        self,
        stack: Stack,
        template: Mapping[str, Any],
        parameters: Mapping[str, Any],
        tags: Sequence[Mapping[str, str]],
    ) -> Rollout:
        return Rollout(
            stack,
            template,
            lambda attribute: self._scope(stack, template, parameters, attribute=attribute),
            lambda logical_id: Place(self._account, self._region, stack.name, logical_id),
            tags,
        )

    def _delete_stack(self, params: dict[str, Any]) -> dict[str, Any]:
        stack = self._current(params["StackName"])
        if stack is None:
            return {}
        self._take_role(params)
        if stack.protected:
            raise _validation(f"Stack [{stack.name}] cannot be deleted while TerminationProtection is enabled")
        stack.note("DELETE_IN_PROGRESS", "User Initiated")
        try:
            self._delete_resources(stack)
        except ResourceFailed as failure:
            stack.note("DELETE_FAILED", f"The following resource(s) failed to delete: {failure}")
            return {}
        stack.outputs = []
        stack.note("DELETE_COMPLETE")
        return {}

    @staticmethod
    def _delete_resources(stack: Stack, *, created_now: bool = False) -> None:
        """Delete what the stack holds; what was created just now is kept by plain Retain alone."""
        for placed in reversed(list(stack.placed.values())):
            plain = placed.definition.get("DeletionPolicy") == "Retain"
            if not (plain if created_now else placed.outlives_stack):
                delete_resource(stack, placed)
            del stack.placed[placed.logical_id]

    def _update_termination_protection(self, params: dict[str, Any]) -> dict[str, Any]:
        stack = self._existing(params["StackName"])
        stack.protected = params["EnableTerminationProtection"]
        return {"StackId": stack.id}

    def _describe_stacks(self, params: dict[str, Any]) -> dict[str, Any]:
        if "StackName" in params:
            return {"Stacks": [stack_views.described(self._existing(params["StackName"]))]}
        stacks = [stack for stack in self._stacks.values() if stack.status != "DELETE_COMPLETE"]
        return {"Stacks": [stack_views.described(stack) for stack in stacks]}

    def _list_stacks(self, params: dict[str, Any]) -> dict[str, Any]:
        wanted = params.get("StackStatusFilter")
        return {
            "StackSummaries": [
                {
                    "StackId": stack.id,
                    "StackName": stack.name,
                    "CreationTime": stack.created,
                    "StackStatus": stack.status,
                }
                for stack in self._stacks.values()
                if not wanted or stack.status in wanted
            ]
        }

    def _describe_stack_events(self, params: dict[str, Any]) -> dict[str, Any]:
        return {"StackEvents": self._existing(params["StackName"]).events[::-1]}

    def _get_template(self, params: dict[str, Any]) -> dict[str, Any]:
        return {"TemplateBody": self._existing(params["StackName"]).body}

    def _describe_stack_resource(self, params: dict[str, Any]) -> dict[str, Any]:
        stack, logical_id = self._existing(params["StackName"]), params["LogicalResourceId"]
        if logical_id not in stack.placed:
            raise _validation(f"Resource {logical_id} does not exist for stack {stack.name}")
        detail = stack_views.resource(stack, stack.placed[logical_id], "LastUpdatedTimestamp")
        return {"StackResourceDetail": detail}

    def _describe_stack_resources(self, params: dict[str, Any]) -> dict[str, Any]:
        stack, wanted = self._existing(params["StackName"]), params.get("LogicalResourceId")
        return {
            "StackResources": [
                stack_views.resource(stack, placed, "Timestamp")
                for placed in stack.placed.values()
                if wanted in (None, placed.logical_id)
            ]
        }

    def _list_stack_resources(self, params: dict[str, Any]) -> dict[str, Any]:
        stack = self._existing(params["StackName"])
        return {
            "StackResourceSummaries": [
                stack_views.resource(stack, placed, "LastUpdatedTimestamp") for placed in stack.placed.values()
            ]
        }

    def _validate_template(self, params: dict[str, Any]) -> dict[str, Any]:
        template = parse(self._body(params, None))
        _check_types(template)
        return {
            "Description": template.get("Description", ""),
            "Parameters": [
                stack_views.declared(name, slot) for name, slot in (template.get("Parameters") or {}).items()
            ],
            "Capabilities": sorted(_needed_capabilities(template)),
        }

    # --- Looking up -------------------------------------------------------------------------------

    def _new_stack(self, name: str) -> Stack:
        return Stack(name, self._arn(f"stack/{name}/{uuid.uuid4()}"))

    def _arn(self, resource: str) -> str:
        return f"arn:aws:cloudformation:{self._region}:{self._account}:{resource}"

    def _current(self, name: str) -> Stack | None:
        """The stack of this name or id, None when it doesn't exist or was deleted."""
        for stack in self._stacks.values():
            if name in (stack.name, stack.id) and stack.status != "DELETE_COMPLETE":
                return stack
        return None

    def _existing(self, name: str) -> Stack:
        stack = self._current(name) or self._stacks.get(name)
        if stack is None:
            raise _validation(f"Stack with id {name} does not exist")
        return stack

    def _take_role(self, params: Mapping[str, Any]) -> None:
        """Takes the role that CloudFormation is to work in, if it may. What it makes is not judged by that role."""
        if self._gate is not None and (role_arn := params.get("RoleARN")):
            name = role_arn.rpartition("/")[2]
            assume_as_service(self._gate, name, "cloudformation.amazonaws.com", "AWSCloudFormation")

    def _updatable(self, name: str) -> Stack:
        stack = self._existing(name)
        if stack.status not in _UPDATABLE:
            raise _validation(f"Stack:{stack.id} is in {stack.status} state and can not be updated.")
        return stack

    def _scope(
        self,
        stack: Stack,
        template: Mapping[str, Any],
        parameters: Mapping[str, Any],
        *,
        attribute: Callable[[str, str | None], Any],
    ) -> Scope:
        pseudo = {
            "AWS::AccountId": self._account,
            "AWS::Partition": "aws",
            "AWS::Region": self._region,
            "AWS::StackId": stack.id,
            "AWS::StackName": stack.name,
            "AWS::URLSuffix": "amazonaws.com",
        }
        return Scope(
            template,
            pseudo=pseudo,
            parameters=parameters,
            attribute=attribute,
            exported=self._exported,
        )

    def _exported(self, name: str) -> str:
        for stack in self._stacks.values():
            for output in stack.outputs:
                if output.get("ExportName") == name:
                    return str(output["OutputValue"])
        raise TemplateError(f"No export named {name} found.")

    def _stored_parameter(self, name: str) -> str:
        from moto.ssm.models import ssm_backends  # loads much of moto: only where it is used

        parameter = ssm_backends[self._account][self._region].get_parameter(name)
        if parameter is None:
            raise TemplateError(f"Systems Manager has no parameter {name}")
        return str(parameter.value)

    def _body(self, params: Mapping[str, Any], stack: Stack | None) -> str:
        if "TemplateBody" in params:
            body = str(params["TemplateBody"])
            if len(body.encode()) > MAX_TEMPLATE_BYTES:
                raise TemplateError(
                    f"templateBody must have length less than or equal to {MAX_TEMPLATE_BYTES}: "
                    "put the template into S3 and pass TemplateURL"
                )
            return body
        if "TemplateURL" in params:
            return self._object(params["TemplateURL"])
        if params.get("UsePreviousTemplate") and stack:
            return stack.body
        raise TemplateError("Either Template URL or Template Body must be specified.")

    def _object(self, url: str) -> str:
        parts = urlparse(url)
        host, path = parts.hostname or "", unquote(parts.path).lstrip("/")
        if ".s3." in host:
            bucket, key = host.split(".s3.")[0], path
        else:
            bucket, _, key = path.partition("/")
        from moto.s3.models import s3_backends

        stored = s3_backends[self._account]["aws"].get_object(bucket, key)
        if stored is None:
            raise TemplateError(f"S3 error: there is no template at {url}")
        return str(stored.value.decode())


# --- Forms of the API -----------------------------------------------------------------------------


def _check_types(template: Mapping[str, Any]) -> None:
    types = {definition["Type"] for definition in template["Resources"].values()}
    unknown = sorted(types - KINDS.keys())
    if unknown:
        raise TemplateError(
            f"Template format error: Unrecognized resource types: [{', '.join(unknown)}]. "
            "The local cloud neither creates them nor lists them as inert: "
            "add a kind to local/resources"
        )


def _needed_capabilities(template: Mapping[str, Any]) -> set[str]:
    iam = [x for x in template["Resources"].values() if x["Type"].startswith("AWS::IAM::")]
    named = any(x.get("Properties", {}).keys() & {"RoleName", "ManagedPolicyName", "UserName"} for x in iam)
    if named:
        return {"CAPABILITY_NAMED_IAM"}
    return {"CAPABILITY_IAM"} if iam else set()


def _check_capabilities(template: Mapping[str, Any], capabilities: list[str]) -> None:
    needed = _needed_capabilities(template)
    if needed and not (needed | {"CAPABILITY_NAMED_IAM"}) & set(capabilities):
        raise ServiceError("InsufficientCapabilitiesException", f"Requires capabilities : [{needed.pop()}]")


def _given(parameters: list[dict[str, Any]], stack: Stack) -> dict[str, str]:
    given = {}
    for parameter in parameters:
        name = parameter["ParameterKey"]
        if parameter.get("UsePreviousValue"):
            if name in stack.given:
                given[name] = stack.given[name]
        else:
            given[name] = parameter["ParameterValue"]
    return given

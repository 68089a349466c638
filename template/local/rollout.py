"""The resources of a stack on their way to a template, and back when one of them fails."""

import uuid
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from .resources import KINDS
from .resources.kind import Kind, Place, Resource
from .template import Scope, TemplateError


class ResourceFailed(Exception):
    """A resource or an output couldn't be made, or a resource couldn't be deleted."""

    def __init__(self, logical_id: str, reason: str) -> None:
        super().__init__(f"{logical_id}: {reason}")
        self.logical_id = logical_id
        self.reason = reason


@dataclass
class Placed:
    """A resource of a stack as it stands. `definition` is what the template says, unresolved."""

    logical_id: str
    type: str
    kind: Kind
    place: Place
    resource: Resource
    properties: dict[str, Any]
    definition: Mapping[str, Any]
    status: str = "CREATE_COMPLETE"
    changed: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def outlives_stack(self) -> bool:
        """Is the resource kept when it leaves the template or when the stack is deleted?"""
        return self.definition.get("DeletionPolicy") in ("Retain", "RetainExceptOnCreate")


@dataclass
class Stack:
    """A stack: its template and parameters, what exists of it, and what happened to it.

    given: parameter values as they were passed; parameters: resolved ones.
    """

    name: str
    id: str
    body: str = ""
    template: dict[str, Any] = field(default_factory=lambda: {"Resources": {}})
    given: dict[str, str] = field(default_factory=dict)
    parameters: dict[str, Any] = field(default_factory=dict)
    tags: list[dict[str, str]] = field(default_factory=list)
    capabilities: list[str] = field(default_factory=list)
    status: str = "REVIEW_IN_PROGRESS"
    reason: str | None = None
    placed: dict[str, Placed] = field(default_factory=dict)
    outputs: list[dict[str, Any]] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    protected: bool = False
    created: datetime = field(default_factory=lambda: datetime.now(UTC))
    updated: datetime | None = None

    def note(self, status: str, reason: str | None = None) -> None:
        """Set the stack's status and record the event."""
        self.status, self.reason = status, reason
        self.record(self.name, self.id, "AWS::CloudFormation::Stack", status, reason)

    def record(
        self,
        logical_id: str,
        physical_id: str,
        resource_type: str,
        status: str,
        reason: str | None = None,
    ) -> None:
        """Record an event of a resource, or of the stack itself."""
        event = {
            "StackId": self.id,
            "StackName": self.name,
            "EventId": str(uuid.uuid4()),
            "LogicalResourceId": logical_id,
            "PhysicalResourceId": physical_id,
            "ResourceType": resource_type,
            "ResourceStatus": status,
            "Timestamp": datetime.now(UTC),
        }
        if reason:
            event["ResourceStatusReason"] = reason
        self.events.append(event)


class Rollout:
    """Brings the resources of a stack to a template.

    Resources are created and updated in the order in which they refer to each other; then what is
    left over is deleted.
    """

    def __init__(
        self,
        stack: Stack,
        template: Mapping[str, Any],
        scope_of: Callable[..., Scope],
        place_of: Callable[[str], Place],
        tags: Sequence[Mapping[str, str]],
    ) -> None:
        self._stack = stack
        self._tags = tags
        self._definitions: Mapping[str, Any] = template["Resources"]
        self._outputs: Mapping[str, Any] = template.get("Outputs") or {}
        self._scope = scope_of(attribute=self._attribute)
        self._place_of = place_of
        self._former = dict(stack.placed)
        self._underway: list[str] = []
        self._replaced: list[Placed] = []
        self.settled: dict[str, Placed] = {}

    def run(self) -> None:
        """Settle every resource and the outputs; on success the stack holds both.

        Raises:
            ResourceFailed: a resource failed. The stack then holds what exists, so that a second
                rollout of the former template, or deleting everything, brings it back.
        """
        try:
            for logical_id in self._definitions:
                if self._included(logical_id):
                    self._settle(logical_id)
            outputs = self._resolve_outputs()
        except ResourceFailed:
            self._stack.placed = {**self._former, **self.settled}
            for placed in self._replaced:
                self._stack.placed[placed.logical_id] = placed
                delete_resource(self._stack, self.settled[placed.logical_id])
            raise
        leftovers = [x for name, x in self._former.items() if name not in self.settled]
        self._stack.placed = self.settled
        self._stack.outputs = outputs
        for placed in leftovers:
            if not placed.outlives_stack:
                delete_resource(self._stack, placed)
        for placed in self._replaced:
            if placed.definition.get("UpdateReplacePolicy") != "Retain":
                delete_resource(self._stack, placed)

    def _included(self, logical_id: str) -> bool:
        condition = self._definitions[logical_id].get("Condition")
        try:
            return condition is None or self._scope.condition(condition)
        except TemplateError as error:
            raise ResourceFailed(logical_id, str(error)) from None

    def _attribute(self, logical_id: str, name: str | None) -> Any:
        if logical_id not in self._definitions or not self._included(logical_id):
            raise TemplateError(f"Unresolved resource dependencies [{logical_id}] in the template")
        resource = self._settle(logical_id).resource
        return read_attribute(logical_id, resource, name)

    def _settle(self, logical_id: str) -> Placed:
        if logical_id in self.settled:
            return self.settled[logical_id]
        if logical_id in self._underway:
            circle = " -> ".join([*self._underway, logical_id])
            raise ResourceFailed(logical_id, f"Circular dependency between resources: {circle}")
        self._underway.append(logical_id)
        definition = self._definitions[logical_id]
        try:
            for dependency in _as_list(definition.get("DependsOn", [])):
                if self._included(dependency):
                    self._settle(dependency)
            resolved = self._scope.resolve(definition.get("Properties") or {})
            properties = KINDS[definition["Type"]].tagged(resolved, self._tags)
            placed = self._make(logical_id, definition, properties)
        except ResourceFailed:
            raise
        except Exception as error:
            reason = _one_line(error)
            status = "UPDATE_FAILED" if logical_id in self._former else "CREATE_FAILED"
            self._stack.record(logical_id, "", definition["Type"], status, reason)
            raise ResourceFailed(logical_id, reason) from error
        self._underway.pop()
        self.settled[logical_id] = placed
        return placed

    def _make(self, logical_id: str, definition: Mapping[str, Any], properties: dict[str, Any]) -> Placed:
        former = self._former.get(logical_id)
        resource_type = definition["Type"]
        kind = KINDS[resource_type]
        place = self._place_of(logical_id)
        if former and former.type == resource_type and former.properties == properties:
            former.definition = definition
            return former
        # moto keeps and changes what it is given, hence the copies.
        replaced = former and replaces(former, resource_type, properties)
        if former and not replaced:
            self._record(former, "UPDATE_IN_PROGRESS")
            resource = kind.update(place, former.resource, deepcopy(properties), former.properties)
            status = "UPDATE_COMPLETE"
        else:
            self._stack.record(logical_id, "", resource_type, "CREATE_IN_PROGRESS")
            resource = kind.create(place, deepcopy(properties))
            status = "CREATE_COMPLETE"
        placed = Placed(logical_id, resource_type, kind, place, resource, properties, definition, status)
        if former and replaced:
            self._replaced.append(former)
        self._record(placed, status)
        return placed

    def _record(self, placed: Placed, status: str) -> None:
        self._stack.record(placed.logical_id, placed.resource.physical_id, placed.type, status)

    def _resolve_outputs(self) -> list[dict[str, Any]]:
        outputs = []
        for key, output in self._outputs.items():
            try:
                if "Condition" in output and not self._scope.condition(output["Condition"]):
                    continue
                entry = {"OutputKey": key, "OutputValue": self._scope.resolve(output["Value"])}
                if "Description" in output:
                    entry["Description"] = output["Description"]
                if "Export" in output:
                    entry["ExportName"] = self._scope.resolve(output["Export"]["Name"])
            except TemplateError as error:
                raise ResourceFailed(key, f"Output {key}: {error}") from None
            outputs.append(entry)
        return outputs


def delete_resource(stack: Stack, placed: Placed) -> None:
    """Delete a resource of the stack and record it.

    Raises:
        ResourceFailed: the resource can't be deleted.
    """
    physical_id = placed.resource.physical_id
    stack.record(placed.logical_id, physical_id, placed.type, "DELETE_IN_PROGRESS")
    try:
        placed.kind.delete(placed.place, placed.resource)
    except Exception as error:
        reason = _one_line(error)
        stack.record(placed.logical_id, physical_id, placed.type, "DELETE_FAILED", reason)
        raise ResourceFailed(placed.logical_id, reason) from error
    stack.record(placed.logical_id, physical_id, placed.type, "DELETE_COMPLETE")


def read_attribute(logical_id: str, resource: Resource, name: str | None) -> Any:
    """An attribute of a resource, its physical id when `name` is None.

    Raises:
        TemplateError: the resource has no such attribute.
    """
    if name is None:
        return resource.physical_id
    if name not in resource.attributes:
        known = ", ".join(sorted(resource.attributes)) or "none"
        raise TemplateError(
            f"Template error: resource {logical_id} does not support attribute type {name} "
            f"in Fn::GetAtt; it has: {known}"
        )
    return resource.attributes[name]


def replaces(former: Placed, resource_type: str, properties: Mapping[str, Any]) -> bool:
    """Does the change make CloudFormation create a new resource in place of the former?"""
    return former.type != resource_type or any(
        former.properties.get(name) != properties.get(name) for name in former.kind.replaced_by
    )


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _one_line(error: Exception) -> str:
    text = getattr(error, "message", None) or str(error)
    return " ".join(str(text).split()) or type(error).__name__

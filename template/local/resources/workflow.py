"""Step Functions' state machines and EventBridge's buses."""

import json
import re
from typing import Any

from moto.events.models import events_backends

from ..state_machines import backend_of
from .kind import Kind, Place, Properties, Resource, UnsupportedChange

_SUBSTITUTION = re.compile(r"\$\{(\w+)\}")


class StateMachine(Kind):
    """AWS::StepFunctions::StateMachine with a definition in JSONPath; nothing is logged or traced."""

    replaced_by = frozenset({"StateMachineName", "StateMachineType"})

    def create(self, place: Place, properties: Properties) -> Resource:
        name = properties.get("StateMachineName") or place.name(80)
        backend = backend_of(place.account, place.region)
        if any(machine.name == name for machine in backend.state_machines):
            raise UnsupportedChange(f"AWS::StepFunctions::StateMachine: {name} already exists")
        machine = backend.create_state_machine(name, _definition(properties), properties["RoleArn"])
        return Resource(machine.arn, {"Arn": machine.arn, "Name": machine.name})

    def update(self, place: Place, resource: Resource, properties: Properties, former: Properties) -> Resource:
        backend = backend_of(place.account, place.region)
        backend.update_state_machine(resource.physical_id, _definition(properties), properties["RoleArn"])
        return resource

    def delete(self, place: Place, resource: Resource) -> None:
        backend_of(place.account, place.region).delete_state_machine(resource.physical_id)


def _definition(properties: Properties) -> str:
    """The definition as text, with its substitutions made."""
    if "DefinitionS3Location" in properties:
        raise UnsupportedChange("AWS::StepFunctions::StateMachine: give the Definition itself")
    text = properties.get("DefinitionString") or json.dumps(properties["Definition"])
    values = properties.get("DefinitionSubstitutions", {})
    return _SUBSTITUTION.sub(lambda found: str(values.get(found[1], found[0])), str(text))


class EventBus(Kind):
    """AWS::Events::EventBus; events.py keeps what is put there."""

    replaced_by = frozenset({"Name"})

    def create(self, place: Place, properties: Properties) -> Resource:
        bus: Any = events_backends[place.account][place.region].create_event_bus(properties["Name"])
        return Resource(bus.name, {"Arn": bus.arn, "Name": bus.name})

    def update(self, place: Place, resource: Resource, properties: Properties, former: Properties) -> Resource:
        return resource

    def delete(self, place: Place, resource: Resource) -> None:
        events_backends[place.account][place.region].delete_event_bus(resource.physical_id)

"""Stacks, their resources and their changes in the shapes of the CloudFormation API."""

from collections.abc import Mapping
from typing import Any

from .rollout import Placed, Stack, replaces


def declared(name: str, slot: Mapping[str, Any]) -> dict[str, Any]:
    """A parameter as ValidateTemplate describes it."""
    entry = {"ParameterKey": name, "NoEcho": bool(slot.get("NoEcho", False))}
    if "Default" in slot:
        entry["DefaultValue"] = str(slot["Default"])
    return entry


def shown(template: Mapping[str, Any], parameters: Mapping[str, Any]) -> list[dict[str, str]]:
    """Parameter values as DescribeStacks shows them; those marked NoEcho are hidden."""
    hidden = {name for name, slot in (template.get("Parameters") or {}).items() if slot.get("NoEcho")}
    return [
        {"ParameterKey": name, "ParameterValue": "****" if name in hidden else _text(value)}
        for name, value in parameters.items()
    ]


def _text(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def change(action: str, logical_id: str, resource_type: str, former: Placed | None = None) -> dict[str, Any]:
    """An entry of a change set."""
    entry = {"Action": action, "LogicalResourceId": logical_id, "ResourceType": resource_type}
    if former:
        entry["PhysicalResourceId"] = former.resource.physical_id
    return {"Type": "Resource", "ResourceChange": entry}


def modification(former: Placed, resource_type: str, properties: Mapping[str, Any]) -> dict[str, Any]:
    """The entry of a resource that is modified or replaced."""
    entry = change("Modify", former.logical_id, resource_type, former)
    replacement = replaces(former, resource_type, properties)
    entry["ResourceChange"]["Replacement"] = "True" if replacement else "False"
    return entry


def described(stack: Stack) -> dict[str, Any]:
    """A stack as DescribeStacks shows it."""
    entry = {
        "StackId": stack.id,
        "StackName": stack.name,
        "Description": stack.template.get("Description", ""),
        "Parameters": shown(stack.template, stack.parameters),
        "CreationTime": stack.created,
        "StackStatus": stack.status,
        "DisableRollback": False,
        "Capabilities": stack.capabilities,
        "Outputs": stack.outputs,
        "Tags": stack.tags,
        "EnableTerminationProtection": stack.protected,
    }
    if stack.reason:
        entry["StackStatusReason"] = stack.reason
    if stack.updated:
        entry["LastUpdatedTime"] = stack.updated
    return entry


def resource(stack: Stack, placed: Placed, timestamp: str) -> dict[str, Any]:
    """A resource of a stack; `timestamp`: the name that the operation gives its time."""
    return {
        "StackId": stack.id,
        "StackName": stack.name,
        "LogicalResourceId": placed.logical_id,
        "PhysicalResourceId": placed.resource.physical_id,
        "ResourceType": placed.type,
        "ResourceStatus": placed.status,
        timestamp: placed.changed,
    }

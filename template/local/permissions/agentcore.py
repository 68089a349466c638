"""AgentCore: Memory's condition keys, runtimes, and the control plane."""

from collections.abc import Mapping
from typing import Any

from ..operations import Call
from .permission import Permission, text_context

_PREFIX = "bedrock-agentcore"
_EVENTS = ("CreateEvent", "GetEvent", "ListEvents", "DeleteEvent")
_RECORD_LISTS = ("RetrieveMemoryRecords", "ListMemoryRecords")
_RECORD_BATCHES = ("BatchCreateMemoryRecords", "BatchUpdateMemoryRecords")


def needed(call: Call, account: str) -> list[Permission]:
    """Data plane. What has no condition key (ListActors, GetMemoryRecord) comes without context."""
    action, params = f"{_PREFIX}:{call.operation}", call.params
    if "memoryId" not in params:
        return [Permission(action, str(params.get("agentRuntimeArn") or "*"))]
    memory = _arn(call, account, "memory", params["memoryId"])
    if call.operation in _RECORD_BATCHES:
        return [
            Permission(action, memory, text_context({f"{_PREFIX}:namespace": namespace}))
            for record in params.get("records") or [{}]
            for namespace in _namespaces(record)
        ]
    return [Permission(action, memory, _context(call.operation, params))]


def _context(operation: str, params: Mapping[str, Any]) -> Mapping[str, str | list[str]]:
    """`namespace` and `namespacePath` are keys of their own: each is set by its parameter alone."""
    if operation in _EVENTS:
        extraction = params.get("extractionConfig") or {}
        variables = extraction.get("namespaceVariables") or {}
        keys = {f"namespaceVariable/{name}": value for name, value in variables.items()}
        keys |= {"actorId": params.get("actorId"), "sessionId": params.get("sessionId")}
    elif operation == "ListSessions":
        keys = {"actorId": params.get("actorId")}
    elif operation in _RECORD_LISTS:
        criteria = params.get("searchCriteria") or params
        keys = {
            "namespace": params.get("namespace"),
            "namespacePath": params.get("namespacePath"),
            "strategyId": criteria.get("memoryStrategyId"),
        }
    else:
        keys = {}
    return text_context({f"{_PREFIX}:{name}": value for name, value in keys.items()})


def _namespaces(record: Mapping[str, Any]) -> list[str | None]:
    """Where a record goes and where it comes from; None when it says neither."""
    named = [*(record.get("namespaces") or []), *(record.get("sourceNamespaces") or [])]
    return named or [None]


def needed_for_control(call: Call, account: str) -> list[Permission]:
    """Control plane: memories and runtimes by id, the rest on no resource in particular."""
    resource = "*"
    for kind, parameter in (("memory", "memoryId"), ("runtime", "agentRuntimeId")):
        if call.params.get(parameter):
            resource = _arn(call, account, kind, call.params[parameter])
    return [Permission(f"{_PREFIX}:{call.operation}", resource)]


def _arn(call: Call, account: str, kind: str, identifier: str) -> str:
    if identifier.startswith("arn:"):
        return identifier
    return f"arn:aws:{_PREFIX}:{call.region}:{account}:{kind}/{identifier}"

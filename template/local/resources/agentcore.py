"""Bedrock AgentCore: memories, runtimes and their policies."""

import secrets
from typing import Any

from moto.bedrockagentcorecontrol.models import (
    AgentRuntime,
    Memory,
    bedrockagentcorecontrol_backends,
)
from moto.core.utils import utcnow

from .kind import Kind, Place, Properties, Resource, UnsupportedChange
from .storage import require_object


def _agentcore(place: Place) -> Any:
    return bedrockagentcorecontrol_backends[place.account][place.region]


def _api_form(value: Any) -> Any:
    """Property names as the control API spells them: the first letter in lower case."""
    if isinstance(value, dict):
        return {name[:1].lower() + name[1:]: _api_form(member) for name, member in value.items()}
    return [_api_form(item) for item in value] if isinstance(value, list) else value


class AgentMemory(Kind):
    """AWS::BedrockAgentCore::Memory with its strategies and their namespace templates."""

    replaced_by = frozenset({"Name", "EncryptionKeyArn"})
    tags = ("Tags", dict)

    def create(self, place: Place, properties: Properties) -> Resource:
        backend = _agentcore(place)
        name = properties["Name"]
        if any(memory.name == name for memory in backend.memories.values()):
            raise UnsupportedChange(f"AWS::BedrockAgentCore::Memory: a memory named {name} already exists")
        memory = Memory(
            region_name=place.region,
            account_id=place.account,
            name=name,
            event_expiry_duration=int(properties["EventExpiryDuration"]),
            description=properties.get("Description"),
            encryption_key_arn=properties.get("EncryptionKeyArn"),
            memory_execution_role_arn=properties.get("MemoryExecutionRoleArn"),
            memory_strategies=None,
        )
        # AWS makes ids of the name and 10 characters; moto makes up the whole id.
        memory.memory_id = f"{name}-{secrets.token_hex(5)}"
        memory.memory_arn = f"arn:aws:bedrock-agentcore:{place.region}:{place.account}:memory/{memory.memory_id}"
        memory.advance()
        self._set_strategies(memory, properties)
        backend.memories[memory.memory_id] = memory
        backend.tag_resource(memory.memory_arn, dict(properties.get("Tags", {})))
        return Resource(memory.memory_arn, {"MemoryArn": memory.memory_arn, "MemoryId": memory.memory_id})

    def update(self, place: Place, resource: Resource, properties: Properties, former: Properties) -> Resource:
        memory = _agentcore(place).get_memory(resource.attributes["MemoryId"])
        memory.event_expiry_duration = int(properties["EventExpiryDuration"])
        memory.description = properties.get("Description", "")
        memory.memory_execution_role_arn = properties.get("MemoryExecutionRoleArn")
        if properties.get("MemoryStrategies") != former.get("MemoryStrategies"):
            self._set_strategies(memory, properties)
        memory.updated_at = utcnow()
        return resource

    def delete(self, place: Place, resource: Resource) -> None:
        _agentcore(place).delete_memory(resource.attributes["MemoryId"])

    @staticmethod
    def _set_strategies(memory: Any, properties: Properties) -> None:
        """Set the memory's strategies; one that keeps its name and type keeps its id."""
        existing = {(s["type"], s["name"]): s["strategyId"] for s in memory.strategies}
        memory.strategies = []
        for declared in properties.get("MemoryStrategies", []):
            memory._add_strategy(_api_form(declared))
            strategy = memory.strategies[-1]
            [details] = declared.values()
            templates = details.get("NamespaceTemplates") or details.get("Namespaces", [])
            strategy.update(namespaces=templates, namespaceTemplates=templates)
            strategy["strategyId"] = existing.get((strategy["type"], strategy["name"]), strategy["strategyId"])


class Runtime(Kind):
    """AWS::BedrockAgentCore::Runtime as the control API returns it; runtime.py runs it."""

    replaced_by = frozenset({"AgentRuntimeName"})
    tags = ("Tags", dict)

    def create(self, place: Place, properties: Properties) -> Resource:
        backend = _agentcore(place)
        name = properties["AgentRuntimeName"]
        if any(runtime.agent_runtime_name == name for runtime in backend.agent_runtimes.values()):
            raise UnsupportedChange(f"AWS::BedrockAgentCore::Runtime: a runtime named {name} already exists")
        runtime = AgentRuntime(
            region_name=place.region,
            account_id=place.account,
            agent_runtime_name=name,
            **self._settings(place, properties),
        )
        # As for memories; and moto's ARN changes with every version, which AWS's does not.
        runtime.agent_runtime_id = f"{name}-{secrets.token_hex(5)}"
        runtime.agent_runtime_arn = (
            f"arn:aws:bedrock-agentcore:{place.region}:{place.account}:runtime/{runtime.agent_runtime_id}"
        )
        runtime.advance()
        backend.agent_runtimes[runtime.agent_runtime_id] = runtime
        backend.tag_resource(runtime.agent_runtime_arn, dict(properties.get("Tags", {})))
        return self._resource(runtime)

    def update(self, place: Place, resource: Resource, properties: Properties, former: Properties) -> Resource:
        runtime = _agentcore(place).agent_runtimes[resource.physical_id]
        for name, value in self._settings(place, properties).items():
            setattr(runtime, name, value)
        runtime.agent_runtime_version = str(int(runtime.agent_runtime_version) + 1)
        runtime.last_updated_at = utcnow()
        runtime._snapshot_version()
        return self._resource(runtime)

    def delete(self, place: Place, resource: Resource) -> None:
        _agentcore(place).delete_agent_runtime(resource.physical_id)

    @staticmethod
    def _settings(place: Place, properties: Properties) -> dict[str, Any]:
        code = properties["AgentRuntimeArtifact"].get("CodeConfiguration", {}).get("Code", {})
        if "S3" in code:
            require_object(place, code["S3"]["Bucket"], code["S3"]["Prefix"])
        protocol = properties.get("ProtocolConfiguration")
        return {
            "agent_runtime_artifact": _api_form(properties["AgentRuntimeArtifact"]),
            "role_arn": properties["RoleArn"],
            "network_configuration": _api_form(properties["NetworkConfiguration"]),
            "description": properties.get("Description", ""),
            "authorizer_configuration": _api_form(properties.get("AuthorizerConfiguration")),
            "request_header_configuration": _api_form(properties.get("RequestHeaderConfiguration")),
            "protocol_configuration": {"serverProtocol": protocol} if protocol else None,
            "lifecycle_configuration": _api_form(properties.get("LifecycleConfiguration", {})),
            "environment_variables": {
                name: str(value) for name, value in properties.get("EnvironmentVariables", {}).items()
            },
        }

    @staticmethod
    def _resource(runtime: AgentRuntime) -> Resource:
        return Resource(
            runtime.agent_runtime_id,
            {
                "AgentRuntimeArn": runtime.agent_runtime_arn,
                "AgentRuntimeId": runtime.agent_runtime_id,
                "AgentRuntimeVersion": runtime.agent_runtime_version,
            },
        )


class RuntimePolicy(Kind):
    """AWS::BedrockAgentCore::ResourcePolicy of a runtime, which moto has no place for; runtime.py judges by it."""

    replaced_by = frozenset({"ResourceArn"})

    def create(self, place: Place, properties: Properties) -> Resource:
        arn = properties["ResourceArn"]
        self._runtime(place, arn).resource_policy = properties["Policy"]
        return Resource(arn)

    def update(self, place: Place, resource: Resource, properties: Properties, former: Properties) -> Resource:
        return self.create(place, properties)

    def delete(self, place: Place, resource: Resource) -> None:
        self._runtime(place, resource.physical_id).resource_policy = None

    @staticmethod
    def _runtime(place: Place, arn: str) -> Any:
        runtimes = _agentcore(place).agent_runtimes.values()
        found = next((runtime for runtime in runtimes if runtime.agent_runtime_arn == arn), None)
        if found is None:
            raise UnsupportedChange(f"AWS::BedrockAgentCore::ResourcePolicy: {arn} is no runtime")
        return found

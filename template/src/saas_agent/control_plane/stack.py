"""A tenant's own stack: what is dedicated to it, from a template that deploying put into the artifacts bucket.

Nothing here waits: CloudFormation takes minutes, so the workflow asks again until the stack is at rest.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from botocore.exceptions import ClientError

from saas_agent.control_plane.errors import ControlPlaneError

_CAPABILITIES = ["CAPABILITY_IAM"]
_UNCHANGED = "No updates are to be performed"
_NEVER_MADE = ("CREATE_FAILED", "ROLLBACK_COMPLETE", "ROLLBACK_FAILED", "DELETE_FAILED")

ASKED = "asked"
"""The cursor of a step whose change CloudFormation has: what there is to do is to look."""


@dataclass(frozen=True)
class Look:
    """How far a stack is. cursor: for the next call. outputs: of a stack that is complete, by key."""

    done: bool
    cursor: str = ""
    outputs: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Stack:
    """A stack as it is: its status, its outputs and its tags by key."""

    status: str
    outputs: Mapping[str, str]
    tags: Mapping[str, str]


class TenantStacks:
    """Makes, updates and removes tenants' stacks. Errors of CloudFormation itself are botocore's."""

    def __init__(self, client: Any, service: str, stage: str, bucket: str, role_arn: str) -> None:
        """`client`: a boto3 CloudFormation client. `bucket`: the stage's artifacts bucket.

        role_arn: of the role in which CloudFormation makes what is in the stack.
        """
        self._client = client
        self._service, self._stage = service, stage
        self._tags = [{"Key": "service", "Value": service}, {"Key": "stage", "Value": stage}]
        self._templates = f"https://{bucket}.s3.{client.meta.region_name}.amazonaws.com/templates"
        self._role_arn = role_arn

    def ensure(self, tenant_id: str, tier: str, template: str, cursor: str) -> Look:
        """Brings the tenant's stack a step nearer to a template of this stage.

        What a failed creation left is removed, and made again.

        Raises:
            ControlPlaneError: CloudFormation could not make it, or the stack of that name is another's.
        """
        name, stack = self._find(tenant_id)
        if stack is None:
            self._client.create_stack(**self._wanted(name, tenant_id, tier, template), EnableTerminationProtection=True)
            return Look(False, ASKED)
        if stack.status.endswith("_IN_PROGRESS"):
            return Look(False, cursor)
        if cursor == ASKED or stack.status == "UPDATE_ROLLBACK_FAILED":
            if stack.status in ("CREATE_COMPLETE", "UPDATE_COMPLETE"):
                return Look(True, outputs=stack.outputs)
            raise ControlPlaneError(
                f"stack {name} is in {stack.status}; expected it complete; see its events, and retry the operation"
            )
        if stack.status in _NEVER_MADE:
            self._remove(name)
            return Look(False, "")
        try:
            self._client.update_stack(**self._wanted(name, tenant_id, tier, template))
        except ClientError as error:
            if _UNCHANGED not in error.response["Error"].get("Message", ""):
                raise
            return Look(True, outputs=stack.outputs)
        return Look(False, ASKED)

    def delete(self, tenant_id: str, cursor: str) -> Look:
        """Brings the tenant's stack a step nearer to its end.

        Raises:
            ControlPlaneError: CloudFormation could not delete it, or the stack of that name is another's.
        """
        name, stack = self._find(tenant_id)
        if stack is None:
            return Look(True)
        if stack.status.endswith("_IN_PROGRESS"):
            return Look(False, cursor)
        if cursor == ASKED:
            raise ControlPlaneError(
                f"stack {name} is in {stack.status}; expected it deleted; see its events, and retry the operation"
            )
        self._remove(name)
        return Look(False, ASKED)

    def _find(self, tenant_id: str) -> tuple[str, Stack | None]:
        """The name of the tenant's stack, and the stack. One of that name may be another service's: tags say whose."""
        name = stack_name(self._service, self._stage, tenant_id)
        stack = find_stack(self._client, name)
        own = {"service": self._service, "stage": self._stage, "TenantId": tenant_id}
        if stack is not None and not own.items() <= stack.tags.items():
            raise ControlPlaneError(
                f"stack {name} isn't tagged as tenant {tenant_id}'s; expected the tenant's or none; use another id"
            )
        return name, stack

    def _wanted(self, name: str, tenant_id: str, tier: str, template: str) -> dict[str, Any]:
        own = {"TenantId": tenant_id, "Tier": tier}
        return {
            "StackName": name,
            "TemplateURL": f"{self._templates}/{template}",
            "Parameters": [{"ParameterKey": key, "ParameterValue": value} for key, value in own.items()],
            "Tags": [*self._tags, *({"Key": key, "Value": value} for key, value in own.items())],
            "Capabilities": _CAPABILITIES,
            "RoleARN": self._role_arn,
        }

    def _remove(self, name: str) -> None:
        self._client.update_termination_protection(StackName=name, EnableTerminationProtection=False)
        self._client.delete_stack(StackName=name, RoleARN=self._role_arn)


def stack_name(service: str, stage: str, tenant_id: str) -> str:
    """The name of the tenant's stack."""
    return f"{service}-{stage}-tenant-{tenant_id}"


def find_stack(client: Any, name: str) -> Stack | None:
    """The stack of this name as it is; None where there is none."""
    try:
        found = client.describe_stacks(StackName=name)["Stacks"][0]
    except ClientError as error:
        if "does not exist" in error.response["Error"].get("Message", ""):
            return None
        raise
    if found["StackStatus"] == "DELETE_COMPLETE":
        return None
    outputs = {output["OutputKey"]: output["OutputValue"] for output in found.get("Outputs", [])}
    return Stack(found["StackStatus"], outputs, {tag["Key"]: tag["Value"] for tag in found.get("Tags", [])})

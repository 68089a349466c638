"""A tenant's own stack: what is dedicated to it, from the template that deploying put into the artifacts bucket."""

from typing import Any

from botocore.exceptions import ClientError, WaiterError

from saas_agent.control_plane.errors import ControlPlaneError

_CAPABILITIES = ["CAPABILITY_IAM"]
_UNCHANGED = "No updates are to be performed"


class TenantStacks:
    """Makes and removes tenants' stacks. Errors of CloudFormation itself are botocore's."""

    def __init__(self, client: Any, service: str, stage: str, bucket: str) -> None:
        """`client`: a boto3 CloudFormation client. `bucket`: the stage's artifacts bucket."""
        self._client = client
        self._prefix = f"{service}-{stage}-tenant-"
        self._tags = [{"Key": "service", "Value": service}, {"Key": "stage", "Value": stage}]
        region = client.meta.region_name
        self._template = f"https://{bucket}.s3.{region}.amazonaws.com/templates/tenant.yaml"

    def ensure(self, tenant_id: str, tier: str) -> dict[str, str]:
        """Brings the tenant's stack to the template of this stage; its outputs. Safe to repeat.

        ControlPlaneError where CloudFormation can't make it; what a failed creation left is removed first.
        """
        name = self._prefix + tenant_id
        status = self._status(name)
        if status in ("ROLLBACK_COMPLETE", "ROLLBACK_FAILED", "DELETE_FAILED"):
            self.remove(tenant_id)
            status = None
        parameters = [
            {"ParameterKey": "TenantId", "ParameterValue": tenant_id},
            {"ParameterKey": "Tier", "ParameterValue": tier},
        ]
        tags = [*self._tags, {"Key": "TenantId", "Value": tenant_id}, {"Key": "Tier", "Value": tier}]
        wanted = {
            "StackName": name,
            "TemplateURL": self._template,
            "Parameters": parameters,
            "Tags": tags,
            "Capabilities": _CAPABILITIES,
        }
        try:
            if status is None:
                self._client.create_stack(**wanted, EnableTerminationProtection=True)
                self._client.get_waiter("stack_create_complete").wait(StackName=name)
            else:
                self._client.update_stack(**wanted)
                self._client.get_waiter("stack_update_complete").wait(StackName=name)
        except WaiterError:
            raise ControlPlaneError(
                f"stack {name} is in {self._status(name)}; expected it complete; see its events, and repeat the command"
            ) from None
        except ClientError as error:
            if _UNCHANGED not in error.response["Error"].get("Message", ""):
                raise
        return self._outputs(name)

    def remove(self, tenant_id: str) -> None:
        """Deletes the tenant's stack, if it is there."""
        name = self._prefix + tenant_id
        if self._status(name) is None:
            return
        self._client.update_termination_protection(StackName=name, EnableTerminationProtection=False)
        self._client.delete_stack(StackName=name)
        self._client.get_waiter("stack_delete_complete").wait(StackName=name)

    def _status(self, name: str) -> str | None:
        try:
            status: str = self._client.describe_stacks(StackName=name)["Stacks"][0]["StackStatus"]
        except ClientError as error:
            if "does not exist" in error.response["Error"].get("Message", ""):
                return None
            raise
        return None if status == "DELETE_COMPLETE" else status

    def _outputs(self, name: str) -> dict[str, str]:
        outputs = self._client.describe_stacks(StackName=name)["Stacks"][0].get("Outputs", [])
        return {output["OutputKey"]: output["OutputValue"] for output in outputs}

"""Tenants' own user pools, each reached in a session that its tag keeps to one tenant: mistakes elsewhere meet IAM."""

from typing import Any

from saas_agent.tenancy.access import TemporaryCredentials, TenantSession

TENANT_TAG = "TenantId"

# The shortest that STS gives.
_DURATION_SECONDS = 900


class UserPools:
    """Clients for tenants' pools. Errors of STS are botocore's."""

    def __init__(self, sts: Any, role_arn: str, region: str) -> None:
        """`sts`: a boto3 client. `role_arn`: of the role that may do with a pool what its session's tag says."""
        self._sts = sts
        self._role_arn = role_arn
        self._region = region

    def client(self, tenant_id: str, session_name: str) -> Any:
        """A `cognito-idp` client for the users of this tenant and of no other, for 15 minutes."""
        answer = self._sts.assume_role(
            RoleArn=self._role_arn,
            RoleSessionName=session_name,
            Tags=[{"Key": TENANT_TAG, "Value": tenant_id}],
            DurationSeconds=_DURATION_SECONDS,
        )
        credentials = TemporaryCredentials.from_sts(answer["Credentials"])
        return TenantSession(credentials, self._region).client("cognito-idp")

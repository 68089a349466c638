"""boto3 sessions of the roles that AWS services act in: of functions and of runtimes."""

from typing import Any

import boto3
from botocore.credentials import RefreshableCredentials

from saas_agent.tenancy.access import core_session

from .gate import Gate
from .sts import assume_as_service


class ServiceRoles:
    """Opens sessions for service principals, as far as the roles' trust policies allow it."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    def session(self, role_arn: str, *, service: str, source_arn: str, name: str) -> boto3.Session:
        """A session that holds the role's credentials and renews them.

        Args:
            service: the service principal that assumes the role, such as `lambda.amazonaws.com`.
            source_arn: the resource on whose behalf it does.
            name: role session name; cut to STS's 64 characters.

        Raises:
            ServiceError: AccessDenied, when the role doesn't exist or doesn't trust the service.
        """
        role_name = role_arn.rpartition("/")[2]

        def issue() -> dict[str, Any]:
            issued = assume_as_service(self._gate, role_name, service, name[:64], source_arn=source_arn)
            return {
                "access_key": issued["AccessKeyId"],
                "secret_key": issued["SecretAccessKey"],
                "token": issued["SessionToken"],
                "expiry_time": issued["Expiration"].isoformat(),
            }

        core = core_session()
        core._credentials = RefreshableCredentials.create_from_metadata(
            metadata=issue(), refresh_using=issue, method="local-cloud"
        )
        return boto3.Session(botocore_session=core, region_name=self._gate.region)

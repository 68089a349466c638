"""Tenant credentials straight from the caller's token: STS verifies it and takes the tenant tag from the signed claim.

No code here can choose a tenant. The call is unsigned, so the execution role needs no permission for it
(STS, `AssumeRoleWithWebIdentity`).
"""

from dataclasses import dataclass, field
from typing import Any

import boto3
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from saas_agent.errors import DENIED, INTERNAL, Refused
from saas_agent.tenancy.access import TemporaryCredentials
from saas_agent.tenancy.token import VerifiedToken

# The shortest that STS gives. The session is never used past the token's own expiry, which is sooner or about the same.
_DURATION_SECONDS = 900


@dataclass(frozen=True)
class WebIdentity:
    """Exchanges a verified token for credentials of a tenant role.

    sts: an unsigned boto3 STS client. It is shown the caller's ID token where one was asked for, otherwise the access
    token.
    """

    sts: Any = field(repr=False)
    role_arn: str

    @classmethod
    def open(cls, session: boto3.Session, role_arn: str) -> "WebIdentity":
        """The exchange for a role."""
        return cls(session.client("sts", config=Config(signature_version=UNSIGNED)), role_arn)

    def __call__(self, caller: VerifiedToken) -> TemporaryCredentials:
        """The tenant's credentials; Refused with denied where STS says no, internal where it can't be reached."""
        try:
            answer = self.sts.assume_role_with_web_identity(
                RoleArn=self.role_arn,
                RoleSessionName=caller.tenant.session_name,
                WebIdentityToken=caller.id_token or caller.raw,
                DurationSeconds=_DURATION_SECONDS,
            )
        except ClientError as error:
            # Only the code: the message of a failed exchange can quote claims of the token.
            raise Refused(DENIED, f"AssumeRoleWithWebIdentity: {error.response['Error']['Code']}") from None
        except BotoCoreError as error:
            raise Refused(INTERNAL, f"AssumeRoleWithWebIdentity: {type(error).__name__}") from None
        return TemporaryCredentials.from_sts(answer["Credentials"])

"""Tenant credentials straight from the caller's token: STS verifies it and takes the tenant tag from the signed claim.

No code here can choose a tenant. The call is unsigned, so the execution role needs no permission for it
(STS, `AssumeRoleWithWebIdentity`).
"""

import boto3
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from saas_agent.errors import DENIED, INTERNAL, Refused
from saas_agent.tenancy.access import TemporaryCredentials
from saas_agent.tenancy.token import VerifiedToken

# The shortest that STS gives. The session is never used past the token's own expiry, which is sooner or about the same.
_DURATION_SECONDS = 900


class WebIdentity:
    """Exchanges a verified token for credentials of the shared tenant role."""

    def __init__(self, session: boto3.Session, role_arn: str) -> None:
        self._sts = session.client("sts", config=Config(signature_version=UNSIGNED))
        self._role_arn = role_arn

    def __call__(self, token: VerifiedToken) -> TemporaryCredentials:
        """The tenant's credentials; Refused with denied where STS says no, internal where it can't be reached."""
        try:
            answer = self._sts.assume_role_with_web_identity(
                RoleArn=self._role_arn,
                RoleSessionName=token.tenant.session_name,
                WebIdentityToken=token.raw,
                DurationSeconds=_DURATION_SECONDS,
            )
        except ClientError as error:
            # Only the code: the message of a failed exchange can quote claims of the token.
            raise Refused(DENIED, f"AssumeRoleWithWebIdentity: {error.response['Error']['Code']}") from None
        except BotoCoreError as error:
            raise Refused(INTERNAL, f"AssumeRoleWithWebIdentity: {type(error).__name__}") from None
        return TemporaryCredentials.from_sts(answer["Credentials"])

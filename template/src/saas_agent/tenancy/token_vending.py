"""Tenant credentials from the credentials function, which verifies the caller's token itself.

For an identity provider that can't sign the session tags claim. The execution role may invoke that one function and
nothing else, so code in the agent still can't name a tenant: it can only present a token.
"""

import json
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from saas_agent.errors import DENIED, INTERNAL, Refused
from saas_agent.tenancy.access import TemporaryCredentials
from saas_agent.tenancy.token import VerifiedToken


@dataclass(frozen=True)
class TokenVending:
    """Exchanges a verified token for credentials of a tenant role, through the credentials function.

    functions: a boto3 Lambda client. function: the credentials function's name. role_arn: the role to get into; the
    function may take tenant roles alone, and each of them trusts it for the tenant of the token it verified.
    """

    functions: Any = field(repr=False)
    function: str
    role_arn: str

    @classmethod
    def open(cls, session: boto3.Session, function: str, role_arn: str) -> "TokenVending":
        """The exchange for a role."""
        return cls(session.client("lambda"), function, role_arn)

    def __call__(self, caller: VerifiedToken) -> TemporaryCredentials:
        """The tenant's credentials; Refused with denied where the function says no, internal where it fails."""
        request = json.dumps({"token": caller.raw, "role_arn": self.role_arn})
        try:
            answer = self.functions.invoke(FunctionName=self.function, Payload=request)
            result = json.loads(answer["Payload"].read())
        except (ClientError, BotoCoreError) as error:
            raise Refused(INTERNAL, f"credentials function: {type(error).__name__}") from None
        if answer.get("FunctionError"):
            raise Refused(DENIED, f"credentials function: {result.get('errorType', 'error')}")
        return TemporaryCredentials.from_sts({**result, "Expiration": datetime.fromisoformat(result["Expiration"])})

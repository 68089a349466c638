"""Tenant credentials from the credentials function, which verifies the caller's token itself.

For an identity provider that can't sign the session tags claim. The execution role may invoke that one function and
nothing else, so code in the agent still can't name a tenant: it can only present a token.
"""

import json
from datetime import datetime

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from saas_agent.errors import DENIED, INTERNAL, Refused
from saas_agent.tenancy.access import TemporaryCredentials
from saas_agent.tenancy.token import VerifiedToken


class TokenVending:
    """Exchanges a verified token for the tenant's credentials through the credentials function."""

    def __init__(self, session: boto3.Session, function: str) -> None:
        self._lambda = session.client("lambda")
        self._function = function

    def __call__(self, token: VerifiedToken) -> TemporaryCredentials:
        """The tenant's credentials; Refused with denied where the function says no, internal where it fails."""
        try:
            answer = self._lambda.invoke(FunctionName=self._function, Payload=json.dumps({"token": token.raw}))
            result = json.loads(answer["Payload"].read())
        except (ClientError, BotoCoreError) as error:
            raise Refused(INTERNAL, f"credentials function: {type(error).__name__}") from None
        if answer.get("FunctionError"):
            raise Refused(DENIED, f"credentials function: {result.get('errorType', 'error')}")
        return TemporaryCredentials.from_sts({**result, "Expiration": datetime.fromisoformat(result["Expiration"])})

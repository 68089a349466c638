"""The credentials function: a verified access token in, credentials of its tenant out.

Invoked by the roles of the agent and of a gateway's functions alone. It trusts nothing it is given but the token, and
returns the same credentials that the tenant's own requests run with. Its log never holds its event or its answer.
"""

import os
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import boto3
from botocore.exceptions import ClientError

from saas_agent.errors import Refused
from saas_agent.settings import required
from saas_agent.tenancy.token import FetchKeys, TokenVerifier
from saas_agent.tenancy.token import fetch_keys as fetch_keys_over_https

Handler = Callable[[dict[str, Any], object], dict[str, Any]]

TENANT_TAG = "TenantId"

# The shortest that STS gives.
_DURATION_SECONDS = 900


class NotVended(Exception):
    """No credentials for this token. The message holds a refusal code and nothing of the token."""


def create(
    environ: Mapping[str, str],
    session: boto3.Session,
    fetch_keys: FetchKeys = fetch_keys_over_https,
) -> Handler:
    """The handler for ISSUER and CLIENT_ID; ConfigurationError where one is missing.

    Which role is asked for it need not know: its own role lets it into the stage's tenant roles alone, and those let it
    in with the tag that they expect.
    """
    verifier = TokenVerifier(required(environ, "ISSUER"), required(environ, "CLIENT_ID"), fetch_keys)
    sts = session.client("sts")

    def vend(event: dict[str, Any], _context: object) -> dict[str, Any]:
        raw, role_arn = event.get("token"), event.get("role_arn")
        if not isinstance(raw, str) or not isinstance(role_arn, str):
            raise NotVended("invalid_request")
        try:
            tenant = verifier.access_token(raw).tenant
            credentials = sts.assume_role(
                RoleArn=role_arn,
                RoleSessionName=tenant.session_name,
                Tags=[{"Key": TENANT_TAG, "Value": tenant.tenant_id}],
                TransitiveTagKeys=[TENANT_TAG],
                DurationSeconds=_DURATION_SECONDS,
            )["Credentials"]
        except Refused as refused:
            raise NotVended(refused.reason.code) from None
        except ClientError as error:
            raise NotVended(f"AssumeRole: {error.response['Error']['Code']}") from None
        return {**credentials, "Expiration": credentials["Expiration"].isoformat()}

    return vend


@cache
def _handler() -> Handler:
    return create(os.environ, boto3.Session())


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Lambda's entry point: `{"token", "role_arn"}` -> credentials as STS names them, `Expiration` in ISO 8601."""
    return _handler()(event, context)

"""The users function where all tenants share a user pool.

IAM can't keep this function to one tenant's users: the pool is one resource. What does is the code, which looks at the
immutable tenant of a user before it touches it.
"""

import os
from collections.abc import Mapping
from functools import cache
from typing import Any

import boto3

from saas_agent.control_plane.registry import Registry
from saas_agent.control_plane.users import Users
from saas_agent.functions.users import Desk, Handler, kept_tenant, require_active, users_handler
from saas_agent.settings import required
from saas_agent.tenancy.token import FetchKeys, TokenVerifier, VerifiedToken
from saas_agent.tenancy.token import fetch_keys as fetch_keys_over_https


def create(
    environ: Mapping[str, str],
    session: boto3.Session,
    fetch_keys: FetchKeys = fetch_keys_over_https,
) -> Handler:
    """The handler for REGISTRY_TABLE, ISSUER, CLIENT_ID and USER_POOL_ID; ConfigurationError where one is missing."""
    verifier = TokenVerifier(required(environ, "ISSUER"), required(environ, "CLIENT_ID"), fetch_keys)
    registry = Registry(session.client("dynamodb"), required(environ, "REGISTRY_TABLE"))
    users = Users(session.client("cognito-idp"), required(environ, "USER_POOL_ID"))

    class SharedPool:
        """One pool for everybody: the code tells tenants apart."""

        def for_user(self, raw: str) -> tuple[Desk, VerifiedToken]:
            """For whoever has this token."""
            caller = verifier.access_token(raw)
            require_active(registry.get(caller.tenant.tenant_id))
            return Desk(caller.tenant.tenant_id, caller.username, users, lambda _: None), caller

        def for_operator(self, tenant_id: str, operator: str) -> Desk:
            """For an operator."""
            return Desk(kept_tenant(registry, tenant_id).tenant_id, operator, users, lambda _: None)

    return users_handler(SharedPool())


@cache
def _handler() -> Handler:
    return create(os.environ, boto3.Session())


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Lambda's entry point."""
    return _handler()(event, context)

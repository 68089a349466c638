"""The users function where each tenant has a user pool of its own.

It touches a pool with the credentials of a role that the session's tag keeps to the caller's tenant: a mistake in this
code meets IAM. A token is verified with the issuer that the registry has for the tenant that it names: the tenant's own
pool where that is what its runtime trusts, otherwise the hub.
"""

import os
from collections.abc import Mapping
from functools import cache
from typing import Any

import boto3
from botocore.exceptions import ClientError

from saas_agent.control_plane.registry import Registry, TenantRecord
from saas_agent.control_plane.user_pools import Issuers, UserPools
from saas_agent.control_plane.users import User, Users
from saas_agent.errors import INVALID_TOKEN, Refused
from saas_agent.functions.users import Desk, Handler, kept_tenant, require_active, users_handler
from saas_agent.settings import required
from saas_agent.tenancy.token import FetchKeys, VerifiedToken
from saas_agent.tenancy.token import fetch_keys as fetch_keys_over_https


def create(
    environ: Mapping[str, str],
    session: boto3.Session,
    fetch_keys: FetchKeys = fetch_keys_over_https,
) -> Handler:
    """The handler for REGISTRY_TABLE, USERS_ROLE_ARN, and with a hub ISSUER, CLIENT_ID and HUB_POOL_ID.

    ConfigurationError where one is missing.
    """
    registry = Registry(session.client("dynamodb"), required(environ, "REGISTRY_TABLE"))
    cognito = session.client("cognito-idp")
    pools = UserPools(session.client("sts"), required(environ, "USERS_ROLE_ARN"), required(environ, "AWS_REGION"))
    hub_pool = environ.get("HUB_POOL_ID")
    issuers = Issuers.open(environ, registry, fetch_keys)

    class OwnPools:
        """A pool for each tenant, opened in a session of the tenant's."""

        def for_user(self, raw: str) -> tuple[Desk, VerifiedToken]:
            """For whoever has this token."""
            caller, tenant = issuers.verify(raw)
            own = "Issuer" in tenant.resources
            # Not before the token is verified: nobody else is told which tenants there are.
            require_active(tenant)
            provider, _, name = ("", "", caller.username) if own else caller.username.partition("_")
            if not own and provider != tenant.tenant_id:
                raise Refused(INVALID_TOKEN, "the token's user comes from another provider")
            return open_desk(tenant, name, caller.tenant.session_name), caller

        def for_operator(self, tenant_id: str, operator: str) -> Desk:
            """For an operator."""
            return open_desk(kept_tenant(registry, tenant_id), operator, f"{tenant_id}.operator")

    def open_desk(tenant: TenantRecord, by: str, session_name: str) -> Desk:
        users = Users(pools.client(tenant.tenant_id, session_name), tenant.resources["UserPoolId"])
        return Desk(tenant.tenant_id, by, users, lambda user: forget(tenant.tenant_id, user))

    def forget(tenant_id: str, user: User) -> None:
        """Removes what the hub knows of the user; it is made again with the next sign-in, which there won't be."""
        if hub_pool is None:
            return
        try:
            cognito.admin_delete_user(UserPoolId=hub_pool, Username=f"{tenant_id}_{user.username}")
        except ClientError as error:
            if error.response["Error"]["Code"] != "UserNotFoundException":
                raise

    return users_handler(OwnPools())


@cache
def _handler() -> Handler:
    return create(os.environ, boto3.Session())


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Lambda's entry point."""
    return _handler()(event, context)

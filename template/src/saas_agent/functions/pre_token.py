"""The pre-token function: Cognito asks it before it issues tokens; it puts the tenant into them.

The tenant comes from the user's immutable attribute; status and tier come from the registry as it
stands at this moment, never from the user or the client. Whatever is wrong is raised, and then
Cognito issues no token (Cognito developer guide, pre token generation Lambda trigger, event version
V2_0).
"""

import logging
import os
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from saas_agent.control_plane.errors import ControlPlaneError
from saas_agent.control_plane.registry import Registry, TenantRecord
from saas_agent.control_plane.states import Status
from saas_agent.control_plane.users import TENANT_ATTRIBUTE
from saas_agent.settings import required
from saas_agent.tenancy.tenant import valid_tenant_id
from saas_agent.tenancy.tiers import load_tiers

Handler = Callable[[dict[str, Any], object], dict[str, Any]]

# From here STS takes the session tags of AssumeRoleWithWebIdentity (IAM user guide, "Pass session
# tags in AWS STS").
TAGS_CLAIM = "https://aws.amazon.com/tags"
TENANT_TAG = "TenantId"

_TRIGGER = "TokenGeneration_"

logger = logging.getLogger(__name__)


class NoToken(Exception):
    """No token for this sign-in. The client sees the message: it says nothing of any tenant."""


def create(environ: Mapping[str, str], session: boto3.Session) -> Handler:
    """The handler for this environment: REGISTRY_TABLE; ConfigurationError where it is missing."""
    registry = Registry(session.client("dynamodb"), required(environ, "REGISTRY_TABLE"))
    tiers = load_tiers()

    def add_tenant(event: dict[str, Any], _context: object) -> dict[str, Any]:
        if not str(event.get("triggerSource", "")).startswith(_TRIGGER):
            raise NoToken("Unexpected trigger; expected a token generation trigger.")
        tenant = _active_tenant(registry, event["request"].get("userAttributes") or {})
        if tenant.tier not in tiers:
            logger.error("tier %s of tenant %s is not in tiers.toml", tenant.tier, tenant.tenant_id)
            raise NoToken("The tenant is not set up; ask your administrator.")
        claims = _claims(tenant)
        # In an access token `aud` may only be the client that asks for it.
        access_claims = {**claims, "aud": event["callerContext"]["clientId"]}
        event["response"] = {
            "claimsAndScopeOverrideDetails": {
                "accessTokenGeneration": {"claimsToAddOrOverride": access_claims},
                "idTokenGeneration": {"claimsToAddOrOverride": claims},
            }
        }
        return event

    return add_tenant


def _active_tenant(registry: Registry, attributes: Mapping[str, Any]) -> TenantRecord:
    tenant_id = attributes.get(TENANT_ATTRIBUTE)
    if not isinstance(tenant_id, str) or not valid_tenant_id(tenant_id):
        raise NoToken("The user belongs to no tenant; ask your administrator.")
    try:
        tenant = registry.get(tenant_id)
    except (ClientError, BotoCoreError, ControlPlaneError) as error:
        logger.error("the registry was not readable: %s", type(error).__name__)
        raise NoToken("The tenant could not be looked up; try again.") from None
    if tenant is None or tenant.tenant_id != tenant_id or tenant.status is not Status.ACTIVE:
        raise NoToken("The tenant is not active; ask your administrator.")
    return tenant


def _claims(tenant: TenantRecord) -> dict[str, Any]:
    return {
        "tenant_id": tenant.tenant_id,
        "tier": tenant.tier,
        "tenant_status": str(tenant.status),
        TAGS_CLAIM: {
            "principal_tags": {TENANT_TAG: [tenant.tenant_id]},
            "transitive_tag_keys": [TENANT_TAG],
        },
    }


@cache
def _handler() -> Handler:
    return create(os.environ, boto3.Session())


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Lambda's entry point: Cognito's event in, the same event with the tokens' claims out."""
    return _handler()(event, context)

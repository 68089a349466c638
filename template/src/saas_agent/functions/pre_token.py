"""What every pre-token function does: the tenant's claims go into both tokens, or no token is issued.

Cognito asks before it issues tokens. Status and tier come from the registry as it stands at this moment, never from
the user or the client. Whatever is wrong is raised, and then Cognito issues no token (Cognito developer guide, pre
token generation Lambda trigger, event version V2_0).
"""

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from saas_agent.control_plane.errors import ControlPlaneError
from saas_agent.control_plane.registry import Registry, TenantRecord
from saas_agent.control_plane.states import SERVED, Status
from saas_agent.tenancy.tenant import valid_tenant_id

Event = Mapping[str, Any]
Handler = Callable[[dict[str, Any], object], dict[str, Any]]

TenantOf = Callable[[Event], object]
"""Whose user an event is about. Whatever isn't a tenant id gets no token; raises NoToken."""

GroupsOf = Callable[[Event, TenantRecord], Sequence[str]]
"""The groups that the tenant has the user in, where the pool that asks doesn't know; raises NoToken."""

# From here STS takes the session tags of AssumeRoleWithWebIdentity (IAM user guide, "Pass session
# tags in AWS STS").
TAGS_CLAIM = "https://aws.amazon.com/tags"
TENANT_TAG = "TenantId"

_TRIGGER = "TokenGeneration_"

logger = logging.getLogger(__name__)


class NoToken(Exception):
    """No token for this sign-in. The client sees the message: it says nothing of any tenant."""


def token_handler(
    registry: Registry, tiers: Collection[str], tenant_of: TenantOf, groups_of: GroupsOf | None = None
) -> Handler:
    """The trigger's handler. `tiers`: the names of the tiers that there are."""

    def add_tenant(event: dict[str, Any], _context: object) -> dict[str, Any]:
        if not str(event.get("triggerSource", "")).startswith(_TRIGGER):
            raise NoToken("Unexpected trigger; expected a token generation trigger.")
        tenant = _active_tenant(registry, tenant_of(event))
        if tenant.tier not in tiers:
            logger.error("tier %s of tenant %s is not in tiers.toml", tenant.tier, tenant.tenant_id)
            raise NoToken("The tenant is not set up; ask your administrator.")
        claims = _claims(tenant)
        # In an access token `aud` may only be the client that asks for it.
        access_claims = {**claims, "aud": event["callerContext"]["clientId"]}
        details: dict[str, Any] = {
            "accessTokenGeneration": {"claimsToAddOrOverride": access_claims},
            "idTokenGeneration": {"claimsToAddOrOverride": claims},
        }
        if groups_of is not None:
            details["groupOverrideDetails"] = {"groupsToOverride": list(groups_of(event, tenant))}
        event["response"] = {"claimsAndScopeOverrideDetails": details}
        return event

    return add_tenant


def attributes_of(event: Event) -> Mapping[str, Any]:
    """The user's attributes as Cognito sends them; empty where there are none."""
    attributes: Mapping[str, Any] = event["request"].get("userAttributes") or {}
    return attributes


def _active_tenant(registry: Registry, tenant_id: object) -> TenantRecord:
    if not isinstance(tenant_id, str) or not valid_tenant_id(tenant_id):
        raise NoToken("The user belongs to no tenant; ask your administrator.")
    try:
        tenant = registry.get(tenant_id)
    except (ClientError, BotoCoreError, ControlPlaneError) as error:
        logger.error("the registry was not readable: %s", type(error).__name__)
        raise NoToken("The tenant could not be looked up; try again.") from None
    if tenant is None or tenant.tenant_id != tenant_id or tenant.status not in SERVED:
        raise NoToken("The tenant is not active; ask your administrator.")
    return tenant


def _claims(tenant: TenantRecord) -> dict[str, Any]:
    return {
        "tenant_id": tenant.tenant_id,
        "tier": tenant.tier,
        # Whoever looks at it wants to know whether the tenant is served, and a token lives longer than an update.
        "tenant_status": str(Status.ACTIVE),
        TAGS_CLAIM: {
            "principal_tags": {TENANT_TAG: [tenant.tenant_id]},
            "transitive_tag_keys": [TENANT_TAG],
        },
    }

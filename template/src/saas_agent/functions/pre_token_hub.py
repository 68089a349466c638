"""The pre-token function of the hub: the tenant is the identity provider that the user came from.

Every tenant's own pool is a provider of the hub, named like the tenant. Where a user comes from is what Cognito itself
writes (`identities`, which nobody can set); no attribute counts. A user with several identities, linked ones among
them, or with none is nobody's. The user must still be there and enabled in the tenant's pool, whenever a token is
issued: a refresh token of the hub outlives the user there.
"""

import json
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from saas_agent.control_plane.registry import Registry, TenantRecord
from saas_agent.control_plane.users import FEDERATED, Users
from saas_agent.functions.pre_token import Event, Handler, NoToken, attributes_of, token_handler
from saas_agent.settings import required
from saas_agent.tenancy.placement import load_placement
from saas_agent.tenancy.tenant import SUBJECT
from saas_agent.tenancy.tiers import load_tiers

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Origin:
    """Where a user of the hub comes from. provider: its name; subject: the user's id there."""

    provider: str
    subject: str


def origin_of(event: Event) -> Origin:
    """The one identity of the event's user; NoToken where there is not exactly one, as Cognito writes it."""
    attributes = attributes_of(event)
    if attributes.get("cognito:user_status") != FEDERATED:
        raise NoToken("Sign in at your own identity provider.")
    try:
        [identity] = json.loads(attributes["identities"])
        origin = Origin(identity["providerName"], identity["userId"])
    except (KeyError, TypeError, ValueError):
        raise NoToken("The user has not exactly one identity; ask your administrator.") from None
    known = (
        isinstance(origin.provider, str)
        and isinstance(origin.subject, str)
        and SUBJECT.fullmatch(origin.subject) is not None
        and identity.get("providerType") == "OIDC"
        and identity.get("primary") in (True, "true")
        # A linked user keeps the name of the identity that it had first.
        and event.get("userName") == f"{origin.provider}_{origin.subject}"
    )
    if not known:
        raise NoToken("The user's identity is not in order; ask your administrator.")
    return origin


def create(environ: Mapping[str, str], session: boto3.Session) -> Handler:
    """The handler for this environment: REGISTRY_TABLE; ConfigurationError where it is missing."""
    registry = Registry(session.client("dynamodb"), required(environ, "REGISTRY_TABLE"))
    cognito = session.client("cognito-idp")
    placement = load_placement()

    def groups_of(event: Event, tenant: TenantRecord) -> Sequence[str]:
        if placement.column(tenant.tier, "runtime") != "shared":
            raise NoToken("Users of this tenant sign in elsewhere; ask your administrator.")
        try:
            pool = Users(cognito, tenant.resources["UserPoolId"])
            user = pool.find(origin_of(event).subject)
            if user is None or not user.enabled or user.tenant_id != tenant.tenant_id:
                raise NoToken("The user is not there any more; ask your administrator.")
            return pool.groups(user)
        except (KeyError, ClientError, BotoCoreError) as error:
            logger.error("the tenant's user pool was not readable: %s", type(error).__name__)
            raise NoToken("The user could not be looked up; try again.") from None

    return token_handler(registry, load_tiers(), lambda event: origin_of(event).provider, groups_of)


@cache
def _handler() -> Handler:
    return create(os.environ, boto3.Session())


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Lambda's entry point: Cognito's event in, the same event with the tokens' claims out."""
    return _handler()(event, context)

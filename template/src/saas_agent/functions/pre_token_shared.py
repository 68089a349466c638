"""The pre-token function of the user pool that all tenants share: the tenant is the user's immutable attribute."""

import os
from collections.abc import Mapping
from functools import cache
from typing import Any

import boto3

from saas_agent.control_plane.registry import Registry
from saas_agent.control_plane.users import TENANT_ATTRIBUTE
from saas_agent.functions.pre_token import Event, Handler, attributes_of, token_handler
from saas_agent.settings import required
from saas_agent.tenancy.tiers import load_tiers


def create(environ: Mapping[str, str], session: boto3.Session) -> Handler:
    """The handler for this environment: REGISTRY_TABLE; ConfigurationError where it is missing."""
    registry = Registry(session.client("dynamodb"), required(environ, "REGISTRY_TABLE"))

    def tenant_of(event: Event) -> object:
        return attributes_of(event).get(TENANT_ATTRIBUTE)

    return token_handler(registry, load_tiers(), tenant_of)


@cache
def _handler() -> Handler:
    return create(os.environ, boto3.Session())


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Lambda's entry point: Cognito's event in, the same event with the tokens' claims out."""
    return _handler()(event, context)

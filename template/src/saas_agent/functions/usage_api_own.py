"""The usage function where tenants' own runtimes trust the tenants' own user pools.

A token is verified with the issuer that the registry has for the tenant that it names.
"""

import os
from collections.abc import Mapping
from functools import cache
from typing import Any

import boto3

from saas_agent.control_plane.registry import Registry
from saas_agent.control_plane.user_pools import Issuers
from saas_agent.functions.usage_api import Handler, usage_handler
from saas_agent.settings import required
from saas_agent.tenancy.token import FetchKeys
from saas_agent.tenancy.token import fetch_keys as fetch_keys_over_https


def create(
    environ: Mapping[str, str],
    session: boto3.Session,
    fetch_keys: FetchKeys = fetch_keys_over_https,
) -> Handler:
    """The handler for what `usage_handler` needs, and with a hub ISSUER and CLIENT_ID.

    ConfigurationError where one is missing.
    """
    registry = Registry(session.client("dynamodb"), required(environ, "REGISTRY_TABLE"))
    return usage_handler(environ, session, Issuers.open(environ, registry, fetch_keys))


@cache
def _handler() -> Handler:
    return create(os.environ, boto3.Session())


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Lambda's entry point."""
    return _handler()(event, context)

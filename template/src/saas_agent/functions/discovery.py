"""Discovery: what an application must know to sign a tenant's user in and to ask the agent. Nothing of it is secret.

Anybody may ask, so that the answer to an unknown tenant looks like that to any other.
"""

import json
import os
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any
from urllib.parse import quote

import boto3

from saas_agent.control_plane.registry import Registry
from saas_agent.settings import required
from saas_agent.tenancy.tenant import valid_tenant_id

Handler = Callable[[dict[str, Any], object], dict[str, Any]]


def create(environ: Mapping[str, str], session: boto3.Session) -> Handler:
    """The handler for this environment; ConfigurationError where ISSUER or CLIENT_ID is missing.

    RUNTIME_ARN: of the runtime that tenants share, if they do. REGISTRY_TABLE: where some have their own.
    """
    endpoint = session.client("bedrock-agentcore").meta.endpoint_url
    issuer, client_id = required(environ, "ISSUER"), required(environ, "CLIENT_ID")
    shared, table = environ.get("RUNTIME_ARN"), environ.get("REGISTRY_TABLE")
    registry = Registry(session.client("dynamodb"), table) if table else None

    def discover(event: dict[str, Any], _context: object) -> dict[str, Any]:
        runtime = shared
        if registry is not None and valid_tenant_id(tenant_id := event["pathParameters"]["tenant_id"]):
            record = registry.get(tenant_id)
            runtime = (record.resources.get("RuntimeArn") if record else None) or shared
        found = {
            "issuer": issuer,
            "client_id": client_id,
            # Empty for whom no runtime serves; where there is a shared one, an unknown tenant is told that.
            "invocations": f"{endpoint}/runtimes/{quote(runtime, safe='')}/invocations" if runtime else "",
        }
        return {"statusCode": 200, "headers": {"Cache-Control": "max-age=300"}, "body": json.dumps(found)}

    return discover


@cache
def _handler() -> Handler:
    return create(os.environ, boto3.Session())


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Lambda's entry point: a REST API's proxy event in, its answer out."""
    return _handler()(event, context)

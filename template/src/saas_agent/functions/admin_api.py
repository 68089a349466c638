"""The admin API: what API Gateway hands on, after it checked who calls and what the call looks like.

It is for operators, by their IAM permissions on the API's methods. Every answer is JSON; what is refused is answered
with `{"error": {"code": ..., "message": ...}}`, in one line that says what to do.
"""

import json
import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import cache
from typing import Any

import boto3

from saas_agent.control_plane.admin import Admin, Change, Request, Workflow
from saas_agent.control_plane.errors import ControlPlaneError
from saas_agent.control_plane.operations import Operation, Operations
from saas_agent.control_plane.registry import Registry, TenantRecord
from saas_agent.settings import required
from saas_agent.tenancy.placement import load_placement
from saas_agent.tenancy.tiers import load_tiers

Handler = Callable[[dict[str, Any], object], dict[str, Any]]

TOKEN_HEADER = "Idempotency-Key"

_PAGE = 100

logger = logging.getLogger(__name__)


def create(environ: Mapping[str, str], session: boto3.Session) -> Handler:
    """The handler for this environment; ConfigurationError where a variable is missing."""
    dynamodb = session.client("dynamodb")
    registry_table, operations_table = required(environ, "REGISTRY_TABLE"), required(environ, "OPERATIONS_TABLE")
    workflow = Workflow(
        session.client("stepfunctions"), required(environ, "WORKFLOW_ARN"), int(required(environ, "DRAIN_SECONDS"))
    )
    admin = Admin(
        Registry(dynamodb, registry_table),
        Operations(dynamodb, registry_table, operations_table),
        workflow,
        tuple(load_tiers()),
        load_placement(),
    )
    routes = _routes(admin)

    def handle(event: dict[str, Any], _context: object) -> dict[str, Any]:
        try:
            return routes[event["httpMethod"], event["resource"]](_Call(event))
        except ControlPlaneError as error:
            return _answer(error.status, {"error": {"code": type(error).__name__, "message": str(error)}})
        except Exception as error:
            # Its text may quote a request; its kind is enough to find it by.
            logger.error("%s %s failed: %s", event.get("httpMethod"), event.get("resource"), type(error).__name__)
            message = "the admin API failed; see its log, and repeat with the same client token"
            return _answer(500, {"error": {"code": "InternalError", "message": message}})

    return handle


class _Call:
    """A call of the API."""

    def __init__(self, event: Mapping[str, Any]) -> None:
        self._event = event
        self.path: Mapping[str, str] = event.get("pathParameters") or {}
        self.query: Mapping[str, str] = event.get("queryStringParameters") or {}

    @property
    def request(self) -> Request:
        headers = {name.lower(): value for name, value in (self._event.get("headers") or {}).items()}
        by = self._event["requestContext"]["identity"].get("userArn") or "unknown"
        return Request(headers.get(TOKEN_HEADER.lower(), ""), by)

    def body(self, **expected: tuple[type, Any]) -> dict[str, Any]:
        """The members of the body: name -> (type, default), without a default where it must be there.

        API Gateway checks the body too, but lets one of another content type pass.
        """
        try:
            given = json.loads(self._event.get("body") or "{}")
        except ValueError:
            given = None
        if not isinstance(given, dict) or set(given) - set(expected):
            raise ControlPlaneError(f"the body is malformed; expected a JSON object with {', '.join(expected)}")
        values = {}
        for name, (kind, default) in expected.items():
            value = given.get(name, default)
            if not isinstance(value, kind) and not (value is None and name not in given and default is None):
                raise ControlPlaneError(f"{name} is missing or malformed in the body; expected a {kind.__name__}")
            values[name] = value
        return values


def _routes(admin: Admin) -> Mapping[tuple[str, str], Callable[[_Call], dict[str, Any]]]:
    """What answers each method, by the path that `infra/platform.yaml` gives it."""

    def onboard(call: _Call) -> dict[str, Any]:
        body = call.body(tenant_id=(str, ...), tier=(str, ...), admin=(str, ...), name=(str, None), invite=(bool, True))
        return _changed(admin.onboard(body.pop("tenant_id"), call.request, **body))

    def list_all(call: _Call) -> dict[str, Any]:
        records, after = admin.tenants(_PAGE, call.query.get("after"))
        return _answer(200, {"tenants": [asdict(record) for record in records], "after": after})

    def show(call: _Call) -> dict[str, Any]:
        return _answer(200, {"tenant": asdict(admin.tenant(call.path["tenant_id"]))})

    def set_tier(call: _Call) -> dict[str, Any]:
        return _changed(admin.set_tier(call.path["tenant_id"], call.request, **call.body(tier=(str, ...))))

    def offboard(call: _Call) -> dict[str, Any]:
        export = call.query.get("export") == "true"
        return _changed(admin.offboard(call.path["tenant_id"], call.request, export=export))

    def simple(change: Callable[[str, Request], Change]) -> Callable[[_Call], dict[str, Any]]:
        return lambda call: _changed(change(call.path["tenant_id"], call.request))

    def operation(call: _Call) -> dict[str, Any]:
        found, steps = admin.operation(call.path["operation_id"])
        return _answer(200, {"operation": {**_public(found), "steps": steps}})

    return {
        ("POST", "/tenants"): onboard,
        ("GET", "/tenants"): list_all,
        ("GET", "/tenants/{tenant_id}"): show,
        ("DELETE", "/tenants/{tenant_id}"): offboard,
        ("PUT", "/tenants/{tenant_id}/tier"): set_tier,
        ("POST", "/tenants/{tenant_id}/upgrade"): simple(admin.upgrade),
        ("POST", "/tenants/{tenant_id}/suspend"): simple(admin.suspend),
        ("POST", "/tenants/{tenant_id}/resume"): simple(admin.resume),
        ("POST", "/tenants/{tenant_id}/export"): simple(admin.export),
        ("GET", "/operations/{operation_id}"): operation,
        ("POST", "/operations/{operation_id}/retry"): lambda call: _changed(admin.retry(call.path["operation_id"])),
    }


def _changed(change: Change) -> dict[str, Any]:
    """202 with the operation that was begun; 200 where there was nothing to do."""
    record: TenantRecord | None = change.record
    body = {
        "tenant": asdict(record) if record else None,
        "operation": _public(change.operation) if change.operation else None,
    }
    return _answer(202 if change.operation else 200, body)


def _public(operation: Operation) -> dict[str, Any]:
    return {name: value for name, value in asdict(operation).items() if name != "fingerprint"}


def _answer(status: int, body: Mapping[str, Any]) -> dict[str, Any]:
    return {"statusCode": status, "headers": {"Cache-Control": "no-store"}, "body": json.dumps(body)}


@cache
def _handler() -> Handler:
    return create(os.environ, boto3.Session())


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Lambda's entry point: a REST API's proxy event in, its answer out."""
    return _handler()(event, context)

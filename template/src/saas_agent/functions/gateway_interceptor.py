"""The gateway's interceptor: says who calls, in headers that nobody else can set, and lets nothing else through.

AgentCore Gateway asks it before a request goes on to a policy or a target, and again with the answer (developer guide,
"Using interceptors with Gateway"). Whatever it can't understand is refused in the shape of its own answer: what it
raised would be for the gateway to interpret.
"""

import logging
import os
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import boto3

from saas_agent.agent.gateway_tools import API_OPERATIONS, TOOLS
from saas_agent.errors import INTERNAL, INVALID_TOKEN, Reason, Refused
from saas_agent.gateway_calls import (
    API_TARGET,
    INVALID_CALL,
    TARGET,
    TENANT_HEADER,
    TIER_HEADER,
    Offered,
    entitled,
    header,
    named,
    own_arguments,
)
from saas_agent.tenancy.callers import Caller, Callers
from saas_agent.tenancy.token import ID_TOKEN_HEADER, FetchKeys
from saas_agent.tenancy.token import fetch_keys as fetch_keys_over_https

Handler = Callable[[dict[str, Any], object], dict[str, Any]]

_VERSION = "1.0"
_DENIED = -32003  # as the gateway's own refusals
# All that an agent needs. The gateway has its own word on those that it doesn't know.
_METHODS = frozenset({"initialize", "ping", "server/discover", "tools/call", "tools/list"})
_NOTIFICATIONS = frozenset({"notifications/initialized", "notifications/cancelled"})
_CALL = frozenset({"name", "arguments", "_meta"})
_PASSED = (TENANT_HEADER, TIER_HEADER, ID_TOKEN_HEADER)

logger = logging.getLogger(__name__)
# Lambda's own level is WARNING.
logger.setLevel(logging.INFO)


def create(
    environ: Mapping[str, str], session: boto3.Session, fetch_keys: FetchKeys = fetch_keys_over_https
) -> Handler:
    """The handler for this environment; ConfigurationError where a variable is missing."""
    callers = Callers(environ, session, fetch_keys)

    def intercept(event: dict[str, Any], _context: object) -> dict[str, Any]:
        answered = False
        request_id: object = None
        try:
            request = event["mcp"]["gatewayRequest"]
            answered = "gatewayResponse" in event["mcp"]
            headers = _headers(request.get("headers"))
            if answered:
                return _filtered(event["mcp"]["gatewayResponse"], lambda: callers.of(headers).standing.tier.name)
            body = request.get("body")
            request_id = body.get("id") if isinstance(body, dict) else None
            _require_single(body)
            caller = callers.of(headers)
            if body["method"] == "tools/call":
                name = body["params"].get("name")
                tool = entitled(_offered(), name, caller.standing.tier.name)
                own_arguments(tool, body["params"].get("arguments", {}))
                # All that is told of a call that comes without the agent.
                logger.info("called tenant=%s tool=%s", caller.access.tenant.tenant_id, name)
            return _passed(body, _outgoing(caller, headers))
        except Refused as refused:
            logger.warning("refused code=%s detail=%s", refused.reason.code, refused.detail)
            return _refused(request_id, refused.reason, answered)
        except Exception as error:
            # No message: it could quote the request.
            logger.error("failed kind=%s", type(error).__name__)
            return _refused(request_id, INTERNAL, answered)

    return intercept


def _offered() -> dict[str, Offered]:
    """Everything behind the gateway, whichever target has it."""
    return {**named(TARGET, TOOLS), **named(API_TARGET, API_OPERATIONS)}


def _headers(headers: object) -> dict[str, str]:
    if not isinstance(headers, dict) or not all(
        isinstance(name, str) and isinstance(value, str) for name, value in headers.items()
    ):
        raise Refused(INVALID_TOKEN, "the gateway passes no headers on")
    # Two in different spelling: which of them the gateway verified isn't known.
    if header(headers, "Authorization") is None:
        raise Refused(INVALID_TOKEN, "there is not one Authorization header")
    return headers


def _require_single(body: object) -> None:
    """Refused unless the body is one well-formed request or notification: of a batch, one could hide behind another."""
    if not isinstance(body, dict) or body.get("jsonrpc") != "2.0":
        raise Refused(INVALID_CALL, "the body is no JSON-RPC request")
    method, params = body.get("method"), body.get("params", {})
    if not isinstance(params, dict):
        raise Refused(INVALID_CALL, "the parameters are no object")
    if method in _NOTIFICATIONS and "id" not in body:
        return
    if method not in _METHODS or not isinstance(body.get("id"), int | str) or isinstance(body["id"], bool):
        raise Refused(INVALID_CALL, "the method or the id is none that an agent uses")
    if method == "tools/call" and not _CALL.issuperset(params):
        raise Refused(INVALID_CALL, "parameters that a call doesn't have")


def _outgoing(caller: Caller, headers: Mapping[str, str]) -> dict[str, str]:
    # Whatever else came by the name of a tenant goes on empty.
    claimed = {name: "" for name in headers if name.lower().replace("_", "-").startswith("x-tenant")}
    own = {TENANT_HEADER: caller.access.tenant.tenant_id, TIER_HEADER: caller.standing.tier.name}
    kept = {name: value for name, value in claimed.items() if name.lower() not in {n.lower() for n in _PASSED}}
    return {
        **kept,
        **own,
        # Verified to be the caller's own; empty where nobody asks for one, whatever came by that name.
        ID_TOKEN_HEADER: caller.token.id_token,
        # The gateway sends it to a target for the sole reason that it stands here.
        "Authorization": header(headers, "Authorization") or "",
    }


def _passed(body: dict[str, Any], headers: dict[str, str]) -> dict[str, Any]:
    return _answer({"transformedGatewayRequest": {"headers": headers, "body": body}})


def _filtered(response: Mapping[str, Any], tier: Callable[[], str]) -> dict[str, Any]:
    """The response; of a list of tools, those that the tier has. One that can't be read could be such a list."""
    body = response.get("body")
    if body and not isinstance(body, dict):
        raise Refused(INTERNAL, "the gateway's answer is no object")
    result = body.get("result") if body else None
    if body and isinstance(result, dict) and "tools" in result:
        name = tier()
        tools = [tool for tool in result["tools"] if _has(tool, name)]
        body = {**body, "result": {**result, "tools": tools}}
    return _answer({"transformedGatewayResponse": {"statusCode": response.get("statusCode", 200), "body": body}})


def _has(tool: Mapping[str, Any], tier: str) -> bool:
    try:
        entitled(_offered(), tool.get("name"), tier)
    except Refused:
        return False
    return True


def _refused(request_id: object, reason: Reason, answered: bool) -> dict[str, Any]:
    error = {"code": _DENIED, "message": reason.message, "data": {"code": reason.code}}
    body = {"jsonrpc": "2.0", "id": request_id if isinstance(request_id, int | str) else None, "error": error}
    return _answer({"transformedGatewayResponse": {"statusCode": 200, "body": body}})


def _answer(mcp: Mapping[str, Any]) -> dict[str, Any]:
    return {"interceptorOutputVersion": _VERSION, "mcp": mcp}


@cache
def _handler() -> Handler:
    return create(os.environ, boto3.Session())


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Lambda's entry point: an interceptor's input in, its output out."""
    return _handler()(event, context)

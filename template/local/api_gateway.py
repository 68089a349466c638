"""API Gateway: calls of deployed REST APIs, at `/execute-api/<api id>/<stage>/<path>`.

What decides is the deployed stage: a method that asks for IAM authorization is judged by the caller's policies, any
other is open to everybody; the request is validated as far as the method says; then the function answers. That a
function turned down what is open to everybody is recorded, as its own decision.

Source: API Gateway developer guide, "Control access to a REST API with IAM permissions", "Request validation for REST
APIs", "Lambda proxy integrations in API Gateway", and "Gateway response types" for what is answered without it.
"""

import json
import re
import uuid
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote

import jsonschema
from werkzeug.wrappers import Request, Response

from .authorization import Authorizer, Principal
from .functions import FunctionError, Functions, InvocationRefused
from .gate import Gate
from .permissions import Permission
from .resources.api_gateway import APIS, Method

PREFIX = "/execute-api/"
SERVICE = "execute-api"

_ACTION = "execute-api:Invoke"
_PRINCIPAL = "apigateway.amazonaws.com"
_ANONYMOUS = Principal(arn="anonymous", kind="anonymous")
_ADDRESS = re.compile(rf"{PREFIX}(?P<api>[a-z0-9]+)/(?P<stage>\w+)(?P<path>/.*)")


class _Refused(Exception):
    """A gateway response: what the API answers without its function."""

    def __init__(self, status: int, code: str, message: str, key: str = "message") -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.body = {key: message}


class ApiGateway:
    """The deployed REST APIs of one account and Region."""

    def __init__(self, account: str, region: str, functions: Functions, authorizer: Authorizer) -> None:
        self._account = account
        self._region = region
        self._functions = functions
        self._authorizer = authorizer

    def register(self, gate: Gate) -> None:
        """Answer calls of the APIs at the gate, signed and unsigned."""
        gate.route(PREFIX, self)
        gate.handle_signed(SERVICE, self.answer)

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        return self.answer(Request(environ), _ANONYMOUS)(environ, start_response)

    def answer(self, request: Request, principal: Principal) -> Response:
        """The answer to a call of `principal`, who is authenticated, or anonymous."""
        try:
            return self._answer(request, principal)
        except _Refused as refused:
            response = _json(refused.status, refused.body)
            response.headers["x-amzn-ErrorType"] = refused.code
            return response

    def _answer(self, request: Request, principal: Principal) -> Response:
        address = _ADDRESS.fullmatch(request.path)
        if address is None:
            raise _unknown()
        api_id, stage, path = address.groups()
        method, found = _find(api_id, stage, request.method, path)
        resource = f"arn:aws:{SERVICE}:{self._region}:{self._account}:{api_id}/{stage}/{method.verb}{path}"
        if method.authorization == "AWS_IAM":
            self._authorize(principal, resource)
        _validate(method, request)
        event = _event(method, request, found, principal, api_id=api_id, stage=stage, account=self._account)
        try:
            result = self._functions.invoke_for(_PRINCIPAL, resource, method.function, event)
        except (FunctionError, InvocationRefused, LookupError):
            raise _Refused(502, "InternalServerErrorException", "Internal server error") from None
        response = _proxied(result)
        if not method.authorized and 400 <= response.status_code < 500:
            reason = f"the function answers {response.status_code}"
            self._authorizer.deny(principal, _ACTION, reason, resource=resource, source="function")
        return response

    def _authorize(self, principal: Principal, resource: str) -> None:
        if principal.kind == "anonymous":
            self._authorizer.deny(principal, _ACTION, "the call is not signed", resource=resource)
            raise _unknown()
        if principal.kind == "operator":
            return
        decision = self._authorizer.judge_permission(principal, Permission(_ACTION, resource), self._region)
        if not decision.allowed:
            message = f"User: {principal.arn} is not authorized to perform: {_ACTION} on resource: {resource}"
            raise _Refused(403, "AccessDeniedException", message, key="Message")


def _unknown() -> _Refused:
    """What AWS answers to an unsigned call, and to one that no method matches."""
    return _Refused(403, "MissingAuthenticationTokenException", "Missing Authentication Token")


def _find(api_id: str, stage: str, verb: str, path: str) -> tuple[Method, dict[str, str]]:
    """The method that the stage serves for the path, and the path's parameters. Whole segments win over parameters."""
    api = APIS.get(api_id)
    if api is None or stage not in api.stages:
        raise _Refused(403, "ForbiddenException", "Forbidden")
    matching = []
    for method in api.deployments[api.stages[stage]]:
        pattern = re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>[^/]+)", re.escape(method.path))
        found = re.fullmatch(pattern, path)
        if found and method.verb == verb:
            matching.append((method, {name: unquote(value) for name, value in found.groupdict().items()}))
    if not matching:
        raise _unknown()
    return min(matching, key=lambda match: len(match[1]))


def _validate(method: Method, request: Request) -> None:
    body = request.get_data()
    if not body and not method.body_required:
        return
    # A body of another type than the model's passes without a look, as on AWS.
    if method.schema is not None and request.mimetype in ("", "application/json"):
        try:
            jsonschema.Draft4Validator(method.schema).validate(json.loads(body))
        except (ValueError, jsonschema.ValidationError):
            raise _Refused(400, "BadRequestException", "Invalid request body") from None


def _event(
    method: Method,
    request: Request,
    found: Mapping[str, str],
    principal: Principal,
    *,
    api_id: str,
    stage: str,
    account: str,
) -> dict[str, Any]:
    """The input of a proxy integration."""
    signed = method.authorization == "AWS_IAM"
    at = datetime.now(UTC)
    return {
        "resource": method.path,
        "path": request.path.removeprefix(f"{PREFIX}{api_id}/{stage}"),
        "httpMethod": method.verb,
        "headers": dict(request.headers),
        "multiValueHeaders": {name: request.headers.getlist(name) for name in request.headers.keys()},  # noqa: SIM118
        "queryStringParameters": request.args.to_dict() or None,
        "multiValueQueryStringParameters": request.args.to_dict(flat=False) or None,
        "pathParameters": dict(found) or None,
        "stageVariables": None,
        "requestContext": {
            "accountId": account,
            "apiId": api_id,
            "httpMethod": method.verb,
            "path": request.path,
            "resourcePath": method.path,
            "stage": stage,
            "requestId": str(uuid.uuid4()),
            "requestTimeEpoch": int(at.timestamp() * 1000),
            "protocol": "HTTP/1.1",
            "identity": {
                "accessKey": principal.access_key_id if signed else None,
                "sourceIp": request.remote_addr,
                "userArn": principal.arn if signed else None,
                "userAgent": request.headers.get("User-Agent"),
            },
        },
        "body": request.get_data().decode(errors="replace") or None,
        "isBase64Encoded": False,
    }


def _proxied(result: Any) -> Response:
    """The function's answer, if it is one that API Gateway takes."""
    if not isinstance(result, dict) or not isinstance(result.get("statusCode"), int):
        raise _Refused(502, "InternalServerErrorException", "Internal server error")
    response = Response(result.get("body") or "", result["statusCode"], content_type="application/json")
    for name, value in (result.get("headers") or {}).items():
        response.headers[name] = str(value)
    return response


def _json(status: int, body: Mapping[str, Any]) -> Response:
    return Response(json.dumps(body), status, content_type="application/json")

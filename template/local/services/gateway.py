"""AgentCore Gateway: POST /gateways/{id}/mcp, as the deployed gateways and their targets are.

What decides is what was deployed: the JWT authorizer, the interceptors, the policies in Cedar, the targets' schemas and
header lists, and the gateway's role, in which it calls functions and asks policies. Where the documentation leaves
something open, this does what is worse for isolation: headers of the client stay unless the interceptor sets them, and
bodies reach it as they came, batches too.

A target is a Lambda function, or an API by its OpenAPI schema, which is called over HTTP; of APIs the local cloud
reaches its own alone.

Source: AgentCore developer guide, "Using interceptors with Gateway", "Header propagation with Gateway", "Lambda
function targets", "OpenAPI schema targets"; Model Context Protocol, "Streamable HTTP", for a server that answers each
request with JSON.
"""

import base64
import json
import os
import re
import secrets
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlencode

import boto3
import cedarpy
import jwt
import urllib3
from botocore.exceptions import ClientError
from moto.bedrockagentcorecontrol.models import Gateway as MotoGateway
from moto.bedrockagentcorecontrol.models import GatewayTarget as MotoTarget
from moto.bedrockagentcorecontrol.models import bedrockagentcorecontrol_backends
from moto.core.utils import utcnow
from werkzeug.wrappers import Request, Response

from .. import cognito
from ..authorization import OWNERS, DecisionLog, Source
from ..gate import Gate
from ..jwt_authorizer import Identity, TokenRefused, authorize
from ..operations import ServiceError
from ..permissions import Permission
from ..resources.kind import Kind, Place, Properties, Resource, UnsupportedChange
from ..service_roles import ServiceRoles

_PREFIX, _SUFFIX = "/gateways/", "/mcp"
_PRINCIPAL = "bedrock-agentcore.amazonaws.com"
_ACTION = "bedrock-agentcore:InvokeGateway"
_SEPARATOR = "___"
_LARGEST_BODY = 6 * 1024 * 1024
_INTERNAL = "An internal error occurred. Please retry later."
_NOT_PERMITTED = -32002
_LIMITED = -32003
_SECONDS = {"second": 1, "minute": 60}
_JWT = "$.context.jwt."
_OWN_API = re.compile(r"https://(?P<api>[a-z0-9]+)\.execute-api\.[^/]+/(?P<stage>\w+)")
_HTTP = urllib3.PoolManager(retries=False, timeout=30.0)

Message = Mapping[str, Any]
"""A JSON-RPC request, notification or response."""


def register(gate: Gate) -> None:
    """Answer for the gateways that are deployed."""
    gate.route(_PREFIX, GatewayFront(gate))


class _Refused(Exception):
    """A request that gets no JSON-RPC answer."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


@dataclass(frozen=True)
class _Call:
    """A request on its way. client: the headers that came, by lower-case name. set: those that an interceptor set."""

    gateway: MotoGateway
    identity: Identity
    raw: str
    client: Mapping[str, str]
    set: Mapping[str, str]

    @property
    def headers(self) -> dict[str, str]:
        """The headers in force."""
        return {**self.client, **self.set}


class GatewayFront:
    """WSGI application in front of all deployed gateways."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._decisions: DecisionLog = gate.decisions
        self._roles = ServiceRoles(gate)
        self._sessions: dict[tuple[str, str], tuple[boto3.Session, Any]] = {}
        self._lock = threading.Lock()
        self._counted: Counter[tuple[Any, ...]] = Counter()

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        request = Request(environ)
        try:
            response = self._answer(request)
        except _Refused as refused:
            response = _json({"message": refused.reason}, refused.status)
            if refused.status == 401:
                response.headers["WWW-Authenticate"] = "Bearer"
        return response(environ, start_response)

    # --- The way of a request ---------------------------------------------------------------------

    def _answer(self, request: Request) -> Response:
        gateway = self._gateway(request.path)
        if request.method != "POST":
            self._record(gateway, None, False, "there are no streams of the server's own", "gateway")
            raise _Refused(405, "expected POST: there are no streams of the server's own")
        try:
            configuration = (gateway.authorizer_configuration or {}).get("customJWTAuthorizer")
            if not configuration:
                raise TokenRefused("the gateway has no JWT authorizer: deploy one with it")
            identity = authorize(configuration, request.headers.get("Authorization"), self._keys)
        except TokenRefused as refused:
            self._record(gateway, None, False, str(refused), "authorizer")
            raise _Refused(401, f"the token is refused: {refused}") from None
        self._record(gateway, identity, True, "the token passes the gateway's authorizer", "authorizer")
        content = request.get_data()
        if len(content) > _LARGEST_BODY:
            raise _Refused(413, "the body is larger than 6 MB")
        raw = content.decode(errors="replace")
        call = _Call(gateway, identity, raw, {name.lower(): value for name, value in request.headers}, {})
        body = _parsed(raw)
        if self._is_limited(call):
            self._record(gateway, identity, False, "the rate limit is reached", "gateway")
            return _json(_error(body, _LIMITED, "Rate limit exceeded"), 200)
        return self._intercepted(call, body)

    def _intercepted(self, call: _Call, body: Any) -> Response:
        output = self._ask_interceptor(call, "REQUEST", body, None)
        if output is None:
            answer: Any = _error(body, -32603, _INTERNAL)
        elif "transformedGatewayResponse" in output:
            answer = output["transformedGatewayResponse"].get("body")
            self._record(call.gateway, call.identity, False, _reason(answer), "interceptor")
        else:
            changed = output.get("transformedGatewayRequest", {})
            body = changed.get("body", body)
            headers = {name.lower(): str(value) for name, value in (changed.get("headers") or {}).items()}
            call = _Call(call.gateway, call.identity, call.raw, call.client, headers)
            answer = self._served(call, body)
        if answer is None:
            return Response(status=202)
        last = self._ask_interceptor(call, "RESPONSE", body, {"statusCode": 200, "headers": {}, "body": answer})
        if last is None:
            return _json(_error(body, -32603, _INTERNAL), 200)
        if "transformedGatewayResponse" in last:
            transformed = last["transformedGatewayResponse"]
            return _json(transformed.get("body"), int(transformed.get("statusCode", 200)))
        return _json(answer, 200)

    def _served(self, call: _Call, body: Any) -> Any:
        """The answer to a request, a list of them to a batch, None to notifications."""
        if isinstance(body, list):
            answers = [answer for one in body if (answer := self._served(call, one)) is not None]
            return answers or None
        if not isinstance(body, dict) or not isinstance(body.get("method"), str):
            return _error(body, -32600, "Invalid request")
        if "id" not in body:
            return None
        method, params = body["method"], body.get("params") or {}
        if method == "initialize":
            return _result(body, self._initialized(call.gateway, params))
        if method == "ping":
            return _result(body, {})
        if method == "tools/list":
            tools = [tool for target in self._targets(call.gateway) for tool in _tools(target)]
            permitted = self._permitted(call, "PartiallyAuthorizeActions", [tool["name"] for tool in tools], {})
            return _result(body, {"tools": [tool for tool in tools if tool["name"] in permitted]})
        if method == "tools/call":
            return self._called(call, body, params)
        return _error(body, -32601, f"Method not found: {method}")

    def _called(self, call: _Call, body: Message, params: Mapping[str, Any]) -> Message:
        name = str(params.get("name"))
        target_name, _, tool = name.partition(_SEPARATOR)
        target = next((found for found in self._targets(call.gateway) if found.name == target_name), None)
        if target is None or name not in {listed["name"] for listed in _tools(target)}:
            self._record(call.gateway, call.identity, False, "there is no such tool", "gateway")
            return _error(body, -32602, f"Unknown tool: {name}")
        if name not in self._permitted(call, "AuthorizeAction", [name], params.get("arguments", {})):
            self._record(call.gateway, call.identity, False, f"no policy permits {name}", "policy")
            return _error(body, _NOT_PERMITTED, "Tool call not allowed due to policy enforcement")
        passed = self._passed_on(call, target)
        if "openApiSchema" in target.target_configuration["mcp"]:
            failed, text = self._call_api(target, tool, params.get("arguments", {}), passed)
        else:
            failed, text = self._call_function(call, body, target, passed)
        return _result(body, {"content": [{"type": "text", "text": text}], "isError": failed})

    def _call_function(
        self, call: _Call, body: Message, target: MotoTarget, passed: Mapping[str, str]
    ) -> tuple[bool, str]:
        """Whether the target's function failed, and what the model is told."""
        params = body["params"]
        context = {
            "bedrockAgentCoreMessageVersion": "1.0",
            "bedrockAgentCoreAwsRequestId": str(uuid.uuid4()),
            "bedrockAgentCoreMcpMessageId": str(body["id"]),
            "bedrockAgentCoreGatewayId": call.gateway.gateway_id,
            "bedrockAgentCoreTargetId": target.target_id,
            "bedrockAgentCoreToolName": str(params["name"]),
            "bedrockAgentCorePropagatedHeaders": passed,
        }
        function = target.target_configuration["mcp"]["lambda"]["lambdaArn"]
        failed, answer = self._invoke(call.gateway, function, params.get("arguments", {}), {"custom": context})
        return failed, _INTERNAL if failed else json.dumps(answer)

    def _call_api(self, target: MotoTarget, tool: str, arguments: Any, passed: Mapping[str, str]) -> tuple[bool, str]:
        """Calls the operation of the target's API. What it has no parameter for goes into the query, too."""
        [operation] = [found for found in _operations(_schema_of(target)) if found.name == tool]
        given = {name: str(value) for name, value in arguments.items()} if isinstance(arguments, dict) else {}
        path = re.sub(r"\{(\w+)\}", lambda found: quote(given.pop(found[1], ""), safe=""), operation.path)
        url = f"{_at_loopback(_schema_of(target)['servers'][0]['url'])}{path}"
        answer = _HTTP.request(
            operation.verb, f"{url}?{urlencode(given)}" if given else url, headers=dict(passed), redirect=False
        )
        return not 200 <= answer.status < 300, answer.data.decode(errors="replace")

    def _passed_on(self, call: _Call, target: MotoTarget) -> dict[str, str]:
        """The headers that the target gets; what came of those that claim a tenant is recorded."""
        allowed = [name.lower() for name in (target.metadata_configuration or {}).get("allowedRequestHeaders", [])]
        passed = {name: call.headers[name] for name in allowed if call.headers.get(name)}
        if "authorization" in call.set:  # no list can name it
            passed["authorization"] = call.set["authorization"]
        for name, value in call.client.items():
            if name.replace("_", "-").startswith("x-tenant") and passed.get(name) != value:
                became = "was overwritten by the interceptor" if name in passed else "is not on the target's list"
                self._record(call.gateway, call.identity, False, f"the client's header {name} {became}", "gateway")
        owner = passed.get("x-tenant-id", "*")
        if "openApiSchema" in target.target_configuration["mcp"]:  # which knows the caller by nothing but the token
            owner = str(_claims(passed["authorization"]).get("tenant_id")) if "authorization" in passed else "*"
        self._record(call.gateway, call.identity, True, f"a tool is called for {owner}", "gateway", {OWNERS: [owner]})
        return passed

    # --- Rate limits ------------------------------------------------------------------------------

    def _is_limited(self, call: _Call) -> bool:
        """Whether a limit of the gateway is reached. One whose claims the token lacks is passed over, as on AWS."""
        claims = _claims(call.client["authorization"])
        for name, limit in rate_limits(_backend(self._gate.account, self._gate.region)).items():
            values = {key: claims.get(key.removeprefix(_JWT)) for key in limit["DimensionKeys"] if key.startswith(_JWT)}
            entry = _entry(limit["Entries"], values)
            if limit["GatewayIdentifier"] != call.gateway.gateway_id or entry is None:
                continue
            [rate] = entry["Requests"]
            window = _window(rate["Period"])
            with self._lock:
                bucket = (name, *values.values(), window)
                self._counted[bucket] += 1
                if self._counted[bucket] > float(rate["Rate"]):
                    return True
        return False

    # --- Policies ---------------------------------------------------------------------------------

    def _permitted(self, call: _Call, asked: str, names: Sequence[str], arguments: Any) -> set[str]:
        """Those of the tools that the policy engine lets the caller have. The gateway asks it in its own role."""
        configured = call.gateway.policy_engine_configuration
        if not configured:
            return set(names)
        region = self._gate.region
        principal = self._gate.sessions.find(self._session(call.gateway)[0].get_credentials().access_key)
        wanted = [Permission("bedrock-agentcore:GetPolicyEngine", configured["arn"])]
        wanted += [
            Permission(f"bedrock-agentcore:{asked}", arn) for arn in (configured["arn"], call.gateway.gateway_arn)
        ]
        engine = _engines(_backend(self._gate.account, region)).get(configured["arn"])
        if (
            principal is None
            or engine is None
            or not all(
                self._gate.authorizer.judge_permission(principal.principal, permission, region).allowed
                for permission in wanted
            )
        ):
            return set()
        claims = _claims(call.client["authorization"])
        found = {name for name in names if engine.permits(claims, name, call.gateway.gateway_arn, arguments)}
        return found if configured["mode"] == "ENFORCE" else set(names)

    # --- Functions --------------------------------------------------------------------------------

    def _ask_interceptor(self, call: _Call, point: str, body: Any, response: Any) -> dict[str, Any] | None:
        """What the interceptor of this point says; an empty object where there is none, None where it failed."""
        for configured in call.gateway.interceptor_configurations or []:
            if point not in configured["interceptionPoints"]:
                continue
            request: dict[str, Any] = {"path": _SUFFIX, "httpMethod": "POST", "body": body}
            if (configured.get("inputConfiguration") or {}).get("passRequestHeaders"):
                request["headers"] = call.headers if response is not None else dict(call.client)
            mcp: dict[str, Any] = {"rawGatewayRequest": {"body": call.raw}, "gatewayRequest": request}
            if response is not None:
                mcp["gatewayResponse"] = response
            event = {"interceptorInputVersion": "1.0", "mcp": mcp}
            failed, answer = self._invoke(call.gateway, configured["interceptor"]["lambda"]["arn"], event, None)
            output = answer.get("mcp") if isinstance(answer, dict) and not failed else None
            if not isinstance(output, dict) or answer.get("interceptorOutputVersion") != "1.0":
                self._record(call.gateway, call.identity, False, f"the {point} interceptor failed", "interceptor")
                return None
            return output
        return {}

    def _invoke(self, gateway: MotoGateway, function: str, event: Any, context: Any) -> tuple[bool, Any]:
        """Whether the function failed, and its answer. The gateway calls it in its own role, which is judged."""
        more = {"ClientContext": base64.b64encode(json.dumps(context).encode()).decode()} if context else {}
        try:
            client = self._session(gateway)[1]
            answer = client.invoke(FunctionName=function, Payload=json.dumps(event).encode(), **more)
        except (ClientError, ServiceError):
            return True, None  # denied, and recorded as such
        return "FunctionError" in answer, json.loads(answer["Payload"].read())

    def _session(self, gateway: MotoGateway) -> tuple[boto3.Session, Any]:
        """A session of the gateway's role, and its Lambda client."""
        key = gateway.gateway_id, gateway.role_arn
        with self._lock:
            if key not in self._sessions:
                session = self._roles.session(
                    gateway.role_arn, service=_PRINCIPAL, source_arn=gateway.gateway_arn, name=gateway.gateway_id
                )
                self._sessions[key] = session, session.client("lambda")
            return self._sessions[key]

    # --- What is deployed -------------------------------------------------------------------------

    def _gateway(self, path: str) -> MotoGateway:
        identifier = path.removeprefix(_PREFIX).removesuffix(_SUFFIX)
        gateways: dict[str, MotoGateway] = _backend(self._gate.account, self._gate.region).gateways
        if not path.endswith(_SUFFIX) or identifier not in gateways:
            raise _Refused(404, f"expected {_PREFIX}<id of a gateway>{_SUFFIX}")
        return gateways[identifier]

    def _targets(self, gateway: MotoGateway) -> list[MotoTarget]:
        found = _backend(self._gate.account, self._gate.region).gateway_targets
        return [target for (identifier, _), target in list(found.items()) if identifier == gateway.gateway_id]

    def _initialized(self, gateway: MotoGateway, params: Mapping[str, Any]) -> dict[str, Any]:
        mcp = (gateway.protocol_configuration or {}).get("mcp") or {}
        supported = mcp.get("supportedVersions") or ["2025-03-26"]
        wanted = params.get("protocolVersion")
        return {
            "protocolVersion": wanted if wanted in supported else supported[0],
            "capabilities": {"tools": {"listChanged": False}},
            "serverInfo": {"name": gateway.name, "version": "1.0.0"},
        }

    def _keys(self, issuer: str) -> dict[str, Any]:
        return cognito.issuer_keys(self._gate.account, self._gate.region, issuer)

    def _record(
        self,
        gateway: MotoGateway,
        identity: Identity | None,
        allowed: bool,
        reason: str,
        source: Source,
        context: Mapping[str, str | list[str]] | None = None,
    ) -> None:
        self._decisions.append(
            principal=f"jwt:{identity.subject}" if identity else "anonymous",
            tenant=identity.tenant if identity else None,
            action=_ACTION,
            resource=gateway.gateway_arn,
            context=context,
            allowed=allowed,
            source=source,
            reason=reason,
        )


def _backend(account: str, region: str) -> Any:
    return bedrockagentcorecontrol_backends[account][region]


def _window(period: str) -> int:
    """Which minute or second it is, by number."""
    return int(time.time() // _SECONDS[period])


def rate_limits(backend: Any) -> dict[str, Properties]:
    """The rate limits by id, kept with what moto keeps."""
    limits: dict[str, Properties] = backend.__dict__.setdefault("gateway_rate_limits", {})
    return limits


def _entry(entries: Sequence[Mapping[str, Any]], values: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The entry for these values, the one with the fewest wildcards; None where a value is missing or none fits."""
    if not all(isinstance(value, str) for value in values.values()):
        return None
    fitting = [
        entry for entry in entries if all(entry["Dimensions"].get(key) in ("*", value) for key, value in values.items())
    ]
    return min(fitting, key=lambda entry: list(entry["Dimensions"].values()).count("*"), default=None)


# --- Cedar ----------------------------------------------------------------------------------------


@dataclass
class Engine:
    """A policy engine: its policies' statements by name. Nothing is permitted but by one of them."""

    statements: dict[str, str] = field(default_factory=dict)

    def permits(self, claims: Mapping[str, Any], tool: str, gateway_arn: str, arguments: Any) -> bool:
        """Whether a user with these claims may call the tool of the gateway.

        As the developer guide has it: the user is an OAuthUser, named by `sub`, and every claim is a tag, a text.
        """
        tags = {name: value if isinstance(value, str) else json.dumps(value) for name, value in claims.items()}
        user, gateway = str(claims.get("sub", "")), {"type": "AgentCore::Gateway", "id": gateway_arn}
        entities = [
            {
                "uid": {"type": "AgentCore::OAuthUser", "id": user},
                "attrs": {"id": user},
                "parents": [],
                "tags": tags,
            },
            {"uid": gateway, "attrs": {}, "parents": []},
        ]
        request = {
            "principal": f"AgentCore::OAuthUser::{json.dumps(user)}",
            "action": f"AgentCore::Action::{json.dumps(tool)}",
            "resource": f"AgentCore::Gateway::{json.dumps(gateway_arn)}",
            "context": {"input": arguments if isinstance(arguments, dict) else {}},
        }
        answer = cedarpy.is_authorized(request, "\n".join(self.statements.values()), entities)
        return answer.decision is cedarpy.Decision.Allow


_CEDAR_TYPES = {"string": "String", "integer": "Long", "boolean": "Bool"}


def cedar_schema(tools: Iterable[Mapping[str, Any]]) -> str:
    """The Cedar schema of a gateway with these tools (name, inputSchema), as the service makes it."""
    actions = [
        f"action {json.dumps(tool['name'])} appliesTo {{ principal: [OAuthUser], resource: [Gateway], "
        f"context: {{ input: {{ {_cedar_fields(tool['inputSchema'])} }} }} }};"
        for tool in tools
    ]
    entities = 'entity OAuthUser = { "id": String } tags String; entity Gateway;'
    return f"namespace AgentCore {{ {entities} {' '.join(actions)} }}"


def _cedar_fields(schema: Mapping[str, Any]) -> str:
    required = set(schema.get("required", ()))
    fields = [
        f"{json.dumps(name)}{'' if name in required else '?'}: {_CEDAR_TYPES.get(inner['type'], 'String')}"
        for name, inner in schema.get("properties", {}).items()
    ]
    return ", ".join(fields)


def cedar_findings(statement: str, schema: str) -> list[str]:
    """What is wrong with a policy under the schema, in Cedar's words."""
    result = cedarpy.validate_policies(statement, schema)
    return [] if result.validation_passed else [str(error) for error in result.errors] or ["it is no policy"]


def _engines(backend: Any) -> dict[str, Engine]:
    """The policy engines by ARN, kept with what moto keeps, and so gone with it."""
    engines: dict[str, Engine] = backend.__dict__.setdefault("policy_engines", {})
    return engines


def _claims(authorization: str) -> dict[str, Any]:
    """The claims of a token that the authorizer has let in."""
    claims: dict[str, Any] = jwt.decode(authorization.partition(" ")[2], options={"verify_signature": False})
    return claims


# --- Messages -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Operation:
    """An operation of an API that is a tool. name: its `operationId`."""

    name: str
    description: str
    verb: str
    path: str
    parameters: Sequence[Mapping[str, Any]]


def _operations(schema: Mapping[str, Any]) -> Iterator[_Operation]:
    for path, item in schema["paths"].items():
        for verb, operation in item.items():
            yield _Operation(
                operation["operationId"],
                operation["description"],
                verb.upper(),
                path,
                operation.get("parameters", ()),
            )


def _schema_of(target: MotoTarget) -> Mapping[str, Any]:
    schema: Mapping[str, Any] = json.loads(target.target_configuration["mcp"]["openApiSchema"]["inlinePayload"])
    return schema


def _at_loopback(url: str) -> str:
    """Where the local cloud answers for a server of a schema."""
    own = _OWN_API.fullmatch(url)
    if own is None:
        raise UnsupportedChange(
            f"AWS::BedrockAgentCore::GatewayTarget: the server {url}: the local cloud reaches its own APIs alone"
        )
    return f"{os.environ['AWS_ENDPOINT_URL']}/execute-api/{own['api']}/{own['stage']}"


def _require_supported(schema: str) -> None:
    """UnsupportedChange for an OpenAPI schema that AgentCore doesn't take, or that isn't known here."""
    where = "AWS::BedrockAgentCore::GatewayTarget: the OpenAPI schema"
    try:
        document = json.loads(schema)
    except ValueError:
        raise UnsupportedChange(f"{where} is no JSON") from None
    if not str(document.get("openapi", "")).startswith("3.") or len(document.get("servers", ())) != 1:
        raise UnsupportedChange(f"{where} needs openapi 3 and one server")
    _at_loopback(document["servers"][0]["url"])
    if "security" in document or "securitySchemes" in document.get("components", {}):
        raise UnsupportedChange(f"{where} has security, which a target's credentials are for")
    for path, item in document["paths"].items():
        for verb, operation in item.items():
            if not {"operationId", "description"} <= set(operation) or "requestBody" in operation:
                raise UnsupportedChange(f"{where}: {verb} {path} needs an operationId, a description and no body")
            if not {"path", "query"}.issuperset(parameter["in"] for parameter in operation.get("parameters", ())):
                raise UnsupportedChange(f"{where}: {verb} {path} has parameters elsewhere than in path and query")


def _tools(target: MotoTarget) -> Iterator[dict[str, Any]]:
    mcp = target.target_configuration["mcp"]
    for operation in _operations(_schema_of(target)) if "openApiSchema" in mcp else ():
        properties = {
            parameter["name"]: {**parameter["schema"], "description": parameter.get("description", "")}
            for parameter in operation.parameters
        }
        required = [parameter["name"] for parameter in operation.parameters if parameter.get("required")]
        yield {
            "name": f"{target.name}{_SEPARATOR}{operation.name}",
            "description": operation.description,
            "inputSchema": {"type": "object", "properties": properties, "required": required},
        }
    for tool in mcp.get("lambda", {}).get("toolSchema", {}).get("inlinePayload", ()):
        yield {
            "name": f"{target.name}{_SEPARATOR}{tool['name']}",
            "description": tool["description"],
            "inputSchema": tool["inputSchema"],
        }


def _parsed(raw: str) -> Any:
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):
        return None


def _result(request: Message, result: Mapping[str, Any]) -> Message:
    return {"jsonrpc": "2.0", "id": request["id"], "result": result}


def _error(request: Any, code: int, message: str) -> Message:
    request_id = request.get("id") if isinstance(request, dict) else None
    return {"jsonrpc": "2.0", "id": request_id, "error": {"code": code, "message": message}}


def _reason(answer: Any) -> str:
    error = answer.get("error") if isinstance(answer, dict) else None
    data = error.get("data") if isinstance(error, dict) else None
    return str(data.get("code", "refused")) if isinstance(data, dict) else "refused"


def _json(content: Any, status: int) -> Response:
    return Response(json.dumps(content), status, content_type="application/json")


# --- CloudFormation -------------------------------------------------------------------------------


def _api_form(value: Any, keep: frozenset[str] = frozenset({"Properties"})) -> Any:
    """Property names as the control API spells them; names of a tool's arguments stay as they are."""
    if isinstance(value, dict):
        return {
            name[:1].lower() + name[1:]: {own: _api_form(member) for own, member in inner.items()}
            if name in keep
            else _api_form(inner)
            for name, inner in value.items()
        }
    return [_api_form(item) for item in value] if isinstance(value, list) else value


class Gateway(Kind):
    """AWS::BedrockAgentCore::Gateway as the control API returns it; the front above serves it."""

    replaced_by = frozenset({"Name", "ProtocolType", "AuthorizerType", "KmsKeyArn"})
    tags = ("Tags", dict)

    def create(self, place: Place, properties: Properties) -> Resource:
        backend = _backend(place.account, place.region)
        name = properties["Name"]
        if any(gateway.name == name for gateway in backend.gateways.values()):
            raise UnsupportedChange(f"AWS::BedrockAgentCore::Gateway: a gateway named {name} already exists")
        gateway = MotoGateway(region_name=place.region, account_id=place.account, **self._settings(properties))
        # AWS makes ids of the name and 10 characters; moto makes up the whole id.
        gateway.gateway_id = f"{name.lower()}-{secrets.token_hex(5)}"
        gateway.gateway_arn = f"arn:aws:bedrock-agentcore:{place.region}:{place.account}:gateway/{gateway.gateway_id}"
        gateway.gateway_url = f"{os.environ['AWS_ENDPOINT_URL']}{_PREFIX}{gateway.gateway_id}{_SUFFIX}"
        gateway.advance()
        backend.gateways[gateway.gateway_id] = gateway
        backend.tag_resource(gateway.gateway_arn, dict(properties.get("Tags", {})))
        return Resource(
            gateway.gateway_id,
            {
                "GatewayArn": gateway.gateway_arn,
                "GatewayIdentifier": gateway.gateway_id,
                "GatewayUrl": gateway.gateway_url,
            },
        )

    def update(self, place: Place, resource: Resource, properties: Properties, former: Properties) -> Resource:
        gateway = _backend(place.account, place.region).gateways[resource.physical_id]
        for name, value in self._settings(properties).items():
            setattr(gateway, name, value)
        gateway.updated_at = utcnow()
        return resource

    def delete(self, place: Place, resource: Resource) -> None:
        _backend(place.account, place.region).gateways.pop(resource.physical_id)

    @staticmethod
    def _settings(properties: Properties) -> dict[str, Any]:
        return {
            "name": properties["Name"],
            "role_arn": properties["RoleArn"],
            "protocol_type": properties.get("ProtocolType", "MCP"),
            "authorizer_type": properties["AuthorizerType"],
            "description": properties.get("Description"),
            "protocol_configuration": _api_form(properties.get("ProtocolConfiguration")),
            "authorizer_configuration": _api_form(properties.get("AuthorizerConfiguration")),
            "kms_key_arn": properties.get("KmsKeyArn"),
            "interceptor_configurations": _api_form(properties.get("InterceptorConfigurations")),
            "policy_engine_configuration": _api_form(properties.get("PolicyEngineConfiguration")),
            "exception_level": properties.get("ExceptionLevel"),
        }


class GatewayTarget(Kind):
    """AWS::BedrockAgentCore::GatewayTarget: a Lambda function or an API, with its schema in the template."""

    replaced_by = frozenset({"GatewayIdentifier"})

    def create(self, place: Place, properties: Properties) -> Resource:
        backend = _backend(place.account, place.region)
        gateway = backend.gateways[properties["GatewayIdentifier"]]
        target = MotoTarget(
            region_name=place.region, account_id=place.account, gateway=gateway, **self._settings(properties)
        )
        target.advance()
        backend.gateway_targets[gateway.gateway_id, target.target_id] = target
        return Resource(
            f"{gateway.gateway_id}|{target.target_id}",
            {"TargetId": target.target_id, "GatewayArn": gateway.gateway_arn},
        )

    def update(self, place: Place, resource: Resource, properties: Properties, former: Properties) -> Resource:
        target = self._targets(place)[self._key(resource)]
        for name, value in self._settings(properties).items():
            setattr(target, name, value)
        target.updated_at = utcnow()
        return resource

    def delete(self, place: Place, resource: Resource) -> None:
        self._targets(place).pop(self._key(resource))

    @staticmethod
    def _targets(place: Place) -> Any:
        return _backend(place.account, place.region).gateway_targets

    @staticmethod
    def _key(resource: Resource) -> tuple[str, str]:
        gateway_id, _, target_id = resource.physical_id.partition("|")
        return gateway_id, target_id

    @staticmethod
    def _settings(properties: Properties) -> dict[str, Any]:
        mcp = properties["TargetConfiguration"].get("Mcp", {})
        api = mcp.get("OpenApiSchema", {})
        if "InlinePayload" not in mcp.get("Lambda", {}).get("ToolSchema", api):
            raise UnsupportedChange(
                "AWS::BedrockAgentCore::GatewayTarget: the local cloud has targets of Lambda and OpenAPI, each with an "
                "InlinePayload"
            )
        if api and properties.get("CredentialProviderConfigurations"):
            raise UnsupportedChange(
                "AWS::BedrockAgentCore::GatewayTarget: in the local cloud an API has no credentials but the caller's"
            )
        if api:
            _require_supported(api["InlinePayload"])
        return {
            "name": properties["Name"],
            "target_configuration": _api_form(properties["TargetConfiguration"]),
            "description": properties.get("Description"),
            "credential_provider_configurations": _api_form(properties.get("CredentialProviderConfigurations")),
            "metadata_configuration": _api_form(properties.get("MetadataConfiguration")),
        }


class PolicyEngine(Kind):
    """AWS::BedrockAgentCore::PolicyEngine, empty: it permits nothing."""

    replaced_by = frozenset({"Name", "EncryptionKeyArn"})

    def create(self, place: Place, properties: Properties) -> Resource:
        identifier = f"{properties['Name']}-{secrets.token_hex(5)}"
        arn = f"arn:aws:bedrock-agentcore:{place.region}:{place.account}:policy-engine/{identifier}"
        _engines(_backend(place.account, place.region))[arn] = Engine()
        return Resource(arn, {"PolicyEngineArn": arn, "PolicyEngineId": identifier})

    def update(self, place: Place, resource: Resource, properties: Properties, former: Properties) -> Resource:
        return resource

    def delete(self, place: Place, resource: Resource) -> None:
        del _engines(_backend(place.account, place.region))[resource.physical_id]


class Policy(Kind):
    """AWS::BedrockAgentCore::Policy in Cedar, validated against the tools of the gateway that it names."""

    replaced_by = frozenset({"PolicyEngineId", "Name"})

    def create(self, place: Place, properties: Properties) -> Resource:
        engine_arn = (
            f"arn:aws:bedrock-agentcore:{place.region}:{place.account}:policy-engine/{properties['PolicyEngineId']}"
        )
        arn = f"{engine_arn}/policy/{properties['Name']}-{secrets.token_hex(5)}"
        resource = Resource(arn, {"PolicyArn": arn, "PolicyId": arn.rpartition("/")[2]}, detail=engine_arn)
        return self.update(place, resource, properties, properties)

    def update(self, place: Place, resource: Resource, properties: Properties, former: Properties) -> Resource:
        backend = _backend(place.account, place.region)
        statement = properties["Definition"]["Cedar"]["Statement"]
        if properties.get("EnforcementMode", "ACTIVE") != "ACTIVE":
            raise UnsupportedChange("AWS::BedrockAgentCore::Policy: the local cloud has active policies only")
        if properties.get("ValidationMode") != "IGNORE_ALL_FINDINGS":
            named = re.findall(r'AgentCore::Gateway::"([^"]+)"', statement)
            tools = [
                tool
                for target in backend.gateway_targets.values()
                if target.gateway_arn in named
                for tool in _tools(target)
            ]
            if findings := cedar_findings(statement, cedar_schema(tools)):
                raise UnsupportedChange(f"AWS::BedrockAgentCore::Policy {properties['Name']}: {findings[0]}")
        _engines(backend)[resource.detail].statements[properties["Name"]] = statement
        return resource

    def delete(self, place: Place, resource: Resource) -> None:
        engine = _engines(_backend(place.account, place.region))[resource.detail]
        del engine.statements[resource.physical_id.rpartition("/")[2].rpartition("-")[0]]


class GatewayRateLimit(Kind):
    """AWS::BedrockAgentCore::GatewayRateLimit on requests, by claims of the token."""

    replaced_by = frozenset({"GatewayIdentifier", "DimensionKeys"})

    def create(self, place: Place, properties: Properties) -> Resource:
        identifier = secrets.token_hex(5)
        return self.update(place, Resource(identifier, {"RateLimitId": identifier}), properties, properties)

    def update(self, place: Place, resource: Resource, properties: Properties, former: Properties) -> Resource:
        other = [key for key in properties["DimensionKeys"] if not key.startswith(_JWT)]
        if other or not all(set(entry) == {"Dimensions", "Requests"} for entry in properties["Entries"]):
            raise UnsupportedChange(
                "AWS::BedrockAgentCore::GatewayRateLimit: the local cloud limits requests, by claims of the token"
            )
        rate_limits(_backend(place.account, place.region))[resource.physical_id] = properties
        return resource

    def delete(self, place: Place, resource: Resource) -> None:
        del rate_limits(_backend(place.account, place.region))[resource.physical_id]


KINDS: Mapping[str, Kind] = {
    "AWS::BedrockAgentCore::Gateway": Gateway(),
    "AWS::BedrockAgentCore::GatewayRateLimit": GatewayRateLimit(),
    "AWS::BedrockAgentCore::GatewayTarget": GatewayTarget(),
    "AWS::BedrockAgentCore::Policy": Policy(),
    "AWS::BedrockAgentCore::PolicyEngine": PolicyEngine(),
}
"""The CloudFormation types of gateways."""

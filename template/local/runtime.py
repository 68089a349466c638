"""AgentCore Runtime's front door: POST /runtimes/{arn}/invocations, GET /ping, and what else a token could open.

What decides is the deployed runtime as the control API holds it: its JWT authorizer, its own policy, its
header allow-list, its environment and its execution role. Everything that isn't allowed through stays out.

Source: AgentCore developer guide, "Authenticate and authorize with Inbound Auth", "Resource-based policies
for Amazon Bedrock AgentCore" (where there is one, it has to allow the call), "Pass custom headers to Amazon
Bedrock AgentCore Runtime" and the HTTP protocol contract of runtimes.
"""

import http.client
import json
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import boto3
from moto.bedrockagentcorecontrol.models import AgentRuntime, bedrockagentcorecontrol_backends
from werkzeug.wrappers import Request, Response

from .agent_server import AgentServer, AsgiApp
from .authorization import DecisionLog
from .iam import PolicyError, as_list, evaluate
from .iam import Request as Judged
from .jwt_authorizer import FetchKeys, Identity, TokenRefused, authorize
from .log_shipping import LogShipper, logged_to
from .service_roles import ServiceRoles

SESSION_HEADER = "X-Amzn-Bedrock-AgentCore-Runtime-Session-Id"
REQUEST_HEADER = "X-Amzn-Bedrock-AgentCore-Runtime-Request-Id"

Build = Callable[[Mapping[str, str], boto3.Session, FetchKeys, Callable[[str], object]], AsgiApp]
"""Makes the agent's application: environment, role's session, JWKS by issuer, sink for lines."""

_SUFFIX = "/invocations"
_DOORS = {
    _SUFFIX: "bedrock-agentcore:InvokeAgentRuntime",
    "/commands": "bedrock-agentcore:InvokeAgentRuntimeCommand",
    "/stopruntimesession": "bedrock-agentcore:StopRuntimeSession",
    "/ws": "bedrock-agentcore:InvokeAgentRuntimeWithWebSocketStream",
    "/ws/shells": "bedrock-agentcore:InvokeAgentRuntimeCommandShell",
}
"""What AgentCore answers at a runtime, and the action that it is. The agent serves the first alone."""

_PRINCIPAL = "bedrock-agentcore.amazonaws.com"
_PREFIX = "/runtimes/"
_SESSION_ID_LENGTH = range(33, 257)
_LARGEST_HEADER = 4096
_LONGEST_SECONDS = 15 * 60
_ANONYMOUS = "anonymous"


def build_agent(
    environ: Mapping[str, str],
    session: boto3.Session,
    fetch_keys: FetchKeys,
    write: Callable[[str], object],
) -> AsgiApp:
    """The agent that ships, with the deployed environment."""
    from saas_agent.main import create_app  # takes seconds to import: only when it is asked
    from saas_agent.settings import Settings

    app: AsgiApp = create_app(Settings.from_environ(environ), session=session, fetch_keys=fetch_keys, write=write)
    return app


class _Refused(Exception):
    """A request that doesn't reach the agent."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


@dataclass(frozen=True)
class _Agent:
    """A running agent, and the configuration that it was started with."""

    configuration: tuple[str, ...]
    server: AgentServer
    logs: LogShipper
    running: ExitStack

    def stop(self) -> None:
        """Let running requests end, then stop; what was written is in the log."""
        self.running.close()


class RuntimeFront:
    """WSGI application in front of the agents of all deployed runtimes.

    An agent starts with the first request that passes, and anew when its runtime was changed. All
    sessions share its one process; on AWS each has a microVM of its own.
    """

    def __init__(
        self,
        account: str,
        region: str,
        *,
        roles: ServiceRoles,
        decisions: DecisionLog,
        fetch_keys: FetchKeys,
        build: Build = build_agent,
    ) -> None:
        self._account = account
        self._region = region
        self._roles = roles
        self._decisions = decisions
        self._fetch_keys = fetch_keys
        self._build = build
        self._agents: dict[str, _Agent] = {}
        self._lock = threading.Lock()

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        request = Request(environ)
        try:
            response = self._ping() if request.path == "/ping" else self._invoke(request)
        except _Refused as refused:
            response = _answer(refused.status, {"message": refused.reason})
        return response(environ, start_response)

    def flush(self) -> None:
        """Return when everything that the agents wrote is in the log."""
        with self._lock:
            agents = list(self._agents.values())
        for agent in agents:
            agent.logs.flush()

    def stop(self) -> None:
        """Stop the agents."""
        with self._lock:
            agents = list(self._agents.values())
            self._agents.clear()
        for agent in agents:
            agent.stop()

    # --- A request --------------------------------------------------------------------------------

    def _ping(self) -> Response:
        runtimes = list(self._runtimes().values())
        if not runtimes:
            raise _Refused(404, "no runtime is deployed")
        server = self._agent(runtimes[0]).server
        return _forward(server.port, "GET", "/ping", b"", {})

    def _invoke(self, request: Request) -> Response:
        door = next((door for door in _DOORS if request.path.endswith(door)), None)
        if request.method != "POST" or door is None:
            raise _Refused(404, f"expected POST {_PREFIX}<runtime ARN>{_SUFFIX}")
        arn = request.path.removeprefix(_PREFIX).removesuffix(door)
        identity = None
        try:
            runtime = self._runtime(arn, request.args.get("qualifier", "DEFAULT"))
            identity = self._identify(runtime, request)
            _require_allowed(runtime, _DOORS[door])
        except _Refused as refused:
            self._record(arn, identity, False, refused.reason, action=_DOORS[door])
            raise
        self._record(arn, identity, True, "the token passes the runtime's authorizer", action=_DOORS[door])
        if door != _SUFFIX:
            return _answer(200, {"message": "AgentCore would do that; the local cloud does nothing"})
        try:
            headers = _passed_headers(runtime, request)
        except _Refused as refused:
            self._record(arn, identity, False, refused.reason)
            raise
        server = self._agent(runtime).server

        def refused_by_agent(code: str) -> None:
            self._record(arn, identity, False, code, source="agent")

        response = _forward(server.port, "POST", _SUFFIX, request.get_data(), headers, refused_by_agent)
        response.headers[SESSION_HEADER] = headers[SESSION_HEADER]
        return response

    def _runtimes(self) -> dict[str, AgentRuntime]:
        return bedrockagentcorecontrol_backends[self._account][self._region].agent_runtimes

    def _runtime(self, arn: str, qualifier: str) -> AgentRuntime:
        runtime = self._runtimes().get(arn.rpartition("/")[2])
        if runtime is None or runtime.agent_runtime_arn != arn:
            raise _Refused(404, "there is no such runtime")
        if qualifier != "DEFAULT":
            raise _Refused(404, "there is no such endpoint: the local cloud has DEFAULT only")
        return runtime

    def _identify(self, runtime: AgentRuntime, request: Request) -> Identity:
        configuration = (runtime.authorizer_configuration or {}).get("customJWTAuthorizer")
        if not configuration:
            raise _Refused(403, "the runtime has no JWT authorizer: deploy one with it")
        try:
            return authorize(configuration, request.headers.get("Authorization"), self._fetch_keys)
        except TokenRefused as refused:
            raise _Refused(401, f"the token is refused: {refused}") from None

    def _record(
        self,
        arn: str,
        identity: Identity | None,
        allowed: bool,
        reason: str,
        *,
        action: str = _DOORS[_SUFFIX],
        source: Any = "authorizer",
    ) -> None:
        self._decisions.append(
            principal=f"jwt:{identity.subject}" if identity else _ANONYMOUS,
            tenant=identity.tenant if identity else None,
            action=action,
            resource=arn,
            context={"bedrock-agentcore:InboundJwtClaim/client_id": identity.client_id} if identity else {},
            allowed=allowed,
            source=source,
            reason=reason,
        )

    # --- The agent --------------------------------------------------------------------------------

    def _agent(self, runtime: AgentRuntime) -> _Agent:
        """The runtime's agent as it is deployed now."""
        configuration = (
            runtime.agent_runtime_version,
            runtime.role_arn,
            json.dumps([runtime.environment_variables, runtime.agent_runtime_artifact]),
        )
        with self._lock:
            agent = self._agents.get(runtime.agent_runtime_id)
            if agent is not None and agent.configuration == configuration:
                return agent
            if agent is not None:
                del self._agents[runtime.agent_runtime_id]
                agent.stop()
            agent = self._start(runtime, configuration)
            self._agents[runtime.agent_runtime_id] = agent
        return agent

    def _start(self, runtime: AgentRuntime, configuration: tuple[str, ...]) -> _Agent:
        runtime_id = runtime.agent_runtime_id
        environ = {**(runtime.environment_variables or {}), "AWS_REGION": self._region}
        group = f"/aws/bedrock-agentcore/runtimes/{runtime_id}-DEFAULT"
        with ExitStack() as starting:
            logs = LogShipper(self._account, self._region, group)
            starting.callback(logs.stop)
            try:
                session = self._roles.session(
                    runtime.role_arn,
                    service=_PRINCIPAL,
                    source_arn=runtime.agent_runtime_arn,
                    name=runtime_id,
                )
                app = self._build(environ, session, self._fetch_keys, logs.write)
                starting.enter_context(logged_to(logs))
                server = AgentServer(app)
            except Exception as error:
                # What AWS answers when the agent's own code doesn't come up.
                raise _Refused(424, f"the agent does not start: {error}") from error
            starting.callback(server.stop)
            return _Agent(configuration, server, logs, starting.pop_all())


def _require_allowed(runtime: AgentRuntime, action: str) -> None:
    """_Refused where the runtime has a policy of its own that doesn't allow the action to everybody with a token."""
    policy = getattr(runtime, "resource_policy", None)
    if policy is None:
        return
    arn = runtime.agent_runtime_arn
    try:
        document = json.loads(policy)
        statements = [
            {key: value for key, value in statement.items() if key != "Resource"}
            for statement in as_list(document["Statement"])
            if {arn, "*"} & set(as_list(statement["Resource"]))
        ]
        verdict = evaluate([{**document, "Statement": statements}], Judged(action, arn), trust=True)
    except (PolicyError, LookupError, TypeError, ValueError) as error:
        raise _Refused(403, f"the runtime's policy can't be evaluated: {error}") from None
    if not verdict.allowed:
        raise _Refused(403, f"{action} is {verdict.value} by the runtime's own policy")


def _passed_headers(runtime: AgentRuntime, request: Request) -> dict[str, str]:
    """What the agent gets to see of the request's headers."""
    session_id = request.headers.get(SESSION_HEADER) or str(uuid.uuid4())
    if len(session_id) not in _SESSION_ID_LENGTH:
        raise _Refused(400, f"{SESSION_HEADER} must have 33 to 256 characters")
    allowed = (runtime.request_header_configuration or {}).get("requestHeaderAllowlist") or []
    passed = {name: request.headers[name] for name in ("Accept", "Content-Type", *allowed) if name in request.headers}
    too_long = [name for name in allowed if len(passed.get(name, "")) > _LARGEST_HEADER]
    if too_long:
        raise _Refused(400, f"the header {too_long[0]} is longer than {_LARGEST_HEADER} bytes")
    return {**passed, SESSION_HEADER: session_id, REQUEST_HEADER: str(uuid.uuid4())}


# --- The way to the agent and back ----------------------------------------------------------------


def _forward(
    port: int,
    method: str,
    path: str,
    body: bytes,
    headers: Mapping[str, str],
    refused: Callable[[str], None] = lambda _: None,
) -> Response:
    """The agent's answer as it comes, chunk by chunk when it streams.

    refused: told the code of every refusal that the agent answers with.
    """
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_LONGEST_SECONDS)
    connection.request(method, path, body, dict(headers))
    answer = connection.getresponse()
    content_type = answer.getheader("Content-Type", "application/json")
    if content_type.startswith("text/event-stream"):
        chunks = _chunks(connection, answer, refused)
        return Response(chunks, answer.status, content_type=content_type)
    content = answer.read()
    connection.close()
    if answer.status >= http.client.BAD_REQUEST:
        refused(_code(content) or str(answer.status))
    return Response(content, answer.status, content_type=content_type)


def _chunks(
    connection: http.client.HTTPConnection,
    answer: http.client.HTTPResponse,
    refused: Callable[[str], None],
) -> Iterator[bytes]:
    try:
        while chunk := answer.read1(65536):
            for line in chunk.splitlines():
                code = line.startswith(b"data:") and _code(line.removeprefix(b"data:"))
                if code:
                    refused(code)
            yield chunk
    finally:
        connection.close()


def _code(content: bytes) -> str | None:
    """The code of a refusal: of an answer `{"error": {"code": ...}}` or of an error event."""
    try:
        answer = json.loads(content)
    except ValueError:
        return None
    if not isinstance(answer, dict):
        return None
    error = answer if answer.get("type") == "error" else answer.get("error")
    return str(error["code"]) if isinstance(error, dict) and "code" in error else None


def _answer(status: int, content: Mapping[str, Any]) -> Response:
    response = Response(json.dumps(content), status, content_type="application/json")
    if status == http.client.UNAUTHORIZED:
        response.headers["WWW-Authenticate"] = "Bearer"
    return response

"""The runtime's front door: only what the deployed configuration lets through reaches the agent."""

import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import quote

import boto3
import pytest
from botocore.exceptions import ClientError

from local import cognito
from local.authorization import Decision
from local.cloud import ACCOUNT
from local.runtime import REQUEST_HEADER, SESSION_HEADER, RuntimeFront

from .local_stacks import REGION, Operator, operator, role, values

CODE = "runtime-code"
CUSTOM = "X-Amzn-Bedrock-AgentCore-Runtime-Custom-Id-Token"
SESSION = "s" * 40


class StandInAgent:
    """An ASGI application that tells what reached it. `go_on`: what its stream waits for."""

    def __init__(self) -> None:
        self.built: list[dict[str, str]] = []
        self.sessions: list[boto3.Session] = []
        self.go_on = threading.Event()
        self._write: Callable[[str], object] = print

    def build(self, environ: Mapping[str, str], session: boto3.Session, _keys: Any, write: Any) -> Any:
        if environ.get("BROKEN"):
            raise ValueError("ISSUER is not set")
        self.built.append(dict(environ))
        self.sessions.append(session)
        self._write = write
        return self

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        body = (await receive())["body"]
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        asked = json.loads(body or b"{}")
        self._write(f'{{"record":"usage","prompt":{json.dumps(asked)}}}\n')
        if asked == {"stream": True}:
            await self._stream(send)
            return
        status = asked.get("status", 200) if isinstance(asked, dict) else 200
        answer: Any = {"path": scope["path"], "headers": headers, "body": body.decode()}
        if status != 200:
            answer = {"error": {"code": "session_not_yours", "message": "no"}}
        await self._send(send, status, "application/json", json.dumps(answer).encode())

    async def _stream(self, send: Any) -> None:
        start = {"type": "http.response.start", "status": 200}
        await send({**start, "headers": [(b"content-type", b"text/event-stream")]})
        more = {"type": "http.response.body", "more_body": True}
        await send({**more, "body": b'data: {"type": "text", "text": "a"}\n\n'})
        while not self.go_on.is_set():
            time.sleep(0.01)
        await send({**more, "body": b'data: {"type": "error", "code": "limit_reached"}\n\n'})
        await send({"type": "http.response.body", "body": b""})

    async def _send(self, send: Any, status: int, kind: str, body: bytes) -> None:
        headers = [(b"content-type", kind.encode()), (b"x-secret", b"inside")]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})


class Front:
    """A deployed runtime behind its front door, with tokens of its user pool."""

    def __init__(self, op: Operator) -> None:
        self.op = op
        self.agent = StandInAgent()
        self.outputs = self.deploy()
        self.app = RuntimeFront(
            ACCOUNT,
            REGION,
            roles=op.cloud._roles,
            decisions=op.cloud.decisions,
            fetch_keys=lambda issuer: cognito.issuer_keys(ACCOUNT, REGION, issuer),
            build=self.agent.build,
        )
        op.cloud._gate.route("/runtimes/", self.app)
        op.cloud._gate.route("/ping", self.app)

    def deploy(
        self,
        authorizer: Mapping[str, Any] | None = None,
        headers: tuple[str, ...] = ("Authorization", CUSTOM),
        trusted: str = "bedrock-agentcore.amazonaws.com",
        policy: str = "",
        **environ: str,
    ) -> dict[str, str]:
        """Deploy the runtime, or change it. policy: its own, as JSON; none without."""
        url = {"Fn::Sub": "${Pool.ProviderURL}/.well-known/openid-configuration"}
        jwt = {"DiscoveryUrl": url, "AllowedClients": [{"Ref": "Client"}], **(authorizer or {})}
        code = {"S3": {"Bucket": CODE, "Prefix": "code.zip"}}
        artifact = {"Code": code, "Runtime": "PYTHON_3_13", "EntryPoint": ["main.py"]}
        runtime = {
            "AgentRuntimeName": "an_agent",
            "AgentRuntimeArtifact": {"CodeConfiguration": artifact},
            "RoleArn": {"Fn::GetAtt": ["Role", "Arn"]},
            "NetworkConfiguration": {"NetworkMode": "PUBLIC"},
            "AuthorizerConfiguration": {"CustomJWTAuthorizer": jwt},
            "RequestHeaderConfiguration": {"RequestHeaderAllowlist": list(headers)},
            "EnvironmentVariables": {"STAGE": "test", **environ},
        }
        resources = {
            "Pool": {"Type": "AWS::Cognito::UserPool"},
            "Client": {
                "Type": "AWS::Cognito::UserPoolClient",
                "Properties": {"UserPoolId": {"Ref": "Pool"}},
            },
            "Role": role(trusted, RoleName="role-of-the-runtime"),
            "Runtime": {"Type": "AWS::BedrockAgentCore::Runtime", "Properties": runtime},
        }
        arn = {"Fn::GetAtt": ["Runtime", "AgentRuntimeArn"]}
        if policy:
            of_runtime = {"ResourceArn": arn, "Policy": policy}
            resources["Policy"] = {"Type": "AWS::BedrockAgentCore::ResourcePolicy", "Properties": of_runtime}
        outputs = values(
            Pool={"Ref": "Pool"},
            Issuer={"Fn::GetAtt": ["Pool", "ProviderURL"]},
            Client={"Ref": "Client"},
            Arn=arn,
            Id={"Ref": "Runtime"},
        )
        names = [s["StackName"] for s in self.op.cloudformation.list_stacks()["StackSummaries"]]
        bring = self.op.update if "runtime" in names else self.op.create
        try:
            return bring("runtime", resources, Outputs=outputs)
        except ClientError as error:
            assert "No updates are to be performed" in str(error)
            return self.outputs

    def token(self, **changed: Any) -> str:
        """A genuine access token with changed claims."""
        claims = {
            "iss": self.outputs["Issuer"],
            "sub": "ann",
            "client_id": self.outputs["Client"],
            "token_use": "access",
            "tenant_id": "acme",
            "iat": int(time.time()),
            "exp": int(time.time()) + 60,
            **changed,
        }
        claims = {name: value for name, value in claims.items() if value is not None}
        return cognito.mint(ACCOUNT, REGION, self.outputs["Pool"], claims)

    def send(
        self,
        payload: Any = None,
        token: str | None = "",
        method: str = "POST",
        arn: str = "",
        query: str = "",
        door: str = "invocations",
        **headers: str,
    ) -> tuple[http.client.HTTPResponse, list[Decision]]:
        """The answer, unread, and what was decided. token: "" for a good one, None for none."""
        position = self.op.cloud.decisions.position()
        sent = {"Content-Type": "application/json", SESSION_HEADER: SESSION}
        if token is not None:
            sent["Authorization"] = f"Bearer {token or self.token()}"
        sent.update({name.replace("_", "-"): value for name, value in headers.items()})
        host = self.op.cloud.endpoint.removeprefix("http://")
        connection = http.client.HTTPConnection(host, timeout=10)
        path = f"/runtimes/{quote(arn or self.outputs['Arn'], safe='')}/{door}{query}"
        body = payload if isinstance(payload, bytes) else json.dumps(payload or {})
        connection.request(method, path, body, {k: v for k, v in sent.items() if v})
        return connection.getresponse(), self.op.cloud.decisions.since(position)

    def ask(self, *arguments: Any, **named: Any) -> tuple[int, Any]:
        answer, _ = self.send(*arguments, **named)
        return answer.status, json.loads(answer.read())


@pytest.fixture(scope="module")
def op() -> Iterator[Operator]:
    with operator() as running:
        running.upload(CODE, "code.zip")
        yield running


@pytest.fixture(scope="module")
def front(op: Operator) -> Iterator[Front]:
    made = Front(op)
    yield made
    made.app.stop()


@pytest.fixture(autouse=True)
def as_deployed(front: Front) -> Iterator[None]:
    yield
    front.deploy()


# --- The token ------------------------------------------------------------------------------------


def test_a_good_token_reaches_the_agent_and_is_recorded(front: Front) -> None:
    answer, decisions = front.send({"prompt": "hi"})
    assert answer.status == 200
    seen = json.loads(answer.read())
    assert (seen["path"], seen["body"]) == ("/invocations", '{"prompt": "hi"}')
    decision = decisions[0]
    assert (decision.allowed, decision.source, decision.tenant) == (True, "authorizer", "acme")
    assert decision.action == "bedrock-agentcore:InvokeAgentRuntime"
    assert decision.resource == front.outputs["Arn"]


@pytest.mark.parametrize(
    ("claims", "reason"),
    [
        ({"exp": 1}, "expired"),
        ({"exp": None}, "no token of the issuer"),
        ({"client_id": "another"}, "client_id is not allowed"),
        ({"client_id": None, "aud": "the-client"}, "client_id is not allowed"),
        ({"iss": "https://issuer.example"}, "issuer is not the runtime's"),
        ({"sub": None}, "no token of the issuer"),
    ],
)
def test_a_genuine_token_for_something_else_is_refused(front: Front, claims: dict[str, Any], reason: str) -> None:
    answer, decisions = front.send(token=front.token(**claims))
    assert answer.status == 401
    assert reason in json.loads(answer.read())["message"]
    assert answer.getheader("WWW-Authenticate") == "Bearer"
    assert [(d.allowed, d.source, d.tenant) for d in decisions] == [(False, "authorizer", None)]


@pytest.mark.parametrize("token", [None, "x", "a.b.c", "e30.e30.", "Zm9v"])
def test_what_is_no_token_is_refused(front: Front, token: str | None) -> None:
    status, body = front.ask(token=token)
    assert status == 401
    assert token is None or token not in body["message"].split()


def test_another_signature_or_algorithm_is_refused(front: Front) -> None:
    head, body, signature = front.token().split(".")
    forged = "A" * len(signature)
    assert front.ask(token=f"{head}.{body}.{forged}")[0] == 401
    none = "eyJhbGciOiJub25lIiwia2lkIjoiZHVtbXkifQ"
    assert front.ask(token=f"{none}.{body}.")[0] == 401


def test_audience_scope_and_claims_are_asked_for_when_they_are_configured(front: Front) -> None:
    claim = {
        "InboundTokenClaimName": "tenant_id",
        "InboundTokenClaimValueType": "STRING",
        "AuthorizingClaimMatchValue": {
            "ClaimMatchValue": {"MatchValueString": "acme"},
            "ClaimMatchOperator": "EQUALS",
        },
    }
    front.deploy({"AllowedAudience": ["a"], "AllowedScopes": ["s"], "CustomClaims": [claim]})
    good = {"aud": ["a", "b"], "scope": "r s"}
    assert front.ask(token=front.token(**good))[0] == 200
    for wrong in ({"aud": "b"}, {"aud": None}, {"scope": "sr"}, {"tenant_id": "acme2"}):
        assert front.ask(token=front.token(**{**good, **wrong}))[0] == 401


def test_a_runtime_without_an_authorizer_takes_nobody(front: Front, monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = front.app._runtimes()[front.outputs["Id"]]
    monkeypatch.setattr(runtime, "authorizer_configuration", None)
    assert front.ask()[0] == 403


# --- The runtime's own policy ---------------------------------------------------------------------


def statement(effect: str, action: str | list[str], resource: str = "*", **more: Any) -> dict[str, Any]:
    return {"Effect": effect, "Principal": "*", "Action": action, "Resource": resource, **more}


def document(*statements: dict[str, Any]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


ASK, COMMAND = "bedrock-agentcore:InvokeAgentRuntime", "bedrock-agentcore:InvokeAgentRuntimeCommand"


@pytest.mark.parametrize(
    ("policy", "asks", "commands"),
    [
        ("", 200, 200),
        (document(statement("Allow", ASK)), 200, 403),
        (document(statement("Allow", "bedrock-agentcore:*")), 200, 200),
        (document(statement("Allow", "bedrock-agentcore:*"), statement("Deny", COMMAND)), 200, 403),
        (document(statement("Deny", COMMAND)), 403, 403),
        (document(statement("Allow", ASK, "arn:aws:bedrock-agentcore:::runtime/another")), 403, 403),
        (document({**statement("Allow", ASK), "NotPrincipal": "*"}), 403, 403),
        ("[]", 403, 403),
    ],
)
def test_what_the_runtimes_own_policy_does_not_allow_is_refused(
    front: Front, policy: str, asks: int, commands: int
) -> None:
    front.deploy(policy=policy)
    for door, action, expected in (("invocations", ASK, asks), ("commands", COMMAND, commands)):
        answer, decisions = front.send({"command": "true"}, door=door)
        assert answer.status == expected
        decision = decisions[0]
        assert (decision.action, decision.allowed) == (action, expected == 200)
        assert (decision.principal, decision.tenant, decision.resource) == ("jwt:ann", "acme", front.outputs["Arn"])


@pytest.mark.parametrize("door", ["commands", "stopruntimesession", "ws", "ws/shells"])
def test_nothing_is_open_without_a_token(front: Front, door: str) -> None:
    answer, decisions = front.send(token=None, door=door)
    assert answer.status == 401
    assert [decision.allowed for decision in decisions] == [False]


# --- What passes ----------------------------------------------------------------------------------


def test_only_listed_headers_pass(front: Front) -> None:
    spoofed = {
        CUSTOM: "listed",
        "X-Tenant-Id": "globex",
        "X-Amzn-Bedrock-AgentCore-Runtime-Custom-Tenant": "globex",
        "Cookie": "a=b",
        REQUEST_HEADER: "own",
        "WorkloadAccessToken": "own",
    }
    seen = front.ask(**spoofed)[1]["headers"]
    carried = {"accept-encoding", "content-length", "host"}
    passed = {"authorization", "content-type", CUSTOM.lower(), SESSION_HEADER.lower()}
    assert seen.keys() - carried == {*passed, REQUEST_HEADER.lower()}
    assert seen[CUSTOM.lower()] == "listed"
    assert seen[REQUEST_HEADER.lower()] != "own"
    assert seen["authorization"].startswith("Bearer ")


def test_the_token_itself_passes_only_when_it_is_listed(front: Front) -> None:
    front.deploy(headers=())
    assert "authorization" not in front.ask()[1]["headers"]


def test_the_session_id_passes_or_is_made_up(front: Front) -> None:
    assert front.ask()[1]["headers"][SESSION_HEADER.lower()] == SESSION
    answer, _ = front.send(**{SESSION_HEADER: ""})
    made_up = json.loads(answer.read())["headers"][SESSION_HEADER.lower()]
    assert len(made_up) >= 33
    assert answer.getheader(SESSION_HEADER) == made_up


@pytest.mark.parametrize("session_id", ["short", "l" * 257])
def test_a_session_id_of_the_wrong_length_is_refused(front: Front, session_id: str) -> None:
    answer, decisions = front.send(**{SESSION_HEADER: session_id})
    assert answer.status == 400
    assert not decisions[-1].allowed


def test_a_header_that_is_too_long_is_refused(front: Front) -> None:
    assert front.ask(**{CUSTOM: "x" * 4097})[0] == 400


def test_nothing_of_the_agents_own_headers_comes_out(front: Front) -> None:
    assert front.send()[0].getheader("x-secret") is None


@pytest.mark.parametrize(
    "asked",
    [
        {"method": "GET"},
        {"arn": "arn:aws:bedrock-agentcore:eu-central-1:123456789012:runtime/other-0123456789"},
        {"arn": "an_agent"},
        {"query": "?qualifier=prod"},
    ],
)
def test_what_is_not_deployed_is_not_found(front: Front, asked: dict[str, str]) -> None:
    assert front.ask(**asked)[0] == 404


def test_payloads_pass_as_they_are(front: Front) -> None:
    assert front.ask(b'["\xc3\xa4"]')[1]["body"] == '["ä"]'


def test_a_stream_comes_chunk_by_chunk(front: Front) -> None:
    front.agent.go_on.clear()
    answer, _ = front.send({"stream": True})
    assert answer.getheader("Content-Type", "").startswith("text/event-stream")
    assert answer.readline() == b'data: {"type": "text", "text": "a"}\n'
    position = front.op.cloud.decisions.position()
    front.agent.go_on.set()
    assert b"limit_reached" in answer.read()
    [decision] = front.op.cloud.decisions.since(position)
    assert (decision.allowed, decision.source) == (False, "agent")


def test_the_agents_refusals_pass_and_are_recorded(front: Front) -> None:
    answer, decisions = front.send({"status": 403})
    assert answer.status == 403
    assert json.loads(answer.read())["error"]["code"] == "session_not_yours"
    last = decisions[-1]
    assert (last.allowed, last.source, last.reason) == (False, "agent", "session_not_yours")
    assert last.tenant == "acme"


# --- The agent ------------------------------------------------------------------------------------


def test_the_agent_starts_once_for_each_configuration(front: Front) -> None:
    front.ask()
    built = len(front.agent.built)
    front.ask()
    assert len(front.agent.built) == built
    front.deploy(COLOUR="blue")
    front.ask()
    assert front.agent.built[-1] == {"STAGE": "test", "COLOUR": "blue", "AWS_REGION": REGION}
    assert len(front.agent.built) == built + 1


def test_the_agent_acts_in_its_execution_role(front: Front) -> None:
    front.ask()
    arn = front.agent.sessions[-1].client("sts").get_caller_identity()["Arn"]
    assert ":assumed-role/role-of-the-runtime/" in arn


def test_a_role_that_does_not_trust_agentcore_starts_no_agent(front: Front) -> None:
    front.deploy(trusted="lambda.amazonaws.com", COLOUR="red")
    status, body = front.ask()
    assert status == 424
    assert "the agent does not start: AccessDenied" in body["message"]


def test_an_agent_that_does_not_start_says_why_and_is_tried_again(front: Front) -> None:
    front.deploy(BROKEN="yes")
    assert front.ask() == (424, {"message": "the agent does not start: ISSUER is not set"})
    front.deploy()
    assert front.ask()[0] == 200


def test_what_the_agent_writes_is_in_its_log_group(front: Front) -> None:
    front.ask({"prompt": "logged"})
    front.app.flush()
    group = f"/aws/bedrock-agentcore/runtimes/{front.outputs['Id']}-DEFAULT"
    events = front.op.logs.filter_log_events(logGroupName=group)["events"]
    lines = [json.loads(event["message"]) for event in events]
    assert {"record": "usage", "prompt": {"prompt": "logged"}} in lines


def test_ping_is_the_agents(front: Front) -> None:
    host = front.op.cloud.endpoint.removeprefix("http://")
    connection = http.client.HTTPConnection(host, timeout=10)
    connection.request("GET", "/ping")
    assert json.loads(connection.getresponse().read())["path"] == "/ping"

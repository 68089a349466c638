"""The interceptor and the tools' function, and the schemas that the model sees of the tools."""

import asyncio
import json
import logging
import re
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from local import template as formation
from saas_agent import gateway
from saas_agent.agent.gateway_tools import API_OPERATIONS, TOOLS
from saas_agent.errors import TENANT_NOT_ACTIVE, ConfigurationError, Refused
from saas_agent.functions import gateway_interceptor, gateway_tools
from saas_agent.functions.gateway_tools import NotCalled
from saas_agent.gateway import ToolGateway
from saas_agent.gateway_calls import (
    API_TARGET,
    INVALID_CALL,
    NOT_IN_TIER,
    SEPARATOR,
    TARGET,
    TENANT_HEADER,
    TIER_HEADER,
    GatewayTool,
    Offered,
    entitled,
    header,
    named,
    own_arguments,
)
from saas_agent.tenancy.tenant import TenantContext
from saas_agent.tenancy.tiers import load_tiers
from saas_agent.tenancy.token import ID_TOKEN_HEADER

TOKEN = "Bearer the.own.token"
SHOW = f"{TARGET}{SEPARATOR}show_account"
ABOVE = f"{TARGET}{SEPARATOR}list_conversations"

# --- Schemas --------------------------------------------------------------------------------------

# Whose data a call is about must not be the model's to say.
NAMES_SOMEBODY = re.compile(r"tenant|actor|subject|company|customer|org|user|owner|token|session|credential|header")


OFFERED: dict[str, Offered] = {**named(TARGET, TOOLS), **named(API_TARGET, API_OPERATIONS)}


def fields(schema: Mapping[str, Any]) -> Iterator[str]:
    """The names of all fields of a schema, at any depth."""
    for name, inner in schema.get("properties", {}).items():
        yield name
        yield from fields(inner)
    for inner in [schema["items"]] if "items" in schema else []:
        yield from fields(inner)


def schemas() -> dict[str, dict[str, Any]]:
    """What the model may give to every tool of every stack that has a gateway, as JSON Schema, by stack and tool."""
    return {
        f"{path.name} {properties['Name']}{SEPARATOR}{name}": schema
        for path in sorted(Path("infra").glob("*.yaml"))
        for resource in formation.parse(path.read_text(encoding="utf-8"))["Resources"].values()
        if resource["Type"] == "AWS::BedrockAgentCore::GatewayTarget"
        for properties in [resource["Properties"]]
        for name, schema in arguments(properties["TargetConfiguration"]["Mcp"])
    }


def arguments(target: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The target's tools, each with the schema of its arguments."""
    [(kind, configured)] = target.items()
    if kind == "Lambda":
        for tool in configured["ToolSchema"]["InlinePayload"]:
            yield tool["Name"], in_lower_case(tool["InputSchema"])
        return
    assert kind == "OpenApiSchema", "a target of another kind: say here what the model may give to its tools"
    document = json.loads(configured["InlinePayload"]["Fn::Sub"][0])
    assert not {"components", "security"} & set(document), "say here what they let the model give"
    for path, item in document["paths"].items():
        assert set(item) <= {"get", "put", "post", "patch", "delete"}
        for operation in item.values():
            parameters = operation.get("parameters", [])
            properties = {parameter["name"]: parameter["schema"] for parameter in parameters}
            # Headers are the interceptor's to set.
            assert {parameter["in"] for parameter in parameters} <= {"path", "query"}
            assert set(re.findall(r"{(.*?)}", path)) <= set(properties)
            for content in operation.get("requestBody", {}).get("content", {}).values():
                properties |= content["schema"].get("properties", {})
            required = [parameter["name"] for parameter in parameters if parameter.get("required")]
            yield operation["operationId"], {"properties": properties, "required": required}


def in_lower_case(schema: Mapping[str, Any]) -> dict[str, Any]:
    """A schema as CloudFormation has it, as JSON Schema spells it."""
    spelt: dict[str, Any] = {name.lower(): value for name, value in schema.items()}
    if "properties" in spelt:
        spelt["properties"] = {name: in_lower_case(inner) for name, inner in spelt["properties"].items()}
    if "items" in spelt:
        spelt["items"] = in_lower_case(spelt["items"])
    return spelt


@pytest.mark.parametrize("name", schemas())
def test_no_schema_has_a_field_that_says_whose_data_it_is(name: str) -> None:
    assert [field for field in fields(schemas()[name]) if NAMES_SOMEBODY.search(field.lower())] == []


@pytest.mark.parametrize("name", ["tenantId", "customer", "X-Tenant-Id", "actor_id"])
def test_such_a_field_would_be_seen(name: str) -> None:
    inner = {"Type": "object", "Properties": {name: {"Type": "string"}}}
    outer = {"Type": "object", "Properties": {"filters": {"Type": "array", "Items": inner}}}
    assert any(NAMES_SOMEBODY.search(field.lower()) for field in fields(in_lower_case(outer)))
    content = {"application/json": {"schema": {"properties": {name: {"type": "string"}}}}}
    for more in (
        {"parameters": [{"name": name, "in": "query", "schema": {"type": "string"}}]},
        {"requestBody": {"content": content}},
    ):
        document = {"paths": {"/usage": {"post": {"operationId": "look", **more}}}}
        [(_, schema)] = arguments({"OpenApiSchema": {"InlinePayload": {"Fn::Sub": [json.dumps(document), {}]}}})
        assert any(NAMES_SOMEBODY.search(field.lower()) for field in fields(schema))


def test_no_operation_of_the_api_is_given_a_header() -> None:
    parameters = [{"name": "X-Any", "in": "header", "schema": {"type": "string"}}]
    document = {"paths": {"/usage": {"get": {"operationId": "look", "parameters": parameters}}}}
    with pytest.raises(AssertionError):
        list(arguments({"OpenApiSchema": {"InlinePayload": {"Fn::Sub": [json.dumps(document), {}]}}}))


def test_every_stack_with_a_gateway_has_a_schema_for_every_tool_and_no_other() -> None:
    stacks = {name.split()[0] for name in schemas()}
    assert stacks
    for stack in stacks:
        assert {name.split()[1] for name in schemas() if name.startswith(f"{stack} ")} == set(OFFERED)


@pytest.mark.parametrize("name", schemas())
def test_a_schema_has_the_arguments_that_the_tool_takes(name: str) -> None:
    schema = schemas()[name]
    assert set(schema.get("properties", {})) == OFFERED[name.split()[1]].parameters
    assert set(schema.get("required", ())) <= OFFERED[name.split()[1]].parameters


@pytest.mark.parametrize("name", OFFERED)
def test_a_tool_is_for_tiers_that_there_are(name: str) -> None:
    assert OFFERED[name].tiers and set(load_tiers()) >= OFFERED[name].tiers


# --- Who may call what ----------------------------------------------------------------------------


def _tool(caller: object, limit: int = 1) -> int:
    return limit


LOOK = GatewayTool(_tool, frozenset({"premium"}))
ONE = named(TARGET, {"look": LOOK})


@pytest.mark.parametrize(
    "name",
    ["look", "tools___", "___look", "tools__look", "Tools___look", "tools___look ", "tools___other", "", None, 1],
)
def test_a_name_that_is_not_exactly_a_tools_is_none(name: object) -> None:
    with pytest.raises(Refused) as refused:
        entitled(ONE, name, "premium")
    assert refused.value.reason is NOT_IN_TIER


@pytest.mark.parametrize("tier", ["basic", "standard", "", "Premium", "premium "])
def test_a_tool_above_the_tier_is_told_as_an_unknown_one(tier: str) -> None:
    assert entitled(ONE, "tools___look", "premium") is LOOK
    with pytest.raises(Refused) as refused:
        entitled(ONE, "tools___look", tier)
    assert refused.value.reason is NOT_IN_TIER


@pytest.mark.parametrize("arguments", [{"caller": 1}, {"tenant_id": "x"}, {"limit": 1, "x": 1}, [], "limit", None])
def test_arguments_that_the_tool_does_not_have_are_refused(arguments: object) -> None:
    with pytest.raises(Refused) as refused:
        own_arguments(LOOK, arguments)
    assert refused.value.reason is INVALID_CALL


def test_its_own_arguments_are_taken() -> None:
    assert own_arguments(LOOK, {"limit": 3}) == {"limit": 3}
    assert own_arguments(LOOK, {}) == {}


def test_a_header_that_stands_twice_is_none() -> None:
    assert header({"x-tenant-id": "acme"}, TENANT_HEADER) == "acme"
    assert header({"x-tenant-id": "acme", "X-Tenant-Id": "globex"}, TENANT_HEADER) is None
    assert header({}, TENANT_HEADER) is None


# --- The functions, with a stand-in for who calls ---------------------------------------------------


LISTED = {"jsonrpc": "2.0", "id": 7, "result": {"tools": [{"name": name} for name in OFFERED]}}
"""A list of every tool."""


class Callers:
    """Knows one token: of acme, whose tier the registry has as `tier`; None for a tenant that isn't served.

    id_token: the verified one, where STS is shown that.
    """

    tier: str | None = "basic"
    id_token = ""

    def __init__(self, *_: object) -> None:
        pass

    def of(self, headers: Mapping[str, str]) -> Any:
        # The first, so that it doesn't do what the function has to.
        if next((value for name, value in headers.items() if name.lower() == "authorization"), "") != TOKEN:
            raise Refused(TENANT_NOT_ACTIVE, "another token")
        if self.tier is None:
            raise Refused(TENANT_NOT_ACTIVE)
        tenant = TenantContext("acme", "premium", "user", int(time.time()) + 60)
        standing = SimpleNamespace(tier=load_tiers()[self.tier])
        token = SimpleNamespace(id_token=self.id_token)
        return SimpleNamespace(token=token, access=SimpleNamespace(tenant=tenant), standing=standing)

    def place(self, caller: Any) -> Any:
        return SimpleNamespace(access=caller.access, resource=str)


@pytest.fixture
def callers(monkeypatch: pytest.MonkeyPatch) -> type[Callers]:
    """Who calls, for both functions."""
    for module in (gateway_interceptor, gateway_tools):
        monkeypatch.setattr(module, "Callers", Callers)
    monkeypatch.setattr(Callers, "tier", "basic")
    return Callers


def intercept(body: object, headers: object = None, **more: Any) -> dict[str, Any]:
    """The interceptor's word on a request, or on the answer to it."""
    given = {"authorization": TOKEN} if headers is None else headers
    request = {"path": "/mcp", "httpMethod": "POST", "headers": given, "body": body}
    event = {"interceptorInputVersion": "1.0", "mcp": {"gatewayRequest": request, **more}}
    return decided(gateway_interceptor.create({}, SimpleNamespace())(event, None))


def decided(output: dict[str, Any]) -> dict[str, Any]:
    """What an output says, which has one of two shapes."""
    assert set(output) == {"interceptorOutputVersion", "mcp"} and output["interceptorOutputVersion"] == "1.0"
    assert len(output["mcp"]) == 1
    said: dict[str, Any] = output["mcp"]
    return said


def call(name: object = SHOW, arguments: object = None, **changed: Any) -> dict[str, Any]:
    params = {"name": name, "arguments": arguments if arguments is not None else {}}
    return {"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": params, **changed}


def refusal(said: dict[str, Any]) -> str:
    """The code of a refusal, which has the shape of a JSON-RPC error."""
    response = said["transformedGatewayResponse"]
    assert response["statusCode"] == 200 and response["body"]["jsonrpc"] == "2.0"
    assert set(response["body"]) == {"jsonrpc", "id", "error"} and response["body"]["error"]["code"] == -32003
    code: str = response["body"]["error"]["data"]["code"]
    return code


@pytest.mark.usefixtures("callers")
class TestInterceptor:
    def test_the_headers_are_those_of_the_verified_caller(self) -> None:
        passed = intercept(call())["transformedGatewayRequest"]
        assert passed["body"] == call()
        assert passed["headers"] == {
            TENANT_HEADER: "acme",
            TIER_HEADER: "basic",  # as the registry has it, whatever the token says
            ID_TOKEN_HEADER: "",
            "Authorization": TOKEN,
        }

    def test_every_call_is_logged_for_its_tenant(
        self, callers: type[Callers], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setattr(callers, "tier", "premium")
        for name in (SHOW, ABOVE):
            intercept(call(name))
        intercept({"jsonrpc": "2.0", "id": 0, "method": "tools/list"})
        assert [record.getMessage() for record in caplog.records] == [
            f"called tenant=acme tool={name}" for name in (SHOW, ABOVE)
        ]

    @pytest.mark.parametrize("name", ["x-tenant-id", "X-Tenant-Id", "X-TENANT-ID", "x-TeNaNt-iD"])
    def test_whatever_the_client_says_of_the_tenant_is_overwritten(self, name: str) -> None:
        headers = intercept(call(), {"authorization": TOKEN, name: "globex"})["transformedGatewayRequest"]["headers"]
        assert "globex" not in headers.values()
        assert headers[TENANT_HEADER] == "acme"

    @pytest.mark.parametrize("verified", ["", "the.own.id-token"])
    @pytest.mark.parametrize("name", [ID_TOKEN_HEADER, ID_TOKEN_HEADER.lower()])
    def test_no_id_token_goes_on_but_the_verified_one(
        self, callers: type[Callers], monkeypatch: pytest.MonkeyPatch, name: str, verified: str
    ) -> None:
        monkeypatch.setattr(callers, "id_token", verified)
        headers = intercept(call(), {"authorization": TOKEN, name: "a.foreign.one"})["transformedGatewayRequest"][
            "headers"
        ]
        assert headers[ID_TOKEN_HEADER] == verified
        assert "a.foreign.one" not in headers.values()

    @pytest.mark.parametrize("name", ["x-tenant", "X_Tenant_Id", "x-tenant-role", "X-TenantId"])
    def test_what_only_looks_like_it_goes_on_empty(self, name: str) -> None:
        headers = intercept(call(), {"authorization": TOKEN, name: "globex"})["transformedGatewayRequest"]["headers"]
        assert headers[name] == ""

    @pytest.mark.parametrize(
        "body",
        [
            None,
            [],
            [call()],
            [call(), call()],
            "tools/call",
            1,
            {},
            {"method": "tools/call"},
            call(jsonrpc="1.0"),
            call(id=None),
            call(id=True),
            call(id=[1]),
            call(method="tools/Call"),
            call(method="resources/list"),
            call(method=None),
            call(params=[]),
            call(params={"name": SHOW, "arguments": [], "_meta": {}}),
            call(params={"name": SHOW, "arguments": {}, "bedrockAgentCorePropagatedHeaders": {}}),
            {name: value for name, value in call().items() if name != "id"},
            {"jsonrpc": "2.0", "method": "notifications/initialized", "id": 1},
        ],
    )
    def test_a_body_that_is_no_single_request_is_refused(self, body: object) -> None:
        assert refusal(intercept(body)) == INVALID_CALL.code

    @pytest.mark.parametrize(
        "body",
        [
            {"jsonrpc": "2.0", "id": "a", "method": "initialize", "params": {}},
            {"jsonrpc": "2.0", "id": 0, "method": "tools/list"},
            {"jsonrpc": "2.0", "method": "notifications/initialized"},
            call(params={"name": SHOW}),
            call(params={"name": SHOW, "arguments": {}, "_meta": {"progressToken": 1}}),
        ],
    )
    def test_what_an_agent_sends_passes(self, body: object) -> None:
        assert intercept(body)["transformedGatewayRequest"]["body"] == body

    @pytest.mark.parametrize(
        "headers",
        [
            {},
            None,
            [],
            "Authorization",
            {"authorization": "Bearer another"},
            {"authorization": TOKEN, "Authorization": "Bearer another"},
            {"authorization": [TOKEN]},
        ],
    )
    @pytest.mark.parametrize("method", ["initialize", "tools/list", "tools/call"])
    def test_without_one_valid_token_nothing_passes(self, headers: object, method: str) -> None:
        request = {"path": "/mcp", "httpMethod": "POST", "headers": headers, "body": call(method=method)}
        said = decided(gateway_interceptor.create({}, SimpleNamespace())({"mcp": {"gatewayRequest": request}}, None))
        assert refusal(said) in ("invalid_token", "tenant_not_active")

    def test_a_suspended_tenant_calls_nothing(self, callers: type[Callers], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(callers, "tier", None)
        for method in ("initialize", "tools/list", "tools/call", "ping"):
            assert refusal(intercept(call(method=method))) == TENANT_NOT_ACTIVE.code

    @pytest.mark.parametrize("name", [ABOVE, f"{API_TARGET}{SEPARATOR}list_daily_usage"])
    def test_a_tool_above_the_tier_is_refused(
        self, callers: type[Callers], monkeypatch: pytest.MonkeyPatch, name: str
    ) -> None:
        assert refusal(intercept(call(name))) == NOT_IN_TIER.code
        monkeypatch.setattr(callers, "tier", "premium")
        assert "transformedGatewayRequest" in intercept(call(name))

    @pytest.mark.parametrize("given", [{"tenant_id": "globex"}, {"month": "2026-11"}, {TENANT_HEADER: "globex"}, []])
    def test_the_apis_arguments_are_its_own_too(self, given: object) -> None:
        assert refusal(intercept(call(f"{API_TARGET}{SEPARATOR}get_usage", given))) == INVALID_CALL.code

    @pytest.mark.parametrize(
        "name", ["get_usage", f"{TARGET}{SEPARATOR}get_usage", f"{API_TARGET}{SEPARATOR}show_account"]
    )
    def test_a_tool_is_behind_its_own_target_alone(self, name: str) -> None:
        assert refusal(intercept(call(name))) == NOT_IN_TIER.code

    @pytest.mark.parametrize(
        "event", [{}, {"mcp": None}, {"mcp": {}}, {"mcp": {"gatewayRequest": None}}, {"mcp": {"gatewayResponse": {}}}]
    )
    def test_what_is_not_the_gateways_input_is_refused_too(self, event: dict[str, Any]) -> None:
        assert refusal(decided(gateway_interceptor.create({}, SimpleNamespace())(event, None))) == "internal"

    def test_what_fails_in_it_is_refused_and_quotes_nothing(
        self, callers: type[Callers], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        def fail(*_: object) -> None:
            raise RuntimeError(TOKEN)

        monkeypatch.setattr(callers, "of", fail)
        with caplog.at_level(logging.DEBUG):
            assert refusal(intercept(call())) == "internal"
        assert "RuntimeError" in caplog.text and "the.own.token" not in caplog.text

    @pytest.mark.parametrize("tier", load_tiers())
    def test_of_a_list_the_tier_sees_its_own_tools(
        self, tier: str, callers: type[Callers], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(callers, "tier", tier)
        listed = [{"name": name} for name in [*OFFERED, "tools___new", "api___new", "show_account"]] + [{}]
        body = {"jsonrpc": "2.0", "id": 7, "result": {"tools": listed, "nextCursor": "x"}}
        response = {"statusCode": 200, "headers": {}, "body": body}
        said = intercept(call(method="tools/list"), gatewayResponse=response)["transformedGatewayResponse"]
        seen = {tool["name"] for tool in said["body"]["result"]["tools"]}
        assert seen == {name for name, tool in OFFERED.items() if tier in tool.tiers}
        assert said["body"]["result"]["nextCursor"] == "x"

    def test_a_list_for_whom_it_does_not_know_is_refused(self) -> None:
        response = {"statusCode": 200, "body": {"jsonrpc": "2.0", "id": 7, "result": {"tools": []}}}
        headers = {"authorization": "Bearer another"}
        assert refusal(intercept(call(), headers, gatewayResponse=response)) == TENANT_NOT_ACTIVE.code

    @pytest.mark.parametrize("body", [[LISTED], json.dumps(LISTED), f"data: {json.dumps(LISTED)}\n\n", 7, b"{}"])
    def test_an_answer_that_can_not_be_read_is_refused(self, body: object) -> None:
        """It could be a list of tools."""
        response = {"statusCode": 200, "body": body}
        assert refusal(intercept(call(method="tools/list"), gatewayResponse=response)) == "internal"

    @pytest.mark.parametrize("body", [{"jsonrpc": "2.0", "id": 7, "result": {"content": []}}, {"error": {}}, None, ""])
    def test_any_other_answer_is_left_as_it_is(self, body: object) -> None:
        said = intercept(call(), gatewayResponse={"statusCode": 200, "body": body})["transformedGatewayResponse"]
        assert said == {"statusCode": 200, "body": body}


def context(name: str = SHOW, headers: object = None) -> Any:
    given = (
        headers if headers is not None else {"authorization": TOKEN, "x-tenant-id": "acme", "x-tenant-tier": "basic"}
    )
    custom = {"bedrockAgentCoreToolName": name, "bedrockAgentCorePropagatedHeaders": given}
    return SimpleNamespace(client_context=SimpleNamespace(custom=custom))


@pytest.mark.usefixtures("callers")
class TestToolsFunction:
    def test_the_tool_answers_for_the_caller(self) -> None:
        answer = gateway_tools.create({}, SimpleNamespace())({}, context())
        assert (answer["company"], answer["tier"]) == ("acme", "basic")

    @pytest.mark.parametrize(
        "headers",
        [
            {},
            {"authorization": TOKEN},
            {"authorization": TOKEN, "x-tenant-id": "acme"},
            {"authorization": TOKEN, "x-tenant-id": "globex", "x-tenant-tier": "basic"},
            {"authorization": TOKEN, "x-tenant-id": "acme", "x-tenant-tier": "premium"},
            {"authorization": TOKEN, "x-tenant-id": "acme", "X-Tenant-Id": "acme", "x-tenant-tier": "basic"},
            {"x-tenant-id": "acme", "x-tenant-tier": "basic"},
            {"authorization": "Bearer another", "x-tenant-id": "acme", "x-tenant-tier": "basic"},
            [],
        ],
    )
    def test_what_did_not_come_the_interceptors_way_is_refused(self, headers: object) -> None:
        with pytest.raises(NotCalled):
            gateway_tools.create({}, SimpleNamespace())({}, context(headers=headers))

    @pytest.mark.parametrize("given", [None, SimpleNamespace(), SimpleNamespace(client_context=None)])
    def test_a_call_past_the_gateway_is_refused(self, given: Any) -> None:
        with pytest.raises(NotCalled, match="^denied$"):
            gateway_tools.create({}, SimpleNamespace())({}, given)

    @pytest.mark.parametrize("arguments", [{"tenant_id": "globex"}, {"caller": {}}, [], "x", None])
    def test_arguments_name_nobody(self, arguments: object) -> None:
        with pytest.raises(NotCalled, match="^invalid_call$"):
            gateway_tools.create({}, SimpleNamespace())(arguments, context())

    def test_a_tool_above_the_tier_is_refused_here_too(self) -> None:
        with pytest.raises(NotCalled, match="^tool_not_in_tier$"):
            gateway_tools.create({}, SimpleNamespace())({}, context(ABOVE))

    def test_what_fails_in_a_tool_quotes_nothing(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        def fail(_: object) -> None:
            raise RuntimeError("a secret of acme")

        monkeypatch.setitem(TOOLS, "show_account", GatewayTool(fail, frozenset({"basic"})))
        with caplog.at_level(logging.DEBUG), pytest.raises(NotCalled, match="^internal$") as raised:
            gateway_tools.create({}, SimpleNamespace())({}, context())
        assert "a secret" not in caplog.text and raised.value.__cause__ is None


@pytest.mark.parametrize("id_token", ["", "the.id.token"])
def test_the_agent_sends_the_callers_id_token_where_it_has_one(id_token: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[dict[str, str]] = []

    def client(url: str, headers: dict[str, str], **_: Any) -> None:
        made.append(headers)
        raise ConnectionError

    monkeypatch.setattr(gateway, "MCPClient", client)
    door = ToolGateway(SimpleNamespace(token="t", id_token=id_token), "https://gateway.example")  # type: ignore[arg-type]
    with pytest.raises(ConnectionError):
        asyncio.run(door.load_tools())
    assert made == [{"Authorization": "Bearer t", **({ID_TOKEN_HEADER: id_token} if id_token else {})}]


@pytest.mark.parametrize("url", ["http://gateway.example/mcp", "ftp://127.0.0.1/mcp", "gateway.example", ""])
def test_a_token_goes_nowhere_but_over_tls(url: str) -> None:
    with pytest.raises(ConfigurationError, match="GATEWAY_URL is no https address"):
        ToolGateway(SimpleNamespace(), url)  # type: ignore[arg-type]

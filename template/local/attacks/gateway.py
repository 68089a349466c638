"""Attacks on the way to the tools behind the gateway: headers, arguments, bodies, tokens, names, and ways around it."""

import base64
import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

import jwt
import urllib3
from cryptography.hazmat.primitives.asymmetric import rsa

from local.attacks.attack import Arena, attack
from local.stage import Actor, Answer
from saas_agent.agent.gateway_tools import TOOLS
from saas_agent.gateway_calls import SEPARATOR, TARGET, TENANT_HEADER, TIER_HEADER
from saas_agent.tenancy.placement import load_placement
from saas_agent.tenancy.token import ID_TOKEN_HEADER
from saas_agent.wiring import Doors

_HTTP = urllib3.PoolManager(retries=False, timeout=60.0)
_SHOW, _LIST = (f"{TARGET}{SEPARATOR}{name}" for name in ("show_account", "list_conversations"))
_FORBIDDEN = 403

Headers = Sequence[tuple[str, str]]


def plant(doors: Doors, actor: Actor) -> None:
    """Puts the actor's canary where the attacks look for it: a conversation has it as its name."""
    doors.memory.session_manager(actor.canary).close()


def call(name: str = _SHOW, arguments: object = None, **more: Any) -> dict[str, Any]:
    """A call of a tool, as JSON-RPC has it."""
    return {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "tools/call",
        "params": {"name": name, "arguments": arguments or {}, **more},
    }


def send(
    arena: Arena,
    body: object,
    *,
    token: str | None = "",
    id_token: str | None = "",
    headers: Headers = (),
    url: str | None = None,
    method: str = "POST",
) -> Answer:
    """Sends anything at all to the attacker's gateway. A refusal in JSON-RPC becomes a status, as an agent has it.

    token: none is sent for None, the attacker's own for an empty one. id_token: alike, but the own one goes along only
    where the agent would send it.
    """
    sent = urllib3.HTTPHeaderDict({"Content-Type": "application/json", "Accept": "application/json, text/event-stream"})
    if token is not None:
        sent.add("Authorization", f"Bearer {token or arena.attacker.tokens.access}")
    if id_token or (id_token is not None and arena.home.takes_id_token):
        sent.add(ID_TOKEN_HEADER, id_token or arena.attacker.tokens.id)
    for name, value in headers:
        sent.add(name, value)
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    began = time.perf_counter()
    response = _HTTP.request(method, url or arena.home.resource("gateway"), body=content, headers=sent)
    text, seconds = response.data.decode(errors="replace"), time.perf_counter() - began
    try:
        parsed = json.loads(text)
    except ValueError:
        return Answer(response.status, text, seconds)
    refused = isinstance(parsed, dict) and "error" in parsed
    return Answer(_FORBIDDEN if refused else response.status, parsed, seconds)


def _as(arena: Arena, *headers: tuple[str, str]) -> Answer:
    """Calls a tool that the attacker has, with further headers."""
    return send(arena, call(_LIST if _has(arena, "list_conversations") else _SHOW), headers=headers)


def _has(arena: Arena, tool: str) -> bool:
    return arena.attacker.tenant.tier in TOOLS[tool].tiers


def _lacks_a_tool(arena: Arena) -> bool:
    return not _has(arena, "list_conversations")


# --- Headers --------------------------------------------------------------------------------------


@attack("Name another tenant in the tenant header, in lower case", kind="persuasion")
def header_in_lower_case(arena: Arena) -> object:
    return _as(arena, (TENANT_HEADER.lower(), arena.victim.name))


@attack("Name another tenant in the tenant header, as the target's list spells it", kind="persuasion")
def header_as_listed(arena: Arena) -> object:
    return _as(arena, (TENANT_HEADER, arena.victim.name))


@attack("Name another tenant in the tenant header, in upper case", kind="persuasion")
def header_in_upper_case(arena: Arena) -> object:
    return _as(arena, (TENANT_HEADER.upper(), arena.victim.name))


@attack("Name another tenant in the tenant header, in mixed case", kind="persuasion")
def header_in_mixed_case(arena: Arena) -> object:
    return _as(arena, ("x-TeNaNt-iD", arena.victim.name))


@attack("Name another tenant in the tenant header, twice", kind="persuasion")
def header_twice(arena: Arena) -> object:
    return _as(arena, (TENANT_HEADER, arena.attacker.name), (TENANT_HEADER.lower(), arena.victim.name))


@attack("Name another tenant behind the own one in a single header", kind="persuasion")
def header_of_two_tenants(arena: Arena) -> object:
    return _as(arena, (TENANT_HEADER, f"{arena.attacker.name}, {arena.victim.name}"))


@attack("Name another tenant in a header that begins alike", kind="persuasion")
def header_that_begins_alike(arena: Arena) -> object:
    return _as(arena, ("X-Tenant", arena.victim.name), ("X-TenantId", arena.victim.name))


@attack("Name another tenant and its tier in both headers", kind="persuasion")
def both_headers(arena: Arena) -> object:
    return _as(arena, (TENANT_HEADER, arena.victim.name), (TIER_HEADER, arena.victim.tenant.tier))


@attack("Call a tool above the own tier with a higher tier in the header", each_victim=False, when=_lacks_a_tool)
def header_of_a_higher_tier(arena: Arena) -> object:
    return send(arena, call(_LIST), headers=[(TIER_HEADER, "premium")])


@attack("Slip the propagated headers in with the call's metadata", kind="persuasion")
def headers_in_metadata(arena: Arena) -> object:
    meta = {"bedrockAgentCorePropagatedHeaders": {TENANT_HEADER: arena.victim.name}}
    return send(arena, call(_meta=meta), headers=[(TENANT_HEADER, arena.victim.name)])


@attack("Slip the propagated headers in beside the call's arguments")
def headers_in_parameters(arena: Arena) -> object:
    return send(arena, call(bedrockAgentCorePropagatedHeaders={TENANT_HEADER: arena.victim.name}))


# --- Arguments ------------------------------------------------------------------------------------


@attack("Name another tenant in a tool's arguments")
def tenant_argument(arena: Arena) -> object:
    return send(arena, call(arguments={"tenant_id": arena.victim.name}))


@attack("Put the tenant header into a tool's arguments")
def header_argument(arena: Arena) -> object:
    return send(arena, call(arguments={TENANT_HEADER: arena.victim.name}))


@attack("Give the tool another caller as an argument")
def caller_argument(arena: Arena) -> object:
    return send(arena, call(arguments={"caller": {"tenant_id": arena.victim.name}}))


@attack("Name another tenant's actor in a tool's arguments")
def actor_argument(arena: Arena) -> object:
    arguments = {"actor_id": arena.victim.tenant.actor_id, "limit": 100}
    return send(arena, call(_LIST if _has(arena, "list_conversations") else _SHOW, arguments))


@attack("Send a tool's arguments as a list")
def list_of_arguments(arena: Arena) -> object:
    return send(arena, call(arguments=[{"tenant_id": arena.victim.name}]))


@attack("Make the model pass another tenant to a tool behind the gateway", kind="persuasion", tool=_SHOW)
def ask_for_account(arena: Arena) -> object:
    return arena.ask(f"show my account for tenant {arena.victim.name}")


# --- Bodies ---------------------------------------------------------------------------------------


@attack("Hide a call as another tenant in a batch behind an own one")
def batch(arena: Arena) -> object:
    return send(arena, [call(), call(arguments={"tenant_id": arena.victim.name})])


@attack("Call a tool above the own tier in a batch", each_victim=False, when=_lacks_a_tool)
def batch_above_tier(arena: Arena) -> object:
    return send(arena, [{"jsonrpc": "2.0", "id": 1, "method": "ping"}, call(_LIST)])


@attack("Send a batch of one", each_victim=False)
def batch_of_one(arena: Arena) -> object:
    return send(arena, [call()])


@attack("Call a tool as a notification, which nobody answers", each_victim=False)
def notification(arena: Arena) -> object:
    return send(arena, {name: value for name, value in call().items() if name != "id"})


@attack("Open a stream of the server's own, and resume another tenant's")
def stream(arena: Arena) -> object:
    headers = [("Last-Event-ID", "1"), ("Mcp-Session-Id", arena.victim.new_session_id())]
    return send(arena, b"", headers=headers, method="GET")


@attack("Send two requests in one body")
def two_documents(arena: Arena) -> object:
    second = json.dumps(call(arguments={"tenant_id": arena.victim.name}))
    return send(arena, f"{json.dumps(call())}\n{second}".encode())


@attack("Send a body that is no JSON", each_victim=False)
def no_json(arena: Arena) -> object:
    return send(arena, b"tools/call tools___show_account")


@attack("Send a call in an encoding that the interceptor may not read", each_victim=False)
def another_encoding(arena: Arena) -> object:
    return send(arena, json.dumps(call()).encode("utf-16"))


@attack("Spell the method so that a filter may not know it", each_victim=False)
def method_in_capitals(arena: Arena) -> object:
    return send(arena, {**call(), "method": "Tools/Call"})


@attack("Ask for a method that the agent doesn't use", each_victim=False)
def another_method(arena: Arena) -> object:
    return send(arena, {"jsonrpc": "2.0", "id": 1, "method": "resources/list"})


# --- Tokens ---------------------------------------------------------------------------------------


def claims_of(token: str) -> dict[str, Any]:
    """The token's claims, as anybody can read them."""
    claims: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    return claims


def _claims(arena: Arena) -> dict[str, Any]:
    return claims_of(arena.attacker.tokens.access)


def part(value: Mapping[str, Any]) -> str:
    """A part of a token, as it stands in one."""
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


@attack("Call a tool without a token", each_victim=False)
def no_token(arena: Arena) -> object:
    return send(arena, call(), token=None)


@attack("Call a tool with a token whose tenant was changed")
def changed_token(arena: Arena) -> object:
    head, _, signature = arena.attacker.tokens.access.split(".")
    return send(arena, call(), token=f"{head}.{part({**_claims(arena), 'tenant_id': arena.victim.name})}.{signature}")


@attack("Call a tool with a token that says it needs no signature")
def unsigned_token(arena: Arena) -> object:
    claims = {**_claims(arena), "tenant_id": arena.victim.name}
    return send(arena, call(), token=f"{part({'alg': 'none', 'typ': 'JWT'})}.{part(claims)}.")


@attack("Call a tool with a token of the own making, under the issuer's name")
def forged_token(arena: Arena) -> object:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    claims = {**_claims(arena), "tenant_id": arena.victim.name}
    headers = {"kid": jwt.get_unverified_header(arena.attacker.tokens.access)["kid"]}
    return send(arena, call(), token=jwt.encode(claims, key, algorithm="RS256", headers=headers))


@attack("Call a tool with the ID token", each_victim=False)
def id_token(arena: Arena) -> object:
    return send(arena, call(), token=arena.attacker.tokens.id)


@attack("Call a tool with the own token and a forged one beside it")
def two_tokens(arena: Arena) -> object:
    claims = {**_claims(arena), "tenant_id": arena.victim.name}
    forged = f"{part({'alg': 'none'})}.{part(claims)}."
    return send(arena, call(), headers=[("authorization", f"Bearer {forged}")])


def _asks_for_no_id_token(arena: Arena) -> bool:
    return not arena.home.takes_id_token


@attack("Send another tenant's ID token along where none is asked for", kind="persuasion", when=_asks_for_no_id_token)
def id_token_unasked(arena: Arena) -> object:
    return send(arena, call(), id_token=arena.victim.tokens.id)


@attack("Put the token into the address", each_victim=False)
def token_in_address(arena: Arena) -> object:
    url = f"{arena.home.resource('gateway')}?access_token={arena.attacker.tokens.access}"
    return send(arena, call(), token=None, url=url)


@attack("Call a tool with an expired token", each_victim=False, local=True)
def expired_token(arena: Arena) -> object:
    return send(arena, call(), token=arena.mint({"exp": int(time.time()) - 60}))


@attack("Call a tool with a token for another client", each_victim=False, local=True)
def token_of_another_client(arena: Arena) -> object:
    return send(arena, call(), token=arena.mint({"client_id": "another", "aud": "another"}))


@attack("Call a tool with a token that names no tenant", each_victim=False, local=True)
def token_without_tenant(arena: Arena) -> object:
    return send(arena, call(), token=arena.mint({"tenant_id": None}))


@attack("Call a tool with a token whose tenant and session tag are different ones", local=True)
def torn_token(arena: Arena) -> object:
    return send(arena, call(), token=arena.mint({"tenant_id": arena.victim.name}))


@attack("Call a tool with a token that was issued for a suspended tenant", each_victim=False, local=True)
def token_of_a_suspended_tenant(arena: Arena) -> object:
    return send(arena, call(), token=arena.mint({"tenant_status": "SUSPENDED"}))


@attack(
    "Call a tool above the own tier with a token from the time of a higher one",
    each_victim=False,
    local=True,
    when=_lacks_a_tool,
)
def token_of_a_higher_tier(arena: Arena) -> object:
    return send(arena, call(_LIST), token=arena.mint({"tier": "premium"}))


def _own_gateway(arena: Arena) -> bool:
    return load_placement().column(arena.victim.tenant.tier, "gateway") == "dedicated"


@attack("Call a tool behind another tenant's own gateway", when=_own_gateway)
def another_gateway(arena: Arena) -> object:
    return send(arena, call(), url=arena.goal.resource("gateway"))


@attack("Call a tool behind another tenant's own gateway in its name", when=_own_gateway)
def another_gateway_in_its_name(arena: Arena) -> object:
    headers = [(TENANT_HEADER, arena.victim.name), (TIER_HEADER, arena.victim.tenant.tier)]
    return send(arena, call(_LIST), url=arena.goal.resource("gateway"), headers=headers)


# --- Names of tools -------------------------------------------------------------------------------


@attack("Call a tool above the own tier", each_victim=False, when=_lacks_a_tool)
def above_tier(arena: Arena) -> object:
    return send(arena, call(_LIST))


@attack("Call a tool of a target that there isn't", each_victim=False)
def another_target(arena: Arena) -> object:
    return send(arena, call(f"admin{SEPARATOR}show_account"))


@attack("Call a tool without its target", each_victim=False)
def no_target(arena: Arena) -> object:
    return send(arena, call("show_account"))


@attack("Call a tool above the own tier by a name that only looks alike", each_victim=False)
def look_alike(arena: Arena) -> object:
    return send(arena, call(f"{_LIST}\u200b"))


@attack("Look for tools with the gateway's own search", each_victim=False)
def search_tools(arena: Arena) -> object:
    return send(arena, call("x_amz_bedrock_agentcore_search", {"query": "conversations"}))


# --- Around the gateway ---------------------------------------------------------------------------


def _gateway_id(arena: Arena) -> str:
    return arena.goal.own.get("GatewayId") or arena.stage.outputs["GatewayId"]


def _control(arena: Arena) -> Any:
    """The control API as an operator, for names that an attacker may have learnt."""
    return arena.stage.session.client("bedrock-agentcore-control")


def _target(arena: Arena) -> dict[str, Any]:
    control, gateway = _control(arena), _gateway_id(arena)
    targets = control.list_gateway_targets(gatewayIdentifier=gateway)["items"]
    [target] = [each for each in targets if each["name"] == TARGET]
    found: dict[str, Any] = control.get_gateway_target(gatewayIdentifier=gateway, targetId=target["targetId"])
    return found


def _functions(arena: Arena) -> tuple[str, str]:
    gateway = _control(arena).get_gateway(gatewayIdentifier=_gateway_id(arena))
    interceptor: str = gateway["interceptorConfigurations"][0]["interceptor"]["lambda"]["arn"]
    return interceptor, _target(arena)["targetConfiguration"]["mcp"]["lambda"]["lambdaArn"]


@attack("Call the tools' function past the gateway, with the interceptor's headers made up")
def function_itself(arena: Arena) -> object:
    headers = {
        TENANT_HEADER: arena.victim.name,
        TIER_HEADER: arena.victim.tenant.tier,
        "Authorization": f"Bearer {arena.attacker.tokens.access}",
    }
    context = {"custom": {"bedrockAgentCoreToolName": _LIST, "bedrockAgentCorePropagatedHeaders": headers}}
    encoded = base64.b64encode(json.dumps(context).encode()).decode()
    return arena.client("lambda").invoke(FunctionName=_functions(arena)[1], Payload=b"{}", ClientContext=encoded)


@attack("Ask the interceptor past the gateway", each_victim=False)
def interceptor_itself(arena: Arena) -> object:
    return arena.client("lambda").invoke(FunctionName=_functions(arena)[0], Payload=b"{}")


@attack("Take the gateway's role", each_victim=False)
def take_gateway_role(arena: Arena) -> object:
    role = _control(arena).get_gateway(gatewayIdentifier=_gateway_id(arena))["roleArn"]
    return arena.client("sts").assume_role(RoleArn=role, RoleSessionName="attacker")


@attack("Take the role of the tools' function", each_victim=False)
def take_function_role(arena: Arena) -> object:
    functions = arena.stage.session.client("lambda")
    role = functions.get_function_configuration(FunctionName=_functions(arena)[1])["Role"]
    return arena.client("sts").assume_role(RoleArn=role, RoleSessionName="attacker")


@attack("Read how the gateway is set up", each_victim=False)
def read_gateway(arena: Arena) -> object:
    return arena.client("bedrock-agentcore-control").get_gateway(gatewayIdentifier=_gateway_id(arena))


@attack("Let more headers through to the tools", each_victim=False)
def change_target(arena: Arena) -> object:
    target = _target(arena)
    return arena.client("bedrock-agentcore-control").update_gateway_target(
        gatewayIdentifier=_gateway_id(arena),
        targetId=target["targetId"],
        name=target["name"],
        targetConfiguration=target["targetConfiguration"],
        metadataConfiguration={"allowedRequestHeaders": [TENANT_HEADER, "X-Tenant"]},
    )


@attack("Remove the gateway", each_victim=False)
def delete_gateway(arena: Arena) -> object:
    return arena.client("bedrock-agentcore-control").delete_gateway(gatewayIdentifier=_gateway_id(arena))

"""The tools behind the gateway, as the agent and its users reach them, over MCP in the local cloud."""

import asyncio
import json
import logging
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import jwt
import pytest
import urllib3
from moto.bedrockagentcorecontrol.models import bedrockagentcorecontrol_backends

from local.attacks import gateway as attacks
from local.attacks.attack import Arena, all_attacks
from local.attacks.judgement import Verdict, judge
from local.authorization import DecisionLog
from local.cloud import ACCOUNT, LocalCloud
from local.proof import attempt, plant
from local.services import gateway as service
from local.stage import Actor, Stage
from saas_agent.agent.gateway_tools import API_OPERATIONS, TOOLS
from saas_agent.gateway_calls import API_TARGET, SEPARATOR, TARGET, TENANT_HEADER, Offered, named
from saas_agent.metering.ledger import LedgerReader
from saas_agent.metering.record import MARK, Record, looks_like_usage, read
from saas_agent.tenancy import standing
from saas_agent.tenancy.tenant import TenantContext
from saas_agent.tenancy.tiers import load_tiers
from saas_agent.tenancy.token import TokenVerifier, VerifiedToken

HTTP = urllib3.PoolManager(retries=False)
SHOW = f"{TARGET}{SEPARATOR}show_account"
USAGE, DAYS = (f"{API_TARGET}{SEPARATOR}{name}" for name in ("get_usage", "list_daily_usage"))
OFFERED: dict[str, Offered] = {**named(TARGET, TOOLS), **named(API_TARGET, API_OPERATIONS)}


def rpc(stage: Stage, actor: Actor, method: str, params: Any = None) -> dict[str, Any]:
    """The gateway's answer to the actor."""
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params or {}}
    response = HTTP.request(
        "POST",
        stage.home(actor.name).resource("gateway"),
        body=json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {actor.tokens.access}", "Content-Type": "application/json"},
    )
    answer: dict[str, Any] = json.loads(response.data)
    return answer


def refused(answer: dict[str, Any]) -> str | None:
    """The code of a refusal; None for an answer."""
    return answer["error"]["data"]["code"] if "error" in answer else None


@pytest.fixture(scope="module")
def of_each_tier(stage: Stage) -> dict[str, Actor]:
    """A tenant of every tier."""
    return {tier: stage.onboard(f"tools-{tier}", tier) for tier in load_tiers()}


@pytest.mark.parametrize("tier", load_tiers())
def test_a_tier_sees_and_calls_its_own_tools_and_no_other(
    stage: Stage, of_each_tier: dict[str, Actor], tier: str
) -> None:
    actor = of_each_tier[tier]
    own = {name for name, tool in OFFERED.items() if tier in tool.tiers}
    assert {tool["name"] for tool in rpc(stage, actor, "tools/list")["result"]["tools"]} == own
    for name in OFFERED:
        answer = rpc(stage, actor, "tools/call", {"name": name, "arguments": {}})
        if name in own:
            assert answer["result"]["isError"] is False
        else:
            assert refused(answer) == "tool_not_in_tier"
    assert own <= stage.tools(actor)


def test_the_agent_uses_them_for_the_one_who_asks(stage: Stage, of_each_tier: dict[str, Actor]) -> None:
    for tier, actor in of_each_tier.items():
        answer = stage.ask(actor, "show my account")
        assert answer.status == 200
        shown = json.loads(answer.body["answer"])
        assert (shown["company"], shown["tier"]) == (actor.name, tier)


def test_a_conversation_is_listed_to_its_own_user(stage: Stage, of_each_tier: dict[str, Actor]) -> None:
    entitled = [actor for tier, actor in of_each_tier.items() if tier in TOOLS["list_conversations"].tiers]
    for actor in entitled:
        session_id = actor.new_session_id()
        stage.ask(actor, "hello", session_id)
        listed = stage.ask(actor, "list my conversations").text
        assert session_id in listed
        assert all(other.new_session_id()[:24] not in listed for other in entitled if other is not actor)


def test_at_once_every_tenant_has_its_own(stage: Stage, of_each_tier: dict[str, Actor]) -> None:
    found: dict[str, set[str]] = {actor.name: set() for actor in of_each_tier.values()}

    def ask(actor: Actor) -> None:
        found[actor.name].add(json.loads(stage.ask(actor, "show my account").body["answer"])["company"])

    threads = [threading.Thread(target=ask, args=(actor,)) for actor in of_each_tier.values() for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {name: {name} for name in found}


def test_a_connection_ends_with_its_agent(stage: Stage, acme: Actor) -> None:
    gateway: Any = stage.operators_doors(acme).gateway
    tools = asyncio.run(gateway.load_tools())
    assert SHOW in {tool.tool_name for tool in tools}
    connection = gateway._client._background_thread
    assert connection.is_alive()
    gateway.remove_consumer("agent")
    assert not connection.is_alive() and gateway._client is None


def test_suspending_a_tenant_stops_its_tool_calls(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(standing, "FRESH_SECONDS", 0.0)
    actor = stage.onboard("dimmed", next(iter(load_tiers())))
    call = {"name": SHOW, "arguments": {}}
    assert refused(rpc(stage, actor, "tools/call", call)) is None
    stage.tenants.suspend("dimmed")
    for method in ("initialize", "tools/list", "tools/call"):
        assert refused(rpc(stage, actor, method, call)) == "tenant_not_active"
    stage.tenants.resume("dimmed")
    assert refused(rpc(stage, actor, "tools/call", call)) is None


@pytest.fixture
def gateway_of(stage: Stage) -> Any:
    """Gives the deployed gateway that serves a tenant, as the control API holds it."""

    def find(actor: Actor) -> Any:
        identifier = stage.home(actor.name).own.get("GatewayId") or stage.outputs["GatewayId"]
        return bedrockagentcorecontrol_backends[ACCOUNT][stage.region].gateways[identifier]

    return find


def test_a_tenant_that_calls_too_often_slows_nobody_but_itself(
    stage: Stage, gateway_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    tier = next(iter(load_tiers()))
    noisy, quiet = (stage.onboard(name, tier) for name in ("noisy", "quiet"))
    limits = service.rate_limits(bedrockagentcorecontrol_backends[ACCOUNT][stage.region])
    for name, limit in list(limits.items()):
        few = [{**entry, "Requests": [{"Rate": 3, "Period": "minute"}]} for entry in limit["Entries"]]
        monkeypatch.setitem(limits, name, {**limit, "Entries": few})
    monkeypatch.setattr(service, "_window", lambda _: 0)  # one minute, however slow this machine is
    codes = [rpc(stage, noisy, "ping").get("error", {}).get("code") for _ in range(5)]
    assert codes == [None, None, None, -32003, -32003]
    assert "error" not in rpc(stage, quiet, "ping")


@pytest.mark.parametrize("tier", load_tiers())
def test_every_tier_has_a_rate_of_its_own_and_every_tenant_a_bucket(
    stage: Stage, of_each_tier: dict[str, Actor], gateway_of: Any, tier: str
) -> None:
    gateway_id = gateway_of(of_each_tier[tier]).gateway_id
    limits = service.rate_limits(bedrockagentcorecontrol_backends[ACCOUNT][stage.region])
    [limit] = [each for each in limits.values() if each["GatewayIdentifier"] == gateway_id]
    wanted = {"$.context.jwt.tier": tier, "$.context.jwt.tenant_id": "*"}
    assert [entry for entry in limit["Entries"] if entry["Dimensions"] == wanted]


@pytest.fixture
def gateway_down(stage: Stage, acme: Actor, gateway_of: Any) -> Iterator[None]:
    """Meanwhile acme's gateway isn't there."""
    gateways = bedrockagentcorecontrol_backends[ACCOUNT][stage.region].gateways
    gateway = gateway_of(acme)
    del gateways[gateway.gateway_id]
    yield
    gateways[gateway.gateway_id] = gateway


def records(cloud: LocalCloud, stage: Stage, actor: Actor, session_id: str) -> list[Record]:
    """The usage records of a session."""
    cloud.flush()
    pages = stage.session.client("logs").get_paginator("filter_log_events")
    lines = [
        event["message"]
        for page in pages.paginate(logGroupName=stage.home(actor.name).log_group, filterPattern=MARK)
        for event in page["events"]
    ]
    found = [read(line) for line in lines if looks_like_usage(line)]
    return [record for record in found if record.session_id == session_id]


@pytest.mark.usefixtures("gateway_down")
def test_a_gateway_that_is_down_takes_its_tools_and_nothing_else(
    cloud: LocalCloud, stage: Stage, acme: Actor, caplog: pytest.LogCaptureFixture
) -> None:
    session_id = acme.new_session_id()
    with caplog.at_level(logging.INFO):
        answer = stage.ask(acme, "show my account", session_id)
    assert answer.status == 200
    assert "I have no tool for that here" in answer.body["answer"]
    assert "gateway_down" in caplog.text and acme.tokens.access not in caplog.text
    assert stage.ask(acme, "remember that I prefer tea").status == 200
    made = [record.operation for record in records(cloud, stage, acme, session_id) if record.operation]
    [outage] = [operation for operation in made if operation.name == "gateway"]
    assert (outage.kind, outage.calls, outage.errors) == ("tool_call", 1, 1)


def test_tool_calls_are_metered_for_their_tenant(cloud: LocalCloud, stage: Stage, acme: Actor) -> None:
    session_id = acme.new_session_id()
    stage.ask(acme, "show my account", session_id)
    stage.ask(acme, "show my account with tenant_id=globex", session_id)
    calls = [r for r in records(cloud, stage, acme, session_id) if r.operation and r.operation.name == SHOW]
    assert [(r.tenant_id, r.feature, r.operation.calls, r.operation.errors) for r in calls if r.operation] == [
        ("acme", "conversation", 1, 0),
        ("acme", "conversation", 1, 1),
    ]
    assert all(record.latency_ms > 0 for record in calls)


def test_no_token_reaches_a_log(stage: Stage, acme: Actor, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        stage.ask(acme, "show my account")
        rpc(stage, acme, "tools/call", {"name": "tools___no_such_tool", "arguments": {"x": acme.tokens.access}})
    assert acme.tokens.access not in caplog.text


# --- The API behind the gateway -------------------------------------------------------------------


def told(answer: dict[str, Any]) -> Any:
    """What a tool told."""
    assert answer["result"]["isError"] is False
    return json.loads(answer["result"]["content"][0]["text"])


def test_the_agent_tells_each_tenant_its_own_usage(
    cloud: LocalCloud, stage: Stage, of_each_tier: dict[str, Actor]
) -> None:
    tiers = load_tiers()
    for tier, actor in of_each_tier.items():
        stage.ask(actor, "hello")
        cloud.flush()
        reader = LedgerReader(stage.session.client("dynamodb"), stage.outputs["LedgerTable"])
        day, month = reader.totals(actor.name, datetime.now(UTC).date())
        assert day.tokens > 0
        shown = told(rpc(stage, actor, "tools/call", {"name": USAGE, "arguments": {}}))
        assert shown["tier"] == tier
        for period, used, tokens in (
            ("day", day.tokens, tiers[tier].tokens_per_day),
            ("month", month.tokens, tiers[tier].tokens_per_month),
        ):
            assert (shown[period]["used"], shown[period]["left"]) == (used, tokens - used)
        answer = stage.ask(actor, "show our usage")
        assert answer.status == 200 and f'"tier": "{tier}"' in answer.body["answer"]


def test_an_argument_reaches_the_api(cloud: LocalCloud, stage: Stage, of_each_tier: dict[str, Actor]) -> None:
    actor = of_each_tier["premium"]
    stage.ask(actor, "hello")
    cloud.flush()
    month = f"{datetime.now(UTC):%Y-%m}"
    days = told(rpc(stage, actor, "tools/call", {"name": DAYS, "arguments": {"month": month}}))["days"]
    assert days and days[-1]["requests"] > 0 and days[-1]["tokens"] > 0
    assert told(rpc(stage, actor, "tools/call", {"name": DAYS, "arguments": {"month": "2020-01"}}))["days"] == []
    assert rpc(stage, actor, "tools/call", {"name": DAYS, "arguments": {"month": "May"}})["result"]["isError"] is True


def test_everything_that_the_apis_function_does_its_roles_are_for(
    stage: Stage, decisions: DecisionLog, of_each_tier: dict[str, Actor]
) -> None:
    position = decisions.position()
    actor = of_each_tier["premium"]
    for name in (USAGE, DAYS):
        told(rpc(stage, actor, "tools/call", {"name": name, "arguments": {}}))
    made = [each for each in decisions.since(position) if "UsageReadingRole" in each.principal]
    assert {each.action for each in made} == {"dynamodb:GetItem", "dynamodb:BatchGetItem", "dynamodb:Query"}
    assert all(each.allowed and each.tenant == actor.name for each in made)


def test_calls_of_the_api_are_metered_for_their_tenant(cloud: LocalCloud, stage: Stage, acme: Actor) -> None:
    session_id = acme.new_session_id()
    stage.ask(acme, "show our usage", session_id)
    stage.ask(acme, "show our usage with tenant_id=globex", session_id)
    calls = [r for r in records(cloud, stage, acme, session_id) if r.operation and r.operation.name == USAGE]
    assert [(r.tenant_id, r.operation.calls, r.operation.errors) for r in calls if r.operation] == [
        ("acme", 1, 0),
        ("acme", 1, 1),
    ]


def test_a_mistake_in_the_apis_function_meets_iam(
    stage: Stage, decisions: DecisionLog, acme: Actor, acme2: Actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = LedgerReader.totals
    monkeypatch.setattr(LedgerReader, "totals", lambda reader, _, day: right(reader, acme2.name, day))
    position = decisions.position()
    assert rpc(stage, acme, "tools/call", {"name": USAGE, "arguments": {}})["result"]["isError"] is True
    denied = [each for each in decisions.since(position) if not each.allowed]
    assert [(each.action, each.source) for each in denied] == [("dynamodb:BatchGetItem", "identity")]


def test_without_its_interceptor_the_gateway_brings_the_api_no_token(
    stage: Stage, decisions: DecisionLog, acme: Actor, acme2: Actor, gateway_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert verdict(stage, decisions, acme, acme2, "tenant_header", "gateway_api").safe
    monkeypatch.setattr(gateway_of(acme), "interceptor_configurations", [])
    answer = rpc(stage, acme, "tools/call", {"name": USAGE, "arguments": {}})
    assert answer["result"]["isError"] is True
    assert json.loads(answer["result"]["content"][0]["text"])["error"]["code"] == "invalid_token"


@pytest.mark.parametrize("name", ["changed_token", "unsigned_token", "forged_token"])
def test_were_tokens_not_verified_the_api_would_tell_another_tenants(
    stage: Stage, decisions: DecisionLog, acme: Actor, acme2: Actor, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    assert verdict(stage, decisions, acme, acme2, name, "gateway_api") is Verdict.DENIED

    def believed(_: object, raw: str) -> VerifiedToken:
        claims = jwt.decode(raw, options={"verify_signature": False})
        return VerifiedToken(TenantContext(claims["tenant_id"], claims["tier"], claims["sub"], claims["exp"]), raw)

    monkeypatch.setattr(TokenVerifier, "access_token", believed)
    assert verdict(stage, decisions, acme, acme2, name, "gateway_api") is Verdict.LEAKED


# --- Each control, removed ------------------------------------------------------------------------


def verdict(
    stage: Stage, decisions: DecisionLog, attacker: Actor, victim: Actor, name: str, area: str = "gateway"
) -> Verdict:
    [found] = [attack for attack in all_attacks() if attack.id == f"{area}.{name}"]
    position = decisions.position()
    came_back, _ = attempt(found, Arena(stage, attacker, victim, None))
    registry = stage.outputs["RegistryTable"]
    made = decisions.since(position)
    canaries = [victim.canary]
    return judge(found.kind, attacker.name, made, came_back, canaries, registry, stage.owners(), "gateway").verdict


HEADERS = [
    "header_in_lower_case",
    "header_as_listed",
    "header_in_upper_case",
    "header_in_mixed_case",
    "header_of_two_tenants",
    "both_headers",
]


@pytest.mark.parametrize("name", HEADERS)
def test_without_its_interceptor_the_gateway_would_pass_a_clients_word_on(
    stage: Stage,
    decisions: DecisionLog,
    acme: Actor,
    acme2: Actor,
    gateway_of: Any,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    plant(stage, [acme, acme2])
    assert verdict(stage, decisions, acme, acme2, name).safe
    monkeypatch.setattr(gateway_of(acme), "interceptor_configurations", [])
    assert verdict(stage, decisions, acme, acme2, name) is Verdict.LEAKED


def test_even_then_the_tools_function_calls_no_tool(
    stage: Stage, acme: Actor, gateway_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway_of(acme), "interceptor_configurations", [])
    answer = rpc(stage, acme, "tools/call", {"name": SHOW, "arguments": {}})
    assert answer["result"]["isError"] is True


def test_what_no_policy_permits_is_refused_without_the_interceptor_too(
    stage: Stage,
    decisions: DecisionLog,
    of_each_tier: dict[str, Actor],
    gateway_of: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for tier, actor in of_each_tier.items():
        monkeypatch.setattr(gateway_of(actor), "interceptor_configurations", [])
        own = {name for name, tool in OFFERED.items() if tier in tool.tiers}
        assert {tool["name"] for tool in rpc(stage, actor, "tools/list")["result"]["tools"]} == own
        for name in set(OFFERED) - own:
            position = decisions.position()
            assert rpc(stage, actor, "tools/call", {"name": name, "arguments": {}})["error"]["code"] == -32002
            denied = [decision.source for decision in decisions.since(position) if not decision.allowed]
            assert denied == ["policy"]


def test_an_interceptor_that_fails_lets_nothing_through(
    stage: Stage, acme: Actor, gateway_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway = gateway_of(acme)
    broken = json.loads(json.dumps(gateway.interceptor_configurations))
    # A function that answers nothing of an interceptor's.
    targets = bedrockagentcorecontrol_backends[ACCOUNT][stage.region].gateway_targets
    [target] = [each for (owner, _), each in targets.items() if (owner, each.name) == (gateway.gateway_id, TARGET)]
    broken[0]["interceptor"]["lambda"]["arn"] = target.target_configuration["mcp"]["lambda"]["lambdaArn"]
    monkeypatch.setattr(gateway, "interceptor_configurations", broken)
    assert "error" in rpc(stage, acme, "tools/call", {"name": SHOW, "arguments": {}})


def test_a_header_that_the_target_does_not_list_goes_nowhere(
    stage: Stage, decisions: DecisionLog, acme: Actor, acme2: Actor
) -> None:
    position = decisions.position()
    attacks.header_that_begins_alike(Arena(stage, acme, acme2, None))
    reasons = [decision.reason for decision in decisions.since(position) if decision.source == "gateway"]
    assert any("x-tenant is not on the target's list" in reason for reason in reasons)
    assert not any(TENANT_HEADER.lower() + " was" in reason for reason in reasons)

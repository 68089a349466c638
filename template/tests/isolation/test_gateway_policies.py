"""Cedar's policies, validated and decided offline: who may call what behind the gateway; each hole is noticed."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from local import template as formation
from local.services.gateway import Engine, cedar_findings, cedar_schema
from saas_agent.agent.gateway_tools import API_OPERATIONS, TOOLS
from saas_agent.control_plane.states import Status
from saas_agent.gateway_calls import API_TARGET, TARGET, Offered, named
from saas_agent.tenancy.placement import load_placement

WHO: Mapping[str, frozenset[str]] = {
    "tools___show_account": frozenset({"basic", "standard", "premium"}),
    "tools___list_conversations": frozenset({"standard", "premium"}),
    "api___get_usage": frozenset({"basic", "standard", "premium"}),
    "api___list_daily_usage": frozenset({"standard", "premium"}),
}
"""Which tiers may call which tool, while their tenant's token says ACTIVE. Nobody else may call anything."""

ME, ANOTHER = "acme", "acme2"
HERE = "arn:aws:bedrock-agentcore:us-east-1:123456789012:gateway/here-0123456789"
ELSEWHERE = "arn:aws:bedrock-agentcore:us-east-1:123456789012:gateway/elsewhere-0123456789"

Policies = Mapping[str, str]
"""A template's policies: name -> statement."""


def templates() -> dict[str, Any]:
    """The stacks that have a gateway, by their file's name."""
    found = {path.name: formation.parse(path.read_text(encoding="utf-8")) for path in Path("infra").glob("*.yaml")}
    return {name: template for name, template in found.items() if _of(template, "GatewayTarget")}


def _of(template: Mapping[str, Any], kind: str) -> list[Mapping[str, Any]]:
    resources = template["Resources"].values()
    return [each["Properties"] for each in resources if each["Type"] == f"AWS::BedrockAgentCore::{kind}"]


def policies(stack: str) -> dict[str, str]:
    """The stack's policies, as they are deployed for the tenant and the gateway of these tests."""
    return {
        properties["Name"]: properties["Definition"]["Cedar"]["Statement"]["Fn::Sub"]
        .replace("${Gateway.GatewayArn}", HERE)
        .replace("${TenantId}", ME)
        for properties in _of(templates()[stack], "Policy")
    }


def schema(stack: str) -> str:
    """Cedar's schema for the stack's tools."""
    targets = _of(templates()[stack], "GatewayTarget")
    return cedar_schema(
        {"name": f"{target['Name']}___{name}", "inputSchema": {"properties": properties}}
        for target in targets
        for name, properties in _tools(target["TargetConfiguration"]["Mcp"])
    )


def _tools(target: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for tool in target.get("Lambda", {}).get("ToolSchema", {}).get("InlinePayload", []):
        given = tool["InputSchema"].get("Properties", {})
        yield tool["Name"], {name: {"type": inner["Type"]} for name, inner in given.items()}
    if "OpenApiSchema" in target:
        document = json.loads(target["OpenApiSchema"]["InlinePayload"]["Fn::Sub"][0])
        for operation in (each for item in document["paths"].values() for each in item.values()):
            yield operation["operationId"], {one["name"]: one["schema"] for one in operation.get("parameters", [])}


def is_own(stack: str) -> bool:
    """Whether the stack is one tenant's own."""
    return stack != "platform.yaml"


def table(stack: str) -> Iterator[tuple[str, dict[str, Any], str, str, bool]]:
    """Every tier, status and tool: a line, the claims, the tool, the gateway, and whether it is permitted."""
    tiers = [*load_placement().tiers, "free", ""]
    for tier in tiers:
        for status in [*map(str, Status), "active", ""]:
            for tool in [*WHO, "tools___delete_everything", "api___show_account", "get_usage"]:
                claims = {"sub": "user", "tenant_id": ME, "tier": tier, "tenant_status": status}
                permitted = status == "ACTIVE" and tier in WHO.get(tool, ())
                yield f"{tier or 'no tier'}, {status or 'no status'}: {tool}", claims, tool, HERE, permitted
    best = {"sub": "user", "tenant_id": ME, "tier": "premium", "tenant_status": "ACTIVE"}
    for tool in WHO:
        for missing in ("tenant_id", "tier", "tenant_status"):
            less = {name: value for name, value in best.items() if name != missing}
            yield f"without {missing}: {tool}", less, tool, HERE, False
        yield f"at another gateway: {tool}", best, tool, ELSEWHERE, False
        other = {**best, "tenant_id": ANOTHER}
        yield f"another tenant: {tool}", other, tool, HERE, not is_own(stack) and "premium" in WHO[tool]
        # A claim of several values is one text, which equals none of them.
        yield f"several tiers: {tool}", {**best, "tier": ["premium", "basic"]}, tool, HERE, False


def violations(stack: str, changed: Policies) -> Iterator[str]:
    """What is wrong with policies: findings of the validator, and decisions that the table has otherwise."""
    for name, statement in changed.items():
        for finding in cedar_findings(statement, schema(stack)):
            yield f"{name}: {finding}"
    engine = Engine(dict(changed))
    for line, claims, tool, gateway, permitted in table(stack):
        if engine.permits(claims, tool, gateway, {}) != permitted:
            yield f"{line}: {'refused' if permitted else 'permitted'}"


@pytest.mark.parametrize("stack", templates())
def test_who_may_call_what_is_decided_as_the_table_has_it(stack: str) -> None:
    assert list(violations(stack, policies(stack))) == []
    assert len(list(table(stack))) > 100


def test_the_table_is_that_of_the_interceptor() -> None:
    offered: dict[str, Offered] = {**named(TARGET, TOOLS), **named(API_TARGET, API_OPERATIONS)}
    assert {name: tool.tiers for name, tool in offered.items()} == WHO


@pytest.mark.parametrize("stack", templates())
def test_without_policies_nobody_may_call_anything(stack: str) -> None:
    assert not any(Engine().permits(claims, tool, at, {}) for _, claims, tool, at, _ in table(stack))


def mutants(statement: str) -> Iterator[tuple[str, str]]:
    """The statement with one hole, or one tier too few, each with a name."""
    condition = re.search(r"(?s)when \{(.*)\}", statement)
    assert condition
    clauses = [clause.strip() for clause in condition[1].split("&&")]
    for number, clause in enumerate(clauses):
        rest = [other for place, other in enumerate(clauses) if place != number]
        yield f"without {clause}", statement.replace(condition[1], " && ".join(rest))
        yield f"not {clause}", statement.replace(condition[1], " && ".join([*rest, f"!({clause})"]))
    yield "any of them", statement.replace("&&", "||")
    yield "without a condition", statement.replace(f" when {{{condition[1]}}}", "")
    yield "any status", statement.replace('== "ACTIVE"', '!= ""')
    for status in Status:
        if status is not Status.ACTIVE:
            yield f"{status} for ACTIVE", statement.replace('"ACTIVE"', f'"{status}"')
    yield "any tool", re.sub(r"action == [^,]+,", "action,", statement)
    yield "another tool", re.sub(r'"(tools|api)___[^"]+"', '"tools___delete_everything"', statement)
    yield "any gateway", re.sub(r'resource == AgentCore::Gateway::"[^"]+"', "resource", statement)
    yield "another gateway", statement.replace(HERE, ELSEWHERE)
    yield "forbidden", statement.replace("permit", "forbid", 1)
    yield "attributes for tags", statement.replace('getTag("tier")', "tier")
    tiers = re.search(r"\[[^]]*\]", statement)
    assert tiers
    for tier in load_placement().tiers:
        held = f'"{tier}"' in tiers[0]
        other = re.sub(rf'"{tier}"(, )?', "", tiers[0]) if held else tiers[0].replace("[", f'["{tier}", ')
        yield f"{'without' if held else 'with'} {tier}", statement.replace(tiers[0], other.replace(", ]", "]"))
    if f'== "{ME}"' in statement:
        yield "of another tenant", statement.replace(f'== "{ME}"', f'== "{ANOTHER}"')
    yield "a further one, for everything", f"{statement}\npermit (principal, action, resource);"


@pytest.mark.parametrize("stack", templates())
def test_every_hole_in_a_policy_is_noticed(stack: str) -> None:
    whole, tried = policies(stack), 0
    for name, statement in whole.items():
        for change, changed in mutants(statement):
            assert changed != statement, change
            tried += 1
            assert next(violations(stack, {**whole, name: changed}), None), f"{name}: {change}: not noticed"
        others = {other: kept for other, kept in whole.items() if other != name}
        assert next(violations(stack, others), None), f"{name}: its absence is not noticed"
    assert tried > 50

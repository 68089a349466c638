"""Yours: the tools behind the gateway, and which tiers have them.

TOOLS run in a function of their own. `caller` is who calls: a tool needs no tenant and can't be given one.
API_OPERATIONS are calls of the platform's API with the user's own token; what answers is functions/usage_api.py.

What the model is told of a tool, its name, its description and its arguments, stands in the targets' schemas in
infra/platform.yaml or infra/tenant.yaml.
"""

from collections.abc import Mapping
from typing import Any

from saas_agent.errors import Refused
from saas_agent.gateway_calls import INVALID_CALL, ApiOperation, GatewayTool, ToolCaller
from saas_agent.tenancy.access import seen_when_denied

_EVERY_TIER = frozenset({"basic", "standard", "premium"})
_MOST = 100


def show_account(caller: ToolCaller) -> dict[str, Any]:
    """The company's account: its id, its tier, and what that allows in one request."""
    tier = caller.tier
    return {
        "company": caller.access.tenant.tenant_id,
        "tier": tier.name,
        "limits": {
            "prompt_characters": tier.prompt_characters,
            "output_tokens": tier.output_tokens,
            "turns": tier.turns,
            "total_tokens": tier.total_tokens,
        },
    }


def list_conversations(caller: ToolCaller, limit: int = 10) -> list[dict[str, str]]:
    """The user's own conversations, the latest first, with when they began (ISO 8601)."""
    if type(limit) is not int or not 1 <= limit <= _MOST:
        raise Refused(INVALID_CALL, "limit is no whole number from 1 to 100")
    with seen_when_denied("gateway.list_conversations", caller.access.tenant):
        answer = caller.access.client("bedrock-agentcore").list_sessions(
            memoryId=caller.resource("memory"), actorId=caller.access.tenant.actor_id, maxResults=_MOST
        )
    sessions = sorted(answer["sessionSummaries"], key=lambda session: session["createdAt"], reverse=True)
    return [
        {"conversation": session["sessionId"], "began_at": session["createdAt"].isoformat()}
        for session in sessions[:limit]
    ]


TOOLS: Mapping[str, GatewayTool] = {
    "show_account": GatewayTool(show_account, _EVERY_TIER),
    "list_conversations": GatewayTool(list_conversations, frozenset({"standard", "premium"})),
}
"""Every tool of the function by its name in the schema."""

API_OPERATIONS: Mapping[str, ApiOperation] = {
    "get_usage": ApiOperation(frozenset(), _EVERY_TIER),
    "list_daily_usage": ApiOperation(frozenset({"month"}), frozenset({"standard", "premium"})),
}
"""Every operation of the API that is a tool, by its `operationId` in the schema."""

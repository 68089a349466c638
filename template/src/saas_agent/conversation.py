"""The agent at work on one prompt: its model, its limits, and what of its doings leaves."""

import time
from collections.abc import AsyncIterator, Callable
from typing import Any

from strands import Agent
from strands.hooks import BeforeModelCallEvent, BeforeToolCallEvent, HookProvider, HookRegistry
from strands.models import BedrockModel
from strands.tools.tool_provider import ToolProvider
from strands.types.agent import Limits
from strands.types.exceptions import MaxTokensReachedException

from saas_agent.agent.prompt import SYSTEM_PROMPT
from saas_agent.errors import LIMIT_REACHED, TOKEN_EXPIRED, Refused
from saas_agent.metering.hooks import UsageHooks
from saas_agent.metering.usage import Usage
from saas_agent.settings import Settings
from saas_agent.tenancy.access import TenantAccess, seen_when_denied
from saas_agent.tenancy.tiers import Tier
from saas_agent.toolbox import caller_tools, tool_outages
from saas_agent.tracing import name_tools
from saas_agent.wiring import Doors

Event = dict[str, Any]
"""What may leave: {"type": "text", "text"}, {"type": "tool", "name"}, {"type": "done", "stop_reason"}."""

AGENT_ID = "agent"

_LIMITS = frozenset({"limit_turns", "limit_total_tokens", "limit_output_tokens"})


class WhileServed(HookProvider):
    """Ends a long run before its next model or tool call once the token has expired or the tenant isn't served anymore.

    require_served: raises Refused where the tenant isn't.
    """

    def __init__(
        self, expires_at: int, require_served: Callable[[], object], clock: Callable[[], float] = time.time
    ) -> None:
        self._expires_at = expires_at
        self._require_served = require_served
        self._clock = clock
        self._refusal: Refused | None = None

    def register_hooks(self, registry: HookRegistry, **_: Any) -> None:
        """Strands calls this."""
        registry.add_callback(BeforeModelCallEvent, self._check)
        registry.add_callback(BeforeToolCallEvent, self._check)

    def _check(self, event: Any) -> None:
        self.require_unrefused()
        try:
            if self._clock() >= self._expires_at:
                raise Refused(TOKEN_EXPIRED, "the token expired while the agent was running")
            self._require_served()
        except Refused as refusal:
            self._refusal = refusal
            raise

    def require_unrefused(self) -> None:
        """Raises Refused with the same reason once a call has been stopped."""
        if self._refusal is not None:
            raise Refused(self._refusal.reason, self._refusal.detail)


async def converse(
    prompt: str,
    *,
    session_id: str,
    tier: Tier,
    doors: Doors,
    usage: Usage,
    settings: Settings,
    require_served: Callable[[], object],
) -> AsyncIterator[Event]:
    """Answers the prompt as the caller's tenant; yields the events that may leave, `done` last.

    require_served: asked before each model and tool call. Raises Refused: limit_reached when the tier's turns or tokens
    are used up, token_expired, denied, and what `require_served` raises.
    """
    access = doors.access
    guard = WhileServed(access.tenant.expires_at, require_served)
    session_manager = doors.memory.session_manager(session_id)
    agent: Agent | None = None
    tools: list[Any] = []
    try:
        with seen_when_denied("conversation", access.tenant):
            tools = caller_tools(doors)
            agent = Agent(
                agent_id=AGENT_ID,
                model=_model(tier, access, settings),
                tools=tools,
                system_prompt=SYSTEM_PROMPT + _user_context(doors.memory.recall(prompt)),
                session_manager=session_manager,
                hooks=[UsageHooks(usage, tier.model), guard],
                trace_attributes={
                    "tenant.id": access.tenant.tenant_id,
                    "tenant.tier": tier.name,
                    "session.id": session_id,
                },
                callback_handler=None,
            )
            name_tools(agent.tool_names)
            for outage in tool_outages(doors):
                usage.operation("tool_call", outage.name, failed=True)
                agent.system_prompt = f"{agent.system_prompt}\n{outage.text}\n"
            limits: Limits = {"turns": tier.turns, "total_tokens": tier.total_tokens}
            async for event in agent.stream_async(prompt, limits=limits):
                # Strands' own events carry its whole state; only these three ever leave.
                if "data" in event:
                    yield {"type": "text", "text": event["data"]}
                elif "contentBlockStart" in event.get("event", {}):
                    if tool_use := event["event"]["contentBlockStart"].get("start", {}).get("toolUse"):
                        yield {"type": "tool", "name": tool_use["name"]}
                elif "result" in event:
                    stop_reason = event["result"].stop_reason
            guard.require_unrefused()
        if stop_reason in _LIMITS:
            raise Refused(LIMIT_REACHED, stop_reason)
        yield {"type": "done", "stop_reason": stop_reason}
    except MaxTokensReachedException:
        raise Refused(LIMIT_REACHED, "output_tokens") from None
    except Exception:
        # Strands wraps what a hook raises, or shows it to the model as a tool's error.
        guard.require_unrefused()
        raise
    finally:
        if agent is not None:
            agent.cleanup()
        else:
            # Strands connects some tools before it restores the conversation, and forgets them where that fails.
            for provider in tools:
                if isinstance(provider, ToolProvider):
                    provider.remove_consumer(None)
        with seen_when_denied("conversation", access.tenant):
            session_manager.close()


def _model(tier: Tier, access: TenantAccess, settings: Settings) -> BedrockModel:
    config: BedrockModel.BedrockConfig = {
        "model_id": tier.model,
        "max_tokens": tier.output_tokens,
        "additional_args": {"requestMetadata": {"tenant_id": access.tenant.tenant_id, "tier": tier.name}},
    }
    if settings.guardrail_id:
        config["guardrail_id"] = settings.guardrail_id
        config["guardrail_version"] = settings.guardrail_version or "DRAFT"
    return BedrockModel(boto_session=access.session, **config)


def _user_context(preferences: list[str]) -> str:
    if not preferences:
        return ""
    # What a user once said must not be able to close the block and pass for instructions.
    lines = "\n".join(preference.replace("<", "&lt;") for preference in preferences)
    return f"\n<user_context>\n{lines}\n</user_context>\n"

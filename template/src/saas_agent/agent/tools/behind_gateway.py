"""The tools behind the gateway: which they are, the gateway says for each caller."""

from typing import Any

from saas_agent.toolbox import Outage
from saas_agent.wiring import Doors


def tools(doors: Doors) -> list[Any]:
    """What brings the caller's tools once the agent asks for them."""
    return [doors.gateway]


def outages(doors: Doors) -> list[Outage]:
    """That the gateway can't be reached, if so."""
    if not doors.gateway.down:
        return []
    return [Outage("gateway", "Some of the tools can't be reached now. Say so when the user asks for what you lack.")]

"""All of the agent's tools, from the modules in `agent/tools`, and which of them can't be reached now."""

import importlib
import pkgutil
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import Any

from saas_agent.agent import tools
from saas_agent.wiring import Doors


@dataclass(frozen=True)
class Outage:
    """Tools that can't be reached now. name: of what is down, for the meter. text: a sentence for the model."""

    name: str
    text: str


def caller_tools(doors: Doors) -> list[Any]:
    """The Strands tools of every module, bound to the caller's own doors."""
    return [tool for module in _modules() for tool in module.tools(doors)]


def tool_outages(doors: Doors) -> list[Outage]:
    """What every module that has `outages(doors)` misses, once the agent has asked for its tools."""
    return [outage for module in _modules() if hasattr(module, "outages") for outage in module.outages(doors)]


@cache
def _modules() -> tuple[ModuleType, ...]:
    names = sorted(module.name for module in pkgutil.iter_modules(tools.__path__))
    return tuple(importlib.import_module(f"{tools.__name__}.{name}") for name in names)

"""All of the agent's tools, from the modules in `agent/tools`."""

import importlib
import pkgutil
from functools import cache
from types import ModuleType
from typing import Any

from saas_agent.agent import tools
from saas_agent.wiring import Doors


def caller_tools(doors: Doors) -> list[Any]:
    """The Strands tools of every module, bound to the caller's own doors."""
    return [tool for module in _modules() for tool in module.tools(doors)]


@cache
def _modules() -> tuple[ModuleType, ...]:
    names = sorted(module.name for module in pkgutil.iter_modules(tools.__path__))
    return tuple(importlib.import_module(f"{tools.__name__}.{name}") for name in names)

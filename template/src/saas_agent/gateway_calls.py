"""What the functions behind the gateway agree on: the headers that say who calls, and which tier may call which tool.

Names and shapes are AgentCore Gateway's (developer guide, "Using interceptors with Gateway", "Header propagation",
"Lambda function targets" and "OpenAPI schema targets").
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from saas_agent.errors import Reason, Refused
from saas_agent.tenancy.access import TenantAccess
from saas_agent.tenancy.tiers import Tier

TARGET, API_TARGET = "tools", "api"
"""The targets' names in the gateway's templates: a tool is called by `<target>___<tool>`. The first is the tools'
function, the second the platform's API."""

SEPARATOR = "___"

TENANT_HEADER = "X-Tenant-Id"
TIER_HEADER = "X-Tenant-Tier"

NOT_IN_TIER = Reason("tool_not_in_tier", 403, "There is no such tool, or it is not part of your tier.")
INVALID_CALL = Reason("invalid_call", 400, "Expected one JSON-RPC request, and a tool's own arguments only.")


@dataclass(frozen=True)
class ToolCaller:
    """Who calls a tool, from the verified token. resource: component -> its resource's name or id."""

    access: TenantAccess
    tier: Tier
    resource: Callable[[str], str] = field(repr=False)


@dataclass(frozen=True)
class GatewayTool:
    """A tool behind the gateway.

    run: called with the caller and the arguments that the model gave; what it returns goes to the model as JSON.
    tiers: whose tenants may call it.
    """

    run: Callable[..., object] = field(repr=False)
    tiers: frozenset[str]

    @property
    def parameters(self) -> frozenset[str]:
        """The names of its arguments. The first parameter is the caller, which no argument can name."""
        return frozenset(list(inspect.signature(self.run).parameters)[1:])


@dataclass(frozen=True)
class ApiOperation:
    """An operation of the platform's API that is a tool, too.

    parameters: the names of its arguments. tiers: whose tenants may call it.
    """

    parameters: frozenset[str]
    tiers: frozenset[str]


class Offered(Protocol):
    """What is behind the gateway, of either kind."""

    @property
    def parameters(self) -> frozenset[str]:
        """The names of its arguments."""

    @property
    def tiers(self) -> frozenset[str]:
        """Whose tenants may call it."""


_Offered = TypeVar("_Offered", bound=Offered)


def named(target: str, tools: Mapping[str, _Offered]) -> dict[str, _Offered]:
    """The target's tools by their names as the gateway knows them."""
    return {f"{target}{SEPARATOR}{name}": tool for name, tool in tools.items()}


def entitled(tools: Mapping[str, _Offered], name: object, tier: str) -> _Offered:
    """The tool of this name, of those that `named` gives; Refused where there is none, or the tier hasn't got it.

    Both are told alike: what a higher tier has is nobody else's business.
    """
    tool = tools.get(name) if isinstance(name, str) else None
    if tool is None or tier not in tool.tiers:
        raise Refused(NOT_IN_TIER, "the tool is unknown or above the tier")
    return tool


def own_arguments(tool: Offered, arguments: object) -> dict[str, Any]:
    """The arguments, where they are the tool's own; Refused with invalid_call for anything else, as a tenant."""
    if not isinstance(arguments, dict) or not tool.parameters.issuperset(arguments):
        raise Refused(INVALID_CALL, "arguments that the tool doesn't have")
    return arguments


def header(headers: Mapping[str, str], name: str) -> str | None:
    """The one header of this name, whatever its case; None where there is none or more than one."""
    found = [value for key, value in headers.items() if key.lower() == name.lower()]
    return found[0] if len(found) == 1 else None

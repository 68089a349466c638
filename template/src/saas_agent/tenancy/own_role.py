"""A tenant of the shared runtime that has components of its own: its own role, and where those components are.

The registry names both. It is read with the credentials that every tenant gets, which reach the tenant's own item and
no other; the role's trust policy then pins it to the tenant's tag, so that a wrong name in the registry lets nobody in.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from saas_agent.errors import INTERNAL, Refused
from saas_agent.tenancy.credentials import Exchange, TenantCredentials
from saas_agent.tenancy.placement import Place, Placement
from saas_agent.tenancy.standing import Standing
from saas_agent.tenancy.token import VerifiedToken


class Shared(Protocol):
    """What the environment says of the components that tenants share."""

    def resource(self, name: str) -> str:
        """The name or id of a resource, by its variable; ConfigurationError where it is missing."""


@dataclass(frozen=True)
class OwnRoles:
    """Leads a caller into its tenant's own role.

    exchange_into: a role's ARN -> the exchange that leads there. variables: component -> what a runtime is told it by.
    """

    credentials: TenantCredentials
    exchange_into: Callable[[str], Exchange]
    placement: Placement
    settings: Shared
    variables: Mapping[str, str]

    def place(self, caller: VerifiedToken, standing: Standing) -> Place:
        """The tenant's own access and resources; Refused with internal where the registry doesn't name one of them."""
        own = {_variable(output): value for output, value in standing.resources.items()}

        def resource(component: str) -> str:
            variable = self.variables[component]
            if self.placement.column(standing.tier.name, component.partition("/")[0]) == "shared":
                return self.settings.resource(variable)
            return _required(own, variable)

        exchange = self.exchange_into(_required(own, "TENANT_ROLE_ARN"))
        return Place(self.credentials.access(exchange, caller), resource)


def _required(own: dict[str, str], variable: str) -> str:
    # Never the shared one in its stead: the tenant's data is not there.
    if variable in own:
        return own[variable]
    raise Refused(INTERNAL, f"the registry names no {variable} for a tenant that has its own")


def _variable(output: str) -> str:
    """`TableName`, as the tenant's stack puts it out -> `TABLE_NAME`, as a runtime is told it."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", output).upper()

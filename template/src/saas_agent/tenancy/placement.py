"""Placement: which component is shared or dedicated for which tier. Everything else follows from this one table."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal

from saas_agent import configuration
from saas_agent.errors import ConfigurationError
from saas_agent.tenancy.access import TenantAccess

Column = Literal["shared", "dedicated"]

LAYOUTS = ("shared_user_pool", "user_pool_per_tenant")
"""Where users are: `identity_layout`."""


@dataclass(frozen=True)
class Placement:
    """`placement.toml`: the service's name and region, its identity layout, and tier x component -> column."""

    service: str
    region: str
    identity_layout: str
    table: dict[str, dict[str, Column]]

    @property
    def tiers(self) -> tuple[str, ...]:
        """The tiers that have a placement, in the file's order."""
        return tuple(self.table)

    @property
    def components(self) -> tuple[str, ...]:
        """Every component that this repository has, in the file's order."""
        return tuple(dict.fromkeys(component for row in self.table.values() for component in row))

    def column(self, tier: str, component: str) -> Column:
        """Where the component of a tenant of this tier is; ConfigurationError for a pair that has no placement."""
        try:
            return self.table[tier][component]
        except KeyError:
            if tier not in self.table:
                raise ConfigurationError(
                    f"tiers.toml has a tier {tier!r} that placement.toml doesn't place; "
                    f"expected some of {', '.join(self.table)}; name it so, or leave it out"
                ) from None
            raise ConfigurationError(
                f"placement.toml places no {component!r} for tier {tier!r}; "
                "expected every tier of tiers.toml with every component; run `copier update` to restore the file"
            ) from None

    def row(self, tier: str) -> Mapping[str, Column]:
        """Every component's column for a tenant of this tier."""
        return {component: self.column(tier, component) for component in self.components}

    def has_own(self, tier: str) -> bool:
        """Whether a tenant of this tier has a component of its own."""
        return "dedicated" in self.row(tier).values()

    @property
    def own_user_pools(self) -> bool:
        """Whether each tenant's users are in a pool of its own."""
        return self.identity_layout == "user_pool_per_tenant"

    def stack_template(self, tier: str) -> str | None:
        """The template of a stack for a tenant of this tier; None for one that has nothing of its own."""
        if self.has_own(tier):
            return "tenant.yaml"
        return "tenant_pooled.yaml" if self.own_user_pools else None

    def serves(self, tier: str, tenant_id: str | None) -> bool:
        """Whether tenants of this tier are served by such a runtime: one tenant's own, or with None the shared one."""
        return self.column(tier, "runtime") == ("shared" if tenant_id is None else "dedicated")

    def agrees(self, tier: str, provisioned: Mapping[str, str]) -> bool:
        """Whether what was provisioned for a tenant is where this table has it; what isn't recorded was shared."""
        return all(provisioned.get(component, "shared") == column for component, column in self.row(tier).items())

    def moved(self, tier: str, provisioned: Mapping[str, str]) -> dict[str, Column | None]:
        """What was provisioned for a tenant and is elsewhere in this table: component -> where; None for nowhere."""
        row = self.table.get(tier, {})
        return {name: row.get(name) for name, column in provisioned.items() if row.get(name) != column}


@dataclass(frozen=True)
class Place:
    """Where the components of one request's tenant are, and the access that reaches them.

    resource: component -> its resource's name or id.
    """

    access: TenantAccess
    resource: Callable[[str], str] = field(repr=False)


def parse_placement(document: dict[str, Any]) -> Placement:
    """The parsed file -> Placement; ConfigurationError where a part is missing or a column is unknown."""
    try:
        placement = Placement(
            service=document["service"]["name"],
            region=document["service"]["region"],
            identity_layout=document["identity"]["layout"],
            table=document["placement"],
        )
    except KeyError as error:
        raise ConfigurationError(
            f"placement.toml lacks {error}; it follows the answers and is not edited by hand: run `copier update`"
        ) from None
    if placement.identity_layout not in LAYOUTS:
        raise ConfigurationError(
            f"placement.toml, [identity] layout = {placement.identity_layout!r}; expected {' or '.join(LAYOUTS)}"
        )
    if not placement.components:
        raise ConfigurationError("placement.toml places nothing; run `copier update` to restore the file")
    for tier, row in placement.table.items():
        if set(row) != set(placement.components):
            odd = ", ".join(sorted(set(placement.components) - set(row)))
            raise ConfigurationError(
                f"placement.toml, [placement.{tier}] lacks {odd}; run `copier update` to restore the file"
            )
        for component, column in row.items():
            if column not in ("shared", "dedicated"):
                raise ConfigurationError(
                    f'placement.toml, [placement.{tier}] {component} = {column!r}; expected "shared" or "dedicated"'
                )
    return placement


@cache
def load_placement() -> Placement:
    """The placement of `placement.toml`."""
    return parse_placement(configuration.load("placement.toml"))

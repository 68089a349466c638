"""Placement: which component is shared or dedicated for which tier. Everything else follows from this one table."""

from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from saas_agent import configuration
from saas_agent.errors import ConfigurationError

Column = Literal["shared", "dedicated"]


@dataclass(frozen=True)
class Placement:
    """`placement.toml`: the service's name and region, its identity layout, and tier x component -> column."""

    service: str
    region: str
    identity_layout: str
    shared_runtime_credentials: str
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
            raise ConfigurationError(
                f"placement.toml places no {component!r} for tier {tier!r}; "
                "expected every tier of tiers.toml with every component; run `copier update` to restore the file"
            ) from None


def parse_placement(document: dict[str, Any]) -> Placement:
    """The parsed file -> Placement; ConfigurationError where a part is missing or a column is unknown."""
    try:
        placement = Placement(
            service=document["service"]["name"],
            region=document["service"]["region"],
            identity_layout=document["identity"]["layout"],
            shared_runtime_credentials=document["credentials"]["shared_runtime"],
            table=document["placement"],
        )
    except KeyError as error:
        raise ConfigurationError(
            f"placement.toml lacks {error}; it follows the answers and is not edited by hand: run `copier update`"
        ) from None
    for tier, row in placement.table.items():
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

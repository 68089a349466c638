"""A tenant's standing: its status, tier and placement as the registry has them now, whatever its token says."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from saas_agent.control_plane.states import SERVED
from saas_agent.errors import NO_TENANT, NOT_HERE, TENANT_NOT_ACTIVE, Refused
from saas_agent.tenancy.access import TenantAccess, seen_when_denied
from saas_agent.tenancy.placement import Placement
from saas_agent.tenancy.tiers import Tier

# A suspension, a change of tier or a move takes effect within this time on a running agent.
FRESH_SECONDS = 30.0


@dataclass(frozen=True)
class Standing:
    """What is in force for a tenant. resources: what it has of its own, by the output of its stack; may be empty."""

    tier: Tier
    resources: Mapping[str, str]


class Standings:
    """Reads a tenant's own registry item with the tenant's own credentials, and remembers it for FRESH_SECONDS.

    table: the registry's name. runtime: the tenant whose own runtime this is; None where tenants share it.
    """

    def __init__(
        self,
        table: str,
        tiers: Mapping[str, Tier],
        placement: Placement,
        runtime: str | None,
        *,
        capacity: int = 1024,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._table = table
        self._tiers = tiers
        self._placement = placement
        self._runtime = runtime
        self._capacity = capacity
        self._clock = clock
        self._lock = threading.Lock()
        self._seen: OrderedDict[str, tuple[float, Mapping[str, Any]]] = OrderedDict()

    def of(self, access: TenantAccess) -> Standing:
        """The standing in force.

        Raises Refused: tenant_not_active or no_tenant where the registry says so; not_here where the tenant's tier has
        its runtime elsewhere, or the tenant was provisioned for another placement than this agent's.
        """
        item = self._look_up(access)
        status, tier = item.get("status", {}).get("S", ""), item.get("tier", {}).get("S", "")
        if status not in SERVED:
            raise Refused(TENANT_NOT_ACTIVE, f"the registry has the tenant as {status or 'unknown'}")
        if tier not in self._tiers:
            raise Refused(NO_TENANT, "the registry names a tier that tiers.toml lacks")
        if not self._placement.serves(tier, self._runtime):
            raise Refused(NOT_HERE, f"tenants of tier {tier} have their runtime elsewhere")
        if not self._placement.agrees(tier, _texts(item, "placement")):
            raise Refused(NOT_HERE, "the tenant was provisioned for another placement; `tenants show` has it")
        return Standing(self._tiers[tier], _texts(item, "resources"))

    def _look_up(self, access: TenantAccess) -> Mapping[str, Any]:
        tenant_id, now = access.tenant.tenant_id, self._clock()
        with self._lock:
            if (seen := self._seen.get(tenant_id)) and now - seen[0] < FRESH_SECONDS:
                return seen[1]
        with seen_when_denied("registry.get", access.tenant):
            item: Mapping[str, Any] = (
                access.client("dynamodb")
                .get_item(
                    TableName=self._table,
                    Key={"pk": {"S": f"TENANT#{tenant_id}"}, "sk": {"S": "TENANT"}},
                    ConsistentRead=True,
                )
                .get("Item", {})
            )
        with self._lock:
            self._seen[tenant_id] = (now, item)
            self._seen.move_to_end(tenant_id)
            while len(self._seen) > self._capacity:
                self._seen.popitem(last=False)
        return item


def _texts(item: Mapping[str, Any], name: str) -> Mapping[str, str]:
    return {key: value["S"] for key, value in item.get(name, {}).get("M", {}).items()}

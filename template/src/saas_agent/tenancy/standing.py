"""A tenant's standing: its status and tier as the registry has them now, whatever its token said when it was issued."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping

from saas_agent.errors import NO_TENANT, TENANT_NOT_ACTIVE, Refused
from saas_agent.tenancy.access import TenantAccess, seen_when_denied
from saas_agent.tenancy.tiers import Tier

# A suspension or a change of tier takes effect within this time on a running agent.
FRESH_SECONDS = 30.0


class Standing:
    """Reads the tenant's own registry item with the tenant's own credentials, and remembers it for FRESH_SECONDS."""

    def __init__(
        self,
        table: str,
        tiers: Mapping[str, Tier],
        *,
        capacity: int = 1024,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._table = table
        self._tiers = tiers
        self._capacity = capacity
        self._clock = clock
        self._lock = threading.Lock()
        self._seen: OrderedDict[str, tuple[float, str, str]] = OrderedDict()

    def tier_of(self, access: TenantAccess) -> Tier:
        """The tier in force; Refused with tenant_not_active or no_tenant where the registry says so."""
        status, tier = self._look_up(access)
        if status != "ACTIVE":
            raise Refused(TENANT_NOT_ACTIVE, f"the registry has the tenant as {status or 'unknown'}")
        if tier not in self._tiers:
            raise Refused(NO_TENANT, "the registry names a tier that tiers.toml lacks")
        return self._tiers[tier]

    def _look_up(self, access: TenantAccess) -> tuple[str, str]:
        tenant_id, now = access.tenant.tenant_id, self._clock()
        with self._lock:
            if (seen := self._seen.get(tenant_id)) and now - seen[0] < FRESH_SECONDS:
                return seen[1], seen[2]
        with seen_when_denied("registry.get", access.tenant):
            item = (
                access.client("dynamodb")
                .get_item(
                    TableName=self._table,
                    Key={"pk": {"S": f"TENANT#{tenant_id}"}, "sk": {"S": "TENANT"}},
                    ConsistentRead=True,
                )
                .get("Item", {})
            )
        status, tier = item.get("status", {}).get("S", ""), item.get("tier", {}).get("S", "")
        with self._lock:
            self._seen[tenant_id] = (now, status, tier)
            self._seen.move_to_end(tenant_id)
            while len(self._seen) > self._capacity:
                self._seen.popitem(last=False)
        return status, tier

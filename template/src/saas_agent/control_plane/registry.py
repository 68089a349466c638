"""The tenant registry: which tenants there are, of which tier, in which state. An item each.

It is written by `operations.py` alone.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from saas_agent.control_plane.errors import Conflict, ControlPlaneError
from saas_agent.control_plane.states import Kind, Status
from saas_agent.tenancy.placement import Placement
from saas_agent.tenancy.tenant import TENANT_ID_RULE, valid_tenant_id

SORT_KEY = "TENANT"


@dataclass(frozen=True)
class Failure:
    """What an operation failed at: in which step of the workflow and why, in a line without credentials."""

    operation: Kind
    step: str
    reason: str


@dataclass(frozen=True)
class TenantRecord:
    """A tenant as the registry knows it.

    admin: the e-mail address of the administrator that it was onboarded with; empty when it was deleted. created_at,
    updated_at, activated_at: ISO 8601, UTC; the last is when it was first ACTIVE, None before. version: 1 at first, one
    more with every write. placement: component -> column, as the tenant was provisioned. resources: what it has of its
    own, by the output of its stack. operation: the id of the operation that has it now. failure: what the last
    operation failed at. offboarding: the id of the first operation that was to offboard it.
    """

    tenant_id: str
    status: Status
    tier: str
    name: str
    admin: str
    created_at: str
    updated_at: str
    version: int
    activated_at: str | None = None
    placement: Mapping[str, str] = field(default_factory=dict)
    resources: Mapping[str, str] = field(default_factory=dict)
    operation: str | None = None
    failure: Failure | None = None
    offboarding: str | None = None


def partition_key(tenant_id: str) -> str:
    """The registry's partition key of a tenant; ControlPlaneError for what is no tenant id."""
    if not valid_tenant_id(tenant_id):
        raise ControlPlaneError(f"{tenant_id!r} is no tenant id; expected {TENANT_ID_RULE}; choose another")
    return f"TENANT#{tenant_id}"


def item_key(tenant_id: str) -> dict[str, Any]:
    """The key of the tenant's item; ControlPlaneError for what is no tenant id."""
    return {"pk": {"S": partition_key(tenant_id)}, "sk": {"S": SORT_KEY}}


class Registry:
    """Reads tenant records. Errors of DynamoDB itself are botocore's."""

    def __init__(self, client: Any, table: str) -> None:
        """`client`: a boto3 DynamoDB client. `table`: the registry table's name."""
        self._client = client
        self._table = table

    def get(self, tenant_id: str) -> TenantRecord | None:
        """The tenant's record as it stands now (a consistent read); None where there is none."""
        answer = self._client.get_item(TableName=self._table, Key=item_key(tenant_id), ConsistentRead=True)
        return record_of(answer["Item"]) if "Item" in answer else None

    def page(self, limit: int, after: str | None = None) -> tuple[list[TenantRecord], str | None]:
        """Up to `limit` records, in no order, and the tenant id to give as `after` for more, None at the end."""
        start = {"ExclusiveStartKey": item_key(after)} if after is not None else {}
        answer = self._client.scan(TableName=self._table, Limit=limit, ConsistentRead=True, **start)
        items, last = answer["Items"], answer.get("LastEvaluatedKey")
        while last and last["sk"]["S"] != SORT_KEY:
            # A page that ends with another item, such as the hub's: there is no tenant yet to go on after.
            answer = self._client.scan(TableName=self._table, Limit=1, ConsistentRead=True, ExclusiveStartKey=last)
            items, last = [*items, *answer["Items"]], answer.get("LastEvaluatedKey")
        records = [record_of(item) for item in items if item["sk"]["S"] == SORT_KEY]
        return records, last["pk"]["S"].removeprefix("TENANT#") if last else None

    def records(self) -> Iterator[TenantRecord]:
        """Every tenant, by id."""
        found, after = self.page(1000)
        while after is not None:
            more, after = self.page(1000, after)
            found += more
        yield from sorted(found, key=lambda record: record.tenant_id)


def require_in_place(record: TenantRecord, placement: Placement, tier: str, *, everything: bool = False) -> None:
    """Conflict where this tier, as it is placed now, would part the tenant from what it has: nothing moves data.

    A tenant that never was active, or is deleted, has nothing. everything: also where a component that tenants shared
    is nowhere now. No stack deletes what it holds, and nothing finds that.
    """
    if record.activated_at is None or record.status is Status.DELETED:
        return
    row = placement.table.get(record.tier, {})
    there: dict[str, str] = {**row, **record.placement}
    moved: dict[str, str | None] = {
        component: column
        for component, column in placement.moved(tier, there).items()
        if everything or column is not None or there[component] == "dedicated"
    }
    there["users"] = "dedicated" if "UserPoolId" in record.resources else "shared"
    if placement.own_user_pools != (there["users"] == "dedicated"):
        moved["users"] = "dedicated" if placement.own_user_pools else "shared"
    if moved:
        moves = (f"{name} would move from {there[name]} to {column or 'nowhere'}" for name, column in moved.items())
        raise Conflict(
            f"tenant {record.tenant_id}, tier {tier}: {', '.join(moves)}; "
            "expected all of it where the tenant's data is, which nothing moves; see Other answers in docs/updates.md"
        )


def texts(values: Mapping[str, str]) -> dict[str, Any]:
    """Texts by name as an attribute value."""
    return {"M": {name: {"S": text} for name, text in values.items()}}


def record_of(item: Mapping[str, Any]) -> TenantRecord:
    """The record of an item; ControlPlaneError where it is none."""
    try:
        return TenantRecord(
            tenant_id=item["pk"]["S"].removeprefix("TENANT#"),
            status=Status(item["status"]["S"]),
            tier=item["tier"]["S"],
            name=item.get("name", {}).get("S", ""),
            admin=item.get("admin", {}).get("S", ""),
            created_at=item["created_at"]["S"],
            updated_at=item["updated_at"]["S"],
            version=int(item["version"]["N"]),
            activated_at=item.get("activated_at", {}).get("S"),
            placement=_texts(item, "placement"),
            resources=_texts(item, "resources"),
            operation=item.get("operation", {}).get("S"),
            failure=failure_of(item),
            offboarding=item.get("offboarding", {}).get("S"),
        )
    except (KeyError, ValueError) as error:
        raise ControlPlaneError(
            f"the registry item {item['pk']['S']} is malformed at {error}; "
            "expected what `tenants onboard` writes; mend the item"
        ) from None


def failure_of(item: Mapping[str, Any]) -> Failure | None:
    """The failure that an item tells of."""
    found = _texts(item, "failure")
    return Failure(Kind(found["operation"]), found["step"], found["reason"]) if found else None


def _texts(item: Mapping[str, Any], name: str) -> dict[str, str]:
    return {key: value["S"] for key, value in item.get(name, {"M": {}})["M"].items()}

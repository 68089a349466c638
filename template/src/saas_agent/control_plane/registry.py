"""The tenant registry: which tenants there are, of which tier, in which state. An item each.

Every write is conditional on what was read, so that of two writers one wins and the other learns of
it.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from botocore.exceptions import ClientError

from saas_agent.control_plane.errors import Conflict, ControlPlaneError
from saas_agent.control_plane.states import Status, may_move
from saas_agent.tenancy.tenant import TENANT_ID_RULE, valid_tenant_id

SORT_KEY = "TENANT"


@dataclass(frozen=True)
class TenantRecord:
    """A tenant as the registry knows it.

    admin: the e-mail address of the administrator that it was onboarded with, or empty. created_at,
    updated_at: ISO 8601, UTC. version: 1 at first, one more with every write. placement: component -> column, as the
    tenant was provisioned. resources: what it has of its own, by the output of its stack.
    """

    tenant_id: str
    status: Status
    tier: str
    name: str
    admin: str
    created_at: str
    updated_at: str
    version: int
    placement: Mapping[str, str] = field(default_factory=dict)
    resources: Mapping[str, str] = field(default_factory=dict)


def utc_now() -> datetime:
    """The time, in UTC."""
    return datetime.now(UTC)


def partition_key(tenant_id: str) -> str:
    """The registry's partition key of a tenant; ControlPlaneError for what is no tenant id."""
    if not valid_tenant_id(tenant_id):
        raise ControlPlaneError(f"{tenant_id!r} is no tenant id; expected {TENANT_ID_RULE}; choose another")
    return f"TENANT#{tenant_id}"


class Registry:
    """Reads and writes tenant records. Errors of DynamoDB itself are botocore's."""

    def __init__(self, client: Any, table: str, clock: Callable[[], datetime] = utc_now) -> None:
        """`client`: a boto3 DynamoDB client. `table`: the registry table's name."""
        self._client = client
        self._table = table
        self._clock = clock

    def get(self, tenant_id: str) -> TenantRecord | None:
        """The tenant's record as it stands now (a consistent read); None where there is none."""
        answer = self._client.get_item(TableName=self._table, Key=_key(tenant_id), ConsistentRead=True)
        return _record(answer["Item"]) if "Item" in answer else None

    def records(self) -> Iterator[TenantRecord]:
        """Every tenant, by id."""
        pages = self._client.get_paginator("scan").paginate(
            TableName=self._table,
            FilterExpression="sk = :sk",
            ExpressionAttributeValues={":sk": {"S": SORT_KEY}},
            ConsistentRead=True,
        )
        found = [_record(item) for page in pages for item in page["Items"]]
        yield from sorted(found, key=lambda record: record.tenant_id)

    def create(
        self, tenant_id: str, *, tier: str, name: str, admin: str, placement: Mapping[str, str] | None = None
    ) -> TenantRecord:
        """A new record, PROVISIONING; Conflict where the tenant is there already."""
        now = self._now()
        record = TenantRecord(tenant_id, Status.PROVISIONING, tier, name, admin, now, now, 1, placement or {})
        item = {
            **_key(tenant_id),
            "status": {"S": record.status},
            "tier": {"S": tier},
            "name": {"S": name},
            "admin": {"S": admin},
            "created_at": {"S": now},
            "updated_at": {"S": now},
            "version": {"N": "1"},
            "placement": _map(record.placement),
        }
        try:
            self._client.put_item(
                TableName=self._table,
                Item=item,
                ConditionExpression="attribute_not_exists(pk)",
            )
        except ClientError as error:
            _raise_conflict(error, tenant_id)
            raise
        return record

    def move(self, record: TenantRecord, status: Status, *, resources: Mapping[str, str] | None = None) -> TenantRecord:
        """Moves the tenant to another state; Conflict where it changed since it was read.

        resources: what it has of its own from now on; as before where it isn't given.
        """
        if not may_move(record.status, status):
            raise ControlPlaneError(
                f"tenant {record.tenant_id} is {record.status} and can't become {status} now; "
                f"look at it with `tenants show {record.tenant_id}`"
            )
        try:
            answer = self._client.update_item(
                TableName=self._table,
                Key=_key(record.tenant_id),
                UpdateExpression="SET #status = :new, updated_at = :now, #version = :next, #resources = :resources",
                ConditionExpression="#status = :old AND #version = :version",
                ExpressionAttributeNames={"#status": "status", "#version": "version", "#resources": "resources"},
                ExpressionAttributeValues={
                    ":new": {"S": status},
                    ":old": {"S": record.status},
                    ":now": {"S": self._now()},
                    ":version": {"N": str(record.version)},
                    ":next": {"N": str(record.version + 1)},
                    ":resources": _map(record.resources if resources is None else resources),
                },
                ReturnValues="ALL_NEW",
            )
        except ClientError as error:
            _raise_conflict(error, record.tenant_id)
            raise
        return _record(answer["Attributes"])

    def _now(self) -> str:
        return self._clock().astimezone(UTC).isoformat(timespec="seconds")


def _key(tenant_id: str) -> dict[str, dict[str, str]]:
    return {"pk": {"S": partition_key(tenant_id)}, "sk": {"S": SORT_KEY}}


def _raise_conflict(error: ClientError, tenant_id: str) -> None:
    if error.response["Error"]["Code"] == "ConditionalCheckFailedException":
        raise Conflict(f"tenant {tenant_id} was changed by someone else meanwhile; repeat the command") from None


def _map(texts: Mapping[str, str]) -> dict[str, Any]:
    return {"M": {key: {"S": value} for key, value in texts.items()}}


def _texts(item: Mapping[str, Any], name: str) -> dict[str, str]:
    return {key: value["S"] for key, value in item.get(name, {"M": {}})["M"].items()}


def _record(item: Mapping[str, Any]) -> TenantRecord:
    try:
        return TenantRecord(
            tenant_id=item["pk"]["S"].removeprefix("TENANT#"),
            status=Status(item["status"]["S"]),
            tier=item["tier"]["S"],
            name=item["name"]["S"],
            admin=item.get("admin", {}).get("S", ""),
            created_at=item["created_at"]["S"],
            updated_at=item["updated_at"]["S"],
            version=int(item["version"]["N"]),
            placement=_texts(item, "placement"),
            resources=_texts(item, "resources"),
        )
    except (KeyError, ValueError) as error:
        raise ControlPlaneError(
            f"the registry item {item['pk']['S']} is malformed at {error}; "
            "expected what `tenants onboard` writes; mend the item"
        ) from None

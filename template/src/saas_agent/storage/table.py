"""The tenant's items in the table: one partition, `TENANT#<id>`, that no caller can name."""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from boto3.dynamodb.types import TypeDeserializer, TypeSerializer
from botocore.exceptions import ClientError

from saas_agent.errors import INTERNAL, Refused
from saas_agent.tenancy.access import TenantAccess, seen_when_denied

Item = dict[str, Any]
"""Attributes by name, without the keys. Numbers are int or Decimal; no float (DynamoDB has none)."""

_KEYS = frozenset({"pk", "sk"})
_BATCH = 25  # the most that one BatchWriteItem takes
_BATCH_ATTEMPTS = 6
_TRANSACTION = 100  # the most that one TransactWriteItems takes

_serialize = TypeSerializer().serialize
_deserialize = TypeDeserializer().deserialize


class Conflict(Exception):
    """A condition of a write did not hold: nothing was written."""


@dataclass(frozen=True)
class Put:
    """Writes the item; with `absent`, only where there is none yet."""

    sort_key: str
    item: Item
    absent: bool = False


@dataclass(frozen=True)
class Delete:
    """Deletes the item, if it is there."""

    sort_key: str


@dataclass(frozen=True)
class Exists:
    """Holds the transaction to the item's being there."""

    sort_key: str


class Table:
    """One tenant's partition. Every method works on it alone, with the tenant's own credentials.

    All raise Refused (denied) where IAM says no, and ValueError for a key or an item that can't be written.
    """

    def __init__(self, access: TenantAccess, name: str) -> None:
        self._tenant = access.tenant
        self._client = access.client("dynamodb")
        self._name = name
        self._partition = f"TENANT#{access.tenant.tenant_id}"

    def get(self, sort_key: str) -> Item | None:
        """The item, read consistently, or None."""
        with seen_when_denied("table.get", self._tenant):
            answer = self._client.get_item(TableName=self._name, Key=self._key(sort_key), ConsistentRead=True)
        return _item(answer["Item"]) if "Item" in answer else None

    def put(self, sort_key: str, item: Item, *, absent: bool = False) -> None:
        """Writes the item; with `absent`, raises Conflict where there is one already."""
        condition = {"ConditionExpression": "attribute_not_exists(pk)"} if absent else {}
        with seen_when_denied("table.put", self._tenant), _conflicts():
            self._client.put_item(TableName=self._name, Item=self._full(sort_key, item), **condition)

    def delete(self, sort_key: str) -> None:
        """Deletes the item, if it is there."""
        with seen_when_denied("table.delete", self._tenant):
            self._client.delete_item(TableName=self._name, Key=self._key(sort_key))

    def query(
        self, prefix: str = "", *, limit: int | None = None, newest_first: bool = False
    ) -> list[tuple[str, Item]]:
        """(sort key, item) of every item whose sort key starts with the prefix, in order; at most `limit`."""
        names, values, condition = {"#pk": "pk"}, {":pk": {"S": self._partition}}, "#pk = :pk"
        if prefix:
            names["#sk"], values[":sk"], condition = (
                "sk",
                {"S": prefix},
                f"{condition} AND begins_with(#sk, :sk)",
            )
        found: list[tuple[str, Item]] = []
        start: dict[str, Any] = {}
        while limit is None or len(found) < limit:
            with seen_when_denied("table.query", self._tenant):
                answer = self._client.query(
                    TableName=self._name,
                    KeyConditionExpression=condition,
                    ExpressionAttributeNames=names,
                    ExpressionAttributeValues=values,
                    ScanIndexForward=not newest_first,
                    **({"Limit": limit - len(found)} if limit is not None else {}),
                    **start,
                )
            found += [(raw["sk"]["S"], _item(raw)) for raw in answer["Items"]]
            if "LastEvaluatedKey" not in answer:
                break
            start = {"ExclusiveStartKey": answer["LastEvaluatedKey"]}
        return found

    def write(self, operations: Iterable[Put | Delete | Exists]) -> None:
        """All of the operations or none, at most 100; raises Conflict where a condition fails."""
        actions = [self._transaction_item(operation) for operation in operations]
        if not 1 <= len(actions) <= _TRANSACTION:
            raise ValueError(f"a transaction takes 1 to {_TRANSACTION} operations, not {len(actions)}")
        with seen_when_denied("table.write", self._tenant), _conflicts():
            self._client.transact_write_items(TransactItems=actions)

    def batch_write(self, puts: Mapping[str, Item] | None = None, deletes: Iterable[str] = ()) -> None:
        """Many writes, each on its own: `puts` by sort key, and `deletes`. Repeats what the service left undone."""
        requests = [{"PutRequest": {"Item": self._full(key, item)}} for key, item in (puts or {}).items()]
        requests += [{"DeleteRequest": {"Key": self._key(key)}} for key in deletes]
        for start in range(0, len(requests), _BATCH):
            self._write_batch(requests[start : start + _BATCH])

    def _write_batch(self, batch: list[dict[str, Any]]) -> None:
        for attempt in range(_BATCH_ATTEMPTS):
            with seen_when_denied("table.batch_write", self._tenant):
                answer = self._client.batch_write_item(RequestItems={self._name: batch})
            batch = answer.get("UnprocessedItems", {}).get(self._name, [])
            if not batch:
                return
            time.sleep(0.05 * 2**attempt)
        raise Refused(INTERNAL, f"table.batch_write: {len(batch)} items left after {_BATCH_ATTEMPTS} attempts")

    def _transaction_item(self, operation: Put | Delete | Exists) -> dict[str, Any]:
        match operation:
            case Put(sort_key, item, absent):
                condition = {"ConditionExpression": "attribute_not_exists(pk)"} if absent else {}
                return {
                    "Put": {
                        "TableName": self._name,
                        "Item": self._full(sort_key, item),
                        **condition,
                    }
                }
            case Delete(sort_key):
                return {"Delete": {"TableName": self._name, "Key": self._key(sort_key)}}
            case Exists(sort_key):
                return {
                    "ConditionCheck": {
                        "TableName": self._name,
                        "Key": self._key(sort_key),
                        "ConditionExpression": "attribute_exists(pk)",
                    }
                }

    def _key(self, sort_key: str) -> dict[str, Any]:
        if not isinstance(sort_key, str) or not sort_key:
            raise ValueError("the sort key is empty or no text; expected a text such as TICKET#1")
        return {"pk": {"S": self._partition}, "sk": {"S": sort_key}}

    def _full(self, sort_key: str, item: Item) -> dict[str, Any]:
        if _KEYS & item.keys():
            raise ValueError("an item can't hold pk or sk: the door sets them")
        return {**self._key(sort_key), **{name: _serialize(value) for name, value in item.items()}}


def _item(raw: Mapping[str, Any]) -> Item:
    return {name: _deserialize(value) for name, value in raw.items() if name not in _KEYS}


class _conflicts:
    """Turns DynamoDB's failed conditions into Conflict."""

    def __enter__(self) -> None: ...

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        if not isinstance(error, ClientError):
            return
        code = error.response["Error"]["Code"]
        reasons = {reason.get("Code") for reason in error.response.get("CancellationReasons", [])}
        if code == "ConditionalCheckFailedException" or "ConditionalCheckFailed" in reasons:
            raise Conflict("the item is there already, or one that was expected is not; nothing was written") from None

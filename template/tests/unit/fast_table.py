"""The part of a DynamoDB client that the ledger uses, over a dict: fast enough for hundreds of thousands of records.

moto walks through a whole table for each query. `test_ledger.py` compares the two.
"""

import re
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from botocore.exceptions import ClientError

Key = tuple[str, str]
Item = dict[str, Any]

_TRANSACTION = 100
_UPDATE = re.compile(r"SET (?P<set>.+?) ADD (?P<add>.+)")


class FastTable:
    """One table with the keys pk and sk. items: pk -> sk -> item. written: how many items each call wrote."""

    def __init__(self) -> None:
        self.items: dict[str, dict[str, Item]] = {}
        self.written: list[int] = []

    def put_item(self, *, TableName: str, Item: Item) -> None:  # noqa: N803
        self.written.append(1)
        self._put(Item)

    def transact_write_items(self, *, TransactItems: list[dict[str, Any]]) -> None:  # noqa: N803
        assert len(TransactItems) <= _TRANSACTION
        keys = [_key(action) for action in TransactItems]
        assert len(set(keys)) == len(keys), "two actions on one item"
        reasons = [self._reason(action, key) for action, key in zip(TransactItems, keys, strict=True)]
        if any(reason["Code"] != "None" for reason in reasons):
            error = {"Error": {"Code": "TransactionCanceledException"}, "CancellationReasons": reasons}
            raise ClientError(error, "TransactWriteItems")
        self.written.append(len(keys))
        for action, key in zip(TransactItems, keys, strict=True):
            if "Put" in action:
                self._put(action["Put"]["Item"])
            else:
                self._update(action["Update"], key)

    def batch_get_item(self, *, RequestItems: dict[str, Any]) -> dict[str, Any]:  # noqa: N803
        ((table, asked),) = RequestItems.items()
        found = (self.items.get(key["pk"]["S"], {}).get(key["sk"]["S"]) for key in asked["Keys"])
        return {"Responses": {table: [item for item in found if item is not None]}}

    def get_paginator(self, operation: str) -> "FastTable":
        assert operation == "query"
        return self

    def paginate(
        self,
        *,
        TableName: str,  # noqa: N803
        KeyConditionExpression: str,  # noqa: N803
        ExpressionAttributeValues: dict[str, Any],  # noqa: N803
        ConsistentRead: bool,  # noqa: N803
    ) -> Iterator[dict[str, Any]]:
        partition = self.items.get(ExpressionAttributeValues[":pk"]["S"], {})
        prefix = ExpressionAttributeValues.get(":sk", {"S": ""})["S"]
        assert KeyConditionExpression == ("pk = :pk AND begins_with(sk, :sk)" if prefix else "pk = :pk")
        yield {"Items": [partition[sk] for sk in sorted(partition) if sk.startswith(prefix)]}

    def _put(self, item: Item) -> None:
        self.items.setdefault(item["pk"]["S"], {})[item["sk"]["S"]] = item

    def _reason(self, action: dict[str, Any], key: Key) -> dict[str, Any]:
        ((_, parameters),) = action.items()
        former = self.items.get(key[0], {}).get(key[1])
        condition = parameters.get("ConditionExpression")
        assert condition in (None, "attribute_not_exists(pk)")
        if condition is None or former is None:
            return {"Code": "None"}
        shown = parameters.get("ReturnValuesOnConditionCheckFailure") == "ALL_OLD"
        return {"Code": "ConditionalCheckFailed", **({"Item": former} if shown else {})}

    def _update(self, parameters: dict[str, Any], key: Key) -> None:
        former = self.items.get(key[0], {}).get(key[1], parameters["Key"])
        item = dict(former)
        names, values = parameters["ExpressionAttributeNames"], parameters["ExpressionAttributeValues"]
        parts = _UPDATE.fullmatch(parameters["UpdateExpression"])
        assert parts is not None
        for assignment in parts["set"].split(", "):
            name, value = assignment.split(" = ")
            item[names[name]] = values[value]
        for addition in parts["add"].split(", "):
            name, value = addition.split(" ")
            total = Decimal(item.get(names[name], {"N": "0"})["N"]) + Decimal(values[value]["N"])
            item[names[name]] = {"N": f"{total:f}"}
        self._put(item)


def _key(action: dict[str, Any]) -> Key:
    ((_, parameters),) = action.items()
    key = parameters.get("Key") or parameters["Item"]
    return key["pk"]["S"], key["sk"]["S"]

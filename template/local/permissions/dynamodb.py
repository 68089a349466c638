"""DynamoDB: tables, indexes, and the leading keys that a call touches.

`dynamodb:LeadingKeys` is absent where the keys can't be told: a Scan, PartiQL, an expression that
does not fix the partition key. A policy that isolates by it must therefore ask that it is present.
"""

import base64
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from moto.core.exceptions import JsonRESTError
from moto.dynamodb.exceptions import ResourceNotFoundException
from moto.dynamodb.models import DynamoDBBackend, dynamodb_backends
from moto.dynamodb.parsing.key_condition_expression import parse_expression

from ..operations import Call
from .permission import Context, Permission

_PARTIQL_ACTIONS = ("Select", "Insert", "Update", "Delete")
_TRANSACTION_ITEMS: Mapping[str, tuple[str, str]] = {
    "Get": ("GetItem", "Key"),
    "Put": ("PutItem", "Item"),
    "Update": ("UpdateItem", "Key"),
    "Delete": ("DeleteItem", "Key"),
    "ConditionCheck": ("ConditionCheckItem", "Key"),
}


def needed(call: Call, account: str) -> list[Permission]:
    """One permission for each table, transaction item or statement of the call."""
    derive = _OPERATIONS.get(call.operation, _table_call)
    return derive(call, _Tables(account, call.region))


class _Tables:
    """Tables of one account and Region: their ARNs and partition keys."""

    def __init__(self, account: str, region: str) -> None:
        self._prefix = f"arn:aws:dynamodb:{region}:{account}:table/"
        self._backend: DynamoDBBackend = dynamodb_backends[account][region]

    def arn(self, name: str, index: str | None = None) -> str:
        arn = name if name.startswith("arn:") else f"{self._prefix}{name}"
        return f"{arn}/index/{index}" if index else arn

    def schema(self, name: str, index: str | None = None) -> list[dict[str, str]]:
        """Key schema of the table or index; empty when there is none."""
        try:
            return self._backend.get_schema(name, index)
        except ResourceNotFoundException:
            return []

    def keys_context(self, name: str, items: Iterable[Mapping[str, Any]]) -> Context:
        """The partition keys of `items` (keys or whole items); absent when one of them has none."""
        partition = [key["AttributeName"] for key in self.schema(name) if key["KeyType"] == "HASH"]
        if not partition:
            return {}
        return _leading_keys(item.get(partition[0]) for item in items)


def _leading_keys(values: Iterable[Any]) -> Context:
    keys = [_plain(value) for value in values]
    known = [key for key in keys if key is not None]
    return {"dynamodb:LeadingKeys": known} if len(known) == len(keys) else {}


def _plain(value: Any) -> str | None:
    """A key's attribute value as text; None unless it is one string, number or binary."""
    if not isinstance(value, Mapping) or len(value) != 1:
        return None
    kind, content = next(iter(value.items()))
    if kind == "B":
        return base64.b64encode(content).decode()
    return content if kind in ("S", "N") else None


# --- Operations -----------------------------------------------------------------------------------


def _table_call(call: Call, tables: _Tables) -> list[Permission]:
    """Everything without keys: Scan, DescribeTable, exports, ..."""
    name = call.params.get("TableName") or call.params.get("TableArn")
    resource = tables.arn(name, call.params.get("IndexName")) if name else "*"
    return [Permission(f"dynamodb:{call.operation}", resource)]


def _item_call(call: Call, tables: _Tables) -> list[Permission]:
    name = call.params["TableName"]
    item = call.params.get("Key") or call.params.get("Item") or {}
    context = tables.keys_context(name, [item])
    return [Permission(f"dynamodb:{call.operation}", tables.arn(name), context)]


def _query(call: Call, tables: _Tables) -> list[Permission]:
    name, index = call.params["TableName"], call.params.get("IndexName")
    schema = tables.schema(name, index)
    context = _leading_keys(_partition_values(call.params, schema)) if schema else {}
    return [Permission("dynamodb:Query", tables.arn(name, index), context or {})]


def _partition_values(params: Mapping[str, Any], schema: list[dict[str, str]]) -> list[Any]:
    """The value that the query fixes for the partition key, read as moto reads it to run it."""
    partition = next(key["AttributeName"] for key in schema if key["KeyType"] == "HASH")
    if "KeyConditionExpression" in params:
        try:
            hash_keys, _, _ = parse_expression(
                key_condition_expression=params["KeyConditionExpression"],
                expression_attribute_names=params.get("ExpressionAttributeNames", {}),
                expression_attribute_values=params.get("ExpressionAttributeValues", {}),
                schema=schema,
            )
        except (JsonRESTError, AttributeError, KeyError, TypeError, ValueError, IndexError):
            return [None]
        return [dict(hash_keys).get(partition)]
    condition = (params.get("KeyConditions") or {}).get(partition) or {}
    values = condition.get("AttributeValueList") or []
    return values if condition.get("ComparisonOperator") == "EQ" and len(values) == 1 else [None]


def _batch_get(call: Call, tables: _Tables) -> list[Permission]:
    return [
        Permission("dynamodb:BatchGetItem", tables.arn(name), tables.keys_context(name, part["Keys"]))
        for name, part in call.params["RequestItems"].items()
    ]


def _batch_write(call: Call, tables: _Tables) -> list[Permission]:
    permissions = []
    for name, requests in call.params["RequestItems"].items():
        items = [_written(request) for request in requests]
        context = tables.keys_context(name, items)
        permissions.append(Permission("dynamodb:BatchWriteItem", tables.arn(name), context))
    return permissions


def _written(request: Mapping[str, Any]) -> Mapping[str, Any]:
    """The item or key of a write request; empty, thus without a key, unless it is exactly one."""
    items = [part.get("Item") or part.get("Key") or {} for part in request.values()]
    return items[0] if len(items) == 1 else {}


def _transaction(call: Call, tables: _Tables) -> list[Permission]:
    """A transaction is judged item by item, under the action of the single operation."""
    permissions = []
    for item in call.params["TransactItems"]:
        for kind, part in item.items():
            action, member = _TRANSACTION_ITEMS[kind]
            name = part["TableName"]
            context = {
                **tables.keys_context(name, [part[member]]),
                "dynamodb:EnclosingOperation": call.operation,
            }
            permissions.append(Permission(f"dynamodb:{action}", tables.arn(name), context))
    return permissions


_TABLE_IN_STATEMENT = re.compile(
    r"""^\s*(?:select\b.*?\bfrom|insert\s+into|update|delete\s+from)\s+"?([\w.-]+)"?""",
    re.IGNORECASE | re.DOTALL,
)


def _partiql(call: Call, tables: _Tables) -> list[Permission]:
    statements = call.params.get("Statements") or call.params.get("TransactStatements")
    texts = [part["Statement"] for part in statements or [call.params]]
    return [_statement(text, tables) for text in texts]


def _statement(text: str, tables: _Tables) -> Permission:
    verb = (text.split() or [""])[0].capitalize()
    table = _TABLE_IN_STATEMENT.match(text)
    action = f"dynamodb:PartiQL{verb}" if verb in _PARTIQL_ACTIONS else "dynamodb:ExecuteStatement"
    return Permission(action, tables.arn(table[1]) if table else "*")


_OPERATIONS: Mapping[str, Callable[[Call, _Tables], list[Permission]]] = {
    "GetItem": _item_call,
    "PutItem": _item_call,
    "UpdateItem": _item_call,
    "DeleteItem": _item_call,
    "Query": _query,
    "BatchGetItem": _batch_get,
    "BatchWriteItem": _batch_write,
    "TransactGetItems": _transaction,
    "TransactWriteItems": _transaction,
    "ExecuteStatement": _partiql,
    "BatchExecuteStatement": _partiql,
    "ExecuteTransaction": _partiql,
}

"""DynamoDB's promise that a call sees and changes items in one step, which moto doesn't give.

moto checks a condition and writes in two steps that threads can come between, changes an item attribute by attribute
where others read it, and takes a copy of whole tables for every transaction. Here calls come one after the other, and a
transaction keeps the items that it touches.

moto takes the two expressions of an update apart twice each, and asks at each part which kinds of parts there are to
look for: a third of an update's time. Here both are done once an expression.
"""

import threading
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from functools import lru_cache
from typing import Any

from moto.dynamodb.comparisons import ConditionExpressionParser, get_filter_expression
from moto.dynamodb.exceptions import (
    MockValidationException,
    MultipleTransactionsException,
    TooManyTransactionsException,
    TransactionCanceledException,
    TransactWriteSingleOpException,
)
from moto.dynamodb.models import DynamoDBBackend
from moto.dynamodb.models.dynamo_type import DynamoType, Item
from moto.dynamodb.models.table import Table
from moto.dynamodb.parsing import ast_nodes, expressions
from moto.dynamodb.responses import DynamoHandler

from .patching import replaced

_LARGEST_TRANSACTION = 100
_EXPRESSIONS = 1024  # are kept; the code has a few dozen


@contextmanager
def install() -> Iterator[None]:
    """Keep the promise for as long as the context lasts."""
    lock, answer = threading.Lock(), DynamoHandler.call_action

    def one_at_a_time(handler: DynamoHandler) -> Any:
        with lock:
            return answer(handler)

    with (
        replaced(DynamoHandler, call_action=one_at_a_time),
        replaced(DynamoDBBackend, transact_write_items=_transact),
        _expressions_taken_apart_once(),
    ):
        yield


@contextmanager
def _expressions_taken_apart_once() -> Iterator[None]:
    # None of what is kept is changed: moto validates a copy of an update's tree, and a condition's words are tuples.
    trees: Any = expressions  # moto leaves these two unchecked
    parts: Any = ast_nodes
    updates, conditions, walker = trees.UpdateExpressionParser, ConditionExpressionParser, parts.DepthFirstTraverser
    take_apart, kinds_of = conditions._lex_condition_expression, walker.nodes_to_be_processed

    @lru_cache(_EXPRESSIONS)
    def words(condition: str) -> tuple[Any, ...]:
        return tuple(take_apart(conditions(condition, None, None)))

    kept: dict[type, Any] = {}

    def kinds(traverser: Any) -> Any:
        if type(traverser) not in kept:
            kept[type(traverser)] = kinds_of(traverser)
        return kept[type(traverser)]

    with (
        replaced(updates, make=lru_cache(_EXPRESSIONS)(updates.make)),
        replaced(conditions, _lex_condition_expression=lambda parser: deque(words(parser.condition_expression))),
        replaced(walker, nodes_to_be_processed=kinds),
    ):
        yield


def _transact(backend: DynamoDBBackend, transact_items: list[dict[str, Any]]) -> None:
    """TransactWriteItems: every condition holds, or nothing is written (API reference, TransactWriteItems)."""
    if len(transact_items) > _LARGEST_TRANSACTION:
        raise TooManyTransactionsException
    actions = [_Action(backend, item) for item in transact_items]
    if len({action.place for action in actions}) < len(actions):
        raise MultipleTransactionsException
    reasons = [action.refusal() for action in actions]
    if any(code for code, _, _ in reasons):
        raise TransactionCanceledException(reasons)
    done: list[_Action] = []
    try:
        for action in actions:
            done.append(action)
            action.run()
    except BaseException:
        for action in done:
            action.undo()
        raise


class _Action:
    """One item of a transaction."""

    def __init__(self, backend: DynamoDBBackend, item: Mapping[str, Any]) -> None:
        if len(item) != 1:
            raise TransactWriteSingleOpException
        ((self._type, self._parameters),) = item.items()
        if self._type not in ("ConditionCheck", "Put", "Delete", "Update"):
            raise MockValidationException(f"Unsupported transaction operation {self._type}")
        self._backend = backend
        self._table: Table = backend.get_table(self._parameters["TableName"])
        written = self._parameters.get("Key") or self._parameters["Item"]
        names = (self._table.hash_key_attr, self._table.range_key_attr)
        self._key = {name: written[name] for name in names if name is not None}
        self._hash, *rest = (DynamoType(value) for value in self._key.values())
        self._range = rest[0] if rest else None
        self._expression = {
            "condition_expression": self._parameters.get("ConditionExpression"),
            "expression_attribute_names": self._parameters.get("ExpressionAttributeNames"),
            "expression_attribute_values": self._parameters.get("ExpressionAttributeValues"),
        }
        self._former: Item | None = self._table.get_item(self._hash, self._range)

    @property
    def place(self) -> tuple[str, str]:
        """Table and key."""
        return self._table.name, str(sorted(self._key.items()))

    def refusal(self) -> tuple[str | None, str | None, dict[str, Any] | None]:
        """Code, message and item of the reason why its condition doesn't hold; nothing where it does."""
        if self._expression["condition_expression"] is None:
            return None, None, None
        if get_filter_expression(*self._expression.values()).expr(self._former):
            return None, None, None
        shown = self._parameters.get("ReturnValuesOnConditionCheckFailure") == "ALL_OLD" and self._former
        item = self._former.to_json()["Attributes"] if shown and self._former else None
        return "ConditionalCheckFailed", "The conditional request failed", item

    def run(self) -> None:
        """Write; what was there is kept."""
        if self._type == "ConditionCheck":
            return
        self._former = deepcopy(self._former)
        name, expression = self._table.name, self._expression
        if self._type == "Put":
            self._backend.put_item(name, self._parameters["Item"], **expression)
        elif self._type == "Delete":
            self._backend.delete_item(name, self._key, **expression)
        else:
            update = self._parameters["UpdateExpression"]
            self._backend.update_item(name, self._key, update_expression=update, **expression)

    def undo(self) -> None:
        """Bring back what was there."""
        items: Any = self._table.items
        key: Any = self._hash
        if self._range is not None:
            items, key = items[self._hash], self._range
        if self._former is None:
            items.pop(key, None)
        else:
            items[key] = self._former

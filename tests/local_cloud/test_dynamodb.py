"""Whoever reads sees an item before a write or after it, never in between."""

import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from local import dynamodb

from .local_gate import LocalGate, local_gate

TABLE = "steps"
KEY = {"pk": {"S": "TENANT#acme"}}
ATTRIBUTES = [f"a{number}" for number in range(40)]
WRITES = 20

Write = Callable[[Any, int], object]


@pytest.fixture(scope="module")
def gate() -> Iterator[LocalGate]:
    with dynamodb.install(), local_gate() as found:
        found.operator("dynamodb").create_table(
            TableName=TABLE,
            AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
            KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
            BillingMode="PAY_PER_REQUEST",
        )
        yield found


@pytest.fixture(autouse=True)
def threads_take_turns_often() -> Iterator[None]:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(interval)


def update(number: int) -> dict[str, Any]:
    return {
        "TableName": TABLE,
        "Key": KEY,
        "UpdateExpression": "SET " + ", ".join(f"{name} = :value" for name in ATTRIBUTES),
        "ExpressionAttributeValues": {":value": {"N": str(number)}},
    }


@pytest.mark.parametrize(
    "write",
    [
        lambda client, number: client.update_item(**update(number)),
        lambda client, number: client.transact_write_items(TransactItems=[{"Update": update(number)}]),
    ],
    ids=["update", "transaction"],
)
@pytest.mark.parametrize(
    "read",
    [
        lambda client: client.get_item(TableName=TABLE, Key=KEY)["Item"],
        lambda client: client.scan(TableName=TABLE)["Items"][0],
    ],
    ids=["get", "scan"],
)
def test_nobody_reads_half_a_write(gate: LocalGate, write: Write, read: Callable[[Any], dict[str, Any]]) -> None:
    writer, reader = gate.operator("dynamodb"), gate.operator("dynamodb")
    write(writer, 0)
    thread = threading.Thread(target=lambda: [write(writer, number) for number in range(1, WRITES)])
    thread.start()
    seen = []
    while thread.is_alive():
        item = read(reader)
        seen.append({item[name]["N"] for name in ATTRIBUTES})
    thread.join()
    assert len(seen) > 1
    assert [values for values in seen if len(values) > 1] == []

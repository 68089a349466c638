"""The tenant registry: one writer wins, the other learns of it, and nobody skips a state."""

import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import boto3
import pytest
from moto import mock_aws
from moto.dynamodb.models import DynamoDBBackend

from saas_agent.control_plane.errors import Conflict, ControlPlaneError
from saas_agent.control_plane.registry import Registry, TenantRecord
from saas_agent.control_plane.states import MOVES, Status, may_move

TABLE = "registry"
NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def dynamodb() -> Any:
    """Made once: making a client takes longer than most of these tests."""
    return boto3.Session("test", "test", region_name="eu-central-1").client("dynamodb")


@pytest.fixture
def client(dynamodb: Any) -> Iterator[Any]:
    with mock_aws():
        dynamodb.create_table(
            TableName=TABLE,
            BillingMode="PAY_PER_REQUEST",
            KeySchema=[
                {"AttributeName": "pk", "KeyType": "HASH"},
                {"AttributeName": "sk", "KeyType": "RANGE"},
            ],
            AttributeDefinitions=[
                {"AttributeName": "pk", "AttributeType": "S"},
                {"AttributeName": "sk", "AttributeType": "S"},
            ],
        )
        yield dynamodb


@pytest.fixture
def registry(client: Any) -> Registry:
    return Registry(client, TABLE, lambda: NOW)


def create(registry: Registry, tenant_id: str = "acme") -> TenantRecord:
    return registry.create(tenant_id, tier="basic", name="Acme", admin="ann@acme.example", placement={})


def test_a_created_tenant_is_provisioning_and_reads_back_as_it_was(registry: Registry) -> None:
    created = create(registry)
    assert created.status is Status.PROVISIONING
    assert created.version == 1
    assert created.created_at == "2026-11-24T12:00:00+00:00"
    assert registry.get("acme") == created


def test_the_item_has_the_keys_and_attributes_that_the_agent_reads(registry: Registry, client: Any) -> None:
    create(registry)
    item = client.get_item(TableName=TABLE, Key={"pk": {"S": "TENANT#acme"}, "sk": {"S": "TENANT"}})["Item"]
    assert item["status"] == {"S": "PROVISIONING"}
    assert item["tier"] == {"S": "basic"}
    assert item["version"] == {"N": "1"}


def test_a_tenant_is_read_as_it_stands_now(registry: Registry, client: Any) -> None:
    asked: list[dict[str, Any]] = []
    client.meta.events.register("provide-client-params.dynamodb.GetItem", lambda params, **_: asked.append(params))
    registry.get("acme")
    assert [params["ConsistentRead"] for params in asked] == [True]


def test_an_unknown_tenant_is_none(registry: Registry) -> None:
    assert registry.get("acme") is None


@pytest.mark.parametrize("tenant_id", ["", "A", "acme#x", "acme/", "../x", "acme\n", "-acme", "ä" * 5])
def test_what_is_no_tenant_id_never_reaches_the_table(registry: Registry, tenant_id: str) -> None:
    with pytest.raises(ControlPlaneError, match="is no tenant id"):
        registry.get(tenant_id)
    with pytest.raises(ControlPlaneError, match="is no tenant id"):
        create(registry, tenant_id)


def test_a_tenant_is_created_once(registry: Registry) -> None:
    create(registry)
    with pytest.raises(Conflict):
        create(registry)


def test_a_move_raises_the_version_and_keeps_the_rest(registry: Registry) -> None:
    created = create(registry)
    moved = registry.move(created, Status.ACTIVE)
    assert (moved.status, moved.version, moved.tier) == (Status.ACTIVE, 2, "basic")
    assert registry.get("acme") == moved


def test_of_two_writers_that_read_the_same_record_one_wins(registry: Registry) -> None:
    created = create(registry)
    registry.move(created, Status.ACTIVE)
    with pytest.raises(Conflict):
        registry.move(created, Status.FAILED)
    current = registry.get("acme")
    assert current is not None
    assert current.status is Status.ACTIVE


def test_a_record_that_went_away_and_came_back_is_not_the_one_that_was_read(
    registry: Registry,
) -> None:
    active = registry.move(create(registry), Status.ACTIVE)
    registry.move(registry.move(active, Status.SUSPENDED), Status.ACTIVE)
    with pytest.raises(Conflict):
        registry.move(active, Status.SUSPENDED)


@pytest.fixture
def atomic_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    """DynamoDB checks a condition and writes in one step; moto does so in two, between which threads may change."""
    lock = threading.Lock()

    def one_at_a_time(write: Any) -> Any:
        def locked(*args: Any, **named: Any) -> Any:
            with lock:
                return write(*args, **named)

        return locked

    for name in ("put_item", "update_item"):
        monkeypatch.setattr(DynamoDBBackend, name, one_at_a_time(getattr(DynamoDBBackend, name)))


@pytest.mark.usefixtures("atomic_writes")
@pytest.mark.parametrize("operation", ["create", "move"])
def test_of_many_concurrent_writers_exactly_one_wins(registry: Registry, operation: str) -> None:
    record = None if operation == "create" else create(registry)
    writers = 8
    barrier = threading.Barrier(writers)
    results: list[str] = []

    def write() -> None:
        barrier.wait()
        try:
            if record is None:
                create(registry)
            else:
                registry.move(record, Status.ACTIVE)
            results.append("won")
        except Conflict:
            results.append("lost")

    threads = [threading.Thread(target=write) for _ in range(writers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == ["lost"] * (writers - 1) + ["won"]


@pytest.mark.parametrize("old", Status)
@pytest.mark.parametrize("new", Status)
def test_only_the_moves_of_the_table_are_made(registry: Registry, old: Status, new: Status) -> None:
    record = TenantRecord("acme", old, "basic", "Acme", "", "", "", 1)
    expected: type[Exception] = Conflict if may_move(old, new) else ControlPlaneError
    with pytest.raises(expected) as refused:  # the tenant isn't there: an allowed move meets that
        registry.move(record, new)
    assert isinstance(refused.value, Conflict) is may_move(old, new)


def test_the_table_of_moves_covers_every_state() -> None:
    assert set(MOVES) == set(Status)
    assert not any(may_move(status, status) for status in Status)


def test_tenants_are_listed_over_all_pages(registry: Registry, client: Any) -> None:
    for number in range(150):  # moto ends a page at 1 MB: names make it several
        registry.create(f"t{number:03}", tier="basic", name="x" * 9000, admin="a@b.example", placement={})
    client.put_item(TableName=TABLE, Item={"pk": {"S": "TENANT#t000"}, "sk": {"S": "OTHER"}})
    first_page = client.scan(TableName=TABLE)
    assert "LastEvaluatedKey" in first_page
    assert [r.tenant_id for r in registry.records()] == [f"t{number:03}" for number in range(150)]


@pytest.mark.parametrize("attribute", ["status", "tier", "version", "created_at"])
def test_a_malformed_item_is_an_error_and_not_a_tenant(registry: Registry, client: Any, attribute: str) -> None:
    create(registry)
    client.update_item(
        TableName=TABLE,
        Key={"pk": {"S": "TENANT#acme"}, "sk": {"S": "TENANT"}},
        UpdateExpression="REMOVE #a",
        ExpressionAttributeNames={"#a": attribute},
    )
    with pytest.raises(ControlPlaneError, match="malformed"):
        registry.get("acme")

"""The control plane's two tables in a moto of the test's own, and tenants in them."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from moto import mock_aws

from saas_agent.control_plane.operations import Operation, Operations, operation_id
from saas_agent.control_plane.registry import Registry, TenantRecord, texts
from saas_agent.control_plane.states import Kind

REGISTRY, OPERATIONS = "registry", "operations"
NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
SHARED = {"runtime": "shared", "memory": "shared"}


@contextmanager
def tables(dynamodb: Any) -> Iterator[None]:
    """Both tables, empty, reached by this client."""
    with mock_aws():
        for name, keys in ((REGISTRY, ("pk", "sk")), (OPERATIONS, ("operation_id",))):
            dynamodb.create_table(
                TableName=name,
                BillingMode="PAY_PER_REQUEST",
                KeySchema=[
                    {"AttributeName": key, "KeyType": kind} for key, kind in zip(keys, ("HASH", "RANGE"), strict=False)
                ],
                AttributeDefinitions=[{"AttributeName": key, "AttributeType": "S"} for key in keys],
            )
        yield


def operations(dynamodb: Any) -> Operations:
    return Operations(dynamodb, REGISTRY, OPERATIONS, lambda: NOW)


def operation(kind: Kind, tenant_id: str = "acme", token: str = "", **parameters: Any) -> Operation:
    token = token or f"token-of-{kind}-{tenant_id}"
    return Operation(operation_id(token), tenant_id, kind, parameters, f"print-of-{token}", "arn:test")


def begin_onboarding(dynamodb: Any, tenant_id: str = "acme", tier: str = "basic", name: str = "Acme") -> Operation:
    new = {
        "tier": {"S": tier},
        "name": {"S": name},
        "admin": {"S": f"ann@{tenant_id}.example"},
        "placement": texts(SHARED),
    }
    return operations(dynamodb).begin(operation(Kind.ONBOARD, tenant_id, invite=False), None, new)


def onboard(dynamodb: Any, tenant_id: str = "acme", tier: str = "basic", name: str = "Acme") -> TenantRecord:
    """An ACTIVE tenant."""
    begun = begin_onboarding(dynamodb, tenant_id, tier, name)
    record = operations(dynamodb).finish(begun.operation_id).record
    assert record is not None
    return record


def read(dynamodb: Any, tenant_id: str = "acme") -> TenantRecord:
    record = Registry(dynamodb, REGISTRY).get(tenant_id)
    assert record is not None
    return record

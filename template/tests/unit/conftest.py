"""The tables and pools that tests of functions call on, in moto."""

from collections.abc import Iterator
from typing import Any

import boto3
import pytest

from local import serialization
from local.cognito import keys_read_once
from saas_agent.control_plane.registry import Registry
from saas_agent.control_plane.users import ADMINISTRATORS, User, Users

from .registry_tables import REGISTRY, onboard, tables

TABLE = REGISTRY


class OnceSession:
    """A session whose clients are made once: that takes longer than most of these tests."""

    def __init__(self) -> None:
        self._session = boto3.Session("test", "test", region_name="eu-central-1")
        self._clients: dict[str, Any] = {}

    def client(self, name: str) -> Any:
        if name not in self._clients:
            self._clients[name] = self._session.client(name)
        return self._clients[name]


@pytest.fixture(scope="session")
def _pools_made_quickly() -> Iterator[None]:
    with keys_read_once():
        yield


@pytest.fixture(scope="session")
def _clients() -> OnceSession:
    return OnceSession()


@pytest.fixture
def session(_clients: OnceSession, _pools_made_quickly: None) -> Iterator[OnceSession]:
    """AWS with the control plane's tables, empty."""
    with tables(_clients.client("dynamodb")), serialization.install():
        yield _clients


@pytest.fixture
def registry(session: OnceSession) -> Registry:
    """The registry, with acme, an active basic tenant."""
    onboard(session.client("dynamodb"))
    return Registry(session.client("dynamodb"), TABLE)


class UserPool:
    """A user pool with the administrators' group, and its users."""

    def __init__(self, session: OnceSession, name: str) -> None:
        self.cognito = session.client("cognito-idp")
        self.id: str = self.cognito.create_user_pool(
            PoolName=name,
            UsernameAttributes=["email"],
            Schema=[{"Name": "tenant_id", "AttributeDataType": "String", "Mutable": False}],
        )["UserPool"]["Id"]
        self.cognito.create_group(UserPoolId=self.id, GroupName=ADMINISTRATORS)
        self.users = Users(self.cognito, self.id)

    def add(self, tenant_id: str, email: str, *, administrator: bool = False) -> User:
        """A user of the tenant."""
        return self.users.invite(tenant_id, email, administrator=administrator, mail=False)


def put(session: OnceSession, attribute: str, value: Any, tenant_id: str = "acme") -> None:
    """Sets an attribute of the tenant's item, in DynamoDB's form or as a text."""
    session.client("dynamodb").update_item(
        TableName=TABLE,
        Key={"pk": {"S": f"TENANT#{tenant_id}"}, "sk": {"S": "TENANT"}},
        UpdateExpression="SET #a = :v",
        ExpressionAttributeNames={"#a": attribute},
        ExpressionAttributeValues={":v": {"S": value} if isinstance(value, str) else value},
    )

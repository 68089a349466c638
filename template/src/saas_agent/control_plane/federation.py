"""The hub's app client, and which tenants' user pools its users may come from.

Every tenant's own pool is an identity provider of the hub, made with the tenant's stack. The hub's client has to list
each of them (`SupportedIdentityProviders`), and that list belongs to no stack: it is read, changed and written here,
under a lease in the registry table, so that tenants who come and go at once lose nobody. UpdateUserPoolClient resets
whatever it is not sent (Cognito API reference), so every setting is read and sent again.
"""

import random
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from botocore.exceptions import ClientError

from saas_agent.control_plane.errors import Contended
from saas_agent.control_plane.users import User, Users

_KEY = {"pk": {"S": "HUB"}, "sk": {"S": "CLIENT"}}
_LEASE_SECONDS = 30.0
_MARGIN_SECONDS = 10.0  # what a write may take: none begins with less left of the lease
_PATIENCE_SECONDS = 60.0
_PAUSE_SECONDS = 0.2


class HubClient:
    """Keeps the client's list at what the hub's providers are. Errors of AWS itself are botocore's.

    cognito, dynamodb: boto3 clients. table: the registry's name. pool_id, client_id: the hub and its app client.
    """

    def __init__(
        self,
        cognito: Any,
        dynamodb: Any,
        table: str,
        pool_id: str,
        client_id: str,
        *,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._cognito = cognito
        self._dynamodb = dynamodb
        self._table = table
        self._pool_id = pool_id
        self._client_id = client_id
        self._clock = clock
        self._sleep = sleep

    def admit(self, tenant_id: str) -> None:
        """Lets the tenant's users sign in, once the tenant's provider is there. Safe to repeat."""
        self._mark("DELETE leaving :tenant", tenant_id)
        self.bring()

    def withdraw(self, tenant_id: str) -> None:
        """Lets none of the tenant's users sign in any more, while its provider is still there. Safe to repeat.

        To be done before the provider is deleted: a client must not list one that is gone.
        """
        self._mark("ADD leaving :tenant", tenant_id)
        self.bring()

    def bring(self) -> tuple[str, ...]:
        """Brings the list to what the hub's providers are, apart from those that are leaving; the list.

        Contended where the lease can't be had in a minute: repeat it.
        """
        began = self._clock()
        while self._clock() - began < _PATIENCE_SECONDS:
            with self._lease() as until:
                # Looked at again after every write: a provider may have come meanwhile, or a writer whose lease had
                # run out may have written an older list.
                while until is not None and self._clock() < until - _MARGIN_SECONDS:
                    wanted, client = self._wanted(), self._described()
                    if sorted(client.get("SupportedIdentityProviders") or []) == wanted:
                        return tuple(wanted)
                    self._write(client, wanted)
            self._sleep(_PAUSE_SECONDS * (0.5 + random.random()))
        raise Contended("the hub's client is being changed by others all the time; repeat the command")

    # --- The client -------------------------------------------------------------------------------

    def _wanted(self) -> list[str]:
        pages = self._cognito.get_paginator("list_identity_providers").paginate(UserPoolId=self._pool_id)
        names = {provider["ProviderName"] for page in pages for provider in page["Providers"]}
        return sorted(names - self._leaving(names))

    def _described(self) -> dict[str, Any]:
        answer = self._cognito.describe_user_pool_client(UserPoolId=self._pool_id, ClientId=self._client_id)
        client: dict[str, Any] = answer["UserPoolClient"]
        return client

    def _write(self, client: dict[str, Any], providers: list[str]) -> None:
        operation = self._cognito.meta.service_model.operation_model("UpdateUserPoolClient")
        settings = {name: value for name, value in client.items() if name in operation.input_shape.members}
        self._cognito.update_user_pool_client(**{**settings, "SupportedIdentityProviders": providers})

    # --- The lease --------------------------------------------------------------------------------

    @contextmanager
    def _lease(self) -> Iterator[float | None]:
        """Until when the lease is this one's, in epoch seconds; None where it is somebody else's."""
        holder, now = uuid.uuid4().hex, self._clock()
        until = now + _LEASE_SECONDS
        try:
            self._dynamodb.update_item(
                TableName=self._table,
                Key=_KEY,
                UpdateExpression="SET holder = :holder, held_until = :until",
                ConditionExpression="attribute_not_exists(holder) OR held_until < :now",
                ExpressionAttributeValues={
                    ":holder": {"S": holder},
                    ":until": {"N": f"{until:.3f}"},
                    ":now": {"N": f"{now:.3f}"},
                },
            )
        except ClientError as error:
            if error.response["Error"]["Code"] != "ConditionalCheckFailedException":
                raise
            yield None
            return
        try:
            yield until
        finally:
            self._release(holder)

    def _release(self, holder: str) -> None:
        try:
            self._dynamodb.update_item(
                TableName=self._table,
                Key=_KEY,
                UpdateExpression="REMOVE holder, held_until",
                ConditionExpression="holder = :holder",
                ExpressionAttributeValues={":holder": {"S": holder}},
            )
        except ClientError as error:
            # It had run out, and somebody else has it.
            if error.response["Error"]["Code"] != "ConditionalCheckFailedException":
                raise

    # --- Who is leaving ---------------------------------------------------------------------------

    def _mark(self, change: str, tenant_id: str) -> None:
        self._dynamodb.update_item(
            TableName=self._table,
            Key=_KEY,
            UpdateExpression=change,
            ExpressionAttributeValues={":tenant": {"SS": [tenant_id]}},
        )

    def _leaving(self, providers: set[str]) -> set[str]:
        """The tenants that were withdrawn; those whose provider is gone are forgotten."""
        answer = self._dynamodb.get_item(TableName=self._table, Key=_KEY, ConsistentRead=True)
        leaving = set(answer.get("Item", {}).get("leaving", {}).get("SS", []))
        if gone := leaving - providers:
            self._dynamodb.update_item(
                TableName=self._table,
                Key=_KEY,
                UpdateExpression="DELETE leaving :gone",
                ExpressionAttributeValues={":gone": {"SS": sorted(gone)}},
            )
        return leaving


class HubProfiles(Users):
    """What the hub keeps of tenants' users: a profile `<tenant>_<name>` each, made when the user first signs in."""

    def page(self, tenant_id: str, token: str) -> tuple[list[User], str]:
        """The tenant's profiles on one page, and the token of the next page, empty after the last."""
        # No tenant id has an underscore, so this is no prefix of another's.
        users, token = self._read(token, Filter=f'username ^= "{tenant_id}_"')
        return [replace(user, tenant_id=tenant_id) for user in users], token

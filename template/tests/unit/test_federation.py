"""The hub's client lists every tenant's provider, whoever comes and goes at once."""

import threading
import time
from collections.abc import Callable
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from saas_agent.control_plane.errors import Contended
from saas_agent.control_plane.federation import HubClient
from tests.unit.conftest import TABLE, OnceSession

SETTINGS = {
    "ClientName": "hub",
    "ExplicitAuthFlows": ["ALLOW_REFRESH_TOKEN_AUTH"],
    "CallbackURLs": ["http://localhost:3000/callback"],
    "WriteAttributes": ["email"],
    "AccessTokenValidity": 60,
    "TokenValidityUnits": {"AccessToken": "minutes"},
}


class Hub:
    """Cognito with one pool and one client, which forgets what it is not sent, as AWS does, and takes its time."""

    meta = boto3.client("cognito-idp", region_name="eu-central-1").meta

    def __init__(self, *providers: str) -> None:
        self.providers = list(providers)
        self.client: dict[str, Any] = {"UserPoolId": "hub", "ClientId": "c", **SETTINGS}
        self.writes: list[list[str]] = []
        self.pause = 0.0
        self.before_write: Callable[[], None] = lambda: None
        self._lock = threading.Lock()

    def get_paginator(self, name: str) -> "Hub":
        assert name == "list_identity_providers"
        return self

    def paginate(self, **_: str) -> list[dict[str, Any]]:
        time.sleep(self.pause)
        return [{"Providers": [{"ProviderName": name}]} for name in list(self.providers)]

    def describe_user_pool_client(self, **_: str) -> dict[str, Any]:
        with self._lock:
            return {"UserPoolClient": {**self.client, "CreationDate": 1, "LastModifiedDate": 2}}

    def update_user_pool_client(self, **sent: Any) -> None:
        self.before_write()
        time.sleep(self.pause)
        listed = sent["SupportedIdentityProviders"]
        if unknown := set(listed) - set(self.providers):
            raise ClientError({"Error": {"Code": "InvalidParameterException", "Message": f"{unknown}"}}, "Update")
        with self._lock:
            self.client = sent
            self.writes.append(listed)

    @property
    def listed(self) -> list[str]:
        return list(self.client.get("SupportedIdentityProviders", []))


def hub_client(hub: Hub, session: OnceSession, **changed: Any) -> HubClient:
    return HubClient(hub, session.client("dynamodb"), TABLE, "hub", "c", **changed)


def item(session: OnceSession) -> dict[str, Any]:
    key = {"pk": {"S": "HUB"}, "sk": {"S": "CLIENT"}}
    found: dict[str, Any] = session.client("dynamodb").get_item(TableName=TABLE, Key=key).get("Item", {})
    return found


def test_the_list_becomes_what_the_providers_are(session: OnceSession) -> None:
    hub = Hub("globex", "acme")
    assert hub_client(hub, session).bring() == ("acme", "globex")
    assert hub.listed == ["acme", "globex"]


def test_nothing_is_written_where_nothing_changes(session: OnceSession) -> None:
    hub = Hub("acme")
    for _ in range(3):
        hub_client(hub, session).bring()
    assert hub.writes == [["acme"]]


def test_every_other_setting_stays(session: OnceSession) -> None:
    hub = Hub("acme")
    hub_client(hub, session).bring()
    assert {name: hub.client[name] for name in SETTINGS} == SETTINGS
    assert "CreationDate" not in hub.client


def test_a_deployment_that_reset_the_client_is_made_good(session: OnceSession) -> None:
    hub = Hub("acme", "globex")
    client = hub_client(hub, session)
    client.bring()
    hub.client.pop("SupportedIdentityProviders")
    assert client.bring() == ("acme", "globex")


def test_a_tenant_that_leaves_is_off_the_list_before_its_provider_is_gone(session: OnceSession) -> None:
    hub = Hub("acme", "globex")
    client = hub_client(hub, session)
    client.bring()
    client.withdraw("acme")
    assert hub.listed == ["globex"]
    # Somebody else's onboarding must not bring it back meanwhile.
    hub.providers.append("umbra")
    client.admit("umbra")
    assert hub.listed == ["globex", "umbra"]
    hub.providers.remove("acme")
    client.bring()
    assert "leaving" not in item(session)


def test_a_tenant_that_was_withdrawn_can_be_admitted_again(session: OnceSession) -> None:
    hub = Hub("acme")
    client = hub_client(hub, session)
    client.withdraw("acme")
    assert hub.listed == []
    client.admit("acme")
    assert hub.listed == ["acme"]


def test_withdrawing_and_admitting_are_safe_to_repeat(session: OnceSession) -> None:
    hub = Hub("acme")
    client = hub_client(hub, session)
    for _ in range(2):
        client.withdraw("acme")
    for _ in range(2):
        client.admit("acme")
    assert hub.listed == ["acme"]
    # One that never had a provider.
    client.withdraw("umbra")
    assert hub.listed == ["acme"]


def test_of_twenty_tenants_at_once_none_is_lost(session: OnceSession) -> None:
    hub = Hub()
    hub.pause = 0.002
    names = [f"tenant-{number:02}" for number in range(20)]
    failed: list[Exception] = []

    def onboard(name: str) -> None:
        hub.providers.append(name)
        try:
            hub_client(hub, session).admit(name)
            assert name in hub.listed
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=onboard, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert hub.listed == names
    assert item(session).keys() == {"pk", "sk"}


def test_while_another_holds_the_lease_nothing_is_written(session: OnceSession) -> None:
    hub = Hub("acme")
    other = hub_client(hub, session)
    now = [1000.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    with other._lease() as until:
        assert until is not None
        ours = hub_client(hub, session, clock=lambda: now[0], sleep=sleep)
        with pytest.raises(Contended, match="repeat"):
            ours.bring()
    assert hub.writes == []


def test_a_lease_that_its_holder_left_behind_runs_out(session: OnceSession) -> None:
    hub = Hub("acme")
    now = [1000.0]

    def sleep(seconds: float) -> None:
        now[0] += 5.0

    dead = hub_client(hub, session, clock=lambda: now[0])
    dead._lease().__enter__()
    assert hub_client(hub, session, clock=lambda: now[0], sleep=sleep).bring() == ("acme",)


def test_a_holder_whose_lease_ran_out_begins_no_write_and_takes_nobodys_lease_away(session: OnceSession) -> None:
    hub = Hub("acme")
    now = [1000.0]
    slow = hub_client(hub, session, clock=lambda: now[0], sleep=lambda _: None)
    listing = hub.paginate

    def stall(**named: str) -> list[dict[str, Any]]:
        pages = listing(**named)
        if now[0] == 1000.0:
            now[0] += 31.0
            # Meanwhile another has the lease, and a provider came.
            hub.providers.append("globex")
            assert hub_client(hub, session, clock=lambda: now[0]).bring() == ("acme", "globex")
        return pages

    hub.paginate = stall  # type: ignore[method-assign]
    assert slow.bring() == ("acme", "globex")
    assert hub.listed == ["acme", "globex"]


def test_an_older_list_that_was_written_late_is_made_good_by_its_writer(session: OnceSession) -> None:
    hub = Hub("acme")
    arrived = iter([True])

    def come() -> None:
        if next(arrived, False):
            hub.providers.append("globex")
            hub.client = {**hub.client, "SupportedIdentityProviders": ["acme", "globex"]}

    hub.before_write = come
    assert hub_client(hub, session).bring() == ("acme", "globex")
    assert hub.writes == [["acme"], ["acme", "globex"]]


def test_the_lease_is_given_back_when_aws_fails(session: OnceSession) -> None:
    hub = Hub("acme")

    def fail() -> None:
        raise ClientError({"Error": {"Code": "TooManyRequestsException", "Message": "slow down"}}, "Update")

    hub.before_write = fail
    with pytest.raises(ClientError):
        hub_client(hub, session).bring()
    assert "holder" not in item(session)

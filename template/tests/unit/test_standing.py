"""What is in force for a tenant, and what an agent refuses to start with."""

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from saas_agent import configuration
from saas_agent.errors import ConfigurationError, Refused
from saas_agent.tenancy.access import TenantAccess, TenantSession
from saas_agent.tenancy.placement import Column, Placement, load_placement, parse_placement
from saas_agent.tenancy.standing import FRESH_SECONDS, Standings
from saas_agent.tenancy.tenant import TenantContext
from saas_agent.tenancy.tiers import load_tiers, parse_tiers

SHARED: Column = "shared"
Item = dict[str, Any]


def item(status: str | None = "ACTIVE", tier: str | None = "basic", **more: Item) -> Item:
    """A tenant's registry item as DynamoDB gives it; None leaves an attribute out."""
    found = {"status": status, "tier": tier}
    return {name: {"S": value} for name, value in found.items() if value is not None} | more


class Registry:
    """A registry table behind a tenant's session: answers by key, keeps what it was asked."""

    def __init__(self, **items: Item) -> None:
        self.items = items
        self.asked: list[dict[str, Any]] = []
        self.error: Exception | None = None

    def client(self, service: str) -> "Registry":
        assert service == "dynamodb"
        return self

    def get_item(self, **asked: Any) -> dict[str, Any]:
        self.asked.append(asked)
        if self.error:
            raise self.error
        tenant_id = asked["Key"]["pk"]["S"].removeprefix("TENANT#")
        return {"Item": self.items[tenant_id]} if tenant_id in self.items else {}

    def access(self, tenant_id: str = "acme", tier: str = "basic") -> TenantAccess:
        """The tenant's access; `tier`: as its token has it."""
        return TenantAccess(TenantContext(tenant_id, tier, "ann", 0), cast(TenantSession, self))


def placed(column: Column = SHARED) -> Placement:
    """Every component of every tier in this column."""
    table = {tier: dict.fromkeys(load_placement().components, column) for tier in load_tiers()}
    return replace(load_placement(), table=table)


def standings(
    placement: Placement | None = None,
    runtime: str | None = None,
    *,
    capacity: int = 8,
    clock: Callable[[], float] = lambda: 0.0,
) -> Standings:
    return Standings("registry", load_tiers(), placement or placed(), runtime, capacity=capacity, clock=clock)


def code_of(call: Callable[[], object]) -> str:
    with pytest.raises(Refused) as caught:
        call()
    return caught.value.reason.code


@pytest.mark.parametrize(
    "status", [None, "", "active", "PROVISIONING", "SUSPENDED", "OFFBOARDING", "DELETED", "FAILED", "ACTIVE "]
)
def test_only_an_active_tenant_is_served(status: str | None) -> None:
    registry = Registry(acme=item(status))
    assert code_of(lambda: standings().of(registry.access())) == "tenant_not_active"


def test_a_tenant_that_the_registry_lacks_is_not_served() -> None:
    assert code_of(lambda: standings().of(Registry().access())) == "tenant_not_active"


@pytest.mark.parametrize("tier", [None, "", "gold", "Basic"])
def test_an_unknown_tier_is_nobodys_and_never_another_one(tier: str | None) -> None:
    registry = Registry(acme=item(tier=tier))
    assert code_of(lambda: standings().of(registry.access(tier="premium"))) == "no_tenant"


@pytest.mark.parametrize("tier", list(load_tiers()))
def test_the_tier_is_the_registrys_whatever_the_token_says(tier: str) -> None:
    registry = Registry(acme=item(tier=tier))
    for claimed in load_tiers():
        assert standings().of(registry.access(tier=claimed)).tier == load_tiers()[tier]


def test_the_tenants_own_item_is_read_whole_and_as_it_is_now() -> None:
    registry = Registry(acme=item(resources={"M": {"TableName": {"S": "t-acme"}}}))
    assert standings().of(registry.access()).resources == {"TableName": "t-acme"}
    [asked] = registry.asked
    assert asked["TableName"] == "registry"
    assert asked["Key"] == {"pk": {"S": "TENANT#acme"}, "sk": {"S": "TENANT"}}
    assert asked["ConsistentRead"] is True


def test_a_change_is_seen_within_half_a_minute() -> None:
    assert FRESH_SECONDS <= 30
    now, registry = [0.0], Registry(acme=item())
    found = standings(clock=lambda: now[0])
    found.of(registry.access())
    registry.items["acme"] = item("SUSPENDED")
    now[0] = FRESH_SECONDS - 0.1
    found.of(registry.access())
    now[0] = FRESH_SECONDS
    assert code_of(lambda: found.of(registry.access())) == "tenant_not_active"


def test_tenants_whose_names_begin_alike_have_a_standing_each() -> None:
    registry = Registry(acme=item(), acme2=item("SUSPENDED"), **{"acme-eu": item(tier="premium")})
    found = standings()
    assert found.of(registry.access("acme")).tier.name == "basic"
    assert code_of(lambda: found.of(registry.access("acme2"))) == "tenant_not_active"
    assert found.of(registry.access("acme-eu")).tier.name == "premium"
    assert found.of(registry.access("acme")).tier.name == "basic"


def test_what_is_remembered_is_bounded_and_the_oldest_goes() -> None:
    registry = Registry(one=item(), two=item(), three=item())
    found = standings(capacity=2)
    for tenant_id in ("one", "two", "three", "three", "one"):
        found.of(registry.access(tenant_id))
    assert [asked["Key"]["pk"]["S"][7:] for asked in registry.asked] == ["one", "two", "three", "one"]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ClientError({"Error": {"Code": "AccessDeniedException", "Message": "secret"}}, "GetItem"), "denied"),
        (ClientError({"Error": {"Code": "ThrottlingException", "Message": "secret"}}, "GetItem"), "internal"),
        (EndpointConnectionError(endpoint_url="https://secret"), "internal"),
    ],
)
def test_a_registry_that_fails_serves_nobody_and_is_asked_again(
    error: Exception, code: str, caplog: pytest.LogCaptureFixture
) -> None:
    registry = Registry(acme=item())
    found = standings()
    registry.error = error
    with caplog.at_level(logging.DEBUG):
        assert code_of(lambda: found.of(registry.access())) == code
    assert "secret" not in caplog.text
    registry.error = None
    assert found.of(registry.access()).tier.name == "basic"


@pytest.mark.parametrize(("column", "runtime"), [("shared", "acme"), ("dedicated", None)])
def test_a_tenant_is_served_by_its_own_kind_of_runtime_alone(column: Column, runtime: str | None) -> None:
    registry = Registry(acme=item())
    assert code_of(lambda: standings(placed(column), runtime).of(registry.access())) == "not_here"


def test_a_tenant_that_was_provisioned_otherwise_is_not_served() -> None:
    provisioned = {component: {"S": "dedicated"} for component in load_placement().components}
    registry = Registry(acme=item(placement={"M": provisioned}))
    assert code_of(lambda: standings().of(registry.access())) == "not_here"


# What an agent refuses to start with.


def _changed(name: str, *path: str, value: object = None) -> dict[str, Any]:
    """The document of this file with one value set; None removes it."""
    document: dict[str, Any] = configuration.load(name)
    copy = {key: dict(part) if isinstance(part, dict) else part for key, part in document.items()}
    place = copy
    for part in path[:-1]:
        place[part] = dict(place[part])
        place = place[part]
    if value is None:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return copy


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("service",), None),
        (("service", "name"), None),
        (("service", "region"), None),
        (("identity",), None),
        (("identity", "layout"), None),
        (("identity", "layout"), "any"),
        (("identity", "layout"), ""),
        (("placement",), None),
        (("placement",), {}),
        (("placement", "basic"), {}),
        (("placement", "basic", "memory"), None),
        (("placement", "basic", "memory"), ""),
        (("placement", "basic", "memory"), "Shared"),
        (("placement", "basic", "memory"), "tenant"),
    ],
)
def test_a_placement_that_says_too_little_or_too_much_is_refused(path: tuple[str, ...], value: object) -> None:
    parse_placement(configuration.load("placement.toml"))
    with pytest.raises(ConfigurationError, match=r"^[^\n]*placement\.toml[^\n]*$"):
        parse_placement(_changed("placement.toml", *path, value=value))


NUMBERS = [key for key, value in configuration.load("tiers.toml")["tiers"]["basic"].items() if type(value) is int]


@pytest.mark.parametrize("key", NUMBERS)
@pytest.mark.parametrize("value", [0, -1, True, 1.5, "7"])
def test_a_limit_that_limits_nothing_is_refused(key: str, value: object) -> None:
    with pytest.raises(ConfigurationError, match=f"basic.*{key}"):
        parse_tiers(_changed("tiers.toml", "tiers", "basic", key, value=value))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("tiers",), None),
        (("tiers",), {}),
        (("tiers", "basic"), {}),
        (("tiers", "basic", "model"), None),
        (("tiers", "basic", "model"), ""),
        (("tiers", "basic", "turns"), None),
        (("tiers", "basic", "unlimited"), 1),
    ],
)
def test_a_tier_with_missing_or_unknown_keys_is_refused(path: tuple[str, ...], value: object) -> None:
    parse_tiers(configuration.load("tiers.toml"))
    with pytest.raises(ConfigurationError, match=r"^[^\n]*tiers\.toml[^\n]*$"):
        parse_tiers(_changed("tiers.toml", *path, value=value))

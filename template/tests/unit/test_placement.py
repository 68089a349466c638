"""Where a component is: as placement.toml has it, and nowhere by default."""

from typing import Any

import pytest

from saas_agent.errors import ConfigurationError
from saas_agent.tenancy.placement import load_placement, parse_placement

DOCUMENT: dict[str, Any] = {
    "service": {"name": "desk", "region": "us-east-1"},
    "identity": {"layout": "shared_user_pool"},
    "placement": {
        "basic": {"runtime": "shared", "memory": "shared"},
        "premium": {"runtime": "shared", "memory": "dedicated"},
        "extra": {"runtime": "dedicated", "memory": "dedicated"},
    },
}


def test_the_file_of_this_repository_is_whole() -> None:
    placement = load_placement()
    assert {"runtime", "memory"} <= set(placement.components)
    assert all(set(placement.row(tier)) == set(placement.components) for tier in placement.tiers)


@pytest.mark.parametrize(
    ("tier", "own", "by_shared", "by_own"),
    [("basic", False, True, False), ("premium", True, True, False), ("extra", True, False, True)],
)
def test_a_tiers_tenants_are_served_by_one_kind_of_runtime(tier: str, own: bool, by_shared: bool, by_own: bool) -> None:
    placement = parse_placement(DOCUMENT)
    assert placement.has_own(tier) is own
    assert placement.serves(tier, None) is by_shared
    assert placement.serves(tier, "acme") is by_own


@pytest.mark.parametrize(
    ("tier", "provisioned", "agrees"),
    [
        ("basic", {}, True),
        ("basic", {"runtime": "shared", "memory": "shared"}, True),
        ("basic", {"memory": "dedicated"}, False),
        # What was never provisioned is shared, so a component that became dedicated is not there yet.
        ("premium", {}, False),
        ("premium", {"runtime": "shared", "memory": "dedicated"}, True),
        ("premium", {"runtime": "dedicated", "memory": "dedicated"}, False),
        # A component that this agent doesn't have any more is nobody's concern.
        ("basic", {"s3": "dedicated"}, True),
    ],
)
def test_a_tenant_is_served_where_it_was_provisioned(tier: str, provisioned: dict[str, str], agrees: bool) -> None:
    assert parse_placement(DOCUMENT).agrees(tier, provisioned) is agrees


@pytest.mark.parametrize(
    ("tier", "provisioned", "moved"),
    [
        ("basic", {"runtime": "shared", "memory": "shared"}, {}),
        ("basic", {}, {}),
        ("premium", {"memory": "shared"}, {"memory": "dedicated"}),
        ("basic", {"memory": "dedicated", "s3": "dedicated"}, {"memory": "shared", "s3": None}),
        ("none", {"memory": "shared"}, {"memory": None}),
    ],
)
def test_what_is_no_more_where_it_was_provisioned_is_told(
    tier: str, provisioned: dict[str, str], moved: dict[str, str | None]
) -> None:
    assert parse_placement(DOCUMENT).moved(tier, provisioned) == moved


@pytest.mark.parametrize(
    "change",
    [
        {"placement": {"basic": {"runtime": "somewhere"}}},
        {"service": {"name": "desk"}},
        {"identity": {}},
    ],
)
def test_a_file_that_is_not_whole_stops_the_process(change: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=r"^[^\n]+$"):
        parse_placement({**DOCUMENT, **change})


def test_what_is_not_placed_is_nowhere() -> None:
    placement = parse_placement(DOCUMENT)
    for tier, component in (("basic", "s3"), ("unknown", "memory")):
        with pytest.raises(ConfigurationError, match=r"places no|doesn.t place"):
            placement.column(tier, component)

"""A tenant with components of its own is led to them, and never to the shared ones in their stead."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest

from saas_agent.errors import Refused
from saas_agent.settings import Settings
from saas_agent.tenancy.access import TemporaryCredentials
from saas_agent.tenancy.credentials import Exchange, TenantCredentials
from saas_agent.tenancy.own_role import OwnRoles
from saas_agent.tenancy.placement import Placement
from saas_agent.tenancy.standing import Standing
from saas_agent.tenancy.tenant import TenantContext
from saas_agent.tenancy.tiers import Tier, load_tiers
from saas_agent.tenancy.token import VerifiedToken

CALLER = VerifiedToken(TenantContext("acme", "premium", "user", 99_999_999_999), "token")
TIER: Tier = next(iter(load_tiers().values()))
PLACEMENT = Placement("desk", "us-east-1", "shared_user_pool", {TIER.name: {"memory": "dedicated", "files": "shared"}})
OWN = {"TenantRoleArn": "arn:aws:iam::1:role/acme", "MemoryId": "own-memory", "FilesName": "own-files"}
UNTIL = datetime(2099, 1, 1, tzinfo=UTC)


def exchange_into(role_arn: str) -> Exchange:
    def exchange(caller: VerifiedToken) -> TemporaryCredentials:
        return TemporaryCredentials(f"AKID of {role_arn}", "secret", "token", UNTIL)

    return exchange


def roles() -> OwnRoles:
    environ = {
        **dict.fromkeys(("SERVICE", "STAGE", "AWS_REGION", "ISSUER", "CLIENT_ID"), "x"),
        **dict.fromkeys(("REGISTRY_TABLE", "QUOTA_TABLE", "LEDGER_TABLE"), "x"),
        "MEMORY_ID": "shared-memory",
        "FILES_NAME": "shared-files",
    }
    return OwnRoles(
        credentials=TenantCredentials("us-east-1"),
        exchange_into=exchange_into,
        placement=PLACEMENT,
        settings=Settings.from_environ(environ),
        variables={"memory": "MEMORY_ID", "files": "FILES_NAME"},
    )


def place(resources: Mapping[str, str]) -> Any:
    return roles().place(CALLER, Standing(TIER, resources))


def test_the_role_is_the_registrys_and_each_component_is_where_it_was_placed() -> None:
    placed = place(OWN)
    assert placed.access.session.get_credentials().access_key == "AKID of arn:aws:iam::1:role/acme"
    assert placed.resource("memory") == "own-memory"
    # What the placement has as shared is the platform's, whatever the registry names besides.
    assert placed.resource("files") == "shared-files"


def test_a_role_that_the_registry_lacks_is_an_error() -> None:
    with pytest.raises(Refused) as caught:
        place({key: value for key, value in OWN.items() if key != "TenantRoleArn"})
    assert caught.value.reason.code == "internal"


def test_a_resource_that_the_registry_lacks_is_an_error_and_not_the_shared_one() -> None:
    placed = place({key: value for key, value in OWN.items() if key != "MemoryId"})
    with pytest.raises(Refused) as caught:
        placed.resource("memory")
    assert caught.value.reason.code == "internal"

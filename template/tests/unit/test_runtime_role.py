"""A runtime of one tenant's own works for that tenant alone."""

from typing import Any

import boto3
import pytest

from saas_agent.errors import Refused
from saas_agent.tenancy.credentials import TenantCredentials
from saas_agent.tenancy.runtime_role import RuntimeRole
from saas_agent.tenancy.tenant import TenantContext
from saas_agent.tenancy.token import VerifiedToken

SESSION = boto3.Session("AKIDRUNTIME", "secret", "token", region_name="us-east-1")


def caller(tenant: str) -> VerifiedToken:
    return VerifiedToken(TenantContext(tenant, "basic", "user", 99_999_999_999), f"token of {tenant}")


def test_the_own_tenant_gets_the_roles_credentials() -> None:
    access = TenantCredentials("us-east-1").access(RuntimeRole(SESSION, "acme"), caller("acme"))
    assert access.session.get_credentials().access_key == "AKIDRUNTIME"
    assert access.tenant.tenant_id == "acme"


@pytest.mark.parametrize("other", ["acme2", "acm", "globex"])
def test_any_other_tenant_is_refused(other: str) -> None:
    with pytest.raises(Refused) as caught:
        RuntimeRole(SESSION, "acme")(caller(other))
    assert caught.value.reason.code == "not_here"


def test_a_runtime_without_credentials_refuses() -> None:
    class Bare:
        def get_credentials(self) -> Any:
            return None

    with pytest.raises(Refused) as caught:
        RuntimeRole(Bare(), "acme")(caller("acme"))
    assert caught.value.reason.code == "internal"

"""The pre-token function of a tenant's own pool knows the tenant from its environment."""

from typing import Any

import pytest

from saas_agent.control_plane.registry import Registry
from saas_agent.control_plane.states import Status
from saas_agent.errors import ConfigurationError
from saas_agent.functions import pre_token_own
from saas_agent.functions.pre_token import NoToken
from tests.unit.conftest import TABLE, OnceSession, put
from tests.unit.registry_tables import onboard

ENVIRON = {"REGISTRY_TABLE": TABLE, "TENANT_ID": "acme"}


def event(**attributes: Any) -> dict[str, Any]:
    return {
        "triggerSource": "TokenGeneration_Authentication",
        "userName": "user-1",
        "callerContext": {"clientId": "client-1"},
        "request": {"userAttributes": {"sub": "user-1", "custom:tenant_id": "acme", **attributes}},
        "response": {"claimsAndScopeOverrideDetails": None},
    }


def tenant_in(answer: dict[str, Any]) -> str:
    details = answer["response"]["claimsAndScopeOverrideDetails"]
    return str(details["accessTokenGeneration"]["claimsToAddOrOverride"]["tenant_id"])


def test_the_tenant_is_the_one_of_the_stack(session: OnceSession, registry: Registry) -> None:
    assert tenant_in(pre_token_own.create(ENVIRON, session)(event(), None)) == "acme"


@pytest.mark.parametrize("value", ["globex", "", None, "acme ", "ACME"])
def test_a_user_of_another_tenant_is_in_the_wrong_pool(session: OnceSession, registry: Registry, value: object) -> None:
    onboard(session.client("dynamodb"), "globex")
    with pytest.raises(NoToken):
        pre_token_own.create(ENVIRON, session)(event(**{"custom:tenant_id": value}), None)


def test_a_suspended_tenant_gets_no_token(session: OnceSession, registry: Registry) -> None:
    put(session, "status", Status.SUSPENDED)
    with pytest.raises(NoToken):
        pre_token_own.create(ENVIRON, session)(event(), None)


@pytest.mark.parametrize("missing", sorted(ENVIRON))
def test_it_does_not_start_without_its_settings(session: OnceSession, missing: str) -> None:
    environ = {name: value for name, value in ENVIRON.items() if name != missing}
    with pytest.raises(ConfigurationError, match=missing):
        pre_token_own.create(environ, session)

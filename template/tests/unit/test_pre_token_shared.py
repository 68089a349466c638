"""The pre-token function of the shared pool takes the tenant from the user's immutable attribute."""

from typing import Any

import pytest

from saas_agent.control_plane.registry import Registry
from saas_agent.errors import ConfigurationError
from saas_agent.functions import pre_token_shared
from saas_agent.functions.pre_token import NoToken
from tests.unit.conftest import TABLE, OnceSession


def event(**attributes: Any) -> dict[str, Any]:
    return {
        "triggerSource": "TokenGeneration_Authentication",
        "userName": "user-1",
        "callerContext": {"clientId": "client-1"},
        "request": {"userAttributes": {"sub": "user-1", **attributes}, "clientMetadata": {"custom:tenant_id": "acme"}},
        "response": {"claimsAndScopeOverrideDetails": None},
    }


def test_the_tenant_is_the_users_attribute(session: OnceSession, registry: Registry) -> None:
    handle = pre_token_shared.create({"REGISTRY_TABLE": TABLE}, session)
    answer = handle(event(**{"custom:tenant_id": "acme"}), None)
    details = answer["response"]["claimsAndScopeOverrideDetails"]
    assert details["accessTokenGeneration"]["claimsToAddOrOverride"]["tenant_id"] == "acme"


@pytest.mark.parametrize(
    "attributes", [{}, {"tenant_id": "acme"}, {"custom:tenant_id": "globex"}, {"custom:tenant": "acme"}]
)
def test_nothing_else_names_it(session: OnceSession, registry: Registry, attributes: dict[str, str]) -> None:
    handle = pre_token_shared.create({"REGISTRY_TABLE": TABLE}, session)
    with pytest.raises(NoToken):
        handle(event(**attributes), None)


def test_it_does_not_start_without_its_table(session: OnceSession) -> None:
    with pytest.raises(ConfigurationError, match="REGISTRY_TABLE"):
        pre_token_shared.create({}, session)


def test_lambda_builds_the_handler_from_its_environment_once(
    session: OnceSession, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "REGISTRY_TABLE": TABLE,
        "AWS_DEFAULT_REGION": "eu-central-1",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
    }.items():
        monkeypatch.setenv(name, value)
    pre_token_shared._handler.cache_clear()
    for _ in range(2):
        pre_token_shared.handler(event(**{"custom:tenant_id": "acme"}), None)
    assert pre_token_shared._handler.cache_info().misses == 1
    pre_token_shared._handler.cache_clear()

"""What every pre-token function does: the tenant's claims in both tokens, or no token at all."""

import copy
from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from saas_agent.control_plane.registry import Registry, TenantRecord
from saas_agent.control_plane.states import Status
from saas_agent.functions.pre_token import Handler, NoToken, attributes_of, token_handler
from saas_agent.tenancy.tiers import load_tiers
from tests.unit.conftest import TABLE, OnceSession, put

TAGS = "https://aws.amazon.com/tags"


@pytest.fixture
def handle(registry: Registry) -> Handler:
    return token_handler(registry, load_tiers(), lambda event: attributes_of(event).get("custom:tenant_id"))


def event(tenant_id: object = "acme", **request: object) -> dict[str, Any]:
    attributes = {"sub": "user-1", "email": "ann@acme.example"}
    if tenant_id is not None:
        attributes["custom:tenant_id"] = tenant_id  # type: ignore[assignment]
    return {
        "version": "2",
        "triggerSource": "TokenGeneration_Authentication",
        "userName": "user-1",
        "callerContext": {"clientId": "client-1"},
        "request": {"userAttributes": attributes, "scopes": ["openid"], **request},
        "response": {"claimsAndScopeOverrideDetails": None},
    }


def claims(answer: dict[str, Any], token: str) -> dict[str, Any]:
    details = answer["response"]["claimsAndScopeOverrideDetails"]
    added: dict[str, Any] = details[f"{token}TokenGeneration"]["claimsToAddOrOverride"]
    return added


def test_both_tokens_get_the_tenant_and_its_session_tag(handle: Handler) -> None:
    answer = handle(event(), None)
    expected = {
        "tenant_id": "acme",
        "tier": "basic",
        "tenant_status": "ACTIVE",
        TAGS: {"principal_tags": {"TenantId": ["acme"]}, "transitive_tag_keys": ["TenantId"]},
    }
    assert claims(answer, "id") == expected
    assert claims(answer, "access") == {**expected, "aud": "client-1"}


def test_the_response_is_this_functions_alone_and_the_audience_the_client_that_asks(handle: Handler) -> None:
    asked = event(clientMetadata={"clientId": "another", "aud": "another"})
    asked["response"] = {
        "claimsAndScopeOverrideDetails": {
            "accessTokenGeneration": {"claimsToAddOrOverride": {"tenant_id": "globex", "further": "claim"}},
            "groupOverrideDetails": {"groupsToOverride": ["tenant-administrators"]},
        },
        "further": True,
    }
    answer = handle(asked, None)
    assert set(answer["response"]) == {"claimsAndScopeOverrideDetails"}
    assert set(answer["response"]["claimsAndScopeOverrideDetails"]) == {"accessTokenGeneration", "idTokenGeneration"}
    assert claims(answer, "access")["aud"] == "client-1"
    assert "further" not in claims(answer, "access")


def test_the_rest_of_the_event_goes_back_as_it_came(handle: Handler) -> None:
    asked = event()
    answer = handle(copy.deepcopy(asked), None)
    assert {**answer, "response": None} == {**asked, "response": None}


@pytest.mark.parametrize("trigger", ["HostedAuth", "Authentication", "NewPasswordChallenge", "RefreshTokens"])
def test_every_way_to_a_users_token_is_answered(handle: Handler, trigger: str) -> None:
    answer = handle({**event(), "triggerSource": f"TokenGeneration_{trigger}"}, None)
    assert claims(answer, "access")["tenant_id"] == "acme"


@pytest.mark.parametrize("trigger", ["", "PostConfirmation_ConfirmSignUp", "tokengeneration_x", None])
def test_another_trigger_is_refused(handle: Handler, trigger: object) -> None:
    with pytest.raises(NoToken):
        handle({**event(), "triggerSource": trigger}, None)


@pytest.mark.parametrize(
    "tenant_id",
    [
        None,
        "",
        "a",
        "ACME",
        "acme ",
        "acme\n",
        "acme#x",
        "acme/*",
        "*",
        ["acme"],
        7,
        "acme2",
        "globex",
    ],
)
def test_a_missing_malformed_or_unknown_tenant_gets_no_token(handle: Handler, tenant_id: object) -> None:
    with pytest.raises(NoToken):
        handle(event(tenant_id), None)


@pytest.mark.parametrize("status", Status)
def test_only_a_tenant_that_is_served_gets_a_token(handle: Handler, session: OnceSession, status: Status) -> None:
    put(session, "status", status)
    if status in (Status.ACTIVE, Status.UPDATING):
        # Whoever looks at the claim wants to know whether the tenant is served.
        assert claims(handle(event(), None), "access")["tenant_status"] == "ACTIVE"
        return
    with pytest.raises(NoToken):
        handle(event(), None)


def test_the_status_is_read_again_for_every_token(handle: Handler, session: OnceSession) -> None:
    handle(event(), None)
    put(session, "status", Status.SUSPENDED)
    with pytest.raises(NoToken):
        handle(event(), None)


@pytest.mark.parametrize(("attribute", "value"), [("tier", "gold"), ("status", "active")])
def test_a_registry_item_that_makes_no_sense_gets_no_token(
    handle: Handler, session: OnceSession, attribute: str, value: str
) -> None:
    put(session, attribute, value)
    with pytest.raises(NoToken):
        handle(event(), None)


def test_status_and_tier_come_from_the_registry_and_not_from_the_user_or_the_client(
    handle: Handler,
) -> None:
    asked = event(clientMetadata={"tenant_id": "globex", "tier": "premium"})
    asked["request"]["userAttributes"] |= {"custom:tier": "premium", "custom:status": "ACTIVE"}
    answer = handle(asked, None)
    assert claims(answer, "access")["tenant_id"] == "acme"
    assert claims(answer, "access")["tier"] == "basic"


def test_a_tenant_that_only_the_client_names_gets_no_token(handle: Handler) -> None:
    asked = event(None, clientMetadata={"tenant_id": "acme", "custom:tenant_id": "acme"})
    with pytest.raises(NoToken):
        handle(asked, None)


@pytest.mark.parametrize(
    "error",
    [
        ClientError({"Error": {"Code": "AccessDeniedException", "Message": "no"}}, "GetItem"),
        EndpointConnectionError(endpoint_url="https://example.invalid"),
    ],
)
def test_when_the_registry_fails_there_is_no_token(
    handle: Handler, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(Registry, "get", fail)
    with pytest.raises(NoToken) as refused:
        handle(event(), None)
    assert refused.value.__suppress_context__


def test_when_the_table_is_gone_there_is_no_token(handle: Handler, session: OnceSession) -> None:
    session.client("dynamodb").delete_table(TableName=TABLE)
    with pytest.raises(NoToken):
        handle(event(), None)


@pytest.mark.parametrize("tenant_id", [None, "globex", "ACME"])
def test_a_refusal_names_no_tenant(handle: Handler, tenant_id: object) -> None:
    with pytest.raises(NoToken) as refused:
        handle(event(tenant_id), None)
    assert "acme" not in str(refused.value).lower()
    assert "globex" not in str(refused.value)
    assert TABLE not in str(refused.value)


def test_groups_of_another_pool_take_the_place_of_the_own(registry: Registry) -> None:
    asked: list[str] = []

    def groups_of(_: object, tenant: TenantRecord) -> list[str]:
        asked.append(tenant.tenant_id)
        return ["tenant-administrators"]

    answer = token_handler(registry, load_tiers(), lambda _: "acme", groups_of)(event(), None)
    details = answer["response"]["claimsAndScopeOverrideDetails"]
    assert details["groupOverrideDetails"] == {"groupsToOverride": ["tenant-administrators"]}
    assert asked == ["acme"]


def test_the_own_groups_stay_where_nobody_else_knows_them(handle: Handler) -> None:
    details = handle(event(), None)["response"]["claimsAndScopeOverrideDetails"]
    assert "groupOverrideDetails" not in details

"""The pre-token function: the tenant's claims in both tokens, or no token at all."""

import copy
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError, EndpointConnectionError
from moto import mock_aws

from saas_agent.control_plane.registry import Registry
from saas_agent.control_plane.states import Status
from saas_agent.errors import ConfigurationError
from saas_agent.functions import pre_token
from saas_agent.functions.pre_token import Handler, NoToken

TABLE = "registry"
TAGS = "https://aws.amazon.com/tags"


class OneClient:
    """A session whose DynamoDB client is made once: that takes longer than most of these tests."""

    def __init__(self) -> None:
        session = boto3.Session("test", "test", region_name="eu-central-1")
        self._client = session.client("dynamodb")

    def client(self, name: str) -> Any:
        assert name == "dynamodb"
        return self._client


@pytest.fixture(scope="module")
def aws() -> OneClient:
    return OneClient()


@pytest.fixture
def session(aws: OneClient) -> Iterator[OneClient]:
    with mock_aws():
        aws.client("dynamodb").create_table(
            TableName=TABLE,
            BillingMode="PAY_PER_REQUEST",
            KeySchema=[
                {"AttributeName": "pk", "KeyType": "HASH"},
                {"AttributeName": "sk", "KeyType": "RANGE"},
            ],
            AttributeDefinitions=[
                {"AttributeName": "pk", "AttributeType": "S"},
                {"AttributeName": "sk", "AttributeType": "S"},
            ],
        )
        yield aws


@pytest.fixture
def registry(session: OneClient) -> Registry:
    registry = Registry(session.client("dynamodb"), TABLE)
    record = registry.create("acme", tier="basic", name="Acme", admin="ann@acme.example")
    registry.move(record, Status.ACTIVE)
    return registry


@pytest.fixture
def handle(session: OneClient, registry: Registry) -> Handler:
    return pre_token.create({"REGISTRY_TABLE": TABLE}, session)


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


@pytest.mark.parametrize("status", [status for status in Status if status is not Status.ACTIVE])
def test_only_an_active_tenant_gets_a_token(handle: Handler, session: OneClient, status: Status) -> None:
    put(session, "status", status)
    with pytest.raises(NoToken):
        handle(event(), None)


def test_the_status_is_read_again_for_every_token(handle: Handler, registry: Registry) -> None:
    handle(event(), None)
    record = registry.get("acme")
    assert record is not None
    registry.move(record, Status.SUSPENDED)
    with pytest.raises(NoToken):
        handle(event(), None)


@pytest.mark.parametrize(("attribute", "value"), [("tier", "gold"), ("status", "active")])
def test_a_registry_item_that_makes_no_sense_gets_no_token(
    handle: Handler, session: OneClient, attribute: str, value: str
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


def test_when_the_table_is_gone_there_is_no_token(handle: Handler, session: OneClient) -> None:
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


def test_it_does_not_start_without_its_table(session: OneClient) -> None:
    with pytest.raises(ConfigurationError, match="REGISTRY_TABLE"):
        pre_token.create({}, session)


def test_lambda_builds_the_handler_from_its_environment_once(
    session: OneClient, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "REGISTRY_TABLE": TABLE,
        "AWS_DEFAULT_REGION": "eu-central-1",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
    }.items():
        monkeypatch.setenv(name, value)
    pre_token._handler.cache_clear()
    answers = [pre_token.handler(event(), None) for _ in range(2)]
    assert pre_token._handler.cache_info().misses == 1
    pre_token._handler.cache_clear()
    assert claims(answers[0], "access")["tenant_id"] == "acme"


def put(session: OneClient, attribute: str, value: str) -> None:
    session.client("dynamodb").update_item(
        TableName=TABLE,
        Key={"pk": {"S": "TENANT#acme"}, "sk": {"S": "TENANT"}},
        UpdateExpression="SET #a = :v",
        ExpressionAttributeNames={"#a": attribute},
        ExpressionAttributeValues={":v": {"S": value}},
    )

"""A tenant's life: safe to repeat, and never ACTIVE before everything is there."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from moto import mock_aws

from saas_agent.control_plane.errors import Conflict, ControlPlaneError
from saas_agent.control_plane.onboarding import Change, Tenants
from saas_agent.control_plane.registry import Registry, TenantRecord
from saas_agent.control_plane.stack import TenantStacks
from saas_agent.control_plane.states import Status
from saas_agent.control_plane.users import ADMINISTRATORS, Users
from saas_agent.tenancy.placement import Placement

ANN = "ann@acme.example"
SHARED = Placement(
    "desk", "eu-central-1", "shared_user_pool", {tier: {"runtime": "shared"} for tier in ("basic", "premium")}
)


@dataclass
class Cloud:
    registry: Registry
    users: Users
    tenants: Tenants
    cognito: Any
    pool_id: str
    client_id: str

    def onboard(self, tenant_id: str = "acme", admin: str = ANN, **answers: Any) -> Change:
        return self.tenants.onboard(tenant_id, **{"tier": "basic", "admin": admin, "invite": False, **answers})

    def status(self, tenant_id: str = "acme") -> Status:
        record = self.registry.get(tenant_id)
        assert record is not None
        return record.status


@pytest.fixture(scope="module")
def clients() -> tuple[Any, Any, Any]:
    """Made once: making a client takes longer than most of these tests."""
    session = boto3.Session("test", "test", region_name="eu-central-1")
    return session.client("dynamodb"), session.client("cognito-idp"), session.client("cloudformation")


@pytest.fixture
def cloud(clients: tuple[Any, Any, Any]) -> Iterator[Cloud]:
    with mock_aws():
        dynamodb, cognito, formation = clients
        dynamodb.create_table(
            TableName="registry",
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
        pool_id = cognito.create_user_pool(
            PoolName="users",
            UsernameAttributes=["email"],
            Schema=[{"Name": "tenant_id", "AttributeDataType": "String", "Mutable": False}],
        )["UserPool"]["Id"]
        cognito.create_group(UserPoolId=pool_id, GroupName=ADMINISTRATORS)
        client_id = cognito.create_user_pool_client(
            UserPoolId=pool_id,
            ClientName="app",
            ExplicitAuthFlows=["ALLOW_USER_PASSWORD_AUTH", "ALLOW_REFRESH_TOKEN_AUTH"],
        )["UserPoolClient"]["ClientId"]
        registry, users = Registry(dynamodb, "registry"), Users(cognito, pool_id)
        stacks = TenantStacks(formation, "desk", "test", "artifacts")
        tenants = Tenants(registry, users, stacks, ("basic", "premium"), SHARED)
        yield Cloud(registry, users, tenants, cognito, pool_id, client_id)


def sign_in(cloud: Cloud, email: str) -> dict[str, str]:
    cloud.users.set_password(email, "Passw0rd!-long-enough")
    user = cloud.users.find(email)
    assert user is not None
    # moto keeps a token under the name that was given, and signs out by user name alone.
    result: dict[str, str] = cloud.cognito.initiate_auth(
        ClientId=cloud.client_id,
        AuthFlow="USER_PASSWORD_AUTH",
        AuthParameters={"USERNAME": user.username, "PASSWORD": "Passw0rd!-long-enough"},
    )["AuthenticationResult"]
    return result


def refresh(cloud: Cloud, tokens: dict[str, str]) -> None:
    cloud.cognito.initiate_auth(
        ClientId=cloud.client_id,
        AuthFlow="REFRESH_TOKEN_AUTH",
        AuthParameters={"REFRESH_TOKEN": tokens["RefreshToken"]},
    )


def test_an_onboarded_tenant_is_active_and_its_administrator_can_sign_in(cloud: Cloud) -> None:
    change = cloud.onboard(name="Acme Inc.")
    assert change.changed
    assert (change.record.status, change.record.name) == (Status.ACTIVE, "Acme Inc.")
    user = cloud.users.find(ANN)
    assert user is not None
    assert user.tenant_id == "acme"
    assert sign_in(cloud, ANN)["AccessToken"]


def test_onboarding_again_with_the_same_answers_changes_nothing(cloud: Cloud) -> None:
    first = cloud.onboard()
    again = cloud.onboard(admin=" Ann@Acme.example ")
    assert not again.changed
    assert again.record == first.record
    assert len(list(cloud.users.of_tenant("acme"))) == 1


def test_onboarding_a_suspended_tenant_again_leaves_it_suspended(cloud: Cloud) -> None:
    cloud.onboard()
    cloud.tenants.suspend("acme")
    assert not cloud.onboard().changed
    assert cloud.status() is Status.SUSPENDED


@pytest.mark.parametrize("answers", [{"tier": "premium"}, {"admin": "bob@acme.example"}, {"name": "Other"}])
def test_onboarding_again_with_other_answers_is_refused(cloud: Cloud, answers: dict[str, str]) -> None:
    first = cloud.onboard()
    with pytest.raises(ControlPlaneError, match="is there already"):
        cloud.onboard(**answers)
    assert cloud.registry.get("acme") == first.record
    assert cloud.users.find("bob@acme.example") is None


@pytest.mark.parametrize(
    ("tenant_id", "answers", "says"),
    [
        ("ACME", {}, "is no tenant id"),
        ("acme#x", {}, "is no tenant id"),
        ("acme", {"tier": "gold"}, "there is no tier 'gold'; expected basic, premium"),
        ("acme", {"admin": "ann"}, "is no e-mail address"),
        ("acme", {"admin": "ann@acme.example\nx"}, "is no e-mail address"),
        ("acme", {"admin": f"{'a' * 128}@acme.example"}, "is no e-mail address"),
        ("acme", {"name": "a\nb"}, "the name is malformed"),
        ("acme", {"name": ""}, "the name is malformed"),
    ],
)
def test_bad_answers_are_refused_in_one_line_and_leave_nothing(
    cloud: Cloud, tenant_id: str, answers: dict[str, str], says: str
) -> None:
    with pytest.raises(ControlPlaneError, match=says) as refused:
        cloud.onboard(tenant_id, **answers)
    assert "\n" not in str(refused.value)
    assert list(cloud.registry.records()) == []
    assert cloud.cognito.list_users(UserPoolId=cloud.pool_id)["Users"] == []


def test_an_administrator_of_another_tenant_is_refused_and_nothing_is_made(cloud: Cloud) -> None:
    cloud.onboard()
    with pytest.raises(ControlPlaneError, match="not of tenant acme2"):
        cloud.onboard("acme2")
    assert cloud.registry.get("acme2") is None
    user = cloud.users.find(ANN)
    assert user is not None
    assert user.tenant_id == "acme"


def test_a_user_of_no_tenant_does_not_become_an_administrator(cloud: Cloud) -> None:
    cloud.cognito.admin_create_user(UserPoolId=cloud.pool_id, Username=ANN)
    with pytest.raises(ControlPlaneError, match="not of tenant acme"):
        cloud.onboard()
    assert cloud.registry.get("acme") is None


def test_a_user_that_appears_elsewhere_meanwhile_fails_the_onboarding(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    cloud.users.ensure_admin("globex", ANN, invite=False)
    monkeypatch.setattr(Users, "require_free", lambda *_: None)
    with pytest.raises(ControlPlaneError, match="not of tenant acme"):
        cloud.onboard()
    assert cloud.status() is Status.FAILED


def test_a_failure_leaves_failed_and_the_same_command_finishes_it(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(Users, "ensure_admin", denied)
        with pytest.raises(ClientError):
            cloud.onboard()
    assert cloud.status() is Status.FAILED
    with pytest.raises(ControlPlaneError, match="is there already"):
        cloud.onboard(tier="premium")
    assert cloud.onboard().changed
    assert cloud.status() is Status.ACTIVE


def test_a_command_that_was_killed_is_finished_by_the_same_command(cloud: Cloud) -> None:
    cloud.registry.create("acme", tier="basic", name="acme", admin=ANN, placement={})
    assert cloud.onboard().changed
    assert cloud.status() is Status.ACTIVE


def test_a_command_that_was_killed_after_the_user_was_made_is_finished(cloud: Cloud) -> None:
    cloud.registry.create("acme", tier="basic", name="acme", admin=ANN, placement={})
    cloud.users.ensure_admin("acme", ANN, invite=False)
    assert cloud.onboard().record.status is Status.ACTIVE
    assert len(list(cloud.users.of_tenant("acme"))) == 1


def test_the_tenant_is_not_active_while_its_administrator_is_made(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Status] = []
    make = Users.ensure_admin

    def watch(users: Users, tenant_id: str, email: str, *, invite: bool) -> Any:
        seen.append(cloud.status())
        return make(users, tenant_id, email, invite=invite)

    monkeypatch.setattr(Users, "ensure_admin", watch)
    cloud.onboard()
    assert seen == [Status.PROVISIONING]


def test_two_operators_who_onboard_the_same_tenant_at_once_both_succeed(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = Registry.create

    def second_is_faster(registry: Registry, tenant_id: str, **answers: Any) -> TenantRecord:
        monkeypatch.setattr(Registry, "create", begin)
        cloud.onboard()
        return begin(registry, tenant_id, **answers)

    monkeypatch.setattr(Registry, "create", second_is_faster)
    assert cloud.onboard().record.status is Status.ACTIVE
    assert len(list(cloud.users.of_tenant("acme"))) == 1


def test_two_operators_with_different_answers_do_not_mix(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    begin = Registry.create

    def second_is_faster(registry: Registry, tenant_id: str, **answers: Any) -> TenantRecord:
        monkeypatch.setattr(Registry, "create", begin)
        cloud.onboard(tier="premium", admin="bob@acme.example")
        return begin(registry, tenant_id, **answers)

    monkeypatch.setattr(Registry, "create", second_is_faster)
    with pytest.raises(ControlPlaneError, match="is there already"):
        cloud.onboard()
    assert [user.email for user in cloud.users.of_tenant("acme")] == ["bob@acme.example"]


def test_an_activation_that_someone_else_made_counts(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    make = Users.ensure_admin

    def second_finishes_first(users: Users, *arguments: Any, **options: Any) -> Any:
        monkeypatch.setattr(Users, "ensure_admin", make)
        cloud.onboard()
        return make(users, *arguments, **options)

    monkeypatch.setattr(Users, "ensure_admin", second_finishes_first)
    assert cloud.onboard().record.status is Status.ACTIVE


def test_suspending_stops_the_tenant_before_it_signs_anyone_out(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    cloud.onboard()
    seen: list[Status] = []
    monkeypatch.setattr(Users, "sign_out", lambda *_: seen.append(cloud.status()))
    cloud.tenants.suspend("acme")
    assert seen == [Status.SUSPENDED]


def test_suspending_revokes_the_tokens_of_this_tenants_users_alone(cloud: Cloud) -> None:
    cloud.onboard()
    cloud.onboard("acme2", "bob@acme2.example")
    tokens = {email: sign_in(cloud, email) for email in (ANN, "bob@acme2.example")}
    change = cloud.tenants.suspend("acme")
    assert change.changed
    assert change.record.status is Status.SUSPENDED
    with pytest.raises(ClientError):
        refresh(cloud, tokens[ANN])
    refresh(cloud, tokens["bob@acme2.example"])
    assert cloud.status("acme2") is Status.ACTIVE


def test_suspending_again_changes_nothing_but_finishes_the_signing_out(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    cloud.onboard()
    tokens = sign_in(cloud, ANN)
    with monkeypatch.context() as broken:
        broken.setattr(Users, "sign_out", denied)
        with pytest.raises(ClientError):
            cloud.tenants.suspend("acme")
    assert cloud.status() is Status.SUSPENDED
    assert not cloud.tenants.suspend("acme").changed
    with pytest.raises(ClientError):
        refresh(cloud, tokens)


def test_users_are_found_over_all_pages(cloud: Cloud) -> None:
    for number in range(130):
        cloud.users.ensure_admin(f"t{number % 2}-x", f"u{number}@x.example", invite=False)
    assert len(list(cloud.users.of_tenant("t0-x"))) == 65
    assert cloud.users.sign_out("t1-x") == 65


def test_a_resumed_tenant_is_active_and_resuming_again_changes_nothing(cloud: Cloud) -> None:
    cloud.onboard()
    cloud.tenants.suspend("acme")
    assert cloud.tenants.resume("acme").changed
    again = cloud.tenants.resume("acme")
    assert not again.changed
    assert again.record.status is Status.ACTIVE


@pytest.mark.parametrize("operation", ["suspend", "resume", "show"])
def test_an_unknown_tenant_is_refused(cloud: Cloud, operation: str) -> None:
    with pytest.raises(ControlPlaneError, match="there is no tenant acme"):
        getattr(cloud.tenants, operation)("acme")


@pytest.mark.parametrize("operation", ["suspend", "resume"])
@pytest.mark.parametrize("failed", [True, False])
def test_a_tenant_that_is_not_complete_is_neither_suspended_nor_resumed(
    cloud: Cloud, operation: str, failed: bool
) -> None:
    record = cloud.registry.create("acme", tier="basic", name="acme", admin=ANN, placement={})
    if failed:
        record = cloud.registry.move(record, Status.FAILED)
    with pytest.raises(ControlPlaneError, match=record.status):
        getattr(cloud.tenants, operation)("acme")
    assert cloud.status() is record.status


def test_a_change_by_someone_else_in_between_is_a_conflict(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    stale = cloud.onboard().record
    cloud.tenants.suspend("acme")
    cloud.tenants.resume("acme")
    monkeypatch.setattr(Registry, "get", lambda *_: stale)
    with pytest.raises(Conflict):
        cloud.tenants.suspend("acme")


@pytest.mark.parametrize("invite", [True, False])
def test_an_invitation_is_mailed_only_when_asked_for(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch, invite: bool
) -> None:
    asked: list[dict[str, Any]] = []
    create = cloud.cognito.admin_create_user

    def watch(**parameters: Any) -> Any:
        asked.append(parameters)
        return create(**parameters)

    monkeypatch.setattr(cloud.cognito, "admin_create_user", watch)
    cloud.onboard(invite=invite)
    (parameters,) = asked
    assert (parameters.get("MessageAction") == "SUPPRESS") is not invite
    assert parameters.get("DesiredDeliveryMediums") == (["EMAIL"] if invite else None)
    assert {"Name": "custom:tenant_id", "Value": "acme"} in parameters["UserAttributes"]


def denied(*_: Any, **__: Any) -> None:
    raise ClientError({"Error": {"Code": "AccessDeniedException", "Message": "no"}}, "AdminX")

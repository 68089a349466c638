"""The hub's pre-token function takes the tenant from the provider that the user came from, and from nothing else."""

import json
from typing import Any

import pytest
from botocore.exceptions import ClientError

from saas_agent.control_plane.registry import Registry
from saas_agent.control_plane.states import Status
from saas_agent.control_plane.users import ADMINISTRATORS, Users
from saas_agent.errors import ConfigurationError
from saas_agent.functions import pre_token_hub
from saas_agent.functions.pre_token import Handler, NoToken
from saas_agent.tenancy.placement import Placement, load_placement
from tests.unit.conftest import TABLE, OnceSession, UserPool, put
from tests.unit.registry_tables import onboard

ANN = "ann@acme.example"


class Pool(UserPool):
    """The tenant's own pool, with one user, who administers it."""

    def __init__(self, session: OnceSession, tenant_id: str, email: str) -> None:
        super().__init__(session, tenant_id)
        self.subject = self.add(tenant_id, email, administrator=True).username
        put(session, "resources", {"M": {"UserPoolId": {"S": self.id}}}, tenant_id)


@pytest.fixture
def pool(session: OnceSession, registry: Registry) -> Pool:
    return Pool(session, "acme", ANN)


@pytest.fixture
def handle(session: OnceSession, pool: Pool) -> Handler:
    return pre_token_hub.create({"REGISTRY_TABLE": TABLE}, session)


def identity(subject: str, **changed: Any) -> dict[str, Any]:
    """An identity as Cognito writes it into the attribute."""
    return {
        "userId": subject,
        "providerName": "acme",
        "providerType": "OIDC",
        "issuer": None,
        "primary": True,
        "dateCreated": 1764000000000,
        **changed,
    }


def event(pool: Pool, identities: object = None, **changed: Any) -> dict[str, Any]:
    """Cognito's event of a sign-in at the hub. `identities`: what stands in the attribute, instead of Ann's one."""
    written = [identity(pool.subject)] if identities is None else identities
    attributes = {
        "sub": "hub-subject",
        "email": ANN,
        "email_verified": "false",
        "cognito:user_status": "EXTERNAL_PROVIDER",
        "identities": written if isinstance(written, str) else json.dumps(written),
        **changed.pop("attributes", {}),
    }
    return {
        "version": "2",
        "triggerSource": "TokenGeneration_HostedAuth",
        "userPoolId": "eu-central-1_hub",
        "userName": f"acme_{pool.subject}",
        "callerContext": {"clientId": "client-1"},
        "request": {
            "userAttributes": {name: value for name, value in attributes.items() if value is not None},
            "groupConfiguration": {"groupsToOverride": ["eu-central-1_hub_acme"]},
            "scopes": ["openid"],
        },
        "response": {"claimsAndScopeOverrideDetails": None},
        **changed,
    }


def details(answer: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = answer["response"]["claimsAndScopeOverrideDetails"]
    return found


def test_the_tenant_is_the_provider_and_the_groups_are_the_tenants(handle: Handler, pool: Pool) -> None:
    answer = details(handle(event(pool), None))
    assert answer["accessTokenGeneration"]["claimsToAddOrOverride"]["tenant_id"] == "acme"
    assert answer["groupOverrideDetails"] == {"groupsToOverride": [ADMINISTRATORS]}


@pytest.mark.parametrize("name", ["custom:tenant_id", "tenant_id", "custom:tenant", "name", "email"])
def test_no_attribute_names_the_tenant(handle: Handler, pool: Pool, name: str, session: OnceSession) -> None:
    onboard(session.client("dynamodb"), "globex")
    answer = details(handle(event(pool, attributes={name: "globex"}), None))
    assert answer["accessTokenGeneration"]["claimsToAddOrOverride"]["tenant_id"] == "acme"


@pytest.mark.parametrize(
    "written",
    [
        "",
        "null",
        "{}",
        "[]",
        "[[]]",
        '["acme"]',
        "acme",
        "[{}]",
        '[{"providerName": "acme"}]',
        '[{"userId": "x"}]',
        '{"providerName": "acme", "userId": "x"}',
        "[1]",
        "7",
    ],
)
def test_malformed_identities_are_nobodys(handle: Handler, pool: Pool, written: str) -> None:
    with pytest.raises(NoToken):
        handle(event(pool, written), None)


@pytest.mark.parametrize(
    "changed",
    [
        {"providerName": "globex"},
        {"providerName": "acme2"},
        {"providerName": "ACME"},
        {"providerName": ["acme"]},
        {"providerName": None},
        {"providerName": "never-onboarded"},
        {"providerType": "SAML"},
        {"providerType": None},
        {"primary": False},
        {"primary": None},
        {"userId": "another"},
        {"userId": ""},
        {"userId": None},
        {"userId": "a@b"},
    ],
)
def test_an_identity_that_is_not_as_cognito_writes_it_is_nobodys(
    handle: Handler, pool: Pool, session: OnceSession, changed: dict[str, Any]
) -> None:
    for tenant in ("globex", "acme2"):
        onboard(session.client("dynamodb"), tenant)
    with pytest.raises(NoToken):
        handle(event(pool, [identity(pool.subject, **changed)]), None)


def test_a_linked_user_is_nobodys(handle: Handler, pool: Pool) -> None:
    own, other = identity(pool.subject), identity("other", providerName="globex", primary=False)
    for both in ([own, other], [other, own], [own, own]):
        with pytest.raises(NoToken):
            handle(event(pool, both), None)


def test_a_user_linked_to_another_name_is_nobodys(handle: Handler, pool: Pool) -> None:
    # One identity is left, and the profile is still the one that it was linked to.
    for name in ("globex_someone", "native", pool.subject, f"acme2_{pool.subject}", None):
        with pytest.raises(NoToken):
            handle(event(pool, userName=name), None)


@pytest.mark.parametrize("status", ["CONFIRMED", "FORCE_CHANGE_PASSWORD", "external_provider", "", None])
def test_a_user_of_the_hub_itself_is_nobodys(handle: Handler, pool: Pool, status: str | None) -> None:
    with pytest.raises(NoToken):
        handle(event(pool, attributes={"cognito:user_status": status}), None)
    with pytest.raises(NoToken):
        handle(event(pool, attributes={"cognito:user_status": status, "identities": None}), None)


def test_without_identities_there_is_no_token(handle: Handler, pool: Pool) -> None:
    with pytest.raises(NoToken):
        handle(event(pool, attributes={"identities": None, "custom:tenant_id": "acme"}), None)


# --- The user in the tenant's own pool ------------------------------------------------------------


def test_who_left_the_tenants_pool_gets_no_new_token(handle: Handler, pool: Pool) -> None:
    refresh = {"triggerSource": "TokenGeneration_RefreshTokens"}
    handle(event(pool, **refresh), None)
    pool.users.remove("acme", pool.subject)
    with pytest.raises(NoToken):
        handle(event(pool, **refresh), None)


def test_who_is_disabled_there_gets_no_token(handle: Handler, pool: Pool) -> None:
    pool.cognito.admin_disable_user(UserPoolId=pool.id, Username=pool.subject)
    with pytest.raises(NoToken):
        handle(event(pool), None)


def test_who_lost_the_group_there_is_no_administrator_here(handle: Handler, pool: Pool) -> None:
    pool.cognito.admin_remove_user_from_group(UserPoolId=pool.id, Username=pool.subject, GroupName=ADMINISTRATORS)
    assert details(handle(event(pool), None))["groupOverrideDetails"] == {"groupsToOverride": []}


def test_a_pool_with_another_tenants_users_is_not_the_tenants(
    handle: Handler, pool: Pool, session: OnceSession
) -> None:
    onboard(session.client("dynamodb"), "globex")
    other = Pool(session, "globex", "bob@globex.example")
    # The registry's item of acme leads to globex's pool, and the user is Bob.
    put(session, "resources", {"M": {"UserPoolId": {"S": other.id}}})
    asked = event(pool, [identity(other.subject)], userName=f"acme_{other.subject}")
    with pytest.raises(NoToken):
        handle(asked, None)


def test_without_a_pool_of_its_own_a_tenant_gets_no_token(handle: Handler, pool: Pool, session: OnceSession) -> None:
    put(session, "resources", {"M": {}})
    with pytest.raises(NoToken):
        handle(event(pool), None)


def test_when_the_tenants_pool_fails_there_is_no_token(
    handle: Handler, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ClientError({"Error": {"Code": "AccessDeniedException", "Message": "no"}}, "AdminGetUser")

    monkeypatch.setattr(Users, "find", fail)
    with pytest.raises(NoToken):
        handle(event(pool), None)


def test_a_tenant_with_a_runtime_of_its_own_gets_no_token_of_the_hub(
    session: OnceSession, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = {tier: {**row, "runtime": "dedicated"} for tier, row in load_placement().table.items()}
    moved = Placement(**{**vars(load_placement()), "table": table})
    monkeypatch.setattr(pre_token_hub, "load_placement", lambda: moved)
    with pytest.raises(NoToken):
        pre_token_hub.create({"REGISTRY_TABLE": TABLE}, session)(event(pool), None)


def test_a_suspended_tenant_gets_no_token(handle: Handler, pool: Pool, session: OnceSession) -> None:
    put(session, "status", Status.SUSPENDED)
    with pytest.raises(NoToken):
        handle(event(pool), None)


def test_it_does_not_start_without_its_table(session: OnceSession) -> None:
    with pytest.raises(ConfigurationError, match="REGISTRY_TABLE"):
        pre_token_hub.create({}, session)

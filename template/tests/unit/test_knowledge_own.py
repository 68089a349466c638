"""The knowledge function with a pool per tenant: whose token it takes, and whose passages it asks for."""

from collections.abc import Mapping
from typing import Any

import pytest

from saas_agent.control_plane.registry import Registry
from saas_agent.errors import ConfigurationError
from saas_agent.functions import knowledge_own
from saas_agent.functions.knowledge import NotAnswered
from tests.unit.conftest import TABLE, OnceSession, put
from tests.unit.registry_tables import onboard
from tests.unit.test_knowledge_function import ENVIRON as OF_SHARED_POOL
from tests.unit.test_knowledge_function import SEARCH, Bedrock
from tests.unit.tokens import CLIENT, ISSUER, claims, jwks, signed

OWN = {"iss": f"{ISSUER}own", "aud": "own-client", "client_id": "own-client"}
HUB = {"iss": ISSUER, "aud": CLIENT, "client_id": CLIENT}
ENVIRON = {**OF_SHARED_POOL, "REGISTRY_TABLE": TABLE}


class Session:
    """Bedrock's clients, and moto's for the registry."""

    def __init__(self, session: OnceSession) -> None:
        self.bedrock = Bedrock()
        self._session = session

    def client(self, name: str) -> Any:
        return self._session.client(name) if name == "dynamodb" else self.bedrock


@pytest.fixture
def place(session: OnceSession, registry: Registry) -> Session:
    """acme, whose runtime trusts the hub, and globex, whose own trusts its own pool."""
    onboard(session.client("dynamodb"), "globex", "premium")
    own = {"Issuer": {"S": OWN["iss"]}, "ClientId": {"S": OWN["aud"]}}
    put(session, "resources", {"M": {"UserPoolId": {"S": "hub-acme"}}})
    put(session, "resources", {"M": {"UserPoolId": {"S": "own-globex"}, **own}}, "globex")
    return Session(session)


def ask(
    place: Session, tenant: str | None, pool: Mapping[str, str], environ: Mapping[str, str] = ENVIRON
) -> dict[str, Any]:
    handler = knowledge_own.create(environ, place, lambda _: jwks())
    return handler({**SEARCH, "token": signed(claims(tenant_id=tenant, **pool))}, None)


@pytest.mark.parametrize(("tenant", "pool"), [("acme", HUB), ("globex", OWN)])
def test_a_search_is_filtered_by_the_tenant_whose_issuer_made_the_token(
    place: Session, tenant: str, pool: dict[str, str]
) -> None:
    assert ask(place, tenant, pool)["tenant_id"] == tenant
    [(_, asked)] = place.bedrock.asked
    assert asked["retrievalConfiguration"]["vectorSearchConfiguration"]["filter"] == {
        "equals": {"key": "tenant_id", "value": tenant}
    }


@pytest.mark.parametrize(
    ("tenant", "pool"),
    [
        # A pool can sign whatever its owner has it sign: it is believed for its own tenant alone.
        ("acme", OWN),
        ("globex", HUB),
        ("unknown", OWN),
        ("*", OWN),
        (None, OWN),
        ("globex", {**OWN, "aud": CLIENT, "client_id": CLIENT}),
        ("globex", {**OWN, "iss": "https://evil.example"}),
    ],
)
def test_a_token_of_any_other_issuer_is_refused_before_bedrock_is_asked(
    place: Session, tenant: str | None, pool: dict[str, str]
) -> None:
    with pytest.raises(NotAnswered, match="^invalid_token$"):
        ask(place, tenant, pool)
    assert place.bedrock.asked == []


def test_without_a_hub_only_a_tenants_own_pool_is_trusted(place: Session) -> None:
    environ = {name: value for name, value in ENVIRON.items() if name not in ("ISSUER", "CLIENT_ID")}
    assert ask(place, "globex", OWN, environ)["tenant_id"] == "globex"
    with pytest.raises(NotAnswered, match="^invalid_token$"):
        ask(place, "acme", HUB, environ)


@pytest.mark.parametrize("missing", sorted(ENVIRON))
def test_it_does_not_start_without_its_settings(place: Session, missing: str) -> None:
    environ = {name: value for name, value in ENVIRON.items() if name != missing}
    with pytest.raises(ConfigurationError, match=missing):
        ask(place, "globex", OWN, environ)

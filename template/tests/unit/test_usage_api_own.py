"""The usage function with a pool per tenant: whose token it takes, and in whose session it reads."""

import json
from collections.abc import Mapping

import pytest

from saas_agent.control_plane.registry import Registry
from saas_agent.errors import ConfigurationError
from saas_agent.functions import usage_api_own
from saas_agent.metering.ledger import LedgerReader, Total
from saas_agent.tenancy.access import TenantSession
from tests.unit.conftest import OnceSession, put
from tests.unit.registry_tables import onboard
from tests.unit.test_usage_api import ENVIRON, Session
from tests.unit.tokens import CLIENT, ISSUER, claims, jwks, signed

OWN = {"iss": f"{ISSUER}own", "aud": "own-client", "client_id": "own-client"}
HUB = {"iss": ISSUER, "aud": CLIENT, "client_id": CLIENT}


class Place(Session):
    """STS's stand-in, and moto for the registry, with which pool a token is of."""

    def __init__(self, session: OnceSession) -> None:
        super().__init__()
        self._session = session

    def client(self, name: str) -> "Session":
        found: Session = self._session.client(name) if name == "dynamodb" else super().client(name)
        return found


@pytest.fixture
def place(session: OnceSession, registry: Registry, monkeypatch: pytest.MonkeyPatch) -> Place:
    """acme, whose runtime trusts the hub, and globex, whose own trusts its own pool."""
    dynamodb = session.client("dynamodb")
    onboard(dynamodb, "globex", "premium")
    own = {"Issuer": {"S": OWN["iss"]}, "ClientId": {"S": OWN["aud"]}}
    put(session, "resources", {"M": {"UserPoolId": {"S": "hub-acme"}}})
    put(session, "resources", {"M": {"UserPoolId": {"S": "own-globex"}, **own}}, "globex")
    monkeypatch.setattr(TenantSession, "client", lambda *_: dynamodb)
    monkeypatch.setattr(LedgerReader, "totals", lambda *_: (Total(1), Total(2)))
    return Place(session)


def ask(place: Place, tenant: str | None, pool: Mapping[str, str], environ: Mapping[str, str] = ENVIRON) -> int:
    """The status of the answer."""
    handler = usage_api_own.create(environ, place, lambda _: jwks())
    headers = {"authorization": f"Bearer {signed(claims(tenant_id=tenant, **pool))}"}
    answer = handler({"httpMethod": "GET", "resource": "/usage", "headers": headers}, None)
    assert json.loads(answer["body"])
    return int(answer["statusCode"])


@pytest.mark.parametrize(("tenant", "pool"), [("acme", HUB), ("globex", OWN)])
def test_usage_is_read_for_the_tenant_whose_issuer_made_the_token(
    place: Place, tenant: str, pool: dict[str, str]
) -> None:
    assert ask(place, tenant, pool) == 200
    assert [asked["Tags"] for asked in place.asked] == [[{"Key": "TenantId", "Value": tenant}]]


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
def test_a_token_of_any_other_issuer_opens_no_session(place: Place, tenant: str | None, pool: dict[str, str]) -> None:
    assert ask(place, tenant, pool) == 401
    assert place.asked == []


def test_where_there_is_no_hub_nobody_is_believed_but_tenants_own_pools(place: Place) -> None:
    environ = {name: value for name, value in ENVIRON.items() if name not in ("ISSUER", "CLIENT_ID")}
    assert ask(place, "globex", OWN, environ) == 200
    assert ask(place, "acme", HUB, environ) == 401


@pytest.mark.parametrize("name", ENVIRON)
def test_it_does_not_start_half_configured(place: Place, name: str) -> None:
    with pytest.raises(ConfigurationError, match=name):
        usage_api_own.create({key: value for key, value in ENVIRON.items() if key != name}, place, lambda _: jwks())

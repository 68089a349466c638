"""What a tenant's users are told of its usage: whose token is taken, what is asked, and in which session it is read."""

import json
import logging
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any

import pytest
from botocore.exceptions import ClientError

from saas_agent.control_plane.registry import Registry
from saas_agent.errors import ConfigurationError
from saas_agent.functions import usage_api
from saas_agent.metering.ledger import LedgerReader, Row, Total
from saas_agent.metering.rates import Tokens
from saas_agent.tenancy.access import TenantSession
from saas_agent.tenancy.tiers import load_tiers
from tests.unit.conftest import TABLE, OnceSession, put
from tests.unit.tokens import CLIENT, ISSUER, claims, jwks, signed

ROLE = "arn:aws:iam::111122223333:role/usage"
ENVIRON = {
    "ISSUER": ISSUER,
    "CLIENT_ID": CLIENT,
    "REGISTRY_TABLE": TABLE,
    "LEDGER_TABLE": "ledger",
    "READING_ROLE_ARN": ROLE,
    "AWS_REGION": "eu-central-1",
}
NOVEMBER = date(2026, 11, 24)
NO_MONTHS = ["", "2026", "2026-13", "2026-1", "2026-11-01", "2026-11&tenant_id=globex", "../2026-11", "\u0662026-11"]


class Session:
    """Gives a stand-in for STS, which keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []

    def client(self, name: str) -> "Session":
        assert name == "sts"
        return self

    def assume_role(self, **asked: Any) -> dict[str, Any]:
        self.asked.append(asked)
        until = datetime(2099, 1, 1, tzinfo=UTC)
        return {"Credentials": {"AccessKeyId": "a", "SecretAccessKey": "b", "SessionToken": "c", "Expiration": until}}


class Desk:
    """The function, and what it asked of STS and of the ledger."""

    def __init__(self) -> None:
        self.session = Session()
        self.read: list[tuple[str, object]] = []
        self.handle = usage_api.create(ENVIRON, self.session, lambda _: jwks())

    def get(self, path: str = "/usage", *, token: str | None = None, **event: Any) -> tuple[int, Any]:
        """The answer to GET, with acme's token unless another is given."""
        headers = {"authorization": f"Bearer {signed(claims()) if token is None else token}"}
        answer = self.handle({"httpMethod": "GET", "resource": path, "headers": headers, **event}, None)
        assert answer["headers"]["Cache-Control"] == "no-store"
        return answer["statusCode"], json.loads(answer["body"])


@pytest.fixture
def desk(session: OnceSession, registry: Registry, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    """With acme of tier basic, which used 10 tokens today and 30 this month."""
    desk = Desk()
    dynamodb = session.client("dynamodb")
    monkeypatch.setattr(TenantSession, "client", lambda *_: dynamodb)

    def totals(_: LedgerReader, tenant_id: str, day: date) -> tuple[Total, Total]:
        desk.read.append((tenant_id, day))
        return Total(10), Total(30)

    def rows(_: LedgerReader, month: str, tenant_id: str) -> Iterator[Row]:
        desk.read.append((tenant_id, month))
        counted = Row(tenant_id, NOVEMBER, "basic", "conversation", "model_call", "n", 3, tokens=Tokens(1, 2, 3, 4))
        yield replace(counted, day=date(2026, 11, 2), kind="invocation", calls=2, tokens=Tokens())
        yield counted
        yield replace(counted, kind="tool_call", calls=5, tokens=Tokens())
        yield replace(counted, kind="memory_operation", calls=7, tokens=Tokens())

    monkeypatch.setattr(LedgerReader, "totals", totals)
    monkeypatch.setattr(LedgerReader, "rows", rows)
    yield desk


def test_a_tenant_is_told_what_it_used_and_what_is_left(desk: Desk) -> None:
    status, told = desk.get()
    tier = load_tiers()["basic"]
    assert (status, told["tier"]) == (200, "basic")
    assert (told["day"]["tokens"], told["day"]["used"]) == (tier.tokens_per_day, 10)
    assert told["month"]["left"] == tier.tokens_per_month - 30
    [(tenant_id, _)] = desk.read
    assert tenant_id == "acme"


def test_it_is_read_in_a_session_of_the_tokens_tenant(desk: Desk) -> None:
    desk.get()
    [asked] = desk.session.asked
    assert (asked["RoleArn"], asked["Tags"]) == (ROLE, [{"Key": "TenantId", "Value": "acme"}])


def test_more_than_the_budget_leaves_nothing(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LedgerReader, "totals", lambda *_: (Total(10**12), Total(10**12)))
    assert desk.get()[1]["month"]["left"] == 0


def test_days_are_summed_by_what_was_called(desk: Desk, session: OnceSession) -> None:
    put(session, "tier", "standard")
    status, told = desk.get("/usage/days", multiValueQueryStringParameters={"month": ["2026-11"]})
    assert (status, told["month"]) == (200, "2026-11")
    assert told["days"] == [
        {"date": "2026-11-02", "tokens": 0, "requests": 2, "model_calls": 0, "tool_calls": 0},
        {"date": "2026-11-24", "tokens": 10, "requests": 0, "model_calls": 3, "tool_calls": 5},
    ]


def test_the_registrys_tier_decides_whatever_the_token_says(desk: Desk, session: OnceSession) -> None:
    status, told = desk.get("/usage/days", token=signed(claims(tier="premium")))
    assert (status, told["error"]["code"], desk.read) == (403, "tool_not_in_tier", [])
    put(session, "tier", "premium")
    assert desk.get("/usage/days")[0] == 200


@pytest.mark.parametrize("status", ["SUSPENDED", "OFFBOARDING", "PROVISIONING", "FAILED"])
def test_a_tenant_that_is_not_served_is_told_nothing(desk: Desk, session: OnceSession, status: str) -> None:
    put(session, "status", status)
    assert (desk.get()[0], desk.read) == (403, [])


@pytest.mark.parametrize(
    ("changed", "status"),
    [
        ({"exp": 1}, 401),
        ({"iss": f"{ISSUER}x"}, 401),
        ({"client_id": "another"}, 401),
        ({"aud": "another"}, 401),
        ({"token_use": "id"}, 401),
        ({"tenant_id": None}, 403),
        ({"tenant_id": "*"}, 403),
        ({"tenant_status": "SUSPENDED"}, 403),
    ],
)
def test_another_token_opens_no_session(desk: Desk, changed: dict[str, Any], status: int) -> None:
    assert desk.get(token=signed(claims(**changed)))[0] == status
    assert (desk.session.asked, desk.read) == ([], [])


def test_a_tenant_that_there_is_not_is_told_nothing(desk: Desk) -> None:
    assert (desk.get(token=signed(claims(tenant_id="globex")))[0], desk.read) == (403, [])


@pytest.mark.parametrize(
    "event",
    [
        {"multiValueQueryStringParameters": {"tenant_id": ["globex"]}},
        {"multiValueQueryStringParameters": {"month": ["2026-11"]}},
        {"body": '{"tenant_id": "globex"}'},
        {"httpMethod": "POST"},
        {"resource": "/usage/{tenant_id}"},
        {"resource": "/usage/days", "multiValueQueryStringParameters": {"month": ["2026-11", "2026-10"]}},
        {"resource": "/usage/days", "multiValueQueryStringParameters": {"month": ["2026-11"], "tenant": ["globex"]}},
        *({"resource": "/usage/days", "multiValueQueryStringParameters": {"month": [month]}} for month in NO_MONTHS),
    ],
)
def test_what_an_operation_does_not_have_is_refused(desk: Desk, session: OnceSession, event: dict[str, Any]) -> None:
    put(session, "tier", "premium")
    assert desk.get(**event)[0] == 400
    assert (desk.session.asked, desk.read) == ([], [])


def test_what_fails_is_told_to_nobody_in_its_own_words(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def denied(**_: Any) -> None:
        raise ClientError({"Error": {"Code": "AccessDenied", "Message": "words"}}, "AssumeRole")

    monkeypatch.setattr(desk.session, "assume_role", denied)
    token = signed(claims())
    with caplog.at_level(logging.DEBUG):
        status, told = desk.get(token=token)
    assert (status, told["error"]["code"]) == (500, "internal")
    assert "AccessDenied" in caplog.text and "words" not in caplog.text and token not in caplog.text


@pytest.mark.parametrize("name", ENVIRON)
def test_it_does_not_start_half_configured(name: str) -> None:
    with pytest.raises(ConfigurationError, match=name):
        usage_api.create({key: value for key, value in ENVIRON.items() if key != name}, Session(), lambda _: jwks())

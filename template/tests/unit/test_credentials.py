import threading
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from saas_agent.errors import Refused
from saas_agent.tenancy.access import TemporaryCredentials
from saas_agent.tenancy.credentials import TenantCredentials
from saas_agent.tenancy.tenant import TenantContext
from saas_agent.tenancy.token import VerifiedToken


def a_token(tenant: str, raw: str, expires_at: int = 5000) -> VerifiedToken:
    return VerifiedToken(TenantContext(tenant, "basic", f"user-of-{tenant}", expires_at), raw)


class Exchange:
    def __init__(self, lasts_until: float = 4000.0) -> None:
        self.lasts_until = lasts_until
        self.calls: list[str] = []

    def __call__(self, token: VerifiedToken) -> TemporaryCredentials:
        self.calls.append(token.raw)
        until = datetime.fromtimestamp(self.lasts_until, UTC)
        return TemporaryCredentials(f"AKID{token.tenant.tenant_id}", "secret-key", "session-token", until)


def access_key(credentials: TenantCredentials, exchange: Exchange, token: VerifiedToken) -> str:
    key: str = credentials.access(exchange, token).session.get_credentials().access_key
    return key


def test_one_exchange_a_token_and_never_shared_between_tenants() -> None:
    exchange = Exchange()
    credentials = TenantCredentials("us-east-1", clock=lambda: 0.0)
    acme, globex = a_token("acme", "t1"), a_token("globex", "t2")
    for _ in range(3):
        assert access_key(credentials, exchange, acme) == "AKIDacme"
        assert access_key(credentials, exchange, globex) == "AKIDglobex"
    assert exchange.calls == ["t1", "t2"]


def test_credentials_are_renewed_before_they_expire() -> None:
    now, exchange = [0.0], Exchange(lasts_until=900.0)
    credentials = TenantCredentials("us-east-1", clock=lambda: now[0])
    credentials.access(exchange, a_token("acme", "t"))
    now[0] = 839.0
    credentials.access(exchange, a_token("acme", "t"))
    assert len(exchange.calls) == 1
    now[0] = 841.0
    credentials.access(exchange, a_token("acme", "t"))
    assert len(exchange.calls) == 2


def test_nothing_outlives_the_token() -> None:
    now, exchange = [0.0], Exchange(lasts_until=90_000.0)
    credentials = TenantCredentials("us-east-1", clock=lambda: now[0])
    token = a_token("acme", "t", expires_at=100)
    credentials.access(exchange, token)
    now[0] = 100.0
    with pytest.raises(Refused) as caught:
        credentials.access(exchange, token)
    assert caught.value.reason.code == "token_expired"


def test_credentials_go_with_the_id_token_that_they_were_given_for() -> None:
    exchange = Exchange()
    credentials = TenantCredentials("us-east-1", clock=lambda: 0.0)
    for id_token in ("i1", "i2", "i2"):
        assert credentials.access(exchange, replace(a_token("acme", "t"), id_token=id_token)).id_token == id_token
    assert exchange.calls == ["t", "t"]


def test_the_cache_is_bounded_and_forgets_the_oldest() -> None:
    exchange = Exchange()
    credentials = TenantCredentials("us-east-1", capacity=2, clock=lambda: 0.0)
    for raw in ("t1", "t2", "t3", "t3", "t1"):
        credentials.access(exchange, a_token("acme", raw))
    assert exchange.calls == ["t1", "t2", "t3", "t1"]


def test_a_denied_exchange_leaves_nothing_behind() -> None:
    def denied(_: VerifiedToken) -> TemporaryCredentials:
        from saas_agent.errors import DENIED

        raise Refused(DENIED)

    credentials = TenantCredentials("us-east-1", clock=lambda: 0.0)
    for _ in range(2):
        with pytest.raises(Refused):
            credentials.access(denied, a_token("acme", "t"))


def test_many_threads_get_their_own_tenant() -> None:
    credentials, exchange = TenantCredentials("us-east-1", clock=lambda: 0.0), Exchange()
    wrong: list[str] = []

    def work(tenant: str) -> None:
        for number in range(20):
            if access_key(credentials, exchange, a_token(tenant, f"{tenant}-{number}")) != f"AKID{tenant}":
                wrong.append(tenant)

    threads = [threading.Thread(target=work, args=(f"tenant{n}",)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_no_secret_shows() -> None:
    access = TenantCredentials("us-east-1", clock=lambda: 0.0).access(Exchange(), a_token("acme", "raw-token"))
    shown = f"{access!r} {access}"
    assert not any(secret in shown for secret in ("secret-key", "session-token", "raw-token", "AKIDacme"))


def test_a_session_makes_one_client_a_service() -> None:
    access = TenantCredentials("us-east-1", clock=lambda: 0.0).access(Exchange(), a_token("acme", "t"))
    assert access.client("dynamodb") is access.client("dynamodb")
    assert access.session.client("dynamodb", region_name="us-east-1", config=None) is access.client("dynamodb")


def test_two_exchanges_of_one_token_lead_to_two_sessions() -> None:
    credentials, shared, own = TenantCredentials("us-east-1", clock=lambda: 0.0), Exchange(), Exchange()
    token = a_token("acme", "t")
    assert credentials.access(shared, token) is not credentials.access(own, token)
    assert credentials.access(shared, token) is credentials.access(shared, token)

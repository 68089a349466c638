"""Quotas: nobody gets past one, however many come at once, and nobody is kept out by what a dead process held."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from moto import mock_aws

from local import dynamodb as atomic
from saas_agent.errors import Refused
from saas_agent.metering.budgets import BudgetWatch
from saas_agent.metering.ledger import LedgerWriter, entry_of
from saas_agent.metering.rates import Tokens
from saas_agent.metering.usage import Totals
from saas_agent.tenancy.access import TenantAccess
from saas_agent.tenancy.quotas import LEASE_SECONDS, LEDGER_SECONDS, SESSION_SECONDS, Quotas
from saas_agent.tenancy.tenant import TenantContext
from saas_agent.tenancy.tiers import Tier

from .test_ledger import model_call

NOW = datetime(2026, 11, 24, 12, 30, 10, tzinfo=UTC)
TIER = Tier(
    name="basic",
    model="m",
    prompt_characters=1000,
    output_tokens=100,
    turns=5,
    total_tokens=1000,
    tokens_per_day=10_000,
    tokens_per_month=50_000,
    requests_per_minute=1000,
    concurrent_sessions=1000,
)


class Clock:
    def __init__(self) -> None:
        self.at = NOW

    def __call__(self) -> float:
        return self.at.timestamp()

    def goes(self, **by: float) -> None:
        self.at += timedelta(**by)


class AtOnce(Executor):
    """Runs what is given back before anything else happens."""

    def submit(self, run: Callable[..., Any], /, *arguments: Any, **named: Any) -> Future[Any]:
        done: Future[Any] = Future()
        done.set_result(run(*arguments, **named))
        return done


@pytest.fixture(scope="module")
def client() -> Any:
    return boto3.Session("test", "test", region_name="eu-central-1").client("dynamodb")


@pytest.fixture
def tables(client: Any) -> Iterator[Any]:
    with mock_aws(), atomic.install():
        for name in ("quotas", "ledger"):
            client.create_table(
                TableName=name,
                BillingMode="PAY_PER_REQUEST",
                KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
                AttributeDefinitions=[{"AttributeName": key, "AttributeType": "S"} for key in ("pk", "sk")],
            )
        yield client


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def quotas(tables: Any, clock: Clock) -> Quotas:
    return Quotas("quotas", "ledger", clock=clock, settling=AtOnce())


def access(client: Any, tenant: str = "acme") -> TenantAccess:
    session: Any = type("Session", (), {"client": lambda _, name: client})()
    return TenantAccess(TenantContext(tenant, "basic", "user", 0), session)


def used(tokens: int) -> Totals:
    return Totals(Tokens(tokens), 1, 0, Decimal(0))


def cut(told: int) -> Totals:
    """What a request used whose last model call told nothing; told: by its others."""
    return Totals(Tokens(told), 2, 1, None)


def refused(quotas: Quotas, client: Any, tier: Tier, session: str = "s") -> dict[str, str]:
    with pytest.raises(Refused) as raised:
        quotas.admit(access(client), tier, session)
    return raised.value.reason.error


def budget(client: Any) -> dict[str, int]:
    """The counters of the month's item, and how many leases are in it."""
    item = client.get_item(
        TableName="quotas", Key={"pk": {"S": "TENANT#acme"}, "sk": {"S": "BUDGET#2026-11"}}, ConsistentRead=True
    )["Item"]
    numbers = {name: int(value["N"]) for name, value in item.items() if "N" in value}
    return {**numbers, "leases": sum(name.startswith("lease_") for name in item)}


def test_a_request_takes_its_share_and_gives_back_what_it_left(tables: Any, quotas: Quotas) -> None:
    settle = quotas.admit(access(tables), TIER, "s")
    assert (budget(tables)["month"], budget(tables)["day_24"], budget(tables)["leases"]) == (1000, 1000, 1)
    settle(used(130))
    assert (budget(tables)["month"], budget(tables)["day_24"], budget(tables)["leases"]) == (130, 130, 0)


def test_nobody_waits_for_what_is_given_back(tables: Any, clock: Clock) -> None:
    held, done = threading.Event(), threading.Event()

    class Slow:
        def update_item(self, **parameters: Any) -> Any:
            if parameters["UpdateExpression"].startswith("REMOVE"):
                held.wait(10)
                tables.update_item(**parameters)
                done.set()
                return None
            return tables.update_item(**parameters)

        def __getattr__(self, name: str) -> Any:
            return getattr(tables, name)

    settle = Quotas("quotas", "ledger", clock=clock).admit(access(Slow()), TIER, "s")
    settle(used(130))
    assert (budget(tables)["month"], budget(tables)["leases"]) == (1000, 1)
    held.set()
    assert done.wait(10)
    assert (budget(tables)["month"], budget(tables)["leases"]) == (130, 0)


def test_what_can_not_be_given_back_is_said_and_made_good_later(
    tables: Any, quotas: Quotas, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    settle = quotas.admit(access(tables), TIER, "s")
    with pytest.MonkeyPatch.context() as broken:

        def fail(**_: Any) -> None:
            raise ClientError({"Error": {"Code": "InternalServerError"}}, "UpdateItem")

        broken.setattr(tables, "update_item", fail)
        settle(used(130))
    assert "not_settled kind=Refused tenant=acme" in caplog.text
    clock.goes(seconds=LEASE_SECONDS)
    quotas.admit(access(tables), replace(TIER, tokens_per_day=1000), "s")
    assert budget(tables)["leases"] == 1


def test_what_a_request_used_above_its_share_counts(tables: Any, quotas: Quotas) -> None:
    quotas.admit(access(tables), TIER, "s")(used(1300))
    assert budget(tables)["month"] == 1300


@pytest.mark.parametrize("told", [0, 130])
def test_a_request_whose_call_told_nothing_gets_nothing_back(tables: Any, quotas: Quotas, told: int) -> None:
    quotas.admit(access(tables), TIER, "s")(cut(told))
    assert (budget(tables)["month"], budget(tables)["day_24"], budget(tables)["leases"]) == (1000 + told,) * 2 + (0,)


def test_a_request_that_outlived_its_lease_is_charged_for_a_call_that_told_nothing(
    tables: Any, quotas: Quotas, clock: Clock
) -> None:
    tier = replace(TIER, tokens_per_day=1000)
    settle = quotas.admit(access(tables), tier, "s")
    clock.goes(seconds=LEASE_SECONDS)
    quotas.admit(access(tables), tier, "s")(used(100))
    settle(cut(50))
    assert budget(tables)["day_24"] == 100 + 1000 + 50


def test_whoever_cuts_every_answer_uses_the_budget_up(tables: Any, quotas: Quotas) -> None:
    tier = replace(TIER, tokens_per_day=3000)
    for _ in range(3):
        quotas.admit(access(tables), tier, "s")(cut(0))
    assert refused(quotas, tables, tier)["limit"] == "tokens_per_day"


@pytest.mark.parametrize(
    ("limit", "resets_at"),
    [("tokens_per_day", "2026-11-25T00:00:00Z"), ("tokens_per_month", "2026-12-01T00:00:00Z")],
)
def test_a_budget_that_is_used_up_refuses_and_says_until_when(
    tables: Any, quotas: Quotas, limit: str, resets_at: str
) -> None:
    limits: dict[str, Any] = {"tokens_per_month": 50_000, limit: 1500}
    tier = replace(TIER, **limits)
    quotas.admit(access(tables), tier, "s")(used(1000))
    quotas.admit(access(tables), tier, "s")(used(1000))
    error = refused(quotas, tables, tier)
    assert (error["code"], error["limit"], error["resets_at"]) == ("limit_reached", limit, resets_at)
    assert f"1,500 {limit.replace('_per_', ' a ')}" in error["message"]
    assert resets_at in error["message"]
    assert budget(tables)["month"] == 2000


def test_the_next_day_begins_anew_and_the_month_goes_on(tables: Any, quotas: Quotas, clock: Clock) -> None:
    tier = replace(TIER, tokens_per_day=1000, tokens_per_month=2500)
    for _ in range(2):
        quotas.admit(access(tables), tier, "s")(used(1000))
        assert refused(quotas, tables, tier)["limit"] == "tokens_per_day"
        clock.goes(days=1)
    quotas.admit(access(tables), tier, "s")(used(1000))
    clock.goes(days=1)
    assert refused(quotas, tables, tier)["limit"] == "tokens_per_month"
    clock.at = datetime(2026, 12, 1, tzinfo=UTC)
    quotas.admit(access(tables), tier, "s")


def test_while_requests_under_way_hold_the_rest_the_wait_is_short(tables: Any, quotas: Quotas) -> None:
    tier = replace(TIER, tokens_per_day=1000)
    settle = quotas.admit(access(tables), tier, "s")
    assert refused(quotas, tables, tier)["resets_at"] == "2026-11-24T12:30:20Z"
    settle(used(10))
    quotas.admit(access(tables), tier, "s")


def test_fifty_at_once_overspend_by_one_requests_tokens_at_most(tables: Any, quotas: Quotas) -> None:
    tier = replace(TIER, tokens_per_day=7500)
    settles: list[Any] = []
    refusals: list[str] = []
    barrier = threading.Barrier(50)

    def ask() -> None:
        barrier.wait()
        try:
            settles.append(quotas.admit(access(tables), tier, "s"))
        except Refused as error:
            refusals.append(error.reason.told.get("limit", error.reason.code))

    threads = [threading.Thread(target=ask) for _ in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for settle in settles:
        settle(used(tier.total_tokens))
    assert (len(settles), set(refusals)) == (8, {"tokens_per_day"})
    spent = budget(tables)["day_24"]
    assert tier.tokens_per_day <= spent <= tier.tokens_per_day + tier.total_tokens


def test_what_a_dead_process_took_is_given_back_when_it_is_needed(tables: Any, quotas: Quotas, clock: Clock) -> None:
    tier = replace(TIER, tokens_per_day=2000)
    lost = [quotas.admit(access(tables), tier, "s") for _ in range(2)]
    assert refused(quotas, tables, tier)["limit"] == "tokens_per_day"
    clock.goes(seconds=LEASE_SECONDS)
    quotas.admit(access(tables), tier, "s")(used(100))
    assert (budget(tables)["day_24"], budget(tables)["leases"]) == (100, 0)
    # One of them was only slow: what it used counts all the same, and nothing is given back twice.
    lost[0](used(700))
    assert budget(tables)["day_24"] == 800


def test_requests_are_counted_by_the_minute(tables: Any, quotas: Quotas, clock: Clock) -> None:
    tier = replace(TIER, requests_per_minute=3, tokens_per_day=50_000)
    for _ in range(2):
        for _ in range(3):
            quotas.admit(access(tables), tier, "s")
        error = refused(quotas, tables, tier)
        assert (error["limit"], error["resets_at"]) == (
            "requests_per_minute",
            f"{clock.at:%Y-%m-%dT%H}:{clock.at.minute + 1:02}:00Z",
        )
        clock.goes(minutes=1)


def test_another_process_sees_the_same_counters(tables: Any, clock: Clock) -> None:
    tier = replace(TIER, requests_per_minute=3, concurrent_sessions=1)
    for _ in range(3):
        Quotas("quotas", "ledger", clock=clock).admit(access(tables), tier, "s")
    assert refused(Quotas("quotas", "ledger", clock=clock), tables, tier)["limit"] == "requests_per_minute"
    assert refused(Quotas("quotas", "ledger", clock=clock), tables, tier, "other")["limit"] == "concurrent_sessions"


def test_sessions_count_until_their_time_is_over(tables: Any, quotas: Quotas, clock: Clock) -> None:
    tier = replace(TIER, concurrent_sessions=2, tokens_per_day=50_000)
    for session in ("one", "two", "one", "two"):
        quotas.admit(access(tables), tier, session)
    error = refused(quotas, tables, tier, "three")
    assert (error["limit"], error["resets_at"]) == ("concurrent_sessions", "2026-11-24T12:45:10Z")
    assert "2 sessions at a time" in error["message"]
    clock.goes(seconds=SESSION_SECONDS * 0.6)
    quotas.admit(access(tables), tier, "two")  # and so it is extended
    clock.goes(seconds=SESSION_SECONDS * 0.5)
    quotas.admit(access(tables), tier, "three")
    assert refused(quotas, tables, tier, "four")["limit"] == "concurrent_sessions"
    quotas.admit(access(tables), tier, "two")


def test_fifty_new_sessions_at_once_are_no_more_than_allowed(tables: Any, quotas: Quotas) -> None:
    tier = replace(TIER, concurrent_sessions=5, tokens_per_day=10**6, tokens_per_month=10**6)
    admitted: list[int] = []

    def ask(number: int) -> None:
        try:
            quotas.admit(access(tables), tier, f"session {number}")
            admitted.append(number)
        except Refused:
            pass

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(admitted) == 5


def test_tenants_dont_share_a_budget_nor_prefix_twins(tables: Any, quotas: Quotas) -> None:
    tier = replace(TIER, tokens_per_day=1000)
    quotas.admit(access(tables, "acme"), tier, "s")(used(1000))
    for tenant in ("acme2", "acm"):
        quotas.admit(access(tables, tenant), tier, "s")
    assert refused(quotas, tables, tier)["limit"] == "tokens_per_day"


def test_a_tenant_that_empties_its_counters_is_stopped_by_the_ledger(tables: Any, clock: Clock) -> None:
    quotas = Quotas("quotas", "ledger", clock=clock)
    quotas.admit(access(tables), TIER, "s")
    LedgerWriter(tables, "ledger").record([entry_of(model_call(tokens=Tokens(TIER.tokens_per_day)), "x")])
    tables.delete_item(TableName="quotas", Key={"pk": {"S": "TENANT#acme"}, "sk": {"S": "BUDGET#2026-11"}})
    quotas.admit(access(tables), TIER, "s")
    clock.goes(seconds=LEDGER_SECONDS)
    assert refused(quotas, tables, TIER)["limit"] == "tokens_per_day"


def test_where_it_cant_be_checked_nobody_gets_in(clock: Clock) -> None:
    class Down:
        def __getattr__(self, name: str) -> Any:
            def fail(**_: Any) -> None:
                raise ClientError({"Error": {"Code": "InternalServerError"}}, name)

            return fail

    with pytest.raises(Refused) as raised:
        Quotas("quotas", "ledger", clock=clock).admit(access(Down()), TIER, "s")
    assert raised.value.reason.code == "internal"


# --- What the ledger says of budgets ------------------------------------------------------------------


class Bus:
    def __init__(self, broken: int = 0) -> None:
        self.details: list[str] = []
        self.broken = broken

    def put_events(self, Entries: list[dict[str, str]]) -> dict[str, Any]:  # noqa: N803
        if self.broken:
            self.broken -= 1
            return {"FailedEntryCount": 1, "Entries": [{"ErrorCode": "ThrottlingException"}]}
        self.details += [entry["Detail"] for entry in Entries]
        return {"FailedEntryCount": 0, "Entries": [{}]}


def test_80_and_100_percent_are_told_once_each_by_whatever_process(tables: Any) -> None:
    def look(tokens: int) -> list[str]:
        record = model_call(tokens=Tokens(tokens))
        LedgerWriter(tables, "ledger").record([entry_of(record, "x")])
        watch = BudgetWatch(tables, "ledger", bus, "desk.dev", {"basic": TIER})
        return [told.removeprefix("acme/") for told in watch.look([record])]

    bus = Bus()
    assert look(7999) == []
    assert look(1) == ["tokens_per_day/2026-11-24/80"]
    assert look(1) == []
    assert look(2000) == ["tokens_per_day/2026-11-24/100"]
    assert look(30_000) == ["tokens_per_month/2026-11/80"]
    assert len(bus.details) == 3


def test_an_event_that_the_bus_did_not_take_is_told_again(tables: Any) -> None:
    record = model_call(tokens=Tokens(9000))
    LedgerWriter(tables, "ledger").record([entry_of(record, "x")])
    bus = Bus(broken=1)
    watch = BudgetWatch(tables, "ledger", bus, "desk.dev", {"basic": TIER})
    with pytest.raises(RuntimeError, match="took no event"):
        watch.look([record])
    assert watch.look([record]) == ["acme/tokens_per_day/2026-11-24/80"]
    assert watch.look([record]) == []

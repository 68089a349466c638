"""The ledger: every record once, to the token and the cent, whatever is repeated, late, broken or cut short."""

import base64
import gzip
import json
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import boto3
import pytest
from botocore.exceptions import ClientError
from moto import mock_aws

from infra.deploy import PLATFORM
from local import dynamodb as atomic
from local.template import parse
from saas_agent.control_plane.redrive import redrive
from saas_agent.functions import record_usage
from saas_agent.metering import ledger
from saas_agent.metering.ledger import LedgerBusy, LedgerReader, LedgerWriter, Row, Total, entry_of
from saas_agent.metering.rates import FREE, UNPRICED, Cost, Tokens
from saas_agent.metering.record import MARK, Invocation, Operation, Record

from .fast_table import FastTable

NOW = datetime(2026, 11, 24, 12, 30, tzinfo=UTC)
MONTH = "2026-11"
TTL = parse(PLATFORM.read_text(encoding="utf-8"))["Resources"]["LedgerTable"]["Properties"]["TimeToLiveSpecification"]
"""The attribute that says when DynamoDB deletes an item."""
ENVIRON = {"LEDGER_TABLE": "ledger", "SERVICE": "desk", "STAGE": "dev"}
PRICED = Cost(Decimal("0.000205"), date(2026, 1, 1))


def model_call(tenant_id: str | None = "acme", **fields: Any) -> Record:
    record = Record(
        id=str(uuid4()),
        at=NOW,
        service="desk",
        stage="dev",
        tier="basic",
        tenant_id=tenant_id,
        session_id="s1",
        request_id="r1",
        feature="support_desk",
        model_id="maker.model-v1:0",
        tokens=Tokens(100, 20, 3, 4),
        latency_ms=7,
        outcome="ok",
        cost=PRICED,
    )
    return replace(record, **fields)


def operation(kind: Any, name: str, calls: int = 1, errors: int = 0, **fields: Any) -> Record:
    counted = Operation(kind, name, calls, errors)
    return model_call(operation=counted, model_id=None, tokens=Tokens(), **fields)


def invocation(**fields: Any) -> Record:
    defaults = {"invocation": Invocation(1, 30), "model_id": None, "tokens": Tokens(), "latency_ms": 0, "cost": FREE}
    return model_call(**{**defaults, **fields})


@pytest.fixture(scope="module")
def client() -> Any:
    """Made once: making a client takes longer than most of these tests."""
    return boto3.Session("test", "test", region_name="eu-central-1").client("dynamodb")


@pytest.fixture
def table(client: Any) -> Iterator[Any]:
    with mock_aws(), atomic.install():
        keys = [("pk", "HASH"), ("sk", "RANGE")]
        client.create_table(
            TableName="ledger",
            BillingMode="PAY_PER_REQUEST",
            KeySchema=[{"AttributeName": name, "KeyType": kind} for name, kind in keys],
            AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name, _ in keys],
        )
        yield client


class Counted:
    """The function that ships, over a client, with what it wrote into its log."""

    def __init__(self, client: Any, now: datetime = NOW) -> None:
        self.lines: list[dict[str, Any]] = []
        session: Any = type("Session", (), {"client": lambda _, name: client})()
        self._handler = record_usage.create(ENVIRON, session, self._write, lambda: now)

    def _write(self, line: str) -> None:
        self.lines.append(json.loads(line))

    def count(self, *records: Record | str, filters: Sequence[str] = ("usage",), start: int = 0) -> dict[str, int]:
        return self._handler(event(records, filters, start), None)

    @property
    def batch(self) -> dict[str, Any]:
        return [line for line in self.lines if line["record"] == "ledger_batch"][-1]

    @property
    def sums(self) -> list[dict[str, Any]]:
        return [line for line in self.lines if line["record"] == "ledger_sum"]


def event(records: Sequence[Record | str], filters: Sequence[str] = ("usage",), start: int = 0) -> dict[str, Any]:
    """As CloudWatch Logs delivers it. start: the number of the first line, from which the log's own ids come."""
    lines = [record if isinstance(record, str) else record.to_line() for record in records]
    message = {
        "messageType": "DATA_MESSAGE",
        "logGroup": "/aws/bedrock-agentcore/runtimes/desk-DEFAULT",
        "subscriptionFilters": list(filters),
        "logEvents": [
            {"id": f"{start + number:056d}", "timestamp": int(NOW.timestamp() * 1000), "message": line + "\n"}
            for number, line in enumerate(lines)
        ],
    }
    return {"awslogs": {"data": base64.b64encode(gzip.compress(json.dumps(message).encode())).decode()}}


def rows(client: Any, tenant: str | None = None) -> list[Row]:
    return list(LedgerReader(client, "ledger").rows(MONTH, tenant))


def contents(client: Any) -> list[dict[str, Any]]:
    """Everything in the table but when it expires."""
    items = [item for page in client.get_paginator("scan").paginate(TableName="ledger") for item in page["Items"]]
    return sorted(({key: value for key, value in item.items() if key != "expires"} for item in items), key=str)


def test_a_model_call_is_in_its_row_and_in_the_tenants_totals(table: Any) -> None:
    Counted(table).count(model_call(), model_call(tokens=Tokens(1, 2), cost=Cost(Decimal("0.1"), None)))
    (row,) = rows(table)
    assert row == Row(
        "acme", NOW.date(), "basic", "support_desk", "model_call", "maker.model-v1:0",
        calls=2, latency_ms=14, tokens=Tokens(101, 22, 3, 4), cost_usd=Decimal("0.100205"),
    )  # fmt: skip
    total = Total(130, Decimal("0.100205"))
    assert LedgerReader(table, "ledger").totals("acme", NOW.date()) == (total, total)
    assert LedgerReader(table, "ledger").totals("acme", date(2026, 11, 25)) == (Total(), total)


def test_operations_and_invocations_have_rows_of_their_own(table: Any) -> None:
    Counted(table).count(
        operation("tool_call", "lookup", 3, 1, cost=FREE, outcome="error"),
        operation("memory_operation", "memory.CreateEvent", 2),
        operation("retrieval", "memory.RetrieveMemoryRecords"),
        invocation(),
        invocation(outcome="denied"),
    )
    seen = [(row.kind, row.name, row.calls, row.errors, row.latency_ms) for row in rows(table)]
    assert seen == [
        ("invocation", "denied", 1, 1, 30),
        ("invocation", "ok", 1, 0, 30),
        ("memory_operation", "memory.CreateEvent", 2, 0, 7),
        ("retrieval", "memory.RetrieveMemoryRecords", 1, 0, 7),
        ("tool_call", "lookup", 3, 1, 7),
    ]


def test_copies_in_any_order_and_over_batches_count_once(table: Any) -> None:
    records = [model_call(), model_call("globex"), invocation()]
    counter = Counted(table)
    counter.count(*records, records[0])
    once = contents(table)
    counter.count(*reversed(records))
    counter.count(records[1])
    assert contents(table) == once
    assert counter.batch["RecordsDuplicate"] == 1
    assert [line["RecordsDuplicate"] for line in counter.lines if line["record"] == "ledger_batch"] == [1, 3, 1]


def test_the_table_forgets_a_records_id_when_no_copy_of_it_counts_any_more(table: Any) -> None:
    attribute = TTL["AttributeName"]
    before = int(time.time())
    Counted(table).count(model_call())
    items = table.scan(TableName="ledger")["Items"]
    [mark] = [item for item in items if item["sk"] == {"S": "RECORD"}]
    kept = 90 * 86_400
    assert before + kept <= int(mark[attribute]["N"]) <= int(time.time()) + kept
    # The sums stay.
    assert [item for item in items if attribute in item] == [mark]
    assert TTL["Enabled"] is True


def test_another_content_under_a_known_id_changes_nothing_and_is_seen(table: Any) -> None:
    counter, record = Counted(table), model_call()
    counter.count(record)
    once = contents(table)
    counter.count(replace(record, tokens=Tokens(10**9)))
    assert contents(table) == once
    assert (counter.batch["RecordsConflicting"], counter.batch["RecordsDuplicate"]) == (1, 0)


def test_what_is_unpriced_is_counted_apart_and_never_free(table: Any) -> None:
    counter = Counted(table)
    counter.count(model_call(), model_call(cost=UNPRICED), model_call(cost=UNPRICED, tokens=Tokens()))
    (row,) = rows(table)
    assert (row.calls, row.unpriced, row.untold, row.cost_usd) == (3, 2, 1, PRICED.amount)
    assert (counter.batch["RecordsUnpriced"], counter.batch["RecordsUntold"]) == (1, 1)


BROKEN = {
    "json": model_call().to_line()[:-40],
    "id": model_call(id=str(UUID(int=7)).replace("-", "")).to_line(),
    "tenant_id": model_call().to_line().replace('"acme"', '"acme#globex"'),
    "InputTokens": model_call().to_line().replace('"InputTokens":100', '"InputTokens":-100'),
    "cost_usd": model_call(cost=Cost(Decimal("NaN"), None)).to_line(),
    "unpriced": model_call().to_line().replace('"unpriced":false', '"unpriced":true'),
    "kind": model_call().to_line().replace('"kind":"model_call"', '"kind":"gift"'),
    "feature": model_call(feature="a#b").to_line(),
    "schema": model_call().to_line().replace('"schema":1', '"schema":0'),
    "service": model_call(service="another").to_line(),
    "early": model_call(at=NOW + timedelta(hours=2)).to_line(),
    "late": model_call(at=NOW - timedelta(days=61)).to_line(),
    "errors": operation("tool_call", "lookup", 1, 2).to_line(),
}


@pytest.mark.parametrize("reason", BROKEN)
def test_a_line_that_is_no_good_is_counted_by_its_reason_and_changes_nothing_else(table: Any, reason: str) -> None:
    counter = Counted(table)
    counter.count(model_call(), BROKEN[reason])
    counter.count(model_call(), BROKEN[reason], start=0)
    reader = LedgerReader(table, "ledger")
    assert reader.rejected(MONTH) == {reason: 1}  # delivered twice, it is still one line
    assert reader.tenants(MONTH) == ["acme"]
    assert rows(table)[0].calls == 2
    assert counter.batch["reasons"] == {reason: 1}


@pytest.mark.parametrize("number", ["1.5", "1e3", "true", "NaN", '"100"', "null", "1" * 40])
def test_only_whole_numbers_count(table: Any, number: str) -> None:
    Counted(table).count(model_call().to_line().replace('"InputTokens":100', f'"InputTokens":{number}'))
    assert not rows(table)
    assert sum(LedgerReader(table, "ledger").rejected(MONTH).values()) == 1


def test_other_lines_of_the_log_are_passed_over(table: Any) -> None:
    Counted(table).count("INFO started", f"somebody wrote {MARK}", json.dumps({"record": "other"}))
    assert contents(table) == []


def test_a_control_message_is_none(table: Any) -> None:
    message = {"messageType": "CONTROL_MESSAGE", "logEvents": [{"id": "", "timestamp": 0, "message": MARK}]}
    data = base64.b64encode(gzip.compress(json.dumps(message).encode())).decode()
    assert Counted(table)._handler({"awslogs": {"data": data}}, None)["counted"] == 0


def test_records_of_newer_code_are_kept_for_it_and_the_others_count(table: Any) -> None:
    counter = Counted(table)
    newer = model_call().to_line().replace('"schema":1', '"schema":2')
    with pytest.raises(Exception, match="newer schema"):
        counter.count(model_call(), newer)
    assert rows(table)[0].calls == 1
    assert LedgerReader(table, "ledger").rejected(MONTH) == {}


def test_a_tenants_own_runtime_can_name_nobody_else(table: Any) -> None:
    counter = Counted(table)
    counter.count(model_call(), model_call("globex"), model_call(None), filters=["usage/acme"])
    assert LedgerReader(table, "ledger").tenants(MONTH) == ["-", "acme"]
    assert LedgerReader(table, "ledger").rejected(MONTH) == {"tenant_id": 1}


def test_a_prefix_twin_is_another_tenant(table: Any) -> None:
    Counted(table).count(model_call(), model_call("acme2"), model_call("acme-eu"))
    assert [row.tenant_id for row in rows(table, "acme")] == ["acme"]


def test_the_functions_log_adds_up_to_the_ledger(table: Any) -> None:
    counter = Counted(table)
    record = model_call()
    counter.count(record, model_call(cost=Cost(Decimal("0.1"), None)), invocation())
    counter.count(record)
    assert sum(line["cost_usd"] for line in counter.sums) == pytest.approx(0.100205)
    assert sum(line["input_tokens"] for line in counter.sums) == 200
    assert {line["tenant_id"] for line in counter.sums} == {"acme"}


def test_the_lag_is_that_of_the_oldest_record(table: Any) -> None:
    counter = Counted(table)
    counter.count(model_call(at=NOW - timedelta(minutes=5)), model_call())
    assert counter.batch["LedgerLagMs"] == 300_000


# --- Stopped and started again ----------------------------------------------------------------------


class Killed(BaseException):
    """The process is gone."""


class Fragile:
    """A client whose process dies at its n-th write: before it reached DynamoDB, or after, with the answer lost."""

    def __init__(self, client: Any, dies_at: int, after: bool) -> None:
        self._client = client
        self._left = dies_at
        self._after = after

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._client, name)

        def counted(**parameters: Any) -> Any:
            self._left -= 1
            if self._left == 0 and not self._after:
                raise Killed
            answer = call(**parameters)
            if self._left == 0:
                raise Killed
            return answer

        return counted


@pytest.mark.parametrize("after", [False, True], ids=["before a write", "after a write"])
def test_a_batch_that_dies_anywhere_and_comes_again_counts_once(
    table: Any, after: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "_TRANSACTION", 6)  # so that the batch takes several
    records: list[Record | str] = [model_call(tenant) for tenant in ("acme", "globex") for _ in range(4)]
    records += [invocation(), BROKEN["json"]]
    Counted(table).count(*records)
    expected = contents(table)
    for dies_at in range(1, 20):
        for item in contents(table):
            table.delete_item(TableName="ledger", Key={key: item[key] for key in ("pk", "sk")})
        try:
            Counted(Fragile(table, dies_at, after)).count(*records)
        except Killed:
            Counted(table).count(*records)
            assert contents(table) == expected, dies_at
        else:
            break
    assert dies_at > 5


class Contended:
    """A client whose first transactions meet others at the same rows."""

    def __init__(self, client: Any, times: int) -> None:
        self._client = client
        self.times = times

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def transact_write_items(self, TransactItems: list[Any]) -> Any:  # noqa: N803
        if self.times:
            self.times -= 1
            codes = ["None"] * (len(TransactItems) - 1) + ["TransactionConflict"]
            reasons = [{"Code": code} for code in codes]
            error = {"Error": {"Code": "TransactionCanceledException"}, "CancellationReasons": reasons}
            raise ClientError(error, "TransactWriteItems")
        return self._client.transact_write_items(TransactItems=TransactItems)


def test_others_at_the_same_rows_are_waited_for(table: Any) -> None:
    pauses: list[float] = []
    record = model_call()
    writer = LedgerWriter(Contended(table, 3), "ledger", sleep=pauses.append)
    assert len(writer.record([entry_of(record, "x")]).recorded) == 1
    assert len(pauses) == 3
    with pytest.raises(LedgerBusy):
        LedgerWriter(Contended(table, 99), "ledger", sleep=pauses.append).record([entry_of(model_call(), "x")])


def test_what_will_not_pass_is_raised_at_once(table: Any) -> None:
    with pytest.raises(ClientError):
        LedgerWriter(table, "nowhere").record([entry_of(model_call(), "x")])


# --- Many -------------------------------------------------------------------------------------------


def test_the_fast_table_keeps_what_dynamodb_keeps(table: Any) -> None:
    chance, fast = random.Random(3), FastTable()
    records = [model_call(chance.choice(["acme", "globex"]), cost=chance.choice([PRICED, UNPRICED])) for _ in range(60)]
    lines: list[Record | str] = [*records, invocation(), BROKEN["json"]]
    for start in (0, 20, 20, 40):
        for client in (table, fast):
            Counted(client).count(*lines[start : start + 30], start=start)
    assert rows(fast) == rows(table)
    assert LedgerReader(fast, "ledger").totals("acme", NOW.date()) == LedgerReader(table, "ledger").totals(
        "acme", NOW.date()
    )
    assert LedgerReader(fast, "ledger").rejected(MONTH) == LedgerReader(table, "ledger").rejected(MONTH)


def test_thousands_of_records_are_summed_to_the_token_and_the_cent() -> None:
    """200 tenants in shuffled batches, 5 % copies and 0.1 % poison, against a plain sum.

    The template's own benchmark does the same with forty times as many.
    """
    chance, fast = random.Random(7), FastTable()
    records = [
        model_call(
            f"tenant-{chance.randrange(200)}",
            id=str(UUID(int=chance.getrandbits(128), version=4)),
            tier=chance.choice(["basic", "premium"]),
            at=NOW - timedelta(days=chance.randrange(20)),
            tokens=Tokens(*(chance.randrange(5000) for _ in range(4))),
            cost=chance.choice([UNPRICED, Cost(Decimal(chance.randrange(10**6)).scaleb(-9), None)]),
        )
        for _ in range(5_000)
    ]
    tokens: dict[tuple[str, str], int] = {}
    costs: dict[tuple[str, str], Decimal] = {}
    for record in records:
        key = (str(record.tenant_id), record.tier)
        tokens[key] = tokens.get(key, 0) + record.tokens.input + record.tokens.output
        costs[key] = costs.get(key, Decimal(0)) + (record.cost.amount or 0)
    poison = [BROKEN["json"], BROKEN["unpriced"]] * 3
    lines: list[Record | str] = [*records, *chance.sample(records, 250), *poison]
    chance.shuffle(lines)
    counter = Counted(fast)
    for start in range(0, len(lines), 500):
        counter.count(*lines[start : start + 500], start=start)
    found_tokens: dict[tuple[str, str], int] = {}
    found_costs: dict[tuple[str, str], Decimal] = {}
    for row in rows(fast):
        key = (row.tenant_id, row.tier)
        found_tokens[key] = found_tokens.get(key, 0) + row.tokens.input + row.tokens.output
        found_costs[key] = found_costs.get(key, Decimal(0)) + row.cost_usd
    assert found_tokens == tokens
    assert found_costs == costs
    assert LedgerReader(fast, "ledger").rejected(MONTH) == {"json": 3, "unpriced": 3}


def test_what_a_batch_costs_doesnt_depend_on_the_ledger() -> None:
    fast = FastTable()
    counter = Counted(fast)
    for _ in range(5):
        counter.count(*(model_call() for _ in range(500)))
    # One transaction for each 97 records of a tenant's row: the row and the two totals are the other three.
    assert fast.written == [1, *([100] * 5 + [18]) * 5]


# --- Redrive ----------------------------------------------------------------------------------------


def test_redrive_takes_from_the_queue_what_was_counted_and_nothing_else() -> None:
    session = boto3.Session("test", "test", region_name="eu-central-1")
    with mock_aws():
        sqs = session.client("sqs")
        url = sqs.create_queue(QueueName="dead")["QueueUrl"]
        for number in range(23):
            sqs.send_message(QueueUrl=url, MessageBody=json.dumps({"number": number}))
        functions = Functions(broken={3, 14})
        done = redrive(sqs, url, functions, "ledger")
        assert (done.counted, done.failed, done.reasons) == (21, 2, ["not yet", "not yet"])
        assert sorted(functions.got) == list(range(23))
        left = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["ApproximateNumberOfMessagesNotVisible"])
        assert left["Attributes"]["ApproximateNumberOfMessagesNotVisible"] == "2"


class Functions:
    def __init__(self, broken: set[int]) -> None:
        self._broken = broken
        self.got: list[int] = []

    def invoke(self, *, FunctionName: str, Payload: bytes) -> dict[str, Any]:  # noqa: N803
        number = json.loads(Payload)["number"]
        self.got.append(number)
        if number not in self._broken:
            return {"StatusCode": 200}
        answer = type("Body", (), {"read": lambda _: b'{"errorMessage": "not yet"}'})()
        return {"StatusCode": 200, "FunctionError": "Unhandled", "Payload": answer}

"""Usage records: one for every model call and every invocation, whatever became of it."""

import asyncio
import json
import re
import sys
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest
from botocore.exceptions import ClientError, EventStreamError
from strands import Agent, tool
from strands.hooks import AfterModelCallEvent, BeforeModelCallEvent, HookProvider, HookRegistry
from strands.models.model import Model
from strands.types.exceptions import ModelThrottledException

from saas_agent import configuration
from saas_agent.errors import LIMIT_REACHED, TOKEN_EXPIRED, Refused
from saas_agent.metering.hooks import UNKNOWN_TOOL, UsageHooks, metered
from saas_agent.metering.rates import RUNTIME, Cost, OperationRate, Rate, RateCard, Tokens
from saas_agent.metering.record import METRICS, Invocation, NewerSchema, Operation, Record, RecordError, plain, read
from saas_agent.metering.usage import Meter, Usage
from saas_agent.tenancy.access import TenantAccess
from saas_agent.tenancy.tenant import TenantContext

NOW = datetime(2026, 11, 24, 12, 30, 15, 123000, tzinfo=UTC)
MODEL = "maker.model-v1:0"
RATE = Rate(MODEL, "*", date(2026, 1, 1), Decimal(1), Decimal(5), Decimal("0.1"), Decimal("1.25"))
USAGE = {"inputTokens": 100, "outputTokens": 20, "totalTokens": 120}

RECORD = Record(
    id="0d2b7c0e-5b0f-4f6c-9f59-0c6f6a1d2e3f",
    at=NOW,
    service="desk",
    stage="dev",
    tier="basic",
    tenant_id="acme",
    session_id="s" * 40,
    request_id="r-1",
    feature="support_desk",
    model_id=MODEL,
    tokens=Tokens(100, 20, 3, 4),
    latency_ms=7,
    outcome="ok",
    cost=Cost(Decimal("0.000205"), date(2026, 1, 1)),
)
INVOCATION = replace(RECORD, model_id=None, tokens=Tokens(), latency_ms=0, invocation=Invocation(2, 30))
TOOL = replace(RECORD, model_id=None, tokens=Tokens(), operation=Operation("tool_call", "echo", 3, 1))
MEMORY = replace(TOOL, operation=Operation("memory_operation", "memory.CreateEvent", 2, 0))
RETRIEVAL = replace(TOOL, operation=Operation("retrieval", "knowledge_base.Retrieve", 1, 0))
RECORDS = [RECORD, INVOCATION, TOOL, MEMORY, RETRIEVAL]
OPERATION_RATES = [
    OperationRate(RUNTIME, "*", date(2026, 1, 1), Decimal(0)),
    OperationRate("memory.CreateEvent", "*", date(2026, 1, 1), Decimal("0.25")),
]


class Log:
    """Takes the meter's writes, and reads them back through the door."""

    def __init__(self) -> None:
        self.writes: list[str] = []

    def write(self, text: str) -> None:
        self.writes.append(text)

    @property
    def records(self) -> list[Record]:
        return [read(text.removesuffix("\n")) for text in self.writes]

    @property
    def calls(self) -> list[Record]:
        return [record for record in self.records if record.kind == "model_call"]

    @property
    def operations(self) -> dict[str, tuple[int, int, Decimal | None]]:
        """Name -> calls, errors, cost."""
        found = [(record.operation, record.cost.amount) for record in self.records if record.operation]
        return {operation.name: (operation.calls, operation.errors, cost) for operation, cost in found}

    @property
    def tokens(self) -> Tokens:
        """Of all model calls."""
        return sum((call.tokens for call in self.calls), Tokens())

    @property
    def invocation(self) -> Record:
        (invocation,) = [record for record in self.records if record.kind == "invocation"]
        return invocation


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture
def meter(log: Log) -> Meter:
    return Meter("desk", "dev", RateCard([RATE], operations=OPERATION_RATES), log.write, lambda: NOW)


def invocation(meter: Meter) -> Any:
    return meter.invocation(tier="basic", tenant_id="acme", session_id="s1", request_id="r1")


# The record


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.kind)
def test_a_record_is_one_line_that_reads_back_as_it_was(record: Record) -> None:
    line = record.to_line()
    assert "\n" not in line
    assert read(line) == record


def test_every_field_is_described() -> None:
    described = set(
        re.findall(r"`(\w+)`", (configuration.find("rates.toml").parent / "docs" / "metering.md").read_text())
    )
    for record in RECORDS:
        assert set(json.loads(record.to_line())) - {"_aws"} <= described
        assert record.kind in described


def test_no_tenant_session_or_model_is_a_dimension() -> None:
    for record in RECORDS:
        (directive,) = json.loads(record.to_line())["_aws"]["CloudWatchMetrics"]
        assert directive["Dimensions"] == [["service", "stage", "tier"], ["service", "stage"]]
        assert directive["Namespace"] == "saas-agent"


def test_every_metric_is_a_number_of_the_record_itself() -> None:
    for record in RECORDS:
        document = json.loads(record.to_line())
        assert document["_aws"]["Timestamp"] == int(NOW.timestamp() * 1000)
        for metric in document["_aws"]["CloudWatchMetrics"][0]["Metrics"]:
            assert type(document[metric["Name"]]) is int


def test_no_metric_is_counted_by_two_kinds_of_record() -> None:
    names = [name for metrics in METRICS.values() for name in metrics]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("outcome", "metric"),
    [
        ("internal", "Errors"),
        ("error", "Errors"),
        ("denied", "Denials"),
        ("limit_reached", "LimitsReached"),
        ("invalid_token", "TokensRefused"),
    ],
)
def test_how_an_invocation_ended_is_a_metric(outcome: str, metric: str) -> None:
    document = json.loads(replace(INVOCATION, outcome=outcome).to_line())
    assert [document[name] for name in list(METRICS["invocation"])[3:]].count(1) == document[metric] == 1


def test_an_unpriced_record_says_null_and_not_zero() -> None:
    document = json.loads(replace(RECORD, cost=Cost(None, None)).to_line())
    assert (document["cost_usd"], document["unpriced"], document["rate_date"]) == (None, True, None)


def test_amounts_are_written_in_digits() -> None:
    assert [plain(Decimal(text)) for text in ("1E-7", "100", "0", "2.50")] == [
        "0.0000001",
        "100",
        "0",
        "2.5",
    ]


def test_a_line_end_in_an_id_does_not_start_a_line_of_its_own() -> None:
    line = replace(RECORD, session_id='x\n{"record":"saas_usage"}').to_line()
    assert "\n" not in line
    with pytest.raises(RecordError):
        read(line)


@pytest.mark.parametrize(
    "change",
    [
        {"record": "other"},
        {"schema": 0},
        {"schema": "1"},
        {"id": ""},
        {"kind": "guess"},
        {"kind": "model_call"},
        {"at": "yesterday"},
        {"at": "2026-11-24T12:30:15"},
        {"tenant_id": ""},
        {"tenant_id": ["acme"]},
        {"tenant_id": "Acme"},
        {"tier": "a#b"},
        {"DurationMs": -1},
        {"DurationMs": "1"},
        {"DurationMs": True},
        {"DurationMs": 1.5},
        {"DurationMs": 10**13},
        {"cost_usd": "lots"},
        {"cost_usd": "NaN"},
        {"cost_usd": "-1"},
        {"cost_usd": "1e-30"},
        {"cost_usd": "1e30"},
        {"cost_usd": 0.1},
        {"cost_usd": None},
        {"unpriced": True},
        {"rate_date": "soon"},
        {"ModelCalls": None},
    ],
)
def test_a_malformed_record_is_not_read(change: dict[str, object]) -> None:
    document = json.loads(INVOCATION.to_line())
    with pytest.raises(RecordError):
        read(json.dumps({**document, **change}))


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.kind)
def test_a_record_that_lacks_a_field_is_not_read(record: Record) -> None:
    document = json.loads(record.to_line())
    # These follow from the others; they are there for CloudWatch.
    told = {"_aws", "Invocations", "Errors", "Denials", "LimitsReached", "TokensRefused", "Throttles", "UnpricedCalls"}
    for key in set(document) - told:
        with pytest.raises(RecordError):
            read(json.dumps({k: v for k, v in document.items() if k != key}))


@pytest.mark.parametrize("line", ["", "INFO started", "[]", "null", "{", '{"record":"saas_usage"}', "[" * 10**5])
def test_other_lines_of_a_log_are_no_records(line: str) -> None:
    with pytest.raises(RecordError):
        read(line)


def test_a_newer_schema_is_told_apart_from_a_broken_line() -> None:
    with pytest.raises(NewerSchema):
        read(RECORD.to_line().replace('"schema":1', '"schema":2'))


# The meter


def test_a_model_call_is_written_at_once_and_the_rest_at_the_end(meter: Meter, log: Log) -> None:
    with invocation(meter) as usage:
        usage.model_call(MODEL, 100, 20, 3, 4, 7)
        assert [record.kind for record in log.records] == ["model_call"]
        usage.operation("tool_call", "echo")
        usage.operation("tool_call", "echo", failed=True, latency_ms=5)
        usage.operation("memory_operation", "memory.CreateEvent")
        usage.model_call(MODEL, 50, 10, latency_ms=5)
        usage.finish("ok")
    kinds = ["model_call", "model_call", "tool_call", "memory_operation", "invocation"]
    assert [record.kind for record in log.records] == kinds
    assert log.calls[0].tokens == Tokens(100, 20, 3, 4)
    assert log.calls[0].cost == Cost(Decimal("0.0002053"), date(2026, 1, 1))
    assert log.operations == {"echo": (2, 1, Decimal(0)), "memory.CreateEvent": (1, 0, Decimal("0.00025"))}
    whole = log.invocation
    assert (whole.tenant_id, whole.tier, whole.session_id) == ("acme", "basic", "s1")
    assert (whole.request_id, whole.feature, whole.outcome) == ("r1", "conversation", "ok")
    assert whole.invocation is not None
    assert whole.invocation.model_calls == 2
    assert len({record.id for record in log.records}) == 5


def test_records_add_up_since_none_holds_what_another_holds(meter: Meter, log: Log) -> None:
    with invocation(meter) as usage:
        usage.model_call(MODEL, 100, 20)
    assert (log.invocation.tokens, log.invocation.cost) == (Tokens(), Cost(Decimal(0), date(2026, 1, 1)))


def test_the_runtimes_time_is_priced_and_exact(log: Log) -> None:
    rates = RateCard([RATE], operations=[OperationRate(RUNTIME, "*", date(2026, 1, 1), Decimal("0.0000076"))])
    with invocation(Meter("desk", "dev", rates, log.write, lambda: NOW)):
        time.sleep(0.002)
    spent = log.invocation.invocation
    assert spent is not None
    assert log.invocation.cost.amount == Decimal("0.0000000076") * spent.duration_ms > 0


def test_an_operation_without_a_price_is_unpriced_and_a_failed_one_is_not_billed(meter: Meter, log: Log) -> None:
    with invocation(meter) as usage:
        usage.operation("memory_operation", "memory.Unheard")
        usage.operation("memory_operation", "memory.CreateEvent", failed=True)
    assert log.operations == {"memory.Unheard": (1, 0, None), "memory.CreateEvent": (1, 1, Decimal(0))}


def test_what_is_to_be_settled_is_told_the_totals_and_spoils_nothing(meter: Meter, log: Log) -> None:
    told: list[Any] = []

    def fail(_: Any) -> None:
        raise RuntimeError("not settled")

    with pytest.raises(Refused), invocation(meter) as usage:
        usage.when_closed(fail)
        usage.when_closed(told.append)
        usage.model_call(MODEL, 1, 1)
        raise Refused(LIMIT_REACHED)
    assert [totals.tokens for totals in told] == [Tokens(1, 1)]
    assert log.invocation.outcome == "limit_reached"


class Memory:
    """A boto3 client's stand-in, and the session that makes it."""

    def client(self, *_: Any, **__: Any) -> "Memory":
        return self

    def create_event(self, **_: Any) -> str:
        return "created"

    def list_events(self, **_: Any) -> str:
        raise client_error("AccessDeniedException")

    def list_actors(self, **_: Any) -> str:
        return "not metered"


def test_operations_of_billed_services_are_metered_at_their_clients(meter: Meter, log: Log) -> None:
    session: Any = Memory()
    access = TenantAccess(TenantContext("acme", "basic", "user", 0), session)
    with invocation(meter) as usage:
        client = metered(access, usage).client("bedrock-agentcore")
        assert client.create_event(memoryId="m") == "created"
        with pytest.raises(ClientError):
            client.list_events()
        client.list_actors()
        assert metered(access, usage).client("s3") is session
    assert log.operations == {"memory.CreateEvent": (1, 0, Decimal("0.00025")), "memory.ListEvents": (1, 1, None)}


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (Refused(LIMIT_REACHED), "limit_reached"),
        (RuntimeError("the prompt was: hello"), "error"),
        (asyncio.CancelledError(), "cancelled"),
        (GeneratorExit(), "cancelled"),
        (KeyboardInterrupt(), "cancelled"),
    ],
)
def test_an_invocation_that_breaks_off_is_recorded_and_its_exception_goes_on(
    meter: Meter, log: Log, error: BaseException, outcome: str
) -> None:
    with pytest.raises(type(error)), invocation(meter) as usage:
        usage.model_call(MODEL, 1, 1)
        raise error
    assert (log.invocation.outcome, log.tokens) == (outcome, Tokens(1, 1))


def test_the_first_outcome_stands(meter: Meter, log: Log) -> None:
    with pytest.raises(GeneratorExit), invocation(meter) as usage:
        usage.finish("limit_reached")
        usage.finish("ok")
        raise GeneratorExit
    assert log.invocation.outcome == "limit_reached"


def test_one_unpriced_call_makes_the_total_unknown(meter: Meter, log: Log) -> None:
    with invocation(meter) as usage:
        usage.model_call(MODEL, 100, 20)
        assert usage.totals.cost == Decimal("0.0002")
        usage.model_call("maker.unknown-v1:0", 100, 20)
        assert usage.totals.cost is None
        assert usage.totals.tokens == Tokens(200, 40)
    assert [record.cost.amount for record in log.calls] == [Decimal("0.0002"), None]


def test_an_invocation_that_is_refused_before_its_tenant_is_known_is_recorded(meter: Meter, log: Log) -> None:
    with pytest.raises(Refused), meter.invocation(request_id=""):
        raise Refused(TOKEN_EXPIRED)
    refused = log.invocation
    assert (refused.tenant_id, refused.session_id, refused.request_id) == (None, None, None)
    assert (refused.tier, refused.outcome) == ("unknown", "token_expired")


@pytest.mark.parametrize("odd", ["two words", "é", "x" * 257, "a\nb"])
def test_a_request_id_that_no_reader_takes_does_not_cost_the_record(meter: Meter, log: Log, odd: str) -> None:
    with meter.invocation(request_id=odd, tenant_id="acme") as usage:
        usage.model_started(MODEL)
        usage.model_ended(Tokens(100, 20), "ok", 7)
    assert [(record.request_id, record.tenant_id) for record in (*log.calls, log.invocation)] == [(None, "acme")] * 2
    assert log.tokens == Tokens(100, 20)


def test_who_it_is_for_is_filled_in_as_it_becomes_known(meter: Meter, log: Log) -> None:
    with meter.invocation(request_id="r1") as usage:
        usage.identify(tenant_id="acme", tier="premium")
        usage.identify(session_id="s1")
        usage.identify(tier="basic")
    whole = log.invocation
    assert (whole.tenant_id, whole.tier, whole.session_id) == ("acme", "basic", "s1")


@pytest.fixture
def restless_threads() -> Iterator[None]:
    """Threads take turns as often as they can, so that a race shows."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(usual)


def test_each_record_is_one_write_and_none_is_lost_between_threads(
    meter: Meter, log: Log, restless_threads: None
) -> None:
    with invocation(meter) as usage:

        def work() -> None:
            for _ in range(300):
                usage.model_call(MODEL, 1, 1)
                usage.operation("tool_call", "echo")

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert all(text.count("\n") == 1 and text.endswith("\n") for text in log.writes)
    assert len(log.calls) == 2400
    assert log.tokens == Tokens(2400, 2400)
    assert log.operations == {"echo": (2400, 0, Decimal(0))}


# The agent loop

Turn = dict[str, Any]


class Scripted(Model):
    """Plays the turns it is given: a tool call or a text, chunk by chunk as Bedrock streams it."""

    def __init__(self, *turns: Turn) -> None:
        super().__init__()
        self._turns: Iterator[Turn] = iter(turns)
        self.entered = 0

    def update_config(self, **_: Any) -> None:
        pass

    def get_config(self) -> dict[str, Any]:
        return {"model_id": "scripted"}

    async def structured_output(self, *_: Any, **__: Any) -> AsyncGenerator[dict[str, Any], None]:
        raise NotImplementedError
        yield {}

    async def stream(self, *_: Any, **__: Any) -> AsyncIterator[Any]:
        self.entered += 1
        turn = next(self._turns)
        if "raises" in turn:
            raise turn["raises"]
        yield {"messageStart": {"role": "assistant"}}
        if "tool" in turn:
            use = {"name": turn["tool"], "toolUseId": f"use{self.entered}"}
            yield {"contentBlockStart": {"start": {"toolUse": use}}}
            yield {"contentBlockDelta": {"delta": {"toolUse": {"input": json.dumps({"text": "x"})}}}}
        else:
            yield {"contentBlockStart": {"start": {}}}
            yield {"contentBlockDelta": {"delta": {"text": turn["text"]}}}
        if "breaks" in turn:
            raise turn["breaks"]
        if "hangs" in turn:
            await asyncio.sleep(60)
        yield {"contentBlockStop": {}}
        yield {"messageStop": {"stopReason": "tool_use" if "tool" in turn else turn.get("stop", "end_turn")}}
        metadata = {"usage": turn.get("usage", USAGE), "metrics": {"latencyMs": 7}}
        yield {"metadata": metadata}


@tool
def echo(text: str) -> str:
    """Gives the text back.

    Args:
        text: what to give back
    """
    return text


@tool
def fail(text: str) -> str:
    """Fails.

    Args:
        text: anything
    """
    raise RuntimeError(text)


class Hook(HookProvider):
    """Calls functions before and after the model."""

    def __init__(self, before: Any = None, after: Any = None) -> None:
        self._before, self._after = before, after

    def register_hooks(self, registry: HookRegistry, **_: Any) -> None:
        if self._before:
            registry.add_callback(BeforeModelCallEvent, self._before)
        if self._after:
            registry.add_callback(AfterModelCallEvent, self._after)


def agent(usage: Usage, *turns: Turn, hooks: tuple[Hook, ...] = ()) -> Agent:
    return Agent(
        model=Scripted(*turns),
        tools=[echo, fail],
        hooks=[UsageHooks(usage, MODEL), *hooks],
        callback_handler=None,
        retry_strategy=None,
    )


def client_error(code: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": "no"}}, "ConverseStream")


def test_every_model_call_and_tool_call_of_an_agent_is_metered(meter: Meter, log: Log) -> None:
    cached = {**USAGE, "cacheReadInputTokens": 3, "cacheWriteInputTokens": 4}
    with invocation(meter) as usage:
        result = agent(usage, {"tool": "echo"}, {"text": "done", "usage": cached})("hello")
    assert [record.tokens for record in log.calls] == [Tokens(100, 20), Tokens(100, 20, 3, 4)]
    assert [record.latency_ms for record in log.calls] == [7, 7]
    assert [record.outcome for record in log.calls] == ["ok", "ok"]
    assert [record.model_id for record in log.calls] == [MODEL, MODEL]
    assert log.operations == {"echo": (1, 0, Decimal(0))}
    spent = result.metrics.latest_agent_invocation
    assert spent is not None
    assert spent.usage["inputTokens"] == log.tokens.input == 200


def test_a_tool_that_fails_and_one_that_there_isnt_are_counted_as_errors(meter: Meter, log: Log) -> None:
    with invocation(meter) as usage:
        agent(usage, {"tool": "fail"}, {"tool": "tool_of_its_own"}, {"text": "done"})("hello")
    assert log.operations == {"fail": (1, 1, Decimal(0)), UNKNOWN_TOOL: (1, 1, Decimal(0))}


def test_no_prompt_and_no_answer_is_in_a_record(meter: Meter, log: Log) -> None:
    with invocation(meter) as usage:
        agent(usage, {"tool": "echo"}, {"text": "the secret answer"})("the secret prompt")
    assert "secret" not in "".join(log.writes)


def test_a_run_that_a_limit_ends_is_metered_up_to_there(meter: Meter, log: Log) -> None:
    with invocation(meter) as usage:
        turns: list[Turn] = [{"tool": "echo"}] * 5
        result = agent(usage, *turns)("hello", limits={"turns": 2})
    assert result.stop_reason == "limit_turns"
    assert log.tokens == Tokens(200, 40)
    assert len(log.calls) == 2


def test_a_call_that_bedrock_turned_down_used_nothing(meter: Meter, log: Log) -> None:
    denied, invalid = client_error("AccessDeniedException"), client_error("ValidationException")
    for outcome, error in (("error", denied), ("error", invalid), ("throttled", ModelThrottledException("slow down"))):
        log.writes.clear()
        with pytest.raises(type(error)), invocation(meter) as usage:
            agent(usage, {"raises": error})("hello")
        (call,) = log.calls
        assert (call.outcome, call.tokens, call.cost.amount) == (outcome, Tokens(), Decimal(0))
        assert usage.totals.untold == 0
        assert log.invocation.outcome == "error"


def test_a_prompt_that_the_guardrail_blocks_costs_nothing_and_what_it_stops_later_does(meter: Meter, log: Log) -> None:
    nothing = {"inputTokens": 0, "outputTokens": 0, "totalTokens": 0}
    for told, tokens in ((nothing, Tokens()), (USAGE, Tokens(100, 20))):
        log.writes.clear()
        with invocation(meter) as usage:
            agent(usage, {"text": "I can't say.", "stop": "guardrail_intervened", "usage": told})("hello")
        assert (log.calls[0].outcome, log.calls[0].tokens, usage.totals.untold) == ("ok", tokens, 0)


def test_a_call_that_broke_off_in_its_stream_has_no_known_cost(meter: Meter, log: Log) -> None:
    broken = EventStreamError({"Error": {"Code": "x", "Message": "y"}}, "ConverseStream")
    throttled = ModelThrottledException("in the stream")
    throttled.__cause__ = broken
    for error in (broken, throttled, TimeoutError()):
        log.writes.clear()
        with pytest.raises(type(error)), invocation(meter) as usage:
            agent(usage, {"text": "half", "breaks": error})("hello")
        (call,) = log.calls
        assert (call.tokens, call.cost) == (Tokens(), Cost(None, None))
        assert usage.totals.untold == 1
        assert call.outcome == ("throttled" if error is throttled else "error")


@pytest.mark.parametrize(
    "error",
    [*map(client_error, ("ModelTimeoutException", "ModelErrorException", "InternalServerException")), TimeoutError()],
    ids=str,
)
def test_a_call_that_failed_without_a_refusal_may_have_cost(meter: Meter, log: Log, error: Exception) -> None:
    with pytest.raises(type(error)), invocation(meter) as usage:
        agent(usage, {"raises": error})("hello")
    assert (log.calls[0].cost, usage.totals.untold) == (Cost(None, None), 1)


def test_a_retried_call_is_metered_each_time(meter: Meter, log: Log) -> None:
    def retry_errors(event: AfterModelCallEvent) -> None:
        event.retry = event.exception is not None

    with invocation(meter) as usage:
        failing = {"raises": client_error("InternalServerException")}
        agent(usage, failing, {"text": "ok"}, hooks=(Hook(after=retry_errors),))("hello")
    assert [record.outcome for record in log.calls] == ["error", "ok"]
    assert log.invocation.outcome == "ok"


def test_a_call_that_is_metered_is_not_metered_again_when_another_hook_fails(meter: Meter, log: Log) -> None:
    def fail(event: AfterModelCallEvent) -> None:
        if event.exception is None:
            raise RuntimeError("broken hook")

    with pytest.raises(RuntimeError), invocation(meter) as usage:
        agent(usage, {"text": "ok"}, hooks=(Hook(after=fail),))("hello")
    (call,) = log.calls
    assert (call.outcome, call.tokens) == ("ok", Tokens(100, 20))


def test_a_call_that_another_hook_stopped_is_no_call(meter: Meter, log: Log) -> None:
    def expire(_: BeforeModelCallEvent) -> None:
        raise Refused(TOKEN_EXPIRED)

    def cancel(event: BeforeModelCallEvent) -> None:
        event.cancel = "not now"

    with pytest.raises(Refused), invocation(meter) as usage:
        agent(usage, {"text": "never"}, hooks=(Hook(before=expire),))("hello")
    assert log.calls == []
    assert log.invocation.outcome == "token_expired"
    log.writes.clear()
    with invocation(meter) as usage:
        agent(usage, {"text": "never"}, hooks=(Hook(before=cancel),))("hello")
    assert log.calls == []


def test_a_run_that_is_cancelled_in_its_stream_is_metered(meter: Meter, log: Log) -> None:
    async def run() -> None:
        with invocation(meter) as usage:
            running = agent(usage, {"text": "half"})
            async for event in running.stream_async("hello"):
                if "data" in event:
                    running.cancel()

    asyncio.run(run())
    (call,) = log.calls
    assert (call.outcome, call.cost) == ("cancelled", Cost(None, None))


def test_a_task_that_is_cancelled_in_its_stream_is_metered(meter: Meter, log: Log) -> None:
    async def run() -> None:
        started = asyncio.Event()

        async def answer() -> None:
            with invocation(meter) as usage:
                running = agent(usage, {"tool": "echo"}, {"text": "half", "hangs": True})
                async for event in running.stream_async("hello"):
                    if "data" in event:
                        started.set()

        task = asyncio.create_task(answer())
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())
    assert [record.outcome for record in log.calls] == ["ok", "cancelled"]
    assert log.invocation.outcome == "cancelled"
    assert log.tokens == Tokens(100, 20)
    assert [record.cost.amount for record in log.calls] == [Decimal("0.0002"), None]


def test_a_stream_that_its_reader_closes_is_metered(meter: Meter, log: Log) -> None:
    async def events() -> AsyncIterator[Any]:
        with invocation(meter) as usage:
            async for event in agent(usage, {"text": "half", "hangs": True}).stream_async("hello"):
                if "data" in event:
                    yield event["data"]

    async def read_a_little() -> None:
        answer = events()
        async for _ in answer:
            break
        await answer.aclose()  # type: ignore[attr-defined]

    asyncio.run(read_a_little())
    assert [record.outcome for record in log.records] == ["cancelled", "cancelled"]
    assert log.calls[0].cost == Cost(None, None)


def test_ids_of_records_are_uuids(meter: Meter, log: Log) -> None:
    with invocation(meter):
        pass
    assert re.fullmatch(r"[0-9a-f-]{36}", log.invocation.id)

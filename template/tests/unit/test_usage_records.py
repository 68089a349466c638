"""Usage records: one for every model call and every invocation, whatever became of it."""

import asyncio
import json
import re
import sys
import threading
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

from saas_agent.errors import LIMIT_REACHED, TOKEN_EXPIRED, Refused
from saas_agent.metering.hooks import UsageHooks
from saas_agent.metering.rates import Cost, Rate, RateCard, Tokens
from saas_agent.metering.record import InvocationCounts, Record, parse, plain
from saas_agent.metering.usage import Meter, Usage

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
INVOCATION = replace(RECORD, counts=InvocationCounts(2, 1, 30))


class Log:
    """Takes the meter's writes, and reads them back through the door."""

    def __init__(self) -> None:
        self.writes: list[str] = []

    def write(self, text: str) -> None:
        self.writes.append(text)

    @property
    def records(self) -> list[Record]:
        records = [parse(text.removesuffix("\n")) for text in self.writes]
        assert None not in records
        return [record for record in records if record is not None]

    @property
    def calls(self) -> list[Record]:
        return [record for record in self.records if record.kind == "model_call"]

    @property
    def invocation(self) -> Record:
        (invocation,) = [record for record in self.records if record.kind == "invocation"]
        return invocation


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture
def meter(log: Log) -> Meter:
    return Meter("desk", "dev", RateCard([RATE]), log.write, lambda: NOW)


def invocation(meter: Meter) -> Any:
    return meter.invocation(tier="basic", tenant_id="acme", session_id="s1", request_id="r1")


# The record


@pytest.mark.parametrize("record", [RECORD, INVOCATION])
def test_a_record_is_one_line_that_reads_back_as_it_was(record: Record) -> None:
    line = record.to_line()
    assert "\n" not in line
    assert parse(line) == record


def test_service_and_tier_are_the_only_dimensions() -> None:
    for record in (RECORD, INVOCATION):
        (directive,) = json.loads(record.to_line())["_aws"]["CloudWatchMetrics"]
        assert directive["Dimensions"] == [["service", "tier"]]
        assert directive["Namespace"] == "saas-agent"


def test_every_metric_is_a_number_of_the_record_itself() -> None:
    for record in (RECORD, INVOCATION):
        document = json.loads(record.to_line())
        assert document["_aws"]["Timestamp"] == int(NOW.timestamp() * 1000)
        for metric in document["_aws"]["CloudWatchMetrics"][0]["Metrics"]:
            assert type(document[metric["Name"]]) is int


def test_no_metric_is_counted_by_both_kinds_of_record() -> None:
    names = [
        {metric["Name"] for metric in json.loads(line)["_aws"]["CloudWatchMetrics"][0]["Metrics"]}
        for line in (RECORD.to_line(), INVOCATION.to_line())
    ]
    assert not names[0] & names[1]


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
    assert "\n" not in replace(RECORD, session_id='x\n{"record":"usage"}').to_line()


@pytest.mark.parametrize(
    "change",
    [
        {"record": "other"},
        {"schema": 2},
        {"id": ""},
        {"kind": "guess"},
        {"at": "yesterday"},
        {"at": "2026-11-24T12:30:15"},
        {"tenant_id": ""},
        {"tenant_id": ["acme"]},
        {"InputTokens": -1},
        {"InputTokens": "1"},
        {"InputTokens": True},
        {"OutputTokens": 1.5},
        {"cost_usd": "lots"},
        {"cost_usd": "NaN"},
        {"cost_usd": "-1"},
        {"cost_usd": 0.1},
        {"cost_usd": None},
        {"unpriced": True},
        {"rate_date": "soon"},
        {"ModelCalls": None},
    ],
)
def test_a_malformed_record_is_not_read(change: dict[str, object]) -> None:
    document = json.loads(INVOCATION.to_line())
    assert parse(json.dumps({**document, **change})) is None


def test_a_record_that_lacks_a_field_is_not_read() -> None:
    document = json.loads(INVOCATION.to_line())
    for key in set(document) - {"_aws"}:
        assert parse(json.dumps({k: v for k, v in document.items() if k != key})) is None, key


@pytest.mark.parametrize("line", ["", "INFO started", "[]", "null", "{", '{"record":"usage"}'])
def test_other_lines_of_a_log_are_no_records(line: str) -> None:
    assert parse(line) is None


# The meter


def test_a_model_call_is_written_at_once_and_the_invocation_at_the_end(meter: Meter, log: Log) -> None:
    with invocation(meter) as usage:
        usage.model_call(MODEL, 100, 20, 3, 4, 7)
        assert [record.kind for record in log.records] == ["model_call"]
        usage.tool_call()
        usage.model_call(MODEL, 50, 10, latency_ms=5)
        usage.finish("ok")
    assert [record.kind for record in log.records] == ["model_call", "model_call", "invocation"]
    assert log.calls[0].tokens == Tokens(100, 20, 3, 4)
    assert log.calls[0].cost == Cost(Decimal("0.0002053"), date(2026, 1, 1))
    whole = log.invocation
    assert whole.tokens == Tokens(150, 30, 3, 4)
    assert whole.cost == Cost(Decimal("0.0003053"), date(2026, 1, 1))
    assert (whole.tenant_id, whole.tier, whole.session_id) == ("acme", "basic", "s1")
    assert (whole.request_id, whole.feature, whole.model_id) == ("r1", "support_desk", MODEL)
    assert (whole.latency_ms, whole.outcome) == (12, "ok")
    assert whole.counts is not None
    assert (whole.counts.model_calls, whole.counts.tool_calls) == (2, 1)
    assert len({record.id for record in log.records}) == 3


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
    assert (log.invocation.outcome, log.invocation.tokens) == (outcome, Tokens(1, 1))


def test_the_first_outcome_stands(meter: Meter, log: Log) -> None:
    with pytest.raises(GeneratorExit), invocation(meter) as usage:
        usage.finish("limit_reached")
        usage.finish("ok")
        raise GeneratorExit
    assert log.invocation.outcome == "limit_reached"


def test_an_invocation_without_a_model_call_costs_nothing(meter: Meter, log: Log) -> None:
    with invocation(meter):
        pass
    assert log.invocation.cost == Cost(Decimal(0), None)
    assert log.invocation.model_id is None


def test_one_unpriced_call_makes_the_invocations_cost_unknown(meter: Meter, log: Log) -> None:
    with invocation(meter) as usage:
        usage.model_call(MODEL, 100, 20)
        assert usage.totals.cost == Decimal("0.0002")
        usage.model_call("maker.unknown-v1:0", 100, 20)
        assert usage.totals.cost is None
        assert usage.totals.tokens == Tokens(200, 40)
    assert [record.cost.amount for record in log.calls] == [Decimal("0.0002"), None]
    assert log.invocation.cost == Cost(None, None)
    assert log.invocation.model_id is None


def test_an_invocation_that_is_refused_before_its_tenant_is_known_is_recorded(meter: Meter, log: Log) -> None:
    with pytest.raises(Refused), meter.invocation(request_id=""):
        raise Refused(TOKEN_EXPIRED)
    refused = log.invocation
    assert (refused.tenant_id, refused.session_id, refused.request_id) == (None, None, None)
    assert (refused.tier, refused.outcome) == ("unknown", "token_expired")


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
                usage.tool_call()

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert all(text.count("\n") == 1 and text.endswith("\n") for text in log.writes)
    assert len(log.calls) == 2400
    assert log.invocation.tokens == Tokens(2400, 2400)
    assert log.invocation.counts is not None
    assert log.invocation.counts.tool_calls == 2400


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
        yield {"messageStop": {"stopReason": "tool_use" if "tool" in turn else "end_turn"}}
        metadata = {"usage": turn.get("usage", USAGE), "metrics": {"latencyMs": 7}}
        yield {"metadata": metadata}


@tool
def echo(text: str) -> str:
    """Gives the text back.

    Args:
        text: what to give back
    """
    return text


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
        tools=[echo],
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
    counts = log.invocation.counts
    assert counts is not None
    assert (counts.model_calls, counts.tool_calls) == (2, 1)
    assert log.invocation.tokens == Tokens(200, 40, 3, 4)
    spent = result.metrics.latest_agent_invocation
    assert spent is not None
    assert spent.usage["inputTokens"] == log.invocation.tokens.input


def test_no_prompt_and_no_answer_is_in_a_record(meter: Meter, log: Log) -> None:
    with invocation(meter) as usage:
        agent(usage, {"tool": "echo"}, {"text": "the secret answer"})("the secret prompt")
    assert "secret" not in "".join(log.writes)


def test_a_run_that_a_limit_ends_is_metered_up_to_there(meter: Meter, log: Log) -> None:
    with invocation(meter) as usage:
        turns: list[Turn] = [{"tool": "echo"}] * 5
        result = agent(usage, *turns)("hello", limits={"turns": 2})
    assert result.stop_reason == "limit_turns"
    assert log.invocation.tokens == Tokens(200, 40)
    assert len(log.calls) == 2


def test_a_call_that_bedrock_turned_down_used_nothing(meter: Meter, log: Log) -> None:
    for error in (client_error("ValidationException"), ModelThrottledException("slow down")):
        log.writes.clear()
        with pytest.raises(type(error)), invocation(meter) as usage:
            agent(usage, {"raises": error})("hello")
        (call,) = log.calls
        assert (call.outcome, call.tokens, call.cost.amount) == ("error", Tokens(), Decimal(0))
        assert log.invocation.outcome == "error"


def test_a_call_that_broke_off_in_its_stream_has_no_known_cost(meter: Meter, log: Log) -> None:
    broken = EventStreamError({"Error": {"Code": "x", "Message": "y"}}, "ConverseStream")
    throttled = ModelThrottledException("in the stream")
    throttled.__cause__ = broken
    for error in (broken, throttled, TimeoutError()):
        log.writes.clear()
        with pytest.raises(type(error)), invocation(meter) as usage:
            agent(usage, {"text": "half", "breaks": error})("hello")
        (call,) = log.calls
        assert (call.outcome, call.tokens, call.cost) == ("error", Tokens(), Cost(None, None))
        assert log.invocation.cost == Cost(None, None)


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
    assert log.invocation.tokens == Tokens(100, 20)
    assert log.invocation.cost == Cost(None, None)


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
    assert log.invocation.cost == Cost(None, None)


def test_ids_of_records_are_uuids(meter: Meter, log: Log) -> None:
    with invocation(meter):
        pass
    assert re.fullmatch(r"[0-9a-f-]{36}", log.invocation.id)

"""The meter: a record for each model call as it ends, and for each invocation however it ends."""

import asyncio
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from threading import Lock

from saas_agent.errors import Refused
from saas_agent.metering.rates import UNPRICED, Cost, RateCard, Tokens
from saas_agent.metering.record import InvocationCounts, Record

OK = "ok"
CANCELLED = "cancelled"
ERROR = "error"

DEFAULT_FEATURE = "support_desk"
# A metric dimension can't be empty: this is for what is refused before its tier is known.
UNKNOWN_TIER = "unknown"


def utc_now() -> datetime:
    """The time, in UTC."""
    return datetime.now(UTC)


def write_stdout(line: str) -> None:
    """Writes to stdout at once: a pipe is buffered, and a record must not die with the process."""
    sys.stdout.write(line)
    sys.stdout.flush()


@dataclass(frozen=True)
class Totals:
    """What an invocation has used up to now.

    cost: US dollars; None as soon as one of its model calls is unpriced, since the sum would be too
    low.
    """

    tokens: Tokens
    model_calls: int
    tool_calls: int
    latency_ms: int
    cost: Decimal | None


class Meter:
    """Writes the usage records of one service and stage. Safe to share between threads."""

    def __init__(
        self,
        service: str,
        stage: str,
        rates: RateCard,
        write: Callable[[str], object] = write_stdout,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        """`write` gets each record as one line, line end included, in a call of its own."""
        self.service = service
        self.stage = stage
        self.rates = rates
        self.clock = clock
        self._write = write
        self._lock = Lock()

    def write(self, record: Record) -> None:
        """Writes one record as one line."""
        line = record.to_line() + "\n"
        with self._lock:
            self._write(line)

    @contextmanager
    def invocation(
        self,
        *,
        request_id: str | None,
        tier: str | None = None,
        tenant_id: str | None = None,
        session_id: str | None = None,
        feature: str = DEFAULT_FEATURE,
    ) -> Iterator["Usage"]:
        """Meters what happens inside, and writes the invocation's record when it ends.

        What isn't known yet when it begins is filled in by `Usage.identify`.
        """
        usage = Usage(self, request_id, feature)
        usage.identify(tier=tier, tenant_id=tenant_id, session_id=session_id)
        try:
            yield usage
        except BaseException as error:
            usage.finish(_outcome(error))
            raise
        finally:
            usage.close()


class Usage:
    """What one invocation uses, made by `Meter.invocation`. Its tools' threads may share it."""

    def __init__(self, meter: Meter, request_id: str | None, feature: str) -> None:
        self._meter = meter
        self._request_id = request_id or None
        self._feature = feature
        self._tier = UNKNOWN_TIER
        self._tenant_id: str | None = None
        self._session_id: str | None = None
        self._began = time.monotonic()
        self._lock = Lock()
        self._tokens = Tokens()
        self._costs: list[Cost] = []
        self._models: set[str] = set()
        self._tool_calls = 0
        self._latency_ms = 0
        self._under_way: tuple[str, float] | None = None
        self._outcome: str | None = None

    def identify(
        self,
        *,
        tier: str | None = None,
        tenant_id: str | None = None,
        session_id: str | None = None,
    ) -> None:
        """Who this invocation is for: what is given replaces what was known."""
        self._tier = tier or self._tier
        self._tenant_id = tenant_id or self._tenant_id
        self._session_id = session_id or self._session_id

    @property
    def totals(self) -> Totals:
        """What was used up to now."""
        with self._lock:
            amounts = [cost.amount for cost in self._costs]
            known = [amount for amount in amounts if amount is not None]
            return Totals(
                tokens=self._tokens,
                model_calls=len(amounts),
                tool_calls=self._tool_calls,
                latency_ms=self._latency_ms,
                cost=sum(known, Decimal(0)) if len(known) == len(amounts) else None,
            )

    def model_started(self, model_id: str) -> None:
        """A model call begins. If it never ends, it is recorded as cancelled at the close."""
        self._under_way = (model_id, time.monotonic())

    def model_ended(self, tokens: Tokens | None, outcome: str, latency_ms: int = 0) -> None:
        """The model call under way ended; nothing happens where there is none.

        tokens: None where the model did not tell them. latency_ms: the model's own, else measured.
        """
        if self._under_way is None:
            return
        model_id, began = self._under_way
        self._under_way = None
        self._record_model_call(model_id, tokens, latency_ms or _milliseconds_since(began), outcome)

    def model_call(
        self,
        model_id: str,
        input_tokens: int,
        output_tokens: int,
        cache_read_tokens: int = 0,
        cache_write_tokens: int = 0,
        latency_ms: int = 0,
        outcome: str = OK,
    ) -> None:
        """Records a model call that is over, at once. For the counts see `Tokens`."""
        tokens = Tokens(input_tokens, output_tokens, cache_read_tokens, cache_write_tokens)
        self._record_model_call(model_id, tokens, latency_ms, outcome)

    def tool_call(self) -> None:
        """Counts one call of a tool."""
        with self._lock:
            self._tool_calls += 1

    def finish(self, outcome: str = OK) -> None:
        """How the invocation ended; the first word stands. Without any, its exception tells."""
        self._outcome = self._outcome or outcome

    def close(self) -> None:
        """Records what is still under way, and the invocation. `Meter.invocation` calls it."""
        self.model_ended(None, CANCELLED)
        totals = self.totals
        dates = {cost.rate_date for cost in self._costs}
        self._meter.write(
            self._record(
                model_id=self._models.copy().pop() if len(self._models) == 1 else None,
                tokens=totals.tokens,
                latency_ms=totals.latency_ms,
                outcome=self._outcome or OK,
                cost=Cost(totals.cost, dates.pop() if len(dates) == 1 else None),
                counts=InvocationCounts(
                    model_calls=totals.model_calls,
                    tool_calls=totals.tool_calls,
                    duration_ms=_milliseconds_since(self._began),
                ),
            )
        )

    def _record_model_call(self, model_id: str, tokens: Tokens | None, latency_ms: int, outcome: str) -> None:
        # A call that was cut or broke off tells no tokens, but may well be billed: its cost is
        # unknown, not zero.
        cost = UNPRICED
        if tokens is not None:
            cost = self._meter.rates.cost(model_id, tokens, self._meter.clock())
        with self._lock:
            self._tokens += tokens or Tokens()
            self._costs.append(cost)
            self._models.add(model_id)
            self._latency_ms += latency_ms
        self._meter.write(
            self._record(
                model_id=model_id,
                tokens=tokens or Tokens(),
                latency_ms=latency_ms,
                outcome=outcome,
                cost=cost,
            )
        )

    def _record(
        self,
        *,
        model_id: str | None,
        tokens: Tokens,
        latency_ms: int,
        outcome: str,
        cost: Cost,
        counts: InvocationCounts | None = None,
    ) -> Record:
        return Record(
            id=str(uuid.uuid4()),
            at=self._meter.clock(),
            service=self._meter.service,
            stage=self._meter.stage,
            tier=self._tier,
            tenant_id=self._tenant_id,
            session_id=self._session_id,
            request_id=self._request_id,
            feature=self._feature,
            model_id=model_id,
            tokens=tokens,
            latency_ms=latency_ms,
            outcome=outcome,
            cost=cost,
            counts=counts,
        )


def _outcome(error: BaseException) -> str:
    if isinstance(error, Refused):
        return error.reason.code
    if isinstance(error, asyncio.CancelledError | GeneratorExit | KeyboardInterrupt):
        return CANCELLED
    return ERROR


def _milliseconds_since(began: float) -> int:
    return round((time.monotonic() - began) * 1000)

"""The meter: a record for each model call as it ends, and the rest of an invocation when it ends, however it does."""

import asyncio
import logging
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from threading import Lock
from typing import Any

from saas_agent.errors import Refused
from saas_agent.metering.rates import FREE, RUNTIME, UNPRICED, Cost, RateCard, Tokens
from saas_agent.metering.record import CANCELLED, ERROR, OK, Invocation, Operation, OperationKind, Record, known_id

logger = logging.getLogger(__name__)

DEFAULT_FEATURE = "conversation"
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
    """What the model calls of an invocation have used up to now.

    untold: how many of them ended without telling their tokens, as one does that was cut; `tokens` lacks theirs.
    cost: US dollars; None as soon as one of them is unpriced, since the sum would be too low.
    """

    tokens: Tokens
    model_calls: int
    untold: int
    cost: Decimal | None


@dataclass
class _Calls:
    calls: int = 0
    errors: int = 0
    latency_ms: int = 0


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
        self._request_id = known_id(request_id or "")
        self._feature = feature
        self._tier = UNKNOWN_TIER
        self._tenant_id: str | None = None
        self._session_id: str | None = None
        self._began = time.monotonic()
        self._lock = Lock()
        self._tokens = Tokens()
        self._costs: list[Cost] = []
        self._untold = 0
        self._operations: dict[tuple[OperationKind, str], _Calls] = {}
        self._under_way: tuple[str, float] | None = None
        self._outcome: str | None = None
        self._settle: list[Callable[[Totals], object]] = []

    def identify(
        self,
        *,
        tier: str | None = None,
        tenant_id: str | None = None,
        session_id: str | None = None,
        feature: str | None = None,
    ) -> None:
        """Who this invocation is for, and what for: what is given replaces what was known."""
        self._tier = tier or self._tier
        self._feature = feature or self._feature
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
                untold=self._untold,
                cost=sum(known, Decimal(0)) if len(known) == len(amounts) else None,
            )

    def when_closed(self, settle: Callable[[Totals], object]) -> None:
        """Has `settle` told the totals once the invocation is over, however it ends. What it raises is logged."""
        self._settle.append(settle)

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

    def operation(self, kind: OperationKind, name: str, *, failed: bool = False, latency_ms: int = 0) -> None:
        """Counts one call of a tool, or of an operation of a service. All of a name become one record at the close."""
        with self._lock:
            counted = self._operations.setdefault((kind, name), _Calls())
            counted.calls += 1
            counted.errors += failed
            counted.latency_ms += latency_ms

    def finish(self, outcome: str = OK) -> None:
        """How the invocation ended; the first word stands. Without any, its exception tells."""
        self._outcome = self._outcome or outcome

    def close(self) -> None:
        """Records what is still under way, the operations, and the invocation. `Meter.invocation` calls it."""
        self.model_ended(None, CANCELLED)
        for (kind, name), counted in self._operations.items():
            self._record_operation(kind, name, counted)
        totals, milliseconds = self.totals, _milliseconds_since(self._began)
        self._write(
            outcome=self._outcome or OK,
            cost=self._meter.rates.operation_cost(RUNTIME, milliseconds, self._meter.clock()),
            invocation=Invocation(totals.model_calls, milliseconds),
        )
        for settle in self._settle:
            try:
                settle(totals)
            except Exception as error:
                # The answer is given already; what is not settled is made good by the next request.
                logger.error("not_settled kind=%s request_id=%s", type(error).__name__, self._request_id)

    def _record_model_call(self, model_id: str, tokens: Tokens | None, latency_ms: int, outcome: str) -> None:
        # A call that was cut or broke off tells no tokens, but may well be billed: its cost is
        # unknown, not zero.
        cost = UNPRICED
        if tokens is not None:
            cost = self._meter.rates.cost(model_id, tokens, self._meter.clock())
        with self._lock:
            self._tokens += tokens or Tokens()
            self._costs.append(cost)
            self._untold += tokens is None
        self._write(
            model_id=model_id,
            tokens=tokens or Tokens(),
            latency_ms=latency_ms,
            outcome=outcome,
            cost=cost,
        )

    def _record_operation(self, kind: OperationKind, name: str, counted: _Calls) -> None:
        # A tool is the platform's own code: what it causes has records of its own. A failed call isn't billed.
        cost = FREE
        if kind != "tool_call":
            cost = self._meter.rates.operation_cost(name, counted.calls - counted.errors, self._meter.clock())
        self._write(
            operation=Operation(kind, name, counted.calls, counted.errors),
            latency_ms=counted.latency_ms,
            outcome=ERROR if counted.errors else OK,
            cost=cost,
        )

    def _write(self, *, outcome: str, cost: Cost, **measured: Any) -> None:
        self._meter.write(
            Record(
                id=str(uuid.uuid4()),
                at=self._meter.clock(),
                service=self._meter.service,
                stage=self._meter.stage,
                tier=self._tier,
                tenant_id=self._tenant_id,
                session_id=self._session_id,
                request_id=self._request_id,
                feature=self._feature,
                outcome=outcome,
                cost=cost,
                **measured,
            )
        )


def _outcome(error: BaseException) -> str:
    if isinstance(error, Refused):
        return error.reason.code
    if isinstance(error, asyncio.CancelledError | GeneratorExit | KeyboardInterrupt):
        return CANCELLED
    return ERROR


def _milliseconds_since(began: float) -> int:
    return round((time.monotonic() - began) * 1000)

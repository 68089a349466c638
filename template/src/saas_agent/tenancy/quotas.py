"""What a tenant may still use: tokens a day and a month, requests a minute, sessions at a time.

Checked before the model is called, in the tenant's own items of the quota table and with the
tenant's own credentials. A request takes its tier's `total_tokens` out of the budget when it
begins and gives back what it left when it ends, each in one conditional update. So however many
requests come at once, a budget is overspent by one request's `total_tokens` at most, and by what
each request's last model call runs over that (its agent stops between calls, not within one).

A request in which a model call ended without telling its tokens (its reader closed the stream, the connection broke)
gets nothing back, and is charged what its other calls told on top: nobody knows what that call cost, and whoever cuts
each answer before its end must not use the model for nothing. A call that the service refused has cost nothing.

Nobody waits for what is given back: that happens in a thread of its own, a little after the answer.
What a killed process never gave back, the next request that would be refused does. The ledger, in
which a tenant can't write, is asked as well: it lags, but it knows.

Fails closed: where the quota can't be checked, the request is refused.
"""

import hashlib
import logging
import threading
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from typing import Any

from botocore.exceptions import ClientError

from saas_agent.errors import INTERNAL, Refused, limit_reached
from saas_agent.metering.ledger import LedgerReader
from saas_agent.metering.rates import Tokens
from saas_agent.metering.usage import Totals
from saas_agent.tenancy.access import TenantAccess, seen_when_denied
from saas_agent.tenancy.tiers import Tier

logger = logging.getLogger(__name__)

Settle = Callable[[Totals], object]

SESSION_SECONDS = 900
"""A session counts as open for so long after its last request: AgentCore ends it then (IdleRuntimeSessionTimeout)."""

LEASE_SECONDS = 3600
"""What a request took is given back after so long at the latest, even if its process is gone."""

LEDGER_SECONDS = 30.0
"""How long what the ledger said is taken for granted."""

_ATTEMPTS = 6
_SETTLING = 4  # threads; a process has few requests at a time
_ANSWER_SECONDS = 0.01
_SESSIONS = "SESSIONS"
_LEASE, _SESSION = "lease_", "session_"

Item = dict[str, Any]


class Quotas:
    """The quotas of every tenant. `table`, `ledger`: names of the quota table and of the ledger.

    settling: runs what gives back, after the answer.
    """

    def __init__(
        self,
        table: str,
        ledger: str,
        *,
        capacity: int = 1024,
        clock: Callable[[], float] = time.time,
        settling: Executor | None = None,
    ) -> None:
        self._table = table
        self._ledger = ledger
        self._capacity = capacity
        self._clock = clock
        self._settling = settling or _AfterTheAnswer(_SETTLING, thread_name_prefix="settling")
        self._lock = threading.Lock()
        # Guesses, to save a call: the tables decide.
        self._open: OrderedDict[tuple[str, str], float] = OrderedDict()
        self._told: OrderedDict[str, tuple[float, tuple[int, int]]] = OrderedDict()
        self._minutes: OrderedDict[str, int] = OrderedDict()

    def admit(self, access: TenantAccess, tier: Tier, session_id: str) -> Settle:
        """Takes the request's share of every quota; what it returns has what the request left given back.

        Raises:
            Refused: with limit_reached, naming the limit and when it is reset; denied or internal
                where the tables can't be reached.
        """
        with seen_when_denied("quotas.admit", access.tenant):
            self._require_budget_by_ledger(access, tier)
            self._open_session(access, tier, session_id)
            return self._take(access, tier)

    # --- What the ledger says -----------------------------------------------------------------------

    def _require_budget_by_ledger(self, access: TenantAccess, tier: Tier) -> None:
        now = datetime.fromtimestamp(self._clock(), UTC)
        day, month = self._totals(access, now)
        if month >= tier.tokens_per_month:
            raise _refused("tokens_per_month", tier.tokens_per_month, _next_month(now), "the ledger")
        if day >= tier.tokens_per_day:
            raise _refused("tokens_per_day", tier.tokens_per_day, _next_day(now), "the ledger")

    def _totals(self, access: TenantAccess, now: datetime) -> tuple[int, int]:
        key, moment = f"{access.tenant.tenant_id} {now.date()}", now.timestamp()
        with self._lock:
            if (told := self._told.get(key)) and moment - told[0] < LEDGER_SECONDS:
                return told[1]
        reader = LedgerReader(access.client("dynamodb"), self._ledger)
        day, month = reader.totals(access.tenant.tenant_id, now.date())
        with self._lock:
            _remember(self._told, key, (moment, (day.tokens, month.tokens)), self._capacity)
        return day.tokens, month.tokens

    # --- Sessions -----------------------------------------------------------------------------------

    def _open_session(self, access: TenantAccess, tier: Tier, session_id: str) -> None:
        now, name = int(self._clock()), _SESSION + hashlib.sha256(session_id.encode()).hexdigest()[:16]
        guess = (access.tenant.tenant_id, name)
        with self._lock:
            # A request in the second half of the session's time extends it.
            if self._open.get(guess, 0) - now > SESSION_SECONDS / 2:
                return
        known = guess in self._open
        for _ in range(_ATTEMPTS):
            try:
                self._enter(access, tier, name, now + SESSION_SECONDS, known=known)
            except ClientError as error:
                item = _held_against(error)
                known = name in item
                if known or _number(item, "open") < tier.concurrent_sessions:
                    continue
                if self._sweep_sessions(access, item, now):
                    continue
                until = min((_number(item, key) for key in item if key.startswith(_SESSION)), default=now)
                at = datetime.fromtimestamp(max(until, now), UTC)
                raise _refused("concurrent_sessions", tier.concurrent_sessions, at, "sessions") from None
            with self._lock:
                _remember(self._open, guess, float(now + SESSION_SECONDS), self._capacity)
            return
        raise Refused(INTERNAL, "others kept changing the tenant's sessions")

    def _enter(self, access: TenantAccess, tier: Tier, name: str, until: int, *, known: bool) -> None:
        values: dict[str, int] = {":until": until}
        if known:
            expression, condition = "SET #session = :until", "attribute_exists(#session)"
        else:
            expression = "SET #session = :until ADD #open :one"
            condition = "attribute_not_exists(#session) AND (attribute_not_exists(#open) OR #open < :most)"
            values |= {":one": 1, ":most": tier.concurrent_sessions}
        names = {"#session": name} | ({} if known else {"#open": "open"})
        self._update(access, _SESSIONS, expression, condition, names, values)

    def _sweep_sessions(self, access: TenantAccess, item: Item, now: int) -> bool:
        """Closes the sessions whose time is over; whether there were any."""
        over = [key for key in item if key.startswith(_SESSION) and _number(item, key) <= now]
        for key in over:
            self._update(
                access,
                _SESSIONS,
                "REMOVE #session ADD #open :less",
                "#session = :seen",
                {"#session": key, "#open": "open"},
                {":less": -1, ":seen": _number(item, key)},
                if_it_holds=True,
            )
        return bool(over)

    # --- Requests and tokens ------------------------------------------------------------------------

    def _take(self, access: TenantAccess, tier: Tier) -> Settle:
        lease, tenant = _LEASE + uuid.uuid4().hex, access.tenant.tenant_id
        fresh_minute = self._minutes.get(tenant) != int(self._clock()) // 60
        for _ in range(_ATTEMPTS):
            now = datetime.fromtimestamp(self._clock(), UTC)
            taken = _Taken(lease, now, tier.total_tokens)
            try:
                self._reserve(access, tier, taken, fresh_minute=fresh_minute)
            except ClientError as error:
                item = _held_against(error)
                fresh_minute = _number(item, "minute") < taken.minute
                if not fresh_minute and _number(item, "requests") >= tier.requests_per_minute:
                    reset = datetime.fromtimestamp((taken.minute + 1) * 60, UTC)
                    raise _refused("requests_per_minute", tier.requests_per_minute, reset, "requests") from None
                if (refusal := _over_budget(item, tier, taken)) and not self._sweep_leases(access, item, taken):
                    raise refusal from None
                continue
            with self._lock:
                _remember(self._minutes, tenant, taken.minute, self._capacity)
            return lambda totals: self._settling.submit(self._settle, access, taken, totals)
        raise Refused(INTERNAL, "others kept changing the tenant's budget")

    def _reserve(self, access: TenantAccess, tier: Tier, taken: "_Taken", *, fresh_minute: bool) -> None:
        within = (
            "(attribute_not_exists(#month) OR #month < :per_month) AND (attribute_not_exists(#day) OR #day < :per_day)"
        )
        values: dict[str, Any] = {
            ":lease": {"M": taken.lease},
            ":tokens": taken.tokens,
            ":one": 1,
            ":minute": taken.minute,
            ":per_month": tier.tokens_per_month,
            ":per_day": tier.tokens_per_day,
        }
        if fresh_minute:
            expression = "SET #lease = :lease, #minute = :minute, #requests = :one ADD #month :tokens, #day :tokens"
            condition = f"(attribute_not_exists(#minute) OR #minute < :minute) AND {within}"
        else:
            expression = "SET #lease = :lease ADD #month :tokens, #day :tokens, #requests :one"
            condition = f"#minute >= :minute AND #requests < :per_minute AND {within}"
            values[":per_minute"] = tier.requests_per_minute
        names = {
            "#lease": taken.name,
            "#month": "month",
            "#day": taken.day,
            "#minute": "minute",
            "#requests": "requests",
        }
        self._update(access, taken.item, expression, condition, names, values)

    def _settle(self, access: TenantAccess, taken: "_Taken", totals: Totals) -> None:
        """Leaves in the budget what the request used; where a call's tokens are unknown, all that it took as well."""
        told = sum(getattr(totals.tokens, part.name) for part in fields(Tokens))
        used = told + taken.tokens if totals.untold else told
        try:
            with seen_when_denied("quotas.settle", access.tenant):
                if self._give_back(access, taken.item, taken.name, taken.day, taken.tokens - used):
                    return
                # It took longer than its lease, which was swept: all that it used is to be added.
                names = {"#month": "month", "#day": taken.day}
                self._update(access, taken.item, "ADD #month :used, #day :used", None, names, {":used": used})
        except Exception as error:
            # The answer is given already; what is not settled is made good by a later request.
            logger.error("not_settled kind=%s tenant=%s", type(error).__name__, access.tenant.tenant_id)

    def _sweep_leases(self, access: TenantAccess, item: Item, taken: "_Taken") -> bool:
        """Gives back what requests took whose process is gone; whether there were any."""
        leases = {key: value["M"] for key, value in item.items() if key.startswith(_LEASE)}
        over = {key: lease for key, lease in leases.items() if _number(lease, "until") <= taken.at.timestamp()}
        for key, lease in over.items():
            self._give_back(access, taken.item, key, str(lease["day"]["S"]), _number(lease, "tokens"))
        return bool(over)

    def _give_back(self, access: TenantAccess, item: str, lease: str, day: str, tokens: int) -> bool:
        """Ends a lease, unless it is over already."""
        return self._update(
            access,
            item,
            "REMOVE #lease ADD #month :back, #day :back",
            "attribute_exists(#lease)",
            {"#lease": lease, "#month": "month", "#day": day},
            {":back": -tokens},
            if_it_holds=True,
        )

    def _update(
        self,
        access: TenantAccess,
        item: str,
        expression: str,
        condition: str | None,
        names: Mapping[str, str],
        values: Mapping[str, Any],
        *,
        if_it_holds: bool = False,
    ) -> bool:
        """One conditional update. if_it_holds: where the condition doesn't hold, returns False instead of raising."""
        conditional = {"ConditionExpression": condition, "ReturnValuesOnConditionCheckFailure": "ALL_OLD"}
        try:
            access.client("dynamodb").update_item(
                TableName=self._table,
                Key={"pk": {"S": f"TENANT#{access.tenant.tenant_id}"}, "sk": {"S": item}},
                UpdateExpression=expression,
                ExpressionAttributeNames=names,
                ExpressionAttributeValues={
                    name: {"N": str(value)} if isinstance(value, int) else value for name, value in values.items()
                },
                **(conditional if condition else {}),
            )
        except ClientError as error:
            if if_it_holds and error.response["Error"]["Code"] == "ConditionalCheckFailedException":
                return False
            raise
        return True


class _AfterTheAnswer(ThreadPoolExecutor):
    """Begins a little later, when the answer has usually left: the work would hold it up."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        def later() -> Any:
            time.sleep(_ANSWER_SECONDS)
            return fn(*args, **kwargs)

        return super().submit(later)


@dataclass(frozen=True)
class _Taken:
    """What a request took out of a budget, and when."""

    name: str
    at: datetime
    tokens: int

    @property
    def item(self) -> str:
        return f"BUDGET#{self.at:%Y-%m}"

    @property
    def day(self) -> str:
        return f"day_{self.at:%d}"

    @property
    def minute(self) -> int:
        return int(self.at.timestamp()) // 60

    @property
    def lease(self) -> Item:
        until = int(self.at.timestamp()) + LEASE_SECONDS
        return {"tokens": {"N": str(self.tokens)}, "day": {"S": self.day}, "until": {"N": str(until)}}


def _over_budget(item: Item, tier: Tier, taken: _Taken) -> Refused | None:
    """The refusal, where a budget of the item leaves nothing."""
    under_way = [value["M"] for key, value in item.items() if key.startswith(_LEASE)]
    for name, column, limit, reset in (
        ("tokens_per_month", "month", tier.tokens_per_month, _next_month(taken.at)),
        ("tokens_per_day", taken.day, tier.tokens_per_day, _next_day(taken.at)),
    ):
        if _number(item, column) < limit:
            continue
        held = sum(_number(lease, "tokens") for lease in under_way if column in ("month", lease["day"]["S"]))
        if _number(item, column) - held < limit:
            # Requests under way hold the rest, and will give back most of it.
            return _refused(name, limit, taken.at + timedelta(seconds=10), "held by requests under way")
        return _refused(name, limit, reset, "counters")
    return None


def _refused(name: str, limit: int, resets_at: datetime, detail: str) -> Refused:
    return Refused(limit_reached(name, limit, resets_at), f"{name}: {detail}")


def _held_against(error: ClientError) -> Item:
    """The item as it was when the condition didn't hold; what else went wrong is raised again."""
    if error.response["Error"]["Code"] != "ConditionalCheckFailedException":
        raise error
    item: Item = error.response.get("Item", {})
    return item


def _number(item: Mapping[str, Any], name: str) -> int:
    return int(item.get(name, {"N": "0"})["N"])


def _next_day(now: datetime) -> datetime:
    return datetime(now.year, now.month, now.day, tzinfo=UTC) + timedelta(days=1)


def _next_month(now: datetime) -> datetime:
    return datetime(now.year + now.month // 12, now.month % 12 + 1, 1, tzinfo=UTC)


def _remember(cache: "OrderedDict[Any, Any]", key: Any, value: Any, capacity: int) -> None:
    cache[key] = value
    cache.move_to_end(key)
    while len(cache) > capacity:
        cache.popitem(last=False)

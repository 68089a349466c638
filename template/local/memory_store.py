"""What AgentCore Memory keeps: events by memory, actor and session, and records by memory."""

import base64
import itertools
import json
import secrets
import threading
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar

from .operations import ServiceError

Item = TypeVar("Item")


@dataclass(frozen=True)
class Scope:
    """Where an event belongs. `session_id` alone says nothing: two actors may use the same one."""

    memory_id: str
    actor_id: str
    session_id: str


@dataclass(frozen=True)
class Event:
    """One event, as it was sent.

    number: order of arrival. metadata: `{key: {"stringValue": ...}}`.
    """

    scope: Scope
    number: int
    event_id: str
    timestamp: datetime
    payload: list[Any]
    branch: Mapping[str, str]
    metadata: Mapping[str, Any]

    def newest_first(self) -> list[float]:
        """Sort key. Clients send whole seconds, so arrival decides between events of one second."""
        return [-self.timestamp.timestamp(), -self.number]

    def summary(self, with_payload: bool = True) -> dict[str, Any]:
        """The API's `Event` shape."""
        return {
            "memoryId": self.scope.memory_id,
            "actorId": self.scope.actor_id,
            "sessionId": self.scope.session_id,
            "eventId": self.event_id,
            "eventTimestamp": self.timestamp,
            "payload": self.payload if with_payload else [],
            "branch": self.branch,
            **({"metadata": self.metadata} if self.metadata else {}),
        }


@dataclass(frozen=True)
class Session:
    """A session that had at least one event. number: order of appearance."""

    scope: Scope
    number: int
    created: datetime


@dataclass(frozen=True)
class Record:
    """One memory record. number: order of creation. metadata: `{key: {kind of value: value}}`."""

    record_id: str
    number: int
    text: str
    namespaces: list[str]
    strategy_id: str
    created: datetime
    timestamp: datetime
    metadata: Mapping[str, Any]

    def summary(self) -> dict[str, Any]:
        """The API's `MemoryRecordSummary` shape, without a score."""
        return {
            "memoryRecordId": self.record_id,
            "content": {"text": self.text},
            "memoryStrategyId": self.strategy_id,
            "namespaces": self.namespaces,
            "createdAt": self.created,
            "timestamp": self.timestamp,
            **({"metadata": self.metadata} if self.metadata else {}),
        }


@dataclass
class MemoryStore:
    """Events, sessions and records of every memory. Thread-safe: each method is one atomic step."""

    _events: dict[Scope, dict[str, Event]] = field(default_factory=dict)
    _sessions: dict[Scope, Session] = field(default_factory=dict)
    _tokens: dict[tuple[Scope, str], Event] = field(default_factory=dict)
    _records: dict[str, dict[str, Record]] = field(default_factory=dict)
    _numbers: Any = field(default_factory=lambda: itertools.count(1))
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add_event(
        self,
        scope: Scope,
        *,
        timestamp: datetime,
        payload: list[Any],
        branch: Mapping[str, str],
        metadata: Mapping[str, Any],
        client_token: str | None,
    ) -> tuple[Event, bool]:
        """The new event and True; for a client token seen in this session, its event and False."""
        with self._lock:
            seen = self._tokens.get((scope, client_token)) if client_token else None
            if seen is not None:
                return seen, False
            number = next(self._numbers)
            now = datetime.now(UTC)
            event = Event(
                scope=scope,
                number=number,
                event_id=f"{int(now.timestamp() * 1000):019d}#{secrets.token_hex(4)}",
                timestamp=timestamp,
                payload=payload,
                branch=branch,
                metadata=metadata,
            )
            self._sessions.setdefault(scope, Session(scope, number, now))
            self._events.setdefault(scope, {})[event.event_id] = event
            if client_token:
                self._tokens[scope, client_token] = event
            return event, True

    def event(self, scope: Scope, event_id: str) -> Event | None:
        """One event of the session."""
        with self._lock:
            return self._events.get(scope, {}).get(event_id)

    def events(self, scope: Scope) -> list[Event]:
        """The session's events, newest first."""
        with self._lock:
            return sorted(self._events.get(scope, {}).values(), key=Event.newest_first)

    def delete_event(self, scope: Scope, event_id: str) -> bool:
        """True where the session had the event."""
        with self._lock:
            return self._events.get(scope, {}).pop(event_id, None) is not None

    def sessions(self, memory_id: str, actor_id: str, with_events: bool) -> list[Session]:
        """The actor's sessions, oldest first; `with_events`: only those that still have one."""
        with self._lock:
            return [
                session
                for scope, session in self._sessions.items()
                if (scope.memory_id, scope.actor_id) == (memory_id, actor_id)
                and (self._events.get(scope) or not with_events)
            ]

    def actors(self, memory_id: str) -> list[str]:
        """Every actor that ever had an event, by name; the API has no way to delete one."""
        with self._lock:
            return sorted({s.actor_id for s in self._sessions if s.memory_id == memory_id})

    def add_record(
        self,
        memory_id: str,
        *,
        text: str,
        namespaces: list[str],
        strategy_id: str,
        timestamp: datetime,
        metadata: Mapping[str, Any],
    ) -> Record:
        """Store a memory record."""
        with self._lock:
            record = Record(
                record_id=f"mem-{uuid.uuid4()}",
                number=next(self._numbers),
                text=text,
                namespaces=namespaces,
                strategy_id=strategy_id,
                created=datetime.now(UTC),
                timestamp=timestamp,
                metadata=metadata,
            )
            self._records.setdefault(memory_id, {})[record.record_id] = record
            return record

    def record(self, memory_id: str, record_id: str) -> Record | None:
        """One record of the memory."""
        with self._lock:
            return self._records.get(memory_id, {}).get(record_id)

    def records(self, memory_id: str) -> list[Record]:
        """The memory's records, oldest first."""
        with self._lock:
            return list(self._records.get(memory_id, {}).values())

    def delete_record(self, memory_id: str, record_id: str) -> bool:
        """True where the memory had the record."""
        with self._lock:
            return self._records.get(memory_id, {}).pop(record_id, None) is not None


def page(
    items: Iterable[Item],
    sort_key: Callable[[Item], list[Any]],
    params: Mapping[str, Any],
    *,
    default: int,
) -> tuple[list[Item], str | None]:
    """The page that `maxResults` and `nextToken` ask for, and the token of the next, if any.

    The keys of `sort_key` are unique lists that JSON can hold. A token is the last key handed out:
    what is added or deleted in between neither repeats nor hides another item, and the token opens
    nothing that the request itself does not name.
    """
    ordered = sorted(items, key=sort_key)
    if "nextToken" in params:
        last = _decode(params["nextToken"])
        try:
            ordered = [item for item in ordered if sort_key(item) > last]
        except TypeError:
            raise _bad_token() from None
    size = params.get("maxResults", default)
    token = _encode(sort_key(ordered[size - 1])) if len(ordered) > size else None
    return ordered[:size], token


def _encode(key: list[Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(key).encode()).decode()


def _decode(token: str) -> list[Any]:
    try:
        key = json.loads(base64.urlsafe_b64decode(token))
    except ValueError:
        raise _bad_token() from None
    if not isinstance(key, list):
        raise _bad_token()
    return key


def _bad_token() -> ServiceError:
    return ServiceError("ValidationException", "nextToken is not one that this operation handed out")

"""EventBridge: keeps what is put on the deployed event buses, for whoever wants to read it."""

import json
import threading
import uuid
from dataclasses import dataclass
from typing import Any

from moto.events.models import events_backends

from .gate import Gate
from .operations import Call, ServiceError


@dataclass(frozen=True)
class Event:
    """An event as a rule's target would get it. `bus`: the bus's name; `principal`: who put it there."""

    bus: str
    source: str
    detail_type: str
    detail: dict[str, Any]
    principal: str


class EventBuses:
    """The event buses of one account and Region. No rule delivers anything: events are read here."""

    def __init__(self, account: str, region: str) -> None:
        self._account = account
        self._region = region
        self._events: list[Event] = []
        self._lock = threading.Lock()

    def register(self, gate: Gate) -> None:
        """Answer PutEvents at the gate."""
        gate.handle("events", "PutEvents", self._put)

    def events(self, bus: str) -> list[Event]:
        """What was put on the bus, in its order."""
        with self._lock:
            return [event for event in self._events if event.bus == bus]

    def _put(self, call: Call) -> dict[str, Any]:
        answers = [self._entry(entry, call.principal.arn) for entry in call.params["Entries"]]
        return {"FailedEntryCount": sum("ErrorCode" in answer for answer in answers), "Entries": answers}

    def _entry(self, entry: dict[str, Any], principal: str) -> dict[str, str]:
        bus = str(entry.get("EventBusName", "default")).rpartition("/")[2]
        if bus not in events_backends[self._account][self._region].event_buses:
            raise ServiceError("ResourceNotFoundException", f"Event bus {bus} does not exist.")
        missing = [name for name in ("Source", "DetailType", "Detail") if not entry.get(name)]
        if missing:
            return {"ErrorCode": "InvalidArgument", "ErrorMessage": f"Parameter {missing[0]} is not valid."}
        try:
            detail = json.loads(entry["Detail"])
        except ValueError:
            detail = None
        if not isinstance(detail, dict):
            return {"ErrorCode": "MalformedDetail", "ErrorMessage": "Detail is malformed."}
        event = Event(bus, entry["Source"], entry["DetailType"], detail, principal)
        with self._lock:
            self._events.append(event)
        return {"EventId": str(uuid.uuid4())}

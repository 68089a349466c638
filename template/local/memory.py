"""AgentCore Memory's data plane: events, sessions, actors and memory records.

moto keeps the memories themselves (its bedrock-agentcore-control backend); what is stored in them
is kept here, for the life of the process: `eventExpiryDuration` and record expiry are not acted on.

Long-term memory is the one thing that works differently. AWS lets a model read the events and
writes records some time later. Here a USER text that starts with "Preference:" becomes a record at
once, under each USER_PREFERENCE strategy of the memory, so that the same input always gives the
same records.

Shapes and limits come from botocore's service model. From the AgentCore Developer Guide: events
are listed newest first; `namespace` is an exact match; a namespace template whose variable has no
value is skipped without an error.
"""

import math
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from moto.bedrockagentcorecontrol.models import bedrockagentcorecontrol_backends

from .gate import Gate
from .memory_store import Event, MemoryStore, Record, Scope, page
from .operations import Call, Handler, ServiceError, validate

_PREFERENCE = "Preference:"
_DEFAULT_PAGE = 20
_DEFAULT_TOP_K = 10
_LOWEST_SCORE = 0.1


Answer = Callable[[Call, Any], dict[str, Any]]
"""Answers a validated call on a memory (moto's) with the response's members."""


def register(gate: Gate) -> None:
    """Answer the memory data plane at this gate, from a store of its own that starts empty."""
    service = MemoryService(gate.account)
    for operation, answer in service.operations().items():
        gate.handle("bedrock-agentcore", operation, service.checked(answer))


class MemoryService:
    """The data plane of one account's memories in every region."""

    def __init__(self, account: str) -> None:
        self._account = account
        self._store = MemoryStore()

    def operations(self) -> dict[str, Answer]:
        """What is answered, by API name."""
        return {
            "CreateEvent": self.create_event,
            "GetEvent": self.get_event,
            "ListEvents": self.list_events,
            "DeleteEvent": self.delete_event,
            "ListSessions": self.list_sessions,
            "ListActors": self.list_actors,
            "RetrieveMemoryRecords": self.retrieve_memory_records,
            "ListMemoryRecords": self.list_memory_records,
            "GetMemoryRecord": self.get_memory_record,
            "DeleteMemoryRecord": self.delete_memory_record,
            "BatchCreateMemoryRecords": self.batch_create_memory_records,
            "BatchDeleteMemoryRecords": self.batch_delete_memory_records,
        }

    def checked(self, answer: Answer) -> Handler:
        """`answer` behind what all operations check first: the parameters and the memory."""

        def handle(call: Call) -> dict[str, Any]:
            validate(call)
            return answer(call, self._memory(call))

        return handle

    # -- events ---------------------------------------------------------------------------------

    def create_event(self, call: Call, memory: Any) -> dict[str, Any]:
        params = call.params
        if "sessionId" not in params:
            raise _invalid("sessionId is missing; expected the session that the event belongs to")
        event, is_new = self._store.add_event(
            _scope(memory, params),
            timestamp=params["eventTimestamp"],
            payload=params["payload"],
            branch=params.get("branch") or {"name": "main"},
            metadata=params.get("metadata") or {},
            client_token=params.get("clientToken"),
        )
        if is_new and params.get("extractionMode") != "SKIP":
            self._extract(memory, params)
        return {"event": event.summary()}

    def get_event(self, call: Call, memory: Any) -> dict[str, Any]:
        event = self._store.event(_scope(memory, call.params), call.params["eventId"])
        if event is None:
            raise _missing("Event", call.params["eventId"])
        return {"event": event.summary()}

    def list_events(self, call: Call, memory: Any) -> dict[str, Any]:
        params = call.params
        events = self._store.events(_scope(memory, params))
        filters = params.get("filter") or {}
        if "branch" in filters:
            events = _of_branch(events, filters["branch"])
        for expression in filters.get("eventMetadata") or []:
            events = [event for event in events if _event_matches(event, expression)]
        found, token = page(events, Event.newest_first, params, default=_DEFAULT_PAGE)
        with_payloads = params.get("includePayloads", True)
        return _listing("events", [event.summary(with_payloads) for event in found], token)

    def delete_event(self, call: Call, memory: Any) -> dict[str, Any]:
        event_id = call.params["eventId"]
        if not self._store.delete_event(_scope(memory, call.params), event_id):
            raise _missing("Event", event_id)
        return {"eventId": event_id}

    def list_sessions(self, call: Call, memory: Any) -> dict[str, Any]:
        params = call.params
        with_events = (params.get("filter") or {}).get("eventFilter") == "HAS_EVENTS"
        sessions = self._store.sessions(memory.memory_id, params["actorId"], with_events)
        found, token = page(sessions, lambda s: [s.number], params, default=_DEFAULT_PAGE)
        summaries = [
            {
                "sessionId": session.scope.session_id,
                "actorId": session.scope.actor_id,
                "createdAt": session.created,
            }
            for session in found
        ]
        return _listing("sessionSummaries", summaries, token)

    def list_actors(self, call: Call, memory: Any) -> dict[str, Any]:
        actors = self._store.actors(memory.memory_id)
        found, token = page(actors, lambda actor: [actor], call.params, default=_DEFAULT_PAGE)
        return _listing("actorSummaries", [{"actorId": actor} for actor in found], token)

    # -- records --------------------------------------------------------------------------------

    def retrieve_memory_records(self, call: Call, memory: Any) -> dict[str, Any]:
        """Nearest first; a record without a common word comes too, as a far neighbour."""
        criteria = call.params["searchCriteria"]
        records = self._selected(memory, call.params, criteria.get("memoryStrategyId"), criteria.get("metadataFilters"))
        query = criteria["searchQuery"]
        scored = [(_score(query, record.text), record) for record in records]
        scored.sort(key=lambda pair: (-pair[0], pair[1].number))
        nearest = scored[: criteria.get("topK", _DEFAULT_TOP_K)]
        found, token = page(nearest, lambda pair: [-pair[0], pair[1].number], call.params, default=_DEFAULT_PAGE)
        summaries = [{**record.summary(), "score": score} for score, record in found]
        return _listing("memoryRecordSummaries", summaries, token)

    def list_memory_records(self, call: Call, memory: Any) -> dict[str, Any]:
        params = call.params
        records = self._selected(memory, params, params.get("memoryStrategyId"), params.get("metadataFilters"))
        found, token = page(records, lambda r: [r.number], params, default=_DEFAULT_PAGE)
        return _listing("memoryRecordSummaries", [r.summary() for r in found], token)

    def get_memory_record(self, call: Call, memory: Any) -> dict[str, Any]:
        record = self._store.record(memory.memory_id, call.params["memoryRecordId"])
        if record is None or not _in_named_namespace(record, call.params):
            raise _missing("Memory record", call.params["memoryRecordId"])
        return {"memoryRecord": record.summary()}

    def delete_memory_record(self, call: Call, memory: Any) -> dict[str, Any]:
        if not self._delete(memory, call.params):
            raise _missing("Memory record", call.params["memoryRecordId"])
        return {"memoryRecordId": call.params["memoryRecordId"]}

    def batch_create_memory_records(self, call: Call, memory: Any) -> dict[str, Any]:
        created = [
            {
                "memoryRecordId": self._store.add_record(
                    memory.memory_id,
                    text=entry["content"].get("text", ""),
                    namespaces=entry["namespaces"],
                    strategy_id=entry.get("memoryStrategyId", "none"),
                    timestamp=entry["timestamp"],
                    metadata=entry.get("metadata") or {},
                ).record_id,
                "status": "SUCCEEDED",
                "requestIdentifier": entry["requestIdentifier"],
            }
            for entry in call.params["records"]
        ]
        return {"successfulRecords": created, "failedRecords": []}

    def batch_delete_memory_records(self, call: Call, memory: Any) -> dict[str, Any]:
        answer: dict[str, list[Any]] = {"successfulRecords": [], "failedRecords": []}
        for entry in call.params["records"]:
            outcome = {"memoryRecordId": entry["memoryRecordId"], "status": "SUCCEEDED"}
            if self._delete(memory, entry):
                answer["successfulRecords"].append(outcome)
            else:
                failure = {"errorCode": 404, "errorMessage": "Memory record not found"}
                answer["failedRecords"].append({**outcome, "status": "FAILED", **failure})
        return answer

    # -- shared ---------------------------------------------------------------------------------

    def _memory(self, call: Call) -> Any:
        """moto's memory of `memoryId`, an id or an ARN; ResourceNotFoundException without one."""
        wanted = call.params["memoryId"]
        memories = bedrockagentcorecontrol_backends[self._account][call.region].memories
        memory = memories.get(wanted.rpartition("/")[2])
        if memory is None or wanted not in (memory.memory_id, memory.memory_arn):
            raise _missing("Memory", wanted)
        return memory

    def _selected(
        self,
        memory: Any,
        params: Mapping[str, Any],
        strategy_id: str | None,
        filters: list[Any] | None,
    ) -> list[Record]:
        """The memory's records in the named namespace or under the named path, oldest first."""
        if ("namespace" in params) == ("namespacePath" in params):
            raise _invalid("expected exactly one of namespace and namespacePath")
        if "namespace" in params:
            wanted = params["namespace"]
            records = [r for r in self._store.records(memory.memory_id) if wanted in r.namespaces]
        else:
            path = _segments(params["namespacePath"])
            records = [r for r in self._store.records(memory.memory_id) if _under(r, path)]
        return [
            record
            for record in records
            if strategy_id in (None, record.strategy_id)
            and all(_record_matches(record, expression) for expression in filters or [])
        ]

    def _delete(self, memory: Any, params: Mapping[str, Any]) -> bool:
        record = self._store.record(memory.memory_id, params["memoryRecordId"])
        return (
            record is not None
            and _in_named_namespace(record, params)
            and self._store.delete_record(memory.memory_id, record.record_id)
        )

    def _extract(self, memory: Any, params: Mapping[str, Any]) -> None:
        """Write the preferences that the new event states, at once and without a model."""
        for preference in _preferences(params["payload"]):
            for strategy in memory.strategies:
                if strategy["type"] != "USER_PREFERENCE":
                    continue
                variables = {
                    **(params.get("extractionConfig") or {}).get("namespaceVariables", {}),
                    "actorId": params["actorId"],
                    "sessionId": params["sessionId"],
                    "memoryStrategyId": strategy["strategyId"],
                }
                # `namespaces` is the older name of the same list.
                for template in strategy.get("namespaceTemplates") or strategy["namespaces"]:
                    namespace = _resolve(template, variables)
                    if namespace is None:
                        continue
                    self._store.add_record(
                        memory.memory_id,
                        text=preference,
                        namespaces=[namespace],
                        strategy_id=strategy["strategyId"],
                        timestamp=params["eventTimestamp"],
                        metadata={},
                    )


def _scope(memory: Any, params: Mapping[str, Any]) -> Scope:
    return Scope(memory.memory_id, params["actorId"], params["sessionId"])


def _listing(name: str, items: list[Any], token: str | None) -> dict[str, Any]:
    return {name: items, **({"nextToken": token} if token else {})}


def _invalid(message: str) -> ServiceError:
    return ServiceError("ValidationException", message)


def _missing(what: str, name: str) -> ServiceError:
    return ServiceError("ResourceNotFoundException", f"{what} not found: {name}", 404)


def _event_matches(event: Event, expression: Mapping[str, Any]) -> bool:
    key, operator = expression["left"].get("metadataKey"), expression["operator"]
    if operator == "EXISTS":
        return key in event.metadata
    if operator == "NOT_EXISTS":
        return key not in event.metadata
    wanted = (expression.get("right") or {}).get("metadataValue")
    if wanted is None:
        raise _invalid("a filter with EQUALS_TO needs right.metadataValue")
    return bool(event.metadata.get(key) == wanted)


def _of_branch(events: Iterable[Event], wanted: Mapping[str, Any]) -> list[Event]:
    """The branch's events; if asked for, also its parents' up to where it left them."""
    events = sorted(events, key=lambda event: event.number)
    name: str | None = wanted["name"]
    chosen: list[Event] = []
    limit = math.inf
    while name is not None:
        own = [event for event in events if event.branch["name"] == name and event.number <= limit]
        chosen += own
        root_id = next((e.branch["rootEventId"] for e in own if "rootEventId" in e.branch), None)
        root = next((event for event in events if event.event_id == root_id), None)
        if not wanted.get("includeParentBranches") or root is None or root.number >= limit:
            break
        name, limit = root.branch["name"], root.number
    return chosen


_COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "EQUALS_TO": lambda have, want: have == want,
    "CONTAINS": lambda have, want: want in have,
    "BEFORE": lambda have, want: have < want,
    "AFTER": lambda have, want: have > want,
    "GREATER_THAN": lambda have, want: have > want,
    "GREATER_THAN_OR_EQUALS": lambda have, want: have >= want,
    "LESS_THAN": lambda have, want: have < want,
    "LESS_THAN_OR_EQUALS": lambda have, want: have <= want,
}


def _record_matches(record: Record, expression: Mapping[str, Any]) -> bool:
    key, operator = expression["left"].get("metadataKey"), expression["operator"]
    if operator == "EXISTS":
        return key in record.metadata
    if operator == "NOT_EXISTS":
        return key not in record.metadata
    wanted = (expression.get("right") or {}).get("metadataValue")
    if not wanted:
        raise _invalid(f"a filter with {operator} needs right.metadataValue")
    if key not in record.metadata:
        return False
    have, want = (next(iter(value.values())) for value in (record.metadata[key], wanted))
    try:
        return bool(_COMPARISONS[operator](have, want))
    except TypeError:
        return False  # a text is neither before nor greater than a number


def _segments(path: str) -> list[str]:
    return [segment for segment in path.split("/") if segment]


def _under(record: Record, path: list[str]) -> bool:
    return any(_segments(namespace)[: len(path)] == path for namespace in record.namespaces)


def _in_named_namespace(record: Record, params: Mapping[str, Any]) -> bool:
    return "namespace" not in params or params["namespace"] in record.namespaces


def _preferences(payload: list[Any]) -> list[str]:
    texts = [
        item["conversational"]["content"].get("text", "")
        for item in payload
        if item.get("conversational", {}).get("role") == "USER"
    ]
    stated = [text.removeprefix(_PREFERENCE).strip() for text in texts if text.startswith(_PREFERENCE)]
    return [preference for preference in stated if preference]


def _resolve(template: str, variables: Mapping[str, str]) -> str | None:
    """The namespace of a template; None where one of its variables has no value."""
    if not set(re.findall(r"\{(\w+)\}", template)) <= set(variables):
        return None
    return re.sub(r"\{(\w+)\}", lambda match: variables[match[1]], template)


def _score(query: str, text: str) -> float:
    """0.1 without a common word, 1.0 for the same words, the cosine of the word sets in between."""
    asked, said = _words(query), _words(text)
    if not asked or not said:
        return _LOWEST_SCORE
    overlap = len(asked & said) / math.sqrt(len(asked) * len(said))
    return round(_LOWEST_SCORE + (1 - _LOWEST_SCORE) * overlap, 6)


def _words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.casefold()))

"""A tenant's conversations and memory records, for the workflow.

Two calls that this takes have no condition key: ListActors, which names every tenant's actors, and
BatchDeleteMemoryRecords, which deletes by id alone (Service Authorization Reference, Bedrock AgentCore). They are made
in a role of their own that may do nothing else, and here: what ListActors names of other tenants is dropped at once,
and no id is deleted that the tenant's own credentials did not list.
"""

import json
from collections.abc import Iterator
from typing import Any

from saas_agent.control_plane.data import Exported, Folder, Page, Store
from saas_agent.control_plane.errors import ControlPlaneError

_PAGE = 100  # the most that AgentCore lists, and deletes, in a call


class Memory(Store):
    """The events and records of every actor `<id>:<user>`. A page is an actor: AgentCore never forgets one."""

    name = "memory"

    def __init__(self, client: Any, upkeep: Any, memory_id: str, tenant_id: str) -> None:
        """Boto3 `bedrock-agentcore` clients: `client` with the tenant's credentials, `upkeep` for the two calls."""
        self._client = client
        self._upkeep = upkeep
        self._memory_id = memory_id
        self._own = f"{tenant_id}:"

    def page(self, start: str) -> Page:
        """`start`: the token of a page of ListActors, and how many of the tenant's actors on it are done."""
        token, done = json.loads(start) if start else ("", 0)
        answer = self._upkeep.list_actors(
            memoryId=self._memory_id, maxResults=_PAGE, **({"nextToken": token} if token else {})
        )
        actors = [entry["actorId"] for entry in answer["actorSummaries"]]
        own = [actor for actor in actors if actor.startswith(self._own)][done:]
        following = answer.get("nextToken", "")
        if len(own) > 1:
            return Page(own[:1], json.dumps([token, done + 1]))
        return Page(own, json.dumps([following, 0]) if following else "")

    def export(self, page: Page, number: int, folder: Folder) -> list[Exported]:
        made: list[Exported] = []
        for actor in page.items:
            made += folder.write_lines(f"memory/events/{number:06}.jsonl", self._events(actor))
            made += folder.write_lines(f"memory/records/{number:06}.jsonl", self._records(actor))
        return made

    def delete(self, page: Page) -> None:
        for actor in page.items:
            for event in list(self._events(actor)):
                self._client.delete_event(
                    memoryId=self._memory_id, actorId=actor, sessionId=event["sessionId"], eventId=event["eventId"]
                )
            self._delete_records([record["memoryRecordId"] for record in self._records(actor)])

    def left(self, page: Page) -> int:
        return sum(1 for actor in page.items for _ in (*self._events(actor), *self._records(actor)))

    def _events(self, actor: str) -> Iterator[dict[str, Any]]:
        own = {"memoryId": self._memory_id, "actorId": actor}
        sessions = self._client.get_paginator("list_sessions").paginate(
            **own, filter={"eventFilter": "HAS_EVENTS"}, PaginationConfig={"PageSize": _PAGE}
        )
        for session in [entry["sessionId"] for page in sessions for entry in page["sessionSummaries"]]:
            events = self._client.get_paginator("list_events").paginate(
                **own, sessionId=session, includePayloads=True, PaginationConfig={"PageSize": _PAGE}
            )
            yield from (event for page in events for event in page["events"])

    def _records(self, actor: str) -> Iterator[dict[str, Any]]:
        pages = self._client.get_paginator("list_memory_records").paginate(
            memoryId=self._memory_id,
            # The slash matters: without it the path would be that of every actor whose name begins like this one's.
            namespacePath=f"/actors/{actor}/",
            PaginationConfig={"PageSize": _PAGE},
        )
        for page in pages:
            yield from page["memoryRecordSummaries"]

    def _delete_records(self, ids: list[str]) -> None:
        for start in range(0, len(ids), _PAGE):
            answer = self._upkeep.batch_delete_memory_records(
                memoryId=self._memory_id,
                records=[{"memoryRecordId": record_id} for record_id in ids[start : start + _PAGE]],
            )
            failed = [record for record in answer["failedRecords"] if record.get("errorCode") != 404]
            if failed:
                raise ControlPlaneError(f"AgentCore kept {len(failed)} memory records; retry the operation")

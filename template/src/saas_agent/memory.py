"""The tenant's memory: conversations (short term) and preferences (long term) of one user of one tenant."""

from datetime import UTC, datetime
from typing import Any

from bedrock_agentcore.memory.integrations.strands.config import AgentCoreMemoryConfig
from bedrock_agentcore.memory.integrations.strands.session_manager import (
    AgentCoreMemorySessionManager,
)

from saas_agent.tenancy.access import TenantAccess, seen_when_denied

# Where the memory's user preference strategy puts what it extracts (infra/platform.yaml, namespaceTemplates). The
# trailing slash matters: without it a namespace is a prefix of others.
PREFERENCES = "/actors/{actor_id}/preferences/"
_PREFERENCES_SESSION = "preferences"

_QUERY = 10_000  # characters; the longest search that the service takes

# Events of one turn are sent together: AgentCore takes 5 CreateEvent a second per actor and session.
_BATCH = 20


class TenantMemory:
    """One user's memory. The actor is `tenant:subject`; no method takes another.

    All raise Refused (denied) where IAM says no: a denied retrieval is never an empty one.
    """

    def __init__(self, access: TenantAccess, memory_id: str) -> None:
        self._access = access
        self._client = access.client("bedrock-agentcore")
        self._memory_id = memory_id
        self._actor = access.tenant.actor_id

    def session_manager(self, session_id: str) -> "OwnActorSessionManager":
        """Restores the session's conversation into a Strands agent and keeps what is said from then on.

        Close it when the agent is done: the last events are sent then.
        """
        config = AgentCoreMemoryConfig(
            memory_id=self._memory_id,
            session_id=session_id,
            actor_id=self._actor,
            batch_size=_BATCH,
        )
        with seen_when_denied("memory.session", self._access.tenant):
            return OwnActorSessionManager(config, boto_session=self._access.session)

    def recall(self, query: str, *, limit: int = 5) -> list[str]:
        """What is remembered of this user that fits the query best, at most `limit` texts."""
        with seen_when_denied("memory.recall", self._access.tenant):
            answer = self._client.retrieve_memory_records(
                memoryId=self._memory_id,
                namespace=PREFERENCES.format(actor_id=self._actor),
                searchCriteria={"searchQuery": query[:_QUERY], "topK": limit},
            )
        return [record["content"]["text"] for record in answer["memoryRecordSummaries"]]

    def remember(self, preference: str) -> None:
        """Tells the memory a preference; its strategy takes it to where `recall` finds it, within minutes."""
        with seen_when_denied("memory.remember", self._access.tenant):
            self._client.create_event(
                memoryId=self._memory_id,
                actorId=self._actor,
                sessionId=_PREFERENCES_SESSION,
                eventTimestamp=datetime.now(UTC),
                payload=[
                    {
                        "conversational": {
                            "role": "USER",
                            "content": {"text": f"Preference: {preference}"},
                        }
                    }
                ],
            )


class OwnActorSessionManager(AgentCoreMemorySessionManager):
    """Keeps the SDK's session manager to its own actor, and its failures visible.

    bedrock-agentcore 1.25.0 also asks for events of the legacy actors `session_<id>` and `agent_<id>`, which belong to
    no tenant: a policy on the actor denies that read, and the first request of a session fails. It also answers a
    failed read of messages with an empty conversation; here the failure is raised once the agent is set up.
    """

    _failure: Exception | None = None

    def read_session(self, session_id: str, **kwargs: Any) -> Any:
        """The session, from events of the own actor alone. Called first, by the constructor."""
        list_events = self.memory_client.list_events

        def list_own_events(*args: Any, **named: Any) -> Any:
            if named.get("actor_id", args[1] if len(args) > 1 else None) != self.config.actor_id:
                return []
            try:
                return list_events(*args, **named)
            except Exception as error:
                self._failure = error
                raise

        self.memory_client.list_events = list_own_events  # type: ignore[method-assign]
        return super().read_session(session_id, **kwargs)

    def initialize(self, agent: Any, **kwargs: Any) -> None:
        """Restores the conversation into the agent; raises where it could not be read."""
        super().initialize(agent, **kwargs)
        if self._failure is not None:
            raise self._failure

"""The way to a knowledge base that tenants share: through the knowledge function, and no other.

Whoever could call the knowledge base itself could read every tenant's passages. The function verifies the caller's own
token, takes the tenant from it, and builds the filter; code in the agent can present a token, not name a tenant.
"""

import json
import logging
from collections.abc import Sequence
from typing import Any

from saas_agent.errors import DENIED, INTERNAL, INVALID_TOKEN, TOKEN_EXPIRED, Refused
from saas_agent.storage.knowledge import Passage, State
from saas_agent.tenancy.access import TenantAccess

logger = logging.getLogger(__name__)

_REASONS = {reason.code: reason for reason in (TOKEN_EXPIRED, INVALID_TOKEN, DENIED)}


class KnowledgeFunction:
    """One tenant's part of the shared knowledge base (`knowledge.Index`), with the caller's own token.

    Raises botocore's errors where the function can't be invoked, and Refused where it says no or fails.
    """

    def __init__(self, access: TenantAccess, function: str) -> None:
        self._tenant_id = access.tenant.tenant_id
        self._token = access.token
        self._session = access.session
        self._lambda = access.client("lambda")
        self._function = function

    def search(self, question: str, limit: int, documents: Sequence[str] = ()) -> list[Passage]:
        """See `Index`."""
        with self._session.retrieval("knowledge_base.Retrieve"):
            answer = self._ask("search", question=question, limit=limit, documents=list(documents))
        return [Passage(**passage) for passage in answer["passages"]]

    def put(self, names: Sequence[str]) -> None:
        """See `Index`."""
        self._ask("put", names=list(names))

    def remove(self, names: Sequence[str]) -> None:
        """See `Index`."""
        self._ask("remove", names=list(names))

    def states(self, names: Sequence[str]) -> dict[str, State]:
        """See `Index`."""
        answer = self._ask("states", names=list(names))
        return {name: State(**state) for name, state in answer["states"].items()}

    def _ask(self, action: str, **arguments: Any) -> dict[str, Any]:
        event = {"token": self._token, "action": action, **arguments}
        answer = self._lambda.invoke(FunctionName=self._function, Payload=json.dumps(event))
        result: dict[str, Any] = json.loads(answer["Payload"].read())
        if answer.get("FunctionError"):
            reason = _REASONS.get(str(result.get("errorMessage")), INTERNAL)
            raise Refused(reason, f"knowledge function, {action}: {result.get('errorType', 'error')}")
        if result["tenant_id"] != self._tenant_id:
            logger.critical("foreign_passage tenant=%s function=%s", self._tenant_id, self._function)
            raise Refused(INTERNAL, f"knowledge function, {action}: it answered for another tenant")
        return result

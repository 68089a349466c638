"""The knowledge function: the only one that may ask a knowledge base that tenants share.

IAM can't hold a retrieval to a tenant, so no tenant's session and no runtime holds the permission; this function's role
does. It trusts nothing it is given but the token: the tenant comes from it, and with the tenant the filter of every
search, the metadata of every document, and whose documents may be removed. Its log never holds its event or its answer.
"""

import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import cache
from typing import Any, Protocol

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from saas_agent.errors import Refused
from saas_agent.settings import required
from saas_agent.storage.knowledge import ForeignPassage, KnowledgeBase, Library
from saas_agent.tenancy.token import FetchKeys, TokenVerifier, VerifiedToken
from saas_agent.tenancy.token import fetch_keys as fetch_keys_over_https

Handler = Callable[[dict[str, Any], object], dict[str, Any]]

_NAMES = 100  # documents in one event
_RESULTS = 50

logger = logging.getLogger(__name__)


class Verifier(Protocol):
    """Says whose token it is."""

    def access_token(self, raw: str) -> VerifiedToken:
        """The verified access token; Refused."""


class NotAnswered(Exception):
    """No answer to this event. The message is a refusal's code, and nothing of the event."""


def create(
    environ: Mapping[str, str],
    session: boto3.Session,
    fetch_keys: FetchKeys = fetch_keys_over_https,
) -> Handler:
    """The handler for ISSUER, CLIENT_ID, KNOWLEDGE_BASE, DOCUMENTS_BUCKET; ConfigurationError where one is missing."""
    return knowledge_handler(
        environ, session, TokenVerifier(required(environ, "ISSUER"), required(environ, "CLIENT_ID"), fetch_keys)
    )


def knowledge_handler(environ: Mapping[str, str], session: boto3.Session, verifier: Verifier) -> Handler:
    """The handler for KNOWLEDGE_BASE and DOCUMENTS_BUCKET; ConfigurationError where one is missing."""
    library = Library.parse(required(environ, "KNOWLEDGE_BASE"), required(environ, "DOCUMENTS_BUCKET"))
    clients = {name: session.client(name) for name in ("bedrock-agent", "bedrock-agent-runtime")}

    def answer(event: dict[str, Any], _context: object) -> dict[str, Any]:
        raw = event.get("token")
        if not isinstance(raw, str):
            raise NotAnswered("invalid_request")
        try:
            tenant_id = verifier.access_token(raw).tenant.tenant_id
            knowledge = KnowledgeBase(tenant_id, library, clients.__getitem__)
            return {"tenant_id": tenant_id, **_answer(event, knowledge)}
        except Refused as refused:
            raise NotAnswered(refused.reason.code) from None
        except ForeignPassage:
            raise NotAnswered("foreign_passage") from None
        except ValueError:
            raise NotAnswered("invalid_request") from None
        except (ClientError, BotoCoreError) as error:
            logger.error("aws_error operation=%s code=%s", getattr(error, "operation_name", "none"), _code(error))
            raise NotAnswered("internal") from None

    return answer


def _answer(event: Mapping[str, Any], knowledge: KnowledgeBase) -> dict[str, Any]:
    match event:
        case {"action": "search", "question": str(question), "limit": int(limit), "documents": list(documents)}:
            if not question.strip() or not 1 <= limit <= _RESULTS:
                raise ValueError("the question is empty, or the limit is not one")
            return {"passages": [asdict(found) for found in knowledge.search(question, limit, _texts(documents))]}
        case {"action": "put", "names": list(names)}:
            knowledge.put(_texts(names))
        case {"action": "remove", "names": list(names)}:
            knowledge.remove(_texts(names))
        case {"action": "states", "names": list(names)}:
            return {"states": {name: asdict(state) for name, state in knowledge.states(_texts(names)).items()}}
        case _:
            raise ValueError("there is no such action, or an argument of it is missing")
    return {}


def _texts(names: list[Any]) -> list[str]:
    if len(names) > _NAMES or not all(isinstance(name, str) for name in names):
        raise ValueError(f"expected at most {_NAMES} names")
    return names


def _code(error: ClientError | BotoCoreError) -> str:
    return str(error.response["Error"]["Code"]) if isinstance(error, ClientError) else type(error).__name__


@cache
def _handler() -> Handler:
    return create(os.environ, boto3.Session())


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Lambda's entry point: `{"token", "action", ...}` in, `{"tenant_id", ...}` out.

    search: "question", "limit" (1 to 50) and "documents" (names, may be empty) -> "passages": [{"document", "text",
    "score"}]. put, remove: "names" -> nothing more. states: "names" -> "states": {name: {"status", "reason"}}.
    """
    return _handler()(event, context)

"""The tenant's knowledge: its documents, and the passages in them that answer a question.

The documents are in a bucket, below `tenants/<id>/`; a Bedrock knowledge base holds their passages as vectors, each
with the tenant's id as metadata. Whoever may call Retrieve on a knowledge base may read all of it: IAM knows no
condition on a document, its metadata or a filter (Service Authorization Reference, Amazon Bedrock). So these calls are
made in `KnowledgeBase` alone, which builds the filter and checks what comes back; and where tenants share a knowledge
base, it runs where no tenant's code runs.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from saas_agent.errors import INTERNAL, Refused
from saas_agent.storage.files import Files, tenant_key, tenant_prefix
from saas_agent.tenancy.access import TenantAccess, seen_when_denied

logger = logging.getLogger(__name__)

TENANT_ATTRIBUTE = "tenant_id"
DOCUMENT_ATTRIBUTE = "document"

# What Bedrock reads (Bedrock User Guide, "Prerequisites for your knowledge base data").
DOCUMENT_SUFFIXES = (".txt", ".md", ".html", ".doc", ".docx", ".csv", ".xls", ".xlsx", ".pdf")
DOCUMENT_BYTES = 50 * 1024 * 1024

INDEXED = "INDEXED"
NOT_FOUND = "NOT_FOUND"
UNDER_WAY = frozenset({"STARTING", "PENDING", "IN_PROGRESS", "DELETING", "DELETE_IN_PROGRESS"})

_QUESTION = 1000  # characters; what is longer finds no better
_BATCH = 10  # the most documents that one request may name
_LISTED = 1000  # the most that one lists


class ForeignPassage(Exception):
    """A retrieval brought a passage that is not the tenant's. Nothing of the retrieval may be used."""


@dataclass(frozen=True)
class Passage:
    """A piece of a document. score: how near to the question it is, higher is nearer."""

    document: str
    text: str
    score: float


@dataclass(frozen=True)
class State:
    """Where a document stands: Bedrock's DocumentStatus, and the reason where it gives one."""

    status: str
    reason: str = ""


@dataclass(frozen=True)
class Library:
    """A knowledge base with its one data source, and the bucket of the documents. Its repr names no tenant."""

    knowledge_base_id: str
    data_source_id: str
    bucket: str

    @classmethod
    def parse(cls, data_source: str, bucket: str) -> "Library":
        """`<knowledge base id>|<data source id>`, which CloudFormation gives for a data source, and a bucket's name."""
        knowledge_base_id, _, data_source_id = data_source.partition("|")
        return cls(knowledge_base_id, data_source_id, bucket)


class Index(Protocol):
    """One tenant's part of a knowledge base. Names are those of the tenant's own documents."""

    def search(self, question: str, limit: int, documents: Sequence[str] = ()) -> list[Passage]:
        """The passages nearest to the question, nearest first; with `documents`, from these alone."""

    def put(self, names: Sequence[str]) -> None:
        """Has these documents indexed as they are in the bucket now, over what was indexed of them before."""

    def remove(self, names: Sequence[str]) -> None:
        """Takes these documents out of the index, as far as they are there."""

    def states(self, names: Sequence[str]) -> dict[str, State]:
        """Where each of these documents stands."""


class KnowledgeBase:
    """One tenant's part of a knowledge base, reached with credentials that reach all of it.

    They are the tenant's own where the knowledge base is, and the knowledge function's or an operator's where it is
    shared. Raises botocore's errors, ValueError for a malformed name, and ForeignPassage.
    """

    def __init__(self, tenant_id: str, library: Library, client: Callable[[str], Any]) -> None:
        """`client`: a service's name -> a boto3 client of it."""
        self._tenant_id = tenant_id
        self._library = library
        self._agent = client("bedrock-agent")
        self._runtime = client("bedrock-agent-runtime")

    def search(self, question: str, limit: int, documents: Sequence[str] = ()) -> list[Passage]:
        """See `Index`."""
        answer = self._runtime.retrieve(
            knowledgeBaseId=self._library.knowledge_base_id,
            retrievalQuery={"text": question[:_QUESTION]},
            retrievalConfiguration={
                "vectorSearchConfiguration": {"numberOfResults": limit, "filter": self._filter(documents)}
            },
        )
        return [self._own(result) for result in answer["retrievalResults"]]

    def put(self, names: Sequence[str]) -> None:
        """See `Index`. Each document gets its tenant and its name as metadata here, whatever it says of itself."""
        for batch in _batches([self._document(name) for name in names]):
            self._agent.ingest_knowledge_base_documents(**self._data_source, documents=batch)

    def remove(self, names: Sequence[str]) -> None:
        """See `Index`."""
        for batch in _batches([self._identifier(name) for name in names]):
            self._agent.delete_knowledge_base_documents(**self._data_source, documentIdentifiers=batch)

    def states(self, names: Sequence[str]) -> dict[str, State]:
        """See `Index`."""
        found: dict[str, State] = {}
        for batch in _batches([self._identifier(name) for name in names]):
            answer = self._agent.get_knowledge_base_documents(**self._data_source, documentIdentifiers=batch)
            for detail in answer["documentDetails"]:
                name = detail["identifier"]["custom"]["id"].removeprefix(self._prefix)
                found[name] = State(detail["status"], detail.get("statusReason", ""))
        return {name: found.get(name, State(NOT_FOUND)) for name in names}

    def all(self) -> Iterator[str]:
        """Every document of the tenant that the knowledge base knows. It reads the list of all tenants' documents."""
        pages = self._agent.get_paginator("list_knowledge_base_documents").paginate(
            **self._data_source, PaginationConfig={"PageSize": _LISTED}
        )
        for page in pages:
            for detail in page["documentDetails"]:
                document_id = detail["identifier"].get("custom", {}).get("id", "")
                if document_id.startswith(self._prefix):
                    yield document_id.removeprefix(self._prefix)

    @property
    def _data_source(self) -> dict[str, str]:
        return {
            "knowledgeBaseId": self._library.knowledge_base_id,
            "dataSourceId": self._library.data_source_id,
        }

    @property
    def _prefix(self) -> str:
        return tenant_prefix(self._tenant_id)

    def _filter(self, documents: Sequence[str]) -> dict[str, Any]:
        # Never a "not": notEquals and notIn hold for whatever lacks the attribute, which nobody knows the owner of.
        own = {"equals": {"key": TENANT_ATTRIBUTE, "value": self._tenant_id}}
        if not documents:
            return own
        return {"andAll": [own, {"in": {"key": DOCUMENT_ATTRIBUTE, "value": list(documents)}}]}

    def _own(self, result: Mapping[str, Any]) -> Passage:
        """The passage, once metadata and location both say that it is the tenant's: the filter alone isn't trusted."""
        metadata, location = result.get("metadata", {}), result.get("location", {})
        source = _source(location).removeprefix(f"s3://{self._library.bucket}/")
        if metadata.get(TENANT_ATTRIBUTE) != self._tenant_id or not source.startswith(self._prefix):
            logger.critical(
                "foreign_passage tenant=%s knowledge_base=%s", self._tenant_id, self._library.knowledge_base_id
            )
            raise ForeignPassage("the knowledge base returned a passage of another tenant")
        return Passage(source.removeprefix(self._prefix), result["content"].get("text", ""), result.get("score", 0.0))

    def _identifier(self, name: str) -> dict[str, Any]:
        return {"dataSourceType": "CUSTOM", "custom": {"id": tenant_key(self._tenant_id, name)}}

    def _document(self, name: str) -> dict[str, Any]:
        key = tenant_key(self._tenant_id, name)
        content = {
            "customDocumentIdentifier": {"id": key},
            "sourceType": "S3_LOCATION",
            "s3Location": {"uri": f"s3://{self._library.bucket}/{key}"},
        }
        attributes = {TENANT_ATTRIBUTE: self._tenant_id, DOCUMENT_ATTRIBUTE: name}
        return {
            "content": {"dataSourceType": "CUSTOM", "custom": content},
            "metadata": {
                "type": "IN_LINE_ATTRIBUTE",
                "inlineAttributes": [
                    {"key": key, "value": {"type": "STRING", "stringValue": value}} for key, value in attributes.items()
                ],
            },
        }


class Knowledge:
    """One tenant's documents. Every method works on them alone, with the tenant's own credentials.

    A name is a relative path such as `handbook/leave.md`. All methods raise ValueError for a name that is not one, and
    Refused: denied where IAM says no, internal where a passage of another tenant came back.
    """

    def __init__(self, access: TenantAccess, bucket: str, index: Index) -> None:
        self._tenant = access.tenant
        self._files = Files(access, bucket)
        self._index = index

    def search(self, question: str, *, limit: int = 5, documents: Sequence[str] = ()) -> list[Passage]:
        """The passages nearest to the question, nearest first; with `documents`, from these alone."""
        if not question.strip():
            raise ValueError("the question is empty; expected what to look for")
        with seen_when_denied("knowledge.search", self._tenant):
            try:
                return self._index.search(question, limit, documents)
            except ForeignPassage:
                raise Refused(INTERNAL, "knowledge.search: a passage of another tenant came back") from None

    def add(self, name: str, content: bytes) -> None:
        """Keeps the document, over one of the same name, and has it indexed: it is found within minutes."""
        if not name.lower().endswith(DOCUMENT_SUFFIXES) or len(content) > DOCUMENT_BYTES:
            raise ValueError(
                f"{name} can't be read; expected at most {DOCUMENT_BYTES // 1024 // 1024} MB, named "
                + ", ".join(DOCUMENT_SUFFIXES)
            )
        self._files.put(name, content)
        with seen_when_denied("knowledge.add", self._tenant):
            self._index.put([name])

    def list(self) -> list[str]:
        """The documents' names, in order."""
        return self._files.list()

    def states(self, names: Sequence[str]) -> dict[str, State]:
        """Where each of these documents stands."""
        with seen_when_denied("knowledge.states", self._tenant):
            return self._index.states(names)

    def remove(self, name: str) -> None:
        """Takes the document out of the index and deletes it, as far as it is there."""
        with seen_when_denied("knowledge.remove", self._tenant):
            self._index.remove([name])
        self._files.delete(name)


def _source(location: Mapping[str, Any]) -> str:
    # Which of the two a document from a bucket in a custom data source has is not documented.
    if location.get("type") == "S3":
        return str(location.get("s3Location", {}).get("uri", ""))
    return str(location.get("customDocumentLocation", {}).get("id", ""))


def _batches(items: Sequence[dict[str, Any]]) -> Iterator[Sequence[dict[str, Any]]]:
    for start in range(0, len(items), _BATCH):
        yield items[start : start + _BATCH]

"""Bedrock knowledge bases on S3 Vectors: direct ingestion, and Retrieve with its filters.

What the service does on behalf of a knowledge base (read a document from its bucket, embed it, write
and query vectors) it does in the knowledge base's own role, as the role's trust policy and policies
allow. Documents are indexed at once; AWS takes seconds to minutes. Texts only: what would need a
parser (PDF, Word) fails, and says so.

Whose documents a call was about can't be seen from what IAM is asked: no condition key tells it.
So it is recorded by the documents themselves, see `_record`.

Source: Bedrock User Guide, "Ingest changes directly into a knowledge base", "Create a service role
for Amazon Bedrock Knowledge Bases", "Metadata and filtering"; API reference, RetrievalFilter.
"""

import hashlib
import json
import secrets
import string
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from moto.core.base_backend import BackendDict, BaseBackend
from moto.s3.models import s3_backends

from ..authorization import OWNERS, Principal
from ..gate import Gate
from ..operations import Call, Handler, ServiceError, validate
from ..permissions import Permission
from ..resources.kind import Kind, Place, Properties, Resource, UnsupportedChange
from ..sts import assume_as_service
from .retrieval_filter import filter_of
from .s3vectors import VectorIndex

_SERVICE = "bedrock.amazonaws.com"
_TEXT, _METADATA = "AMAZON_BEDROCK_TEXT", "AMAZON_BEDROCK_METADATA"
_RESERVED = "x-amz-bedrock-kb-"
_DEFAULT_RESULTS = 5
_DEFAULT_PAGE = 100
_TEXT_SUFFIXES = (".txt", ".md", ".html", ".csv")
_TENANT = "tenant_id"


@dataclass
class Document:
    """A document of a data source. keys: of its vectors."""

    id: str
    status: str
    reason: str | None = None
    owners: tuple[str, ...] = ()
    keys: list[str] = field(default_factory=list)
    updated: datetime = field(default_factory=lambda: datetime.now(UTC))


@dataclass
class DataSource:
    """A data source of the kind CUSTOM. chunk: words in a chunk, and how many the next one repeats."""

    id: str
    chunk: tuple[int, int] | None
    documents: dict[str, Document] = field(default_factory=dict)


@dataclass
class KnowledgeBase:
    """A knowledge base on an index."""

    id: str
    arn: str
    name: str
    role_arn: str
    embedding_model: str
    index_arn: str
    tags: dict[str, str]
    data_sources: dict[str, DataSource] = field(default_factory=dict)
    created: datetime = field(default_factory=lambda: datetime.now(UTC))
    lock: threading.Lock = field(default_factory=threading.Lock)


class Backend(BaseBackend):
    """The knowledge bases of one account and Region, by id."""

    def __init__(self, region_name: str, account_id: str) -> None:
        super().__init__(region_name, account_id)
        self.knowledge_bases: dict[str, KnowledgeBase] = {}


# botocore lists no Regions for bedrock-agent.
backends = BackendDict(Backend, "s3")


def register(gate: Gate) -> None:
    """Answer documents and Retrieve at this gate."""
    service = _Service(gate)
    for name, operations in service.operations().items():
        for operation, answer in operations.items():
            gate.handle(name, operation, answer)


class _Service:
    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    def operations(self) -> Mapping[str, Mapping[str, Handler]]:
        """What is answered, by service and API name."""
        return {
            "bedrock-agent": {
                "GetKnowledgeBase": self.get_knowledge_base,
                "ListTagsForResource": self.list_tags,
                "IngestKnowledgeBaseDocuments": self.ingest_documents,
                "GetKnowledgeBaseDocuments": self.get_documents,
                "ListKnowledgeBaseDocuments": self.list_documents,
                "DeleteKnowledgeBaseDocuments": self.delete_documents,
            },
            "bedrock-agent-runtime": {"Retrieve": self.retrieve},
        }

    def get_knowledge_base(self, call: Call) -> dict[str, Any]:
        base = self._base(call)
        vectors = {"embeddingModelArn": base.embedding_model}
        return {
            "knowledgeBase": {
                "knowledgeBaseId": base.id,
                "name": base.name,
                "knowledgeBaseArn": base.arn,
                "roleArn": base.role_arn,
                "knowledgeBaseConfiguration": {"type": "VECTOR", "vectorKnowledgeBaseConfiguration": vectors},
                "storageConfiguration": {
                    "type": "S3_VECTORS",
                    "s3VectorsConfiguration": {"indexArn": base.index_arn},
                },
                "status": "ACTIVE",
                "createdAt": base.created,
                "updatedAt": base.created,
            }
        }

    def list_tags(self, call: Call) -> dict[str, Any]:
        bases = backends[self._gate.account][call.region].knowledge_bases.values()
        tags = [base.tags for base in bases if base.arn == call.params["resourceArn"]]
        if not tags:
            raise ServiceError("ResourceNotFoundException", f"There is no {call.params['resourceArn']}", 404)
        return {"tags": tags[0]}

    # --- Documents --------------------------------------------------------------------------------

    def ingest_documents(self, call: Call) -> dict[str, Any]:
        validate(call)
        base, source = self._data_source(call)
        given = [_given(document) for document in call.params["documents"]]
        self._record(call, base, [owner for document in given for owner in document.owners])
        role = self._role(base)
        details = []
        with base.lock:
            for document in given:
                kept = Document(document.id, "INDEXED", owners=document.owners)
                former = source.documents.get(document.id)
                try:
                    self._index(role, base, source, kept, document, former)
                except ServiceError as error:
                    kept.status, kept.reason = "FAILED", error.message
                source.documents[document.id] = kept
                details.append(_detail(base, source, document.id, "STARTING", None, kept.updated))
        return {"documentDetails": details}

    def get_documents(self, call: Call) -> dict[str, Any]:
        validate(call)
        base, source = self._data_source(call)
        ids = _ids(call)
        self._record(call, base, self._owners(source, ids))
        with base.lock:
            return {"documentDetails": [self._state(base, source, document_id) for document_id in ids]}

    def list_documents(self, call: Call) -> dict[str, Any]:
        validate(call)
        base, source = self._data_source(call)
        with base.lock:
            ids = sorted(source.documents)
            self._record(call, base, self._owners(source, ids))
            start, size = int(call.params.get("nextToken", 0)), call.params.get("maxResults", _DEFAULT_PAGE)
            page = [self._state(base, source, document_id) for document_id in ids[start : start + size]]
            more = {"nextToken": str(start + size)} if len(ids) > start + size else {}
            return {"documentDetails": page, **more}

    def delete_documents(self, call: Call) -> dict[str, Any]:
        validate(call)
        base, source = self._data_source(call)
        ids = _ids(call)
        self._record(call, base, self._owners(source, ids))
        role = self._role(base)
        details = []
        with base.lock:
            for document_id in ids:
                document = source.documents.get(document_id)
                status = "DELETING" if document else "NOT_FOUND"
                if document:
                    self._require(role, "s3vectors:DeleteVectors", base.index_arn)
                    self._vectors(base).delete(document.keys)
                    del source.documents[document_id]
                details.append(_detail(base, source, document_id, status, None, datetime.now(UTC)))
        return {"documentDetails": details}

    def _index(
        self,
        role: Principal,
        base: KnowledgeBase,
        source: DataSource,
        kept: Document,
        given: "_Given",
        former: Document | None,
    ) -> None:
        text = given.text if given.text is not None else self._read(role, given)
        self._require(role, "bedrock:InvokeModel", base.embedding_model)
        self._require(role, "s3vectors:PutVectors", base.index_arn)
        vectors = self._vectors(base)
        if former is not None:
            self._require(role, "s3vectors:DeleteVectors", base.index_arn)
            vectors.delete(former.keys)
        system = json.dumps({"source": kept.id, "data_source": source.id})
        for number, chunk in enumerate(_chunks(text, source.chunk)):
            key = f"{hashlib.sha256(f'{source.id}/{kept.id}'.encode()).hexdigest()[:32]}-{number}"
            vectors.put(key, chunk, {**given.attributes, _TEXT: chunk, _METADATA: system})
            kept.keys.append(key)

    def _read(self, role: Principal, given: "_Given") -> str:
        """The document's object, read in the knowledge base's role."""
        bucket, _, key = given.uri.removeprefix("s3://").partition("/")
        if not key.lower().endswith(_TEXT_SUFFIXES):
            raise ServiceError(
                "ValidationException", f"The local cloud reads texts only: {', '.join(_TEXT_SUFFIXES)}; {key} is none"
            )
        context = {"aws:ResourceAccount": self._gate.account}
        self._require(role, "s3:GetObject", f"arn:aws:s3:::{bucket}/{key}", context)
        found = s3_backends[self._gate.account]["aws"].buckets.get(bucket)
        if found is None or key not in found.keys:
            raise ServiceError("ValidationException", f"There is no object {given.uri}")
        return str(found.keys[key].value.decode(errors="replace"))

    def _state(self, base: KnowledgeBase, source: DataSource, document_id: str) -> dict[str, Any]:
        document = source.documents.get(document_id) or Document(document_id, "NOT_FOUND")
        return _detail(base, source, document_id, document.status, document.reason, document.updated)

    @staticmethod
    def _owners(source: DataSource, ids: Iterable[str]) -> list[str]:
        documents = source.documents
        return [o for i in ids for o in (documents[i].owners if i in documents else _owners_of_id(i))]

    # --- Retrieve ---------------------------------------------------------------------------------

    def retrieve(self, call: Call) -> dict[str, Any]:
        validate(call)
        params = call.params
        base = self._base(call)
        search = _search_of(params)
        query = (params["retrievalQuery"].get("text") or "").strip()
        if not query:
            raise _invalid("retrievalQuery.text is empty; expected a question")
        role = self._role(base)
        self._require(role, "bedrock:InvokeModel", base.embedding_model)
        for action in ("QueryVectors", "GetVectors"):
            self._require(role, f"s3vectors:{action}", base.index_arn)
        keep = filter_of(search.get("filter"))
        with base.lock:
            vectors = self._vectors(base)
            among = vectors.matching(keep)
            # Everything that the filter lets through, not only what is nearest: the next question finds the rest.
            self._record(call, base, [owner for _, metadata, _ in among for owner in _owners_of(metadata)])
            nearest = vectors.nearest(query, among, search.get("numberOfResults", _DEFAULT_RESULTS))
        return {"retrievalResults": [_result(match.metadata, match.score) for match in nearest]}

    # --- Who may, and who did ---------------------------------------------------------------------

    def _base(self, call: Call) -> KnowledgeBase:
        wanted = call.params["knowledgeBaseId"]
        base = backends[self._gate.account][call.region].knowledge_bases.get(wanted.rpartition("/")[2])
        if base is None or wanted not in (base.id, base.arn):
            raise ServiceError("ResourceNotFoundException", f"Knowledge base {wanted} was not found", 404)
        return base

    def _data_source(self, call: Call) -> tuple[KnowledgeBase, DataSource]:
        base, wanted = self._base(call), call.params["dataSourceId"]
        if wanted not in base.data_sources:
            raise ServiceError("ResourceNotFoundException", f"Data source {wanted} was not found", 404)
        return base, base.data_sources[wanted]

    def _vectors(self, base: KnowledgeBase) -> VectorIndex:
        return VectorIndex(self._gate.account, base.index_arn)

    def _role(self, base: KnowledgeBase) -> Principal:
        """A session of the knowledge base's role, as the service takes it; ServiceError where it may not."""
        name = base.role_arn.rpartition("/")[2]
        issued = assume_as_service(self._gate, name, _SERVICE, f"knowledge-base-{base.id}", source_arn=base.arn)
        session = self._gate.sessions.find(issued["AccessKeyId"])
        assert session is not None  # it was issued a moment ago
        return session.principal

    def _require(
        self, role: Principal, action: str, resource: str, context: Mapping[str, str | list[str]] | None = None
    ) -> None:
        """Judge and record what the service does in the role; ServiceError where it may not."""
        permission = Permission(action, resource, context or {})
        verdict, reason = self._gate.authorizer.identity_verdict(role, permission)
        self._gate.decisions.append(
            principal=role.arn,
            action=action,
            resource=resource,
            context=permission.context,
            allowed=verdict.allowed,
            source="identity",
            reason=reason,
        )
        if not verdict.allowed:
            raise ServiceError(
                "ValidationException",
                f"The knowledge base's role {role.role_name} is not able to call {action} on {resource}",
            )

    def _record(self, call: Call, base: KnowledgeBase, owners: list[str]) -> None:
        """Whose documents the call was about."""
        self._gate.decisions.append(
            principal=call.principal.arn,
            tenant=call.principal.tenant,
            action=f"bedrock:{call.operation}",
            resource=base.arn,
            context={OWNERS: sorted(set(owners))},
            allowed=True,
            source="documents",
            reason="the documents' own metadata and ids say whose they are",
        )


# --- What a request says --------------------------------------------------------------------------


@dataclass(frozen=True)
class _Given:
    """A document to be ingested: its text, or where it is. owners: whose it says it is."""

    id: str
    text: str | None
    uri: str
    attributes: Mapping[str, Any]

    @property
    def owners(self) -> tuple[str, ...]:
        tenant = self.attributes.get(_TENANT)
        return (*_owners_of_id(self.id), *(_as_list(tenant) if tenant is not None else ["*"]))


def _given(document: Mapping[str, Any]) -> _Given:
    content = document["content"]
    if content["dataSourceType"] != "CUSTOM" or "custom" not in content:
        raise _invalid("The data source is of the type CUSTOM; expected documents of that type")
    custom = content["custom"]
    document_id = custom["customDocumentIdentifier"]["id"]
    attributes = _attributes(document.get("metadata"))
    if custom["sourceType"] == "S3_LOCATION":
        return _Given(document_id, None, custom["s3Location"]["uri"], attributes)
    inline = custom["inlineContent"]
    if inline["type"] == "TEXT":
        return _Given(document_id, inline["textContent"]["data"], "", attributes)
    return _Given(document_id, inline["byteContent"]["data"].decode(errors="replace"), "", attributes)


def _attributes(metadata: Mapping[str, Any] | None) -> dict[str, Any]:
    if metadata is None:
        return {}
    if metadata["type"] != "IN_LINE_ATTRIBUTE" or "accessControlList" in metadata:
        raise _invalid("The local cloud takes metadata as IN_LINE_ATTRIBUTE and without access control lists only")
    found: dict[str, Any] = {}
    for attribute in metadata.get("inlineAttributes", []):
        key, value = attribute["key"], attribute["value"]
        if key in found or key.startswith((_RESERVED, "AMAZON_BEDROCK_")):
            raise _invalid(f"The metadata key {key} is reserved or stands twice")
        member = {"STRING": "stringValue", "NUMBER": "numberValue", "BOOLEAN": "booleanValue"}.get(
            value["type"], "stringListValue"
        )
        if member not in value:
            raise _invalid(f"The metadata value of {key} must have {member}")
        found[key] = value[member]
    return found


def _ids(call: Call) -> list[str]:
    identifiers = call.params["documentIdentifiers"]
    if any("custom" not in identifier for identifier in identifiers):
        raise _invalid("The data source is of the type CUSTOM; expected custom document identifiers")
    return [identifier["custom"]["id"] for identifier in identifiers]


def _search_of(params: Mapping[str, Any]) -> Mapping[str, Any]:
    configuration = params.get("retrievalConfiguration") or {}
    if "managedSearchConfiguration" in configuration:
        raise _invalid("The knowledge base is no managed one; expected vectorSearchConfiguration")
    search: Mapping[str, Any] = configuration.get("vectorSearchConfiguration") or {}
    unknown = {"guardrailConfiguration", "nextToken", "userContext"} & params.keys()
    unknown |= {"implicitFilterConfiguration", "rerankingConfiguration"} & search.keys()
    if unknown:
        raise _invalid(f"The local cloud doesn't know {', '.join(sorted(unknown))}")
    if search.get("overrideSearchType") == "HYBRID":
        raise _invalid("HYBRID search is not supported for the vector store S3_VECTORS; expected SEMANTIC")
    return search


def _invalid(message: str) -> ServiceError:
    return ServiceError("ValidationException", message)


# --- What an answer says --------------------------------------------------------------------------


def _detail(
    base: KnowledgeBase, source: DataSource, document_id: str, status: str, reason: str | None, updated: datetime
) -> dict[str, Any]:
    return {
        "knowledgeBaseId": base.id,
        "dataSourceId": source.id,
        "status": status,
        "identifier": {"dataSourceType": "CUSTOM", "custom": {"id": document_id}},
        "updatedAt": updated,
        **({"statusReason": reason} if reason else {}),
    }


def _result(metadata: Mapping[str, Any], score: float) -> dict[str, Any]:
    system = json.loads(metadata[_METADATA])
    attributes = {name: value for name, value in metadata.items() if name not in (_TEXT, _METADATA)}
    return {
        "content": {"type": "TEXT", "text": metadata[_TEXT]},
        "location": {"type": "CUSTOM", "customDocumentLocation": {"id": system["source"]}},
        "metadata": {**attributes, f"{_RESERVED}data-source-id": system["data_source"]},
        "score": score,
    }


# --- Whose a document is --------------------------------------------------------------------------


def _owners_of_id(document_id: str) -> tuple[str, ...]:
    """`tenants/<id>/<name>` -> the tenant; everybody, where an id names none."""
    parts = document_id.split("/")
    return (parts[1],) if len(parts) > 2 and parts[0] == "tenants" else ("*",)


def _owners_of(metadata: Mapping[str, Any]) -> tuple[str, ...]:
    tenant = metadata.get(_TENANT)
    return tuple(_as_list(tenant)) if tenant is not None else ("*",)


def _as_list(value: Any) -> list[str]:
    return [str(item) for item in value] if isinstance(value, list) else [str(value)]


# --- Chunks ---------------------------------------------------------------------------------------


def _chunks(text: str, chunk: tuple[int, int] | None) -> Iterator[str]:
    """The text in pieces of so many words, each beginning with the last words of the one before."""
    words = text.split()
    size, overlap = chunk or (max(len(words), 1), 0)
    for start in range(0, max(len(words) - overlap, 1), size - overlap):
        if piece := words[start : start + size]:
            yield " ".join(piece)


# --- CloudFormation -------------------------------------------------------------------------------


def _new_id() -> str:
    return "".join(secrets.choice(string.ascii_uppercase + string.digits) for _ in range(10))


class KnowledgeBaseKind(Kind):
    """AWS::Bedrock::KnowledgeBase of the type VECTOR on S3 Vectors."""

    replaced_by = frozenset({"KnowledgeBaseConfiguration", "StorageConfiguration"})
    tags = ("Tags", dict)

    def create(self, place: Place, properties: Properties) -> Resource:
        found = backends[place.account][place.region].knowledge_bases
        name = properties["Name"]
        if any(base.name == name for base in found.values()):
            raise UnsupportedChange(f"AWS::Bedrock::KnowledgeBase: a knowledge base named {name} already exists")
        configuration, storage = properties["KnowledgeBaseConfiguration"], properties["StorageConfiguration"]
        if configuration["Type"] != "VECTOR" or storage["Type"] != "S3_VECTORS":
            raise UnsupportedChange("AWS::Bedrock::KnowledgeBase: the local cloud has VECTOR on S3_VECTORS only")
        vectors = configuration["VectorKnowledgeBaseConfiguration"]
        index_arn = storage["S3VectorsConfiguration"]["IndexArn"]
        self._require_fitting(place, vectors, index_arn)
        base_id = _new_id()
        arn = f"arn:aws:bedrock:{place.region}:{place.account}:knowledge-base/{base_id}"
        found[base_id] = KnowledgeBase(
            base_id,
            arn,
            name,
            properties["RoleArn"],
            vectors["EmbeddingModelArn"],
            index_arn,
            dict(properties.get("Tags", {})),
        )
        return Resource(base_id, {"KnowledgeBaseId": base_id, "KnowledgeBaseArn": arn})

    def update(self, place: Place, resource: Resource, properties: Properties, former: Properties) -> Resource:
        base = backends[place.account][place.region].knowledge_bases[resource.physical_id]
        base.name, base.role_arn, base.tags = properties["Name"], properties["RoleArn"], properties.get("Tags", {})
        return resource

    def delete(self, place: Place, resource: Resource) -> None:
        backends[place.account][place.region].knowledge_bases.pop(resource.physical_id)

    @staticmethod
    def _require_fitting(place: Place, vectors: Mapping[str, Any], index_arn: str) -> None:
        try:
            index = VectorIndex(place.account, index_arn)
        except ServiceError as error:
            raise UnsupportedChange(f"AWS::Bedrock::KnowledgeBase: {error.message}: {index_arn}") from None
        model = vectors.get("EmbeddingModelConfiguration", {}).get("BedrockEmbeddingModelConfiguration", {})
        if int(model.get("Dimensions", index.dimension)) != index.dimension:
            raise UnsupportedChange(
                f"AWS::Bedrock::KnowledgeBase: the model gives {model['Dimensions']} dimensions, "
                f"and the index takes {index.dimension}"
            )


class DataSourceKind(Kind):
    """AWS::Bedrock::DataSource of the type CUSTOM."""

    replaced_by = frozenset({"KnowledgeBaseId", "DataSourceConfiguration", "VectorIngestionConfiguration"})

    def create(self, place: Place, properties: Properties) -> Resource:
        if properties["DataSourceConfiguration"]["Type"] != "CUSTOM":
            raise UnsupportedChange("AWS::Bedrock::DataSource: the local cloud has the type CUSTOM only")
        base = backends[place.account][place.region].knowledge_bases.get(properties["KnowledgeBaseId"])
        if base is None:
            raise UnsupportedChange(f"AWS::Bedrock::DataSource: there is no {properties['KnowledgeBaseId']}")
        source = DataSource(_new_id(), self._chunk(properties))
        base.data_sources[source.id] = source
        return Resource(f"{base.id}|{source.id}", {"DataSourceId": source.id}, detail=dict(properties))

    def update(self, place: Place, resource: Resource, properties: Properties, former: Properties) -> Resource:
        return Resource(resource.physical_id, resource.attributes, detail=dict(properties))

    def delete(self, place: Place, resource: Resource) -> None:
        base_id, _, source_id = resource.physical_id.partition("|")
        base = backends[place.account][place.region].knowledge_bases[base_id]
        source = base.data_sources.pop(source_id)
        if resource.detail.get("DataDeletionPolicy", "DELETE") == "DELETE":
            keys = [key for document in source.documents.values() for key in document.keys]
            VectorIndex(place.account, base.index_arn).delete(keys)

    @staticmethod
    def _chunk(properties: Properties) -> tuple[int, int] | None:
        chunking = properties.get("VectorIngestionConfiguration", {}).get("ChunkingConfiguration", {})
        match chunking.get("ChunkingStrategy"):
            case None:
                return (300, 60)  # what AWS takes by default
            case "NONE":
                return None
            case "FIXED_SIZE":
                fixed = chunking["FixedSizeChunkingConfiguration"]
                size = int(fixed["MaxTokens"])
                return (size, min(size * int(fixed["OverlapPercentage"]) // 100, size - 1))
            case other:
                raise UnsupportedChange(f"AWS::Bedrock::DataSource: the local cloud doesn't chunk by {other}")


KINDS: Mapping[str, Kind] = {
    "AWS::Bedrock::KnowledgeBase": KnowledgeBaseKind(),
    "AWS::Bedrock::DataSource": DataSourceKind(),
}

"""Who asks a shared knowledge base: the function, with the tenant of a token, and the workflow, with the registry's."""

from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from saas_agent.control_plane import data_knowledge
from saas_agent.control_plane.data import Data
from saas_agent.control_plane.data_knowledge import IndexedDocuments, Passages
from saas_agent.control_plane.errors import ControlPlaneError
from saas_agent.control_plane.steps import Throttled
from saas_agent.errors import ConfigurationError
from saas_agent.functions import knowledge
from saas_agent.functions.knowledge import NotAnswered
from saas_agent.storage.knowledge import KnowledgeBase, Library
from tests.unit.tokens import CLIENT, ISSUER, claims, jwks, signed

ENVIRON = {"ISSUER": ISSUER, "CLIENT_ID": CLIENT, "KNOWLEDGE_BASE": "BASE000000|SOURCE0000", "DOCUMENTS_BUCKET": "docs"}
PLACE = {"knowledgeBaseId": "BASE000000", "dataSourceId": "SOURCE0000"}
SEARCH = {"action": "search", "question": "leave?", "limit": 5, "documents": []}


class Bedrock:
    """Keeps what it was asked, and answers with these passages."""

    def __init__(self, *results: dict[str, Any], error: Exception | None = None) -> None:
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self._results = list(results)
        self._error = error

    def client(self, service: str) -> "Bedrock":
        assert service in ("bedrock-agent", "bedrock-agent-runtime")
        return self

    def _answer(self, operation: str, asked: dict[str, Any], **answer: Any) -> dict[str, Any]:
        self.asked.append((operation, asked))
        if self._error:
            raise self._error
        return answer

    def retrieve(self, **asked: Any) -> dict[str, Any]:
        return self._answer("retrieve", asked, retrievalResults=self._results)

    def ingest_knowledge_base_documents(self, **asked: Any) -> dict[str, Any]:
        return self._answer("ingest", asked)

    def delete_knowledge_base_documents(self, **asked: Any) -> dict[str, Any]:
        return self._answer("delete", asked)

    def get_knowledge_base_documents(self, **asked: Any) -> dict[str, Any]:
        details = [{"status": "INDEXED", "identifier": each} for each in asked["documentIdentifiers"]]
        return self._answer("get", asked, documentDetails=details)


def passage(tenant: Any = "acme", source: str = "tenants/acme/leave.md", kind: str = "CUSTOM") -> dict[str, Any]:
    location = {"type": "CUSTOM", "customDocumentLocation": {"id": source}}
    if kind == "S3":
        location = {"type": "S3", "s3Location": {"uri": source}}
    return {
        "content": {"type": "TEXT", "text": "Thirty days."},
        "location": location,
        "metadata": {} if tenant is None else {"tenant_id": tenant},
        "score": 0.5,
    }


def ask(bedrock: Bedrock, **event: Any) -> dict[str, Any]:
    handler = knowledge.create(ENVIRON, bedrock, lambda _: jwks())
    return handler({"token": signed(claims()), **event}, None)


def test_a_search_is_filtered_by_the_tenant_of_the_token_and_no_other() -> None:
    bedrock = Bedrock(passage(), passage(source="s3://docs/tenants/acme/b/c.md", kind="S3"))
    named = {"tenant_id": "globex", "filter": {"equals": {"key": "tenant_id", "value": "globex"}}}
    answer = ask(bedrock, **SEARCH, **named)
    assert answer == {
        "tenant_id": "acme",
        "passages": [
            {"document": "leave.md", "text": "Thirty days.", "score": 0.5},
            {"document": "b/c.md", "text": "Thirty days.", "score": 0.5},
        ],
    }
    [(_, asked)] = bedrock.asked
    assert asked == {
        "knowledgeBaseId": "BASE000000",
        "retrievalQuery": {"text": "leave?"},
        "retrievalConfiguration": {
            "vectorSearchConfiguration": {
                "numberOfResults": 5,
                "filter": {"equals": {"key": "tenant_id", "value": "acme"}},
            }
        },
    }


def test_what_the_caller_asks_for_besides_is_joined_to_the_tenant() -> None:
    bedrock = Bedrock()
    ask(bedrock, **{**SEARCH, "documents": ["a.md", "tenants/globex/b.md"]})
    [(_, asked)] = bedrock.asked
    assert asked["retrievalConfiguration"]["vectorSearchConfiguration"]["filter"] == {
        "andAll": [
            {"equals": {"key": "tenant_id", "value": "acme"}},
            {"in": {"key": "document", "value": ["a.md", "tenants/globex/b.md"]}},
        ]
    }


@pytest.mark.parametrize(
    "foreign",
    [
        passage("globex", "tenants/globex/leave.md"),
        passage("globex"),
        passage(source="tenants/globex/leave.md"),
        passage(source="tenants/acme2/leave.md"),
        passage(None),
        passage(["acme", "globex"]),
        passage(["acme"]),
        passage(source=""),
        passage(source="s3://other/tenants/acme/leave.md", kind="S3"),
        passage() | {"location": {"type": "WEB", "webLocation": {"url": "https://a.example"}}},
        {"content": {"text": "x"}},
    ],
)
def test_a_passage_that_is_not_the_tenants_by_metadata_and_location_fails_the_whole_search(
    foreign: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(NotAnswered, match="^foreign_passage$"):
        ask(Bedrock(passage(), foreign), **SEARCH)
    assert [record.getMessage() for record in caplog.records] == [
        "foreign_passage tenant=acme knowledge_base=BASE000000"
    ]


def test_documents_get_their_id_place_and_metadata_from_the_token() -> None:
    bedrock = Bedrock()
    names = [f"folder/{number}.md" for number in range(12)]
    assert ask(bedrock, action="put", names=names, tenant_id="globex") == {"tenant_id": "acme"}
    assert [len(asked["documents"]) for _, asked in bedrock.asked] == [10, 2]
    assert bedrock.asked[0][1] == {**PLACE, "documents": bedrock.asked[0][1]["documents"]}
    assert bedrock.asked[0][1]["documents"][0] == {
        "content": {
            "dataSourceType": "CUSTOM",
            "custom": {
                "customDocumentIdentifier": {"id": "tenants/acme/folder/0.md"},
                "sourceType": "S3_LOCATION",
                "s3Location": {"uri": "s3://docs/tenants/acme/folder/0.md"},
            },
        },
        "metadata": {
            "type": "IN_LINE_ATTRIBUTE",
            "inlineAttributes": [
                {"key": "tenant_id", "value": {"type": "STRING", "stringValue": "acme"}},
                {"key": "document", "value": {"type": "STRING", "stringValue": "folder/0.md"}},
            ],
        },
    }


def test_only_own_documents_are_removed_and_looked_at() -> None:
    bedrock = Bedrock()
    own = {"dataSourceType": "CUSTOM", "custom": {"id": "tenants/acme/tenants/globex/a.md"}}
    ask(bedrock, action="remove", names=["tenants/globex/a.md"])
    answer = ask(bedrock, action="states", names=["tenants/globex/a.md"])
    assert bedrock.asked == [
        ("delete", {**PLACE, "documentIdentifiers": [own]}),
        ("get", {**PLACE, "documentIdentifiers": [own]}),
    ]
    assert answer["states"] == {"tenants/globex/a.md": {"status": "INDEXED", "reason": ""}}


@pytest.mark.parametrize(
    ("event", "code"),
    [
        ({**SEARCH, "token": None}, "invalid_request"),
        ({**SEARCH, "token": ""}, "invalid_token"),
        ({**SEARCH, "token": "a.b.c"}, "invalid_token"),
        ({**SEARCH, "token": signed(claims(exp=1))}, "token_expired"),
        ({**SEARCH, "token": signed(claims(tenant_id="*"))}, "no_tenant"),
        ({**SEARCH, "token": signed(claims(token_use="id"))}, "invalid_token"),
        ({**SEARCH, "token": signed(claims(tenant_status="SUSPENDED"))}, "tenant_not_active"),
        ({}, "invalid_request"),
        ({"action": "list"}, "invalid_request"),
        ({**SEARCH, "question": " "}, "invalid_request"),
        ({**SEARCH, "question": ["leave"]}, "invalid_request"),
        ({**SEARCH, "limit": 0}, "invalid_request"),
        ({**SEARCH, "limit": 51}, "invalid_request"),
        ({**SEARCH, "limit": "5"}, "invalid_request"),
        ({**SEARCH, "documents": {"notEquals": {}}}, "invalid_request"),
        ({**SEARCH, "documents": [{"notEquals": {}}]}, "invalid_request"),
        ({"action": "put", "names": "a.md"}, "invalid_request"),
        ({"action": "put", "names": ["../globex/a.md"]}, "invalid_request"),
        ({"action": "remove", "names": ["/a.md"]}, "invalid_request"),
        ({"action": "remove", "names": [""]}, "invalid_request"),
        ({"action": "states", "names": ["a.md"] * 101}, "invalid_request"),
    ],
)
def test_anything_else_is_refused_before_bedrock_is_asked(event: dict[str, Any], code: str) -> None:
    bedrock = Bedrock()
    with pytest.raises(NotAnswered) as caught:
        ask(bedrock, **event)
    assert str(caught.value) == code
    assert bedrock.asked == []


@pytest.mark.parametrize(
    "error",
    [
        ClientError({"Error": {"Code": "ValidationException", "Message": "secret things"}}, "Retrieve"),
        EndpointConnectionError(endpoint_url="https://secret.example"),
    ],
)
def test_a_failure_says_nothing_of_what_was_asked(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(NotAnswered, match="^internal$"):
        ask(Bedrock(error=error), **SEARCH)
    assert "secret" not in caplog.text
    assert "leave" not in caplog.text


@pytest.mark.parametrize("missing", sorted(ENVIRON))
def test_it_does_not_start_without_its_settings(missing: str) -> None:
    environ = {name: value for name, value in ENVIRON.items() if name != missing}
    with pytest.raises(ConfigurationError, match=missing):
        knowledge.create(environ, Bedrock())


# --- What the workflow does there, to delete a tenant ---------------------------------------------


class Listed(Bedrock):
    """A knowledge base with these documents. patience: how often one is still being removed when it is looked at."""

    def __init__(self, *ids: str, patience: int = 0, results: tuple[dict[str, Any], ...] = ()) -> None:
        super().__init__(*results)
        self.ids = list(ids)
        self._leaving: dict[str, int] = {}
        self._patience = patience

    def get_paginator(self, operation: str) -> "Listed":
        assert operation == "list_knowledge_base_documents"
        return self

    def paginate(self, **asked: Any) -> list[dict[str, Any]]:
        self.asked.append(("list", asked))
        identified = [{"identifier": {"custom": {"id": document_id}}} for document_id in self.ids]
        return [{"documentDetails": identified[start : start + 2]} for start in range(0, len(identified), 2)]

    def delete_knowledge_base_documents(self, **asked: Any) -> dict[str, Any]:
        for identifier in asked["documentIdentifiers"]:
            self.ids.remove(identifier["custom"]["id"])
            self._leaving[identifier["custom"]["id"]] = self._patience
        return super().delete_knowledge_base_documents(**asked)

    def get_knowledge_base_documents(self, **asked: Any) -> dict[str, Any]:
        details = []
        for identifier in asked["documentIdentifiers"]:
            document_id = identifier["custom"]["id"]
            left = self._leaving.get(document_id, 0)
            self._leaving[document_id] = left - 1
            status = "INDEXED" if document_id in self.ids else "DELETING" if left > 0 else "NOT_FOUND"
            details.append({"status": status, "identifier": identifier})
        return {"documentDetails": details}


THEIRS = ["tenants/acme2/a.md", "tenants/globex/tenants/acme/a.md", "tenants/acme", "a.md", ""]


def of_acme(bedrock: Bedrock) -> Data:
    base = KnowledgeBase("acme", Library.parse(ENVIRON["KNOWLEDGE_BASE"], "docs"), bedrock.client)
    return Data([IndexedDocuments(base), Passages(base)], seconds=0.0)


def whole(step: Any) -> None:
    cursor = step("")
    while cursor:
        cursor = step(cursor)


def test_a_tenants_documents_are_removed_and_nobody_elses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_knowledge, "_PAGE", 5)
    monkeypatch.setattr(data_knowledge, "_PAUSE_SECONDS", 0.0)
    mine = [f"tenants/acme/{number:02}.md" for number in range(23)]
    bedrock = Listed(*THEIRS, *reversed(mine), patience=2)
    with pytest.raises(ControlPlaneError, match="or more of the tenant's indexed documents are still there"):
        whole(of_acme(bedrock).check)
    whole(of_acme(bedrock).delete)
    assert bedrock.ids == THEIRS
    named = [
        each["custom"]["id"] for op, asked in bedrock.asked if op == "delete" for each in asked["documentIdentifiers"]
    ]
    assert sorted(named) == mine
    whole(of_acme(bedrock).check)


def test_what_bedrock_has_not_removed_yet_is_waited_for_and_then_asked_for_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(data_knowledge, "_PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(data_knowledge, "_WAIT_SECONDS", 0.01)
    with pytest.raises(Throttled):
        whole(of_acme(Listed("tenants/acme/a.md", patience=1_000_000)).delete)


@pytest.mark.parametrize("result", [passage(), passage(source="tenants/globex/leave.md")])
def test_a_passage_that_is_left_is_found_though_no_document_is_listed(result: dict[str, Any]) -> None:
    bedrock = Listed(*THEIRS, results=(result,))
    with pytest.raises(ControlPlaneError, match="1 or more of the tenant's passages are still there"):
        whole(of_acme(bedrock).check)
    [asked] = [asked for operation, asked in bedrock.asked if operation == "retrieve"]
    assert asked["retrievalConfiguration"]["vectorSearchConfiguration"]["filter"] == {
        "equals": {"key": "tenant_id", "value": "acme"}
    }

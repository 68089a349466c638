"""The memory data plane of the local cloud, called as AWS's is: by boto3 over HTTP."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest
from bedrock_agentcore.memory.integrations.strands.config import (
    AgentCoreMemoryConfig,
    RetrievalConfig,
)
from bedrock_agentcore.memory.integrations.strands.session_manager import (
    AgentCoreMemorySessionManager,
)
from botocore.exceptions import ClientError
from moto.bedrockagentcorecontrol.models import bedrockagentcorecontrol_backends
from strands import Agent
from strands.models import BedrockModel

from local import bedrock, memory
from local.brain import OfflineBrain

from .local_gate import ACCOUNT, OPERATOR, REGION, LocalGate, local_gate

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
ALICE = "acme:alice"
PREFERENCES = "/actors/{actorId}/preferences/"

CreateEvent = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def gate() -> Iterator[LocalGate]:
    with local_gate() as gate:
        memory.register(gate.gate)
        bedrock.register(gate.gate, OfflineBrain())
        yield gate


@pytest.fixture(scope="module")
def agentcore(gate: LocalGate) -> Any:
    return gate.operator("bedrock-agentcore")


@pytest.fixture
def memory_id() -> str:
    return str(new_memory(PREFERENCES).memory_id)


@pytest.fixture
def create_event(agentcore: Any, memory_id: str) -> CreateEvent:
    def create(
        text: str = "hello",
        actor: str = ALICE,
        session: str = "s1",
        at: datetime = NOON,
        role: str = "USER",
        **more: Any,
    ) -> dict[str, Any]:
        answer = agentcore.create_event(
            memoryId=memory_id,
            actorId=actor,
            sessionId=session,
            eventTimestamp=at,
            payload=[{"conversational": {"content": {"text": text}, "role": role}}],
            **more,
        )
        event: dict[str, Any] = answer["event"]
        return event

    return create


def new_memory(*templates: str, kind: str = "USER_PREFERENCE") -> Any:
    backend = bedrockagentcorecontrol_backends[ACCOUNT][REGION]
    created = backend.create_memory("pool", 30, None, None, None, None, {})
    created.strategies = [
        {
            "strategyId": f"strategy{number}-0123456789",
            "type": kind,
            "namespaceTemplates": [template],
        }
        for number, template in enumerate(templates)
    ]
    return created


def text_of(event: dict[str, Any]) -> str:
    return str(event["payload"][0]["conversational"]["content"]["text"])


def code_of(call: Callable[..., Any], **params: Any) -> str:
    with pytest.raises(ClientError) as raised:
        call(**params)
    return str(raised.value.response["Error"]["Code"])


# --- Events -----------------------------------------------------------------------------------


def test_an_event_comes_back_as_it_was_sent(agentcore: Any, memory_id: str, create_event: CreateEvent) -> None:
    blob = {"any": ["JSON", 1, None]}
    sent = create_event(metadata={"stateType": {"stringValue": "AGENT"}})
    agentcore.create_event(
        memoryId=memory_id,
        actorId=ALICE,
        sessionId="blobs",
        eventTimestamp=NOON,
        payload=[{"blob": blob}, {"blob": "a text"}],
    )

    where = {"memoryId": memory_id, "actorId": ALICE, "sessionId": "s1"}
    read = agentcore.get_event(**where, eventId=sent["eventId"])["event"]
    (blobs,) = agentcore.list_events(**{**where, "sessionId": "blobs"})["events"]

    assert read == sent
    assert read["eventTimestamp"] == NOON
    assert read["metadata"] == {"stateType": {"stringValue": "AGENT"}}
    assert read["branch"] == {"name": "main"}
    assert [item["blob"] for item in blobs["payload"]] == [blob, "a text"]


def test_events_are_listed_newest_first_and_by_arrival_within_a_second(
    agentcore: Any, memory_id: str, create_event: CreateEvent
) -> None:
    create_event("second", at=NOON)
    create_event("third", at=NOON)
    create_event("first", at=NOON - timedelta(minutes=1))

    events = agentcore.list_events(memoryId=memory_id, actorId=ALICE, sessionId="s1")["events"]

    assert [text_of(event) for event in events] == ["third", "second", "first"]


def test_pages_neither_repeat_nor_lose_an_event_while_others_arrive(
    agentcore: Any, memory_id: str, create_event: CreateEvent
) -> None:
    for number in range(5):
        create_event(str(number), at=NOON + timedelta(seconds=number))
    where = {"memoryId": memory_id, "actorId": ALICE, "sessionId": "s1", "maxResults": 2}

    seen = []
    answer = agentcore.list_events(**where)
    while True:
        seen += [text_of(event) for event in answer["events"]]
        create_event("later", at=NOON + timedelta(hours=1))
        if "nextToken" not in answer:
            break
        answer = agentcore.list_events(**where, nextToken=answer["nextToken"])

    assert seen == ["4", "3", "2", "1", "0"]
    assert code_of(agentcore.list_events, **where, nextToken="x") == "ValidationException"


def test_events_can_be_listed_without_their_payloads(agentcore: Any, memory_id: str, create_event: CreateEvent) -> None:
    create_event()
    (event,) = agentcore.list_events(memoryId=memory_id, actorId=ALICE, sessionId="s1", includePayloads=False)["events"]

    assert event["payload"] == []


@pytest.mark.parametrize(
    ("operator", "right", "expected"),
    [
        ("EQUALS_TO", {"metadataValue": {"stringValue": "red"}}, ["red"]),
        ("EXISTS", None, ["blue", "red"]),
        ("NOT_EXISTS", None, ["plain"]),
    ],
)
def test_events_are_filtered_by_metadata(
    agentcore: Any,
    memory_id: str,
    create_event: CreateEvent,
    operator: str,
    right: dict[str, Any] | None,
    expected: list[str],
) -> None:
    create_event("red", metadata={"colour": {"stringValue": "red"}})
    create_event("blue", metadata={"colour": {"stringValue": "blue"}})
    create_event("plain")
    condition: dict[str, Any] = {"left": {"metadataKey": "colour"}, "operator": operator}
    if right:
        condition["right"] = right

    events = agentcore.list_events(
        memoryId=memory_id, actorId=ALICE, sessionId="s1", filter={"eventMetadata": [condition]}
    )["events"]

    assert [text_of(event) for event in events] == expected


def test_a_branch_lists_its_own_events_and_its_parents_up_to_the_fork(
    agentcore: Any, memory_id: str, create_event: CreateEvent
) -> None:
    fork = create_event("fork")
    create_event("main goes on")
    create_event("other way", branch={"name": "other", "rootEventId": fork["eventId"]})

    def texts(**branch: Any) -> list[str]:
        answer = agentcore.list_events(memoryId=memory_id, actorId=ALICE, sessionId="s1", filter={"branch": branch})
        return [text_of(event) for event in answer["events"]]

    assert texts(name="other") == ["other way"]
    assert texts(name="other", includeParentBranches=True) == ["other way", "fork"]
    assert texts(name="main") == ["main goes on", "fork"]


def test_another_actor_or_session_holds_other_events(agentcore: Any, memory_id: str, create_event: CreateEvent) -> None:
    event = create_event()

    for where in (
        {"actorId": "acme2:alice", "sessionId": "s1"},
        {"actorId": ALICE, "sessionId": "s2"},
    ):
        assert agentcore.list_events(memoryId=memory_id, **where)["events"] == []
        for call in (agentcore.get_event, agentcore.delete_event):
            code = code_of(call, memoryId=memory_id, **where, eventId=event["eventId"])
            assert code == "ResourceNotFoundException"


def test_a_deleted_event_is_gone_and_its_session_stays(
    agentcore: Any, memory_id: str, create_event: CreateEvent
) -> None:
    where = {"memoryId": memory_id, "actorId": ALICE, "sessionId": "s1"}
    event_id = create_event()["eventId"]

    assert agentcore.delete_event(**where, eventId=event_id)["eventId"] == event_id
    assert code_of(agentcore.get_event, **where, eventId=event_id) == "ResourceNotFoundException"

    def sessions(**more: Any) -> list[Any]:
        answer = agentcore.list_sessions(memoryId=memory_id, actorId=ALICE, **more)
        return list(answer["sessionSummaries"])

    assert len(sessions()) == 1
    assert sessions(filter={"eventFilter": "HAS_EVENTS"}) == []


def test_a_repeated_client_token_adds_no_event_and_opens_no_other_session(
    agentcore: Any, memory_id: str, create_event: CreateEvent
) -> None:
    first = create_event("secret", clientToken="t1")

    assert create_event("again", clientToken="t1")["eventId"] == first["eventId"]
    assert text_of(create_event("mine", actor="globex:eve", clientToken="t1")) == "mine"


def test_sessions_and_actors_are_listed_in_pages(agentcore: Any, memory_id: str, create_event: CreateEvent) -> None:
    for actor in (ALICE, "acme:bob", "globex:eve"):
        for session in ("s1", "s2", "s3"):
            create_event(actor=actor, session=session)

    first = agentcore.list_sessions(memoryId=memory_id, actorId=ALICE, maxResults=2)
    second = agentcore.list_sessions(memoryId=memory_id, actorId=ALICE, maxResults=2, nextToken=first["nextToken"])
    actors = agentcore.list_actors(memoryId=memory_id)["actorSummaries"]

    found = first["sessionSummaries"] + second["sessionSummaries"]
    assert [session["sessionId"] for session in found] == ["s1", "s2", "s3"]
    assert {session["actorId"] for session in found} == {ALICE}
    assert "nextToken" not in second
    assert [actor["actorId"] for actor in actors] == [ALICE, "acme:bob", "globex:eve"]


def test_events_written_at_once_are_all_kept(agentcore: Any, memory_id: str, create_event: CreateEvent) -> None:
    with ThreadPoolExecutor(8) as pool:
        created = list(pool.map(lambda number: create_event(str(number)), range(40)))

    listed = agentcore.list_events(memoryId=memory_id, actorId=ALICE, sessionId="s1", maxResults=100)["events"]
    assert {event["eventId"] for event in created} == {event["eventId"] for event in listed}


@pytest.mark.parametrize(
    "wrong",
    [
        {"actorId": "alice@example.com"},
        {"actorId": "acme:"},
        {"actorId": "acme|alice"},
        {"actorId": "äcme:alice"},
        {"actorId": "acme:alice\n"},
        {"actorId": "a" * 256},
        {"sessionId": "acme/s1"},
        {"sessionId": "s" * 101},
        {"payload": [{}]},
        {"payload": [{"conversational": {"content": {"text": ""}, "role": "USER"}}]},
        {"payload": [{"conversational": {"content": {"text": "hello"}, "role": "ROOT"}}]},
        {"metadata": {str(number): {"stringValue": "x"} for number in range(16)}},
    ],
)
def test_values_outside_the_services_patterns_are_refused(
    gate: LocalGate, memory_id: str, wrong: dict[str, Any]
) -> None:
    credentials = {
        "AccessKeyId": OPERATOR.access_key_id,
        "SecretAccessKey": OPERATOR.secret_access_key,
    }
    careless = gate.client("bedrock-agentcore", credentials, parameter_validation=False)
    params = {
        "memoryId": memory_id,
        "actorId": ALICE,
        "sessionId": "s1",
        "eventTimestamp": NOON,
        "payload": [{"conversational": {"content": {"text": "hello"}, "role": "USER"}}],
    }

    assert code_of(careless.create_event, **{**params, **wrong}) == "ValidationException"


def test_an_unknown_memory_is_not_found(agentcore: Any) -> None:
    known = new_memory()
    for unknown in ("pool-0123456789", known.memory_arn.replace(REGION, "eu-west-1")):
        code = code_of(agentcore.list_actors, memoryId=unknown)
        assert code == "ResourceNotFoundException"

    assert agentcore.list_actors(memoryId=known.memory_arn)["actorSummaries"] == []


# --- Records ----------------------------------------------------------------------------------


@pytest.fixture
def put(agentcore: Any, memory_id: str) -> Callable[..., str]:
    def create(text: str, namespace: str, **more: Any) -> str:
        record = {
            "requestIdentifier": "r1",
            "namespaces": [namespace],
            "content": {"text": text},
            "timestamp": NOON,
            **more,
        }
        answer = agentcore.batch_create_memory_records(memoryId=memory_id, records=[record])
        assert answer["failedRecords"] == []
        (created,) = answer["successfulRecords"]
        assert (created["status"], created["requestIdentifier"]) == ("SUCCEEDED", "r1")
        return str(created["memoryRecordId"])

    return create


def test_namespace_is_exact_and_namespace_path_goes_by_whole_segments(
    agentcore: Any, memory_id: str, put: Callable[..., str]
) -> None:
    put("own", "/actors/acme:alice/preferences/")
    put("deeper", "/actors/acme:alice/preferences/mail/")
    put("twin", "/actors/acme:alice2/preferences/")

    def texts(**where: str) -> list[str]:
        found = agentcore.list_memory_records(memoryId=memory_id, **where)
        return [record["content"]["text"] for record in found["memoryRecordSummaries"]]

    assert texts(namespace="/actors/acme:alice/preferences/") == ["own"]
    assert texts(namespace="/actors/acme:alice/") == []
    assert texts(namespacePath="/actors/acme:alice/") == ["own", "deeper"]
    assert texts(namespacePath="/actors/acme:alice") == ["own", "deeper"]
    assert texts(namespacePath="/actors/acme:al") == []
    assert texts(namespacePath="/actors/*") == []


@pytest.mark.parametrize("where", [{}, {"namespace": "/a/", "namespacePath": "/a/"}])
def test_exactly_one_of_namespace_and_namespace_path_is_needed(
    agentcore: Any, memory_id: str, where: dict[str, str]
) -> None:
    assert code_of(agentcore.list_memory_records, memoryId=memory_id, **where) == ("ValidationException")
    search = {"searchQuery": "anything"}
    assert code_of(agentcore.retrieve_memory_records, memoryId=memory_id, searchCriteria=search, **where) == (
        "ValidationException"
    )


def test_retrieval_gives_the_nearest_first_and_strangers_with_a_low_score(
    agentcore: Any, memory_id: str, put: Callable[..., str]
) -> None:
    put("The office is in Vienna", "/n/")
    put("I prefer answers by email", "/n/")
    put("I prefer tea", "/n/")

    def retrieve(**criteria: Any) -> list[Any]:
        answer = agentcore.retrieve_memory_records(
            memoryId=memory_id,
            namespace="/n/",
            searchCriteria={"searchQuery": "Do I prefer email?", **criteria},
        )
        return list(answer["memoryRecordSummaries"])

    found = retrieve()
    assert [record["content"]["text"] for record in found] == [
        "I prefer answers by email",
        "I prefer tea",
        "The office is in Vienna",
    ]
    assert found[0]["score"] > found[1]["score"] > found[2]["score"] == 0.1
    assert retrieve() == found
    assert retrieve(topK=1) == found[:1]


@pytest.mark.parametrize(
    ("operator", "value", "matches"),
    [
        ("EQUALS_TO", {"numberValue": 3}, True),
        ("EQUALS_TO", {"stringValue": "3"}, False),
        ("GREATER_THAN", {"numberValue": 2}, True),
        ("LESS_THAN_OR_EQUALS", {"numberValue": 2}, False),
        ("GREATER_THAN", {"stringValue": "2"}, False),
        ("EXISTS", None, True),
        ("NOT_EXISTS", None, False),
    ],
)
def test_records_are_filtered_by_metadata(
    agentcore: Any,
    memory_id: str,
    put: Callable[..., str],
    operator: str,
    value: dict[str, Any] | None,
    matches: bool,
) -> None:
    put("urgent", "/n/", metadata={"priority": {"numberValue": 3}})
    condition: dict[str, Any] = {"left": {"metadataKey": "priority"}, "operator": operator}
    if value:
        condition["right"] = {"metadataValue": value}

    listed = agentcore.list_memory_records(memoryId=memory_id, namespace="/n/", metadataFilters=[condition])[
        "memoryRecordSummaries"
    ]

    assert bool(listed) is matches


def test_records_can_be_read_and_deleted_by_id(agentcore: Any, memory_id: str, put: Callable[..., str]) -> None:
    one, two = put("one", "/n/"), put("two", "/n/")
    record = {"memoryId": memory_id, "memoryRecordId": one}

    assert agentcore.get_memory_record(**record)["memoryRecord"]["content"]["text"] == "one"
    assert code_of(agentcore.get_memory_record, **record, namespace="/other/") == ("ResourceNotFoundException")
    assert agentcore.delete_memory_record(**record)["memoryRecordId"] == one
    assert code_of(agentcore.get_memory_record, **record) == "ResourceNotFoundException"

    answer = agentcore.batch_delete_memory_records(
        memoryId=memory_id, records=[{"memoryRecordId": one}, {"memoryRecordId": two}]
    )
    assert [entry["memoryRecordId"] for entry in answer["successfulRecords"]] == [two]
    assert [entry["errorCode"] for entry in answer["failedRecords"]] == [404]


# --- Extraction -------------------------------------------------------------------------------


def records_of(agentcore: Any, memory_id: str, namespace: str) -> list[str]:
    answer = agentcore.list_memory_records(memoryId=memory_id, namespace=namespace)
    return [record["content"]["text"] for record in answer["memoryRecordSummaries"]]


def test_a_stated_preference_becomes_a_record_in_the_actors_namespace(
    agentcore: Any, memory_id: str, create_event: CreateEvent
) -> None:
    create_event("Preference: I prefer email")
    create_event("I prefer letters")
    create_event("Preference: I prefer fax", role="ASSISTANT")
    create_event("Preference: I prefer pigeons", extractionMode="SKIP")

    own = records_of(agentcore, memory_id, "/actors/acme:alice/preferences/")
    assert own == ["I prefer email"]
    assert records_of(agentcore, memory_id, "/actors/acme:bob/preferences/") == []


def test_a_repeated_request_states_its_preference_once(
    agentcore: Any, memory_id: str, create_event: CreateEvent
) -> None:
    for _ in range(2):
        create_event("Preference: I prefer email", clientToken="t1")

    own = records_of(agentcore, memory_id, "/actors/acme:alice/preferences/")
    assert own == ["I prefer email"]


def test_every_preference_strategy_extracts_unless_a_variable_has_no_value(agentcore: Any) -> None:
    pool = new_memory("/t/{tenant}/", "/s/{sessionId}/{memoryStrategyId}/")
    event = {
        "memoryId": pool.memory_id,
        "actorId": ALICE,
        "sessionId": "s1",
        "eventTimestamp": NOON,
        "payload": [{"conversational": {"content": {"text": "Preference: tea"}, "role": "USER"}}],
    }
    agentcore.create_event(**event)
    by_session = records_of(agentcore, pool.memory_id, "/s/s1/strategy1-0123456789/")
    assert by_session == ["tea"]
    assert records_of(agentcore, pool.memory_id, "/t/acme/") == []

    config = {"namespaceVariables": {"tenant": "acme"}}
    agentcore.create_event(**event, extractionConfig=config)
    assert records_of(agentcore, pool.memory_id, "/t/acme/") == ["tea"]


def test_other_strategies_extract_nothing(agentcore: Any) -> None:
    facts = new_memory(PREFERENCES, kind="SEMANTIC")
    agentcore.create_event(
        memoryId=facts.memory_id,
        actorId=ALICE,
        sessionId="s1",
        eventTimestamp=NOON,
        payload=[{"conversational": {"content": {"text": "Preference: tea"}, "role": "USER"}}],
    )

    assert records_of(agentcore, facts.memory_id, "/actors/acme:alice/preferences/") == []


# --- The Strands session manager --------------------------------------------------------------


def operator_session() -> boto3.Session:
    return boto3.Session(
        aws_access_key_id=OPERATOR.access_key_id,
        aws_secret_access_key=OPERATOR.secret_access_key,
        region_name=REGION,
    )


def agent_with_memory(memory_id: str, actor: str, session_id: str, batch_size: int) -> Agent:
    config = AgentCoreMemoryConfig(
        memory_id=memory_id,
        session_id=session_id,
        actor_id=actor,
        batch_size=batch_size,
        retrieval_config={PREFERENCES: RetrievalConfig(top_k=3, relevance_score=0.2)},
    )
    manager = AgentCoreMemorySessionManager(config, boto_session=operator_session())
    model = BedrockModel(boto_session=operator_session(), model_id="any.model")
    return Agent(model=model, session_manager=manager, callback_handler=None)


@pytest.mark.parametrize("batch_size", [1, 4])
def test_an_agent_restores_its_conversation_in_a_second_instance(
    gate: LocalGate, memory_id: str, monkeypatch: pytest.MonkeyPatch, batch_size: int
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", gate.endpoint)
    first = agent_with_memory(memory_id, ALICE, "s1", batch_size)
    first("My printer is on fire")
    first("It is the one in Vienna")

    second = agent_with_memory(memory_id, ALICE, "s1", batch_size)
    stranger = agent_with_memory(memory_id, "acme2:alice", "s1", batch_size)

    assert second.messages == first.messages
    assert len(second.messages) == 4
    assert str(second("What did I say?")).strip() == (
        'Earlier you said: "My printer is on fire"; "It is the one in Vienna"'
    )
    assert "Vienna" not in str(stranger("What did I say?"))


def test_an_agent_is_handed_the_preferences_of_its_actor_in_another_session(
    gate: LocalGate, memory_id: str, create_event: CreateEvent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", gate.endpoint)
    create_event("Preference: I prefer email", session="s1")

    own = agent_with_memory(memory_id, ALICE, "s2", batch_size=1)
    other = agent_with_memory(memory_id, "acme:bob", "s3", batch_size=1)

    assert "I prefer email" in str(own("What do I prefer?"))
    assert "email" not in str(other("What do I prefer?"))

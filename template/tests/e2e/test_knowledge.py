"""The knowledge door, with a tenant's own credentials on the local cloud: what it finds, and whose."""

import json
import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from infra.deploy import PLATFORM
from local.attacks.attack import Arena, all_attacks
from local.attacks.judgement import Verdict, judge, text_of
from local.cloud import LocalCloud
from local.proof import plant
from local.stage import Actor, Stage
from local.template import parse
from saas_agent import configuration, wiring
from saas_agent.control_plane import cli
from saas_agent.control_plane.connection import Connection
from saas_agent.control_plane.errors import ControlPlaneError
from saas_agent.control_plane.ingestion import Documents, Ingestion
from saas_agent.errors import Refused
from saas_agent.metering.hooks import metered
from saas_agent.metering.rates import RateCard
from saas_agent.metering.record import Operation, read
from saas_agent.metering.usage import Meter
from saas_agent.storage.knowledge import INDEXED, KnowledgeBase, Library, Passage
from saas_agent.tenancy.access import TenantAccess
from saas_agent.tenancy.placement import Place, load_placement
from saas_agent.tenancy.tenant import TenantContext


def library(stage: Stage, actor: Actor) -> Library:
    """Where the actor's documents are."""
    home = stage.home(actor.name)
    own = home.resource("knowledge_base")
    data_source = own if "|" in own else stage.outputs["KnowledgeDataSource"]
    return Library.parse(data_source, home.resource("knowledge_base/documents"))


@pytest.fixture(scope="module")
def tenants(stage: Stage, acme: Actor, acme2: Actor, globex: Actor) -> list[Actor]:
    """Three tenants with a document of the same name each."""
    found = [acme, acme2, globex]
    for actor in found:
        text = f"Employees of {actor.name} take {len(actor.name)} weeks of leave. {actor.canary}"
        stage.doors(actor).knowledge.add("handbook/leave.md", text.encode())
    return found


def test_what_was_added_is_found_by_its_tenant_alone(stage: Stage, tenants: list[Actor]) -> None:
    for actor in tenants:
        passages = stage.doors(actor).knowledge.search("how many weeks of leave?", limit=50)
        assert passages
        assert isinstance(passages[0], Passage)
        found = " ".join(passage.text for passage in passages)
        assert actor.canary in found
        assert not [other.name for other in tenants if other is not actor and other.canary in found]


def test_a_document_is_listed_replaced_and_removed(stage: Stage, acme: Actor) -> None:
    knowledge = stage.doors(acme).knowledge
    knowledge.add("notes/alarm.md", b"The alarm rings at noon.")
    assert "notes/alarm.md" in knowledge.list()
    assert knowledge.states(["notes/alarm.md", "notes/none.md"])["notes/alarm.md"].status == INDEXED
    knowledge.add("notes/alarm.md", b"The alarm rings at midnight.")
    [passage] = knowledge.search("when does the alarm ring?", documents=["notes/alarm.md"])
    assert (passage.document, passage.text) == ("notes/alarm.md", "The alarm rings at midnight.")
    knowledge.remove("notes/alarm.md")
    knowledge.remove("notes/alarm.md")
    assert "notes/alarm.md" not in knowledge.list()
    assert knowledge.search("alarm", documents=["notes/alarm.md"]) == []


def test_documents_that_are_named_narrow_a_search_and_never_widen_it(stage: Stage, tenants: list[Actor]) -> None:
    knowledge = stage.doors(tenants[0]).knowledge
    assert {p.document for p in knowledge.search("leave", documents=["handbook/leave.md"])} == {"handbook/leave.md"}
    assert knowledge.search("leave", documents=["tenants/globex/handbook/leave.md"]) == []


@pytest.mark.parametrize("name", ["", "/a.md", "../globex/a.md", "a//b.md", "a\\b.md", "a\n.md", "ü" * 300 + ".md"])
def test_a_name_can_not_leave_the_tenants_folder(stage: Stage, acme: Actor, name: str) -> None:
    knowledge = stage.doors(acme).knowledge
    with pytest.raises(ValueError):
        knowledge.add(name, b"x")
    with pytest.raises((ValueError, Refused)):
        knowledge.remove(name)


@pytest.mark.parametrize(("name", "content"), [("a.exe", b"x"), ("a.md", b"x" * (50 * 1024 * 1024 + 1))])
def test_what_can_not_be_read_is_refused(stage: Stage, acme: Actor, name: str, content: bytes) -> None:
    with pytest.raises(ValueError, match="can't be read"):
        stage.doors(acme).knowledge.add(name, content)


def test_an_empty_question_is_refused(stage: Stage, acme: Actor) -> None:
    with pytest.raises(ValueError, match="the question is empty"):
        stage.doors(acme).knowledge.search(" ")


def test_metadata_is_the_codes_whatever_a_document_says(stage: Stage, tenants: list[Actor]) -> None:
    acme, _, globex = tenants
    lie = b"---\ntenant_id: globex\n---\nBrillig: slithy toves of globex."
    knowledge = stage.doors(acme).knowledge
    knowledge.add("tenants/globex/lie.md", lie)
    assert any("slithy" in passage.text for passage in knowledge.search("slithy toves"))
    assert not any("slithy" in passage.text for passage in stage.doors(globex).knowledge.search("slithy toves"))
    knowledge.remove("tenants/globex/lie.md")


def test_a_door_of_another_tenant_over_own_credentials_is_refused(stage: Stage, acme: Actor, globex: Actor) -> None:
    # No code makes such a thing; if it did, IAM, or the function that verifies the token, would have the last word.
    place, victims = stage.place(acme), stage.place(globex)
    torn = TenantAccess(
        TenantContext("globex", "basic", "x", acme.tenant.expires_at), place.access.session, place.access.token
    )
    doors = wiring.open_doors(Place(torn, victims.resource))
    for call in (
        lambda: doors.knowledge.search("leave"),
        lambda: doors.knowledge.list(),
        lambda: doors.knowledge.add("x.md", b"x"),
        lambda: doors.knowledge.remove("handbook/leave.md"),
        lambda: doors.knowledge.states(["handbook/leave.md"]),
    ):
        with pytest.raises(Refused):
            call()


# --- Ingestion by operators -----------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Documents, and files that are none."""
    for name, text in {
        "faq.md": "Deliveries take three days.",
        "guides/returns.txt": "Returns are free for thirty days.",
        "guides/deep/warranty.html": "<p>The warranty lasts two years.</p>",
        "empty.md": "",
        "program.exe": "MZ",
        ".hidden/secret.md": "hidden",
    }.items():
        path = tmp_path / "docs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    (tmp_path / "docs" / "link.md").symlink_to(tmp_path / "docs" / "faq.md")
    return tmp_path / "docs"


@pytest.fixture
def documents(stage: Stage) -> Iterator[Documents]:
    """The documents of a tenant of its own, as an operator reaches them; emptied at the end."""
    initech = stage.onboard("initech", "premium")
    yield Documents("initech", library(stage, initech), stage.session.client)
    knowledge = stage.doors(initech).knowledge
    for name in knowledge.list():
        knowledge.remove(name)


def indexed(stage: Stage, name: str = "initech") -> list[str]:
    """The names of a tenant's documents that its knowledge base has."""
    actor = stage.onboard(name, "premium")
    return sorted(KnowledgeBase(name, library(stage, actor), stage.session.client).all())


def run(documents: Documents, folder: Path, *, delete: bool = False) -> Ingestion:
    return documents.ingest(folder, delete=delete, tell=lambda _: None)


def test_a_folder_is_ingested_once_and_then_only_what_changed(
    stage: Stage, documents: Documents, folder: Path, acme: Actor
) -> None:
    names = ["faq.md", "guides/deep/warranty.html", "guides/returns.txt"]
    first = run(documents, folder)
    assert (first.indexed, first.unchanged, first.removed, first.failed) == (names, [], [], {})
    assert first.skipped == [".hidden/secret.md", "empty.md", "link.md", "program.exe"]
    assert (run(documents, folder).indexed, run(documents, folder).unchanged) == ([], names)
    (folder / "faq.md").write_text("Deliveries take five days.", encoding="utf-8")
    (folder / "guides/returns.txt").unlink()
    assert run(documents, folder).indexed == ["faq.md"]
    assert indexed(stage) == names
    assert run(documents, folder, delete=True).removed == ["guides/returns.txt"]
    initech = stage.onboard("initech", "premium")
    knowledge = stage.doors(initech).knowledge
    assert knowledge.list() == names[:2]
    assert [p.text for p in knowledge.search("deliveries", limit=1)] == ["Deliveries take five days."]
    assert not any("five days" in p.text for p in stage.doors(acme).knowledge.search("deliveries", limit=50))


def test_what_an_interrupted_run_left_is_finished_by_the_next(stage: Stage, documents: Documents, folder: Path) -> None:
    run(documents, folder)
    initech = stage.onboard("initech", "premium")
    KnowledgeBase("initech", library(stage, initech), stage.session.client).remove(["faq.md"])
    again = run(documents, folder)
    assert (again.indexed, len(again.unchanged)) == (["faq.md"], 2)


def test_a_document_that_fails_is_named_with_its_reason(documents: Documents, folder: Path) -> None:
    (folder / "manual.pdf").write_bytes(b"%PDF")
    done = run(documents, folder)
    assert len(done.indexed) == 3
    assert list(done.failed) == ["manual.pdf"]
    assert done.failed["manual.pdf"].startswith("FAILED The local cloud reads texts only")


@pytest.mark.parametrize("name", ["none", "file.md", "bare"])
def test_a_folder_without_documents_is_refused_in_a_line(documents: Documents, tmp_path: Path, name: str) -> None:
    (tmp_path / "file.md").write_text("x", encoding="utf-8")
    (tmp_path / "bare").mkdir()
    with pytest.raises(ControlPlaneError, match=r"^[^\n]+; expected [^\n]+$|^[^\n]+ expected [^\n]+$"):
        run(documents, tmp_path / name)


def test_the_command_tells_what_it_did_and_fails_where_a_document_does(
    cloud: LocalCloud,
    stage: Stage,
    documents: Documents,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    connection = Connection(cloud.operator_session(), stage.outputs["Service"], "local", cloud.endpoint)
    monkeypatch.setattr(cli, "connect_local", lambda _: connection)
    assert cli.main(["ingest", "initech", str(folder), "--local"]) == 0
    assert "Tenant initech: 3 documents indexed, 0 unchanged, 0 removed, 0 failed." in capsys.readouterr().out
    assert cli.main(["ingest", "initech", str(folder), "--local", "--output", "json", "--delete"]) == 0
    assert json.loads(capsys.readouterr().out)["unchanged"] == indexed(stage)
    (folder / "manual.pdf").write_bytes(b"%PDF")
    assert cli.main(["ingest", "initech", str(folder), "--local"]) == 1
    assert capsys.readouterr().err == (
        "tenants: documents that could not be indexed: 1; see their reasons above, and repeat the command\n"
    )
    assert cli.main(["ingest", "nobody", str(folder), "--local"]) == 1
    assert "there is no tenant nobody" in capsys.readouterr().err


def test_a_search_is_metered_and_nothing_else_is(stage: Stage, acme: Actor) -> None:
    lines: list[str] = []
    rates = RateCard.load(configuration.find("rates.toml"), "eu-central-1")
    place = stage.place(acme)
    with Meter("support", "local", rates, lines.append).invocation(request_id=None) as usage:
        knowledge = wiring.open_doors(replace(place, access=metered(place.access, usage))).knowledge
        knowledge.add("rota.md", b"Ana is on call.")
        knowledge.search("who is on call?")
        knowledge.search("who is on call?", documents=["rota.md"])
        knowledge.states(["rota.md"])
        knowledge.remove("rota.md")
    [found] = [record for record in map(read, lines) if record.operation is not None]
    assert found.operation == Operation("retrieval", "knowledge_base.Retrieve", 2, 0)
    assert found.cost.amount


# --- What holds tenants apart, taken away ---------------------------------------------------------


def unfiltered(self: KnowledgeBase, documents: Any) -> dict[str, Any]:
    """A filter that lets everything through."""
    return {"notEquals": {"key": "tenant_id", "value": "nobody"}}


def unchecked(self: KnowledgeBase, result: Any) -> Passage:
    """A check that checks nothing."""
    return Passage("", result["content"]["text"], 0.0)


@pytest.fixture
def mislabelled(stage: Stage, tenants: list[Actor]) -> Iterator[str]:
    """A passage in acme's own library that the filter lets through, of a document that is not acme's."""
    acme, _, globex = tenants
    where, document_id = library(stage, acme), "tenants/globex/mislabelled.md"
    agent = stage.session.client("bedrock-agent")
    place = {"knowledgeBaseId": where.knowledge_base_id, "dataSourceId": where.data_source_id}
    own = {"key": "tenant_id", "value": {"type": "STRING", "stringValue": "acme"}}
    agent.ingest_knowledge_base_documents(
        **place,
        documents=[
            {
                "content": {
                    "dataSourceType": "CUSTOM",
                    "custom": {
                        "customDocumentIdentifier": {"id": document_id},
                        "sourceType": "IN_LINE",
                        "inlineContent": {"type": "TEXT", "textContent": {"data": f"Jabberwock {globex.canary}"}},
                    },
                },
                "metadata": {"type": "IN_LINE_ATTRIBUTE", "inlineAttributes": [own]},
            }
        ],
    )
    yield "jabberwock"
    agent.delete_knowledge_base_documents(
        **place, documentIdentifiers=[{"dataSourceType": "CUSTOM", "custom": {"id": document_id}}]
    )


def test_a_foreign_passage_is_an_error_that_is_seen(
    stage: Stage, tenants: list[Actor], mislabelled: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.CRITICAL), pytest.raises(Refused) as caught:
        stage.doors(tenants[0]).knowledge.search(mislabelled)
    assert caught.value.reason.code == "internal"
    seen = [record.getMessage() for record in caplog.records]
    assert [line for line in seen if line.startswith("foreign_passage tenant=acme ")]
    # Where tenants share one, an alarm rings at that word.
    if load_placement().column(tenants[0].tenant.tier, "knowledge_base") == "shared":
        assert parse(PLATFORM.read_text("utf-8"))["Resources"]["ForeignPassages"]["Properties"]["FilterPattern"] == (
            "foreign_passage"
        )
    assert not [line for line in seen if tenants[2].canary in line]
    # The agent fails to look it up, and doesn't answer from it.
    answer = stage.ask(tenants[0], f"search our documents: {mislabelled}")
    assert tenants[2].canary not in answer.text


def test_without_the_check_a_foreign_passage_would_come_back(
    stage: Stage, tenants: list[Actor], mislabelled: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(KnowledgeBase, "_own", unchecked)
    assert any(tenants[2].canary in p.text for p in stage.doors(tenants[0]).knowledge.search(mislabelled))


def test_without_the_filter_the_check_or_the_own_knowledge_base_still_holds(
    cloud: LocalCloud, stage: Stage, tenants: list[Actor], monkeypatch: pytest.MonkeyPatch
) -> None:
    acme, acme2, _ = tenants  # of one tier, so that they share a knowledge base, or neither does
    plant(stage, tenants)
    monkeypatch.setattr(KnowledgeBase, "_filter", unfiltered)
    if library(stage, acme) != library(stage, acme2):
        assert not any(acme2.canary in p.text for p in stage.doors(acme).knowledge.search("leave", limit=50))
        return
    with pytest.raises(Refused):
        stage.doors(acme).knowledge.search("leave", limit=50)
    # Nothing came back, and yet it was let through: the attacks see it.
    assert judged(cloud, Arena(stage, acme, acme2, stage.access(acme)), "tenant_in_event") is Verdict.LEAKED


def judged(cloud: LocalCloud, arena: Arena, name: str) -> Verdict:
    """The verdict on one attack on knowledge."""
    [found] = [each for each in all_attacks() if each.id == f"knowledge_base.{name}"]
    position, registry = cloud.decisions.position(), arena.stage.outputs["RegistryTable"]
    try:
        came_back = text_of(found.run(arena))
    except Refused as refused:
        came_back = str(refused)
    made, canaries = cloud.decisions.since(position), [arena.victim.canary]
    assert arena.victim.canary not in came_back
    return judge(
        found.kind, arena.attacker.name, made, came_back, canaries, registry, arena.stage.owners(), found.area
    ).verdict

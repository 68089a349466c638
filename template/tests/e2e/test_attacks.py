"""Every attack, judged from the decisions that the local cloud recorded, and the live check that asks AWS the same."""

from dataclasses import replace

import pytest

from local import live_check
from local.attacks.attack import Attack, all_attacks, modules
from local.attacks.judgement import EVERYBODY, Verdict, judge, owners
from local.authorization import Decision, DecisionLog
from local.cloud import LocalCloud
from local.live_check import check, main
from local.proof import plant, run_attacks
from local.stage import Actor, Stage
from saas_agent.control_plane.connection import Connection
from saas_agent.control_plane.states import Status
from saas_agent.tenancy.placement import load_placement

# Fewer attacks than this and something was lost on the way: the smallest variant has 40 and more.
_FEWEST = 40


def test_every_attack_is_stopped(
    stage: Stage, decisions: DecisionLog, acme: Actor, acme2: Actor, globex: Actor
) -> None:
    plant(stage, [acme, acme2, globex])
    outcomes = list(run_attacks(stage, acme, [acme2, globex], decisions))
    assert len(outcomes) >= _FEWEST
    unsafe = [o for o in outcomes if not o.verdict.safe]
    assert [f"{o.attack.id} on {o.victim}: {o.verdict.value}: {o.judgement.why}" for o in unsafe] == []
    # Talking the model into it isn't refused, so what tells it apart is that own data was touched and no other.
    assert {o.verdict for o in outcomes if o.attack.kind == "access"} == {Verdict.DENIED}


def test_the_premium_tenant_can_no_more_than_the_basic_one(
    stage: Stage, decisions: DecisionLog, acme: Actor, acme2: Actor, globex: Actor
) -> None:
    plant(stage, [acme, acme2])
    outcomes = list(run_attacks(stage, globex, [acme, acme2], decisions))
    unsafe = [o for o in outcomes if not o.verdict.safe]
    assert [f"{o.attack.id} on {o.victim}: {o.verdict.value}: {o.judgement.why}" for o in unsafe] == []


def test_there_are_attacks_on_every_component(stage: Stage) -> None:
    areas = {attack.area for attack in all_attacks()}
    placement = load_placement()
    expected = {"request", "identity", "sts", "registry"} | (set(placement.components) - {"runtime"})
    if "CredentialsFunction" in stage.outputs:
        expected.add("vending")
    if any(placement.has_own(tier) for tier in placement.tiers):
        expected.add("dedicated")
    assert areas == expected == {module.__name__.rpartition(".")[2] for module in modules()}


@pytest.mark.parametrize("attack", all_attacks(), ids=lambda attack: attack.id)
def test_an_attack_has_a_title_of_its_own(attack: Attack) -> None:
    same = [other for other in all_attacks() if (other.area, other.title) == (attack.area, attack.title)]
    assert same == [attack]


def _decision(action: str, resource: str, allowed: bool, **context: str | list[str]) -> Decision:
    named = {key.replace("__", ":").replace("___", "-"): value for key, value in context.items()}
    return Decision(1, "arn", "acme", action, resource, named, allowed, "identity", "because")


def _nobodys(_: str) -> str | None:
    return None


TABLE = "arn:aws:dynamodb:us-east-1:123456789012:table/t"


@pytest.mark.parametrize(
    ("decision", "verdict"),
    [
        (_decision("dynamodb:GetItem", TABLE, True, dynamodb__LeadingKeys=["TENANT#globex"]), Verdict.LEAKED),
        (_decision("dynamodb:GetItem", TABLE, True, dynamodb__LeadingKeys=["TENANT#acme2"]), Verdict.LEAKED),
        (
            _decision("dynamodb:BatchGetItem", TABLE, True, dynamodb__LeadingKeys=["TENANT#acme", "TENANT#globex"]),
            Verdict.LEAKED,
        ),
        (_decision("dynamodb:Scan", TABLE, True), Verdict.LEAKED),
        (_decision("s3:GetObject", "arn:aws:s3:::b/tenants/globex/x", True), Verdict.LEAKED),
        (_decision("s3:ListBucket", "arn:aws:s3:::b", True), Verdict.LEAKED),
        (_decision("s3:ListBucket", "arn:aws:s3:::b", True, s3__prefix="tenants/acme"), Verdict.LEAKED),
        (_decision("dynamodb:GetItem", TABLE, True, dynamodb__LeadingKeys=["TENANT#acme"]), Verdict.UNPROVEN),
        (_decision("dynamodb:GetItem", TABLE, False, dynamodb__LeadingKeys=["TENANT#globex"]), Verdict.DENIED),
    ],
)
def test_a_leak_is_seen_in_the_decisions(decision: Decision, verdict: Verdict) -> None:
    assert judge("access", "acme", [decision], "", [], "registry", _nobodys).verdict is verdict


def test_a_leak_is_seen_in_the_answer_even_where_every_decision_was_a_denial() -> None:
    denied = _decision("dynamodb:GetItem", TABLE, False, dynamodb__LeadingKeys=["TENANT#globex"])
    assert (
        judge("access", "acme", [denied], "... canary-1 ...", ["canary-1"], "registry", _nobodys).verdict
        is Verdict.LEAKED
    )


def test_an_attack_on_which_nothing_was_decided_is_no_success() -> None:
    assert not judge("access", "acme", [], "", [], "registry", _nobodys).verdict.safe
    assert not judge("persuasion", "acme", [], "", [], "registry", _nobodys).verdict.safe


def test_only_the_platform_itself_may_read_the_registry_for_another() -> None:
    entry = replace(_decision("dynamodb:GetItem", TABLE, True, dynamodb__LeadingKeys=["TENANT#globex"]), tenant=None)
    denied = _decision("dynamodb:GetItem", TABLE, False)
    assert judge("access", "acme", [entry, denied], "", [], "t", _nobodys).verdict is Verdict.DENIED
    assert judge("access", "acme", [entry, denied], "", [], "another", _nobodys).verdict is Verdict.LEAKED
    assert judge("access", "acme", [replace(entry, tenant="acme")], "", [], "t", _nobodys).verdict is Verdict.LEAKED


def test_an_unknown_call_on_memory_counts_as_one_on_everybodys() -> None:
    memory = "arn:aws:bedrock-agentcore:us-east-1:123456789012:memory/m"
    assert owners(_decision("bedrock-agentcore:ListActors", memory, True)) == {EVERYBODY}


def test_the_live_check_passes_and_can_be_repeated(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        assert check(stage) == 0, capsys.readouterr().out
        printed = capsys.readouterr().out
        assert ", 0 leaked" in printed
        assert "Is the access token taken in exchange for credentials?" in printed
        assert stage.tenants.show("live-check").status is Status.SUSPENDED


def test_the_command_reaches_the_local_cloud_and_nothing_else(
    cloud: LocalCloud, stage: Stage, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    service = stage.outputs["Service"]
    running = Connection(cloud.operator_session(), service, "local", cloud.endpoint)
    monkeypatch.setattr(live_check, "connect_local", lambda _: running)
    # As in a shell of one's own: nothing points to the local cloud yet.
    monkeypatch.setenv("AWS_ENDPOINT_URL", "")
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    monkeypatch.setattr(live_check, "check", lambda found: len(list(found.tenants.all())) and 0)
    assert main(["--local"]) == 0, capsys.readouterr().err

"""The tools behind the gateway on a stage where STS is shown the ID token (`StsToken=id`)."""

from collections.abc import Iterator

import pytest

from local.attacks.judgement import Verdict
from local.authorization import DecisionLog
from local.cloud import LocalCloud
from local.proof import Outcome, plant, run_attacks
from local.stage import Actor, Stage
from saas_agent.tenancy.token import TokenVerifier, VerifiedToken

ID_TOKEN = "gateway_id_token"


@pytest.fixture(scope="module")
def showing(cloud: LocalCloud, stage: Stage) -> Iterator[Stage]:
    """The stage, deployed so that STS is shown the ID token."""
    cloud.deploy({"StsToken": "id"})
    yield stage
    cloud.deploy({"StsToken": "access"})


@pytest.fixture
def two(showing: Stage, acme: Actor, acme2: Actor) -> tuple[Actor, Actor]:
    """Two tenants of that stage, signed in anew: nothing of theirs was exchanged before."""
    for actor in (acme, acme2):
        assert showing.home(actor.name).takes_id_token
    first, second = (showing.actor(actor.name, actor.email, actor.password) for actor in (acme, acme2))
    plant(showing, [first, second])
    return first, second


def attack(stage: Stage, decisions: DecisionLog, two: tuple[Actor, Actor], *areas: str) -> dict[str, Outcome]:
    """What came of the attacks of these areas, by the first tenant on the second."""
    attacker, victim = two
    outcomes = run_attacks(stage, attacker, [victim], decisions, frozenset(areas))
    return {outcome.attack.run.__name__: outcome for outcome in outcomes}


def test_everybody_has_the_tools_there(showing: Stage, two: tuple[Actor, Actor]) -> None:
    for actor in two:
        answer = showing.ask(actor, "show my account")
        assert answer.status == 200
        assert f'"company": "{actor.name}"' in answer.body["answer"]


def test_no_attack_on_the_gateway_succeeds_there(
    showing: Stage, decisions: DecisionLog, two: tuple[Actor, Actor]
) -> None:
    # With the attacker's credentials from an exchange at hand, too: what is cached lets no other token by.
    assert showing.ask(two[0], "show my account").status == 200
    outcomes = attack(showing, decisions, two, "gateway", ID_TOKEN)
    assert {name: outcome.judgement for name, outcome in outcomes.items() if not outcome.verdict.safe} == {}
    on_tokens = {outcome.verdict for outcome in outcomes.values() if outcome.attack.area == ID_TOKEN}
    assert len(outcomes) > 40 and on_tokens == {Verdict.DENIED}


def test_were_the_two_tokens_not_compared_another_tenants_would_do(
    showing: Stage, decisions: DecisionLog, two: tuple[Actor, Actor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TokenVerifier, "id_token", lambda _, raw, access: VerifiedToken(access.tenant, raw))
    assert attack(showing, decisions, two, ID_TOKEN)["foreign_id_token"].verdict is Verdict.LEAKED

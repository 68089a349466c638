"""Bad input: one clear answer each, and nothing half-made."""

from typing import Any

import pytest

from local.managed_login import SignInRefused
from local.proof import tiers_to_prove
from local.stage import Actor, Stage
from saas_agent.control_plane.errors import ControlPlaneError
from saas_agent.tenancy import standing
from saas_agent.tenancy.tiers import load_tiers


@pytest.mark.parametrize(
    "payload",
    [
        {},
        {"prompt": ""},
        {"prompt": "  "},
        {"prompt": 7},
        {"prompt": None},
        {"prompt": [{"text": "hi"}]},
        {"prompt": {"text": "hi"}},
        {"prompt": "half a pair: \ud800"},
        [],
        "hi",
        None,
        7,
    ],
)
def test_a_payload_without_a_text_prompt_is_refused(stage: Stage, acme: Actor, payload: Any) -> None:
    answer = stage.invoke(acme, payload, acme.tokens.access, acme.new_session_id())
    assert (answer.status, answer.body["error"]["code"]) == (400, "invalid_request")


def test_what_is_no_json_is_refused(stage: Stage, acme: Actor) -> None:
    answer = stage.invoke(acme, b"{'prompt'", acme.tokens.access, acme.new_session_id())
    assert answer.status == 400
    assert "JSON" in answer.text


def test_a_prompt_beyond_the_tiers_limit_is_refused(stage: Stage, acme: Actor, globex: Actor) -> None:
    for actor in (acme, globex):
        longest = load_tiers()[actor.tenant.tier].prompt_characters
        assert stage.ask(actor, "hello".ljust(longest)).status == 200
        assert stage.ask(actor, "hello".ljust(longest + 1)).body["error"]["code"] == "limit_reached"


@pytest.mark.usefixtures("one_tool")
def test_a_run_that_never_ends_is_cut_at_the_tiers_limit(stage: Stage, acme: Actor) -> None:
    answer = stage.ask(acme, "loop forever")
    assert (answer.status, answer.body["error"]["code"]) == (429, "limit_reached")


def test_a_tenant_onboarded_twice_stays_as_it_is(stage: Stage, acme: Actor) -> None:
    before = stage.tenants.show("acme")
    tier = acme.tenant.tier
    again = stage.tenants.onboard("acme", tier=tier, admin=acme.email, invite=False)
    assert not again.changed
    assert stage.tenants.show("acme") == before
    others = [other for other in load_tiers() if other != tier]
    for other in others:
        with pytest.raises(ControlPlaneError, match=f"is there already, with tier '{tier}' and not '{other}'"):
            stage.tenants.onboard("acme", tier=other, admin=acme.email, invite=False)
    assert stage.tenants.show("acme") == before


def test_a_suspended_tenant_gets_no_token_and_in_half_a_minute_no_answer(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    actor = stage.onboard("suspended", tiers_to_prove()[0])
    # The agent has just looked, and remembers.
    assert stage.ask(actor, "hello").status == 200
    stage.tenants.suspend("suspended")
    with pytest.raises(SignInRefused, match="PreTokenGeneration"):
        stage.sign_in("suspended", actor.email, actor.password)
    # The token that was issued before is still good by its signature; the registry has the last word, and the time that
    # the agent remembers it for is all that is left.
    assert standing.FRESH_SECONDS == 30
    monkeypatch.setattr(standing, "FRESH_SECONDS", 0.0)
    answer = stage.ask(actor, "hello")
    assert (answer.status, answer.body["error"]["code"]) == (403, "tenant_not_active")
    stage.tenants.resume("suspended")
    assert stage.sign_in("suspended", actor.email, actor.password).access


def test_an_unknown_tenant_is_told_so_in_a_line(stage: Stage) -> None:
    with pytest.raises(ControlPlaneError) as caught:
        stage.tenants.suspend("nobody")
    assert "\n" not in str(caught.value)
    assert "there is no tenant nobody" in str(caught.value)

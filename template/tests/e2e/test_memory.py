"""The memory's door, with a tenant's own credentials on the local cloud."""

import pytest

from local.stage import Actor, Stage
from saas_agent.errors import Refused
from saas_agent.memory import TenantMemory
from saas_agent.tenancy.access import TenantAccess
from saas_agent.tenancy.tenant import TenantContext


def test_what_is_remembered_is_recalled_by_the_same_user_alone(stage: Stage, acme: Actor, acme2: Actor) -> None:
    stage.doors(acme).memory.remember("I drink maté")
    assert any("maté" in text for text in stage.doors(acme).memory.recall("what do I drink?"))
    assert not any("maté" in text for text in stage.doors(acme2).memory.recall("what do I drink?"))


def test_a_recall_takes_a_query_of_any_length(stage: Stage, acme: Actor) -> None:
    stage.doors(acme).memory.recall("drink " * 5000)


def test_a_denied_recall_is_an_error_and_not_an_empty_list(stage: Stage, acme: Actor) -> None:
    torn = TenantAccess(TenantContext("globex", "basic", "x", acme.tenant.expires_at), stage.access(acme).session)
    memory = TenantMemory(torn, stage.settings.memory_id)
    for call in (
        lambda: memory.recall("x"),
        lambda: memory.remember("x"),
        lambda: memory.session_manager(acme.new_session_id()),
    ):
        with pytest.raises(Refused) as caught:
            call()
        assert caught.value.reason.code == "denied"


def test_a_new_session_asks_for_no_actor_but_its_own(stage: Stage, acme: Actor) -> None:
    # The SDK's own manager asks for the actors session_* and agent_*, and fails on the tenant's policy.
    assert stage.ask(acme, "hello").status == 200

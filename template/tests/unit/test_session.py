import pytest

from saas_agent.errors import Refused
from saas_agent.tenancy.session import new_session_id, require_own
from saas_agent.tenancy.tenant import TenantContext

ANN = TenantContext("acme", "basic", "ann", 0)


def test_an_own_session_id_is_taken() -> None:
    session_id = new_session_id("acme", "ann")
    assert require_own(session_id, ANN) == session_id
    assert 33 <= len(session_id) <= 100


@pytest.mark.parametrize(
    "session_id",
    [
        None,
        "",
        "s" * 40,
        new_session_id("acme", "bob"),
        new_session_id("globex", "ann"),
        new_session_id("acme", "ann")[:-1],
        new_session_id("acme", "ann") + "\n",
        new_session_id("acme", "ann").upper(),
        "../" + new_session_id("acme", "ann"),
    ],
    ids=["none", "empty", "no hash", "another user", "another tenant", "short", "line end", "upper case", "path"],
)
def test_any_other_session_id_is_refused(session_id: str | None) -> None:
    with pytest.raises(Refused) as caught:
        require_own(session_id, ANN)
    assert caught.value.reason.code == "session_not_yours"


def test_tenant_and_subject_do_not_run_into_each_other() -> None:
    # "ab" + "c" and "a" + "bc": without the separator both would have one hash.
    assert new_session_id("abc", "d-e")[:24] != new_session_id("abc-d", "e")[:24]

import pytest

from saas_agent.tenancy.tenant import TenantContext, valid_tenant_id


@pytest.mark.parametrize("good", ["abc", "acme", "acme2", "a-b", "0ab", "a" * 32])
def test_tenant_ids_that_are_taken(good: str) -> None:
    assert valid_tenant_id(good)


@pytest.mark.parametrize(
    "bad",
    [
        "",
        "ab",
        "-ab",
        "ab-",
        "Acme",
        "a_b",
        "a.b",
        "a:b",
        "a/b",
        "a#b",
        "a*b",
        "a?b",
        "a b",
        "abc\n",
        "ａcme",
        "acmé",
        "a" * 33,
        None,
        7,
        ["acme"],
    ],
)
def test_tenant_ids_that_are_not(bad: object) -> None:
    assert not valid_tenant_id(bad)


def test_a_context_can_not_be_made_of_a_malformed_id_nor_changed() -> None:
    with pytest.raises(ValueError, match="tenant id is malformed"):
        TenantContext("a*", "basic", "s", 0)
    with pytest.raises(ValueError, match="subject is malformed"):
        TenantContext("acme", "basic", "s:t", 0)
    context = TenantContext("acme", "basic", "s", 0)
    with pytest.raises(AttributeError):
        context.tenant_id = "globex"  # type: ignore[misc]


def test_the_session_name_does_not_show_the_subject() -> None:
    name = TenantContext("acme", "basic", "subject-1", 0).session_name
    assert name.startswith("acme.") and "subject" not in name and len(name) <= 64

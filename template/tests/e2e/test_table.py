"""The table's door, with a tenant's own credentials on the local cloud."""

from decimal import Decimal

import pytest

from local.stage import Actor, Stage
from saas_agent.errors import Refused
from saas_agent.storage.table import Conflict, Delete, Exists, Put, Table
from saas_agent.tenancy.access import TenantAccess
from saas_agent.tenancy.tenant import TenantContext


@pytest.fixture
def table(stage: Stage, acme: Actor) -> Table:
    """acme's own table."""
    return stage.doors(acme).table


def test_what_was_put_is_read_back_without_keys(table: Table) -> None:
    item = {"text": "hello", "count": 3, "price": Decimal("1.5"), "tags": ["a"], "none": None}
    table.put("ITEM#1", item)
    assert table.get("ITEM#1") == item
    assert table.get("ITEM#0") is None
    table.delete("ITEM#1")
    table.delete("ITEM#1")
    assert table.get("ITEM#1") is None


def test_a_query_is_bounded_by_prefix_and_limit_and_goes_over_pages(table: Table) -> None:
    table.batch_write({f"PAGE#{number:03}": {"n": number, "fill": "x" * 9000} for number in range(130)})
    found = table.query("PAGE#")
    assert [key for key, _ in found] == [f"PAGE#{number:03}" for number in range(130)]
    assert [item["n"] for _, item in table.query("PAGE#", limit=3, newest_first=True)] == [129, 128, 127]
    table.batch_write(deletes=[key for key, _ in found])
    assert table.query("PAGE#") == []


def test_absent_means_absent(table: Table) -> None:
    table.put("ONCE", {"n": 1})
    with pytest.raises(Conflict):
        table.put("ONCE", {"n": 2}, absent=True)
    assert table.get("ONCE") == {"n": 1}


def test_a_transaction_is_all_or_nothing(table: Table) -> None:
    table.write([Put("T#1", {"n": 1}), Put("T#2", {"n": 2})])
    with pytest.raises(Conflict):
        table.write([Put("T#3", {"n": 3}), Exists("T#missing")])
    with pytest.raises(Conflict):
        table.write([Delete("T#1"), Put("T#2", {"n": 9}, absent=True)])
    assert [key for key, _ in table.query("T#")] == ["T#1", "T#2"]
    table.write([Exists("T#1"), Delete("T#2")])
    assert [key for key, _ in table.query("T#")] == ["T#1"]


@pytest.mark.parametrize("size", [0, 101])
def test_a_transaction_has_a_size(table: Table, size: int) -> None:
    with pytest.raises(ValueError, match="1 to 100"):
        table.write([Put(f"S#{number}", {}) for number in range(size)])


@pytest.mark.parametrize("item", [{"pk": "TENANT#globex"}, {"sk": "x"}])
def test_an_item_can_not_name_its_keys(table: Table, item: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="the door sets them"):
        table.put("X", item)
    with pytest.raises(ValueError, match="the door sets them"):
        table.batch_write({"X": item})
    with pytest.raises(ValueError, match="the door sets them"):
        table.write([Put("X", item)])


def test_two_tenants_with_the_same_sort_key_do_not_meet(stage: Stage, acme: Actor, acme2: Actor) -> None:
    stage.doors(acme).table.put("SAME", {"of": "acme"})
    stage.doors(acme2).table.put("SAME", {"of": "acme2"})
    assert stage.doors(acme).table.get("SAME") == {"of": "acme"}
    assert stage.doors(acme2).table.get("SAME") == {"of": "acme2"}


def test_a_door_of_another_tenant_over_own_credentials_is_refused(stage: Stage, acme: Actor, globex: Actor) -> None:
    # No code makes such a thing; if it did, IAM would have the last word.
    torn = TenantAccess(TenantContext("globex", "basic", "x", acme.tenant.expires_at), stage.access(acme).session)
    table = Table(torn, stage.home(acme.name).resource("dynamodb"))
    for call in (
        lambda: table.get("X"),
        lambda: table.put("X", {}),
        lambda: table.delete("X"),
        lambda: table.query(),
        lambda: table.write([Put("X", {})]),
        lambda: table.batch_write({"X": {}}),
    ):
        with pytest.raises(Refused) as caught:
            call()
        assert caught.value.reason.code == "denied"

"""Operations on tenants: who may begin what, one writer wins, nothing is done twice, nobody gets stuck."""

import dataclasses
import re
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from moto.dynamodb.models import DynamoDBBackend

from saas_agent.control_plane.admin import Admin, Change, Progress, Request
from saas_agent.control_plane.errors import Conflict, ControlPlaneError, NotFound, TokenReused
from saas_agent.control_plane.operations import Operation, State
from saas_agent.control_plane.registry import Registry, TenantRecord, require_in_place
from saas_agent.control_plane.states import COURSES, SERVED, Kind, Status, may_begin
from saas_agent.tenancy.placement import LAYOUTS, Placement

from .registry_tables import NOW, OPERATIONS, REGISTRY, begin_onboarding, onboard, operation, operations, read, tables

DRAWING = Path(__file__).resolve().parents[2] / "docs" / "control-plane.md"
ANN = "ann@acme.example"


@pytest.fixture(scope="module")
def client() -> Any:
    """Made once: making a client takes longer than most of these tests."""
    return boto3.Session("test", "test", region_name="eu-central-1").client("dynamodb")


@pytest.fixture
def dynamodb(client: Any) -> Iterator[Any]:
    with tables(client):
        yield client


# --- The table of states ----------------------------------------------------------------------------------------------


def moves() -> set[tuple[str, str, str]]:
    """(from, to, why) of everything that may happen to a tenant."""
    found: set[tuple[str, str, str]] = set()
    for kind, course in COURSES.items():
        if course.during is None:
            continue
        found |= {(str(begin or "[*]"), str(course.during), kind) for begin in course.begins}
        found |= {(str(course.during), str(course.done), f"{kind} done")}
        found |= {(str(course.during), str(course.failed), f"{kind} failed")}
    return {(old, new, why) for old, new, why in found if old != new}


def test_the_drawing_is_the_table() -> None:
    text = DRAWING.read_text(encoding="utf-8")
    [drawn] = re.findall(r"```mermaid\nstateDiagram-v2\n(.*?)```", text, re.DOTALL)
    lines = re.findall(r"^ +(\S+) --> (\S+) *: (.*)$", drawn, re.MULTILINE)
    shown = {(old, new, why) for old, new, whys in lines for why in whys.split(", ")}
    # A tenant that never was active leaves no tombstone.
    assert shown == moves() | {("OFFBOARDING", "[*]", "offboard done")}


def test_every_state_is_reached_and_left() -> None:
    assert {new for _, new, _ in moves()} == set(Status)
    assert {old for old, _, _ in moves()} - {"[*]"} == set(Status) - {Status.DELETED}


def test_nothing_begins_on_a_tenant_that_is_moving_but_what_stops_it() -> None:
    moving = {course.during for course in COURSES.values()} - {None, Status.SUSPENDED}
    assert {(kind, status) for kind in Kind for status in moving if may_begin(kind, status, None)} == {
        (Kind.SUSPEND, Status.UPDATING),
        (Kind.EXPORT, Status.UPDATING),
    }


def test_only_what_is_complete_is_served() -> None:
    assert {Status.ACTIVE, Status.UPDATING} == SERVED
    assert COURSES[Kind.SET_TIER].begins <= SERVED


@pytest.mark.parametrize("failed", Kind)
def test_a_failed_tenant_can_be_offboarded_and_what_failed_can_be_repeated(failed: Kind) -> None:
    begin = {kind for kind in Kind if may_begin(kind, Status.FAILED, failed)}
    assert begin == {Kind.OFFBOARD} | ({failed} & {Kind.ONBOARD})


# --- Writes -----------------------------------------------------------------------------------------------------------


def test_beginning_and_finishing_move_the_tenant_and_the_operation(dynamodb: Any) -> None:
    begun = begin_onboarding(dynamodb)
    record = read(dynamodb)
    assert (record.status, record.operation, record.version) == (Status.PROVISIONING, begun.operation_id, 1)
    assert record.created_at == "2026-11-24T12:00:00+00:00"
    assert record.activated_at is None
    outcome = operations(dynamodb).finish(begun.operation_id, {"TableName": "own"})
    assert outcome.record == read(dynamodb)
    assert (outcome.operation.state, read(dynamodb).status) == (State.SUCCEEDED, Status.ACTIVE)
    assert (read(dynamodb).operation, read(dynamodb).version) == (None, 2)
    assert (read(dynamodb).activated_at, read(dynamodb).resources) == (record.created_at, {"TableName": "own"})


def test_the_item_has_the_keys_and_attributes_that_the_agent_reads(dynamodb: Any) -> None:
    onboard(dynamodb)
    item = dynamodb.get_item(TableName=REGISTRY, Key={"pk": {"S": "TENANT#acme"}, "sk": {"S": "TENANT"}})["Item"]
    assert (item["status"], item["tier"]) == ({"S": "ACTIVE"}, {"S": "basic"})


def test_finishing_again_changes_nothing(dynamodb: Any) -> None:
    begun = begin_onboarding(dynamodb)
    first = operations(dynamodb).finish(begun.operation_id)
    assert operations(dynamodb).finish(begun.operation_id) == first
    assert operations(dynamodb).fail(begun.operation_id, "Step", "late") == first


def test_failing_leaves_the_step_and_the_reason(dynamodb: Any) -> None:
    begun = begin_onboarding(dynamodb)
    outcome = operations(dynamodb).fail(begun.operation_id, "CreateAdministrator", "AdminCreateUser: Denied")
    record = read(dynamodb)
    assert record.status is Status.FAILED
    assert record.failure == outcome.operation.failure
    assert record.failure is not None
    assert dataclasses.astuple(record.failure) == (Kind.ONBOARD, "CreateAdministrator", "AdminCreateUser: Denied")
    assert operations(dynamodb).finish(begun.operation_id).operation.state is State.FAILED


def test_another_attempt_clears_the_failure_and_can_end_well(dynamodb: Any) -> None:
    begun = begin_onboarding(dynamodb)
    failed = operations(dynamodb).fail(begun.operation_id, "Step", "why").operation
    again = operations(dynamodb).begin_again(failed, read(dynamodb))
    assert (again.attempt, read(dynamodb).status, read(dynamodb).failure) == (2, Status.PROVISIONING, None)
    assert operations(dynamodb).get(begun.operation_id) == again
    with pytest.raises(Conflict):
        operations(dynamodb).begin_again(failed, read(dynamodb))
    assert operations(dynamodb).finish(begun.operation_id).operation.state is State.SUCCEEDED


def test_an_operation_that_lost_its_tenant_moves_it_no_more(dynamodb: Any) -> None:
    onboard(dynamodb)
    update = operations(dynamodb).begin(operation(Kind.SET_TIER, tier="premium"), read(dynamodb))
    operations(dynamodb).begin(operation(Kind.SUSPEND), read(dynamodb))
    with pytest.raises(Conflict):
        operations(dynamodb).finish(update.operation_id)
    assert operations(dynamodb).fail(update.operation_id, "Finish", "overtaken").operation.state is State.FAILED
    record = read(dynamodb)
    assert (record.status, record.tier, record.failure) == (Status.SUSPENDED, "basic", None)


def test_a_change_of_tier_is_in_force_when_it_is_done_and_not_before(dynamodb: Any) -> None:
    onboard(dynamodb)
    begun = operations(dynamodb).begin(operation(Kind.SET_TIER, tier="premium"), read(dynamodb))
    assert (read(dynamodb).status, read(dynamodb).tier) == (Status.UPDATING, "basic")
    operations(dynamodb).finish(begun.operation_id)
    assert (read(dynamodb).status, read(dynamodb).tier) == (Status.ACTIVE, "premium")


def test_a_change_of_tier_that_fails_leaves_the_tenant_served_as_before(dynamodb: Any) -> None:
    onboard(dynamodb)
    begun = operations(dynamodb).begin(operation(Kind.SET_TIER, tier="premium"), read(dynamodb))
    operations(dynamodb).fail(begun.operation_id, "Finish", "why")
    assert (read(dynamodb).status, read(dynamodb).tier) == (Status.ACTIVE, "basic")


def test_a_tombstone_holds_nothing_personal(dynamodb: Any) -> None:
    onboard(dynamodb, name="Acme Inc.")
    begun = operations(dynamodb).begin(operation(Kind.OFFBOARD, export=False), read(dynamodb))
    operations(dynamodb).finish(begun.operation_id)
    items = [
        *dynamodb.scan(TableName=REGISTRY)["Items"],
        *dynamodb.scan(TableName=OPERATIONS)["Items"],
    ]
    assert read(dynamodb).status is Status.DELETED
    assert "Acme Inc." not in str(items)
    assert ANN not in str(items)


def test_of_a_tenant_that_never_was_active_nothing_is_left(dynamodb: Any) -> None:
    begun = begin_onboarding(dynamodb)
    operations(dynamodb).fail(begun.operation_id, "Step", "why")
    offboarding = operations(dynamodb).begin(operation(Kind.OFFBOARD, export=False), read(dynamodb))
    assert operations(dynamodb).finish(offboarding.operation_id).record is None
    assert dynamodb.scan(TableName=REGISTRY)["Items"] == []


def test_an_export_moves_nothing(dynamodb: Any) -> None:
    before = onboard(dynamodb)
    begun = operations(dynamodb).begin(operation(Kind.EXPORT), before)
    operations(dynamodb).finish(begun.operation_id)
    assert read(dynamodb) == before


def test_operations_are_forgotten_some_day(dynamodb: Any) -> None:
    begin_onboarding(dynamodb)
    [item] = dynamodb.scan(TableName=OPERATIONS)["Items"]
    assert int(item["expires_at"]["N"]) == int((NOW + timedelta(days=90)).timestamp())


@pytest.fixture
def atomic_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    """DynamoDB checks a condition and writes in one step; moto does so in two, between which threads may change."""
    lock, write = threading.Lock(), DynamoDBBackend.transact_write_items

    def locked(*args: Any, **named: Any) -> Any:
        with lock:
            return write(*args, **named)

    monkeypatch.setattr(DynamoDBBackend, "transact_write_items", locked)


@pytest.mark.usefixtures("atomic_writes")
@pytest.mark.parametrize("there", [False, True], ids=["a new tenant", "a tenant that is there"])
def test_of_many_concurrent_writers_exactly_one_wins(dynamodb: Any, there: bool) -> None:
    before = onboard(dynamodb) if there else None
    writers = 8
    barrier = threading.Barrier(writers)
    results: list[str] = []

    def write(number: int) -> None:
        barrier.wait()
        kind = Kind.SUSPEND if there else Kind.ONBOARD
        try:
            operations(dynamodb).begin(operation(kind, token=f"token-{number}"), before, {"tier": {"S": "basic"}})
            results.append("won")
        except Conflict:
            results.append("lost")

    threads = [threading.Thread(target=write, args=(number,)) for number in range(writers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == ["lost"] * (writers - 1) + ["won"]
    assert dynamodb.scan(TableName=OPERATIONS)["Count"] == 1 + there


# --- The registry -----------------------------------------------------------------------------------------------------


def test_a_tenant_is_read_as_it_stands_now(dynamodb: Any) -> None:
    asked: list[dict[str, Any]] = []
    name = "provide-client-params.dynamodb.GetItem"
    dynamodb.meta.events.register(name, lambda params, **_: asked.append(params), unique_id="seen")
    try:
        assert Registry(dynamodb, REGISTRY).get("acme") is None
        assert operations(dynamodb).get("op-1") is None
    finally:
        dynamodb.meta.events.unregister(name, unique_id="seen")
    assert [params["ConsistentRead"] for params in asked] == [True, True]


@pytest.mark.parametrize("tenant_id", ["", "A", "acme#x", "acme/", "../x", "acme\n", "-acme", "ä" * 5])
def test_what_is_no_tenant_id_never_reaches_the_table(dynamodb: Any, tenant_id: str) -> None:
    with pytest.raises(ControlPlaneError, match="is no tenant id"):
        Registry(dynamodb, REGISTRY).get(tenant_id)
    with pytest.raises(ControlPlaneError, match="is no tenant id"):
        begin_onboarding(dynamodb, tenant_id)


def test_tenants_are_listed_over_all_pages(dynamodb: Any) -> None:
    for number in range(6):  # moto ends a page at 1 MB: names make it several
        onboard(dynamodb, f"t{number:03}", name="x" * 300_000)
    dynamodb.put_item(TableName=REGISTRY, Item={"pk": {"S": "TENANT#t000"}, "sk": {"S": "OTHER"}})
    assert "LastEvaluatedKey" in dynamodb.scan(TableName=REGISTRY)
    registry = Registry(dynamodb, REGISTRY)
    assert [record.tenant_id for record in registry.records()] == [f"t{number:03}" for number in range(6)]


def test_a_page_may_end_with_what_is_no_tenant(dynamodb: Any) -> None:
    for name in ("acme", "globex"):
        onboard(dynamodb, name)
    for key in ("HUB", "TENANT#acme", "TENANT#zeta"):
        dynamodb.put_item(TableName=REGISTRY, Item={"pk": {"S": key}, "sk": {"S": "OTHER"}})
    registry, found, after = Registry(dynamodb, REGISTRY), [], None
    for _ in range(10):
        records, after = registry.page(1, after)
        found += [record.tenant_id for record in records]
        if after is None:
            break
    assert sorted(found) == ["acme", "globex"]


@pytest.mark.parametrize("attribute", ["status", "tier", "version", "created_at"])
def test_a_malformed_item_is_an_error_and_not_a_tenant(dynamodb: Any, attribute: str) -> None:
    onboard(dynamodb)
    dynamodb.update_item(
        TableName=REGISTRY,
        Key={"pk": {"S": "TENANT#acme"}, "sk": {"S": "TENANT"}},
        UpdateExpression="REMOVE #a",
        ExpressionAttributeNames={"#a": attribute},
    )
    with pytest.raises(ControlPlaneError, match="malformed"):
        Registry(dynamodb, REGISTRY).get("acme")


# --- The admin API's rules --------------------------------------------------------------------------------------------

PLACEMENT = Placement(
    "desk",
    "eu-central-1",
    "shared_user_pool",
    {
        "basic": {"runtime": "shared", "memory": "shared"},
        "standard": {"runtime": "shared", "memory": "shared"},
        "premium": {"runtime": "shared", "memory": "dedicated"},
    },
)


class Executions:
    """Step Functions, as far as the admin API sees it: what was started, and how it ended if a test says so."""

    def __init__(self) -> None:
        self.started: list[Operation] = []
        self.ended: dict[str, str] = {}

    def start(self, operation: Operation) -> None:
        self.started.append(operation)

    def progress(self, operation: Operation) -> Progress | None:
        if all(started.operation_id != operation.operation_id for started in self.started):
            return None
        return Progress(("CreateAdministrator",), self.ended.get(operation.operation_id))


class Desk:
    """The admin API's rules over real tables."""

    def __init__(self, dynamodb: Any) -> None:
        self.dynamodb = dynamodb
        self.executions = Executions()
        self.operations = operations(dynamodb)
        self.admin = Admin(
            *(Registry(dynamodb, REGISTRY), self.operations, self.executions),  # type: ignore[arg-type]
            *(("basic", "standard", "premium"), PLACEMENT),
        )

    def onboard(self, tenant_id: str = "acme", token: str = "", **answers: Any) -> Change:
        asked = {"tier": "basic", "admin": ANN, "name": None, "invite": False, **answers}
        return self.admin.onboard(tenant_id, request(token), **asked)

    def active(self, tenant_id: str = "acme", tier: str = "basic") -> TenantRecord:
        change = self.onboard(tenant_id, tier=tier)
        assert change.operation is not None
        record = self.operations.finish(change.operation.operation_id).record
        assert record is not None
        return record


def request(token: str = "") -> Request:
    request_count.append(1)
    return Request(token or f"token-{len(request_count):04}", "arn:aws:iam::1:user/ann")


request_count: list[int] = []


@pytest.fixture
def desk(dynamodb: Any) -> Desk:
    return Desk(dynamodb)


def test_onboarding_begins_an_operation(desk: Desk) -> None:
    change = desk.onboard(admin=" Ann@Acme.example ")
    assert change.operation is not None
    assert change.record == read(desk.dynamodb)
    assert (change.record.status, change.record.admin, change.record.name) == (Status.PROVISIONING, ANN, "acme")
    assert change.record.placement == {"runtime": "shared", "memory": "shared"}
    assert [started.operation_id for started in desk.executions.started] == [change.operation.operation_id]
    assert change.operation.requested_by == "arn:aws:iam::1:user/ann"
    assert ANN not in str(change.operation.parameters)


@pytest.mark.parametrize(
    ("tenant_id", "answers", "says"),
    [
        ("ACME", {}, "is no tenant id"),
        ("acme#x", {}, "is no tenant id"),
        ("acme", {"tier": "gold"}, "there is no tier 'gold'; expected basic, standard, premium"),
        ("acme", {"admin": "ann"}, "is no e-mail address"),
        ("acme", {"admin": "ann@acme.example\nx"}, "is no e-mail address"),
        ("acme", {"admin": f"{'a' * 128}@acme.example"}, "is no e-mail address"),
        ("acme", {"name": "a\nb"}, "the name is malformed"),
        ("acme", {"name": ""}, "the name is malformed"),
        ("acme", {"token": "short"}, "client token is malformed"),
        ("acme", {"token": "with a space in it"}, "client token is malformed"),
    ],
)
def test_bad_answers_are_refused_in_one_line_and_leave_nothing(
    desk: Desk, tenant_id: str, answers: dict[str, str], says: str
) -> None:
    with pytest.raises(ControlPlaneError, match=says) as refused:
        desk.onboard(tenant_id, **answers)
    assert "\n" not in str(refused.value)
    assert (desk.dynamodb.scan(TableName=REGISTRY)["Items"], desk.executions.started) == ([], [])


def test_a_tenant_is_upgraded_where_something_is_its_own(desk: Desk) -> None:
    shares, owns = desk.active("acme"), desk.active("globex", tier="premium")
    assert desk.admin.upgrade("acme", request()) == Change(shares, None)
    change = desk.admin.upgrade("globex", request())
    assert change.operation is not None and change.record is not None
    assert (change.record.status, change.operation.parameters) == (Status.UPDATING, {"tier": owns.tier})
    done = desk.operations.finish(change.operation.operation_id, {"MemoryId": "m-2"}).record
    assert done is not None
    assert (done.status, done.tier, done.resources) == (Status.ACTIVE, "premium", {"MemoryId": "m-2"})


CHANGES: list[tuple[str, Callable[[Desk, str], Change], Callable[[Desk, str], Change]]] = [
    ("onboard", lambda d, t: d.onboard("globex", t), lambda d, t: d.onboard("globex", t, tier="standard")),
    ("tenant", lambda d, t: d.onboard("globex", t), lambda d, t: d.onboard("initech", t)),
    (
        "set-tier",
        lambda d, t: d.admin.set_tier("acme", request(t), tier="standard"),
        lambda d, t: d.admin.set_tier("acme", request(t), tier="basic"),
    ),
    ("kind", lambda d, t: d.admin.suspend("acme", request(t)), lambda d, t: d.admin.export("acme", request(t))),
    (
        "offboard",
        lambda d, t: d.admin.offboard("acme", request(t), export=False),
        lambda d, t: d.admin.offboard("acme", request(t), export=True),
    ),
]


@pytest.mark.parametrize(("ask", "ask_otherwise"), [pair for _, *pair in CHANGES], ids=[name for name, *_ in CHANGES])
def test_a_token_stands_for_one_request(
    desk: Desk, ask: Callable[[Desk, str], Change], ask_otherwise: Callable[[Desk, str], Change]
) -> None:
    desk.active()
    token = "the-same-token"
    first = ask(desk, token)
    before = (desk.dynamodb.scan(TableName=REGISTRY)["Items"], list(desk.executions.started))
    again = ask(desk, token)
    assert again.operation == first.operation
    with pytest.raises(TokenReused):
        ask_otherwise(desk, token)
    assert (desk.dynamodb.scan(TableName=REGISTRY)["Items"], desk.executions.started) == before
    assert first.operation is not None
    ended = desk.operations.finish(first.operation.operation_id)
    assert ask(desk, token).operation == ended.operation


def test_what_is_under_way_is_joined_by_whoever_asks_for_the_same(desk: Desk) -> None:
    first, second = desk.onboard(), desk.onboard()
    assert first.operation == second.operation
    assert len(desk.executions.started) == 1


def test_a_tenant_that_is_there_is_left_as_it_is(desk: Desk) -> None:
    record = desk.active()
    assert desk.onboard() == Change(record, None)
    assert desk.admin.resume("acme", request()) == Change(record, None)
    assert desk.admin.set_tier("acme", request(), tier="basic") == Change(record, None)


@pytest.mark.parametrize("answers", [{"tier": "standard"}, {"admin": "bob@acme.example"}, {"name": "Other"}])
@pytest.mark.parametrize("active", [True, False])
def test_onboarding_again_with_other_answers_is_refused(desk: Desk, answers: dict[str, str], active: bool) -> None:
    before = desk.active() if active else desk.onboard().record
    with pytest.raises(Conflict, match="is there already"):
        desk.onboard(**answers)
    assert read(desk.dynamodb) == before


def test_a_deleted_tenants_id_is_not_given_away_again(desk: Desk) -> None:
    desk.active()
    change = desk.admin.offboard("acme", request(), export=False)
    assert change.operation is not None
    desk.operations.finish(change.operation.operation_id)
    with pytest.raises(Conflict, match="was deleted"):
        desk.onboard()
    assert desk.admin.offboard("acme", request(), export=False).operation is None


def test_a_tier_of_another_placement_is_refused_in_a_line(desk: Desk) -> None:
    record = desk.active()
    with pytest.raises(Conflict, match="memory would move from shared to dedicated") as refused:
        desk.admin.set_tier("acme", request(), tier="premium")
    assert "\n" not in str(refused.value)
    assert read(desk.dynamodb) == record


@pytest.mark.parametrize(
    ("provisioned", "says"),
    [
        ({"memory": "shared"}, "memory would move from shared to dedicated"),
        ({"s3": "dedicated"}, "s3 would move from dedicated to nowhere"),
        # No stack deletes what tenants share, and what is new is made.
        ({"s3": "shared"}, ""),
        ({"memory": "dedicated"}, ""),
    ],
)
def test_an_upgrade_that_would_part_a_tenant_from_its_data_is_refused(
    desk: Desk, provisioned: dict[str, str], says: str
) -> None:
    desk.active(tier="premium")
    placement = {"runtime": "shared", **provisioned}
    desk.dynamodb.update_item(
        TableName=REGISTRY,
        Key={"pk": {"S": "TENANT#acme"}, "sk": {"S": "TENANT"}},
        UpdateExpression="SET placement = :placement",
        ExpressionAttributeValues={":placement": {"M": {name: {"S": column} for name, column in placement.items()}}},
    )
    before = read(desk.dynamodb)
    if says:
        with pytest.raises(Conflict, match=says):
            desk.admin.upgrade("acme", request())
        assert read(desk.dynamodb) == before
    else:
        assert desk.admin.upgrade("acme", request()).operation is not None


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("own", [True, False])
def test_users_are_not_parted_from_their_pool(desk: Desk, layout: str, own: bool) -> None:
    record = dataclasses.replace(desk.active(), resources={"UserPoolId": "pool"} if own else {})
    placement = dataclasses.replace(PLACEMENT, identity_layout=layout)
    if own is placement.own_user_pools:
        require_in_place(record, placement, "basic")
    else:
        with pytest.raises(Conflict, match="users would move"):
            require_in_place(record, placement, "basic")


def test_neither_export_nor_offboarding_begins_where_a_store_is_nowhere_now(desk: Desk) -> None:
    record = desk.active()
    desk.dynamodb.update_item(
        TableName=REGISTRY,
        Key={"pk": {"S": "TENANT#acme"}, "sk": {"S": "TENANT"}},
        UpdateExpression="SET placement.s3 = :shared",
        ExpressionAttributeValues={":shared": {"S": "shared"}},
    )
    before = read(desk.dynamodb)
    for begin in (partial(desk.admin.offboard, export=False), desk.admin.export):
        with pytest.raises(Conflict, match="s3 would move from shared to nowhere"):
            begin("acme", request())
    assert read(desk.dynamodb) == before
    assert before.status is record.status is Status.ACTIVE


def test_who_never_was_active_has_nothing_to_be_parted_from(desk: Desk) -> None:
    record = desk.onboard(tier="premium").record
    assert record is not None
    moved = dataclasses.replace(record, placement={"memory": "shared", "s3": "dedicated"})
    require_in_place(moved, PLACEMENT, "premium", everything=True)
    with pytest.raises(Conflict):
        require_in_place(dataclasses.replace(moved, activated_at="2026-11-24"), PLACEMENT, "premium")


def test_an_onboarding_is_remembered_as_it_ended_and_not_as_it_began(desk: Desk) -> None:
    begun = desk.onboard().operation
    assert begun is not None
    desk.operations.finish(begun.operation_id, None, {"runtime": "shared"})
    assert read(desk.dynamodb).placement == {"runtime": "shared"}


def test_what_a_tenant_was_provisioned_with_is_kept_in_mind(desk: Desk) -> None:
    desk.active(tier="premium")
    upgrade = desk.admin.upgrade("acme", request()).operation
    assert upgrade is not None
    desk.operations.finish(upgrade.operation_id, None, {"s3": "dedicated"})
    assert read(desk.dynamodb).placement == {**PLACEMENT.row("premium"), "s3": "dedicated"}


@pytest.mark.parametrize(("first", "then"), list(product([True, False], [True, False])))
def test_an_offboarding_that_repeats_one_that_failed_goes_on_with_its_export(
    desk: Desk, first: bool, then: bool
) -> None:
    desk.active()
    begun = desk.admin.offboard("acme", request(), export=first).operation
    assert begun is not None
    desk.operations.fail(begun.operation_id, "DeleteStack", "why")
    again = desk.admin.offboard("acme", request(), export=then).operation
    assert again is not None and again.operation_id != begun.operation_id
    desk.operations.fail(again.operation_id, "DeleteStack", "why")
    again = desk.admin.offboard("acme", request(), export=then).operation
    assert again is not None and again == desk.executions.started[-1] == desk.operations.get(again.operation_id)
    assert again.parameters == {"export": then, "folder": begun.operation_id}
    # Who asks for the same joins it; who asks for something else waits.
    assert desk.admin.offboard("acme", request(), export=then).operation == again
    with pytest.raises(Conflict, match="its offboard is under way"):
        desk.admin.offboard("acme", request(), export=not then)


def test_the_export_of_a_concurrent_repetition_is_known_or_the_request_is_refused(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between a request's reads another one may begin, export, and fail."""
    desk.active()
    others: list[str] = []
    get = Registry.get

    def overtaken(registry: Registry, tenant_id: str) -> TenantRecord | None:
        record = get(registry, tenant_id)
        if not others:
            others.append("")
            other = desk.admin.offboard("acme", request(), export=True).operation
            assert other is not None
            others[0] = other.operation_id
            desk.operations.fail(other.operation_id, "DeleteStack", "why")
        return record

    with monkeypatch.context() as patched:
        patched.setattr(Registry, "get", overtaken)
        change = desk.admin.offboard("acme", request(), export=True)
    assert change.operation is not None
    assert [change.operation.parameters["folder"]] == others


def test_the_first_offboarding_is_forgotten_with_the_tenant(desk: Desk) -> None:
    """An id that is free again must not lead to the export of who had it before."""
    found: list[str] = []
    for _ in range(2):
        onboarding = desk.onboard().operation
        assert onboarding is not None
        desk.operations.fail(onboarding.operation_id, "CreateAdministrator", "why")
        offboarding = desk.admin.offboard("acme", request(), export=True).operation
        assert offboarding is not None
        assert offboarding.parameters["folder"] == read(desk.dynamodb).offboarding == offboarding.operation_id
        desk.operations.finish(offboarding.operation_id)
        found.append(offboarding.operation_id)
    assert len(set(found)) == 2


def test_what_failed_for_an_earlier_tenant_is_not_done_to_the_next_one(desk: Desk) -> None:
    """An id that is free again is somebody else's."""
    onboarding = desk.onboard().operation
    assert onboarding is not None
    desk.operations.fail(onboarding.operation_id, "CreateAdministrator", "why")
    failed = desk.admin.offboard("acme", request(), export=False).operation
    assert failed is not None
    desk.operations.fail(failed.operation_id, "DeleteData", "why")
    done = desk.admin.offboard("acme", request(), export=False).operation
    assert done is not None
    desk.operations.finish(done.operation_id)
    desk.operations._clock = lambda: NOW + timedelta(minutes=1)
    current = desk.onboard().operation
    assert current is not None
    desk.operations.fail(current.operation_id, "CreateAdministrator", "why")
    refuses_to_retry(desk, onboarding)
    desk.admin.retry(current.operation_id)
    desk.operations.finish(current.operation_id)
    refuses_to_retry(desk, failed)


def refuses_to_retry(desk: Desk, earlier: Operation) -> None:
    before = read(desk.dynamodb)
    with pytest.raises(Conflict, match="was of an earlier tenant acme"):
        desk.admin.retry(earlier.operation_id)
    assert read(desk.dynamodb) == before


def test_an_operation_whose_execution_was_never_started_is_started(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: Any) -> None:
        raise ClientError({"Error": {"Code": "ServiceUnavailable"}}, "StartExecution")

    with monkeypatch.context() as broken:
        broken.setattr(Executions, "start", unreachable)
        with pytest.raises(ClientError):
            desk.onboard(token="the-same-token")
    assert read(desk.dynamodb).status is Status.PROVISIONING
    change = desk.onboard(token="the-same-token")
    assert change.operation is not None
    assert desk.executions.started == [change.operation]


def test_an_execution_that_died_leaves_nobody_stuck(desk: Desk) -> None:
    change = desk.onboard()
    assert change.operation is not None
    desk.executions.ended[change.operation.operation_id] = "ExecutionAborted"
    operation, steps = desk.admin.operation(change.operation.operation_id)
    assert (operation.state, steps) == (State.FAILED, ("CreateAdministrator",))
    assert operation.failure is not None
    assert operation.failure.step == "CreateAdministrator"
    assert read(desk.dynamodb).status is Status.FAILED
    again = desk.onboard()
    assert again.operation is not None
    assert again.operation.operation_id != operation.operation_id
    assert read(desk.dynamodb).status is Status.PROVISIONING


def test_an_operation_that_was_forgotten_leaves_nobody_stuck(desk: Desk) -> None:
    change = desk.onboard()
    assert change.operation is not None
    desk.dynamodb.delete_item(TableName=OPERATIONS, Key={"operation_id": {"S": change.operation.operation_id}})
    with pytest.raises(Conflict, match="PROVISIONING"):
        desk.onboard()
    desk.dynamodb.update_item(
        TableName=REGISTRY,
        Key={"pk": {"S": "TENANT#acme"}, "sk": {"S": "TENANT"}},
        UpdateExpression="SET #s = :failed",
        ExpressionAttributeNames={"#s": "status"},
        ExpressionAttributeValues={":failed": {"S": "FAILED"}},
    )
    assert desk.admin.offboard("acme", request(), export=False).operation is not None


@pytest.mark.parametrize(("kind", "status"), list(product(Kind, Status)))
def test_an_operation_begins_where_the_table_says_so_and_nowhere_else(desk: Desk, kind: Kind, status: Status) -> None:
    desk.active(tier="premium" if kind is Kind.UPGRADE else "basic")
    desk.dynamodb.update_item(
        TableName=REGISTRY,
        Key={"pk": {"S": "TENANT#acme"}, "sk": {"S": "TENANT"}},
        UpdateExpression="SET #s = :status",
        ExpressionAttributeNames={"#s": "status"},
        ExpressionAttributeValues={":status": {"S": status}},
    )
    ask: dict[Kind, Callable[[], Change]] = {
        Kind.ONBOARD: desk.onboard,
        Kind.SET_TIER: lambda: desk.admin.set_tier("acme", request(), tier="standard"),
        Kind.UPGRADE: lambda: desk.admin.upgrade("acme", request()),
        Kind.SUSPEND: lambda: desk.admin.suspend("acme", request()),
        Kind.RESUME: lambda: desk.admin.resume("acme", request()),
        Kind.EXPORT: lambda: desk.admin.export("acme", request()),
        Kind.OFFBOARD: lambda: desk.admin.offboard("acme", request(), export=False),
    }
    before = read(desk.dynamodb)
    try:
        begun = ask[kind]().operation is not None
    except Conflict as refused:
        begun = False
        assert "\n" not in str(refused)
    assert begun == may_begin(kind, status, None)
    if not begun:
        assert read(desk.dynamodb) == before


def test_a_suspension_waits_for_nobody(desk: Desk) -> None:
    desk.active()
    desk.admin.set_tier("acme", request(), tier="standard")
    change = desk.admin.suspend("acme", request())
    assert change.record is not None
    assert change.record.status is Status.SUSPENDED


def test_an_export_disturbs_nobody(desk: Desk) -> None:
    desk.active()
    updating = desk.admin.set_tier("acme", request(), tier="standard")
    assert desk.admin.export("acme", request()).operation is not None
    assert updating.record == read(desk.dynamodb)


def test_what_is_under_way_is_named_to_whoever_must_wait(desk: Desk) -> None:
    desk.active()
    updating = desk.admin.set_tier("acme", request(), tier="standard").operation
    assert updating is not None
    with pytest.raises(
        Conflict, match=f"its set-tier is under way; follow it with `tenants operation {updating.operation_id}`"
    ):
        desk.admin.offboard("acme", request(), export=False)


def test_a_retry_carries_out_the_same_operation_once_more(desk: Desk) -> None:
    change = desk.onboard()
    assert change.operation is not None
    found = change.operation.operation_id
    assert desk.admin.retry(found).operation == change.operation
    desk.operations.fail(found, "CreateAdministrator", "why")
    again = desk.admin.retry(found)
    assert again.operation is not None
    assert (again.operation.operation_id, again.operation.attempt) == (found, 2)
    assert [started.attempt for started in desk.executions.started] == [1, 2]
    desk.operations.finish(found)
    retried = desk.admin.retry(found)
    assert retried.operation is not None
    assert (retried.operation.state, len(desk.executions.started)) == (State.SUCCEEDED, 2)


def test_a_retry_is_refused_where_the_tenant_has_gone_on(desk: Desk) -> None:
    change = desk.onboard()
    assert change.operation is not None
    desk.operations.fail(change.operation.operation_id, "CreateAdministrator", "why")
    offboarding = desk.admin.offboard("acme", request(), export=False).operation
    assert offboarding is not None
    with pytest.raises(Conflict, match="its offboard is under way"):
        desk.admin.retry(change.operation.operation_id)
    desk.operations.finish(offboarding.operation_id)
    with pytest.raises(NotFound, match="there is no tenant acme"):
        desk.admin.retry(change.operation.operation_id)


@pytest.mark.parametrize("ask", ["suspend", "resume", "export"])
def test_an_unknown_tenant_is_refused(desk: Desk, ask: str) -> None:
    with pytest.raises(NotFound, match="there is no tenant acme"):
        getattr(desk.admin, ask)("acme", request())


def test_an_unknown_operation_is_refused(desk: Desk) -> None:
    with pytest.raises(NotFound, match="there is no operation op-1"):
        desk.admin.operation("op-1")


def test_a_change_by_someone_else_in_between_is_a_conflict(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    stale = desk.active()
    suspended = desk.admin.suspend("acme", request()).operation
    assert suspended is not None
    desk.operations.finish(suspended.operation_id)
    monkeypatch.setattr(Registry, "get", lambda *_: stale)
    with pytest.raises(Conflict, match="changed by someone else"):
        desk.admin.set_tier("acme", request(), tier="standard")


def test_a_change_by_someone_else_is_a_conflict_even_where_the_tenant_is_back_in_its_state(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    stale = desk.active()
    changed = desk.admin.set_tier("acme", request(), tier="standard").operation
    assert changed is not None
    desk.operations.finish(changed.operation_id)
    assert read(desk.dynamodb).status is stale.status
    monkeypatch.setattr(Registry, "get", lambda *_: stale)
    with pytest.raises(Conflict, match="changed by someone else"):
        desk.admin.suspend("acme", request())

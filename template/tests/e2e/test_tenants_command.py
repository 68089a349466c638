"""The `tenants` command against the local cloud: what it says, what it asks, and that repeating it is safe."""

import io
import json
import re
from collections.abc import Callable
from itertools import combinations
from unittest.mock import Mock

import pytest

from local.cloud import STAGE, LocalCloud
from local.stage import Stage
from saas_agent.control_plane import cli
from saas_agent.control_plane.connection import Connection
from saas_agent.control_plane.data import Data
from saas_agent.control_plane.errors import ControlPlaneError
from saas_agent.tenancy.placement import load_placement
from saas_agent.tenancy.tiers import load_tiers

TIER, OTHER_TIER = next(
    pair for pair in combinations(load_tiers(), 2) if len({str(load_placement().row(tier)) for tier in pair}) == 1
)
"""Two tiers of the same placement, between which a tenant may change."""
STACKS = any(map(load_placement().stack_template, load_placement().tiers))
HUB = load_placement().own_user_pools and any(load_placement().serves(tier, None) for tier in load_placement().tiers)

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(cloud: LocalCloud, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    connection = Connection(cloud.operator_session(), load_placement().service, STAGE, cloud.endpoint)
    monkeypatch.setattr(cli, "_connect", lambda _: connection)

    def run(*arguments: str) -> tuple[int, str, str]:
        status = cli.main(arguments)
        captured = capsys.readouterr()
        # A slow machine is told what takes so long.
        return status, captured.out, re.sub(r"(?m)^.* \.\.\. \d+ s\n", "", captured.err)

    return run


def onboard(tenant_id: str, tier: str = TIER) -> tuple[str, ...]:
    return ("onboard", tenant_id, "--tier", tier, "--admin", f"ann@{tenant_id}.example")


def assert_refused(result: tuple[int, str, str], says: str) -> None:
    status, out, err = result
    assert (status, out) == (1, "")
    [line] = [line for line in err.splitlines() if line.startswith("tenants: ")]
    assert says in line
    assert "Traceback" not in err


def test_a_tenants_life(run: Run) -> None:
    status, out, err = run(*onboard("command"))
    assert (status, out) == (0, f"Tenant command ({TIER}) is onboarded: ACTIVE.\n")
    first, *steps = err.splitlines()
    assert first.startswith("onboard of command: op-")
    stack = ["  EnsureStack"] if STACKS else []
    stack += ["  AwaitStack"] if load_placement().stack_template(TIER) else []
    expected = [*stack, "  CreateAdministrator", *(["  AdmitUsers"] if HUB else []), "  Finish"]
    assert steps[: len(expected)] == expected
    status, out, _ = run("list")
    assert ["command", "ACTIVE", TIER] in [line.split()[:3] for line in out.splitlines()]
    assert run("suspend", "command")[1] == f"Tenant command ({TIER}) is suspended: SUSPENDED.\n"
    assert run("resume", "command")[1] == f"Tenant command ({TIER}) is resumed: ACTIVE.\n"
    assert run("set-tier", "command", "--tier", OTHER_TIER)[1] == f"Tenant command ({OTHER_TIER}) is updated: ACTIVE.\n"
    exported = run("export", "command")[1].splitlines()
    assert exported[0] == f"Tenant command ({OTHER_TIER}) is exported: ACTIVE."
    assert exported[1].startswith("The export is at s3://")
    out = run("offboard", "command", "--yes", "--export")[1]
    assert out.splitlines()[0] == f"Tenant command ({OTHER_TIER}) is offboarded: DELETED."
    assert "manifest.json" in out
    assert "command" not in [line.split()[0] for line in run("list")[1].splitlines()]
    assert ["command", "DELETED"] in [line.split()[:2] for line in run("list", "--all")[1].splitlines()]


def test_tenants_are_upgraded_where_they_have_stacks_and_otherwise_there_is_no_such_command(run: Run) -> None:
    placement = load_placement()
    owning = [tier for tier in placement.tiers if placement.stack_template(tier)]
    if not owning:
        with pytest.raises(SystemExit, match="2"):
            run("upgrade", "--all")
        return
    for tenant_id in ("upgraded", "resting"):
        run(*onboard(tenant_id, owning[0]))
    run("suspend", "resting")
    assert run("upgrade", "upgraded")[1] == f"Tenant upgraded ({owning[0]}) is upgraded: ACTIVE.\n"
    status, out, err = run("upgrade", "--all")
    assert status == 1
    assert f"Tenant upgraded ({owning[0]}) is upgraded: ACTIVE." in out.splitlines()
    assert "resting: tenant resting is SUSPENDED; upgrade expects ACTIVE" in err
    # Whatever else other tests left unfinished stands there too.
    left = err.splitlines()[-1].partition("have the stack that they had: ")[2].partition("; expected all upgraded")[0]
    assert "resting" in left.split(", ")


@pytest.mark.parametrize(
    ("first", "again", "status"),
    [
        ((), onboard("repeated"), "ACTIVE"),
        ((), ("resume", "repeated"), "ACTIVE"),
        ((), ("set-tier", "repeated", "--tier", TIER), "ACTIVE"),
    ],
)
def test_a_repetition_says_so_and_changes_nothing(
    run: Run, first: tuple[str, ...], again: tuple[str, ...], status: str
) -> None:
    run(*onboard("repeated"))
    before = run("show", "repeated", "--output", "json")
    said = f"Tenant repeated ({TIER}) is {status} already; nothing was changed.\n"
    assert run(*again) == (0, said, "")
    assert run("show", "repeated", "--output", "json") == before


def test_onboarding_a_suspended_tenant_says_how_to_go_on(run: Run) -> None:
    run(*onboard("waiting"))
    run("suspend", "waiting")
    status, out, _ = run(*onboard("waiting"))
    assert status == 0
    assert "SUSPENDED already" in out
    assert "`tenants resume waiting`" in out


@pytest.mark.parametrize("command", ["show", "suspend", "resume", "export", "offboard", "set-tier", "users"])
def test_an_unknown_tenant_and_what_is_no_id_are_refused(run: Run, command: str) -> None:
    extra = ("--tier", TIER) if command == "set-tier" else ("--yes",) if command == "offboard" else ()
    assert_refused(run(command, "nobody", *extra), "there is no tenant nobody")
    assert_refused(run(command, "acme#x", *extra), "is no tenant id")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("onboard", "other", "--tier", "gold", "--admin", "a@b.example"), "there is no tier 'gold'"),
        (("onboard", "other", "--tier", TIER, "--admin", "ann"), "is no e-mail address"),
        (("operation", "op-1"), "is no operation id"),
        (("retry", f"op-{'0' * 32}"), "there is no operation"),
    ],
)
def test_bad_answers_are_refused(run: Run, arguments: tuple[str, ...], says: str) -> None:
    assert_refused(run(*arguments), says)
    assert_refused(run("show", "other"), "there is no tenant other")


def test_onboarding_twice_with_another_tier_is_refused(run: Run) -> None:
    run(*onboard("twice"))
    assert_refused(run(*onboard("twice", OTHER_TIER)), "is there already")


def test_a_failure_says_what_to_do_and_that_is_what_helps(run: Run, stage: Stage) -> None:
    """An address that is another tenant's: the one failure that an operator's own answers can bring about."""
    run(*onboard("first"))
    taken = ("onboard", "second", "--tier", TIER, "--admin", "ann@first.example")
    status, _, err = run(*taken)
    if load_placement().own_user_pools:
        assert status == 0  # in a pool of its own every address is the tenant's to give
        return
    assert status == 1
    line = err.splitlines()[-1]
    assert "failed at CreateAdministrator: the address is a user's already, but not of tenant second" in line
    assert "ann@" not in line
    operation = line.rpartition("`tenants retry ")[2].rstrip("`")
    shown = run("operation", operation)[1]
    assert "FAILED" in shown
    assert "CreateAdministrator" in shown
    assert json.loads(run("operation", operation, "--output", "json")[1])["state"] == "FAILED"
    assert_refused(run("retry", operation), "failed at CreateAdministrator")
    shown = run("show", "second")[1]
    assert "onboard at CreateAdministrator" in shown
    assert run("offboard", "second", "--yes")[1] == (
        "Tenant second was never active: nothing is left of it, and its id is free again.\n"
    )
    assert run(*onboard("second"))[0] == 0
    user = stage.users("first").find("ann@first.example")
    assert user is not None
    assert user.tenant_id == "first"


def test_the_users_of_a_tenant_are_listed_invited_and_removed(run: Run) -> None:
    run(*onboard("staffed"))
    status, out, _ = run("users", "staffed", "--invite", "bob@staffed.example")
    assert status == 0
    made = out.split()[1]
    assert out == f"User {made} of tenant staffed is invited: FORCE_CHANGE_PASSWORD.\n"
    assert run("users", "staffed", "--invite", "bob@staffed.example")[1] == out
    _, *lines = run("users", "staffed")[1].splitlines()
    assert [(line.split()[1], line.split()[-1]) for line in lines] == [
        ("ann@staffed.example", "yes"),
        ("bob@staffed.example", "no"),
    ]
    listed = json.loads(run("users", "staffed", "--output", "json")[1])
    assert ("bob@staffed.example", False) in [(user["email"], user["administrator"]) for user in listed]
    assert run("users", "staffed", "--remove", made)[1] == f"User {made} of tenant staffed is removed.\n"
    assert_refused(run("users", "staffed", "--remove", made), "Your tenant has no such user")
    assert_refused(run("users", "staffed", "--invite", "bob"), "'bob' is no e-mail address; expected such as")
    run(*onboard("other-staff"))
    [theirs] = json.loads(run("users", "other-staff", "--output", "json")[1])
    assert_refused(run("users", "staffed", "--remove", theirs["id"]), "Your tenant has no such user")


def test_show_tells_the_record_and_where_the_components_are(run: Run) -> None:
    run(*onboard("shown"), "--name", "Shown Inc.")
    shown = json.loads(run("show", "shown", "--output", "json")[1])
    assert (shown["tenant_id"], shown["status"], shown["name"]) == ("shown", "ACTIVE", "Shown Inc.")
    placement = load_placement()
    assert shown["placement"] == {component: placement.column(TIER, component) for component in placement.components}
    assert "Shown Inc." in run("show", "shown")[1]


def test_changes_and_lists_are_also_json(run: Run) -> None:
    status, out, err = run(*onboard("machine"), "--output", "json")
    changed = json.loads(out)
    assert (status, err) == (0, "")
    assert (changed["changed"], changed["status"], changed["operation"]["state"]) == (True, "ACTIVE", "SUCCEEDED")
    assert json.loads(run(*onboard("machine"), "--output", "json")[1])["changed"] is False
    assert "machine" in [listed["tenant_id"] for listed in json.loads(run("list", "--output", "json")[1])]


class Terminal(io.StringIO):
    """A keyboard with somebody at it."""

    def isatty(self) -> bool:
        return True


def test_an_offboarding_that_repeats_one_that_failed_says_where_the_export_is(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(*onboard("twice"))
    with monkeypatch.context() as patched:
        patched.setattr(Data, "delete", Mock(side_effect=ControlPlaneError("S3 kept 1 objects")))
        status, _, err = run("offboard", "twice", "--yes", "--export")
    assert status == 1
    [failed] = re.findall(r"`tenants retry (op-[0-9a-f]{32})`", err)
    assert f"/tenants/twice/{failed}/; manifest.json" in run("offboard", "twice", "--yes", "--export")[1]


def test_offboarding_asks_for_the_id_to_be_typed(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run(*onboard("asked"))
    assert_refused(run("offboard", "asked"), "nobody can be asked here")
    monkeypatch.setattr("sys.stdin", Terminal("askd\n"))
    status, _, err = run("offboard", "asked")
    assert status == 1
    assert "that was not the tenant's id; nothing was changed" in err
    assert "ACTIVE" in run("show", "asked")[1]
    monkeypatch.setattr("sys.stdin", Terminal("asked\n"))
    status, out, err = run("offboard", "asked")
    assert status == 0
    assert "It can't be undone" in err
    assert "DELETED" in out

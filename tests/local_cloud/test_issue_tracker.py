"""The issue tracker and its keys: a workspace is opened by what is good for it, and by nothing else."""

import gc
import logging
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast
from uuid import uuid4

import pytest
from botocore.exceptions import ClientError

from local.authorization import OWNERS
from local.services import issue_tracker
from local.stage import Stage

from .local_gate import local_gate
from .local_issue_tracker import IssueTracker, with_key, with_token
from .local_stacks import Operator, operator


@pytest.fixture(scope="module")
def op() -> Iterator[Operator]:
    with operator() as running:
        yield running


@pytest.fixture(scope="module")
def tracker(op: Operator) -> IssueTracker:
    """Where the platform's stack is led to."""
    return IssueTracker(issue_tracker.settings(op.cloud.endpoint)["IssueTrackerUrl"])


@pytest.fixture
def names() -> tuple[str, str]:
    """Of two workspaces that nobody has yet, of which one begins like the other."""
    name = f"acme-{uuid4().hex[:8]}"
    return name, f"{name}2"


# --- Signing up -----------------------------------------------------------------------------------


def test_whoever_signs_up_gets_a_key_and_nobody_gets_it_again(tracker: IssueTracker, names: tuple[str, str]) -> None:
    name, other = names
    made = tracker.sign_up(name)
    assert made["workspace"] == name
    assert made["api_key"] != tracker.sign_up(other)["api_key"]
    shown = with_key(made["api_key"])
    tracker.open(name, "Lamp", shown)
    status, content = tracker.ask("POST", "/workspaces", json={"name": name, "issuer": "https://evil.example.com"})
    assert (status, "api_key" in content) == (409, False)
    assert [issue["title"] for issue in tracker.issues(name, shown)[1]] == ["Lamp"]


@pytest.mark.parametrize(
    "asked",
    [
        {"json": {"name": "ab", "issuer": "x"}},
        {"json": {"name": "a" * 41, "issuer": "x"}},
        {"json": {"name": "Acme", "issuer": "x"}},
        {"json": {"name": "acme/issues", "issuer": "x"}},
        {"json": {"name": "acme-without-issuer"}},
        {"json": {"name": "acme-blank-issuer", "issuer": " "}},
        {"json": {"name": ["acme"], "issuer": "x"}},
        {"json": ["acme"]},
        {"body": b"name=acme-of-a-form&issuer=x"},
        {},
    ],
)
def test_what_names_no_workspace_and_no_issuer_is_refused(tracker: IssueTracker, asked: dict[str, Any]) -> None:
    status, content = tracker.ask("POST", "/workspaces", **asked)
    assert status == 400
    assert set(content) == {"message"}


def test_each_cloud_has_a_tracker_of_its_own(tracker: IssueTracker, names: tuple[str, str]) -> None:
    shown = with_key(tracker.sign_up(names[0])["api_key"])
    with local_gate() as other:
        issue_tracker.register(other.gate)
        elsewhere = IssueTracker(f"{other.endpoint}/issue-tracker")
        assert elsewhere.issues(names[0], shown)[0] == 403
        assert elsewhere.sign_up(names[0])["api_key"] not in shown.values()
    assert tracker.issues(names[0], shown) == (200, [])


# --- Issues ---------------------------------------------------------------------------------------


def test_issues_are_listed_newest_first_with_who_opened_them(tracker: IssueTracker, names: tuple[str, str]) -> None:
    shown = with_key(tracker.sign_up(names[0])["api_key"])
    assert tracker.issues(names[0], shown) == (200, [])
    opened = [tracker.open(names[0], title, shown) for title in ("Lamp", " Door ", "t" * 500)]
    assert [status for status, _ in opened] == [201] * 3
    assert tracker.issues(names[0], shown) == (200, [issue for _, issue in reversed(opened)])
    assert [issue["title"] for _, issue in opened] == ["Lamp", "Door", "t" * 500]
    assert {issue["opened_by"] for _, issue in opened} == {"an API key"}
    assert len({issue["id"] for _, issue in opened}) == 3


@pytest.mark.parametrize("title", ["t" * 501, "", " ", None, 7, ["Lamp"]])
def test_what_is_no_title_opens_nothing(tracker: IssueTracker, names: tuple[str, str], title: Any) -> None:
    shown = with_key(tracker.sign_up(names[0])["api_key"])
    assert tracker.open(names[0], title, shown)[0] == 400
    assert tracker.issues(names[0], shown) == (200, [])


def test_there_is_nothing_else(tracker: IssueTracker, names: tuple[str, str]) -> None:
    shown = with_key(tracker.sign_up(names[0])["api_key"])
    tracker.open(names[0], "Lamp", shown)
    issues = f"/workspaces/{names[0]}/issues"
    others = [("GET", "/workspaces"), ("GET", f"/workspaces/{names[0]}"), ("GET", f"{issues}/1"), ("GET", "")]
    for method, path in (*others, ("DELETE", issues), ("PUT", issues), ("DELETE", f"/workspaces/{names[0]}")):
        assert tracker.ask(method, path, shown)[0] == 404
    assert len(tracker.issues(names[0], shown)[1]) == 1


# --- Keys -----------------------------------------------------------------------------------------


def test_a_key_opens_its_own_workspace_alone(tracker: IssueTracker, names: tuple[str, str]) -> None:
    keys = {name: with_key(tracker.sign_up(name)["api_key"]) for name in names}
    for name in names:
        tracker.open(name, f"of {name}", keys[name])
    for name, other in (names, names[::-1]):
        assert tracker.issues(other, keys[name]) == (403, [])
        assert tracker.open(other, "planted", keys[name])[0] == 403
        assert [issue["title"] for issue in tracker.issues(name, keys[name])[1]] == [f"of {name}"]


def test_what_is_no_key_opens_nothing_and_tells_not_whether_there_is_such_a_workspace(
    tracker: IssueTracker, names: tuple[str, str]
) -> None:
    name, nobodys = names
    key = tracker.sign_up(name)["api_key"]
    bad = [with_key("itk_made-up"), with_key(key[:-1]), with_key(f"{key}x"), with_key(key.upper()), with_key(name)]
    nothing: list[dict[str, str]] = [{}, with_key(""), with_token(key), {"Authorization": key}]
    for expected, cases in ((403, bad), (401, nothing)):
        for shown in cases:
            answers = [tracker.ask("GET", f"/workspaces/{each}/issues", shown) for each in (name, nobodys)]
            assert answers[0] == answers[1]
            assert answers[0][0] == expected
            assert tracker.open(name, "planted", shown)[0] == expected
    assert tracker.issues(name, with_key(key)) == (200, [])


def test_the_record_says_whose_issues_were_given_and_refused(
    op: Operator, tracker: IssueTracker, names: tuple[str, str]
) -> None:
    keys = [with_key(tracker.sign_up(name)["api_key"]) for name in names]
    position = op.cloud.decisions.position()
    tracker.issues(names[0], keys[0])
    tracker.open(names[0], "Lamp", keys[0])
    tracker.issues(names[0], keys[1])
    tracker.open(names[0], "Lamp")
    told = op.cloud.decisions.since(position)
    assert [(d.action, d.allowed) for d in told] == [
        ("issue-tracker:ListIssues", True),
        ("issue-tracker:OpenIssue", True),
        ("issue-tracker:ListIssues", False),
        ("issue-tracker:OpenIssue", False),
    ]
    assert {d.source for d in told} == {"third_party"}
    assert [d.context for d in told] == [{OWNERS: [names[0]]}] * 4


def test_no_key_is_in_a_repr_or_a_log_or_the_record(
    op: Operator, tracker: IssueTracker, names: tuple[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG, logger="local"):
        keys = [tracker.sign_up(name)["api_key"] for name in names]
        answers = [tracker.open(name, "Lamp", with_key(key)) for name in names for key in keys]
    assert sorted(status for status, _ in answers) == [201, 201, 403, 403]
    there = [repr(each) for each in gc.get_objects() if type(each).__module__ == issue_tracker.__name__]
    assert len(there) > 2
    told = "\n".join([*there, caplog.text, str(answers), str(op.cloud.decisions.since(0))])
    assert [key for key in keys if key in told] == []


# --- A tenant's key -------------------------------------------------------------------------------


def stage(op: Operator, url: str, local: bool = True) -> Stage:
    """What signing a tenant up needs of a deployed platform."""
    found = SimpleNamespace(
        local=local,
        session=op.cloud.operator_session(),
        outputs={"IssueTrackerUrl": url, "Service": "desk", "Stage": "dev"},
        home=lambda tenant_id: SimpleNamespace(settings=SimpleNamespace(issuer=f"https://{tenant_id}.example.com")),
    )
    return cast(Stage, found)


def test_a_tenant_that_is_onboarded_has_its_own_key_and_keeps_it(
    op: Operator, tracker: IssueTracker, names: tuple[str, str]
) -> None:
    client = op.cloud.operator_session().client("secretsmanager")

    def key_of(name: str) -> dict[str, str]:
        return with_key(client.get_secret_value(SecretId=f"desk/dev/tenants/{name}/issue_tracker")["SecretString"])

    for name in names:
        issue_tracker.onboarded(stage(op, tracker.url), name)
    keys = [key_of(name) for name in names]
    for name in names:
        assert [tracker.issues(name, key)[0] for key in keys] == [200 if name == each else 403 for each in names]
        tags = client.describe_secret(SecretId=f"desk/dev/tenants/{name}/issue_tracker")["Tags"]
        assert {"Key": "TenantId", "Value": name} in tags
    # Once more: the workspace is there, and so is its key.
    issue_tracker.onboarded(stage(op, tracker.url), names[0])
    assert [key_of(name) for name in names] == keys


def test_nobody_is_signed_up_from_a_stage_in_aws(op: Operator, tracker: IssueTracker, names: tuple[str, str]) -> None:
    issue_tracker.onboarded(stage(op, tracker.url, local=False), names[0])
    with pytest.raises(ClientError, match="ResourceNotFoundException"):
        op.cloud.operator_session().client("secretsmanager").describe_secret(
            SecretId=f"desk/dev/tenants/{names[0]}/issue_tracker"
        )
    tracker.sign_up(names[0])

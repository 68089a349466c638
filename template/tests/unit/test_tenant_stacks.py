"""Tenants' stacks, step by step, at a CloudFormation whose answers are scripted: real ones take minutes."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import boto3
import pytest
from botocore.stub import Stubber

from saas_agent.control_plane.errors import ControlPlaneError
from saas_agent.control_plane.stack import ASKED, TenantStacks

NAME = "desk-dev-tenant-acme"
ROLE = "arn:aws:iam::111122223333:role/stacks"
TAGS = [
    {"Key": "service", "Value": "desk"},
    {"Key": "stage", "Value": "dev"},
    {"Key": "TenantId", "Value": "acme"},
    {"Key": "Tier", "Value": "premium"},
]
WANTED = {
    "StackName": NAME,
    "TemplateURL": "https://artifacts.s3.eu-central-1.amazonaws.com/templates/tenant.yaml",
    "Parameters": [
        {"ParameterKey": "TenantId", "ParameterValue": "acme"},
        {"ParameterKey": "Tier", "ParameterValue": "premium"},
    ],
    "Tags": TAGS,
    "Capabilities": ["CAPABILITY_IAM"],
    "RoleARN": ROLE,
}


class Formation:
    """CloudFormation, as it is told to answer; nothing else may be called."""

    def __init__(self) -> None:
        self.client = boto3.client(
            "cloudformation", region_name="eu-central-1", aws_access_key_id="k", aws_secret_access_key="s"
        )
        self.stub = Stubber(self.client)

    def is_in(self, status: str | None, tags: Sequence[Mapping[str, str]] = TAGS) -> "Formation":
        if status is None:
            self.stub.add_client_error(
                "describe_stacks", "ValidationError", f"Stack with id {NAME} does not exist", http_status_code=400
            )
            return self
        stack: dict[str, Any] = {"StackName": NAME, "StackStatus": status, "CreationTime": 0}
        stack["Tags"] = [*tags]
        stack["Outputs"] = [{"OutputKey": "TableName", "OutputValue": "table-1"}]
        self.stub.add_response("describe_stacks", {"Stacks": [stack]}, {"StackName": NAME})
        return self

    def is_removed(self) -> "Formation":
        unprotected = {"StackName": NAME, "EnableTerminationProtection": False}
        self.stub.add_response("update_termination_protection", {"StackId": NAME}, unprotected)
        self.stub.add_response("delete_stack", {}, {"StackName": NAME, "RoleARN": ROLE})
        return self


@pytest.fixture
def formation() -> Iterator[Formation]:
    found = Formation()
    with found.stub:
        yield found
        found.stub.assert_no_pending_responses()


@pytest.fixture
def stacks(formation: Formation) -> TenantStacks:
    return TenantStacks(formation.client, "desk", "dev", "artifacts", ROLE)


def test_a_new_stack_is_asked_for_once_and_then_looked_at(formation: Formation, stacks: TenantStacks) -> None:
    formation.is_in(None).stub.add_response(
        "create_stack", {"StackId": NAME}, {**WANTED, "EnableTerminationProtection": True}
    )
    formation.is_in("CREATE_IN_PROGRESS").is_in("CREATE_COMPLETE")
    cursor = ""
    for _ in range(2):
        look = stacks.ensure("acme", "premium", "tenant.yaml", cursor)
        assert (look.done, look.outputs) == (False, {})
        cursor = look.cursor
    look = stacks.ensure("acme", "premium", "tenant.yaml", cursor)
    assert (look.done, look.outputs) == (True, {"TableName": "table-1"})


@pytest.mark.parametrize("foreign", TAGS[:3], ids=lambda tag: tag["Key"])
def test_a_stack_of_that_name_which_is_anothers_is_left_alone(
    formation: Formation, stacks: TenantStacks, foreign: Mapping[str, str]
) -> None:
    """A service called desk-dev-tenant names its stacks as desk, stage dev, names its tenants'."""
    for tags in (
        [tag for tag in TAGS if tag != foreign],
        [{**tag, "Value": "other"} if tag == foreign else tag for tag in TAGS],
    ):
        formation.is_in("CREATE_COMPLETE", tags).is_in("CREATE_COMPLETE", tags)
        with pytest.raises(ControlPlaneError, match="isn't tagged as tenant acme's"):
            stacks.ensure("acme", "premium", "tenant.yaml", "")
        with pytest.raises(ControlPlaneError, match="isn't tagged as tenant acme's"):
            stacks.delete("acme", "")


def test_a_stack_that_is_there_is_updated(formation: Formation, stacks: TenantStacks) -> None:
    formation.is_in("UPDATE_ROLLBACK_COMPLETE").stub.add_response("update_stack", {"StackId": NAME}, WANTED)
    formation.is_in("UPDATE_COMPLETE")
    assert stacks.ensure("acme", "premium", "tenant.yaml", "").cursor == ASKED
    assert stacks.ensure("acme", "premium", "tenant.yaml", ASKED).done


def test_a_stack_without_changes_is_done(formation: Formation, stacks: TenantStacks) -> None:
    formation.is_in("CREATE_COMPLETE").stub.add_client_error(
        "update_stack", "ValidationError", "No updates are to be performed.", http_status_code=400
    )
    assert stacks.ensure("acme", "premium", "tenant.yaml", "").done


@pytest.mark.parametrize("status", ["CREATE_FAILED", "ROLLBACK_COMPLETE", "ROLLBACK_FAILED", "DELETE_FAILED"])
def test_what_a_failed_creation_left_is_removed_and_made_again(
    formation: Formation, stacks: TenantStacks, status: str
) -> None:
    formation.is_in(status).is_removed().is_in("DELETE_IN_PROGRESS").is_in(None).stub.add_response(
        "create_stack", {"StackId": NAME}, {**WANTED, "EnableTerminationProtection": True}
    )
    cursor = ""
    for _ in range(3):
        look = stacks.ensure("acme", "premium", "tenant.yaml", cursor)
        assert not look.done
        cursor = look.cursor
    assert cursor == ASKED


@pytest.mark.parametrize("status", ["ROLLBACK_COMPLETE", "UPDATE_ROLLBACK_COMPLETE"])
def test_what_was_asked_for_and_failed_is_told(formation: Formation, stacks: TenantStacks, status: str) -> None:
    formation.is_in(status)
    with pytest.raises(ControlPlaneError, match=f"{NAME} is in {status}; expected it complete"):
        stacks.ensure("acme", "premium", "tenant.yaml", ASKED)


def test_what_can_not_be_updated_is_told_at_once(formation: Formation, stacks: TenantStacks) -> None:
    formation.is_in("UPDATE_ROLLBACK_FAILED")
    with pytest.raises(ControlPlaneError, match="UPDATE_ROLLBACK_FAILED"):
        stacks.ensure("acme", "premium", "tenant.yaml", "")


def test_a_stack_is_deleted_in_spite_of_its_protection(formation: Formation, stacks: TenantStacks) -> None:
    formation.is_in("CREATE_COMPLETE").is_removed().is_in("DELETE_IN_PROGRESS").is_in("DELETE_COMPLETE")
    cursor = ""
    for _ in range(2):
        look = stacks.delete("acme", cursor)
        assert not look.done
        cursor = look.cursor
    assert stacks.delete("acme", cursor).done


def test_a_stack_is_not_deleted_while_it_changes(formation: Formation, stacks: TenantStacks) -> None:
    formation.is_in("UPDATE_IN_PROGRESS")
    assert stacks.delete("acme", "").cursor == ""


def test_a_deletion_that_failed_is_told_and_can_be_repeated(formation: Formation, stacks: TenantStacks) -> None:
    formation.is_in("DELETE_FAILED").is_in("DELETE_FAILED").is_removed()
    with pytest.raises(ControlPlaneError, match="is in DELETE_FAILED; expected it deleted"):
        stacks.delete("acme", ASKED)
    assert stacks.delete("acme", "").cursor == ASKED

"""Deploying: what is shown, what is asked, and what a failure leaves behind."""

import itertools
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from moto.moto_api._internal.models import moto_api_backend

from infra import deploy as deployment
from infra import stacks
from infra.deploy import DeployError, deploy, table, with_snapshot
from infra.models import model_resources
from infra.package import Package, Packages
from infra.progress import Progress
from infra.stacks import Change, StackError, bring
from local import services
from local.formation import Formation

from .local_gate import ACCOUNT, OPERATOR, REGION, LocalGate, local_gate

PACKAGES = Packages(Package("runtime", b"runtime", 7), Package("functions", b"functions", 9))

SMALL = """
Parameters:
  Service: {Type: String}
  Stage: {Type: String, AllowedPattern: "^[a-z][a-z0-9]{1,9}$"}
  ArtifactsBucket: {Type: String}
  RuntimeKey: {Type: String}
  FunctionsKey: {Type: String}
  ModelResources: {Type: CommaDelimitedList}
  Tracing: {Type: String, AllowedValues: [none, adot]}
  LogRetentionDays: {Type: Number, Default: 30}
  BucketName: {Type: String, Default: "a-good-name"}
  Unused: {Type: String, Default: before}
Resources:
  Logs:
    Type: AWS::Logs::LogGroup
    Properties: {RetentionInDays: !Ref LogRetentionDays}
  Bucket:
    Type: AWS::S3::Bucket
    Properties: {BucketName: !Ref BucketName}
Outputs:
  Key: {Value: !Ref RuntimeKey}
"""


class Recorder(Progress):
    """Keeps what is said and what happens."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.events: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)

    def event(self, text: str) -> None:
        self.events.append(text)


class Cloud:
    """A stage on the local cloud, and what its operator was shown."""

    def __init__(self, gate: LocalGate, session: boto3.Session, template: Path) -> None:
        self.gate = gate
        self.session = session
        self.template = template
        self.shown: list[list[Change]] = []
        self.progress = Recorder()

    def deploy(self, session: boto3.Session | None = None, **other: Any) -> dict[str, str]:
        def confirm(changes: list[Change]) -> bool:
            self.shown.append(changes)
            return True

        options: dict[str, Any] = {
            "stage": "dev",
            "packages": PACKAGES,
            "confirm": confirm,
            "progress": self.progress,
            "service": "desk",
            "region": REGION,
            "template": self.template,
        }
        return deploy(session or self.session, **(options | other))

    def stacks(self) -> dict[str, str]:
        """Status by name of the stacks that there are."""
        found = self.gate.operator("cloudformation").describe_stacks()["Stacks"]
        return {stack["StackName"]: stack["StackStatus"] for stack in found}

    def change_sets(self, stack: str) -> list[str]:
        found = self.gate.operator("cloudformation").list_change_sets(StackName=stack)["Summaries"]
        return [change_set["Status"] for change_set in found]


@pytest.fixture(scope="module")
def gate() -> Iterator[LocalGate]:
    with local_gate() as gate:
        yield gate


@pytest.fixture(scope="module")
def session() -> boto3.Session:
    return boto3.Session(
        aws_access_key_id=OPERATOR.access_key_id,
        aws_secret_access_key=OPERATOR.secret_access_key,
        region_name=REGION,
    )


@pytest.fixture
def cloud(gate: LocalGate, session: boto3.Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cloud:
    template = tmp_path / "platform.yaml"
    template.write_text(SMALL)
    moto_api_backend.reset()
    Formation(ACCOUNT, REGION).register(gate.gate)
    for service in services.found():
        if hasattr(service, "register"):
            service.register(gate.gate)
    monkeypatch.setenv("AWS_ENDPOINT_URL", gate.endpoint)
    return Cloud(gate, session, template)


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stacks, "time", SimpleNamespace(sleep=lambda _seconds: None))


@contextmanager
def denied(session: boto3.Session, operation: str) -> Iterator[None]:
    """Makes AWS answer this operation of the session's clients with AccessDenied."""
    answer = {
        "Error": {
            "Code": "AccessDenied",
            "Message": f"User: arn:aws:iam::{ACCOUNT}:user/dev is not authorized to perform that.",
        },
        "ResponseMetadata": {"HTTPStatusCode": 403},
    }

    def answer_for_aws(**_: Any) -> tuple[SimpleNamespace, dict[str, Any]]:
        return SimpleNamespace(status_code=403), answer

    session.events.register_first(f"before-call.*.{operation}", answer_for_aws)
    try:
        yield
    finally:
        session.events.unregister(f"before-call.*.{operation}", answer_for_aws)


# --- a deployment that goes well ----------------------------------------------------------------


def test_a_new_stage_gets_both_stacks_the_code_and_the_outputs(cloud: Cloud) -> None:
    outputs = cloud.deploy()
    assert outputs == {
        "Key": PACKAGES.runtime.key,
    }
    assert cloud.stacks() == {
        "desk-dev-artifacts": "CREATE_COMPLETE",
        "desk-dev-platform": "CREATE_COMPLETE",
    }
    [bucket] = [
        found["Name"] for found in cloud.gate.operator("s3").list_buckets()["Buckets"] if ACCOUNT in found["Name"]
    ]
    stored = cloud.gate.operator("s3").list_objects_v2(Bucket=bucket)["Contents"]
    [template] = {item["Key"] for item in stored} - {PACKAGES.runtime.key, PACKAGES.functions.key}
    assert re.fullmatch("templates/[0-9a-f]{64}.yaml", template)


def test_a_changed_api_gets_a_new_deployment(cloud: Cloud) -> None:
    resources = """Resources:
  Api:
    Body: {body}
  ApiDeployment:
    Type: AWS::ApiGateway::Deployment
  Stage:
    DeploymentId: !Ref ApiDeployment
"""
    one, same, other = (with_snapshot(resources.format(body=body)) for body in ("a", "a", "b"))
    assert one == same
    names = [re.findall(r"ApiDeployment\w+", text) for text in (one, other)]
    assert [len(set(found)) for found in names] == [1, 1]
    assert names[0] != names[1]
    assert with_snapshot("Resources: {}") == "Resources: {}"


def test_the_bucket_for_code_is_private_encrypted_and_versioned(cloud: Cloud) -> None:
    cloud.deploy()
    [found] = cloud.gate.operator("cloudformation").describe_stack_resources(
        StackName="desk-dev-artifacts", LogicalResourceId="Bucket"
    )["StackResources"]
    bucket, s3 = found["PhysicalResourceId"], cloud.gate.operator("s3")
    assert ACCOUNT in bucket
    assert len(bucket) <= 63
    assert s3.get_bucket_versioning(Bucket=bucket)["Status"] == "Enabled"
    blocked = s3.get_public_access_block(Bucket=bucket)["PublicAccessBlockConfiguration"]
    assert all(blocked.values())
    assert s3.get_bucket_encryption(Bucket=bucket)


def test_the_changes_of_each_stack_are_shown_before_they_are_made(cloud: Cloud) -> None:
    cloud.deploy()
    artifacts, platform = cloud.shown
    assert [change.logical_id for change in artifacts] == ["Bucket", "BucketPolicy"]
    assert {(change.action, change.logical_id) for change in platform} == {
        ("Add", "Logs"),
        ("Add", "Bucket"),
    }


def test_nothing_to_change_is_a_success_that_asks_and_uploads_nothing(cloud: Cloud) -> None:
    first = cloud.deploy()
    cloud.shown.clear()
    with denied(cloud.session, "PutObject"):
        assert cloud.deploy() == first
    assert cloud.shown == []
    assert cloud.change_sets("desk-dev-platform") == ["CREATE_COMPLETE"]


def test_new_code_changes_the_platform_alone(cloud: Cloud) -> None:
    cloud.deploy()
    newer = Packages(Package("runtime", b"newer", 5), PACKAGES.functions)
    cloud.shown.clear()
    assert cloud.deploy(packages=newer, settings={"BucketName": "another-name"}) == {
        "Key": newer.runtime.key,
    }
    [platform] = cloud.shown
    assert Change("Modify", "Bucket", "AWS::S3::Bucket", "True") in platform


def test_a_setting_stays_until_it_is_set_again(cloud: Cloud) -> None:
    cloud.deploy(settings={"LogRetentionDays": "7"})
    cloud.deploy()
    groups = cloud.gate.operator("logs").describe_log_groups()["logGroups"]
    assert {group["retentionInDays"] for group in groups} == {7}


def test_what_only_an_output_tells_is_a_change_too(cloud: Cloud) -> None:
    cloud.deploy()
    newer = Packages(Package("runtime", b"newer", 5), PACKAGES.functions)
    assert cloud.deploy(packages=newer) == {"Key": newer.runtime.key}


def test_a_setting_in_which_cloudformation_sees_no_change_is_not_passed_over(cloud: Cloud) -> None:
    cloud.deploy()
    with pytest.raises(DeployError, match="Unused is still 'before'"):
        cloud.deploy(settings={"Unused": "after"})
    cloud.deploy(settings={"Unused": "after", "LogRetentionDays": "7"})
    cloud.deploy(settings={"Unused": "after"})


def test_tracing_is_what_the_code_was_packaged_for(cloud: Cloud) -> None:
    def standing() -> str:
        return deployment._tracing(cloud.session, "desk", "dev", REGION)

    assert standing() == "none"  # there is no stage yet
    cloud.deploy()
    assert standing() == "none"
    # With something else that changes: of this small template nothing depends on the tracing.
    cloud.deploy(packages=replace(PACKAGES, tracing="adot"), settings={"Tracing": "none", "LogRetentionDays": "7"})
    assert standing() == "adot"
    cloud.deploy(settings={"Tracing": "adot", "LogRetentionDays": "14"})
    assert standing() == "none"


def test_what_happens_is_told_as_it_happens(cloud: Cloud) -> None:
    cloud.deploy()
    assert "desk-dev-platform: CREATE_COMPLETE" in cloud.progress.said
    assert any(
        re.fullmatch(r"desk-dev-platform: 2 of 2, \w+ \(AWS::(S3|Logs)::\w+\) CREATE_COMPLETE", event)
        for event in cloud.progress.events
    )


def test_the_shipped_platform_deploys_as_it_is(cloud: Cloud) -> None:
    outputs = cloud.deploy(template=deployment.PLATFORM, service="support-desk")
    expected = {"Issuer", "ClientId", "RuntimeArn", "MemoryId", "TenantRoleArn", "RegistryTable"}
    assert expected <= set(outputs)
    groups = cloud.gate.operator("logs").describe_log_groups()["logGroups"]
    assert outputs["RuntimeLogGroup"] in {group["logGroupName"] for group in groups}
    assert {group["retentionInDays"] for group in groups} == {30}


# --- a deployment that does not -----------------------------------------------------------------


def test_declined_changes_leave_nothing_behind(cloud: Cloud) -> None:
    with pytest.raises(DeployError, match=r"^nothing was changed: .* were declined$"):
        cloud.deploy(confirm=lambda _changes: False)
    assert cloud.stacks() == {}


def test_an_interruption_at_the_question_leaves_nothing_behind(cloud: Cloud) -> None:
    def interrupt(_changes: list[Change]) -> bool:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cloud.deploy(confirm=interrupt)
    assert cloud.stacks() == {}


@pytest.mark.parametrize(
    "operation",
    [
        "GetCallerIdentity",
        "DescribeStacks",
        "ValidateTemplate",
        "CreateChangeSet",
        "DescribeChangeSet",
        "DescribeStackEvents",
        "ExecuteChangeSet",
        "HeadObject",
        "PutObject",
        "CreateLogGroup",
        "PutRetentionPolicy",
        "PutSubscriptionFilter",
    ],
)
def test_a_missing_permission_is_one_line_and_nothing_half_made(cloud: Cloud, operation: str) -> None:
    # Only the shipped platform has a runtime with a log.
    on_log = operation in ("CreateLogGroup", "PutRetentionPolicy", "PutSubscriptionFilter")
    shipped: dict[str, Any] = {"template": deployment.PLATFORM, "service": "support-desk"} if on_log else {}
    with denied(cloud.session, operation), pytest.raises(DeployError) as raised:
        cloud.deploy(**shipped)
    message = str(raised.value)
    assert message.startswith(f"AWS denied {operation}: ")
    assert "\n" not in message
    assert set(cloud.stacks().values()) <= {"CREATE_COMPLETE"}


def test_a_resource_that_fails_is_named_and_the_new_stack_is_removed(cloud: Cloud) -> None:
    cloud.gate.operator("s3").create_bucket(Bucket="taken")
    with pytest.raises(DeployError) as raised:
        cloud.deploy(settings={"BucketName": "taken"})
    assert re.fullmatch(
        r"Bucket \(AWS::S3::Bucket\) failed: .+; desk-dev-platform was new and has been removed.*",
        str(raised.value),
    )
    assert cloud.stacks() == {"desk-dev-artifacts": "CREATE_COMPLETE"}
    assert cloud.deploy()


def test_an_update_that_fails_leaves_the_stage_as_it_was(cloud: Cloud) -> None:
    cloud.gate.operator("s3").create_bucket(Bucket="taken")
    cloud.deploy()
    with pytest.raises(DeployError, match="desk-dev-platform was rolled back and is as it was"):
        cloud.deploy(settings={"BucketName": "taken"})
    assert cloud.stacks()["desk-dev-platform"] == "UPDATE_ROLLBACK_COMPLETE"
    assert cloud.deploy(settings={"BucketName": "a-good-name"})


def test_what_a_failed_first_deployment_left_is_removed_by_the_next(cloud: Cloud) -> None:
    cloud.gate.operator("s3").create_bucket(Bucket="taken")
    cloud.gate.operator("cloudformation").create_stack(
        StackName="desk-dev-platform",
        TemplateBody="{Resources: {B: {Type: 'AWS::S3::Bucket', Properties: {BucketName: taken}}}}",
        Tags=[{"Key": "service", "Value": "desk"}, {"Key": "stage", "Value": "dev"}],
    )
    assert cloud.stacks() == {"desk-dev-platform": "ROLLBACK_COMPLETE"}
    assert cloud.deploy()
    assert cloud.stacks()["desk-dev-platform"] == "CREATE_COMPLETE"


@pytest.mark.parametrize("whose", [{}, {"service": "desk", "stage": "dev", "TenantId": "prod-platform"}])
def test_a_stack_of_that_name_which_is_anothers_is_left_alone(cloud: Cloud, whose: dict[str, str]) -> None:
    formation = cloud.gate.operator("cloudformation")
    body = "{Resources: {B: {Type: 'AWS::S3::Bucket'}}}"
    name = "desk-dev-tenant-prod-platform"
    formation.create_stack(
        StackName=name, TemplateBody=body, Tags=[{"Key": key, "Value": value} for key, value in whose.items()]
    )
    with pytest.raises(DeployError, match=f"{name} is another's stack by its tags; expected service=desk-dev-tenant"):
        cloud.deploy(service="desk-dev-tenant", stage="prod")
    assert formation.get_template(StackName=name)["TemplateBody"] == body


def test_a_template_that_is_refused_leaves_nothing_behind(cloud: Cloud) -> None:
    cloud.template.write_text(SMALL + "  Odd: {Value: !GetAtt Missing.Arn}\n")
    with pytest.raises(DeployError, match="Missing") as raised:
        cloud.deploy()
    assert "\n" not in str(raised.value)
    assert cloud.stacks() == {"desk-dev-artifacts": "CREATE_COMPLETE"}


def test_a_stage_name_that_does_not_fit_is_refused(cloud: Cloud) -> None:
    with pytest.raises(DeployError, match="Stage") as raised:
        cloud.deploy(stage="Production!")
    assert "\n" not in str(raised.value)
    assert cloud.stacks() == {}


def test_an_unknown_setting_is_refused_with_those_that_there_are(cloud: Cloud) -> None:
    with pytest.raises(DeployError, match="no parameter StsTokn; expected one of .*LogRetention"):
        cloud.deploy(settings={"StsTokn": "id"})


def test_missing_credentials_are_one_line(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
    with pytest.raises(DeployError, match="^Unable to locate credentials; expected .*AWS_PROFILE$"):
        cloud.deploy(boto3.Session(region_name=REGION))


def test_credentials_that_aws_does_not_know_are_one_line(cloud: Cloud) -> None:
    session = boto3.Session("AKIANOBODY0000000000", "wrong-secret", region_name=REGION)
    with pytest.raises(DeployError, match="^AWS does not accept these credentials") as raised:
        cloud.deploy(session)
    assert "wrong-secret" not in str(raised.value)


def test_a_region_that_is_not_there_is_one_line(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(DeployError, match="expected a Region of your account and a network") as at:
        cloud.deploy(region="nowhere-1")
    assert "\n" not in str(at.value)


# --- CloudFormation as it is on AWS: everything takes its time ----------------------------------


class SlowCloudFormation:
    """One stack whose change set and events arrive bit by bit.

    `events`: what each look at the events adds, as (logical id, status, reason).
    """

    def __init__(self, events: list[list[tuple[str, str, str]]], status: str | None = None, plan: str = "") -> None:
        self.status = status
        self.plan = plan
        self.calls: list[str] = []
        self._arriving = iter(events)
        self._events: list[dict[str, str]] = []
        self._looks = 0

    def describe_stacks(self, StackName: str) -> dict[str, Any]:
        if self.status is None:
            missing = {"Code": "ValidationError", "Message": f"Stack {StackName} does not exist"}
            raise ClientError({"Error": missing}, "DescribeStacks")
        return {"Stacks": [{"StackId": "id", "StackName": "it", "StackStatus": self.status}]}

    def validate_template(self, **_: str) -> dict[str, Any]:
        return {"Parameters": []}

    def create_change_set(self, ChangeSetType: str, **_: Any) -> dict[str, str]:
        self.calls.append(f"create {ChangeSetType}")
        self.status = self.status or "REVIEW_IN_PROGRESS"
        return {"Id": "change", "StackId": "id"}

    def describe_change_set(self, NextToken: str = "", **_: str) -> dict[str, Any]:
        self._looks += 1
        if self._looks < 3:
            return {"Status": "CREATE_IN_PROGRESS"}
        if self.plan:
            return {"Status": "FAILED", "StatusReason": self.plan}
        change = {"Action": "Add", "LogicalResourceId": "A", "ResourceType": "AWS::X::Y"}
        page: dict[str, Any] = {
            "Status": "CREATE_COMPLETE",
            "Changes": [{"ResourceChange": change}],
        }
        return page if NextToken else page | {"NextToken": "more"}

    def execute_change_set(self, **_: str) -> None:
        self.calls.append("execute")

    def delete_change_set(self, **_: str) -> None:
        self.calls.append("delete change set")

    def delete_stack(self, **_: str) -> None:
        self.calls.append("delete stack")
        self.status = None

    def describe_stack_events(self, NextToken: str = "", **_: str) -> dict[str, Any]:
        if not NextToken and "execute" in self.calls:
            for logical_id, status, reason in next(self._arriving):
                stack = logical_id == "it"
                self._events.append(
                    {
                        "EventId": str(len(self._events)),
                        "LogicalResourceId": logical_id,
                        "PhysicalResourceId": "id" if stack else "",
                        "ResourceType": "AWS::CloudFormation::Stack" if stack else "AWS::X::Y",
                        "ResourceStatus": status,
                        "ResourceStatusReason": reason,
                    }
                )
                if stack:
                    self.status = status
        newest_first = self._events[::-1]
        if NextToken:
            return {"StackEvents": newest_first[1:]}
        return {"StackEvents": newest_first[:1], "NextToken": "older"}


def bring_it(cloudformation: SlowCloudFormation, progress: Progress | None = None) -> Any:
    return bring(
        cloudformation,
        "it",
        "",
        {},
        tags={},
        confirm=lambda _changes: True,
        progress=progress or Progress(),
    )


def test_a_slow_stack_is_followed_to_its_end() -> None:
    cloudformation = SlowCloudFormation(
        [
            [],
            [("it", "CREATE_IN_PROGRESS", "User Initiated"), ("A", "CREATE_IN_PROGRESS", "")],
            [("A", "CREATE_COMPLETE", "")],
            [],
            [("it", "CREATE_COMPLETE", "")],
        ]
    )
    progress = Recorder()
    bring_it(cloudformation, progress)
    assert cloudformation.calls == ["create CREATE", "execute"]
    assert progress.events == [
        "it: 0 of 2, A (AWS::X::Y) CREATE_IN_PROGRESS",
        "it: 1 of 2, A (AWS::X::Y) CREATE_COMPLETE",
    ]
    assert progress.said == ["it: CREATE_COMPLETE"]


def test_the_end_of_an_earlier_update_is_not_taken_for_this_one() -> None:
    cloudformation = SlowCloudFormation(
        [
            [],
            [("it", "UPDATE_IN_PROGRESS", "")],
            [("it", "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS", "")],
            [("it", "UPDATE_COMPLETE", "")],
        ],
        status="UPDATE_COMPLETE",
    )
    bring_it(cloudformation)
    assert cloudformation.calls == ["create UPDATE", "execute"]


def test_the_first_failure_is_named_and_not_what_it_cancelled() -> None:
    cloudformation = SlowCloudFormation(
        [
            [("A", "CREATE_FAILED", "Resource creation cancelled")],
            [("B", "CREATE_FAILED", "No such\nmodel.")],
            [("it", "ROLLBACK_IN_PROGRESS", "The following resource(s) failed: [A, B].")],
            [("it", "ROLLBACK_COMPLETE", "")],
        ]
    )
    with pytest.raises(StackError) as raised:
        bring_it(cloudformation)
    assert str(raised.value) == ("B (AWS::X::Y) failed: No such model; it was new and has been removed again")
    assert cloudformation.calls[-1] == "delete stack"


def test_a_rollback_that_fails_says_where_to_look() -> None:
    cloudformation = SlowCloudFormation(
        [[("B", "UPDATE_FAILED", "No"), ("it", "UPDATE_ROLLBACK_FAILED", "No again")]],
        status="CREATE_COMPLETE",
    )
    with pytest.raises(StackError, match="B .* failed: No; it is in UPDATE_ROLLBACK_FAILED and"):
        bring_it(cloudformation)


def test_a_change_set_that_is_not_possible_is_deleted_with_its_empty_stack() -> None:
    cloudformation = SlowCloudFormation([], plan="Unrecognized resource types:\n[AWS::X::Y]")
    with pytest.raises(StackError, match=r"^the changes to it are not possible: Unrecog.*Y\]"):
        bring_it(cloudformation)
    assert cloudformation.calls == ["create CREATE", "delete change set", "delete stack"]


def test_a_change_set_without_changes_is_deleted_and_a_success() -> None:
    for reason in (
        "The submitted information didn't contain changes.",
        "No updates are to be performed.",
    ):
        cloudformation = SlowCloudFormation([], status="CREATE_COMPLETE", plan=reason)
        bring_it(cloudformation)
        assert cloudformation.calls == ["create UPDATE", "delete change set"]


@pytest.mark.parametrize("status", ["UPDATE_IN_PROGRESS", "UPDATE_ROLLBACK_FAILED"])
def test_a_stack_that_cannot_be_changed_now_is_left_alone(status: str) -> None:
    cloudformation = SlowCloudFormation([], status=status)
    with pytest.raises(StackError, match=f"{status}.*deploy again"):
        bring_it(cloudformation)
    assert cloudformation.calls == []


def test_pauses_begin_short_and_grow_to_three_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(stacks, "time", SimpleNamespace(sleep=slept.append))
    list(itertools.islice(stacks._pauses(), 15))
    assert slept[0] == 0.1
    assert slept == sorted(slept)
    assert slept[-1] == 3.0


# --- models -------------------------------------------------------------------------------------


def resources(*models: str) -> list[str]:
    return model_resources(models, partition="aws", region="eu-west-1", account=ACCOUNT)


def test_a_model_is_called_in_the_stage_s_own_region() -> None:
    assert resources("amazon.nova-2-lite-v1:0") == [
        "arn:aws:bedrock:eu-west-1::foundation-model/amazon.nova-2-lite-v1:0"
    ]


def test_a_dot_in_a_version_makes_no_profile() -> None:
    assert resources("moonshotai.kimi-k2.5") == ["arn:aws:bedrock:eu-west-1::foundation-model/moonshotai.kimi-k2.5"]


def test_a_profile_of_a_geography_needs_the_model_in_its_regions() -> None:
    assert resources("eu.anthropic.claude-1-v1:0") == [
        "arn:aws:bedrock:*::foundation-model/anthropic.claude-1-v1:0",
        f"arn:aws:bedrock:eu-west-1:{ACCOUNT}:inference-profile/eu.anthropic.claude-1-v1:0",
    ]


def test_a_global_profile_needs_the_model_here_and_without_a_region() -> None:
    assert resources("global.anthropic.claude-1-v1:0", "global.anthropic.claude-1-v1:0") == [
        "arn:aws:bedrock:::foundation-model/anthropic.claude-1-v1:0",
        f"arn:aws:bedrock:eu-west-1:{ACCOUNT}:inference-profile/global.anthropic.claude-1-v1:0",
        "arn:aws:bedrock:eu-west-1::foundation-model/anthropic.claude-1-v1:0",
    ]


@pytest.mark.parametrize("model", ["*", "", "claude", "anthropic.*", "arn:aws:bedrock:a::b/c"])
def test_what_is_no_model_id_is_refused(model: str) -> None:
    with pytest.raises(ValueError, match="^tiers.toml names the model"):
        resources(model)


# --- the command --------------------------------------------------------------------------------


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Calls of `deploy` that the command makes; each stack's changes are put to the operator."""
    calls: list[dict[str, Any]] = []

    def record(_session: boto3.Session, **options: Any) -> dict[str, str]:
        calls.append(options)
        if not options["confirm"]([Change("Add", "Table", "AWS::DynamoDB::Table")]):
            raise DeployError("declined")
        return {"RuntimeArn": "arn"}

    monkeypatch.setattr(deployment, "deploy", record)
    monkeypatch.setattr(deployment, "build", lambda tracing: replace(PACKAGES, tracing=tracing))
    monkeypatch.setattr(deployment, "_tracing", lambda *_: "adot")
    monkeypatch.setattr(deployment, "_operators_session", lambda region: boto3.Session(region_name=region))
    return calls


def test_the_command_shows_the_changes_and_prints_the_outputs(
    command: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--stage", "prod", "--yes", "--region", "eu-west-1", "--set", "StsToken=id"]
    assert deployment.main(options) == 0
    out, err = capsys.readouterr()
    assert re.search(r"RuntimeArn +arn", out)
    assert re.search(r"Add +Table +AWS::DynamoDB::Table", err)
    assert command[0]["stage"] == "prod"
    assert command[0]["region"] == "eu-west-1"
    assert command[0]["settings"] == {"StsToken": "id"}
    assert command[0]["packages"].tracing == "adot"  # as the stage has it


def test_the_command_packages_the_code_for_the_tracing_that_is_set(command: list[dict[str, Any]]) -> None:
    assert deployment.main(["--yes", "--set", "Tracing=none"]) == 0
    assert command[0]["packages"].tracing == "none"


@pytest.mark.parametrize(("answer", "status"), [("y", 0), ("yes", 0), ("", 1), ("no", 1)])
@pytest.mark.usefixtures("command")
def test_the_command_asks_and_anything_but_yes_is_no(answer: str, status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: True))
    monkeypatch.setattr("builtins.input", lambda _question: answer)
    assert deployment.main([]) == status


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ([], "error: nobody can be asked here"),
        (["--stage", "local"], "error: stage local is the local cloud's"),
        (["--stage", "Prod-1"], "error: stage 'Prod-1': expected 2 to 10 lower-case letters and digits"),
        (["--set", "StsToken"], "error: --set StsToken: expected NAME=VALUE"),
    ],
)
@pytest.mark.usefixtures("command")
def test_the_command_fails_with_one_line_and_no_traceback(
    options: list[str],
    line: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: False))
    assert deployment.main(options) == 1
    err = capsys.readouterr().err
    assert err.splitlines()[-1].startswith(line)
    assert "Traceback" not in err


def test_without_credentials_nothing_is_packaged(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "nothing"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setattr(deployment, "build", lambda **_: pytest.fail("packaged first"))
    assert deployment.main(["--yes"]) == 1
    assert capsys.readouterr().err.splitlines()[-1].startswith("error: Unable to locate credentials; expected AWS")


def test_the_table_is_aligned() -> None:
    lines = table([Change("Add", "Table", "AWS::DynamoDB::Table"), Change("Modify", "B", "X", "True")])
    assert lines == [
        "Action  Resource  Type                  Replacement",
        "Add     Table     AWS::DynamoDB::Table",
        "Modify  B         X                     True",
    ]

"""Step Functions and EventBridge of the local cloud: the deployed definition runs, in its own role."""

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from local.event_bus import Event

from .local_stacks import Operator, function, operator, role, values

CODE = "machines-code"
WHO = "arn:aws:states:eu-central-1:123456789012:stateMachine:*"


@pytest.fixture(scope="module")
def op() -> Iterator[Operator]:
    with operator() as running:
        running.upload(CODE, "code.zip")
        yield running


def task(resource: str, parameters: Any, **fields: Any) -> dict[str, Any]:
    return {"Type": "Task", "Resource": f"arn:aws:states:::{resource}", "Parameters": parameters, **fields}


INVOKE = task("lambda:invoke", {"FunctionName": "${Function}", "Payload.$": "$"})
CATCH = [{"ErrorEquals": ["States.ALL"], "ResultPath": "$.failed.Work", "Next": "Failed"}]
RETRY = [{"ErrorEquals": ["PermissionError"], "IntervalSeconds": 60, "MaxAttempts": 3, "BackoffRate": 2}]
PUT = task(
    "events:putEvents",
    {"Entries": [{"EventBusName": "${Bus}", "Source": "test", "DetailType": "worked", "Detail": {"of.$": "$.work"}}]},
)
STATES = {
    "Work": {**INVOKE, "ResultSelector": {"got.$": "$.Payload"}, "ResultPath": "$.work", "Catch": CATCH}
    | {"Retry": RETRY, "Next": "Pause"},
    "Pause": {"Type": "Wait", "Seconds": 86400, "Next": "Tell"},
    "Tell": {**PUT, "ResultPath": "$.told", "End": True},
    "Failed": {"Type": "Pass", "Parameters": {"error.$": "$.failed.Work.Error"}, "End": True},
}


def machine(states: dict[str, Any], start: str = "Work") -> dict[str, Any]:
    return {
        "Type": "AWS::StepFunctions::StateMachine",
        "Properties": {
            "RoleArn": {"Fn::GetAtt": ["MachineRole", "Arn"]},
            "Definition": {"StartAt": start, "States": states},
            "DefinitionSubstitutions": {"Function": {"Fn::GetAtt": ["Function", "Arn"]}, "Bus": {"Ref": "Bus"}},
        },
    }


def resources(
    name: str,
    answer: str = "event",
    *,
    states: dict[str, Any] | None = None,
    source: str = WHO,
    actions: tuple[str, ...] = ("lambda:InvokeFunction", "events:PutEvents"),
) -> dict[str, Any]:
    trust = role("states.amazonaws.com")["Properties"]["AssumeRolePolicyDocument"]
    trust["Statement"][0]["Condition"] = {"ArnLike": {"aws:SourceArn": source}}
    allowed = {
        "lambda:InvokeFunction": {"Fn::GetAtt": ["Function", "Arn"]},
        "events:PutEvents": {"Fn::GetAtt": ["Bus", "Arn"]},
    }
    policy = [{"Effect": "Allow", "Action": action, "Resource": allowed[action]} for action in actions]
    return {
        "FunctionRole": role("lambda.amazonaws.com"),
        "Function": function(CODE, answer),
        "Bus": {"Type": "AWS::Events::EventBus", "Properties": {"Name": f"bus-of-{name}"}},
        "MachineRole": {
            "Type": "AWS::IAM::Role",
            "Properties": {
                "AssumeRolePolicyDocument": trust,
                "Policies": [
                    {"PolicyName": "own", "PolicyDocument": {"Version": "2012-10-17", "Statement": policy}},
                ],
            },
        },
        "Machine": machine(states or STATES),
    }


OUTPUTS = values(Machine={"Ref": "Machine"}, Role={"Fn::GetAtt": ["MachineRole", "Arn"]})


def run(op: Operator, arn: str, name: str, **content: Any) -> dict[str, Any]:
    """The execution at its end."""
    machines = op.cloud.operator_session().client("stepfunctions")
    execution = machines.start_execution(stateMachineArn=arn, name=name, input=json.dumps(content))["executionArn"]
    for _ in range(1000):
        described: dict[str, Any] = machines.describe_execution(executionArn=execution)
        if described["status"] != "RUNNING":
            break
        time.sleep(0.01)
    entered = [
        event["stateEnteredEventDetails"]["name"]
        for event in machines.get_execution_history(executionArn=execution)["events"]
        if "stateEnteredEventDetails" in event
    ]
    return {**described, "entered": entered, "output": json.loads(described.get("output", "null"))}


def test_an_execution_does_what_the_definition_says(op: Operator) -> None:
    outputs = op.create("works", resources("works"), Outputs=OUTPUTS)
    began = time.monotonic()
    done = run(op, outputs["Machine"], "one", x=1)
    assert (done["status"], done["entered"]) == ("SUCCEEDED", ["Work", "Pause", "Tell"])
    assert done["output"]["work"] == {"got": {"x": 1}}
    assert time.monotonic() - began < 60, "it waited for the day to pass"
    [event] = op.cloud.buses.events("bus-of-works")
    assert (event.source, event.detail_type, event.detail) == ("test", "worked", {"of": {"got": {"x": 1}}})
    assert event.principal.endswith(f"{outputs['Role'].rpartition('/')[2]}/execution")


def test_its_calls_are_judged_as_its_roles(op: Operator) -> None:
    outputs = op.create("judged", resources("judged"), Outputs=OUTPUTS)
    before = op.cloud.decisions.position()
    run(op, outputs["Machine"], "one")
    role_name = outputs["Role"].rpartition("/")[2]
    seen = [
        (decision.principal.rpartition(":")[2], decision.action)
        for decision in op.cloud.decisions.since(before)
        if decision.action in ("sts:AssumeRole", "lambda:InvokeFunction", "events:PutEvents")
    ]
    assert ("states.amazonaws.com", "sts:AssumeRole") in seen
    assert (f"assumed-role/{role_name}/execution", "lambda:InvokeFunction") in seen
    assert (f"assumed-role/{role_name}/execution", "events:PutEvents") in seen


@pytest.mark.parametrize(
    ("allowed", "error"),
    [(("events:PutEvents",), "Lambda.AccessDeniedException"), (("lambda:InvokeFunction",), None)],
    ids=["no function", "no bus"],
)
def test_what_its_policy_lacks_it_does_not_do(op: Operator, allowed: tuple[str, ...], error: str | None) -> None:
    name = f"may-{allowed[0].replace(':', '-').lower()}-alone"
    outputs = op.create(name, resources(name, actions=allowed), Outputs=OUTPUTS)
    done = run(op, outputs["Machine"], "one")
    assert op.cloud.buses.events(f"bus-of-{name}") == []
    if error:
        assert done["output"] == {"error": error}
    else:
        assert done["status"] == "FAILED"


@pytest.mark.parametrize(
    "source", ["arn:aws:states:eu-central-1:999999999999:stateMachine:*", "arn:aws:lambda:*:*:function:*"]
)
def test_a_role_that_does_not_trust_the_state_machine_starts_nothing(op: Operator, source: str) -> None:
    name = f"trusts-{source.split(':')[2]}"
    outputs = op.create(name, resources(name, source=source), Outputs=OUTPUTS)
    with pytest.raises(ClientError, match="AccessDenied"):
        run(op, outputs["Machine"], "one")
    machines = op.cloud.operator_session().client("stepfunctions")
    assert machines.list_executions(stateMachineArn=outputs["Machine"])["executions"] == []


def test_what_fails_is_tried_again_without_a_pause_and_then_caught(op: Operator) -> None:
    outputs = op.create("fails", resources("fails", "raise"), Outputs=OUTPUTS)
    before = op.cloud.decisions.position()
    done = run(op, outputs["Machine"], "one")
    assert done["output"] == {"error": "PermissionError"}
    invoked = [d for d in op.cloud.decisions.since(before) if d.action == "lambda:InvokeFunction"]
    assert len(invoked) == 1 + RETRY[0]["MaxAttempts"]  # type: ignore[operator]


def test_a_name_runs_once(op: Operator) -> None:
    outputs = op.create("once", resources("once"), Outputs=OUTPUTS)
    run(op, outputs["Machine"], "one", x=1)
    with pytest.raises(ClientError, match="ExecutionAlreadyExists"):
        run(op, outputs["Machine"], "one", x=2)


def test_an_updated_definition_is_what_runs_next(op: Operator) -> None:
    outputs = op.create("changes", resources("changes"), Outputs=OUTPUTS)
    run(op, outputs["Machine"], "one")
    shorter = {"Work": {**STATES["Failed"], "Parameters": {"changed": True}}}
    op.update("changes", resources("changes", states=shorter), Outputs=OUTPUTS)
    assert run(op, outputs["Machine"], "two")["output"] == {"changed": True}


def test_a_definition_that_is_none_fails_its_stack(op: Operator) -> None:
    broken = resources("broken", states={"Work": {"Type": "Task", "End": True}})
    op.create("broken", broken)
    assert op.status("broken") == "ROLLBACK_COMPLETE"


def test_who_may_start_and_look_is_judged_by_machine_and_execution(op: Operator) -> None:
    outputs = op.create("looked-at", resources("looked-at"), Outputs=OUTPUTS)
    machine_arn = outputs["Machine"]
    executions = machine_arn.replace(":stateMachine:", ":execution:") + ":*"
    statements = [
        {"Effect": "Allow", "Action": "states:StartExecution", "Resource": machine_arn},
        {"Effect": "Allow", "Action": "states:DescribeExecution", "Resource": executions},
    ]
    op.create(
        "starter",
        {
            "Starter": role(
                "lambda.amazonaws.com",
                RoleName="starter",
                Policies=[{"PolicyName": "own", "PolicyDocument": {"Version": "2012-10-17", "Statement": statements}}],
            )
        },
    )
    session = op.cloud._roles.session(
        "arn:aws:iam::123456789012:role/starter", service="lambda.amazonaws.com", source_arn="any", name="test"
    )
    machines = session.client("stepfunctions")
    execution = machines.start_execution(stateMachineArn=machine_arn, name="one")["executionArn"]
    assert machines.describe_execution(executionArn=execution)["status"]
    for refused, parameters in (
        (machines.get_execution_history, {"executionArn": execution}),
        (machines.stop_execution, {"executionArn": execution}),
        (machines.start_execution, {"stateMachineArn": machine_arn.replace("looked-at", "works")}),
    ):
        with pytest.raises(ClientError, match="AccessDenied"):
            refused(**parameters)


@pytest.mark.parametrize(
    ("entry", "code"),
    [
        ({"Source": "test", "DetailType": "t", "Detail": "no json"}, "MalformedDetail"),
        ({"Source": "test", "DetailType": "t", "Detail": "[]"}, "MalformedDetail"),
        ({"Source": "test", "Detail": "{}"}, "InvalidArgument"),
    ],
)
def test_an_event_that_is_none_is_counted_as_failed(op: Operator, entry: dict[str, str], code: str) -> None:
    events = op.cloud.operator_session().client("events")
    answer = events.put_events(Entries=[entry, {"Source": "test", "DetailType": "t", "Detail": "{}"}])
    assert answer["FailedEntryCount"] == 1
    assert [found.get("ErrorCode") for found in answer["Entries"]] == [code, None]
    assert op.cloud.buses.events("default")[-1] == Event(
        "default", "test", "t", {}, "arn:aws:iam::123456789012:user/operator"
    )


def test_there_is_no_bus_that_was_not_deployed(op: Operator) -> None:
    events = op.cloud.operator_session().client("events")
    entry = {"EventBusName": "nowhere", "Source": "test", "DetailType": "t", "Detail": "{}"}
    with pytest.raises(ClientError, match="nowhere does not exist"):
        events.put_events(Entries=[entry])

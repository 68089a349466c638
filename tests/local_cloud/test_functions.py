"""Lambda of the local cloud: what runs is what was deployed, in the function's own role."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from . import stand_in_function
from .local_stacks import Operator, function, operator, role

CODE = "functions-code"


@pytest.fixture(scope="module")
def op() -> Iterator[Operator]:
    with operator() as running:
        running.upload(CODE, "code.zip", "other.zip")
        yield running


def deploy(op: Operator, name: str, answer: str, trusted: str = "lambda.amazonaws.com") -> None:
    resources = {
        "FunctionRole": role(trusted, RoleName=f"role-of-{name}"),
        "Function": function(CODE, answer, FunctionName=name),
    }
    op.create(f"stack-of-{name}", resources)


def invoke(op: Operator, name: str, event: Any = None) -> tuple[Any, str | None]:
    """What the function answers, and the kind of error."""
    answer = op.functions.invoke(FunctionName=name, Payload=json.dumps(event).encode())
    assert answer["StatusCode"] == 200
    return json.loads(answer["Payload"].read()), answer.get("FunctionError")


def test_a_function_gets_its_event_and_its_context(op: Operator) -> None:
    deploy(op, "echo", "event")
    assert invoke(op, "echo", {"a": [1, None]}) == ({"a": [1, None]}, None)
    deploy(op, "context", "context")
    arn = op.functions.get_function_configuration(FunctionName="context")["FunctionArn"]
    # Its environment is handed to it, and does not become this process's.
    assert invoke(op, arn) == (["context", arn, False], None)


def test_a_function_acts_in_its_own_role(op: Operator) -> None:
    deploy(op, "who", "identity")
    arn, error = invoke(op, "who")
    assert error is None
    assert ":assumed-role/role-of-who/who" in arn
    trust = [d for d in op.cloud.decisions.since(0) if d.principal == "lambda.amazonaws.com"]
    assert trust[-1].resource.endswith("role/role-of-who")
    assert trust[-1].allowed


def test_a_role_that_does_not_trust_lambda_runs_nothing(op: Operator) -> None:
    deploy(op, "untrusted", "event", trusted="ec2.amazonaws.com")
    answer, error = invoke(op, "untrusted")
    assert error == "Unhandled"
    assert "AccessDenied" in answer["errorMessage"]


def test_an_exception_is_reported_without_a_trace(op: Operator) -> None:
    deploy(op, "raising", "raise")
    answer, error = invoke(op, "raising")
    assert error == "Unhandled"
    assert answer == {"errorMessage": "not today", "errorType": "PermissionError"}


def test_a_function_is_built_once_for_each_configuration(op: Operator) -> None:
    deploy(op, "rebuilt", "1")
    before = len(stand_in_function.built)
    assert invoke(op, "rebuilt")[0] == invoke(op, "rebuilt")[0] == "1"
    assert len(stand_in_function.built) == before + 1
    op.functions.update_function_configuration(FunctionName="rebuilt", Environment={"Variables": {"ANSWER": "2"}})
    assert invoke(op, "rebuilt")[0] == "2"
    op.functions.update_function_code(FunctionName="rebuilt", S3Bucket=CODE, S3Key="other.zip")
    assert invoke(op, "rebuilt")[0] == "2"
    assert len(stand_in_function.built) == before + 3


def test_a_role_may_invoke_only_what_its_policies_allow(op: Operator) -> None:
    deploy(op, "guarded", "event")
    arn = op.functions.get_function_configuration(FunctionName="guarded")["FunctionArn"]
    statement = {"Effect": "Allow", "Action": "lambda:InvokeFunction", "Resource": arn}
    trust = {
        "Effect": "Allow",
        "Principal": {"AWS": "arn:aws:iam::123456789012:root"},
        "Action": "sts:AssumeRole",
    }
    version = {"Version": "2012-10-17"}
    caller = op.iam.create_role(
        RoleName="invoker", AssumeRolePolicyDocument=json.dumps({**version, "Statement": trust})
    )["Role"]["Arn"]
    op.iam.put_role_policy(
        RoleName="invoker",
        PolicyName="own",
        PolicyDocument=json.dumps({**version, "Statement": statement}),
    )
    session = op.cloud.operator_session()
    credentials = session.client("sts").assume_role(RoleArn=caller, RoleSessionName="invoker")
    keys = credentials["Credentials"]
    functions = session.client(
        "lambda",
        aws_access_key_id=keys["AccessKeyId"],
        aws_secret_access_key=keys["SecretAccessKey"],
        aws_session_token=keys["SessionToken"],
    )
    assert functions.invoke(FunctionName="guarded", Payload=b"1")["Payload"].read() == b"1"
    with pytest.raises(ClientError, match="AccessDenied"):
        functions.invoke(FunctionName="echo", Payload=b"1")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"FunctionName": "nobody"}, "Function not found: nobody"),
        ({"FunctionName": "echo", "InvocationType": "Event"}, "RequestResponse only"),
        ({"FunctionName": "echo", "Payload": b"{'"}, "Could not parse"),
    ],
)
def test_what_can_not_be_invoked_says_so(op: Operator, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ClientError, match=message):
        op.functions.invoke(**arguments)

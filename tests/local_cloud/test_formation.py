"""CloudFormation of the local cloud: a stack is what its template says, or it says why it isn't."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from local.resources import INERT, KINDS
from local.template import Scope, TemplateError, parse, resolve_parameters

from .local_stacks import REGION, Operator, function, operator, role, template, values

ACCOUNT = "123456789012"
CODE = "formation-code"


@pytest.fixture(scope="module")
def op() -> Iterator[Operator]:
    with operator() as running:
        running.upload(CODE, "code.zip", "other.zip")
        yield running


def table(name: str, **properties: Any) -> dict[str, Any]:
    return {
        "Type": "AWS::DynamoDB::Table",
        "Properties": {
            "TableName": name,
            "BillingMode": "PAY_PER_REQUEST",
            "AttributeDefinitions": [{"AttributeName": "pk", "AttributeType": "S"}],
            "KeySchema": [{"AttributeName": "pk", "KeyType": "HASH"}],
            **properties,
        },
    }


def policy(action: str) -> dict[str, Any]:
    statement = {"Effect": "Allow", "Action": action, "Resource": "*"}
    return {"Version": "2012-10-17", "Statement": [statement]}


def refusal(call: Any, **arguments: Any) -> str:
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    return str(caught.value)


# --- Change sets ----------------------------------------------------------------------------------


def change(op: Operator, name: str, body: str, kind: str, **parameters: str) -> dict[str, Any]:
    created = op.cloudformation.create_change_set(
        StackName=name,
        ChangeSetName="change",
        ChangeSetType=kind,
        TemplateBody=body,
        Capabilities=["CAPABILITY_NAMED_IAM"],
        Parameters=[{"ParameterKey": k, "ParameterValue": v} for k, v in parameters.items()],
    )
    described: dict[str, Any] = op.cloudformation.describe_change_set(ChangeSetName=created["Id"])
    return described


def actions(described: dict[str, Any]) -> list[tuple[str, str]]:
    changes = [entry["ResourceChange"] for entry in described["Changes"]]
    return [(entry["Action"], entry["LogicalResourceId"]) for entry in changes]


def test_a_change_set_creates_updates_and_notices_that_nothing_changes(op: Operator) -> None:
    body = template(
        {"Group": {"Type": "AWS::Logs::LogGroup", "Properties": {"RetentionInDays": 7}}},
        Parameters={"Days": {"Type": "Number", "Default": 7}},
        Outputs=values(Name={"Ref": "Group"}, Days={"Ref": "Days"}),
    ).replace('"RetentionInDays": 7', '"RetentionInDays": {"Ref": "Days"}')
    created = change(op, "changes", body, "CREATE")
    assert (created["Status"], actions(created)) == ("CREATE_COMPLETE", [("Add", "Group")])
    assert op.status("changes") == "REVIEW_IN_PROGRESS"
    op.cloudformation.execute_change_set(ChangeSetName=created["ChangeSetId"])
    assert op.status("changes") == "CREATE_COMPLETE"
    group = op.outputs("changes")["Name"]

    same = change(op, "changes", body, "UPDATE")
    assert (same["Status"], same["ExecutionStatus"]) == ("FAILED", "UNAVAILABLE")
    assert "didn't contain changes" in same["StatusReason"]

    more = change(op, "changes", body, "UPDATE", Days="30")
    assert actions(more) == [("Modify", "Group")]
    op.cloudformation.execute_change_set(ChangeSetName=more["ChangeSetId"])
    assert op.outputs("changes") == {"Name": group, "Days": "30"}
    [described] = op.logs.describe_log_groups(logGroupNamePrefix=group)["logGroups"]
    assert described["retentionInDays"] == 30


def test_a_change_set_is_executed_once(op: Operator) -> None:
    body = template({"Group": {"Type": "AWS::Logs::LogGroup"}})
    created = change(op, "once", body, "CREATE")["ChangeSetId"]
    op.cloudformation.execute_change_set(ChangeSetName=created)
    assert "InvalidChangeSetStatus" in refusal(op.cloudformation.execute_change_set, ChangeSetName=created)


def test_events_tell_of_the_stack_and_of_each_resource(op: Operator) -> None:
    op.create("events", {"Group": {"Type": "AWS::Logs::LogGroup"}})
    events = op.cloudformation.describe_stack_events(StackName="events")["StackEvents"]
    told = [(event["LogicalResourceId"], event["ResourceStatus"]) for event in reversed(events)]
    assert told == [
        ("events", "CREATE_IN_PROGRESS"),
        ("Group", "CREATE_IN_PROGRESS"),
        ("Group", "CREATE_COMPLETE"),
        ("events", "CREATE_COMPLETE"),
    ]


# --- What fails, and what it leaves ---------------------------------------------------------------


def test_an_unknown_type_is_refused_before_anything_is_made(op: Operator) -> None:
    resources = {"Group": {"Type": "AWS::Logs::LogGroup"}, "Topic": {"Type": "AWS::SNS::Topic"}}
    message = refusal(op.create, name="unknown", resources=resources)
    assert "Unrecognized resource types: [AWS::SNS::Topic]" in message
    assert "local/resources" in message
    assert "does not exist" in refusal(op.stack, name="unknown")


def test_inert_types_say_why_and_are_accepted(op: Operator) -> None:
    assert all(reason and name in KINDS for name, reason in INERT.items())
    op.create("inert", {name.replace(":", ""): {"Type": name} for name in INERT})
    assert op.status("inert") == "CREATE_COMPLETE"


def test_a_dashboard_is_there_as_its_body_says(op: Operator) -> None:
    def board(body: str) -> dict[str, Any]:
        properties = {"DashboardName": "seen", "DashboardBody": body}
        return {"Board": {"Type": "AWS::CloudWatch::Dashboard", "Properties": properties}}

    cloudwatch = op.cloud.operator_session().client("cloudwatch")
    op.create("board", board('{"widgets": []}'))
    assert cloudwatch.get_dashboard(DashboardName="seen")["DashboardBody"] == '{"widgets": []}'
    op.update("board", board('{"widgets": [1]}'))
    assert cloudwatch.get_dashboard(DashboardName="seen")["DashboardBody"] == '{"widgets": [1]}'
    op.update("board", board("widgets"))
    assert op.status("board") == "UPDATE_ROLLBACK_COMPLETE"
    assert cloudwatch.get_dashboard(DashboardName="seen")["DashboardBody"] == '{"widgets": [1]}'
    op.cloudformation.delete_stack(StackName="board")
    assert cloudwatch.list_dashboards()["DashboardEntries"] == []


def test_a_creation_that_fails_leaves_nothing(op: Operator) -> None:
    resources = {"Table": table("failing"), "Again": {**table("failing"), "DependsOn": "Table"}}
    op.create("failing", resources)
    stack = op.stack("failing")
    assert stack["StackStatus"] == "ROLLBACK_COMPLETE"
    assert "[Again]" in stack["StackStatusReason"]
    assert "failing" not in op.dynamodb.list_tables()["TableNames"]
    assert "ROLLBACK_COMPLETE state and can not be updated" in refusal(op.update, name="failing", resources=resources)


def test_an_update_that_fails_restores_what_was(op: Operator) -> None:
    def group(**more: int) -> dict[str, Any]:
        return {"Type": "AWS::Logs::LogGroup", "Properties": {"LogGroupName": "restored", **more}}

    op.create("restored", {"Group": group(), "Table": table("restored")})
    clash = {**table("restored"), "DependsOn": ["Group", "Table"]}
    op.update("restored", {"Group": group(RetentionInDays=5), "Table": table("restored"), "Clash": clash})
    assert op.status("restored") == "UPDATE_ROLLBACK_COMPLETE"
    [described] = op.logs.describe_log_groups(logGroupNamePrefix="restored")["logGroups"]
    assert "retentionInDays" not in described
    assert op.status("restored") == "UPDATE_ROLLBACK_COMPLETE"


def test_a_circle_is_named(op: Operator) -> None:
    def group(other: str) -> dict[str, Any]:
        return {"Type": "AWS::Logs::LogGroup", "Properties": {"LogGroupName": {"Ref": other}}}

    op.create("circle", {"A": group("B"), "B": group("A")})
    assert "A -> B -> A" in op.stack("circle")["StackStatusReason"]


def test_roles_need_the_capability(op: Operator) -> None:
    body = template({"Role": role("lambda.amazonaws.com", RoleName="named")})
    message = refusal(
        op.cloudformation.create_stack,
        StackName="capability",
        TemplateBody=body,
        Capabilities=["CAPABILITY_IAM"],
    )
    assert "Requires capabilities : [CAPABILITY_NAMED_IAM]" in message


def test_an_operation_that_is_missing_says_so(op: Operator) -> None:
    assert "has no CloudFormation operation ListImports" in refusal(op.cloudformation.list_imports, ExportName="x")


# --- Deleting and replacing -----------------------------------------------------------------------


def test_a_deleted_stack_takes_its_resources_along_except_retained_ones(op: Operator) -> None:
    kept = {**table("kept"), "DeletionPolicy": "RetainExceptOnCreate"}
    op.create("deleted", {"Kept": kept, "Gone": table("gone")})
    stack_id = op.stack("deleted")["StackId"]
    op.cloudformation.delete_stack(StackName="deleted")
    assert op.status(stack_id) == "DELETE_COMPLETE"
    assert {"kept", "gone"} & set(op.dynamodb.list_tables()["TableNames"]) == {"kept"}
    assert "does not exist" in refusal(op.stack, name="deleted")


def test_a_bucket_with_objects_is_not_deleted(op: Operator) -> None:
    bucket = {"Type": "AWS::S3::Bucket", "Properties": {"BucketName": "full-of-it"}}
    op.create("full", {"Bucket": bucket})
    op.s3.put_object(Bucket="full-of-it", Key="a", Body=b"")
    op.cloudformation.delete_stack(StackName="full")
    stack = op.stack("full")
    assert stack["StackStatus"] == "DELETE_FAILED"
    assert "full-of-it is not empty" in stack["StackStatusReason"]


def test_a_resource_that_must_be_replaced_is_made_anew_before_the_old_one_goes(
    op: Operator,
) -> None:
    outputs = values(Name={"Ref": "Table"})
    op.create("replaced", {"Table": table("first")}, Outputs=outputs)
    assert op.update("replaced", {"Table": table("second")}, Outputs=outputs) == {"Name": "second"}
    assert {"first", "second"} & set(op.dynamodb.list_tables()["TableNames"]) == {"second"}


# --- Types ----------------------------------------------------------------------------------------


def test_a_role_follows_its_template(op: Operator) -> None:
    def resources(action: str, names: list[str]) -> dict[str, Any]:
        inline = [{"PolicyName": name, "PolicyDocument": policy(action)} for name in names]
        managed = {"PolicyDocument": policy(action), "ManagedPolicyName": "followed"}
        own = {"PolicyDocument": policy(action), "PolicyName": "apart", "Roles": [{"Ref": "Role"}]}
        return {
            "Managed": {"Type": "AWS::IAM::ManagedPolicy", "Properties": managed},
            "Role": role(
                "lambda.amazonaws.com",
                RoleName="followed",
                Policies=inline,
                ManagedPolicyArns=[{"Ref": "Managed"}],
            ),
            "Apart": {"Type": "AWS::IAM::Policy", "Properties": own},
        }

    def actions_of(name: str) -> str:
        document = op.iam.get_role_policy(RoleName="followed", PolicyName=name)["PolicyDocument"]
        return str(document["Statement"][0]["Action"])

    op.create("role", resources("s3:GetObject", ["a", "b"]))
    assert actions_of("a") == actions_of("b") == actions_of("apart") == "s3:GetObject"
    op.update("role", resources("s3:PutObject", ["a"]))
    names = op.iam.list_role_policies(RoleName="followed")["PolicyNames"]
    assert sorted(names) == ["a", "apart"]
    assert actions_of("a") == actions_of("apart") == "s3:PutObject"
    arn = f"arn:aws:iam::{ACCOUNT}:policy/followed"
    version = op.iam.get_policy(PolicyArn=arn)["Policy"]["DefaultVersionId"]
    document = op.iam.get_policy_version(PolicyArn=arn, VersionId=version)["PolicyVersion"]
    assert document["Document"]["Statement"][0]["Action"] == "s3:PutObject"
    assert len(op.iam.list_policy_versions(PolicyArn=arn)["Versions"]) == 1
    op.cloudformation.delete_stack(StackName="role")
    assert "NoSuchEntity" in refusal(op.iam.get_role, RoleName="followed")


def test_a_function_follows_its_template(op: Operator) -> None:
    def resources(answer: str, key: str) -> dict[str, Any]:
        code = {"S3Bucket": CODE, "S3Key": key}
        made = function(CODE, answer, FunctionName="followed", Code=code)
        return {"FunctionRole": role("lambda.amazonaws.com"), "Function": made}

    def configuration() -> dict[str, Any]:
        found: dict[str, Any] = op.functions.get_function_configuration(FunctionName="followed")
        return found

    op.create("function", resources("1", "code.zip"))
    before = configuration()
    assert before["Environment"]["Variables"] == {"ANSWER": "1"}
    op.update("function", resources("2", "other.zip"))
    after = configuration()
    assert after["Environment"]["Variables"] == {"ANSWER": "2"}
    assert after["CodeSha256"] != before["CodeSha256"]
    op.update("function", resources("2", "missing.zip"))
    stack = op.stack("function")
    assert stack["StackStatus"] == "UPDATE_ROLLBACK_COMPLETE"
    assert "there is no object missing.zip" in stack["StackStatusReason"]
    assert configuration()["CodeSha256"] == after["CodeSha256"]


def test_a_memory_has_its_strategies_namespaces(op: Operator) -> None:
    def resources(days: int, *names: str) -> dict[str, Any]:
        strategies = [
            {
                "UserPreferenceMemoryStrategy": {
                    "Name": name,
                    "NamespaceTemplates": [f"/actors/{{actorId}}/{name}/"],
                }
            }
            for name in names
        ]
        properties = {
            "Name": "agent_memory",
            "EventExpiryDuration": days,
            "MemoryStrategies": strategies,
        }
        return {"Memory": {"Type": "AWS::BedrockAgentCore::Memory", "Properties": properties}}

    def strategies() -> dict[str, Any]:
        memory = op.control.get_memory(memoryId=created["Id"])["memory"]
        return {strategy["name"]: strategy for strategy in memory["strategies"]}

    outputs = values(Id={"Fn::GetAtt": ["Memory", "MemoryId"]}, Arn={"Fn::GetAtt": ["Memory", "MemoryArn"]})
    created = op.create("memory", resources(30, "preferences"), Outputs=outputs)
    assert created["Arn"] == f"arn:aws:bedrock-agentcore:{REGION}:{ACCOUNT}:memory/{created['Id']}"
    first = strategies()
    assert first["preferences"]["type"] == "USER_PREFERENCE"
    assert first["preferences"]["namespaceTemplates"] == ["/actors/{actorId}/preferences/"]
    assert op.update("memory", resources(60, "preferences", "more"), Outputs=outputs) == created
    assert op.control.get_memory(memoryId=created["Id"])["memory"]["eventExpiryDuration"] == 60
    assert strategies().keys() == {"preferences", "more"}
    assert strategies()["preferences"]["strategyId"] == first["preferences"]["strategyId"]


def test_a_runtime_is_what_the_control_api_says_of_it(op: Operator) -> None:
    def resources(value: str) -> dict[str, Any]:
        code = {"S3": {"Bucket": CODE, "Prefix": "code.zip"}}
        configuration = {"Code": code, "Runtime": "PYTHON_3_13", "EntryPoint": ["main.py"]}
        properties = {
            "AgentRuntimeName": "an_agent",
            "AgentRuntimeArtifact": {"CodeConfiguration": configuration},
            "RoleArn": {"Fn::GetAtt": ["Role", "Arn"]},
            "NetworkConfiguration": {"NetworkMode": "PUBLIC"},
            "ProtocolConfiguration": "HTTP",
            "AuthorizerConfiguration": {
                "CustomJWTAuthorizer": {
                    "DiscoveryUrl": "https://issuer.example/.well-known/openid-configuration",
                    "AllowedClients": ["client"],
                }
            },
            "RequestHeaderConfiguration": {"RequestHeaderAllowlist": ["Authorization"]},
            "EnvironmentVariables": {"SOME_Value": value},
        }
        return {
            "Role": role("bedrock-agentcore.amazonaws.com"),
            "Runtime": {"Type": "AWS::BedrockAgentCore::Runtime", "Properties": properties},
        }

    outputs = values(Ref={"Ref": "Runtime"}, Arn={"Fn::GetAtt": ["Runtime", "AgentRuntimeArn"]})
    created = op.create("runtime", resources("a"), Outputs=outputs)
    runtime = op.control.get_agent_runtime(agentRuntimeId=created["Ref"])
    assert runtime["agentRuntimeArn"] == created["Arn"]
    assert created["Arn"].endswith(f":runtime/{created['Ref']}")
    assert runtime["environmentVariables"] == {"SOME_Value": "a"}
    assert runtime["authorizerConfiguration"]["customJWTAuthorizer"]["allowedClients"] == ["client"]
    assert runtime["requestHeaderConfiguration"] == {"requestHeaderAllowlist": ["Authorization"]}
    assert op.update("runtime", resources("b"), Outputs=outputs) == created
    runtime = op.control.get_agent_runtime(agentRuntimeId=created["Ref"])
    assert runtime["environmentVariables"] == {"SOME_Value": "b"}
    assert runtime["agentRuntimeVersion"] == "2"


def test_a_table_keeps_what_it_was_given(op: Operator) -> None:
    recovery = {"PointInTimeRecoveryEnabled": True}
    life = {"AttributeName": "expires", "Enabled": True}
    properties = {"PointInTimeRecoverySpecification": recovery, "TimeToLiveSpecification": life}
    op.create("kept-table", {"Table": table("kept-table", **properties)})
    backups = op.dynamodb.describe_continuous_backups(TableName="kept-table")
    described = backups["ContinuousBackupsDescription"]["PointInTimeRecoveryDescription"]
    assert described["PointInTimeRecoveryStatus"] == "ENABLED"
    ttl = op.dynamodb.describe_time_to_live(TableName="kept-table")["TimeToLiveDescription"]
    assert ttl == {"TimeToLiveStatus": "ENABLED", "AttributeName": "expires"}
    op.update("kept-table", {"Table": table("kept-table")})
    backups = op.dynamodb.describe_continuous_backups(TableName="kept-table")
    described = backups["ContinuousBackupsDescription"]["PointInTimeRecoveryDescription"]
    assert described["PointInTimeRecoveryStatus"] == "DISABLED"


# --- Templates ------------------------------------------------------------------------------------


def resolve(value: Any, **parameters: Any) -> Any:
    conditions = {"Yes": {"Fn::Equals": ["a", "a"]}, "No": {"Fn::Not": [{"Condition": "Yes"}]}}
    made = {"Made": {"Ref": "made-id", "Arn": "made-arn"}}

    def attribute(logical_id: str, name: str | None) -> Any:
        return made[logical_id][name or "Ref"]

    def exported(name: str) -> str:
        raise TemplateError(f"no export {name}")

    scope = Scope(
        {"Resources": made, "Conditions": conditions, "Mappings": {"M": {"a": {"b": "c"}}}},
        pseudo={"AWS::Region": REGION},
        parameters=parameters,
        attribute=attribute,
        exported=exported,
    )
    return scope.resolve(value)


@pytest.mark.parametrize(
    ("value", "result"),
    [
        ({"Ref": "AWS::Region"}, REGION),
        ({"Ref": "Made"}, "made-id"),
        ({"Fn::GetAtt": ["Made", "Arn"]}, "made-arn"),
        ({"Fn::Sub": "${Made}/${Made.Arn}/${P}/${!aws:x}"}, "made-id/made-arn/p/${aws:x}"),
        ({"Fn::Sub": ["${P}${Own}", {"Own": {"Ref": "Made"}}]}, "pmade-id"),
        ({"Fn::Join": ["-", ["a", {"Ref": "P"}]]}, "a-p"),
        ({"Fn::Select": [1, {"Fn::Split": [",", "a,b"]}]}, "b"),
        ({"Fn::If": ["No", "a", {"Ref": "P"}]}, "p"),
        ({"a": {"Fn::If": ["No", 1, {"Ref": "AWS::NoValue"}]}, "b": [1]}, {"b": [1]}),
        ([1, {"Ref": "AWS::NoValue"}, 2], [1, 2]),
        ({"Fn::FindInMap": ["M", "a", "b"]}, "c"),
        ({"Ref": "L"}, ["x", "y"]),
    ],
)
def test_functions_resolve(value: Any, result: Any) -> None:
    assert resolve(value, P="p", L=["x", "y"]) == result


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"Ref": "Nothing"}, "Ref to Nothing"),
        ({"Fn::Sub": "${Nothing}"}, "Ref to Nothing"),
        ({"Fn::Cidr": ["10.0.0.0/8", 1, 8]}, "no function Fn::Cidr"),
        ({"Fn::Select": [3, ["a"]]}, "cannot select index 3"),
        ({"Fn::If": ["Maybe", 1, 2]}, "no condition Maybe"),
        ({"Fn::Join": ["", [["nested"]]]}, "a text is needed"),
        ({"Fn::ImportValue": "x"}, "no export x"),
    ],
)
def test_what_can_not_be_resolved_says_so(value: Any, message: str) -> None:
    with pytest.raises(TemplateError, match=message):
        resolve(value)


def test_short_forms_and_dates_are_read_as_cloudformation_reads_them() -> None:
    body = """
    Resources:
      A:
        Type: T
        Condition: !Condition C
        Properties: {Version: 2012-10-17, X: !GetAtt B.C.D, Y: !If [C, !Ref A, !Sub "${A}"]}
    """
    assert parse(body)["Resources"]["A"] == {
        "Type": "T",
        "Condition": {"Condition": "C"},
        "Properties": {
            "Version": "2012-10-17",
            "X": {"Fn::GetAtt": ["B", "C.D"]},
            "Y": {"Fn::If": ["C", {"Ref": "A"}, {"Fn::Sub": "${A}"}]},
        },
    }


def test_parameters_take_their_types() -> None:
    declared = {
        "List": {"Type": "CommaDelimitedList", "Default": "a, b"},
        "Number": {"Type": "Number"},
        "Stored": {"Type": "AWS::SSM::Parameter::Value<String>", "Default": "/path"},
    }
    resolved = resolve_parameters({"Parameters": declared}, {"Number": "3"}, lambda name: name * 2)
    assert resolved == {"List": ["a", "b"], "Number": 3, "Stored": "/path/path"}


@pytest.mark.parametrize(
    ("slot", "given", "message"),
    [
        ({"Type": "String"}, {}, "must have values"),
        ({"Type": "String"}, {"P": "a", "Q": "b"}, r"\[Q\] do not exist"),
        ({"Type": "String", "AllowedValues": ["a", "b"]}, {"P": "c"}, "one of"),
        ({"Type": "String", "AllowedPattern": "[a-z]+"}, {"P": "C"}, "match pattern"),
        ({"Type": "String", "MinLength": 3}, {"P": "ab"}, "3 to 4096 characters"),
        ({"Type": "Number"}, {"P": "many"}, "must be a number"),
    ],
)
def test_wrong_parameters_are_refused(slot: dict[str, Any], given: dict[str, str], message: str) -> None:
    with pytest.raises(TemplateError, match=message):
        resolve_parameters({"Parameters": {"P": slot}}, given, str)


@pytest.mark.parametrize("body", ["", "[]", "Resources: {A: {}}", "a: [", json.dumps({"A": 1})])
def test_what_is_no_template_is_refused(body: str) -> None:
    with pytest.raises(TemplateError, match="Template format error"):
        parse(body)

"""Requests that botocore serialises are read back as the calls that they are."""

import io
from datetime import UTC, datetime
from typing import Any

import boto3
import pytest
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from moto.core.request import Request

from local.operations import ServiceError, find_operation, parse, refuse, resolve, respond


def sent(service: str, operation: str, params: dict[str, Any]) -> tuple[Request, str]:
    """The request that a client sends for a call, and the name that it signs with."""
    client = boto3.client(
        service,
        region_name="us-east-1",
        endpoint_url="http://127.0.0.1:5000",
        aws_access_key_id="AKIAUNIT000000000000",
        aws_secret_access_key="unit",
        config=Config(retries={"total_max_attempts": 1}),
    )
    caught: list[AWSRequest] = []

    def stop(request: AWSRequest, **_: Any) -> None:
        caught.append(request)
        raise InterruptedError

    client.meta.events.register("before-send.*", stop)
    with pytest.raises(InterruptedError):
        getattr(client, operation)(**params)
    request, name = caught[0], client.meta.service_model.signing_name
    return received(request.method, request.url, dict(request.headers), request.body), name


def received(method: str, url: str, headers: dict[str, Any], body: Any) -> Request:
    content = body.read() if isinstance(body, io.IOBase) else body or b""
    request = Request.from_primitives(method, url, headers, content)
    request.environ["RAW_URI"] = url.removeprefix("http://127.0.0.1:5000")
    request.get_data(cache=True, parse_form_data=False)
    return request


CALLS: list[tuple[str, str, dict[str, Any]]] = [
    ("dynamodb", "get_item", {"TableName": "t", "Key": {"pk": {"S": "a#b"}, "n": {"B": b"\0"}}}),
    ("s3", "get_object", {"Bucket": "bucket", "Key": "a/ü b+c%2F~.txt"}),
    ("s3", "get_object", {"Bucket": "bucket", "Key": "folder/", "VersionId": "1"}),
    ("s3", "list_objects_v2", {"Bucket": "bucket", "Prefix": "a/", "Delimiter": "/"}),
    ("s3", "list_objects", {"Bucket": "bucket", "Prefix": ""}),
    ("s3", "get_object_tagging", {"Bucket": "bucket", "Key": "k"}),
    (
        "s3",
        "delete_objects",
        {"Bucket": "bucket", "Delete": {"Objects": [{"Key": "a"}, {"Key": "b"}]}},
    ),
    ("s3", "head_bucket", {"Bucket": "bucket"}),
    (
        "sts",
        "assume_role",
        {"RoleArn": "a" * 20, "RoleSessionName": "session", "Tags": [{"Key": "k", "Value": "v"}]},
    ),
    ("iam", "list_roles", {"PathPrefix": "/x/"}),
    (
        "logs",
        "put_log_events",
        {
            "logGroupName": "g",
            "logStreamName": "s",
            "logEvents": [{"timestamp": 1, "message": "m"}],
        },
    ),
    (
        "cloudwatch",
        "put_metric_data",
        {"Namespace": "n", "MetricData": [{"MetricName": "m", "Value": 1.5}]},
    ),
    ("sqs", "send_message", {"QueueUrl": "http://127.0.0.1:5000/1/q", "MessageBody": "m"}),
    ("stepfunctions", "start_execution", {"stateMachineArn": "arn"}),
    ("events", "put_events", {"Entries": [{"Source": "s", "DetailType": "d", "Detail": "{}"}]}),
    ("cognito-idp", "admin_get_user", {"UserPoolId": "p_1", "Username": "u"}),
    (
        "lambda",
        "invoke",
        {"FunctionName": "arn:aws:lambda:us-east-1:123456789012:function:f", "Payload": b"{}"},
    ),
    (
        "bedrock-runtime",
        "converse",
        {
            "modelId": "arn:aws:bedrock:us-east-1::foundation-model/a.b:0",
            "messages": [{"role": "user", "content": [{"text": "t"}]}],
        },
    ),
    ("bedrock-runtime", "converse_stream", {"modelId": "a.b:0", "messages": []}),
    (
        "bedrock-agent-runtime",
        "retrieve",
        {"knowledgeBaseId": "KB12345678", "retrievalQuery": {"text": "t"}},
    ),
    (
        "bedrock-agentcore",
        "list_events",
        {"memoryId": "m" * 12, "actorId": "acme:u/v", "sessionId": "s"},
    ),
    (
        "bedrock-agentcore",
        "get_event",
        {"memoryId": "m" * 12, "actorId": "a:u", "sessionId": "s", "eventId": "0#a"},
    ),
    (
        "bedrock-agentcore",
        "create_event",
        {
            "memoryId": "m" * 12,
            "actorId": "a:u",
            "sessionId": "s",
            "eventTimestamp": datetime(2026, 1, 2, tzinfo=UTC),
            "payload": [{"conversational": {"content": {"text": "t"}, "role": "USER"}}],
        },
    ),
    ("bedrock-agentcore-control", "get_memory", {"memoryId": "m" * 12}),
    ("bedrock-agentcore-control", "list_agent_runtimes", {}),
]


@pytest.mark.parametrize(("service", "method", "params"), CALLS, ids=lambda v: v if isinstance(v, str) else "")
def test_a_clients_request_is_read_back_as_its_call(service: str, method: str, params: dict[str, Any]) -> None:
    request, signing_name = sent(service, method, params)
    operation = resolve(request, signing_name)
    read = parse(operation, request)
    assert operation.service == service
    assert operation.name.lower() == method.replace("_", "")
    assert {name: read.get(name) for name in params} == params


def json_request(target: str, body: bytes, path: str = "/") -> Request:
    headers = {"X-Amz-Target": target, "Content-Type": "application/x-amz-json-1.0"}
    return received("POST", f"http://127.0.0.1:5000{path}", headers, body)


def test_parameters_of_a_wrong_type_are_refused() -> None:
    request = json_request("DynamoDB_20120810.GetItem", b'{"TableName": 1, "Key": {}}')
    with pytest.raises(ServiceError) as refused:
        parse(resolve(request, "dynamodb"), request)
    assert refused.value.code == "ValidationException"
    for body in (b"[]", b'{"Key": [1], "TableName": "t"}', b'{"TableName": "t"}'):
        request = json_request("DynamoDB_20120810.GetItem", body)
        with pytest.raises(ServiceError):
            parse(resolve(request, "dynamodb"), request)


def test_an_unknown_operation_or_service_is_refused() -> None:
    for service, target in (("dynamodb", "Other.GetItem"), ("nosuch", "X.Y")):
        with pytest.raises(ServiceError, match="UnknownOperation"):
            resolve(json_request(target, b"{}"), service)
    assert find_operation("sts", "NoSuch") is None


def test_a_second_operation_in_the_query_is_refused() -> None:
    with pytest.raises(ServiceError, match="ValidationException"):
        resolve(json_request("DynamoDB_20120810.GetItem", b"{}", "/?Action=Scan"), "dynamodb")


def test_a_member_of_the_path_can_not_be_replaced_in_the_body() -> None:
    url = "http://127.0.0.1:5000/memories/mmmmmmmmmmmm/actor/acme/sessions/s"
    headers = {"Content-Type": "application/json"}
    with pytest.raises(ServiceError, match="ValidationException"):
        resolve(received("POST", url, headers, b'{"actorId": "globex"}'), "bedrock-agentcore")
    assert resolve(received("POST", url, headers, b"{}"), "bedrock-agentcore").name == "ListEvents"


@pytest.mark.parametrize(
    ("protocol", "content_type"),
    [
        ("json", "application/x-amz-json-1.0"),
        ("query", "text/xml"),
        ("rest-xml", "application/xml"),
    ],
)
def test_an_error_is_told_in_the_services_protocol(protocol: str, content_type: str) -> None:
    answer = refuse(protocol, ServiceError("AccessDenied", "a < b", 403))
    assert (answer.status_code, answer.mimetype) == (403, content_type)
    assert "AccessDenied" in answer.get_data(as_text=True)
    assert ("a &lt; b" in answer.get_data(as_text=True)) is (protocol != "json")


def test_a_result_is_told_in_the_services_protocol() -> None:
    operation = find_operation("bedrock-agentcore", "ListSessions")
    assert operation is not None
    at = datetime(2026, 1, 2, tzinfo=UTC)
    summary = {"sessionId": "s", "actorId": "a", "createdAt": at}
    answer = respond(operation, {"sessionSummaries": [summary]})
    assert answer.get_json()["sessionSummaries"][0]["createdAt"] == at.timestamp()
    sts = find_operation("sts", "GetCallerIdentity")
    assert sts is not None
    body = respond(sts, {"Account": "1"}).get_data(as_text=True)
    assert "<GetCallerIdentityResult><Account>1</Account></GetCallerIdentityResult>" in body
    assert "<ResponseMetadata>" in body

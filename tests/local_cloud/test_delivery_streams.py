"""Firehose in the local cloud: partitioned by what records hold, written in the stream's role and not without it."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from .local_stacks import Operator, operator, role, values

PREFIX = "usage/day=!{partitionKeyFromQuery:day}/"
ERRORS = "errors/!{firehose:error-output-type}/!{timestamp:yyyy-MM-dd}/"


@pytest.fixture(scope="module")
def running() -> Iterator[Operator]:
    with operator() as found:
        yield found


def resources(action: str = "s3:PutObject", service: str = "firehose.amazonaws.com") -> dict[str, Any]:
    policy = {"Effect": "Allow", "Action": action, "Resource": {"Fn::Sub": "${Bucket.Arn}/*"}}
    document = {"Version": "2012-10-17", "Statement": [policy]}
    parameters = {"MetadataExtractionQuery": "{day:.day}", "JsonParsingEngine": "JQ-1.6"}
    processor = {
        "Type": "MetadataExtraction",
        "Parameters": [{"ParameterName": name, "ParameterValue": value} for name, value in parameters.items()],
    }
    return {
        "Bucket": {"Type": "AWS::S3::Bucket"},
        "Role": role(service, Policies=[{"PolicyName": "deliver", "PolicyDocument": document}]),
        "Stream": {
            "Type": "AWS::KinesisFirehose::DeliveryStream",
            "Properties": {
                "ExtendedS3DestinationConfiguration": {
                    "BucketARN": {"Fn::GetAtt": ["Bucket", "Arn"]},
                    "RoleARN": {"Fn::GetAtt": ["Role", "Arn"]},
                    "Prefix": PREFIX,
                    "ErrorOutputPrefix": ERRORS,
                    "ProcessingConfiguration": {"Enabled": True, "Processors": [processor]},
                }
            },
        },
    }


def deployed(running: Operator, name: str, **changes: str) -> tuple[Any, str, str]:
    """A client of Firehose, the stream's name and the bucket's."""
    outputs = values(Stream={"Ref": "Stream"}, Bucket={"Ref": "Bucket"})
    found = running.create(name, resources(**changes), Outputs=outputs)
    return running.cloud.operator_session().client("firehose"), found["Stream"], found["Bucket"]


def put(client: Any, stream: str, *records: bytes) -> dict[str, Any]:
    answer: dict[str, Any] = client.put_record_batch(
        DeliveryStreamName=stream, Records=[{"Data": record} for record in records]
    )
    return answer


def test_records_go_below_their_own_day_and_what_has_none_below_errors(running: Operator) -> None:
    client, stream, bucket = deployed(running, "partitioned")
    days = ("2026-11-24", "2026-11-25", "2026-11-24")
    records = [json.dumps({"day": day, "number": number}).encode() + b"\n" for number, day in enumerate(days)]
    answer = put(client, stream, *records, b"{}\n", b"no JSON\n")
    assert (answer["FailedPutCount"], len(answer["RequestResponses"])) == (0, 5)
    found: dict[str, bytes] = {}
    for entry in running.s3.list_objects_v2(Bucket=bucket)["Contents"]:
        folder = entry["Key"].rpartition("/")[0]
        found[folder] = running.s3.get_object(Bucket=bucket, Key=entry["Key"])["Body"].read()
    errors = found.pop(next(folder for folder in found if folder.startswith("errors/dynamic-partitioning-failed/20")))
    assert errors == b"{}\nno JSON\n"
    assert found == {"usage/day=2026-11-24": records[0] + records[2], "usage/day=2026-11-25": records[1]}


@pytest.mark.parametrize(
    ("name", "changes"),
    [("no-permission", {"action": "s3:GetObject"}), ("no-trust", {"service": "lambda.amazonaws.com"})],
)
def test_the_streams_own_role_decides(running: Operator, name: str, changes: dict[str, str]) -> None:
    client, stream, bucket = deployed(running, name, **changes)
    with pytest.raises(ClientError, match="AccessDenied"):
        put(client, stream, b'{"day":"2026-11-24"}\n')
    assert "Contents" not in running.s3.list_objects_v2(Bucket=bucket)


def test_a_stream_that_is_not_there_and_too_many_records_are_refused(running: Operator) -> None:
    client, stream, _ = deployed(running, "limits")
    with pytest.raises(ClientError, match="ResourceNotFoundException"):
        put(client, "nowhere", b"{}")
    with pytest.raises(ClientError, match="Member must have length|exceeds 500|Invalid"):
        put(client, stream, *[b"{}"] * 501)

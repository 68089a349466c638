"""Stacks in a running local cloud, made as an operator makes them."""

import io
import json
import time
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from local.cloud import LocalCloud

REGION = "eu-central-1"


class Operator:
    """The operator's clients of a local cloud, and short ways to make stacks with them."""

    def __init__(self, cloud: LocalCloud) -> None:
        self.cloud = cloud
        session = cloud.operator_session()
        self.cloudformation = session.client("cloudformation")
        self.cognito = session.client("cognito-idp")
        self.control = session.client("bedrock-agentcore-control")
        self.dynamodb = session.client("dynamodb")
        self.iam = session.client("iam")
        self.functions = session.client("lambda")
        self.logs = session.client("logs")
        self.queues = session.client("sqs")
        self.s3 = session.client("s3")

    @staticmethod
    def now() -> int:
        """The time in milliseconds."""
        return int(time.time() * 1000)

    def create(self, name: str, resources: Mapping[str, Any], **sections: Any) -> dict[str, str]:
        """A stack of these resources; its outputs."""
        self.cloudformation.create_stack(
            StackName=name,
            TemplateBody=template(resources, **sections),
            Capabilities=["CAPABILITY_NAMED_IAM"],
        )
        return self.outputs(name)

    def update(self, name: str, resources: Mapping[str, Any], **sections: Any) -> dict[str, str]:
        """The stack with these resources; its outputs."""
        self.cloudformation.update_stack(
            StackName=name,
            TemplateBody=template(resources, **sections),
            Capabilities=["CAPABILITY_NAMED_IAM"],
        )
        return self.outputs(name)

    def stack(self, name: str) -> dict[str, Any]:
        stack: dict[str, Any] = self.cloudformation.describe_stacks(StackName=name)["Stacks"][0]
        return stack

    def outputs(self, name: str) -> dict[str, str]:
        return {o["OutputKey"]: o["OutputValue"] for o in self.stack(name).get("Outputs", [])}

    def status(self, name: str) -> str:
        return str(self.stack(name)["StackStatus"])

    def upload(self, bucket: str, *keys: str) -> None:
        """A bucket with a small zip under each key."""
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w") as zipped:
            zipped.writestr("main.py", "")
        configuration = {"LocationConstraint": REGION}
        self.s3.create_bucket(Bucket=bucket, CreateBucketConfiguration=configuration)
        for key in keys:
            self.s3.put_object(Bucket=bucket, Key=key, Body=archive.getvalue() + key.encode())


@contextmanager
def operator() -> Iterator[Operator]:
    """The operator of a local cloud of its own, without an agent."""
    with LocalCloud(REGION, agent=False) as cloud:
        yield Operator(cloud)


def template(resources: Mapping[str, Any], **sections: Any) -> str:
    return json.dumps({"Resources": resources, **sections})


def values(**outputs: Any) -> dict[str, Any]:
    """Outputs of a template."""
    return {name: {"Value": value} for name, value in outputs.items()}


def role(service: str, **properties: Any) -> dict[str, Any]:
    """A role that the service may act in."""
    trust = {"Effect": "Allow", "Principal": {"Service": service}, "Action": "sts:AssumeRole"}
    document = {"Version": "2012-10-17", "Statement": [trust]}
    return {
        "Type": "AWS::IAM::Role",
        "Properties": {"AssumeRolePolicyDocument": document, **properties},
    }


def function(bucket: str, answer: str, **properties: Any) -> dict[str, Any]:
    """The stand-in function, in the role `FunctionRole` of the same stack."""
    return {
        "Type": "AWS::Lambda::Function",
        "Properties": {
            "Runtime": "python3.13",
            "Handler": "tests.local_cloud.stand_in_function.handler",
            "Role": {"Fn::GetAtt": ["FunctionRole", "Arn"]},
            "Code": {"S3Bucket": bucket, "S3Key": "code.zip"},
            "Environment": {"Variables": {"ANSWER": answer}},
            **properties,
        },
    }

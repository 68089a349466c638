"""A gate on a loopback port with the resources and roles that its tests call on."""

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import boto3
from botocore.config import Config

from local.authorization import Credentials, Decision, DecisionLog
from local.gate import Gate

ACCOUNT = "123456789012"
REGION = "us-east-1"
OPERATOR = Credentials("AKIAOPERATOR00000000", "operator-secret-of-this-test")
_SESSION = boto3.Session()
_ONCE = Config(retries={"total_max_attempts": 1})


class LocalGate:
    """The gate, where it listens, and clients for it."""

    def __init__(self, gate: Gate, port: int) -> None:
        self.gate = gate
        self.endpoint = f"http://127.0.0.1:{port}"

    def client(self, service: str, credentials: Mapping[str, Any], **config: Any) -> Any:
        """A client that signs with these credentials, in the shape of STS, and does not retry."""
        return _SESSION.client(
            service,
            region_name=REGION,
            endpoint_url=self.endpoint,
            aws_access_key_id=credentials["AccessKeyId"],
            aws_secret_access_key=credentials["SecretAccessKey"],
            aws_session_token=credentials.get("SessionToken"),
            config=_ONCE.merge(Config(**config)),
        )

    def operator(self, service: str) -> Any:
        return self.client(
            service,
            {
                "AccessKeyId": OPERATOR.access_key_id,
                "SecretAccessKey": OPERATOR.secret_access_key,
            },
        )

    def create_role(self, name: str, trust: Any, policy: Any = None) -> str:
        """A role with one statement or several on each side; its ARN."""
        iam = self.operator("iam")
        role = iam.create_role(RoleName=name, AssumeRolePolicyDocument=document(trust))
        if policy is not None:
            iam.put_role_policy(RoleName=name, PolicyName="own", PolicyDocument=document(policy))
        return str(role["Role"]["Arn"])

    def decisions_since(self, position: int) -> list[Decision]:
        return self.gate.decisions.since(position)


def document(statements: Any) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": statements})


@contextmanager
def local_gate() -> Iterator[LocalGate]:
    """A running gate in front of moto."""
    gate = Gate(account=ACCOUNT, region=REGION, operator=OPERATOR, decisions=DecisionLog())
    server = gate.server()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield LocalGate(gate, server.port)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

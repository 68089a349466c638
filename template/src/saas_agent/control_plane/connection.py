"""Where the platform is, on AWS or in the local cloud, and what its stack says of its resources."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    EndpointConnectionError,
    NoCredentialsError,
)

from saas_agent import configuration
from saas_agent.control_plane.errors import ControlPlaneError

LOCAL_STAGE = "local"

_LOCAL_VARIABLES = ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION")
_EXPIRED = {"ExpiredToken", "ExpiredTokenException", "RequestExpired"}
_NOT_KNOWN = {"UnrecognizedClientException", "InvalidClientTokenId", "AuthFailure"}
# What AWS says about a signature quotes the request's headers, a session token among them.
_SIGNATURE = {"SignatureDoesNotMatch", "InvalidSignatureException", "IncompleteSignature"}


@dataclass(frozen=True)
class Connection:
    """A session with the platform of one stage."""

    session: boto3.Session
    service: str
    stage: str
    endpoint_url: str | None = None

    @property
    def local(self) -> bool:
        """True for the local cloud."""
        return self.endpoint_url is not None

    def client(self, name: str) -> Any:
        """A boto3 client of this platform."""
        if self.endpoint_url is None:
            return self.session.client(name)
        # A proxy could not reach this machine's loopback address.
        return self.session.client(name, endpoint_url=self.endpoint_url, config=Config(proxies={}))

    def output(self, key: str) -> str:
        """An output of the platform stack; ControlPlaneError where stack or output is missing."""
        if key in self.outputs:
            return self.outputs[key]
        raise ControlPlaneError(
            f"stack {self._stack} has no output {key}; "
            f"expected what infra/platform.yaml puts there; {self._deploy} again"
        )

    @property
    def api_url(self) -> str:
        """Where the admin API is."""
        self.output("ApiUrl")
        return api_url(self.outputs, self.endpoint_url)

    @property
    def _stack(self) -> str:
        return f"{self.service}-{self.stage}-platform"

    @property
    def _deploy(self) -> str:
        return "start `make serve`" if self.local else f"run `make deploy STAGE={self.stage}`"

    @cached_property
    def outputs(self) -> Mapping[str, str]:
        """The platform stack's outputs; ControlPlaneError where the stack is not there."""
        try:
            answer = self.client("cloudformation").describe_stacks(StackName=self._stack)
        except ClientError as error:
            if "does not exist" not in error.response["Error"].get("Message", ""):
                raise
            raise ControlPlaneError(
                f"stack {self._stack} is not in {self.session.region_name}; "
                f"expected the platform of stage {self.stage!r}; {self._deploy}"
            ) from None
        outputs = answer["Stacks"][0].get("Outputs", [])
        return {output["OutputKey"]: output["OutputValue"] for output in outputs}


def api_url(outputs: Mapping[str, str], endpoint_url: str | None) -> str:
    """Where the API of a platform with these outputs is. `endpoint_url`: AWS's; plain HTTP is the local cloud's."""
    url = outputs["ApiUrl"]
    if endpoint_url is None or not endpoint_url.startswith("http://"):
        return url
    host, _, stage = url.removeprefix("https://").partition("/")
    return f"{endpoint_url}/execute-api/{host.partition('.')[0]}/{stage}"


def connect(service: str, region: str, stage: str) -> Connection:
    """The platform of a stage on AWS, with the credentials that the environment provides."""
    return Connection(boto3.Session(region_name=region), service, stage)


def connect_local(service: str) -> Connection:
    """The local cloud that `make serve` keeps running; ControlPlaneError where there is none."""
    variables = read_local_environment(configuration.find("placement.toml").parent)
    session = boto3.Session(
        aws_access_key_id=variables["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=variables["AWS_SECRET_ACCESS_KEY"],
        region_name=variables["AWS_REGION"],
    )
    return Connection(session, service, LOCAL_STAGE, variables["AWS_ENDPOINT_URL"])


def read_local_environment(root: Path) -> dict[str, str]:
    """What a running `make serve` wrote to `.local/environment`: lines KEY=VALUE."""
    path = root / ".local" / "environment"
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise ControlPlaneError("no local cloud is running; expected .local/environment; start `make serve`") from None
    variables = dict(line.split("=", 1) for line in lines if "=" in line)
    for name in _LOCAL_VARIABLES:
        if not variables.get(name):
            raise ControlPlaneError(f".local/environment lacks {name}; expected what `make serve` writes; restart it")
    return variables


def explain(error: ClientError | BotoCoreError) -> str:
    """An error of AWS or of the way there, in one line for an operator."""
    if isinstance(error, NoCredentialsError):
        return (
            "no AWS credentials were found; expected a profile or environment variables; "
            "sign in and set AWS_PROFILE, or use the local cloud"
        )
    if isinstance(error, EndpointConnectionError):
        return f"{_one_line(str(error))}; check the network, or start `make serve` for --local"
    if isinstance(error, ClientError):
        return _explain_answer(error)
    return f"{_one_line(str(error))}; check the AWS configuration"


def _explain_answer(error: ClientError) -> str:
    code = error.response["Error"].get("Code", "unknown error")
    message = _one_line(error.response["Error"].get("Message", ""))
    if code.startswith("AccessDenied") or code in (
        "NotAuthorizedException",
        "UnauthorizedOperation",
    ):
        return f"AWS denied {error.operation_name}: {message}; use an operator's credentials"
    if code in _EXPIRED:
        return f"the AWS credentials have expired ({error.operation_name}); sign in again"
    if code in _NOT_KNOWN | _SIGNATURE:
        return (
            f"AWS does not accept these credentials ({error.operation_name}: {code}); "
            "expected those of the platform's account; sign in again, or restart `make serve`"
        )
    return f"{error.operation_name} failed with {code}: {message}; mend it and repeat the command"


def _one_line(text: str) -> str:
    return " ".join(text.split()).rstrip(".")

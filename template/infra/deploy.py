"""The way of code and templates to a stage: on AWS and in the local cloud by the same calls."""

import argparse
import hashlib
import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import boto3
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    EndpointConnectionError,
    NoCredentialsError,
    NoRegionError,
    PartialCredentialsError,
    ProfileNotFound,
)

from infra.models import model_resources
from infra.package import Package, PackageError, Packages, build
from infra.progress import Progress, progress_on
from infra.stacks import Change, StackError, bring, one_line, standing_output, standing_parameter
from saas_agent import configuration
from saas_agent.control_plane.errors import ControlPlaneError
from saas_agent.control_plane.identity import open_identity
from saas_agent.control_plane.registry import Registry, require_in_place
from saas_agent.errors import ConfigurationError
from saas_agent.metering.subscription import set_up_log_group
from saas_agent.tenancy.placement import load_placement
from saas_agent.tenancy.tiers import load_tiers

_FOLDER = Path(__file__).resolve().parent
PLATFORM = _FOLDER / "platform.yaml"
_ARTIFACTS = _FOLDER / "artifacts.yaml"
# What onboarding deploys for a tenant; none where tenants share everything.
_TENANT_TEMPLATES = sorted(_FOLDER.glob("tenant*.yaml"))

_LOCAL_STAGE = "local"
_STAGE = re.compile(r"[a-z][a-z0-9]{1,9}")  # as the parameter Stage of the stacks
_EXPIRED = {"ExpiredToken", "ExpiredTokenException", "RequestExpired", "TokenRefreshRequired"}
_UNKNOWN = {"AuthFailure", "InvalidClientTokenId", "UnrecognizedClientException"}
# AWS quotes the request's headers in these, a session token among them.
_SIGNATURE = {"IncompleteSignature", "InvalidSignatureException", "SignatureDoesNotMatch"}


class DeployError(Exception):
    """The stage was not deployed. One line: what was wrong, what was expected, what to do."""


def deploy(
    session: boto3.Session,
    *,
    stage: str,
    packages: Packages,
    confirm: Callable[[list[Change]], bool],
    progress: Progress,
    service: str,
    region: str,
    settings: Mapping[str, str] | None = None,
    template: Path = PLATFORM,
) -> dict[str, str]:
    """Brings a stage to these packages and templates; the platform stack's outputs.

    `confirm` sees each stack's changes before they are made; it is not asked where nothing changes.
    `settings` are parameters of the platform (`StsToken`, `GuardrailId`, ...); what is not given
    stays as it was. `Tracing` is what the packages were built for, whatever they say.

    Raises:
        DeployError: the stage is as it was before.
    """
    with _in_one_line(region):
        caller = session.client("sts", region_name=region).get_caller_identity()
        cloudformation = session.client("cloudformation", region_name=region)
        if registry := standing_output(cloudformation, _platform_stack(service, stage), "RegistryTable"):
            progress.event("Looking where tenants have their data")
            for record in Registry(session.client("dynamodb", region_name=region), registry).records():
                require_in_place(record, load_placement(), record.tier)
        tags = {"service": service, "stage": stage}
        names = {"Service": service, "Stage": stage}
        artifacts = bring(
            cloudformation,
            f"{service}-{stage}-artifacts",
            _ARTIFACTS.read_text(encoding="utf-8"),
            names,
            tags=tags,
            confirm=confirm,
            progress=progress,
        )
        bucket = artifacts.outputs["BucketName"]
        s3 = session.client("s3", region_name=region)
        for package in (packages.runtime, packages.functions):
            _upload(s3, bucket, package, progress)
        models = model_resources(
            (tier.model for tier in load_tiers().values()),
            partition=caller["Arn"].split(":")[1],
            region=region,
            account=caller["Account"],
        )
        platform = bring(
            cloudformation,
            _platform_stack(service, stage),
            _put_template(s3, bucket, region, with_snapshot(template.read_text(encoding="utf-8"))),
            {
                **(settings or {}),
                **names,
                "ArtifactsBucket": bucket,
                "RuntimeKey": packages.runtime.key,
                "FunctionsKey": packages.functions.key,
                "ModelResources": ",".join(models),
                "Tracing": packages.tracing,
            },
            tags=tags,
            confirm=confirm,
            progress=progress,
        )
        for name, value in (settings or {}).items():
            if name != "Tracing" and platform.parameters.get(name) != value:
                raise DeployError(
                    f"{name} is still {platform.parameters.get(name)!r}: CloudFormation saw no change in it; expected "
                    f"{value!r}; deploy it together with another change"
                )
        for path in _TENANT_TEMPLATES:
            text = stamped(path.read_text(encoding="utf-8"), platform.outputs)
            s3.put_object(Bucket=bucket, Key=f"templates/{path.name}", Body=text.encode())
        if "HubDomain" in platform.outputs:
            # An update of the hub's client has reset the list of tenants' pools, which is in no template.
            open_identity(partial(session.client, region_name=region), platform.outputs.__getitem__).settle()
        if group := platform.outputs.get("RuntimeLogGroup"):
            set_up_log_group(
                session.client("logs", region_name=region),
                group,
                days=int(platform.parameters["LogRetentionDays"]),
                ledger=platform.outputs["LedgerFunctionArn"],
            )
        return platform.outputs


def _platform_stack(service: str, stage: str) -> str:
    return f"{service}-{stage}-platform"


def stamped(template: str, outputs: Mapping[str, str]) -> str:
    """A template of tenants' stacks, its mappings filled in with the platform's outputs of the same names.

    CloudFormation would let an export be imported, but not be changed while it is; and a stack's parameters would leave
    it to whoever makes the stack to name the platform's resources.

    Raises:
        DeployError: the platform puts out no such value.
    """
    before, mappings, after = re.split(r"(?ms)^(Mappings:\n.*?)(?=^\S)", template, maxsplit=1)

    def value(line: re.Match[str]) -> str:
        if line[2] not in outputs:
            raise DeployError(
                f"the platform's stack has no output {line[2]}, which the tenants' template needs; expected both from "
                "the same version of this repository; run `copier update` to restore infra/"
            )
        return f"{line[1]}{line[2]}: {json.dumps(outputs[line[2]])}"

    return before + re.sub(r"(?m)^( {6})(\w+): .*$", value, mappings) + after


def with_snapshot(template: str) -> str:
    """The template, with the API's deployment named after the API's definition.

    CloudFormation makes a new snapshot of an API only for a deployment that is new by its name; under the same name the
    stage goes on with the former definition (CloudFormation, AWS::ApiGateway::Deployment).
    """
    definition = re.search(r"(?ms)^  Api:\n.*?(?=^  \S)", template)
    if definition is None:
        return template
    digest = hashlib.sha256(definition[0].encode()).hexdigest()[:8]
    return re.sub(r"\bApiDeployment\b", f"ApiDeployment{digest}", template)


def _put_template(s3: Any, bucket: str, region: str, template: str) -> str:
    """Uploads a template, which may be larger than a request; where CloudFormation finds it."""
    key = f"templates/{hashlib.sha256(template.encode()).hexdigest()}.yaml"
    if not _is_there(s3, bucket, key):
        s3.put_object(Bucket=bucket, Key=key, Body=template.encode())
    return f"https://{bucket}.s3.{region}.amazonaws.com/{key}"


def _upload(s3: Any, bucket: str, package: Package, progress: Progress) -> None:
    if _is_there(s3, bucket, package.key):
        return
    progress.event(f"Uploading {package.name}.zip, {len(package.content) / 1e6:.1f} MB")
    s3.put_object(Bucket=bucket, Key=package.key, Body=package.content)
    progress.say(f"Uploaded {package.name}.zip")


def _is_there(s3: Any, bucket: str, key: str) -> bool:
    """The key tells the content, so what is there needs no second upload."""
    try:
        s3.head_object(Bucket=bucket, Key=key)
    except ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] != 404:
            raise
        return False
    return True


@contextmanager
def _in_one_line(region: str) -> Iterator[None]:
    try:
        yield
    except (StackError, ConfigurationError, ControlPlaneError, ValueError) as error:
        raise DeployError(str(error)) from error
    except (NoCredentialsError, PartialCredentialsError, ProfileNotFound) as error:
        raise DeployError(
            f"{one_line(str(error))}; expected AWS credentials in the environment; sign in, or set AWS_PROFILE"
        ) from error
    except (EndpointConnectionError, NoRegionError) as error:
        raise DeployError(
            f"{one_line(str(error))}; expected a Region of your account and a network; "
            f"give another --region than {region}"
        ) from error
    except ClientError as error:
        raise DeployError(_explained(error)) from None
    except BotoCoreError as error:
        raise DeployError(f"{one_line(str(error))}; check the AWS configuration") from error


def _explained(error: ClientError) -> str:
    code = str(error.response["Error"].get("Code", "unknown error"))
    if code in _EXPIRED:
        return f"the AWS credentials have expired ({error.operation_name}); sign in again"
    if code in _UNKNOWN | _SIGNATURE:
        return (
            f"AWS does not accept these credentials ({error.operation_name}: {code}); expected "
            "those of the stage's account; sign in again"
        )
    message = one_line(str(error.response["Error"].get("Message", "")))
    if code.startswith("AccessDenied") or code in ("403", "UnauthorizedOperation"):
        return (
            f"AWS denied {error.operation_name}: {message}; expected credentials that may do this; "
            "use another AWS_PROFILE, or have the permission granted"
        )
    return f"{error.operation_name} failed with {code}: {message}; deploy again when it is mended"


def main(arguments: list[str] | None = None) -> int:
    """Deploys a stage.

    Exit status 0 when it stands, 1 and one line when it doesn't, 130 when interrupted.
    """
    options = _parser().parse_args(arguments)
    progress = progress_on(sys.stderr)
    try:
        outputs = _deploy_stage(options, progress)
    except (DeployError, PackageError, ConfigurationError) as error:
        progress.close()
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        progress.close()
        print(
            "interrupted: a change that was under way goes on by itself; deploy again to see it",
            file=sys.stderr,
        )
        return 130
    progress.close()
    for key, value in sorted(outputs.items()):
        print(f"{key:20} {value}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m infra.deploy", description="Deploy a stage to AWS.")
    parser.add_argument("--stage", default="dev", help="2 to 10 lower-case letters and digits (default: dev)")
    parser.add_argument("--region", help="default: the Region of placement.toml")
    parser.add_argument("--yes", action="store_true", help="make the changes without asking")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a parameter of infra/platform.yaml; it keeps its value in later deployments",
    )
    return parser


def _deploy_stage(options: argparse.Namespace, progress: Progress) -> dict[str, str]:
    if options.stage == _LOCAL_STAGE:
        raise DeployError("stage local is the local cloud's; expected another name; `make serve` runs that one")
    if not _STAGE.fullmatch(options.stage):
        raise DeployError(f"stage {options.stage!r}: expected 2 to 10 lower-case letters and digits, a letter first")
    settings = dict(_setting(text) for text in options.set)
    service = configuration.load("placement.toml")["service"]
    region = options.region or service["region"]
    session = _operators_session(region)
    progress.event("Packaging the code")
    packages = build(tracing=settings.get("Tracing") or _tracing(session, service["name"], options.stage, region))
    progress.say(f"Deploying {service['name']}, stage {options.stage}, to {region}")
    return deploy(
        session,
        stage=options.stage,
        packages=packages,
        confirm=(lambda changes: _shown(changes, progress))
        if options.yes
        else (lambda changes: _agreed(changes, progress)),
        progress=progress,
        service=service["name"],
        region=region,
        settings=settings,
    )


def _operators_session(region: str) -> boto3.Session:
    """A session that AWS knows: better learnt now than after the dependencies were fetched."""
    with _in_one_line(region):
        session = boto3.Session(region_name=region)
        session.client("sts").get_caller_identity()
    return session


def _tracing(session: boto3.Session, service: str, stage: str, region: str) -> str:
    """How the stage's traces leave it now: the code has to be packaged for that before the stack is brought to it."""
    with _in_one_line(region):
        cloudformation = session.client("cloudformation", region_name=region)
        return standing_parameter(cloudformation, _platform_stack(service, stage), "Tracing") or "none"


def _setting(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise DeployError(f"--set {text}: expected NAME=VALUE, such as --set StsToken=id")
    return name, value


def _shown(changes: list[Change], progress: Progress) -> bool:
    for line in table(changes):
        progress.say(line)
    return True


def _agreed(changes: list[Change], progress: Progress) -> bool:
    _shown(changes, progress)
    if not sys.stdin.isatty():
        raise DeployError("nobody can be asked here; expected a terminal; pass --yes to deploy without asking")
    return input("Make these changes? [y/N] ").strip().lower() in ("y", "yes")


def table(changes: list[Change]) -> list[str]:
    """The changes as lines of aligned columns."""
    rows = [("Action", "Resource", "Type", "Replacement")]
    rows += [(change.action, change.logical_id, change.type, change.replacement) for change in changes]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


if __name__ == "__main__":
    sys.exit(main())

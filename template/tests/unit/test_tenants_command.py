"""The `tenants` command: exit status 0 or 1, one line where it refuses, and never a traceback."""

import json
import re
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from moto import mock_aws

from saas_agent import configuration
from saas_agent.control_plane import cli, connection
from saas_agent.control_plane.client import AdminClient
from saas_agent.control_plane.errors import ControlPlaneError, NotFound
from saas_agent.control_plane.progress import waiting
from saas_agent.control_plane.registry import TenantRecord
from saas_agent.control_plane.states import Status
from saas_agent.metering import usage
from saas_agent.metering.ledger import LedgerWriter, entry_of, rejected
from saas_agent.metering.rates import RUNTIME, OperationRate, RateCard, parse_rates
from saas_agent.metering.record import read
from saas_agent.metering.usage import Meter
from saas_agent.tenancy.placement import load_placement

TIER = "basic"
SERVICES = ("dynamodb", "sqs", "lambda", "cloudformation")

Run = Callable[..., tuple[int, str, str]]


def template(**outputs: str) -> str:
    return json.dumps(
        {
            "Resources": {"Topic": {"Type": "AWS::SNS::Topic"}},
            "Outputs": {key: {"Value": value} for key, value in outputs.items()},
        }
    )


@pytest.fixture
def session(monkeypatch: pytest.MonkeyPatch) -> Iterator[boto3.Session]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    with mock_aws():
        yield boto3.Session(region_name=load_placement().region)


@pytest.fixture(scope="module")
def clients() -> dict[str, Any]:
    """Made once: making a client takes longer than most of these tests."""
    session = boto3.Session("test", "test", region_name=load_placement().region)
    return {name: session.client(name) for name in SERVICES}


@pytest.fixture
def platform(clients: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """The dev stage's platform stack, as far as the command looks at it, and one tenant, acme."""
    monkeypatch.setattr(connection.Connection, "client", lambda _, name: clients[name])
    monkeypatch.setattr(AdminClient, "show", show)
    # The runtime's time has a price, and a bill is by the card as it stands: a slow machine would be on it.
    monkeypatch.setattr(usage, "_milliseconds_since", lambda _: 0)
    with mock_aws():
        clients["dynamodb"].create_table(
            TableName="ledger",
            BillingMode="PAY_PER_REQUEST",
            KeySchema=[
                {"AttributeName": "pk", "KeyType": "HASH"},
                {"AttributeName": "sk", "KeyType": "RANGE"},
            ],
            AttributeDefinitions=[
                {"AttributeName": "pk", "AttributeType": "S"},
                {"AttributeName": "sk", "AttributeType": "S"},
            ],
        )
        clients["sqs"].create_queue(QueueName="dead-letters")
        clients["cloudformation"].create_stack(
            StackName=f"{load_placement().service}-dev-platform",
            TemplateBody=template(
                ApiUrl="https://abc.execute-api.eu-central-1.amazonaws.com/v1",
                LedgerTable="ledger",
                LedgerDeadLetters="https://sqs.example/123456789012/dead-letters",
                LedgerFunctionArn="ledger",
            ),
        )
        yield clients


def show(_: AdminClient, tenant_id: str) -> TenantRecord:
    if tenant_id != "acme":
        raise NotFound(f"there is no tenant {tenant_id}; expected one of `tenants list`; onboard it first")
    return TenantRecord("acme", Status.ACTIVE, TIER, "Acme", "ann@acme.example", "", "", 1)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*arguments: str) -> tuple[int, str, str]:
        status = cli.main(arguments)
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


def assert_refused(result: tuple[int, str, str], says: str) -> None:
    status, out, err = result
    assert (status, out) == (1, "")
    # A slow machine is told what takes so long.
    [said] = [line for line in err.splitlines() if not re.search(r" \.\.\. \d+ s$", line)]
    assert said.startswith("tenants: ")
    assert says in said
    assert "Traceback" not in err


@pytest.mark.parametrize("command", ["usage", "bill"])
def test_an_unknown_tenant_and_what_is_no_month_are_refused(platform: dict[str, Any], run: Run, command: str) -> None:
    assert_refused(run(command, "globex"), "there is no tenant globex")
    assert_refused(run(command, "--month", "2026-13"), "is no month")


def test_usage_is_what_the_meter_wrote(platform: dict[str, Any], run: Run) -> None:
    count(platform, "acme", "acme2")
    status, out, _ = run("usage", "acme", "--output", "json")
    report = json.loads(out)
    assert status == 0
    (row,) = report["rows"]
    assert (row["tenant_id"], row["invocations"], row["model_calls"]) == ("acme", 1, 2)
    assert (row["input_tokens"], row["cost_usd"], row["unpriced"]) == (1_000_001, "0.06", 1)
    status, out, _ = run("usage")
    assert status == 0
    assert [line.split()[0] for line in out.splitlines()[:3]] == ["tenant", "acme", "acme2"]
    assert "2 records have no price: the cost is a lower bound." in out
    assert run("usage", "--month", "2020-01")[1] == "Nothing was used in 2020-01.\n"
    for option in (("--tier", "another"), ("--feature", "another")):
        assert run("usage", *option)[1].startswith("Nothing was used")
    assert run("usage", "--tier", TIER, "--feature", "conversation")[1] == out


def test_a_tenant_that_used_nothing_and_one_that_there_never_was(platform: dict[str, Any], run: Run) -> None:
    assert run("usage", "acme")[1].startswith("Nothing was used")


def test_a_bill_shows_what_it_is_made_of_and_which_prices_applied(platform: dict[str, Any], run: Run) -> None:
    count(platform, "acme")
    status, out, _ = run("bill", "acme", "--prices")
    assert status == 0
    assert "Total 0.06 USD (0.06), an estimate by rates.toml." in out
    assert "1 calls have no price and are not in the total." in out
    assert "0.06 input" in out and "no price" in out
    drawn = json.loads(run("bill", "acme", "--output", "json")[1])
    prices = {line["name"]: (line["priced_from"], line["prices"].get("input")) for line in drawn["lines"]}
    assert prices["amazon.nova-lite-v1:0"] == ("2024-12-03", "0.06")
    assert prices["unheard-of"] == (None, None)
    assert (drawn["total_usd"], drawn["unpriced"]) == ("0.06", 1)


def test_the_providers_bill_is_compared(platform: dict[str, Any], run: Run, tmp_path: Path) -> None:
    count(platform, "acme")
    export = tmp_path / "bill.csv"
    export.write_text("tenant_id,cost_usd\nacme,0.066\n", encoding="utf-8")
    assert run("reconcile", str(export))[1].splitlines()[1].split() == ["acme", "0.06", "0.066", "10.0"]
    assert_refused(run("reconcile", str(tmp_path / "none.csv")), "No such file")


def test_lines_that_were_no_good_are_said(platform: dict[str, Any], run: Run) -> None:
    writer = LedgerWriter(platform["dynamodb"], "ledger")
    writer.record([rejected("1", datetime.now(UTC), "json")])
    assert "not counted: 1 for json." in run("usage")[1]


def test_redrive_says_what_came_back(platform: dict[str, Any], run: Run) -> None:
    assert run("redrive")[1] == "0 events were counted; 0 failed again and stay in the queue.\n"


def test_a_stage_that_is_not_deployed_is_refused(platform: dict[str, Any], run: Run) -> None:
    assert_refused(run("list", "--stage", "prod"), "run `make deploy STAGE=prod`")


def test_a_stack_that_lacks_an_output_is_refused(session: boto3.Session, run: Run) -> None:
    session.client("cloudformation").create_stack(
        StackName=f"{load_placement().service}-dev-platform",
        TemplateBody=template(Other="x"),
    )
    assert_refused(run("list"), "has no output ApiUrl")


def test_missing_credentials_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, run: Run) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    assert_refused(run("list"), "no AWS credentials were found")


def test_a_profile_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, run: Run) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    assert_refused(run("list"), "nobody")


@pytest.mark.parametrize(
    ("code", "message", "says"),
    [
        (
            "AccessDeniedException",
            "User: u is not\nauthorized",
            "AWS denied GetItem: User: u is not",
        ),
        ("AccessDenied", "no", "AWS denied GetItem"),
        ("ExpiredTokenException", "expired", "have expired"),
        ("UnrecognizedClientException", "The security token is off", "does not accept"),
        (
            "ThrottlingException",
            "Slow down.",
            "GetItem failed with ThrottlingException: Slow down;",
        ),
    ],
)
def test_an_error_of_aws_is_one_line(
    platform: dict[str, Any],
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
    code: str,
    message: str,
    says: str,
) -> None:
    fail(monkeypatch, ClientError({"Error": {"Code": code, "Message": message}}, "GetItem"))
    assert_refused(run("show", "acme"), says)


def test_what_aws_quotes_of_a_signed_request_is_not_shown(
    platform: dict[str, Any], run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    message = "the canonical string was x-amz-security-token:SECRET"
    error = {"Error": {"Code": "SignatureDoesNotMatch", "Message": message}}
    fail(monkeypatch, ClientError(error, "GetItem"))
    result = run("show", "acme")
    assert_refused(result, "does not accept these credentials")
    assert "SECRET" not in result[2]


def test_an_interruption_is_one_line(platform: dict[str, Any], run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    fail(monkeypatch, KeyboardInterrupt())
    assert_refused(run("show", "acme"), "interrupted; repeat the command")


@pytest.mark.parametrize("arguments", [(), ("frobnicate",), ("onboard", "acme"), ("list", "--local", "--stage", "dev")])
def test_a_command_line_that_makes_no_sense_exits_with_2(arguments: tuple[str, ...]) -> None:
    with pytest.raises(SystemExit) as exited:
        cli.main(arguments)
    assert exited.value.code == 2


# The local cloud


def local(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None) -> None:
    """A repository whose `.local/environment` holds this text."""
    monkeypatch.setattr(configuration, "find", lambda name: tmp_path / name)
    if text is not None:
        (tmp_path / ".local").mkdir()
        (tmp_path / ".local" / "environment").write_text(text, encoding="utf-8")


ENVIRONMENT = (
    "AWS_ENDPOINT_URL=http://127.0.0.1:1\nAWS_ACCESS_KEY_ID=local\n"
    "AWS_SECRET_ACCESS_KEY=a=b\nAWS_REGION=eu-west-1\nOTHER=1\n\n"
)


def test_the_local_cloud_is_found_by_what_make_serve_wrote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    local(tmp_path, monkeypatch, ENVIRONMENT)
    found = connection.connect_local("desk")
    credentials = found.session.get_credentials()
    assert credentials is not None
    assert (credentials.access_key, credentials.secret_key) == ("local", "a=b")
    assert (found.stage, found.session.region_name, found.local) == ("local", "eu-west-1", True)
    assert found.client("dynamodb").meta.endpoint_url == "http://127.0.0.1:1"


def test_no_local_cloud_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Run) -> None:
    load_placement()
    local(tmp_path, monkeypatch, None)
    assert_refused(run("list", "--local"), "no local cloud is running")


def test_a_local_cloud_that_stopped_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Run) -> None:
    load_placement()
    local(tmp_path, monkeypatch, ENVIRONMENT)
    assert_refused(run("list", "--local"), "start `make serve`")


@pytest.mark.parametrize("name", ["AWS_ENDPOINT_URL", "AWS_SECRET_ACCESS_KEY", "AWS_REGION"])
def test_half_an_environment_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / ".local").mkdir()
    kept = [line for line in ENVIRONMENT.splitlines() if not line.startswith(name)]
    (tmp_path / ".local" / "environment").write_text("\n".join(kept), encoding="utf-8")
    with pytest.raises(ControlPlaneError, match=f"lacks {name}"):
        connection.read_local_environment(tmp_path)


def test_a_step_that_takes_long_says_so_and_a_short_one_does_not(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with waiting("Reading", sys.stderr, patience=5):
        pass
    assert capsys.readouterr().err == ""
    with waiting("Reading", sys.stderr, patience=0.01):
        time.sleep(0.1)
    assert capsys.readouterr().err == "Reading ... 0 s\n"


def count(clients: dict[str, Any], *tenants: str) -> None:
    """Two model calls of each tenant, one of them of a model without a price, in the ledger."""
    written: list[str] = []
    rates, _ = parse_rates(configuration.load("rates.toml"))
    # The time that a test takes is not what it is about.
    free = RateCard(rates, operations=[OperationRate(RUNTIME, "*", date(2020, 1, 1), Decimal(0))])
    meter = Meter("desk", "dev", free, written.append)
    for tenant_id in tenants:
        with meter.invocation(tier=TIER, tenant_id=tenant_id, session_id="s", request_id="r") as usage:
            usage.model_call("amazon.nova-lite-v1:0", 1_000_000, 0)
            usage.model_call("unheard-of", 1, 1)
    LedgerWriter(clients["dynamodb"], "ledger").record([entry_of(read(line.strip()), line) for line in written])


def fail(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def raise_it(*_: object) -> None:
        raise error

    monkeypatch.setattr(AdminClient, "show", raise_it)

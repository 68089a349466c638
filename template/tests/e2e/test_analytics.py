"""What the analysts see: the ledger's numbers, by the SQL that is deployed, for operators alone."""

import base64
import json
import re
from collections.abc import Iterator
from dataclasses import fields, replace
from datetime import UTC, datetime
from decimal import Decimal
from html import unescape
from pathlib import Path
from typing import Any
from uuid import uuid4

import duckdb
import pytest
from botocore.exceptions import ClientError

from infra.deploy import PLATFORM
from local.analytics import SQL, VIEWS, export, open_views
from local.cloud import LocalCloud
from local.iam import Request, evaluate
from local.stage import Stage
from local.template import parse
from local.usage_page import page, read
from saas_agent.control_plane.report import Month, usage_report
from saas_agent.functions import stream_usage
from saas_agent.metering.analytics import COLUMNS, StreamBusy, UsageStream, row
from saas_agent.metering.ledger import LedgerReader
from saas_agent.metering.rates import Cost, Tokens
from saas_agent.metering.record import Operation, Record
from saas_agent.tenancy.tiers import load_tiers
from tests.isolation.documents import deployed_policies
from tests.unit.fast_table import FastTable
from tests.unit.test_ledger import event

RESOURCES: dict[str, dict[str, Any]] = parse(PLATFORM.read_text(encoding="utf-8"))["Resources"]
TIERS = tuple(load_tiers())
TENANTS = {"reader": TIERS[0], "reader2": TIERS[0], "reader-eu": TIERS[-1]}
NONE = Decimal(0)


@pytest.fixture(scope="module")
def folder(cloud: LocalCloud, stage: Stage, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What was delivered of three tenants' requests and of everybody's before, as Parquet."""
    for tenant, tier in TENANTS.items():
        actor = stage.onboard(tenant, tier)
        for prompt in ("hello", "what do I prefer?"):
            assert stage.ask(actor, prompt).status == 200
    cloud.flush()
    made = tmp_path_factory.mktemp("analytics")
    assert export(stage.session.client("s3"), stage.outputs["AnalyticsBucket"], made) > 0
    return made


@pytest.fixture(scope="module")
def views(folder: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    with open_views(folder) as database:
        yield database


@pytest.fixture(scope="module")
def ledger(stage: Stage) -> LedgerReader:
    return LedgerReader(stage.session.client("dynamodb"), stage.outputs["LedgerTable"])


def rows_of(database: duckdb.DuckDBPyConnection, sql: str) -> list[tuple[Any, ...]]:
    return database.execute(sql).fetchall()


# --- The same numbers ---------------------------------------------------------------------------------


def test_cost_per_tenant_is_the_ledgers_and_the_pages(
    views: duckdb.DuckDBPyConnection, ledger: LedgerReader, stage: Stage, folder: Path
) -> None:
    month = Month.of(datetime.now(UTC))
    expected: dict[tuple[str, str], tuple[Decimal, int, int]] = {}
    for line in usage_report(ledger.rows(str(month)), month):
        key = (line.tenant_id or "-", line.tier)
        cost, tokens, requests = expected.get(key, (NONE, 0, 0))
        used = sum(getattr(line.tokens, part.name) for part in fields(Tokens))
        expected[key] = (cost + line.cost, tokens + used, requests + line.invocations)
    columns = "tenant_id, tier, cost_usd, tokens, requests"
    found = rows_of(views, f"SELECT {columns} FROM cost_per_tenant WHERE month = '{month}'")
    assert {(tenant, tier): (cost, tokens, requests) for tenant, tier, cost, tokens, requests in found} == expected
    assert {tenant for tenant, _ in expected} >= set(TENANTS)
    assert all(expected[tenant, tier][0] > 0 for tenant, tier in TENANTS.items())
    shown = page(read(ledger, "desk", "local", month)).split("<h2>Cost per tenant</h2>", 1)[1].split("</tbody>", 1)[0]
    costs = {}
    for text in shown.split("<tbody>", 1)[1].split("</tr>"):
        if cells := re.findall(r"<td[^>]*>(.*?)</td>", text):
            costs[unescape(cells[0])] = cells[3]
    by_tenant: dict[str, Decimal] = {}
    for tenant, _, cost, *_ in found:
        by_tenant[tenant] = by_tenant.get(tenant, NONE) + cost
    assert costs == {tenant: f"{cost.quantize(Decimal('0.0001')):,}" for tenant, cost in by_tenant.items()}


def test_feature_cost_per_tier_is_the_ledgers(views: duckdb.DuckDBPyConnection, ledger: LedgerReader) -> None:
    expected: dict[tuple[str, str], Decimal] = {}
    for entry in ledger.rows(f"{datetime.now(UTC):%Y-%m}"):
        key = (entry.tier, entry.feature)
        expected[key] = expected.get(key, NONE) + entry.cost_usd
    found = rows_of(views, "SELECT tier, feature, cost_usd FROM feature_cost_per_tier")
    assert {(tier, feature): cost for tier, feature, cost in found} == expected


def test_token_usage_is_the_ledgers_to_the_token(views: duckdb.DuckDBPyConnection, ledger: LedgerReader) -> None:
    expected = sorted(
        (str(entry.day), entry.tenant_id, entry.tier, entry.feature, entry.name, entry.calls, entry.tokens.input)
        for entry in ledger.rows(f"{datetime.now(UTC):%Y-%m}")
        if entry.kind == "model_call"
    )
    columns = "day, tenant_id, tier, feature, model_id, calls, input_tokens"
    assert sorted(rows_of(views, f"SELECT {columns} FROM token_usage")) == expected


def test_unit_economics_follow_from_the_others(views: duckdb.DuckDBPyConnection) -> None:
    for _, tier, tenants, requests, tokens, cost, per_tenant, per_request, per_1000 in rows_of(
        views, "SELECT * FROM unit_economics"
    ):
        own = "FROM cost_per_tenant WHERE tenant_id <> '-' AND tier = $1"
        [(count, summed)] = views.execute(f"SELECT COUNT(DISTINCT tenant_id), SUM(cost_usd) {own}", [tier]).fetchall()
        assert (tenants, cost) == (count, summed)
        if tokens:
            assert per_tenant == pytest.approx(float(cost) / tenants)
            assert per_request == pytest.approx(float(cost) / requests)
            assert per_1000 == pytest.approx(float(cost) * 1000 / tokens)


def test_what_is_delivered_twice_counts_once(cloud: LocalCloud, stage: Stage, tmp_path: Path) -> None:
    s3, bucket = stage.session.client("s3"), stage.outputs["AnalyticsBucket"]
    [first, *_] = s3.list_objects_v2(Bucket=bucket, Prefix="usage/")["Contents"]
    body = s3.get_object(Bucket=bucket, Key=first["Key"])["Body"].read()
    once = export(s3, bucket, tmp_path / "once")
    s3.put_object(Bucket=bucket, Key=first["Key"] + ".again.json", Body=body)
    try:
        assert export(s3, bucket, tmp_path / "twice") > once
    finally:
        s3.delete_object(Bucket=bucket, Key=first["Key"] + ".again.json")
    totals = []
    for name in ("once", "twice"):
        with open_views(tmp_path / name) as database:
            totals.append(rows_of(database, "FROM cost_per_tenant ORDER BY ALL"))
    assert totals[0] == totals[1]


# --- What is named is there ---------------------------------------------------------------------------


def of_type(name: str) -> dict[str, dict[str, Any]]:
    found = {key: entry["Properties"] for key, entry in RESOURCES.items() if entry["Type"] == name}
    assert found, name
    return found


def tables() -> dict[str, dict[str, Any]]:
    return {entry["TableInput"]["Name"]: entry["TableInput"] for entry in of_type("AWS::Glue::Table").values()}


def deployed_view(table: dict[str, Any]) -> dict[str, Any]:
    """What Athena reads of a view."""
    [before, encoded, after] = table["ViewOriginalText"]["Fn::Join"][1]
    assert (before, after) == ("/* Presto View: ", " */")
    text, values = encoded["Fn::Base64"]["Fn::Sub"]
    told = base64.b64encode(text.replace("${Columns}", values["Columns"]).replace("${Schema}", "db").encode())
    found: dict[str, Any] = json.loads(base64.b64decode(told))
    return found


@pytest.mark.parametrize("name", VIEWS)
def test_a_deployed_view_is_its_file_and_names_its_columns(views: duckdb.DuckDBPyConnection, name: str) -> None:
    table = tables()[name]
    view = deployed_view(table)
    told = f"change infra/analytics/{name}.sql and the view in infra/platform.yaml alike"
    assert view["originalSql"] == (SQL / f"{name}.sql").read_text(encoding="utf-8"), told
    in_duckdb = {"VARCHAR": "varchar", "BIGINT": "bigint", "DECIMAL(38,18)": "decimal(38,18)", "DOUBLE": "double"}
    described = {column: in_duckdb[kind] for column, kind, *_ in rows_of(views, f"DESCRIBE {name}")}
    assert {column["name"]: column["type"] for column in view["columns"]} == described
    in_hive = {"varchar": "string"}
    hive = {column["Name"]: column["Type"] for column in table["StorageDescriptor"]["Columns"]}
    assert hive == {column: in_hive.get(kind, kind) for column, kind in described.items()}


def test_the_table_holds_what_is_sent_and_nothing_that_leads_to_a_person(folder: Path) -> None:
    table = tables()["usage_records"]
    assert {column["Name"]: column["Type"] for column in table["StorageDescriptor"]["Columns"]} == COLUMNS
    assert [key["Name"] for key in table["PartitionKeys"]] == ["day"]
    sent = set(row(RECORD))
    assert sent == {"day", *COLUMNS}
    assert not sent & {"session_id", "request_id", "user_id", "subject"}
    assert set(tables()) == {"usage_records", *VIEWS}


def test_every_data_set_and_visual_names_columns_that_its_view_has(views: duckdb.DuckDBPyConnection) -> None:
    kinds = {"VARCHAR": "STRING", "BIGINT": "INTEGER"}
    for entry in of_type("AWS::QuickSight::DataSet").values():
        table = entry["PhysicalTableMap"]["view"]["RelationalTable"]
        described = {
            column: kinds.get(kind, "DECIMAL") for column, kind, *_ in rows_of(views, f"DESCRIBE {table['Name']}")
        }
        assert {column["Name"]: column["Type"] for column in table["InputColumns"]} == described
    [dashboard] = of_type("AWS::QuickSight::Dashboard").values()
    declared = {}
    for declaration in dashboard["Definition"]["DataSetIdentifierDeclarations"]:
        data = RESOURCES[declaration["DataSetArn"]["Fn::GetAtt"][0]]["Properties"]
        columns = data["PhysicalTableMap"]["view"]["RelationalTable"]["InputColumns"]
        declared[declaration["Identifier"]] = {column["Name"] for column in columns}
    shown = list(columns_in(dashboard["Definition"]["Sheets"]))
    assert [(data, column) for data, column in shown if column not in declared[data]] == []
    assert {data for data, _ in shown} == set(declared) == set(VIEWS[1:])


def columns_in(value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, list):
        for each in value:
            yield from columns_in(each)
    elif isinstance(value, dict):
        if "ColumnName" in value:
            yield value["DataSetIdentifier"], value["ColumnName"]
        for each in value.values():
            yield from columns_in(each)


def test_the_stream_writes_where_the_table_looks(stage: Stage) -> None:
    stream = of_type("AWS::KinesisFirehose::DeliveryStream")["UsageStream"]["ExtendedS3DestinationConfiguration"]
    assert stream["Prefix"] == "usage/day=!{partitionKeyFromQuery:day}/"
    assert stream["DataFormatConversionConfiguration"]["SchemaConfiguration"]["TableName"] == {"Ref": "UsageTable"}
    location = tables()["usage_records"]["Parameters"]["storage.location.template"]["Fn::Sub"]
    assert location == "s3://${AnalyticsBucket}/usage/day=${!day}/"
    page = stage.session.client("s3").list_objects_v2(Bucket=stage.outputs["AnalyticsBucket"])
    assert {re.sub(r"day=\d{4}-\d\d-\d\d/.*", "day", entry["Key"]) for entry in page["Contents"]} == {"usage/day"}


# --- Who may read it ----------------------------------------------------------------------------------


def test_no_role_of_the_stage_reads_what_all_tenants_used(stage: Stage) -> None:
    """The stage is deployed without QuickSight; its role is pinned in tests/isolation/test_stacks.py."""
    bucket = f"arn:aws:s3:::{stage.outputs['AnalyticsBucket']}"
    asked = [
        *((action, f"{bucket}/usage/day=2026-11-24/x.parquet") for action in ("s3:GetObject", "s3:DeleteObject")),
        *((action, bucket) for action in ("s3:ListBucket", "s3:ListBucketVersions", "s3:PutBucketPolicy")),
        *((action, "*") for action in ("athena:StartQueryExecution", "athena:GetQueryResults", "glue:GetTable")),
    ]
    writers = set()
    for tier in TIERS:
        documents = deployed_policies(stage, tier)
        runtime = (documents.tenant, documents.execution, documents.vending)
        platform = (documents.data, documents.upkeep, documents.data_function, documents.stacks)
        for role in [*filter(None, (*runtime, *platform)), *documents.tenants, *documents.others]:
            for action, resource in asked:
                for tags in ({}, {"aws:PrincipalTag/TenantId": "acme"}):
                    request = Request(action, resource, {**tags}, role.session(), role.arn)
                    decided = evaluate(role.policies, request)
                    assert not decided.allowed, (role.name, action, resource)
            put = Request("s3:PutObject", f"{bucket}/usage/day=2026-11-24/x", {}, role.session(), role.arn)
            if evaluate(role.policies, put).allowed:
                writers.add(role.name)
    assert [re.search("UsageStreamRole", name) is not None for name in writers] == [True]


def test_a_tenants_own_credentials_reach_neither_bucket_nor_stream(stage: Stage) -> None:
    actor = stage.onboard("curious", TIERS[0])
    access = stage.access(actor)
    with pytest.raises(ClientError, match="AccessDenied"):
        access.client("s3").list_objects_v2(Bucket=stage.outputs["AnalyticsBucket"])
    with pytest.raises(ClientError, match="AccessDenied"):
        access.client("firehose").put_record_batch(DeliveryStreamName=stream_of(stage), Records=[{"Data": b"{}"}])


def stream_of(stage: Stage) -> str:
    client = stage.session.client("lambda")
    found = client.get_function_configuration(FunctionName=stage.outputs["LedgerFunctionArn"])
    return str(found["Environment"]["Variables"]["USAGE_STREAM"])


# --- Into the stream ----------------------------------------------------------------------------------

RECORD = Record(
    id="0b9d4a1e-0000-4000-8000-000000000001",
    at=datetime(2026, 11, 24, 23, 59, 59, 999000, UTC),
    service="desk",
    stage="dev",
    tier="basic",
    tenant_id="acme",
    session_id="secret-session",
    request_id="secret-request",
    feature="conversation",
    model_id="maker.model-v1:0",
    tokens=Tokens(1, 2, 3, 4),
    latency_ms=5,
    outcome="ok",
    cost=Cost(Decimal("0.000000000000000001"), None),
)


class Firehose:
    """Takes half of the records, as often as it is told to. taken: how many it took, call by call. dead: raises."""

    def __init__(self, refusals: int = 0) -> None:
        self.refusals = refusals
        self.taken: list[int] = []
        self.rows: list[dict[str, Any]] = []
        self.dead = False

    def put_record_batch(self, *, DeliveryStreamName: str, Records: list[dict[str, bytes]]) -> dict[str, Any]:  # noqa: N803
        if self.dead:
            raise ConnectionError
        failed = len(Records) // 2 or 1 if self.refusals else 0
        self.rows += [json.loads(record["Data"]) for record in Records[failed:]]
        self.refusals -= bool(failed)
        self.taken.append(len(Records) - failed)
        told = [{"ErrorCode": "ServiceUnavailableException"} if n < failed else {} for n in range(len(Records))]
        return {"FailedPutCount": failed, "RequestResponses": told}


def test_a_row_has_the_records_own_day_and_exact_cost() -> None:
    made = row(RECORD)
    assert (made["day"], made["cost_usd"], made["cache_write_tokens"]) == ("2026-11-24", "0.000000000000000001", 4)
    assert "secret" not in json.dumps(made)
    operation = replace(RECORD, model_id=None, operation=Operation("tool_call", "lookup", 7, 2))
    assert (row(operation)["kind"], row(operation)["calls"], row(operation)["errors"]) == ("tool_call", 7, 2)


def test_everything_goes_into_the_stream_or_the_batch_comes_again() -> None:
    pauses: list[float] = []
    firehose = Firehose()
    UsageStream(firehose, "usage", pauses.append).send([RECORD] * 1201)
    assert (firehose.taken, pauses) == ([500, 500, 201], [])
    firehose = Firehose(refusals=2)
    UsageStream(firehose, "usage", pauses.append).send([RECORD] * 8)
    assert (sum(firehose.taken), len(pauses)) == (8, 2)
    with pytest.raises(StreamBusy, match="all but 1 records"):
        UsageStream(Firehose(refusals=99), "usage", pauses.append).send([RECORD])


class Clients:
    """A session of the function: the ledger's table, Firehose, and a bus that nothing is put on."""

    def __init__(self, table: FastTable, firehose: Firehose) -> None:
        self._clients = {"dynamodb": table, "firehose": firehose, "events": None}

    def client(self, name: str) -> Any:
        return self._clients[name]


def test_what_was_counted_and_not_sent_is_sent_when_the_batch_comes_again() -> None:
    table, firehose = FastTable(), Firehose()
    session: Any = Clients(table, firehose)
    environ = {"LEDGER_TABLE": "ledger", "SERVICE": "desk", "STAGE": "dev", "USAGE_STREAM": "usage"}
    handler = stream_usage.create(environ, session, lambda _: None)
    records = [replace(RECORD, id=str(uuid4()), at=datetime.now(UTC)) for _ in range(3)]
    firehose.dead = True
    with pytest.raises(ConnectionError):
        handler(event(records), None)
    counted = [item for item in table.items if item.startswith("RECORD#")]
    assert (len(counted), firehose.rows) == (3, [])
    firehose.dead = False
    # The batch again, with one that claims an id that is counted already, and one that is no good.
    forged = replace(records[0], tokens=Tokens(10**6))
    assert handler(event([*records, forged, records[1].to_line()[:200]]), None)["counted"] == 0
    assert sorted(firehose.rows, key=str) == sorted(map(row, records), key=str)

"""The analysts' views on one machine: the records of a stage's bucket as Parquet, and Athena's SQL in DuckDB.

`python -m local.analytics` prints the views over what the local cloud of `make serve` has delivered.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import duckdb
from botocore.exceptions import BotoCoreError, ClientError

from saas_agent.control_plane.connection import connect_local, explain
from saas_agent.control_plane.errors import ControlPlaneError
from saas_agent.metering.analytics import COLUMNS
from saas_agent.tenancy.placement import load_placement

SQL = Path(__file__).resolve().parent.parent / "infra" / "analytics"
VIEWS = ("counted_once", "cost_per_tenant", "feature_cost_per_tier", "token_usage", "unit_economics")
"""In the order in which they build on each other."""

FOLDER = Path("build") / "analytics"

_TYPES = {"string": "VARCHAR", "bigint": "BIGINT"}
_USAGE = "usage/"


def export(s3: Any, bucket: str, folder: Path) -> int:
    """Writes the bucket's records as Parquet below `folder`, `usage/day=<day>/`, as Firehose does; how many there are.

    s3: a boto3 client that may read the bucket.
    """
    lines = folder / "delivered.json"
    folder.mkdir(parents=True, exist_ok=True)
    with lines.open("wb") as file:
        for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=_USAGE):
            for entry in page.get("Contents", []):
                file.write(s3.get_object(Bucket=bucket, Key=entry["Key"])["Body"].read())
    columns = {"day": "VARCHAR", **{name: _TYPES[kind] for name, kind in COLUMNS.items()}}
    listed = ", ".join(f"{name}: '{kind}'" for name, kind in columns.items())
    with _database() as database:
        database.execute(
            f"CREATE TABLE delivered AS FROM read_json($1, format = 'newline_delimited', columns = {{{listed}}})",
            [str(lines)],
        )
        target = str(folder / _USAGE)
        database.execute(f"COPY delivered TO '{target}' (FORMAT parquet, PARTITION_BY (day), OVERWRITE_OR_IGNORE)")
        found = database.execute("SELECT COUNT(*) FROM delivered").fetchone()
    return int(found[0]) if found else 0


def open_views(folder: Path) -> duckdb.DuckDBPyConnection:
    """A database with the table `usage_records` over the Parquet below `folder`, and every view of `VIEWS`."""
    database = _database()
    files = str(folder / _USAGE / "*" / "*.parquet")
    database.execute(
        "CREATE VIEW usage_records AS FROM read_parquet("
        f"'{files}', hive_partitioning = true, hive_types = {{'day': VARCHAR}})"
    )
    for name in VIEWS:
        sql = (SQL / f"{name}.sql").read_text(encoding="utf-8")
        database.execute(f"CREATE VIEW {name} AS {sql}")
    return database


def _database() -> duckdb.DuckDBPyConnection:
    # What it can't do by itself, it would fetch.
    return duckdb.connect(config={"autoinstall_known_extensions": "false"})


def main(arguments: list[str] | None = None) -> int:
    """Prints the views; exit status 1 and one line where there is nothing to read."""
    parser = argparse.ArgumentParser(prog="python -m local.analytics", description=__doc__)
    parser.add_argument("views", nargs="*", choices=[[], *VIEWS], help="default: all but counted_once")
    options = parser.parse_args(arguments)
    try:
        connection = connect_local(load_placement().service)
        found = export(connection.client("s3"), connection.output("AnalyticsBucket"), FOLDER)
    except ControlPlaneError as error:
        print(error, file=sys.stderr)
        return 1
    except (ClientError, BotoCoreError) as error:
        print(explain(error), file=sys.stderr)
        return 1
    if not found:
        print("Nothing was delivered yet; expected records of a request: ask the agent first", file=sys.stderr)
        return 1
    with open_views(FOLDER) as database:
        for name in options.views or VIEWS[1:]:
            print(f"{name}\n{database.sql(f'FROM {name} ORDER BY ALL')}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

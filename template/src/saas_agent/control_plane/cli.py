"""The `tenants` command: `tenants onboard acme --tier basic --admin ann@example.com`.

Exit status 0: done, or there already. 1: refused or failed, with one line on stderr. 2: a command
line that makes no sense.
"""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from saas_agent.control_plane.connection import Connection, connect, connect_local, explain
from saas_agent.control_plane.errors import ControlPlaneError
from saas_agent.control_plane.onboarding import Change, Tenants
from saas_agent.control_plane.progress import waiting
from saas_agent.control_plane.registry import Registry, TenantRecord, utc_now
from saas_agent.control_plane.report import Month, UsageReport, UsageRow, read_log, usage_report
from saas_agent.control_plane.states import Status
from saas_agent.control_plane.users import Users
from saas_agent.errors import ConfigurationError
from saas_agent.metering.record import plain
from saas_agent.tenancy.placement import load_placement
from saas_agent.tenancy.tiers import load_tiers

Command = Callable[[argparse.Namespace, Connection], None]

DEFAULT_STAGE = "dev"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line and returns the exit status."""
    arguments = _parser().parse_args(argv)
    command: Command = arguments.command
    try:
        command(arguments, _connect(arguments))
    except (ControlPlaneError, ConfigurationError) as error:
        return _refused(str(error))
    except (ClientError, BotoCoreError) as error:
        return _refused(explain(error))
    except KeyboardInterrupt:
        return _refused("interrupted; repeat the command to finish what it began")
    return 0


def _refused(line: str) -> int:
    print(f"tenants: {line}", file=sys.stderr)
    return 1


def _connect(arguments: argparse.Namespace) -> Connection:
    placement = load_placement()
    if arguments.local:
        return connect_local(placement.service)
    return connect(placement.service, placement.region, arguments.stage or DEFAULT_STAGE)


def _tenants(connection: Connection) -> Tenants:
    with waiting("Looking up the platform", sys.stderr):
        registry = Registry(connection.client("dynamodb"), connection.output("RegistryTable"))
        users = Users(connection.client("cognito-idp"), connection.output("UserPoolId"))
    return Tenants(registry, users, tuple(load_tiers()))


def _onboard(arguments: argparse.Namespace, connection: Connection) -> None:
    tenants = _tenants(connection)
    with waiting(f"Onboarding {arguments.tenant_id}", sys.stderr):
        change = tenants.onboard(
            arguments.tenant_id,
            tier=arguments.tier,
            admin=arguments.admin,
            name=arguments.name,
            # The local cloud has no mail.
            invite=not (arguments.no_invitation or connection.local),
        )
    _tell(change, "onboarded", arguments.output)


def _suspend(arguments: argparse.Namespace, connection: Connection) -> None:
    tenants = _tenants(connection)
    with waiting(f"Suspending {arguments.tenant_id} and signing out its users", sys.stderr):
        change = tenants.suspend(arguments.tenant_id)
    _tell(change, "suspended", arguments.output)


def _resume(arguments: argparse.Namespace, connection: Connection) -> None:
    tenants = _tenants(connection)
    with waiting(f"Resuming {arguments.tenant_id}", sys.stderr):
        change = tenants.resume(arguments.tenant_id)
    _tell(change, "resumed", arguments.output)


def _list(arguments: argparse.Namespace, connection: Connection) -> None:
    tenants = _tenants(connection)
    with waiting("Reading the registry", sys.stderr):
        records = list(tenants.all())
    if arguments.output == "json":
        _print_json([asdict(record) for record in records])
        return
    _print_table(
        ("tenant", "status", "tier", "name", "admin", "created"),
        [(r.tenant_id, r.status, r.tier, r.name, r.admin, r.created_at) for r in records],
        nothing="There is no tenant yet.",
    )


def _show(arguments: argparse.Namespace, connection: Connection) -> None:
    tenants = _tenants(connection)
    with waiting("Reading the registry", sys.stderr):
        record = tenants.show(arguments.tenant_id)
    _print_record(record, arguments.output)


def _usage(arguments: argparse.Namespace, connection: Connection) -> None:
    month = Month.parse(arguments.month) if arguments.month else Month.of(utc_now())
    if arguments.tenant_id is not None:
        _tenants(connection).show(arguments.tenant_id)
    with waiting(f"Reading the usage records of {month}", sys.stderr):
        lines = read_log(connection.client("logs"), connection.output("RuntimeLogGroup"), month)
        report = usage_report(lines, month, arguments.tenant_id)
    if arguments.output == "json":
        _print_json(
            {
                "month": str(month),
                "rows": [_usage_json(row) for row in report.rows],
                "unreadable": report.unreadable,
            }
        )
        return
    _print_usage(report, month)


def _tell(change: Change, done: str, output: str) -> None:
    """What a change came to: in words, or as the record and whether it changed."""
    record = change.record
    if output == "json":
        _print_json({"changed": change.changed, **asdict(record)})
    elif change.changed:
        print(f"Tenant {record.tenant_id} ({record.tier}) is {done}: {record.status}.")
    else:
        hint = f"; `tenants resume {record.tenant_id}` lets it sign in again"
        suspended = done == "onboarded" and record.status is Status.SUSPENDED
        print(
            f"Tenant {record.tenant_id} ({record.tier}) is {record.status} already; "
            f"nothing was changed{hint if suspended else ''}."
        )


def _print_record(record: TenantRecord, output: str) -> None:
    values = asdict(record)
    placement = load_placement()
    values["placement"] = {component: placement.column(record.tier, component) for component in placement.components}
    if output == "json":
        _print_json(values)
        return
    places = values.pop("placement")
    values["placement"] = ", ".join(f"{component} {column}" for component, column in places.items())
    for key, value in values.items():
        print(f"{key.replace('_', ' '):<12}{value}")


def _print_usage(report: UsageReport, month: Month) -> None:
    columns = (
        ("tenant", "tier", "feature", "month", "invocations", "not ok", "model calls", "tool calls")
        + ("input", "output", "cache read", "cache write", "cost USD", "unpriced")
    )  # fmt: skip
    cells = [_usage_cells(row) for row in report.rows]
    _print_table(columns, cells, nothing=f"Nothing was used in {month}.", texts=4)
    unpriced = sum(row.unpriced_calls for row in report.rows)
    if unpriced:
        print(
            f"{unpriced} model calls have no price: the cost is a lower bound. "
            "Add their models to rates.toml; calls that were cut off never tell their tokens."
        )
    if report.unreadable:
        print(f"{report.unreadable} usage records could not be read and are not counted.")


def _usage_cells(row: UsageRow) -> tuple[object, ...]:
    return (
        *(row.tenant_id or "-", row.tier, row.feature, row.month),
        *(row.invocations, row.not_ok, row.model_calls, row.tool_calls),
        *(row.tokens.input, row.tokens.output, row.tokens.cache_read, row.tokens.cache_write),
        *(plain(row.cost), row.unpriced_calls),
    )


def _usage_json(row: UsageRow) -> dict[str, Any]:
    values = asdict(row)
    tokens = values.pop("tokens")
    cost = plain(values.pop("cost"))
    return {**values, **{f"{key}_tokens": count for key, count in tokens.items()}, "cost_usd": cost}


def _print_json(value: object) -> None:
    print(json.dumps(value, indent=2))


def _print_table(
    columns: Sequence[str],
    rows: Sequence[Sequence[object]],
    *,
    nothing: str,
    texts: int | None = None,
) -> None:
    """Columns as wide as their widest cell; after the first `texts` columns to the right."""
    if not rows:
        print(nothing)
        return
    cells = [[str(cell) for cell in row] for row in (columns, *rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    split = len(columns) if texts is None else texts
    for row in cells:
        left = [cell.ljust(width) for cell, width in zip(row[:split], widths, strict=False)]
        right = [cell.rjust(width) for cell, width in zip(row[split:], widths[split:], strict=True)]
        print("  ".join((*left, *right)).rstrip())


def _parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    where = common.add_mutually_exclusive_group()
    where.add_argument("--stage", help=f"the stage on AWS (default: {DEFAULT_STAGE})")
    where.add_argument("--local", action="store_true", help="the local cloud that `make serve` keeps running")
    common.add_argument("--output", choices=("table", "json"), default="table")
    parser = argparse.ArgumentParser(prog="tenants", description="The tenants of this service.")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def add(name: str, command: Command, text: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, parents=[common], help=text, description=text)
        added.set_defaults(command=command)
        return added

    onboard = add("onboard", _onboard, "Make a tenant and its administrator; safe to repeat.")
    onboard.add_argument("tenant_id", metavar="ID")
    onboard.add_argument("--tier", required=True, help="one of tiers.toml")
    onboard.add_argument("--admin", required=True, metavar="EMAIL", help="the administrator")
    onboard.add_argument("--name", help="what people call the tenant (default: its id)")
    onboard.add_argument(
        "--no-invitation",
        action="store_true",
        help="don't mail the administrator a temporary password",
    )
    add("list", _list, "List the tenants.")
    for name, command, text in (
        ("show", _show, "Show a tenant and where its components are."),
        ("suspend", _suspend, "Give a tenant no more tokens and sign out its users."),
        ("resume", _resume, "Let a suspended tenant's users sign in again."),
    ):
        add(name, command, text).add_argument("tenant_id", metavar="ID")
    usage = add("usage", _usage, "Usage and estimated cost of a month, by tenant.")
    usage.add_argument("tenant_id", metavar="ID", nargs="?", help="one tenant (default: all)")
    usage.add_argument("--month", metavar="YYYY-MM", help="default: this month, in UTC")
    return parser


if __name__ == "__main__":
    sys.exit(main())

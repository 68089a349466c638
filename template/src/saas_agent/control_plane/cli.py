"""The `tenants` command: `tenants onboard acme --tier basic --admin ann@example.com`.

Exit status 0: done, or there already. 1: refused or failed, with one line on stderr. 2: a command
line that makes no sense.
"""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from decimal import Decimal
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from saas_agent import configuration
from saas_agent.control_plane.client import AdminClient, Change, Operation
from saas_agent.control_plane.connection import Connection, connect, connect_local, explain
from saas_agent.control_plane.errors import ControlPlaneError
from saas_agent.control_plane.operations import utc_now
from saas_agent.control_plane.progress import waiting
from saas_agent.control_plane.redrive import redrive
from saas_agent.control_plane.registry import TenantRecord, partition_key
from saas_agent.control_plane.report import (
    Bill,
    BillLine,
    Month,
    UsageRow,
    bill,
    read_export,
    reconcile,
    usage_report,
)
from saas_agent.control_plane.states import Status
from saas_agent.control_plane.users import email_address
from saas_agent.errors import ConfigurationError
from saas_agent.metering.ledger import NOBODY, LedgerReader, Row
from saas_agent.metering.rates import RateCard
from saas_agent.metering.record import plain
from saas_agent.tenancy.placement import load_placement

Command = Callable[[argparse.Namespace, Connection], None]

DEFAULT_STAGE = "dev"

# Components that bring commands of their own, and the modules that may have them.
_COMPONENTS = {
    "knowledge_base": ("saas_agent.control_plane.ingestion",),
    "outbound": ("saas_agent.control_plane.third_party_keys", "saas_agent.control_plane.third_party_clients"),
}


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


def _api(arguments: argparse.Namespace, connection: Connection) -> AdminClient:
    with waiting("Looking up the platform", sys.stderr):
        url = connection.api_url
    return AdminClient(connection.session, url, tell=_nothing if arguments.output == "json" else _tell_step)


def _tell_step(operation: Operation, step: str) -> None:
    line = f"  {step}" if step else f"{operation.kind} of {operation.tenant_id}: {operation.operation_id}"
    print(line, file=sys.stderr, flush=True)


def _nothing(_operation: Operation, _step: str) -> None: ...


def _onboard(arguments: argparse.Namespace, connection: Connection) -> None:
    partition_key(arguments.tenant_id)
    api = _api(arguments, connection)
    with waiting(f"Onboarding {arguments.tenant_id}", sys.stderr):
        change = api.onboard(
            arguments.tenant_id,
            tier=arguments.tier,
            admin=arguments.admin,
            name=arguments.name,
            # The local cloud has no mail.
            invite=not (arguments.no_invitation or connection.local),
        )
    _tell(change, "onboarded", arguments.output)


def _suspend(arguments: argparse.Namespace, connection: Connection) -> None:
    api = _api(arguments, connection)
    with waiting(f"Suspending {arguments.tenant_id} and signing out its users", sys.stderr):
        change = api.suspend(arguments.tenant_id)
    _tell(change, "suspended", arguments.output)


def _resume(arguments: argparse.Namespace, connection: Connection) -> None:
    api = _api(arguments, connection)
    with waiting(f"Resuming {arguments.tenant_id}", sys.stderr):
        change = api.resume(arguments.tenant_id)
    _tell(change, "resumed", arguments.output)


def _set_tier(arguments: argparse.Namespace, connection: Connection) -> None:
    api = _api(arguments, connection)
    with waiting(f"Giving {arguments.tenant_id} the tier {arguments.tier}", sys.stderr):
        change = api.set_tier(arguments.tenant_id, arguments.tier)
    _tell(change, "updated", arguments.output)


def _upgrade(arguments: argparse.Namespace, connection: Connection) -> None:
    api, placement = _api(arguments, connection), load_placement()
    if arguments.tenant_id:
        with waiting(f"Upgrading {arguments.tenant_id}", sys.stderr):
            change = api.upgrade(arguments.tenant_id)
        _tell(change, "upgraded", arguments.output)
        return
    left = []
    for record in api.all():
        if record.status is Status.DELETED or not placement.stack_template(record.tier):
            continue
        try:
            with waiting(f"Upgrading {record.tenant_id}", sys.stderr):
                change = api.upgrade(record.tenant_id)
            _tell(change, "upgraded", arguments.output)
        except ControlPlaneError as error:
            print(f"{record.tenant_id}: {error}", file=sys.stderr)
            left.append(record.tenant_id)
    if left:
        raise ControlPlaneError(
            f"{len(left)} tenants have the stack that they had: {', '.join(left)}; "
            "expected all upgraded; mend what is said above, and repeat"
        )


def _export(arguments: argparse.Namespace, connection: Connection) -> None:
    api = _api(arguments, connection)
    with waiting(f"Exporting {arguments.tenant_id}", sys.stderr):
        change = api.export(arguments.tenant_id)
    _tell(change, "exported", arguments.output)
    if arguments.output != "json":
        _tell_export(change, connection)


def _offboard(arguments: argparse.Namespace, connection: Connection) -> None:
    api = _api(arguments, connection)
    record = api.show(arguments.tenant_id)
    if record.status is not Status.DELETED and not arguments.yes:
        _require_typed(record)
    with waiting(f"Offboarding {arguments.tenant_id}", sys.stderr):
        change = api.offboard(arguments.tenant_id, export=arguments.export)
    if change.record is None and arguments.output != "json":
        print(f"Tenant {arguments.tenant_id} was never active: nothing is left of it, and its id is free again.")
    else:
        _tell(change, "offboarded", arguments.output)
    if arguments.export and change.changed and arguments.output != "json":
        _tell_export(change, connection)


def _require_typed(record: TenantRecord) -> None:
    """ControlPlaneError unless the operator types the tenant's id."""
    if not sys.stdin.isatty():
        raise ControlPlaneError("nobody can be asked here; expected a terminal; pass --yes to offboard without asking")
    print(
        f"This deletes everything of {record.tenant_id} ({record.name}, {record.tier}): its data, its memory, its "
        "users and its earlier exports. It can't be undone.",
        file=sys.stderr,
    )
    if input(f"Type {record.tenant_id} to go on: ").strip() != record.tenant_id:
        raise ControlPlaneError("that was not the tenant's id; nothing was changed")


def _tell_export(change: Change, connection: Connection) -> None:
    if change.operation is not None:
        place = f"{connection.output('ExportsBucket')}/tenants/{change.operation.tenant_id}/"
        folder = change.operation.parameters.get("folder", change.operation.operation_id)
        print(f"The export is at s3://{place}{folder}/; manifest.json lists it.")


def _retry(arguments: argparse.Namespace, connection: Connection) -> None:
    api = _api(arguments, connection)
    with waiting(f"Carrying out {arguments.operation_id} once more", sys.stderr):
        change = api.retry(arguments.operation_id)
    if arguments.output == "json":
        _print_json(_change_json(change))
    elif change.operation is not None:
        print(f"The {change.operation.kind} of tenant {change.operation.tenant_id} succeeded.")


def _operation(arguments: argparse.Namespace, connection: Connection) -> None:
    api = _api(arguments, connection)
    with waiting("Asking for the operation", sys.stderr):
        operation = api.operation(arguments.operation_id)
    values = asdict(operation)
    if arguments.output == "json":
        _print_json(values)
        return
    values["steps"] = ", ".join(operation.steps)
    failure = operation.failure
    values["failure"] = f"{failure.step}: {failure.reason}" if failure else ""
    for key, value in values.items():
        print(f"{key.replace('_', ' '):<14}{value}")


def _list(arguments: argparse.Namespace, connection: Connection) -> None:
    api = _api(arguments, connection)
    with waiting("Reading the registry", sys.stderr):
        records = [record for record in api.all() if arguments.all or record.status is not Status.DELETED]
    if arguments.output == "json":
        _print_json([asdict(record) for record in records])
        return
    _print_table(
        ("tenant", "status", "tier", "name", "admin", "created"),
        [(r.tenant_id, r.status, r.tier, r.name, r.admin, r.created_at) for r in records],
        nothing="There is no tenant yet.",
    )


def _show(arguments: argparse.Namespace, connection: Connection) -> None:
    api = _api(arguments, connection)
    with waiting("Reading the registry", sys.stderr):
        record = api.show(arguments.tenant_id)
    _print_record(record, arguments.output)


def _users(arguments: argparse.Namespace, connection: Connection) -> None:
    api, tenant_id = _api(arguments, connection), arguments.tenant_id
    if arguments.invite is not None:
        if email_address(arguments.invite) is None:
            raise ControlPlaneError(
                f"{arguments.invite!r} is no e-mail address; expected such as ann@example.com; mend --invite"
            )
        with waiting(f"Inviting a user of {tenant_id}", sys.stderr):
            user = api.invite(tenant_id, arguments.invite, administrator=arguments.administrator)
        if arguments.output == "json":
            _print_json(asdict(user))
        else:
            print(f"User {user.id} of tenant {tenant_id} is invited: {user.status}.")
    elif arguments.remove is not None:
        with waiting(f"Removing a user of {tenant_id}", sys.stderr):
            api.remove_user(tenant_id, arguments.remove)
        if arguments.output == "json":
            _print_json({"removed": arguments.remove})
        else:
            print(f"User {arguments.remove} of tenant {tenant_id} is removed.")
    else:
        with waiting(f"Looking for the users of {tenant_id}", sys.stderr):
            users = sorted(api.users(tenant_id), key=lambda user: user.email)
        if arguments.output == "json":
            _print_json([asdict(user) for user in users])
            return
        _print_table(
            ("id", "email", "status", "administrator"),
            [(user.id, user.email, user.status, "yes" if user.administrator else "no") for user in users],
            nothing=f"Tenant {tenant_id} has no user.",
        )


def _usage(arguments: argparse.Namespace, connection: Connection) -> None:
    month = _month(arguments)
    with waiting(f"Reading the ledger of {month}", sys.stderr):
        rows = usage_report(_ledger_rows(arguments, connection, month), month)
        rejected = _ledger(connection).rejected(str(month))
    if arguments.output == "json":
        _print_json({"month": str(month), "rows": [_usage_json(row) for row in rows], "rejected": rejected})
        return
    _print_usage(rows, month)
    if rejected:
        reasons = ", ".join(f"{count} for {reason}" for reason, count in sorted(rejected.items()))
        print(f"Lines that were no good and are not counted: {reasons}.")


def _bill(arguments: argparse.Namespace, connection: Connection) -> None:
    month = _month(arguments)
    card = RateCard.load(configuration.find("rates.toml"), str(connection.session.region_name))
    with waiting(f"Reading the ledger of {month}", sys.stderr):
        drawn = bill(_ledger_rows(arguments, connection, month), card)
    if arguments.output == "json":
        _print_json(_bill_json(drawn, month))
        return
    _print_bill(drawn, month, prices=arguments.prices)


def _reconcile(arguments: argparse.Namespace, connection: Connection) -> None:
    month, billed = _month(arguments), read_export(arguments.export)
    with waiting(f"Reading the ledger of {month}", sys.stderr):
        differences = reconcile(_ledger(connection).rows(str(month)), billed)
    rows = [
        {
            "tenant": difference.tenant_id,
            "ledger_usd": plain(difference.ledger),
            "billed_usd": plain(difference.billed),
            "difference_percent": None if difference.share is None else f"{difference.share * 100:.1f}",
        }
        for difference in differences
    ]
    if arguments.output == "json":
        _print_json(rows)
        return
    cells = [["-" if value is None else value for value in row.values()] for row in rows]
    columns = ("tenant", "ledger USD", "billed USD", "difference %")
    _print_table(columns, cells, nothing=f"No model was called in {month}, and none was billed.", texts=1)


def _redrive(arguments: argparse.Namespace, connection: Connection) -> None:
    with waiting("Bringing back events that failed", sys.stderr):
        done = redrive(
            connection.client("sqs"),
            connection.output("LedgerDeadLetters"),
            connection.client("lambda"),
            connection.output("LedgerFunctionArn"),
        )
    if arguments.output == "json":
        _print_json(asdict(done))
        return
    print(f"{done.counted} events were counted; {done.failed} failed again and stay in the queue.")
    for reason in done.reasons:
        print(f"  {reason}")


def _month(arguments: argparse.Namespace) -> Month:
    return Month.parse(arguments.month) if arguments.month else Month.of(utc_now())


def _ledger(connection: Connection) -> LedgerReader:
    return LedgerReader(connection.client("dynamodb"), connection.output("LedgerTable"))


def _ledger_rows(arguments: argparse.Namespace, connection: Connection, month: Month) -> list[Row]:
    """The rows of the month that the command asks for. A tenant that was deleted still has its usage."""
    rows = list(_ledger(connection).rows(str(month), arguments.tenant_id))
    if not rows and arguments.tenant_id is not None:
        _api(arguments, connection).show(arguments.tenant_id)  # refuses a tenant that there never was
    return [row for row in rows if arguments.tier in (None, row.tier) and arguments.feature in (None, row.feature)]


def _tell(change: Change, done: str, output: str) -> None:
    """What a change came to: in words, or as the record, the operation and whether anything changed."""
    record = change.record
    if output == "json":
        _print_json(_change_json(change))
    elif record is not None and change.changed:
        print(f"Tenant {record.tenant_id} ({record.tier}) is {done}: {record.status}.")
    elif record is not None:
        hint = f"; `tenants resume {record.tenant_id}` lets it sign in again"
        suspended = done == "onboarded" and record.status is Status.SUSPENDED
        print(
            f"Tenant {record.tenant_id} ({record.tier}) is {record.status} already; "
            f"nothing was changed{hint if suspended else ''}."
        )


def _change_json(change: Change) -> dict[str, Any]:
    return {
        "changed": change.changed,
        **(asdict(change.record) if change.record else {}),
        "operation": asdict(change.operation) if change.operation else None,
    }


def _print_record(record: TenantRecord, output: str) -> None:
    values = asdict(record)
    if output == "json":
        _print_json(values)
        return
    values["placement"] = ", ".join(f"{component} {column}" for component, column in record.placement.items())
    values["resources"] = ", ".join(f"{name} {value}" for name, value in record.resources.items())
    failure = record.failure
    values["failure"] = f"{failure.operation} at {failure.step}: {failure.reason}" if failure else None
    for key, value in values.items():
        if value not in (None, ""):
            print(f"{key.replace('_', ' '):<14}{value}")


def _print_usage(rows: Sequence[UsageRow], month: Month) -> None:
    columns = (
        ("tenant", "tier", "feature", "month", "invocations", "not ok")
        + ("model calls", "tool calls", "memory", "retrievals")
        + ("input", "output", "cache read", "cache write", "cost USD", "unpriced")
    )  # fmt: skip
    cells = [_usage_cells(row) for row in rows]
    _print_table(columns, cells, nothing=f"Nothing was used in {month}.", texts=4)
    if unpriced := sum(row.unpriced for row in rows):
        print(
            f"{unpriced} records have no price: the cost is a lower bound. Add what is missing to rates.toml, and "
            "`tenants bill` charges it; calls that were cut off never tell their tokens."
        )


def _usage_cells(row: UsageRow) -> tuple[object, ...]:
    return (
        *(row.tenant_id or NOBODY, row.tier, row.feature, row.month, row.invocations, row.not_ok),
        *(row.model_calls, row.tool_calls, row.memory_operations, row.retrievals),
        *(row.tokens.input, row.tokens.output, row.tokens.cache_read, row.tokens.cache_write),
        *(plain(row.cost), row.unpriced),
    )


def _usage_json(row: UsageRow) -> dict[str, Any]:
    values = asdict(row)
    tokens = values.pop("tokens")
    cost = plain(values.pop("cost"))
    return {**values, **{f"{key}_tokens": count for key, count in tokens.items()}, "cost_usd": cost}


def _print_bill(drawn: Bill, month: Month, *, prices: bool) -> None:
    columns = ("tenant", "tier", "feature", "what", "priced from", "calls", "tokens", "USD")
    cells = [
        (line.tenant_id, line.tier, line.feature, line.name, line.priced_from or "no price", line.calls)
        + (sum(asdict(line.tokens).values()), plain(line.amount))
        for line in drawn.lines
    ]
    _print_table(columns, cells, nothing=f"Nothing was used in {month}.", texts=5)
    if prices:
        _print_prices(drawn)
    if not drawn.lines:
        return
    print(f"Total {drawn.total} USD ({plain(drawn.amount)}), an estimate by rates.toml.")
    if drawn.metered != drawn.amount:
        print(f"By the prices of the time when it was metered: {plain(drawn.metered)} USD.")
    if drawn.unpriced:
        print(f"{drawn.unpriced} calls have no price and are not in the total.")


def _print_prices(drawn: Bill) -> None:
    """Which entry of the rate card gave what, and its unit prices."""
    entries = {(line.name, line.priced_from): line.prices for line in drawn.lines}
    cells = [
        (
            name,
            start or "no price",
            ", ".join(f"{plain(price)} {_UNITS.get(unit, unit)}" for unit, price in found.items()),
        )
        for (name, start), found in sorted(entries.items(), key=lambda entry: (entry[0][0], str(entry[0][1])))
    ]
    print()
    _print_table(("what", "from", "USD per million tokens, or per thousand calls or seconds"), cells, nothing="")
    print()


_UNITS = {"call": "a thousand", "ms": "a second"}


def _bill_json(drawn: Bill, month: Month) -> dict[str, Any]:
    return {
        "month": str(month),
        "lines": [_line_json(line) for line in drawn.lines],
        "amount_usd": plain(drawn.amount),
        "total_usd": str(drawn.total),
        "metered_usd": plain(drawn.metered),
        "unpriced": drawn.unpriced,
    }


def _line_json(line: BillLine) -> dict[str, Any]:
    values = asdict(line)
    tokens = values.pop("tokens")
    prices: dict[str, Decimal] = values.pop("prices")
    return {
        **values,
        **{f"{key}_tokens": count for key, count in tokens.items()},
        "priced_from": line.priced_from and line.priced_from.isoformat(),
        "prices": {unit: plain(price) for unit, price in prices.items()},
        "amount": plain(line.amount),
        "metered": plain(line.metered),
    }


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
    listing = add("list", _list, "List the tenants.")
    listing.add_argument("--all", action="store_true", help="with those that were deleted")
    of_one = {
        name: add(name, command, text)
        for name, command, text in (
            ("show", _show, "Show a tenant and where its components are."),
            ("suspend", _suspend, "Give a tenant no more tokens and sign out its users."),
            ("resume", _resume, "Let a suspended tenant's users sign in again."),
            ("set-tier", _set_tier, "Give a tenant another tier, with its next token and request."),
            ("export", _export, "Copy everything that a tenant stored to the exports bucket."),
            ("offboard", _offboard, "Delete everything that there is of a tenant."),
            ("users", _users, "List, invite and remove the users of a tenant, for one that can't do it itself."),
        )
    }
    for one in of_one.values():
        one.add_argument("tenant_id", metavar="ID")
    of_one["set-tier"].add_argument("--tier", required=True, help="one of tiers.toml, of the same placement")
    of_one["offboard"].add_argument("--export", action="store_true", help="export its data first")
    of_one["offboard"].add_argument("--yes", action="store_true", help="don't ask for its id to be typed")
    some = of_one["users"].add_mutually_exclusive_group()
    some.add_argument("--invite", metavar="EMAIL", help="make a user, who is mailed a temporary password")
    some.add_argument("--remove", metavar="USER", help="remove the user of this id")
    of_one["users"].add_argument("--administrator", action="store_true", help="who is invited administers the tenant")
    placement = load_placement()
    if any(map(placement.stack_template, placement.tiers)):
        upgrade = add("upgrade", _upgrade, "Bring tenants' own stacks to what was deployed last.")
        one_or_all = upgrade.add_mutually_exclusive_group(required=True)
        one_or_all.add_argument("tenant_id", metavar="ID", nargs="?")
        one_or_all.add_argument("--all", action="store_true", help="every tenant that has a stack of its own")
    for name, command, text in (
        ("operation", _operation, "Show how an operation stands."),
        ("retry", _retry, "Carry out once more an operation that failed."),
    ):
        add(name, command, text).add_argument("operation_id", metavar="OPERATION")
    usage = add("usage", _usage, "Usage and estimated cost of a month, by tenant.")
    drawn = add("bill", _bill, "What a month's usage costs by rates.toml, line by line.")
    drawn.add_argument("--prices", action="store_true", help="show which prices applied, and from when")
    for priced in (usage, drawn):
        priced.add_argument("tenant_id", metavar="ID", nargs="?", help="one tenant (default: all)")
        priced.add_argument("--tier", help="one tier (default: all)")
        priced.add_argument("--feature", help="one feature (default: all)")
    compared = add("reconcile", _reconcile, "Compare a month's model cost with the provider's bill.")
    compared.add_argument("export", type=Path, metavar="FILE", help="CSV of the query in docs/metering.md")
    for monthly in (usage, drawn, compared):
        monthly.add_argument("--month", metavar="YYYY-MM", help="default: this month, in UTC")
    add("redrive", _redrive, "Count the usage whose delivery failed; safe to repeat.")
    for component, modules in _COMPONENTS.items():
        for module in modules if component in placement.components else ():
            if find_spec(module):
                import_module(module).add_commands(add)
    return parser


if __name__ == "__main__":
    sys.exit(main())

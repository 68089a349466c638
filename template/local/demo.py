"""`make demo`: deploys, onboards three tenants, uses their agents, attacks them, and reports what held."""

import logging
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from local import dashboards, report, usage_page
from local.attacks.judgement import Verdict
from local.cloud import LocalCloud, LocalCloudError
from local.proof import Access, Outcome, attacks_on, counted, left_out, plant, run_attacks, tiers_to_prove, walk
from local.stage import Actor, Stage
from saas_agent.control_plane.report import Month, usage_report
from saas_agent.errors import ConfigurationError
from saas_agent.metering.ledger import LedgerReader
from saas_agent.tenancy.placement import Placement, load_placement

# acme2 starts like acme: what holds two tenants apart by the beginning of a name fails between these two.
TENANTS = ("acme", "acme2", "globex")
REPORT = Path("build") / "report.html"


def main() -> int:
    """Runs the demo; 0 only when every own access worked and nothing leaked."""
    logging.disable()  # a refusal is the demo's subject, not a warning in it
    try:
        return _run()
    except (LocalCloudError, ConfigurationError) as error:
        print(f"demo: {error}", file=sys.stderr)
    except OSError as error:
        print(f"demo: {error}; expected a folder where the demo can write {REPORT}", file=sys.stderr)
    return 1


def _run() -> int:
    began, clock = datetime.now(UTC), time.perf_counter()
    placement = load_placement()
    first, other = tiers_to_prove()
    report.require_writable(REPORT)
    with LocalCloud(placement.region) as cloud:
        _say(f"Local cloud at {cloud.endpoint}: deploying the platform ...")
        cloud.deploy()
        stage = cloud.stage()
        _say("Onboarding and signing in " + ", ".join(TENANTS) + " ...")
        actors = [stage.onboard(tenant, tier) for tenant, tier in zip(TENANTS, (first, first, other), strict=True)]
        accesses = [access for actor in actors for access in _walk(stage, actor)]
        plant(stage, actors)
        omitted = left_out(stage, actors[0])
        outcomes = [outcome for attacker in _attackers(actors) for outcome in _attack(cloud, stage, attacker, actors)]
        cloud.flush()
        run = report.Run(
            service=placement.service,
            region=placement.region,
            placement=_placement(placement),
            began=began,
            seconds=time.perf_counter() - clock,
            decisions=cloud.decisions.position(),
            accesses=accesses,
            outcomes=outcomes,
            left_out=omitted,
            usage=_usage(stage),
        )
        used = usage_page.read(_ledger(stage), placement.service, stage.outputs["Stage"], Month.of(began))
        boards = dashboards.read(stage.session.client, placement.service, stage.outputs["Stage"])
    report.write(run, REPORT)
    _print(run)
    print(f"Usage and cost: {usage_page.write(used).resolve().as_uri()}")
    print(f"Dashboards: {boards.write().resolve().as_uri()}")
    for problem in boards.problems:
        print(problem, file=sys.stderr)
    return 0 if run.proved else 1


def _walk(stage: Stage, actor: Actor) -> list[Access]:
    accesses = []
    for access in walk(stage, actor):
        why = "" if access.ok else access.why
        print(f"  {access.tenant:7} {access.title:36} {access.word:8} {why}".rstrip())
        accesses.append(access)
    return accesses


def _attackers(actors: Sequence[Actor]) -> list[Actor]:
    """The first tenant of each way of being placed: what one can't do, another may."""
    placement = load_placement()
    firsts: dict[tuple[str, ...], Actor] = {}
    for actor in actors:
        firsts.setdefault(tuple(placement.row(actor.tenant.tier).values()), actor)
    return list(firsts.values())


def _attack(cloud: LocalCloud, stage: Stage, attacker: Actor, actors: Sequence[Actor]) -> list[Outcome]:
    victims = [actor for actor in actors if actor is not attacker]
    total = len(attacks_on(victims, local=True))
    _say(f"{attacker.name} attacks {' and '.join(victim.name for victim in victims)}: up to {total} attempts ...")
    outcomes = []
    for number, outcome in enumerate(run_attacks(stage, attacker, victims, cloud.decisions), 1):
        outcomes.append(outcome)
        if not outcome.verdict.safe:
            word = outcome.verdict.value.upper()
            print(f"  {word}: {outcome.attack.title} ({outcome.victim}): {outcome.judgement.why}")
        if number % 25 == 0:
            print(f"  {number} of {total}", flush=True)
    return outcomes


def _usage(stage: Stage) -> list[report.TenantUsage]:
    month = Month.of(datetime.now(UTC))
    return [
        report.TenantUsage(
            tenant=row.tenant_id,
            tier=row.tier,
            invocations=row.invocations,
            model_calls=row.model_calls,
            input_tokens=row.tokens.input + row.tokens.cache_read + row.tokens.cache_write,
            output_tokens=row.tokens.output,
            cost_usd=f"{row.cost:.6f}",
            unpriced=row.unpriced,
        )
        for row in usage_report(_ledger(stage).rows(str(month)), month)
        if row.tenant_id
    ]


def _ledger(stage: Stage) -> LedgerReader:
    return LedgerReader(stage.session.client("dynamodb"), stage.outputs["LedgerTable"])


def _placement(placement: Placement) -> str:
    columns = {placement.column(tier, component) for tier in placement.tiers for component in placement.components}
    return "all components shared" if columns == {"shared"} else "mixed placement"


def _print(run: report.Run) -> None:
    print(f"\n{'area':15}{'attempts':>10}" + "".join(f"{verdict.value:>10}" for verdict in Verdict))
    areas = report.by_area(run.outcomes)
    for area, counts in areas.items():
        print(f"{area:15}{sum(counts.values()):>10}" + "".join(f"{counts[verdict]:>10}" for verdict in Verdict))
    sums = {verdict: sum(counts[verdict] for counts in areas.values()) for verdict in Verdict}
    print(f"{'all':15}{len(run.outcomes):>10}" + "".join(f"{sums[verdict]:>10}" for verdict in Verdict))
    print(f"\n{'tenant':12}{'tier':10}{'requests':>9}{'tokens in':>11}{'tokens out':>11}{'cost USD':>12}")
    for row in run.usage:
        print(
            f"{row.tenant:12}{row.tier:10}{row.invocations:>9}{row.input_tokens:>11,}{row.output_tokens:>11,}"
            f"{row.cost_usd:>12}" + (f"  + {row.unpriced} unpriced calls" if row.unpriced else "")
        )
    for line in run.left_out:
        print(f"\n{line}", end="")
    print(f"\n{counted(run.accesses)}; {run.leaked} attacks leaked; {run.seconds:.1f} s")
    print(f"{'Isolation held.' if run.proved else 'Isolation is NOT proved.'} Report: {REPORT.resolve().as_uri()}")


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())

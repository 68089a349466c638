"""The dashboards that were deployed, drawn from what requests really left in the log groups."""

import json
import re

from local.cloud import LocalCloud
from local.dashboards import deployed, read
from local.proof import tiers_to_prove
from local.stage import Stage
from saas_agent.control_plane.report import Month
from saas_agent.metering.ledger import LedgerReader
from saas_agent.metering.record import MARK
from saas_agent.metering.usage import utc_now
from saas_agent.tenancy.placement import load_placement


def test_what_requests_used_is_in_the_deployed_dashboards(cloud: LocalCloud, stage: Stage) -> None:
    actor = stage.onboard("drawn", tiers_to_prove()[0])
    for prompt in ("hello", "what can you do?"):
        assert stage.ask(actor, prompt).status == 200
    cloud.flush()
    page = read(stage.session.client, load_placement().service, stage.outputs["Stage"])
    assert page.problems == []
    rows = list(
        LedgerReader(stage.session.client("dynamodb"), stage.outputs["LedgerTable"]).rows(str(_month()), "drawn")
    )
    tokens = sum(row.tokens.input + row.tokens.output + row.tokens.cache_read + row.tokens.cache_write for row in rows)
    cost = sum(row.cost_usd for row in rows)
    line = re.search(r"<td>drawn</td><td>(\w+)</td><td class=n>([\d.]+)</td><td class=n>([\d,]+)</td>", page.html)
    assert line is not None
    assert (line[1], line[3]) == (actor.tenant.tier, f"{tokens:,}")
    assert abs(float(line[2]) - float(cost)) < 0.0001
    # Every runtime's own log is read for the metrics, wherever tenants are placed.
    requests = re.search(r"Invocations <b>([\d,]+)</b>", page.html)
    assert requests is not None
    assert requests[1] == f"{_invocations(stage):,}"


def test_what_is_drawn_is_what_was_deployed(stage: Stage) -> None:
    service = load_placement().service
    found = deployed(stage.session.client, f"{service}-{stage.outputs['Stage']}-platform")
    prefix = f"{service}-{stage.outputs['Stage']}"
    assert [each.name for each in found] == [f"{prefix}-tenants", f"{prefix}-tenant", f"{prefix}-tiers"]
    for each in found:
        assert json.loads(each.body)["widgets"]
        assert "${" not in each.body
        assert f"SOURCE '/aws/lambda/{prefix}-ledger'" in each.body


def _month() -> Month:
    return Month.of(utc_now())


def _invocations(stage: Stage) -> int:
    pages = stage.session.client("logs").get_paginator("filter_log_events")
    return sum(
        json.loads(event["message"]).get("Invocations", 0)
        for group in stage.log_groups()
        for page in pages.paginate(logGroupName=group, filterPattern=MARK)
        for event in page["events"]
    )

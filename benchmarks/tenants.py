"""Many tenants at once through the control plane. Runs in a generated repository: `python tenants.py COUNT THREADS`.

Every tenant goes through the admin API, the workflow and its functions in their deployed roles. Prints JSON; exits with
1 where a tenant is lost, incomplete, or not the only one of its name.
"""

import json
import statistics
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from local.cloud import LocalCloud
from saas_agent.control_plane.client import AdminClient
from saas_agent.control_plane.connection import api_url
from saas_agent.control_plane.states import Status
from saas_agent.tenancy.placement import load_placement

BY_TIME = ("states:GetExecutionHistory", "states:ListExecutions", "dynamodb:GetItem", "sts:AssumeRole")
"""How often these are called depends on how long the rest takes, and on how long ago the last session began."""


def measure(count: int, threads: int) -> dict[str, Any]:
    """Seconds for each tenant, and what grew with the tenants."""
    placement = load_placement()
    tier = placement.tiers[0]
    with LocalCloud(placement.region) as cloud:
        cloud.deploy()
        session = cloud.operator_session()

        def onboard(tenant_id: str) -> float:
            # A client each, as each operator has one; made before the clock runs.
            tenants = AdminClient(session, api_url(cloud.outputs, cloud.endpoint))
            began = time.perf_counter()
            tenants.onboard(tenant_id, tier=tier, admin=f"admin@{tenant_id}.example", invite=False)
            return time.perf_counter() - began

        first = _calls(cloud, lambda: onboard("first"))
        documents = _iam_documents(session)
        names = [f"tenant-{number:04}" for number in range(count)]
        began = time.perf_counter()
        with ThreadPoolExecutor(threads) as pool:
            seconds = sorted(pool.map(onboard, names))
        total = time.perf_counter() - began
        grown = (_iam_documents(session) - documents) / count
        last = _calls(cloud, lambda: onboard("last"))
        problems = _problems(cloud, session, {"first", "last", *names}, dedicated=placement.has_own(tier))
    return {
        "tenants": count,
        "threads": threads,
        "seconds": total,
        "p50": statistics.median(seconds),
        "p95": seconds[int(len(seconds) * 0.95) - 1],
        "iam_documents_per_tenant": grown,
        "same_calls": first == last,
        "calls": sum(last.values()),
        "problems": problems,
    }


def _calls(cloud: LocalCloud, work: Any) -> dict[str, int]:
    _settle(cloud)
    position = cloud.decisions.position()
    work()
    _settle(cloud)
    called = Counter(decision.action for decision in cloud.decisions.since(position))
    return {action: number for action, number in called.items() if action not in BY_TIME}


def _settle(cloud: LocalCloud) -> None:
    """Waits for the workflow's last step, which announces what nobody waits for."""
    machines = cloud.operator_session().client("stepfunctions")
    while machines.list_executions(stateMachineArn=cloud.outputs["WorkflowArn"], statusFilter="RUNNING")["executions"]:
        time.sleep(0.01)


def _iam_documents(session: Any) -> int:
    iam = session.client("iam")
    roles = [role["RoleName"] for page in iam.get_paginator("list_roles").paginate() for role in page["Roles"]]
    return len(roles) + sum(len(iam.list_role_policies(RoleName=name)["PolicyNames"]) for name in roles)


def _problems(cloud: LocalCloud, session: Any, expected: set[str], *, dedicated: bool) -> list[str]:
    """What is wrong with the tenants that there should be, one line each."""
    tenants = AdminClient(session, api_url(cloud.outputs, cloud.endpoint))
    records = {record.tenant_id: record for record in tenants.all()}
    problems = [f"{name} is lost" for name in sorted(expected - set(records))]
    problems += [f"{name} is {record.status}" for name, record in records.items() if record.status is not Status.ACTIVE]
    pages = session.client("cognito-idp").get_paginator("list_users").paginate(UserPoolId=cloud.outputs["UserPoolId"])
    users = Counter(
        next(attribute["Value"] for attribute in user["Attributes"] if attribute["Name"] == "email")
        for page in pages
        for user in page["Users"]
    )
    problems += [
        f"{name} has {users[f'admin@{name}.example']} administrators" for name in expected
        if users[f"admin@{name}.example"] != 1
    ]  # fmt: skip
    if dedicated:
        for key in sorted(set().union(*(record.resources for record in records.values())) - {"Tier", "Tenants"}):
            values = [record.resources.get(key) for record in records.values()]
            if None in values or len(set(values)) != len(values):
                problems.append(f"{key} is missing or shared")
    return problems


if __name__ == "__main__":
    import logging

    logging.disable()
    found = measure(*map(int, sys.argv[1:]))
    print(json.dumps(found))
    sys.exit(bool(found["problems"]))

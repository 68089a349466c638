"""A runtime's log group: how long it is kept, and that the ledger gets the usage records in it.

AgentCore makes the group itself, sooner or later, so no stack can own it: deploying sets up the
shared runtime's group, and onboarding that of a tenant's own runtime.
"""

from typing import Any

from botocore.exceptions import ClientError

from saas_agent.metering.record import MARK

FILTER = "usage"
"""The subscription filter's name; `usage/<tenant>` on the log group of a tenant's own runtime."""


def set_up_log_group(logs: Any, group: str, *, days: int, ledger: str, tenant_id: str | None = None) -> None:
    """Sets the group's retention and subscribes the ledger to it. Safe to repeat.

    Args:
        logs: a boto3 `logs` client.
        ledger: ARN of the ledger's function.
        tenant_id: whose own runtime it is; the ledger then takes no record of anybody else from it.

    Raises:
        ClientError: among others InvalidParameterException where Logs may not invoke the function.
    """
    try:
        logs.create_log_group(logGroupName=group)
    except ClientError as error:
        if error.response["Error"]["Code"] != "ResourceAlreadyExistsException":
            raise
    logs.put_retention_policy(logGroupName=group, retentionInDays=days)
    logs.put_subscription_filter(
        logGroupName=group,
        filterName=FILTER if tenant_id is None else f"{FILTER}/{tenant_id}",
        # A term, not a pattern on a JSON field: a line that was cut is no JSON, and must be counted too.
        filterPattern=MARK,
        destinationArn=ledger,
    )


def is_subscribed(logs: Any, group: str, *, ledger: str) -> bool:
    """Whether the group was set up for this ledger. Other stages of the account have groups of the same tenants."""
    found = logs.describe_subscription_filters(logGroupName=group)["subscriptionFilters"]
    return any(each["destinationArn"] == ledger for each in found)


def tenant_of(filters: list[str]) -> str | None:
    """The tenant whose own log group it is, by the filter's name, which only the platform gives."""
    for name in filters:
        if name.startswith(f"{FILTER}/"):
            return name.removeprefix(f"{FILTER}/")
    return None

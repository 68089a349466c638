"""What a tenant used, told to its own users; the gateway offers both operations as tools.

    GET /usage                     -> {"tier", "day": {"date", "tokens", "used", "left"}, "month": {...}}
    GET /usage/days?month=2026-11  -> {"month", "days": [{"date", "tokens", "requests", "model_calls", "tool_calls"}]}

Days and months are in UTC, and the month is this one if left out. `tokens` is what the tier allows and `used` what the
ledger counted of it, which follows within minutes. An error is {"error": {"code", "message"}}.

The tenant is that of the verified token and of nothing else. What is read is read in a session whose tag IAM keeps to
that tenant: a mistake in this code meets IAM.
"""

import json
import logging
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import astuple
from datetime import UTC, date, datetime
from functools import cache
from typing import Any, Protocol

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from saas_agent.agent.gateway_tools import API_OPERATIONS
from saas_agent.control_plane.errors import ControlPlaneError
from saas_agent.control_plane.registry import Registry
from saas_agent.control_plane.states import SERVED
from saas_agent.errors import INTERNAL, NO_TENANT, TENANT_NOT_ACTIVE, Reason, Refused
from saas_agent.gateway_calls import API_TARGET, SEPARATOR, entitled, named
from saas_agent.metering.ledger import LedgerReader, Total
from saas_agent.settings import required
from saas_agent.tenancy.access import TemporaryCredentials, TenantSession
from saas_agent.tenancy.tenant import TenantContext
from saas_agent.tenancy.tiers import Tier, load_tiers
from saas_agent.tenancy.token import FetchKeys, TokenVerifier, VerifiedToken, bearer
from saas_agent.tenancy.token import fetch_keys as fetch_keys_over_https

Handler = Callable[[dict[str, Any], object], dict[str, Any]]

TENANT_TAG = "TenantId"

MALFORMED = Reason("invalid_request", 400, "Expected GET without a body, and month as YYYY-MM or left out.")

_OPERATIONS = {"/usage": "get_usage", "/usage/days": "list_daily_usage"}
_MONTH = re.compile(r"20[0-9]{2}-(0[1-9]|1[0-2])", re.ASCII)
# The shortest that STS gives.
_DURATION_SECONDS = 900

logger = logging.getLogger(__name__)


class Verifier(Protocol):
    """Says whose token it is."""

    def access_token(self, raw: str) -> VerifiedToken:
        """The verified access token; Refused."""


def create(
    environ: Mapping[str, str],
    session: boto3.Session,
    fetch_keys: FetchKeys = fetch_keys_over_https,
) -> Handler:
    """The handler for ISSUER and CLIENT_ID, and for what `usage_handler` needs; ConfigurationError names what lacks."""
    return usage_handler(
        environ, session, TokenVerifier(required(environ, "ISSUER"), required(environ, "CLIENT_ID"), fetch_keys)
    )


def usage_handler(
    environ: Mapping[str, str],
    session: boto3.Session,
    verifier: Verifier,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Handler:
    """The handler of API Gateway's proxy events, for REGISTRY_TABLE, LEDGER_TABLE and READING_ROLE_ARN."""
    registry_table, ledger_table = required(environ, "REGISTRY_TABLE"), required(environ, "LEDGER_TABLE")
    role_arn, region = required(environ, "READING_ROLE_ARN"), required(environ, "AWS_REGION")
    sts, tiers = session.client("sts"), load_tiers()

    def handle(event: dict[str, Any], _context: object) -> dict[str, Any]:
        try:
            tenant = verifier.access_token(bearer(event.get("headers"))).tenant
            operation, given = _asked(event)
            client = _client(sts, role_arn, region, tenant)
            tier = _tier(Registry(client, registry_table), tiers, tenant)
            entitled(named(API_TARGET, API_OPERATIONS), f"{API_TARGET}{SEPARATOR}{operation}", tier.name)
            ledger, today = LedgerReader(client, ledger_table), clock().date()
            if operation == "get_usage":
                return _answer(200, _usage(ledger, tenant, tier, today))
            return _answer(200, _days(ledger, tenant, given.get("month") or today.isoformat()[:7]))
        except Refused as refused:
            logger.warning("refused code=%s detail=%s", refused.reason.code, refused.detail)
            return _error(refused.reason)
        except (ClientError, BotoCoreError, ControlPlaneError) as error:
            code = error.response["Error"].get("Code") if isinstance(error, ClientError) else type(error).__name__
            logger.error("failed kind=%s", code)
            return _error(INTERNAL)

    return handle


def _asked(event: Mapping[str, Any]) -> tuple[str, dict[str, str]]:
    """The operation, and its arguments."""
    operation = _OPERATIONS.get(str(event.get("resource"))) if event.get("httpMethod") == "GET" else None
    if operation is None or event.get("body"):
        raise Refused(MALFORMED, "no such route, or a body")
    given = event.get("multiValueQueryStringParameters") or {}
    # What means nothing here may mean something to whoever sent it, such as another tenant.
    if not API_OPERATIONS[operation].parameters.issuperset(given) or any(len(values) != 1 for values in given.values()):
        raise Refused(MALFORMED, "parameters that the operation doesn't have, or one of them twice")
    if any(_MONTH.fullmatch(value) is None for [value] in given.values()):
        raise Refused(MALFORMED, "the month is none")
    return operation, {name: value for name, [value] in given.items()}


def _client(sts: Any, role_arn: str, region: str, tenant: TenantContext) -> Any:
    """A `dynamodb` client that reads this tenant's items and no other's."""
    answer = sts.assume_role(
        RoleArn=role_arn,
        RoleSessionName=tenant.session_name,
        Tags=[{"Key": TENANT_TAG, "Value": tenant.tenant_id}],
        DurationSeconds=_DURATION_SECONDS,
    )
    return TenantSession(TemporaryCredentials.from_sts(answer["Credentials"]), region).client("dynamodb")


def _tier(registry: Registry, tiers: Mapping[str, Tier], tenant: TenantContext) -> Tier:
    """The tier that the registry has for the tenant now, whatever the token says."""
    record = registry.get(tenant.tenant_id)
    if record is None or record.status not in SERVED:
        raise Refused(TENANT_NOT_ACTIVE, "the registry has the tenant as not active")
    if record.tier not in tiers:
        raise Refused(NO_TENANT, "the registry names a tier that tiers.toml lacks")
    return tiers[record.tier]


def _usage(ledger: LedgerReader, tenant: TenantContext, tier: Tier, today: date) -> dict[str, Any]:
    day, month = ledger.totals(tenant.tenant_id, today)
    return {
        "tier": tier.name,
        "day": {"date": today.isoformat(), **_budget(tier.tokens_per_day, day)},
        "month": {"date": today.isoformat()[:7], **_budget(tier.tokens_per_month, month)},
    }


def _budget(tokens: int, total: Total) -> dict[str, int]:
    return {"tokens": tokens, "used": total.tokens, "left": max(0, tokens - total.tokens)}


def _days(ledger: LedgerReader, tenant: TenantContext, month: str) -> dict[str, Any]:
    days: dict[str, dict[str, int]] = {}
    for row in ledger.rows(month, tenant.tenant_id):
        sums = days.setdefault(row.day.isoformat(), {"tokens": 0, "requests": 0, "model_calls": 0, "tool_calls": 0})
        name = {"invocation": "requests", "model_call": "model_calls", "tool_call": "tool_calls"}.get(row.kind)
        if name is not None:
            sums[name] += row.calls
        sums["tokens"] += sum(astuple(row.tokens)) if row.kind == "model_call" else 0
    return {"month": month, "days": [{"date": day, **sums} for day, sums in sorted(days.items())]}


def _answer(status: int, document: Mapping[str, Any]) -> dict[str, Any]:
    headers = {"Content-Type": "application/json", "Cache-Control": "no-store"}
    return {"statusCode": status, "headers": headers, "body": json.dumps(document)}


def _error(reason: Reason) -> dict[str, Any]:
    return _answer(reason.status, {"error": {"code": reason.code, "message": reason.message}})


@cache
def _handler() -> Handler:
    return create(os.environ, boto3.Session())


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Lambda's entry point."""
    return _handler()(event, context)

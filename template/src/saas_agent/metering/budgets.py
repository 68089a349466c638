"""Says when a tenant has used 80 % and 100 % of a budget, by the ledger's exact sums.

Each is put on the event bus at least once for a tenant, a budget and a period; `detail.id` tells a
repetition. Whatever the tenant's own counters say, the ledger's totals are what counts here.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

from botocore.exceptions import ClientError

from saas_agent.metering.ledger import LedgerReader
from saas_agent.metering.record import Record
from saas_agent.tenancy.tiers import Tier

PERCENTS = (80, 100)
DETAIL_TYPE = "Tenant budget used"


@dataclass(frozen=True)
class _Budget:
    """A budget of a tenant in a period. name: its key in tiers.toml."""

    tenant_id: str
    tier: str
    name: str
    period: str
    used: int
    limit: int

    def event(self, percent: int) -> dict[str, Any]:
        """The event's detail."""
        return {
            "id": f"{self.tenant_id}/{self.name}/{self.period}/{percent}",
            "tenant_id": self.tenant_id,
            "tier": self.tier,
            "budget": self.name,
            "period": self.period,
            "percent": percent,
            "used": self.used,
            "limit": self.limit,
        }


class BudgetWatch:
    """Looks after each batch at the budgets of the tenants in it.

    Args:
        dynamodb, events: boto3 clients.
        table: the ledger's.
        source: the events' source.
    """

    def __init__(self, dynamodb: Any, table: str, events: Any, source: str, tiers: Mapping[str, Tier]) -> None:
        self._dynamodb = dynamodb
        self._table = table
        self._events = events
        self._source = source
        self._tiers = tiers
        self._reader = LedgerReader(dynamodb, table)
        self._done: set[str] = set()

    def look(self, records: Iterable[Record]) -> list[str]:
        """The ids of the events that were sent."""
        days: dict[tuple[str, date], str] = {}
        for record in records:
            if record.tenant_id is not None and record.model_id is not None and record.tier in self._tiers:
                days[record.tenant_id, record.at.date()] = record.tier
        return [
            told
            for (tenant, day), tier in sorted(days.items())
            for budget in self._budgets(tenant, day, self._tiers[tier])
            for percent in PERCENTS
            if budget.used * 100 >= budget.limit * percent
            for told in self._tell(budget, percent)
        ]

    def _budgets(self, tenant: str, day: date, tier: Tier) -> list[_Budget]:
        of_day, of_month = self._reader.totals(tenant, day)
        periods = (day.isoformat(), day.isoformat()[:7])
        return [
            _Budget(tenant, tier.name, "tokens_per_day", periods[0], of_day.tokens, tier.tokens_per_day),
            _Budget(tenant, tier.name, "tokens_per_month", periods[1], of_month.tokens, tier.tokens_per_month),
        ]

    def _tell(self, budget: _Budget, percent: int) -> list[str]:
        detail = budget.event(percent)
        mark = {"pk": {"S": f"TENANT#{budget.tenant_id}"}, "sk": {"S": f"TOLD#{budget.name}#{budget.period}#{percent}"}}
        if detail["id"] in self._done:
            return []
        if "Item" in self._dynamodb.get_item(TableName=self._table, Key=mark, ConsistentRead=True):
            self._done.add(detail["id"])
            return []
        entry = {"Source": self._source, "DetailType": DETAIL_TYPE, "Detail": json.dumps(detail)}
        answer = self._events.put_events(Entries=[entry])
        if answer["FailedEntryCount"]:
            raise RuntimeError(f"the event bus took no event: {answer['Entries'][0].get('ErrorCode')}")
        # Marked only now: stopped in between, it is told again rather than never.
        try:
            self._dynamodb.put_item(TableName=self._table, Item=mark, ConditionExpression="attribute_not_exists(pk)")
        except ClientError as error:
            if error.response["Error"]["Code"] != "ConditionalCheckFailedException":
                raise
        self._done.add(detail["id"])
        return [detail["id"]]

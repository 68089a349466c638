"""A tenant's items in a table, for the workflow."""

import time
from typing import Any

from saas_agent.control_plane.data import Exported, Folder, Page, Store
from saas_agent.control_plane.steps import Throttled

_ITEMS = 1000  # of a page; DynamoDB ends one at a megabyte
_BATCH = 25  # the most that one BatchWriteItem takes
_ATTEMPTS = 6


class TableItems(Store):
    """The items of the partition `TENANT#<id>`. Exported as DynamoDB itself exports them: `{"Item": {...}}` a line."""

    def __init__(self, client: Any, table: str, tenant_id: str, name: str = "table") -> None:
        """`client`: a boto3 DynamoDB client with the tenant's credentials."""
        self.name = name
        self._client = client
        self._table = table
        self._partition = f"TENANT#{tenant_id}"

    def page(self, start: str) -> Page:
        key = {"pk": {"S": self._partition}, "sk": {"S": start}}
        answer = self._client.query(
            TableName=self._table,
            KeyConditionExpression="pk = :pk",
            ExpressionAttributeValues={":pk": {"S": self._partition}},
            Limit=_ITEMS,
            ConsistentRead=True,
            **({"ExclusiveStartKey": key} if start else {}),
        )
        last = answer.get("LastEvaluatedKey")
        return Page(answer["Items"], last["sk"]["S"] if last else "")

    def export(self, page: Page, number: int, folder: Folder) -> list[Exported]:
        lines = [{"Item": item} for item in page.items]
        return folder.write_lines(f"{self.name}/{number:06}.jsonl", lines)

    def delete(self, page: Page) -> None:
        keys = [{"pk": item["pk"], "sk": item["sk"]} for item in page.items]
        for start in range(0, len(keys), _BATCH):
            self._delete_batch([{"DeleteRequest": {"Key": key}} for key in keys[start : start + _BATCH]])

    def left(self, page: Page) -> int:
        return len(page.items)

    def _delete_batch(self, requests: list[dict[str, Any]]) -> None:
        for attempt in range(_ATTEMPTS):
            answer = self._client.batch_write_item(RequestItems={self._table: requests})
            requests = answer.get("UnprocessedItems", {}).get(self._table, [])
            if not requests:
                return
            time.sleep(0.05 * 2**attempt)
        raise Throttled(f"BatchWriteItem left {len(requests)} items")

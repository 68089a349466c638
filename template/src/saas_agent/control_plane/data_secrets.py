"""A tenant's key at a third party, for the workflow: deleted with the tenant, and in no export."""

from typing import Any

from botocore.exceptions import ClientError

from saas_agent.control_plane.data import Exported, Folder, Page, Store


class ThirdPartyKey(Store):
    """The tenant's secret. Exports hold no secrets: whoever got the key from the third party has it."""

    name = "third-party key"

    def __init__(self, client: Any, secret: str) -> None:
        """`client`: a boto3 Secrets Manager client with the tenant's credentials. `secret`: its name."""
        self._client = client
        self._secret = secret

    def page(self, start: str) -> Page:
        try:
            self._client.describe_secret(SecretId=self._secret)
        except ClientError as error:
            if error.response["Error"]["Code"] == "ResourceNotFoundException":
                return Page([], "")
            raise
        return Page([self._secret], "")

    def export(self, page: Page, number: int, folder: Folder) -> list[Exported]:
        return []

    def delete(self, page: Page) -> None:
        for secret in page.items:
            # At once: a tenant that is gone has no use for a time to think it over.
            self._client.delete_secret(SecretId=secret, ForceDeleteWithoutRecovery=True)

    def left(self, page: Page) -> int:
        return len(page.items)

"""A tenant's client at a third party's OAuth server, for the workflow: deleted with the tenant, and in no export."""

from typing import Any

from botocore.exceptions import ClientError

from saas_agent.control_plane.data import Exported, Folder, Page, Store


class ThirdPartyClient(Store):
    """The tenant's provider of tokens, and so the tokens that AgentCore keeps of it."""

    name = "third-party client"

    def __init__(self, client: Any, provider: str) -> None:
        """`client`: a boto3 client of `bedrock-agentcore-control` with the tenant's credentials."""
        self._client = client
        self._provider = provider

    def page(self, start: str) -> Page:
        try:
            self._client.get_oauth2_credential_provider(name=self._provider)
        except ClientError as error:
            if error.response["Error"]["Code"] == "ResourceNotFoundException":
                return Page([], "")
            raise
        return Page([self._provider], "")

    def export(self, page: Page, number: int, folder: Folder) -> list[Exported]:
        return []

    def delete(self, page: Page) -> None:
        for provider in page.items:
            self._client.delete_oauth2_credential_provider(name=provider)

    def left(self, page: Page) -> int:
        return len(page.items)

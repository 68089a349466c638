"""The caller's tools behind AgentCore Gateway, over MCP and with the caller's own tokens."""

import logging
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from strands.tools.mcp import MCPClient
from strands.tools.tool_provider import ToolProvider
from strands.types.tools import AgentTool

from saas_agent.errors import ConfigurationError
from saas_agent.tenancy.access import TenantAccess
from saas_agent.tenancy.token import ID_TOKEN_HEADER

logger = logging.getLogger(__name__)

_PATH = "/mcp"
_LOOPBACK = frozenset({"127.0.0.1", "localhost"})
_STARTUP_SECONDS = 10


class ToolGateway(ToolProvider):
    """One invocation's connection to the gateway, made when its agent asks for tools and ended with that agent.

    The tokens are fixed in the connection, so a connection is never kept for another request. `down`: the gateway did
    not answer when it was asked; the agent goes on without its tools.
    """

    def __init__(self, access: TenantAccess, url: str) -> None:
        """`url`: of the gateway; ConfigurationError unless a token may go there."""
        self._access = access
        self._url = _endpoint(url)
        self._client: MCPClient | None = None
        self.down = False

    async def load_tools(self, **kwargs: Any) -> Sequence[AgentTool]:
        """The tools that the gateway lists for this caller; none where it can't be reached. Strands calls this."""
        if self._client is None:
            self._client = MCPClient(
                url=self._url,
                headers=_headers(self._access),
                startup_timeout=_STARTUP_SECONDS,
            )
            self._client.add_consumer(id(self))
        try:
            return await self._client.load_tools(**kwargs)
        except Exception as error:
            self.down = True
            # No message: it could quote the request, and so the token.
            logger.error("gateway_down kind=%s", type(error).__name__)
            return []

    def add_consumer(self, consumer_id: Any, **kwargs: Any) -> None:
        """Strands calls this for every agent that has the tools; here it is one."""

    def remove_consumer(self, consumer_id: Any, **kwargs: Any) -> None:
        """Strands calls this when the agent is done: the connection ends."""
        if self._client is not None:
            self._client.remove_consumer(id(self))
            self._client = None


def _headers(access: TenantAccess) -> dict[str, str]:
    """The caller's tokens: the ID token goes along where STS, and so the functions behind the gateway, need it."""
    id_token = {ID_TOKEN_HEADER: access.id_token} if access.id_token else {}
    return {"Authorization": f"Bearer {access.token}", **id_token}


def _endpoint(url: str) -> str:
    """The address of the gateway's MCP endpoint: a token goes over TLS, or stays on this machine."""
    parts = urlsplit(url)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _LOOPBACK):
        raise ConfigurationError("GATEWAY_URL is no https address; deploy the platform stack, which puts it there")
    return url if parts.path.endswith(_PATH) else url.rstrip("/") + _PATH

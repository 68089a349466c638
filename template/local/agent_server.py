"""The deployed agent, served on a loopback port of its own while its configuration stands."""

import socket
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import uvicorn

AsgiApp = Callable[[Any, Any, Any], Awaitable[None]]

_START_SECONDS = 30
_STOP_SECONDS = 5


class AgentDidNotStart(Exception):
    """The agent's application failed while it started."""


class AgentServer:
    """One ASGI application under uvicorn in a thread. `port`: where it listens on 127.0.0.1."""

    def __init__(self, app: AsgiApp) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        # Accepted connections inherit it; asyncio doesn't see that they are TCP, and an answer's second part would wait
        # for the first part's delayed acknowledgement.
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.port: int = self._socket.getsockname()[1]
        self._server = _Server(
            uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=_STOP_SECONDS)
        )
        self._thread = threading.Thread(target=self._run, name="agent", daemon=True)
        self._thread.start()
        self._server.settled.wait(_START_SECONDS)
        if not self._server.started:
            self.stop()
            raise AgentDidNotStart("the agent's application failed while it started")

    def stop(self) -> None:
        """Let running requests end, then stop."""
        self._server.should_exit = True
        self._thread.join(2 * _STOP_SECONDS)
        self._socket.close()

    def _run(self) -> None:
        try:
            self._server.run(sockets=[self._socket])
        finally:
            self._server.settled.set()


class _Server(uvicorn.Server):
    """Tells when it has started, so that nobody has to poll."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.settled = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.settled.set()

"""A threaded HTTP/1.1 server for one WSGI application on loopback, with connections kept alive.

Werkzeug's own handler closes every connection after one answer, which costs a client more than the
answer itself.
"""

import http.client
import logging
from collections.abc import Callable, Iterable
from io import BytesIO
from typing import Any

from moto.moto_server.werkzeug_app import MotoRequestHandler
from werkzeug.serving import BaseWSGIServer, make_server

WsgiApp = Callable[[dict[str, Any], Any], Iterable[bytes]]

_log = logging.getLogger(__name__)
_IDLE_SECONDS = 60


def serve(app: WsgiApp, port: int = 0) -> BaseWSGIServer:
    """A server of `app` on 127.0.0.1, bound but not running: call `serve_forever()` in a thread.

    Args:
        port: 0 picks a free one; read it from the server's `port`.

    Raises:
        OSError: the port is in use.
    """
    return make_server("127.0.0.1", port, app, threaded=True, request_handler=RequestHandler)


class RequestHandler(MotoRequestHandler):
    """Reads a whole body before it calls the application, so that the next request can follow."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = _IDLE_SECONDS

    def run_wsgi(self) -> None:
        environ = self.make_environ()
        body = environ["wsgi.input"]
        chunked = environ.get("wsgi.input_terminated", False)
        content = body.read() if chunked else body.read(int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"] = BytesIO(content)
        environ["CONTENT_LENGTH"] = str(len(content))
        answer = _Answer(self)
        chunks: Iterable[bytes] = ()
        try:
            chunks = self.server.app(environ, answer.start)
            for chunk in chunks:
                answer.write(chunk)
            answer.finish()
        except (ConnectionError, TimeoutError):
            self.close_connection = True
        except Exception:
            _log.exception("%s %s failed", self.command, environ["PATH_INFO"])
            self.close_connection = True
            if not answer.begun:
                self.send_error(500)
        finally:
            close = getattr(chunks, "close", None)
            if close is not None:
                close()

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Requests are not logged: the record of decisions is the log."""

    def log_error(self, format: str, *args: Any) -> None:
        """An idle connection that times out is no error."""


class _Answer:
    """The WSGI answer to one request, sent as it comes: chunked when its length is not known."""

    def __init__(self, handler: RequestHandler) -> None:
        self._handler = handler
        self._head: tuple[int, list[tuple[str, str]]] | None = None
        self._chunked = False
        self.begun = False

    def start(self, status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
        self._head = int(status.split(" ", 1)[0]), headers
        return self.write

    def write(self, data: bytes) -> None:
        if not self.begun:
            self._begin()
        if data and self._chunked:
            data = b"%x\r\n%b\r\n" % (len(data), data)
        if data and self._handler.command != "HEAD":
            self._handler.wfile.write(data)

    def finish(self) -> None:
        self.write(b"")
        if self._chunked:
            self._handler.wfile.write(b"0\r\n\r\n")

    def _begin(self) -> None:
        if self._head is None:
            raise RuntimeError("the application answered nothing: it must call start_response first")
        self.begun = True
        status, headers = self._head
        names = {name.lower() for name, _ in headers}
        bodiless = self._handler.command == "HEAD" or status < 200 or status in (204, 304)
        self._chunked = not bodiless and "content-length" not in names
        self._handler.send_response_only(status, http.client.responses.get(status, ""))
        for name, value in headers:
            self._handler.send_header(name, value)
        if "date" not in names:
            self._handler.send_header("Date", self._handler.date_time_string())
        if self._chunked:
            self._handler.send_header("Transfer-Encoding", "chunked")
        self._handler.end_headers()

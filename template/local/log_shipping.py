"""What a runtime writes and logs, on its way into CloudWatch Logs."""

import logging
import queue
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from moto.logs.models import LogsBackend, logs_backends

_BATCH = 500
_END = None
_LOGGERS = ("bedrock_agentcore.app", "saas_agent")
# What the local cloud's own parts log in this process is no runtime's.
_NOT_THE_AGENTS = ("local", "moto", "responses", "werkzeug")


class LogShipper:
    """Writes lines to a log stream of its own, in the background and in their order."""

    def __init__(self, account: str, region: str, group: str) -> None:
        self._backend: LogsBackend = logs_backends[account][region]
        self._group = group
        now = datetime.now(UTC)
        self._stream = f"{now:%Y/%m/%d}/[runtime-logs]{uuid.uuid4()}"
        self._backend.ensure_log_group(group)
        self._backend.create_log_stream(group, self._stream)
        self._lines: queue.Queue[tuple[int, str] | None] = queue.Queue()
        self._thread = threading.Thread(target=self._ship, name="log-shipper", daemon=True)
        self._thread.start()

    def write(self, text: str) -> None:
        """Take one or more lines."""
        milliseconds = int(datetime.now(UTC).timestamp() * 1000)
        for line in text.splitlines():
            if line:
                self._lines.put((milliseconds, line))

    def flush(self) -> None:
        """Return when everything that was written is in the log."""
        self._lines.join()

    def stop(self) -> None:
        """Flush, and take no more."""
        self._lines.put(_END)
        self._thread.join()

    def _ship(self) -> None:
        while (first := self._lines.get()) is not _END:
            batch = [first]
            while len(batch) < _BATCH and not self._lines.empty():
                line = self._lines.get_nowait()
                if line is _END:
                    self._lines.put(_END)
                    self._lines.task_done()
                    break
                batch.append(line)
            events = [{"timestamp": time, "message": line} for time, line in batch]
            self._backend.put_log_events(self._group, self._stream, events)
            for _ in batch:
                self._lines.task_done()
        self._lines.task_done()


@contextmanager
def logged_to(shipper: LogShipper) -> Iterator[None]:
    """Have the agent's loggers write there instead of to this process's standard error, and its libraries' there too.

    Loggers belong to the process: of several agents, the log of the last one that still runs gets the lines of all.
    """
    with _lock:
        if not _shippers:
            _take_over()
        _shippers.append(shipper)
    try:
        yield
    finally:
        with _lock:
            _shippers.remove(shipper)
            if not _shippers:
                _give_back()


_lock = threading.Lock()
_shippers: list[LogShipper] = []
_former: dict[logging.Logger, list[logging.Handler]] = {}


def _take_over() -> None:
    rest = _ShippingHandler()
    rest.addFilter(lambda record: not record.name.startswith((*_LOGGERS, *_NOT_THE_AGENTS)))
    logging.getLogger().addHandler(rest)
    for name in _LOGGERS:
        logger = logging.getLogger(name)
        _former[logger] = logger.handlers
        handler = _ShippingHandler()
        if logger.handlers:
            handler.setFormatter(logger.handlers[0].formatter)
        logger.handlers = [handler]


def _give_back() -> None:
    root = logging.getLogger()
    for handler in [handler for handler in root.handlers if isinstance(handler, _ShippingHandler)]:
        root.removeHandler(handler)
    for logger in map(logging.getLogger, _LOGGERS):
        logger.handlers = _former.pop(logger)


class _ShippingHandler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        for shipper in _shippers[-1:]:
            shipper.write(self.format(record))

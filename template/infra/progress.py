"""Signs of life for what takes long: a changing line on a terminal, plain lines elsewhere."""

import shutil
import time
from collections.abc import Callable
from typing import TextIO


class Progress:
    """Shows nothing; the base of those that do."""

    def say(self, text: str) -> None:
        """A line that stays."""

    def event(self, text: str) -> None:
        """Something that happened. On a terminal, the next one takes its place."""

    def tick(self) -> None:
        """Still waiting: a terminal shows the seconds go by."""

    def close(self) -> None:
        """Removes what would be left of a changing line."""


class Lines(Progress):
    """A line for everything that stays or happens, for logs and pipes."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def say(self, text: str) -> None:
        """A line that stays."""
        print(text, file=self._stream, flush=True)

    def event(self, text: str) -> None:
        """Something that happened."""
        print(f"  {text}", file=self._stream, flush=True)


class Terminal(Progress):
    """One line at the bottom that changes, with the seconds since the last line that stays."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._clock = clock
        self._began = clock()
        self._text = ""

    def say(self, text: str) -> None:
        """A line that stays."""
        self.close()
        print(text, file=self._stream, flush=True)
        self._began = self._clock()

    def event(self, text: str) -> None:
        """Something that happened; the next one takes its place."""
        self._text = text
        self.tick()

    def tick(self) -> None:
        """Still waiting: shows the seconds go by."""
        line = f"{self._clock() - self._began:3.0f} s  {self._text}"
        width = shutil.get_terminal_size().columns - 1
        self._stream.write(f"\r\x1b[2K{line[:width]}")
        self._stream.flush()

    def close(self) -> None:
        """Removes the changing line."""
        self._text = ""
        self._stream.write("\r\x1b[2K")
        self._stream.flush()


def progress_on(stream: TextIO) -> Progress:
    """The progress that suits the stream."""
    return Terminal(stream) if stream.isatty() else Lines(stream)

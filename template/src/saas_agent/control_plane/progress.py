"""A sign of life for steps that take long."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

PATIENCE = 2.0
INTERVAL = 5.0


@contextmanager
def waiting(text: str, stream: TextIO, patience: float = PATIENCE) -> Iterator[None]:
    """Says what is under way, and for how long, after `patience` seconds and then every five."""
    done = threading.Event()
    began = time.monotonic()

    def tell() -> None:
        pause = patience
        while not done.wait(pause):
            print(f"{text} ... {time.monotonic() - began:.0f} s", file=stream, flush=True)
            pause = INTERVAL

    teller = threading.Thread(target=tell, daemon=True)
    teller.start()
    try:
        yield
    finally:
        done.set()
        teller.join()

"""A sign of life for steps that take long."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

PATIENCE = 2.0
INTERVAL = 5.0


@contextmanager
def waiting(text: str, stream: TextIO, patience: float = PATIENCE) -> Iterator[Callable[[str], None]]:
    """Says what is under way, and for how long, after `patience` seconds and then every five.

    What it gives takes another text, for what is under way by then.
    """
    done = threading.Event()
    began = time.monotonic()
    current = text

    def change(text: str) -> None:
        nonlocal current
        current = text

    def tell() -> None:
        pause = patience
        while not done.wait(pause):
            print(f"{current} ... {time.monotonic() - began:.0f} s", file=stream, flush=True)
            pause = INTERVAL

    teller = threading.Thread(target=tell, daemon=True)
    teller.start()
    try:
        yield change
    finally:
        done.set()
        teller.join()

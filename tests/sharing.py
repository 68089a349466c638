"""What the processes of one test run make once between them: pytest-xdist gives each fixtures of its own."""

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


def folder(factory: pytest.TempPathFactory, name: str) -> Path:
    """A folder of this run by that name, the same for each of its processes."""
    base = factory.getbasetemp()
    path = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name
    path.mkdir(exist_ok=True)
    return path


def once(path: Path, make: Callable[[Path], object]) -> Path:
    """`path`, which `make` filled if nobody did before. It fills another one first: nothing is left half-made."""
    with _alone(path):
        if not path.exists():
            making = path.parent / ".making" / path.name
            shutil.rmtree(making, ignore_errors=True)
            making.parent.mkdir(exist_ok=True)
            make(making)
            making.rename(path)
    return path


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    with path.with_name(f".{path.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield

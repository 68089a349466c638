"""Commands that run in a rendered repository, with the packages of this environment, which are those that it pins."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

SECONDS = 1500

# What a machine may lack. Their skipping is said as a warning, too.
_MAY_BE_SKIPPED = "not tested in a browser"


def copied(source: Path, destination: Path) -> Path:
    """A copy of a folder, for a test that writes into it; the destination."""
    return Path(shutil.copytree(source, destination, ignore=shutil.ignore_patterns("__pycache__", ".*_cache")))


def python(folder: Path, *arguments: str) -> str:
    """Runs `python -m ...` there; what it prints. Fails with that where the exit status isn't 0."""
    done = subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=folder,
        env={
            **{name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")},
            "PYTHONDONTWRITEBYTECODE": "1",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def passes(repository: Path, *tests: str) -> None:
    """Runs its tests, or those named; fails unless all passed, and none was skipped but for want of a browser."""
    lines = python(repository, "pytest", "-q", "-rs", "-p", "no:cacheprovider", *tests).strip().splitlines()
    shown = "\n".join(lines)
    skipped = [line for line in lines if line.startswith("SKIPPED")]
    assert all(_MAY_BE_SKIPPED in line for line in skipped), shown
    counts = r"\d+ passed" + (r", \d+ skipped" if skipped else "") + r"(, \d+ warnings?)? in .*"
    assert re.fullmatch(counts, lines[-1]), shown

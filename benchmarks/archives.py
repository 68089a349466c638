"""How large the code is that AgentCore Runtime loads."""

import sys
from pathlib import Path

from .measure import Command, Row, environment, run


def measure(rendered: Path) -> list[Row]:
    """`rendered`: the default variant; its zips are built in it."""
    command = [sys.executable, "-m", "infra.package"]
    run(Command(command, rendered, environment(PYTHONPATH="src")))
    megabytes = (rendered / "dist" / "runtime.zip").stat().st_size / 1024**2
    what = "runtime zip, dependencies for Linux on arm64 included"
    return [Row(what, f"{megabytes:.1f} MB", megabytes, f"{megabytes:.1f} MB", 250)]

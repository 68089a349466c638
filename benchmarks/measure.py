"""Running commands in turns, and the table of what came out."""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
ROUNDS = 7


@dataclass(frozen=True)
class Command:
    """What is timed. `prepare` runs before each time, untimed."""

    arguments: Sequence[str | Path]
    folder: Path
    environ: Mapping[str, str]
    prepare: Callable[[], None] = lambda: None


@dataclass(frozen=True)
class Row:
    """One line of the table. `bound`: what `value` must not exceed; None where nothing was promised."""

    what: str
    measured: str
    value: float
    shown: str
    bound: float | None

    @property
    def kept(self) -> bool:
        """Whether the promise holds."""
        return self.bound is None or self.value <= self.bound


def environment(**changes: str) -> dict[str, str]:
    """This process's environment, without what would keep Python from its bytecode caches."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return kept | changes


def run(command: Command) -> None:
    """Runs it once; fails with what it printed."""
    done = subprocess.run(
        [str(argument) for argument in command.arguments],
        cwd=command.folder,
        env=dict(command.environ),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        shown = " ".join(str(argument) for argument in command.arguments)
        raise SystemExit(f"{shown}: exit status {done.returncode}\n{done.stdout}")


def inside(rendered: Path, script: str, *arguments: object) -> tuple[dict[str, Any], bool]:
    """What a script of this folder finds in a generated repository, and whether it ended well.

    It prints JSON as its last line.
    """
    done = subprocess.run(
        # Without -P, this folder would come first, and `requests.py` would pass for the package of its name.
        [sys.executable, "-P", str(Path(__file__).with_name(script)), *map(str, arguments)],
        cwd=rendered,
        env=environment(PYTHONPATH=".:src"),
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if not done.stdout.strip():
        raise SystemExit(f"{script}: exit status {done.returncode}, and nothing was printed")
    return json.loads(done.stdout.strip().splitlines()[-1]), done.returncode == 0


def medians(commands: Mapping[str, Command], rounds: int = ROUNDS) -> dict[str, float]:
    """Median seconds of each, after one untimed run; all in turns, so that a slow minute hits all."""
    taken: dict[str, list[float]] = {name: [] for name in commands}
    for number in range(rounds + 1):
        for name, command in commands.items():
            command.prepare()
            began = time.perf_counter()
            run(command)
            if number:
                taken[name].append(time.perf_counter() - began)
    return {name: statistics.median(values) for name, values in taken.items()}


def ratio(what: str, seconds: Mapping[str, float], ours: str, theirs: str, bound: float) -> Row:
    """Ours by theirs, as a row."""
    value = seconds[ours] / seconds[theirs]
    measured = f"{seconds[ours]:.2f} s / {seconds[theirs]:.2f} s"
    return Row(what, measured, value, f"{value:.2f}x", bound)


def table(rows: Sequence[Row]) -> str:
    """The rows in Markdown."""
    lines = ["| what | measured | result | goal | kept |", "|---|---|---|---|---|"]
    for row in rows:
        # Where words are shown for a number, the goal has no unit.
        unit = row.shown.lstrip("0123456789.-") if row.shown[0].isdigit() else ""
        goal = "" if row.bound is None else f"at most {row.bound:g}{unit}"
        kept = "" if row.bound is None else "yes" if row.kept else "no"
        lines.append(f"| {row.what} | {row.measured} | {row.shown} | {goal} | {kept} |")
    return "\n".join(lines)

"""An independent IAM evaluator: the npm package iam-simulate in a process of its own.

Its licence is AGPL-3.0, so it is neither linked nor part of what is generated: it is installed on
demand outside the sources, talks JSON lines, and judges this repository's own tests alone.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
INSTALL_SECONDS = 120


class OracleUnavailable(Exception):
    """Node, npm or the npm registry can't be reached."""


@dataclass(frozen=True)
class Case:
    """One question: may `principal` do `action` on `resource` in `context` under `policies`?

    Attributes:
        trust: the one policy is the trust policy of `resource`, a role.
        principal: ARN of an assumed-role session.
    """

    policies: Sequence[dict[str, Any]]
    principal: str
    action: str
    resource: str
    context: dict[str, str | list[str]]
    trust: bool = False


@dataclass(frozen=True)
class Answer:
    """What the oracle says.

    Attributes:
        verdict: `Allowed`, `ImplicitlyDenied` or `ExplicitlyDenied`; empty after an error.
        ignored: context keys that it left out because the action does not support them.
    """

    verdict: str = ""
    ignored: tuple[str, ...] = ()
    error: str = ""


def install(directory: Path) -> Path:
    """Install the evaluator into `directory` unless it is there; return the script to run.

    Raises:
        OracleUnavailable: node or npm is missing, or the registry can't be reached.
    """
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            raise OracleUnavailable(f"{program} is not installed")
    directory.mkdir(parents=True, exist_ok=True)
    (directory / ".gitignore").write_text("*\n")
    script = Path(shutil.copy(HERE / "simulate.mjs", directory))
    wanted = json.loads((HERE / "package.json").read_text())
    if _installed(directory, wanted["dependencies"]):
        return script
    shutil.copy(HERE / "package.json", directory)
    command = ["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", "--no-package-lock"]
    try:
        done = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=INSTALL_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise OracleUnavailable(f"npm install took over {INSTALL_SECONDS} s") from error
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if line.startswith("npm error")]
        raise OracleUnavailable(f"npm install failed: {' / '.join(errors[:3])}")
    return script


def _installed(directory: Path, versions: dict[str, str]) -> bool:
    manifests = {name: directory / "node_modules" / name / "package.json" for name in versions}
    return all(
        manifest.exists() and json.loads(manifest.read_text())["version"] == versions[name]
        for name, manifest in manifests.items()
    )


def judge(script: Path, cases: Sequence[Case]) -> list[Answer]:
    """The answers to `cases`, in order; as many processes as there are cores share the work."""
    processes = min(4, os.cpu_count() or 1)
    shares = [cases[start::processes] for start in range(processes)]
    with ThreadPoolExecutor(processes) as pool:
        answers = [iter(share) for share in pool.map(lambda share: _run(script, share), shares)]
    return [next(answers[number % processes]) for number in range(len(cases))]


def _run(script: Path, cases: Sequence[Case]) -> list[Answer]:
    lines = "".join(json.dumps(asdict(case)) + "\n" for case in cases)
    done = subprocess.run(["node", script.name], cwd=script.parent, input=lines, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"the IAM oracle ended with {done.returncode}: {done.stderr[-400:]}")
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    if len(answers) != len(cases):
        raise RuntimeError(f"the IAM oracle answered {len(answers)} of {len(cases)} cases")
    return [Answer(**{**answer, "ignored": tuple(answer.get("ignored", ()))}) for answer in answers]

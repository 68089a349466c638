"""How long it takes to bring a repository to a newer version of its template, beside Copier with nothing to do."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

from tests.git import ENVIRONMENT, commit_all, git
from tests.matrix import ROOT
from tests.releases import released
from tests.rendering import copy

from .copying import empty_template
from .measure import Command, Row, environment, medians, ratio

COPIER = [sys.executable, "-m", "copier", "update", "--quiet", "--defaults"]
MAKE_UPDATE = [sys.executable, "-m", "updates.update"]


def measure(template: Path, scratch: Path) -> list[Row]:
    """`template`: the tagged repository. The default variant of the newest release is updated to it."""
    # Copier runs git in this process, too.
    os.environ.update(ENVIRONMENT)
    project, plain, nothing = (scratch / "projects" / name for name in ("make", "plain", "empty"))
    for folder in (project, plain):
        copy(template, folder, {}, released()[-1].tag)
        commit_all(folder, "Generate")
    empty = empty_template(scratch / "empty-update")
    copy(empty, nothing, {})
    commit_all(nothing, "Generate")
    commit_all(empty, "The next release", tag="v0.2.0")
    files = sum(path.is_file() for path in project.rglob("*") if ".git" not in path.parts)
    seconds = medians(
        {
            "make update": Command(MAKE_UPDATE, project, _environment(), _undoing(project)),
            "copier update": Command(COPIER, plain, _environment(), _undoing(plain)),
            "empty": Command(COPIER, nothing, _environment(), _undoing(nothing)),
        }
    )
    return [
        ratio(f"make update, {files} files / copier update of an empty template", seconds, "make update", "empty", 2),
        ratio(f"make update / copier update, the same {files} files", seconds, "make update", "copier update", 1),
    ]


def _environment() -> dict[str, str]:
    return environment(**ENVIRONMENT, PYTHONPATH=str(ROOT / "template"))


def _undoing(folder: Path) -> Callable[[], None]:
    def undo() -> None:
        git(folder, "reset", "--quiet", "--hard")
        git(folder, "clean", "--quiet", "--force", "-d")

    return undo

"""Variants, rendered as a user renders them: from a tagged repository and without `--trust`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import copier

from .matrix import Variant


class Renderings:
    """Each variant rendered once, on demand, into a folder of its name. Read-only for the tests."""

    def __init__(self, template: Path, folder: Path) -> None:
        self._template = template
        self._folder = folder

    def __getitem__(self, variant: Variant) -> Path:
        destination = self._folder / variant.id
        if not destination.exists():
            copy(self._template, destination, variant.answers)
        return destination


def copy(template: Path, destination: Path, answers: Mapping[str, Any], version: str | None = None) -> None:
    """`copier copy --defaults` with these answers, of the newest version or the one whose tag is named."""
    copier.run_copy(
        str(template), destination, data=dict(answers), vcs_ref=version, defaults=True, quiet=True, unsafe=False
    )


def update(project: Path, answers: Mapping[str, Any] | None = None, *, trusted: bool = False) -> None:
    """`copier update --defaults` to the newest version, with these answers changed."""
    copier.run_update(
        project,
        data=dict(answers or {}),
        defaults=True,
        overwrite=True,
        quiet=True,
        unsafe=trusted,
    )


def contents(folder: Path, *leave_out: str) -> dict[str, tuple[int, bytes]]:
    """Path -> executable bits and bytes, of every file but `.git` and those named."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {
        name: (path.stat().st_mode & 0o111, path.read_bytes())
        for path in files
        if (name := path.relative_to(folder).as_posix()).split("/")[0] != ".git" and name not in leave_out
    }

"""Variants, rendered as a user renders them: from a tagged repository and without `--trust`."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import CodeType
from typing import Any
from unittest import mock

import copier
from jinja2 import Environment

from .matrix import Variant
from .sharing import once


class Renderings:
    """Each variant rendered once a run, on demand, into a folder of its name. Read-only for the tests."""

    def __init__(self, template: Path, folder: Path) -> None:
        self._template = template
        self._folder = folder

    def __getitem__(self, variant: Variant) -> Path:
        return once(self._folder / variant.id, lambda folder: copy(self._template, folder, variant.answers))


@contextmanager
def compiled_once() -> Iterator[None]:
    """Has Jinja compile a source once for all copies and updates: Copier compiles each part of each path anew."""
    compiled: dict[tuple[object, ...], CodeType] = {}
    compile_anew = Environment.compile

    def compile_(environment: Environment, source: Any, name: Any = None, filename: Any = None, *more: Any) -> Any:
        if not isinstance(source, str) or any(more):
            return compile_anew(environment, source, name, filename, *more)
        syntax = (type(environment), environment.undefined, environment.keep_trailing_newline)
        key = (*syntax, environment.variable_start_string, environment.block_start_string, source, name, filename)
        if key not in compiled:
            compiled[key] = compile_anew(environment, source, name, filename)
        return compiled[key]

    with mock.patch.object(Environment, "compile", compile_):
        yield


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

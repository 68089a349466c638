"""The released versions, and this tree as the next one: what tests and benchmarks generate from."""

import re
import shutil
import subprocess
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from .git import commit_all, git
from .matrix import ROOT, Variant

VERSION = re.compile(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)")
HEADING = re.compile(r"^## (?:(?P<version>\d+\.\d+\.\d+) - \d{4}-\d\d-\d\d|Unreleased)$", re.MULTILINE)


class ReleaseError(Exception):
    """The record of releases is wrong; the message says what to do."""


@dataclass(frozen=True)
class Release:
    """A version and its commit, in a repository that has it."""

    version: str
    commit: str
    repository: Path = ROOT

    @property
    def tag(self) -> str:
        return f"v{self.version}"

    def read(self, path: str) -> str:
        """The text of a file as it was released."""
        return git(self.repository, "show", f"{self.commit}:{path}")

    def questions(self) -> dict[str, dict[str, Any]]:
        """The questions of `copier.yml` as it was released, by key, in order."""
        document = yaml.safe_load(self.read("copier.yml"))
        return {key: question for key, question in document.items() if not key.startswith("_")}

    def variants(self) -> tuple[Variant, ...]:
        """The variants that were supported."""
        document = yaml.safe_load(self.read("tests/variants.yml"))
        return tuple(Variant(**entry) for entry in document["supported"])


def order(version: str) -> tuple[int, ...]:
    """What versions are sorted by; ReleaseError for what is no version."""
    if not VERSION.fullmatch(version):
        raise ReleaseError(f"{version!r} is no version; expected such as 0.2.0")
    return tuple(int(part) for part in version.split("."))


@cache
def released() -> tuple[Release, ...]:
    """Every version of `releases.toml`, oldest first; ReleaseError where this clone lacks the commit of one."""
    document = tomllib.loads((ROOT / "releases.toml").read_text("utf-8"))
    releases = tuple(Release(version, commit) for version, commit in document.items())
    if [release.version for release in releases] != sorted(document, key=order):
        raise ReleaseError("releases.toml is not sorted; expected the oldest version first")
    for release in releases:
        try:
            git(ROOT, "cat-file", "-e", f"{release.commit}^{{commit}}")
        except subprocess.CalledProcessError:
            raise ReleaseError(
                f"the commit of {release.version} in releases.toml is not in this clone; "
                "fetch the whole history (git fetch --unshallow) or mend the file"
            ) from None
    return releases


def headings() -> list[str | None]:
    """The versions of CHANGELOG.md, newest first; None for what is unreleased."""
    return [found["version"] for found in HEADING.finditer((ROOT / "CHANGELOG.md").read_text("utf-8"))]


def candidate() -> str:
    """The version that this tree is to be: CHANGELOG.md's newest, or the next minor one while that has no number."""
    newest = headings()[0]
    if newest is not None and newest != released()[-1].version:
        return newest
    major, minor, _ = order(released()[-1].version)
    return f"{major}.{minor + 1}.0"


def tagged_clone(destination: Path) -> None:
    """A clone in which every release is tagged, and this tree, edits and new files included, is the next one."""
    git(ROOT, "clone", "--quiet", "--no-checkout", "--shared", "--no-tags", str(ROOT), str(destination))
    for release in released():
        git(destination, "tag", release.tag, release.commit)
    listed = git(ROOT, "ls-files", "--cached", "--others", "--exclude-standard", "-z")
    for name in filter(None, listed.split("\0")):
        source, target = ROOT / name, destination / name
        if source.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)
    commit_all(destination, "The template", tag=f"v{candidate()}")

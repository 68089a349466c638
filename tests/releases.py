"""The released versions, and this tree as the next one: what tests and benchmarks generate from.

`python -m tests.releases check VERSION` says whether this tree can be released as that version, `stamp VERSION` writes
it into CHANGELOG.md, and `record` adds the commit of the newest version to releases.toml, for the first change after.
"""

import datetime
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from .git import commit_all, git
from .matrix import ROOT, Variant

CHANGELOG = ROOT / "CHANGELOG.md"
RELEASES = ROOT / "releases.toml"
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
    document = tomllib.loads(RELEASES.read_text("utf-8"))
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
    return [found["version"] for found in HEADING.finditer(CHANGELOG.read_text("utf-8"))]


def unreleased() -> str:
    """What CHANGELOG.md says of what is unreleased."""
    return re.split(r"^## .*$", CHANGELOG.read_text("utf-8"), flags=re.MULTILINE)[1]


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


def check(version: str) -> None:
    """ReleaseError where this tree can't be released as that version. The tests are run apart."""
    newest = released()[-1].version
    if order(version) <= order(newest):
        raise ReleaseError(f"{version} is not newer than {newest}; choose a higher version")
    if git(ROOT, "status", "--porcelain"):
        raise ReleaseError("there are uncommitted changes; commit or stash them")
    if headings()[0] is not None:
        raise ReleaseError('CHANGELOG.md has no section "Unreleased" at its top; say there what comes in')
    if "### Update notes\n\n- " not in unreleased():
        raise ReleaseError('the section "Unreleased" of CHANGELOG.md has no "### Update notes" with a point')
    for folder in ROOT.glob("hooks/v*"):
        if order(folder.name[1:]) > order(newest) and folder.name != f"v{version}":
            raise ReleaseError(f"hooks/{folder.name} is of a version that is never released; name it v{version}")


def stamp(version: str) -> None:
    """Writes version and date into CHANGELOG.md."""
    check(version)
    today = datetime.datetime.now(datetime.UTC).date()
    text = CHANGELOG.read_text("utf-8").replace("## Unreleased\n", f"## {version} - {today}\n", 1)
    CHANGELOG.write_text(text, "utf-8")
    print(f"CHANGELOG.md is stamped. Now: git commit --all --message 'Version {version}' && git tag v{version}")


def record() -> None:
    """Adds the newest version's commit, which its tag names, to releases.toml; nothing where it stands there."""
    newest = next(version for version in headings() if version is not None)
    if newest == released()[-1].version:
        print(f"{newest} is recorded already.")
        return
    try:
        commit = git(ROOT, "rev-parse", "--verify", "--quiet", f"v{newest}^{{commit}}").strip()
    except subprocess.CalledProcessError:
        raise ReleaseError(f"there is no tag v{newest}; fetch the tags, or tag the commit that was released") from None
    with RELEASES.open("a", encoding="utf-8") as file:
        file.write(f'"{newest}" = "{commit}"\n')
    print(f"{newest} is {commit}.")


def main(arguments: Sequence[str]) -> int:
    """Does what the first argument names; exit status 1, and a line, where it can't be."""
    try:
        match arguments:
            case ["check", version]:
                check(version)
            case ["stamp", version]:
                stamp(version)
            case ["record"]:
                record()
            case _:
                print("usage: python -m tests.releases check VERSION | stamp VERSION | record", file=sys.stderr)
                return 2
    except ReleaseError as error:
        print(f"release: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

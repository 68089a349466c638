"""The template that this repository was generated from: its versions, what they render, and what they renamed."""

import re
import subprocess
import sys
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from updates.merge import UpdateError, git

ANSWERS_FILE = ".copier-answers.yml"

_TAG = re.compile(r"v?(\d+)\.(\d+)\.(\d+)")
_HEADING = re.compile(r"^## (\d+\.\d+\.\d+|Unreleased)\b.*$", re.MULTILINE)
_SHORT = {"gh": "https://github.com", "gl": "https://gitlab.com"}


@dataclass(frozen=True)
class Answers:
    """`.copier-answers.yml`: where the template is, the version that was rendered, and the answers by question."""

    source: str
    version: str
    given: Mapping[str, Any]

    @classmethod
    def read(cls, text: str) -> "Answers":
        """The file's text -> Answers; UpdateError where it names no template or version."""
        try:
            document = yaml.safe_load(text)
            given = {key: value for key, value in document.items() if not key.startswith("_")}
            return cls(str(document["_src_path"]), str(document["_commit"]), given)
        except (yaml.YAMLError, AttributeError, KeyError) as error:
            raise UpdateError(
                f"{ANSWERS_FILE} is not what Copier wrote ({type(error).__name__}); restore it from an earlier commit"
            ) from None

    def write(self, path: Path) -> None:
        """Writes them as Copier reads them."""
        document = {"_commit": self.version, "_src_path": self.source, **self.given}
        path.write_text(yaml.safe_dump(document), encoding="utf-8")


@dataclass
class Migration:
    """What releases renamed, read as data: nothing of the template is executed.

    keys: question renamed. values: question (by its old key) -> value renamed. dropped: question that is gone. moved:
    file renamed. removed: file that is gone. Reasons stand beside what is gone.
    """

    keys: dict[str, str] = field(default_factory=dict)
    values: dict[str, dict[str, Any]] = field(default_factory=dict)
    dropped: dict[str, str] = field(default_factory=dict)
    moved: dict[str, str] = field(default_factory=dict)
    removed: dict[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str, where: str) -> "Migration":
        """`migration.toml` -> Migration; UpdateError for a part that this updater doesn't know."""
        document = tomllib.loads(text)
        unknown = set(document) - set(cls.__dataclass_fields__)
        if unknown:
            raise UpdateError(
                f"{where} has a part {', '.join(sorted(unknown))} that this updater doesn't know; "
                "update to an earlier version first (--to), which brings a newer updater"
            )
        return cls(**document)

    def carry(self, answers: Mapping[str, Any]) -> dict[str, Any]:
        """The answers under the names that they have now."""
        carried = {}
        for key, value in answers.items():
            if key in self.dropped:
                continue
            renamed = self.values.get(key, {})
            carried[self.keys.get(key, key)] = (
                [renamed.get(one, one) for one in value]
                if isinstance(value, list)
                else renamed.get(value, value)
                if isinstance(value, str)
                else value
            )
        return carried


class Template:
    """A clone of the template's repository."""

    def __init__(self, source: str, folder: Path) -> None:
        """Clones it into `folder`; UpdateError where it can't be reached."""
        self.source = source
        self._folder = folder
        git(folder.parent, "clone", "--quiet", "--no-checkout", "--", _address(source), str(folder))

    def newest(self) -> str:
        """The tag of the newest version; without any, the commit that the repository's HEAD is at."""
        tags = {tuple(map(int, found.groups())): tag for tag in self._tags() if (found := _TAG.fullmatch(tag))}
        return tags[max(tags)] if tags else git(self._folder, "rev-parse", "HEAD").strip()

    def require(self, version: str) -> str:
        """The commit of a version; UpdateError where the template has no such version."""
        try:
            return git(self._folder, "rev-parse", "--verify", "--quiet", f"{version}^{{commit}}").strip()
        except UpdateError:
            raise UpdateError(
                f"the template has no version {version}; expected a tag of {self.source}; choose another with --to"
            ) from None

    def require_newer(self, version: str, than: str) -> None:
        """UpdateError where the version is not a descendant of the other, and not the same."""
        new, old = self.require(version), self.require(than)
        if new != old and git(self._folder, "merge-base", new, old).strip() != old:
            raise UpdateError(
                f"{version} is not newer than {than}, which this repository has; choose another with --to"
            )

    def read(self, version: str, path: str) -> str | None:
        """The text of a file of that version; None where it has none."""
        listed = git(self._folder, "ls-tree", "--name-only", version, "--", path)
        return git(self._folder, "show", f"{version}:{path}") if listed else None

    def migrations(self, old: str, new: str) -> list[Migration]:
        """What each release after the old one, up to the new one, renamed; in order."""
        found = []
        for release in sorted(self._releases(new) - self._releases(old)):
            path = f"hooks/v{'.'.join(map(str, release))}/migration.toml"
            if (text := self.read(new, path)) is not None:
                found.append(Migration.parse(text, path))
        return found

    def owned(self, version: str) -> tuple[str, ...]:
        """Files and folders that are the owner's, as that version's copier.yml lists them: no leading slash."""
        return tuple(pattern.strip("/") for pattern in self._configuration(version).get("_skip_if_exists", ()))

    def questions(self, version: str) -> tuple[str, ...]:
        """The keys of that version's questions."""
        return tuple(key for key in self._configuration(version) if not key.startswith("_"))

    def notes(self, old: str, new: str) -> tuple[tuple[str, str], ...]:
        """Heading and text of what CHANGELOG.md says of the versions after the old one, newest first."""
        now, before = (self.read(version, "CHANGELOG.md") or "" for version in (new, old))
        known = {found.group(1) for found in _HEADING.finditer(before)} - {"Unreleased"}
        found = list(_HEADING.finditer(now))
        ends = [heading.start() for heading in found[1:]] + [len(now)]
        return tuple(
            (heading.group(0).removeprefix("## "), now[heading.end() : end].strip())
            for heading, end in zip(found, ends, strict=True)
            if heading.group(1) not in known
        )

    def render(self, version: str, folder: Path, *options: str) -> "Rendering":
        """Starts `copier copy` of that version into `folder`, whose answers file it goes by where there is one."""
        # By its commit: "HEAD" would bring in the empty working tree of the clone.
        chosen = ["--defaults", "--overwrite", "--vcs-ref", self.require(version), *options]
        command = [sys.executable, "-m", "copier", "copy", "--quiet", *chosen, str(self._folder), str(folder)]
        return Rendering(version, command, self, folder)

    def name_source(self, folder: Path) -> None:
        """In what Copier rendered from the clone, names the template's own address."""
        path = folder / ANSWERS_FILE
        text = path.read_text(encoding="utf-8")
        path.write_text(text.replace(_line(str(self._folder)), _line(self.source)), encoding="utf-8")

    def _configuration(self, version: str) -> dict[str, Any]:
        document: dict[str, Any] = yaml.safe_load(self.read(version, "copier.yml") or "{}")
        return document

    def _releases(self, version: str) -> set[tuple[int, ...]]:
        """The releases that this version is or comes after."""
        merged = git(self._folder, "tag", "--merged", version).splitlines()
        return {tuple(map(int, found.groups())) for tag in merged if (found := _TAG.fullmatch(tag))}

    def _tags(self) -> list[str]:
        return git(self._folder, "tag", "--list").splitlines()


class Rendering:
    """One run of Copier, of its own process, so that two take as long as one."""

    def __init__(self, version: str, command: Sequence[str], template: Template, folder: Path) -> None:
        self._version = version
        self._template = template
        self._folder = folder
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, encoding="utf-8")

    def wait(self) -> None:
        """Returns when it is done; UpdateError with Copier's last line where it refused."""
        _, said = self._process.communicate()
        if self._process.returncode != 0:
            last = (said.strip() or f"exit status {self._process.returncode}").splitlines()[-1]
            raise UpdateError(f"Copier doesn't render {self._version} with these answers: {last}")
        self._template.name_source(self._folder)


def _address(source: str) -> str:
    """What git clones for a `_src_path` of Copier's."""
    host, colon, path = source.partition(":")
    if colon and host in _SHORT:
        return f"{_SHORT[host]}/{path.strip('/').removesuffix('.git')}.git"
    if source.startswith("git+"):
        return source.removeprefix("git+")
    return str(Path(source).expanduser()) if source.startswith("~") else source


def _line(source: str) -> str:
    """The answers file's line, as Copier writes it."""
    return yaml.safe_dump({"_src_path": source}, indent=4, allow_unicode=True, default_flow_style=False)

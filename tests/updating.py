"""Repositories that released versions generated, and the updater that they are brought to this tree by."""

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from .git import commit_all, git
from .matrix import ROOT, Variant
from .releases import Release, candidate, order, released
from .rendering import contents, copy
from .running import copied
from .sharing import once

# What is generated is imported as it stands: behind everything else, since it has tests of its own.
sys.path.append(str(ROOT / "template"))

import updates.merge  # noqa: E402
import updates.template  # noqa: E402
import updates.update  # noqa: E402

updater = updates.update
Migration = updates.template.Migration
Workshop = updates.merge.Workshop
UpdateError = updates.merge.UpdateError

LABEL = f"template-v{candidate()}"


@dataclass(frozen=True)
class Origin:
    """What generated a repository: a release, and a variant that it supported."""

    release: Release
    variant: Variant

    @property
    def id(self) -> str:
        return f"{self.release.tag}-{self.variant.id}"

    def answers(self) -> dict[str, Any]:
        """The variant's answers as they are called now."""
        carried: dict[str, Any] = dict(self.variant.answers)
        for _, migration in migrations(ROOT, self.release.version):
            carried = migration.carry(carried)
        return carried


ORIGINS = tuple(Origin(release, variant) for release in released() for variant in release.variants())


def migrations(template: Path, after: str = "0.0.0") -> Iterator[tuple[str, Any]]:
    """Version and content of each `hooks/v*/migration.toml` of a template for versions after this one, in order."""
    folders = sorted(template.glob("hooks/v*"), key=lambda folder: order(folder.name[1:]))
    for folder in folders:
        if order(folder.name[1:]) > order(after):
            path = folder / "migration.toml"
            yield folder.name[1:], Migration.parse(path.read_text("utf-8"), str(path.relative_to(template)))


class Generated:
    """Repositories as releases generated them and their owners committed them; each is made once and cloned for use."""

    def __init__(self, template: Path, pristine: Path, clones: Path) -> None:
        self._template = template
        self._pristine = pristine
        self._folder = clones
        self._clones = 0

    def pristine(self, origin: Origin) -> Path:
        """As generated; read-only."""

        def generate(folder: Path) -> None:
            copy(self._template, folder, origin.variant.answers, origin.release.tag)
            commit_all(folder, "Generate")

        return once(self._pristine / origin.id, generate)

    def __getitem__(self, origin: Origin) -> Path:
        """A clone of its own for whoever asks."""
        self._clones += 1
        own = self._folder / f"{origin.id}-{self._clones}"
        git(self._folder, "clone", "--quiet", "--shared", str(self.pristine(origin)), str(own))
        return own


class NextRelease:
    """A clone of the template, in which a test makes the release after this tree."""

    def __init__(self, template: Path, folder: Path) -> None:
        self.folder = folder / "template"
        git(folder, "clone", "--quiet", "--shared", str(template), str(self.folder))
        major, minor, patch = order(candidate())
        self.version = f"v{major}.{minor + 1}.{patch}"

    def replace(self, path: str, *changes: tuple[str, str]) -> None:
        """Replaces each text by another, everywhere in a file; it must be there."""
        text = (self.folder / path).read_text("utf-8")
        for old, new in changes:
            assert old in text, (path, old)
            text = text.replace(old, new)
        (self.folder / path).write_text(text, "utf-8")

    def rename_everywhere(self, old: str, new: str) -> None:
        """Renames a word in all of the template but its history, as a careless author does."""
        for path in git(self.folder, "grep", "-lw", old, "--", "copier.yml", "template", "hooks/*.jinja").splitlines():
            text = (self.folder / path).read_text("utf-8")
            (self.folder / path).write_text(re.sub(rf"\b{re.escape(old)}\b", new, text), "utf-8")

    def write(self, path: str, text: str) -> None:
        """Writes a file, or appends to it."""
        (self.folder / path).parent.mkdir(parents=True, exist_ok=True)
        with (self.folder / path).open("a", encoding="utf-8") as file:
            file.write(text)

    def migration(self, text: str) -> None:
        """What the release says it renamed."""
        self.write(f"hooks/{self.version}/migration.toml", text)

    def migrates(self) -> None:
        """Has Copier run the release's migration."""
        script = "{{ _copier_conf.src_path }}/hooks/migrate.py"
        command = f'["{{{{ _copier_python }}}}", "{script}", "{self.version}"]'
        self.write("copier.yml", f"_migrations:\n  - version: {self.version}\n    when: true\n    command: {command}\n")

    def notes(self, text: str) -> None:
        """What CHANGELOG.md says of the release."""
        path = self.folder / "CHANGELOG.md"
        before = path.read_text("utf-8").replace("## Unreleased", f"## {candidate()} - 2026-12-01")
        head, heading, rest = before.partition("\n## ")
        path.write_text(f"{head}\n## {self.version[1:]} - 2027-01-31\n\n{text}{heading}{rest}", "utf-8")

    def publish(self) -> None:
        """Commits and tags it."""
        commit_all(self.folder, "The next release", tag=self.version)

    def project(self, rendered: Path) -> Path:
        """A repository that this tree generated from the clone, and its owner committed. `rendered`: its files."""
        project = copied(rendered, self.folder.with_name("project"))
        answers = project / ".copier-answers.yml"
        text = re.sub(r"(?m)^_src_path: .*$", f"_src_path: {self.folder}", answers.read_text("utf-8"))
        answers.write_text(text, "utf-8")
        commit_all(project, "Generate")
        return project


def owned(template: Path = ROOT) -> tuple[str, ...]:
    """What is the owner's, without the leading slash: files and folders."""
    document = yaml.safe_load((template / "copier.yml").read_text("utf-8"))
    return tuple(pattern.strip("/") for pattern in document["_skip_if_exists"])


def ours(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Path -> executable bits and bytes, of every file that the template owns."""
    roots = owned()
    return {
        name: content
        for name, content in contents(folder).items()
        if not any(name == root or name.startswith(f"{root}/") for root in roots)
    }


def unmerged(folder: Path) -> dict[str, dict[int, str]]:
    """Path -> stage -> blob, of `git ls-files --unmerged`."""
    found: dict[str, dict[int, str]] = {}
    for line in git(folder, "ls-files", "--unmerged", "-z").split("\0")[:-1]:
        kind, path = line.split("\t", 1)
        found.setdefault(path, {})[int(kind.split()[2])] = kind.split()[1]
    return found

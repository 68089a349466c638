"""What a tree must hold to be released: nobody who was generated before loses an answer, a file, or has to trust it."""

import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import yaml

from .releases import Release
from .updating import migrations


def configuration(template: Path) -> dict[str, Any]:
    """The parsed copier.yml."""
    document: dict[str, Any] = yaml.safe_load((template / "copier.yml").read_text("utf-8"))
    return document


def values(question: dict[str, Any]) -> list[Any]:
    """The values that a question with choices offers."""
    choices = question.get("choices", [])
    return list(choices.values() if isinstance(choices, dict) else choices)


def lost_answers(release: Release, template: Path) -> Iterator[str]:
    """Questions and choices of a release that are gone, and that no migration.toml since then carries; a line each."""
    now = configuration(template)
    for key, before in release.questions().items():
        carried, dropped = {key: None}, False
        for _, migration in migrations(template, release.version):
            dropped = dropped or key in migration.dropped
            carried = migration.carry(carried)
        if dropped:
            continue
        [name] = carried
        if name not in now:
            yield f"{key}: no question has this key any more, and no migration.toml renames or drops it"
            continue
        for part, default in (("type", None), ("multiselect", False)):
            if now[name].get(part, default) != before.get(part, default):
                yield f"{key}: another {part} can't take the answers that there are"
        for value in values(before):
            told: Any = {key: value}
            for _, migration in migrations(template, release.version):
                told = migration.carry(told)
            if told[name] not in values(now[name]):
                yield f"{key}: the choice {value} is gone, and no migration.toml renames it"


def lost_files(release: Release, before: Collection[str], now: Collection[str], template: Path) -> Iterator[str]:
    """Files that a release generated and this tree doesn't, for the same answers, and of which nothing is said."""
    moved: dict[str, str] = {}
    removed: set[str] = set()
    for _, migration in migrations(template, release.version):
        moved = {source: migration.moved.get(target, target) for source, target in moved.items()} | migration.moved
        removed |= set(migration.removed)
    for path in sorted(set(before) - set(now) - removed):
        if moved.get(path) not in now:
            yield f'"{path}" = "where it went, or why it is gone"'


def asks_for_trust(template: Path) -> Iterator[str]:
    """What makes Copier ask for `--trust`, and isn't a migration of answers that its update notes tell of."""
    document = configuration(template)
    for part in ("_tasks", "_jinja_extensions"):
        if document.get(part):
            yield f"copier.yml has {part}: everybody would have to trust it, on copy and on every update"
    known = {f"v{version}": migration for version, migration in migrations(template)}
    for entry in document.get("_migrations", []):
        version = entry.get("version") if isinstance(entry, dict) else None
        if version is None:
            yield "a migration has no version: it would run, and ask for trust, on every update"
            continue
        migration = known.get(version)
        if migration is None or not (migration.keys or migration.values):
            yield f"the migration of {version} renames no answer: `copier update` can do without it, and without trust"
        if re.search(r"asks for `?--trust", _notes(template, version.removeprefix("v"))) is None:
            yield f"CHANGELOG.md doesn't say that `copier update` asks for --trust on the way to {version}"


def _notes(template: Path, version: str) -> str:
    """What CHANGELOG.md says of a version, or of what is unreleased where it has no such version yet."""
    text = (template / "CHANGELOG.md").read_text("utf-8")
    sections = re.split(r"^## ", text, flags=re.MULTILINE)[1:]
    named = [section for section in sections if section.startswith(version)] or sections[:1]
    return named[0]

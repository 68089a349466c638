"""What was released stays understood: its questions, its files, and every repository that was generated from it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .matrix import ROOT, questions
from .releases import Release, ReleaseError, candidate, headings, order, released
from .rendering import contents
from .updating import ORIGINS, Generated, Origin, migrations

Fresh = Callable[[Origin], Path]

every_release = pytest.mark.parametrize("release", released(), ids=lambda release: release.tag)


def values(question: dict[str, Any]) -> list[Any]:
    """The values that a question with choices offers."""
    choices = question.get("choices", [])
    return list(choices.values() if isinstance(choices, dict) else choices)


def test_every_version_but_the_newest_is_recorded() -> None:
    unreleased, *before = headings() if headings()[0] is None else [None, *headings()]
    assert unreleased is None
    named = [release.version for release in reversed(released())]
    assert named in (before, before[1:]), "releases.toml and CHANGELOG.md don't list the same versions"
    if headings()[0] is None:
        assert named == before, f"record the commit of {before[0]} in releases.toml before you change anything"


def test_this_tree_is_newer_than_every_release() -> None:
    assert order(candidate()) > order(released()[-1].version)


@pytest.mark.parametrize("bad", ["1.0", "v1.0.0", "1.0.0rc1", "01.0.0", "1.0.0\n"])
def test_what_is_no_version_is_refused(bad: str) -> None:
    with pytest.raises(ReleaseError, match="is no version; expected such as 0.2.0"):
        order(bad)


@every_release
def test_a_question_is_a_public_api(release: Release) -> None:
    now = questions()
    for key, before in release.questions().items():
        assert key in now, f"{key} of {release.tag} is gone; its answer would be lost"
        assert now[key]["type"] == before["type"]
        assert now[key].get("multiselect", False) == before.get("multiselect", False)
        gone = [value for value in values(before) if value not in values(now[key])]
        assert not gone, f"{key} of {release.tag} no longer takes {gone}; the default would take its place"


@pytest.mark.parametrize("origin", ORIGINS, ids=lambda origin: origin.id)
def test_a_file_that_is_gone_was_said_to_be(origin: Origin, generated: Generated, fresh: Fresh) -> None:
    moved: dict[str, str] = {}
    removed: set[str] = set()
    for _, migration in migrations(ROOT, origin.release.version):
        moved |= migration.moved
        removed |= set(migration.removed)
    before, now = set(contents(generated.pristine(origin))), set(contents(fresh(origin)))
    unsaid = sorted(path for path in before - now - removed if moved.get(path) not in now)
    lines = "\n".join(f'"{path}" = "where it went, or why it is gone"' for path in unsaid)
    assert not unsaid, f"hooks/v{candidate()}/migration.toml lacks under [moved] or [removed]:\n{lines}"


def test_what_a_release_says_is_gone_is_gone() -> None:
    there = {
        path.relative_to(ROOT / "template").as_posix().removesuffix(".jinja") for path in (ROOT / "template").rglob("*")
    }
    for version, migration in migrations(ROOT):
        for source, target in migration.moved.items():
            assert source not in there and target in there, f"{version}: {source} -> {target}"
        assert not set(migration.removed) & there, version

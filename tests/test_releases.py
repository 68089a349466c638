"""What was released stays understood: its questions, its files, and every repository that was generated from it."""

from typing import Any

import pytest

from .matrix import questions
from .releases import Release, ReleaseError, candidate, headings, order, released

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

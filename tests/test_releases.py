"""What was released stays understood: its questions, its files, and every repository that was generated from it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from .matrix import ROOT
from .release_checks import asks_for_trust, lost_answers, lost_files
from .releases import Release, ReleaseError, candidate, headings, order, released
from .rendering import contents
from .updating import ORIGINS, Generated, Origin, migrations

Fresh = Callable[[Origin], Path]

every_release = pytest.mark.parametrize("release", released(), ids=lambda release: release.tag)


def test_every_version_but_the_newest_is_recorded() -> None:
    before = [version for version in headings() if version is not None]
    assert None not in headings()[1:], "only the newest section of CHANGELOG.md may be unreleased"
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
    assert list(lost_answers(release, ROOT)) == []


@pytest.mark.parametrize("origin", ORIGINS, ids=lambda origin: origin.id)
def test_a_file_that_is_gone_was_said_to_be(origin: Origin, generated: Generated, fresh: Fresh) -> None:
    before, now = contents(generated.pristine(origin)), contents(fresh(origin))
    unsaid = "\n".join(lost_files(origin.release, before, now, ROOT))
    assert not unsaid, f"hooks/v{candidate()}/migration.toml lacks under [moved] or [removed]:\n{unsaid}"


def test_what_a_release_says_is_gone_is_gone() -> None:
    there = {
        path.relative_to(ROOT / "template").as_posix().removesuffix(".jinja") for path in (ROOT / "template").rglob("*")
    }
    for version, migration in migrations(ROOT):
        for source, target in migration.moved.items():
            assert source not in there and target in there, f"{version}: {source} -> {target}"
        assert not set(migration.removed) & there, version


def test_nobody_has_to_trust_it() -> None:
    assert list(asks_for_trust(ROOT)) == []

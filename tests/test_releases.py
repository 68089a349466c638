"""What was released stays understood: its questions, its files, and every repository that was generated from it."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from . import releases
from .git import commit_all, git
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


# ----------------------------------------------------------------------------------------------------- make release


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What `make release` looks at, as it is the day before version 0.3.0."""
    (tmp_path / "CHANGELOG.md").write_text(
        "# Changelog\n\n## Unreleased\n\n### Update notes\n\n- Nothing.\n\n## 0.2.0 - 2026-11-26\n\n- All.\n", "utf-8"
    )
    commit_all(tmp_path, "All", tag="v0.2.0")
    commit = git(tmp_path, "rev-parse", "HEAD").strip()
    (tmp_path / "releases.toml").write_text(f'"0.2.0" = "{commit}"\n', "utf-8")
    commit_all(tmp_path, "Recorded")
    for name, value in (
        ("ROOT", tmp_path), ("CHANGELOG", tmp_path / "CHANGELOG.md"), ("RELEASES", tmp_path / "releases.toml")
    ):  # fmt: skip
        monkeypatch.setattr(releases, name, value)
    monkeypatch.setattr(releases, "released", releases.released.__wrapped__)
    return tmp_path


def test_a_release_is_stamped_tagged_and_recorded_by_the_next_change(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert candidate() == "0.3.0"
    assert releases.main(["stamp", "0.3.0"]) == 0
    text = (repository / "CHANGELOG.md").read_text("utf-8")
    assert re.search(r"^## 0\.3\.0 - \d{4}-\d\d-\d\d\n\n### Update notes$", text, re.MULTILINE)
    assert candidate() == "0.3.0" and headings() == ["0.3.0", "0.2.0"]
    assert "git tag v0.3.0" in capsys.readouterr().out
    commit_all(repository, "Version 0.3.0")
    assert releases.main(["record"]) == 1
    assert capsys.readouterr().err == (
        "release: there is no tag v0.3.0; fetch the tags, or tag the commit that was released\n"
    )
    git(repository, "tag", "v0.3.0")
    assert releases.main(["record"]) == 0
    assert [release.version for release in releases.released()] == ["0.2.0", "0.3.0"]
    assert candidate() == "0.4.0"
    assert releases.main(["record"]) == 0


@pytest.mark.parametrize(
    ("version", "change", "complaint"),
    [
        ("0.2.0", None, "0.2.0 is not newer than 0.2.0; choose a higher version"),
        ("0.3", None, "'0.3' is no version; expected such as 0.2.0"),
        ("0.3.0", ("mine.txt", "mine\n"), "there are uncommitted changes; commit or stash them"),
        ("0.3.0", ("CHANGELOG.md", "# Changelog\n\n## 0.2.0 - 2026-11-26\n"), 'has no section "Unreleased" at its top'),
        (
            "0.3.0",
            ("CHANGELOG.md", "# Changelog\n\n## Unreleased\n\n- All.\n"),
            'has no "### Update notes" with a point',
        ),
        (
            "0.3.0",
            ("hooks/v0.2.1/migration.toml", ""),
            "hooks/v0.2.1 is of a version that is never released; name it v0.3.0",
        ),
    ],
    ids=["older", "malformed", "uncommitted", "no-section", "no-notes", "hooks"],
)
def test_what_can_not_be_released_is_refused_with_one_line(
    version: str,
    change: tuple[str, str] | None,
    complaint: str,
    repository: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if change:
        path = repository / change[0]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(change[1], "utf-8")
        if path.name != "mine.txt":
            commit_all(repository, "Change")
    assert releases.main(["check", version]) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and complaint in said

"""A repository that a released version generated follows the template by `copier update`, without `--trust`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from .git import commit_all, git
from .matrix import ROOT, Variant
from .releases import Release, released
from .rendering import contents, copy, update

# `Release x variant`: each is generated once, as it was released.
GENERATED = [(release, variant) for release in released() for variant in release.variants()]

every_generated = pytest.mark.parametrize(
    ("release", "variant"), GENERATED, ids=[f"{release.tag}-{variant.id}" for release, variant in GENERATED]
)

Generated = Callable[[Release, Variant, str], Path]


@pytest.fixture(scope="session")
def generated(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Generated:
    """A repository that this version generated and its owner committed: its own copy for each use that is named."""
    folder = tmp_path_factory.mktemp("generated")

    def take(release: Release, variant: Variant, use: str) -> Path:
        pristine = folder / release.tag / variant.id
        if not pristine.exists():
            copy(template, pristine, variant.answers, release.tag)
            commit_all(pristine, "Generate")
        own = folder / use / release.tag / variant.id
        git(folder, "clone", "--quiet", "--shared", str(pristine), str(own))
        return own

    return take


def yours() -> list[str]:
    """The patterns of files that no update touches."""
    patterns: list[str] = yaml.safe_load((ROOT / "copier.yml").read_text("utf-8"))["_skip_if_exists"]
    return patterns


def ours(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Path -> executable bits and bytes, of every file that the template owns."""
    roots = tuple(pattern.strip("/") for pattern in yours())
    return {
        name: content
        for name, content in contents(folder).items()
        if name not in roots and not name.startswith(tuple(f"{root}/" for root in roots))
    }


@every_generated
def test_an_unedited_repository_ends_as_a_fresh_copy(
    release: Release, variant: Variant, generated: Generated, template: Path, tmp_path: Path
) -> None:
    # When this fails with an undefined variable: the old version's Jinja renders the new `_exclude` too, with the old
    # answers and the old version's files. Ask `{% if new_question is defined %}` before a pattern uses or imports more.
    project = generated(release, variant, "unedited")
    update(project)
    copy(template, tmp_path / "fresh", variant.answers)
    assert ours(project) == ours(tmp_path / "fresh")
    assert not git(project, "ls-files", "--unmerged")


def test_a_second_update_changes_nothing(generated: Generated) -> None:
    project = generated(*GENERATED[0], "twice")
    update(project)
    commit_all(project, "Update")
    update(project)
    assert not git(project, "status", "--porcelain")


@pytest.mark.parametrize(
    "answers",
    [
        {"storage": ["s3"]},
        {"storage": [], "tenant_credentials": "token_vending", "ci": "gitlab", "aws_region": "eu-central-1"},
    ],
    ids=str,
)
def test_an_answer_that_is_changed_gives_the_other_variant(
    answers: dict[str, Any], generated: Generated, template: Path, tmp_path: Path
) -> None:
    release, variant = GENERATED[0]
    project = generated(release, variant, str(sorted(answers)))
    update(project, answers)
    copy(template, tmp_path / "fresh", {**variant.answers, **answers})
    assert ours(project) == ours(tmp_path / "fresh")


def test_what_is_yours_exists_and_is_listed_once() -> None:
    patterns = yours()
    assert len(patterns) == len(set(patterns))
    assert not [path for path in patterns if not (ROOT / f"template{path}").exists()]

"""What a released version generated comes to this tree: by `make update`, and by a plain `copier update`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .edits import Script
from .git import commit_all, git
from .matrix import ROOT
from .releases import candidate
from .rendering import contents, copy, update
from .updating import LABEL, ORIGINS, Generated, Origin, ours, owned, unmerged, updater

Fresh = Callable[[Origin], Path]

# Every question is answered differently in two of them.
PLAIN = [origin for origin in ORIGINS if origin.variant.id in ("default", "vending-memory")]

every_origin = pytest.mark.parametrize("origin", ORIGINS, ids=lambda origin: origin.id)


@every_origin
def test_an_unedited_repository_ends_as_a_fresh_copy(origin: Origin, generated: Generated, fresh: Fresh) -> None:
    project = generated[origin]
    done = updater.run(project, {})
    assert (done.old, done.new) == (origin.release.tag, f"v{candidate()}")
    assert ours(project) == ours(fresh(origin))
    assert not unmerged(project) and not done.merged.conflicts
    commit_all(project, "Update")
    assert updater.run(project, {}) is None
    assert not git(project, "status", "--porcelain")


@every_origin
def test_what_its_owner_did_is_left_to_the_byte(
    origin: Origin, generated: Generated, fresh: Fresh, tmp_path: Path
) -> None:
    project = generated[origin]
    before, after = contents(generated.pristine(origin)), contents(fresh(origin))
    script = Script(project, tmp_path, before, after, owned(), LABEL.encode())
    script.run()
    commit_all(project, "Edit")
    done = updater.run(project, {})
    found = contents(project)
    assert {path: len(data) for path, (_, data) in found.items()} == {
        path: len(data) for path, (_, data) in script.expected.items()
    }
    assert found == script.expected
    assert unmerged(project) == script.unmerged
    assert [conflict.path for conflict in done.merged.conflicts] == sorted(script.unmerged)
    assert set(done.merged.still_deleted) == set(script.still_deleted)
    # It is a merge that is resolved and committed as any other; then there is nothing left to do.
    commit_all(project, "Update")
    assert updater.run(project, {}) is None
    assert not git(project, "status", "--porcelain")


@pytest.mark.parametrize("origin", PLAIN, ids=lambda origin: origin.id)
def test_copier_alone_does_the_same_and_needs_no_trust(origin: Origin, generated: Generated, fresh: Fresh) -> None:
    # When this fails with an undefined variable: the old version's Jinja renders the new `_exclude` too, with the old
    # answers and the old version's files. Ask `{% if new_question is defined %}` before a pattern uses or imports more.
    project = generated[origin]
    update(project)
    assert ours(project) == ours(fresh(origin))
    assert not unmerged(project)
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
    project = generated[ORIGINS[0]]
    done = updater.run(project, {key: str(value) for key, value in answers.items()})
    copy(template, tmp_path / "fresh", {**ORIGINS[0].answers(), **answers})
    assert ours(project) == ours(tmp_path / "fresh")
    assert {line.partition(":")[0] for line in done.answers} >= set(answers)


def test_what_is_yours_exists_and_is_listed_once() -> None:
    patterns = owned()
    assert len(patterns) == len(set(patterns))
    assert not [
        path
        for path in patterns
        if not (ROOT / "template" / path).exists() and not (ROOT / "template" / f"{path}.jinja").exists()
    ]

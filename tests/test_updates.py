"""A generated repository follows the template by `copier update`, without `--trust`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from .git import commit_all, git, snapshot
from .matrix import ROOT, load
from .rendering import contents, copy, update

# An update takes seconds: these two answer every question differently.
FOLLOWED = [variant for variant in load().supported if variant.id in ("default", "vending-memory")]
YOURS = "src/saas_agent/agent/prompt.py"


@pytest.fixture(scope="module")
def releases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The template as v0.1.0, then v0.2.0 with an edit, a new file and a file less."""
    folder = tmp_path_factory.mktemp("releases")
    snapshot(folder)
    return folder


def release(folder: Path) -> None:
    """What v0.2.0 changes."""
    makefile = folder / "template" / "Makefile"
    makefile.write_text(makefile.read_text("utf-8") + "\n# Of v0.2.0.\n", "utf-8")
    prompt = folder / "template" / YOURS
    prompt.write_text(prompt.read_text("utf-8") + "\n# Of v0.2.0.\n", "utf-8")
    (folder / "template" / "docs" / "new.md").write_text("# New\n", "utf-8")
    (folder / "template" / "AGENTS.md").unlink()
    commit_all(folder, "The next release", tag="v0.2.0")


@pytest.fixture(scope="module")
def projects(releases: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Each supported variant, generated from v0.1.0 and committed; v0.2.0 is out by now."""
    folder = tmp_path_factory.mktemp("projects")
    for variant in FOLLOWED:
        copy(releases, folder / variant.id, variant.answers)
        commit_all(folder / variant.id, "Generate")
    release(releases)
    return {variant.id: folder / variant.id for variant in FOLLOWED}


def fresh(releases: Path, destination: Path, answers: Mapping[str, Any]) -> dict[str, Any]:
    """What v0.2.0 generates for these answers."""
    copy(releases, destination, answers)
    return contents(destination, YOURS)


@pytest.mark.parametrize("variant", FOLLOWED, ids=lambda variant: variant.id)
def test_an_unedited_repository_ends_as_a_fresh_copy(
    variant: Any, projects: dict[str, Path], releases: Path, tmp_path: Path
) -> None:
    project = projects[variant.id]
    before = (project / YOURS).read_bytes()
    update(project)
    assert contents(project, YOURS) == fresh(releases, tmp_path / "fresh", variant.answers)
    assert (project / YOURS).read_bytes() == before
    assert not git(project, "diff", "--name-only", "--diff-filter=U")
    commit_all(project, "Update")
    update(project)
    assert not git(project, "status", "--porcelain")


@pytest.fixture
def project(projects: dict[str, Path], releases: Path, tmp_path: Path) -> Path:
    """The default variant, generated from v0.1.0 and committed, for one test to edit."""
    folder = tmp_path / "project"
    git(tmp_path, "clone", "--quiet", str(projects["default"]), str(folder))
    git(
        folder,
        "reset",
        "--quiet",
        "--hard",
        git(folder, "rev-list", "--max-parents=0", "HEAD").strip(),
    )
    return folder


def test_edits_survive(project: Path) -> None:
    makefile = project / "Makefile"
    makefile.write_text("# My own line.\n" + makefile.read_text("utf-8"), "utf-8")
    (project / YOURS).write_text("# Mine.\n", "utf-8")
    (project / "tiers.toml").write_text("# Mine.\n", "utf-8")
    (project / "mine.txt").write_text("mine\n", "utf-8")
    (project / "docs" / "isolation.md").unlink()
    commit_all(project, "Edit")
    update(project)
    text = makefile.read_text("utf-8")
    assert text.startswith("# My own line.\n")
    assert text.endswith("\n# Of v0.2.0.\n")
    assert (project / YOURS).read_text("utf-8") == "# Mine.\n"
    assert (project / "tiers.toml").read_text("utf-8") == "# Mine.\n"
    assert (project / "mine.txt").read_text("utf-8") == "mine\n"
    assert not (project / "docs" / "isolation.md").exists()
    assert (project / "docs" / "new.md").exists()
    assert not (project / "AGENTS.md").exists()


@pytest.mark.parametrize(
    "answers",
    [
        {"storage": ["s3"]},
        {"storage": [], "tenant_credentials": "token_vending", "ci": "gitlab", "aws_region": "eu-central-1"},
    ],
    ids=str,
)
def test_an_answer_that_is_changed_gives_the_other_variant(
    answers: dict[str, Any], project: Path, releases: Path, tmp_path: Path
) -> None:
    update(project, answers)
    assert contents(project, YOURS) == fresh(releases, tmp_path / "fresh", answers)


def test_what_is_yours_exists_and_is_listed_once() -> None:
    patterns = yaml.safe_load((ROOT / "copier.yml").read_text("utf-8"))["_skip_if_exists"]
    assert len(patterns) == len(set(patterns))
    assert not [path for path in patterns if not (ROOT / f"template{path}").exists()]

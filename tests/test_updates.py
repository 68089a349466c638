"""What a released version generated comes to this tree: by `make update`, and by a plain `copier update`."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .edits import PICTURE, Script
from .git import commit_all, git
from .matrix import ROOT
from .releases import candidate
from .rendering import contents, copy, update
from .running import copied
from .updating import LABEL, ORIGINS, Generated, Origin, ours, owned, unmerged, updater

Fresh = Callable[[Origin], Path]

# Every question is answered differently in two of them.
PLAIN = [origin for origin in ORIGINS if origin.variant.id in ("default", "vending-memory")]

every_origin = pytest.mark.parametrize(
    "origin",
    [pytest.param(origin, id=origin.id, marks=() if origin in PLAIN else pytest.mark.others) for origin in ORIGINS],
)


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
    # The oldest release is so far away that there is something for every kind.
    assert not script.left_out or origin.release != ORIGINS[0].release
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


# --------------------------------------------------------------------------------------------------------- the command


@pytest.fixture
def project(generated: Generated) -> Path:
    """The default variant, as the oldest release generated it."""
    return generated[ORIGINS[0]]


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def make_update(project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the command in the project: exit status, what it printed, what it complained of."""
    monkeypatch.chdir(project)

    def run(*arguments: str) -> tuple[int, str, str]:
        status = updater.main(list(arguments))
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    return run


def test_the_command_reports_and_repeats(make_update: Run, project: Path) -> None:
    assert make_update("--check") == (2, f"v{candidate()} is there.\n", "")
    status, printed, steps = make_update("--report", "build/update.md")
    assert status == 0
    assert printed == (project / "build/update.md").read_text("utf-8")
    assert printed.startswith(f"# Template {ORIGINS[0].release.tag} -> v{candidate()}\n")
    assert steps.splitlines()[0] == "Fetching the template"
    assert "`make lint test demo`" in printed
    # What `git commit` offers.
    assert (project / ".git/MERGE_MSG").read_text("utf-8").startswith("Update the template from ")
    commit_all(project, "Update")
    assert make_update() == (
        0, "This is the newest version, and no answer was given: nothing to do.\n", "Fetching the template\n"
    )  # fmt: skip
    assert make_update("--check")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--to", "v9.9.9"], "the template has no version v9.9.9; expected a tag of "),
        (["-d", "storrage=[]"], "doesn't ask for storrage with these answers, so it can't be given; expected one of "),
        (["-d", "ci=jenkins"], "Invalid choice for 'ci': 'jenkins' is not in ['github', 'gitlab', 'none']"),
        (["-d", "aws_region=Frankfurt"], "aws_region is the name of an AWS Region, such as us-east-1 or eu-central-1"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_can_not_be_is_refused_with_one_line(
    arguments: list[str], complaint: str, make_update: Run, project: Path
) -> None:
    status, printed, said = make_update(*arguments)
    assert (status, printed) == (1, "")
    [line] = [line for line in said.splitlines() if line.startswith("update: ")]
    assert complaint in line and line == said.splitlines()[-1]
    assert not git(project, "status", "--porcelain")


def test_uncommitted_changes_are_refused(make_update: Run, project: Path) -> None:
    (project / "mine.txt").write_text("mine\n", "utf-8")
    assert make_update() == (
        1, "", "update: there are uncommitted changes; commit or stash them, and update then\n"
    )  # fmt: skip
    assert (project / "mine.txt").exists()


def test_an_older_version_is_refused(make_update: Run, project: Path) -> None:
    make_update()
    commit_all(project, "Update")
    oldest = ORIGINS[0].release.tag
    status, _, said = make_update("--to", oldest)
    assert status == 1
    assert said.endswith(
        f"update: {oldest} is not newer than v{candidate()}, which this repository has; choose another with --to\n"
    )


def test_what_git_ignores_is_not_overwritten(make_update: Run, project: Path) -> None:
    """A file of your own, which git doesn't keep, at a path where the template now has one."""
    (project / ".git/info/exclude").write_text("/updates\n", "utf-8")
    (project / "updates").mkdir()
    (project / "updates/update.py").write_text("mine\n", "utf-8")
    status, _, said = make_update()
    assert status == 1
    assert said.splitlines()[-1].startswith("update: updates/update.py is in the way, which git ignores; move it")
    assert (project / "updates/update.py").read_text("utf-8") == "mine\n"
    assert not git(project, "status", "--porcelain")


@pytest.mark.parametrize(
    ("ignored", "mine"), [("/updates", "updates"), ("/updates/update.py/*", "updates/update.py/mine.txt")]
)
def test_what_git_ignores_is_not_taken_for_a_folder_nor_a_file(
    ignored: str, mine: str, make_update: Run, project: Path
) -> None:
    """A file of your own where the template now has a folder, and a folder of your own where it has a file."""
    (project / ".git/info/exclude").write_text(f"{ignored}\n", "utf-8")
    (project / mine).parent.mkdir(parents=True, exist_ok=True)
    (project / mine).write_text("mine\n", "utf-8")
    status, _, said = make_update()
    assert status == 1
    assert said.splitlines()[-1].startswith(f"update: {mine} is in the way, which git ignores; move it")
    assert (project / mine).read_text("utf-8") == "mine\n"
    assert not git(project, "status", "--porcelain")


def test_a_folder_of_a_larger_repository_is_updated(
    project: Path, fresh: Fresh, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    larger = tmp_path / "larger"
    inside = larger / "services" / "desk"
    inside.parent.mkdir(parents=True)
    project.rename(inside)
    shutil.rmtree(inside / ".git")
    (larger / "Makefile").write_text("# Of the larger one.\n", "utf-8")
    before, expected = contents(inside), ours(fresh(ORIGINS[0]))
    edited = next(path for path in before if before[path] == expected.get(path))
    (inside / edited).write_text("# Mine.\n", "utf-8")
    expected[edited] = (before[edited][0], b"# Mine.\n")
    commit_all(larger, "Everything")
    monkeypatch.chdir(inside)
    assert updater.main([]) == 0
    assert ours(inside) == expected
    assert (larger / "Makefile").read_text("utf-8") == "# Of the larger one.\n"


def test_a_change_request_is_prepared_once(make_update: Run, project: Path, tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet", "--bare", "origin")
    git(project, "remote", "set-url", "origin", str(tmp_path / "origin"))
    (project / "requirements").mkdir(exist_ok=True)
    (project / "requirements/update.txt").write_text("# Mine.\n", "utf-8")
    commit_all(project, "Edit")
    status, printed, _ = make_update("--branch", "template", "--report", "build/update.md")
    assert status == 0
    branch = f"template/v{candidate()}"
    assert git(project, "branch", "--show-current").strip() == branch
    assert not git(project, "status", "--porcelain")
    assert printed in git(project, "log", "-1", "--format=%B")
    assert "- `requirements/update.txt`: you and the template each added this file" in printed
    # CI refuses it as it stands.
    done = subprocess.run(["make", "conflicts"], cwd=project, capture_output=True, text=True, check=False)
    assert done.returncode != 0 and "requirements/update.txt:1:<<<<<<< your-edits" in done.stdout
    git(project, "push", "--quiet", "origin", branch)
    git(project, "switch", "--quiet", "main")
    git(project, "branch", "--quiet", "-D", branch)
    assert make_update("--branch", "template") == (
        0, f"The branch {branch} is there already; delete it to have the update made again.\n", ""
    )  # fmt: skip


def test_what_copier_alone_lost_comes_back(make_update: Run, project: Path, fresh: Fresh) -> None:
    """Copier overwrites an edited binary file, and deletes what the template dropped. Done again, it is a merge."""
    dropped = sorted(set(contents(project)) - set(contents(fresh(ORIGINS[0]))))[0]
    (project / "Makefile").write_bytes(PICTURE)
    (project / dropped).write_text("# Mine.\n" * 200, "utf-8")
    (project / "mine.txt").write_text("mine\n", "utf-8")
    commit_all(project, "Edit")
    update(project)
    assert (project / "Makefile").read_bytes() != PICTURE and not (project / dropped).exists()
    (project / "afterwards.txt").write_text("written since\n", "utf-8")
    (project / "staged.txt").write_text("staged alone\n", "utf-8")
    git(project, "add", "staged.txt")
    (project / "staged.txt").unlink()
    status, printed, steps = make_update("--again")
    assert status == 3
    assert (project / "Makefile").read_bytes() == PICTURE
    assert (project / dropped).read_text("utf-8") == "# Mine.\n" * 200
    assert set(unmerged(project)) == {"Makefile", dropped}
    assert (project / "mine.txt").exists()
    # Nothing of what was there is lost either.
    assert "What was there is kept as refs/update/aside" in steps
    assert git(project, "show", "refs/update/aside:afterwards.txt") == "written since\n"
    assert git(project, "show", "refs/update/aside^2:staged.txt") == "staged alone\n"


def test_what_is_done_again_loses_nothing_that_was_ignored_meanwhile(make_update: Run, project: Path) -> None:
    """The update ignores what was not ignored before: it is in no commit, so it has to stay where it is."""
    update(project)
    (project / ".gitignore").write_text((project / ".gitignore").read_text("utf-8") + "*.mine\n", "utf-8")
    (project / "dev.mine").write_text("mine\n", "utf-8")
    (project / "notes.txt").write_text("first\n", "utf-8")
    assert make_update("--again")[0] == 0
    assert (project / "dev.mine").read_text("utf-8") == "mine\n"
    assert not (project / "notes.txt").exists()
    (project / "notes.txt").write_text("second\n", "utf-8")
    assert make_update("--again")[0] == 0
    assert git(project, "show", "refs/update/aside:notes.txt") == "second\n"
    assert git(project, "show", "refs/update/aside@{1}:notes.txt") == "first\n"


def sample(project: Path, name: str) -> Path:
    return project / "src/saas_agent/agent/tools" / f"{name}.py"


@pytest.mark.parametrize("by", ["make update", "copier update"])
def test_what_is_yours_outlives_the_answer_that_it_came_with(by: str, generated: Generated) -> None:
    project = generated[ORIGINS[0]]
    sample(project, "tickets").write_text("# Mine.\n", "utf-8")
    sample(project, "preferences").unlink()
    (project / "tiers.toml").write_text("# Mine.\n", "utf-8")
    commit_all(project, "Edit")
    before = {name: content for name, content in contents(project).items() if name.startswith("src/saas_agent/agent/")}
    if by == "make update":
        done = updater.run(project, {"storage": "[s3]"})
        assert "src/saas_agent/agent/tools/tickets.py" in done.change.kept
    else:
        update(project, {"storage": ["s3"]})
    after = {name: content for name, content in contents(project).items() if name.startswith("src/saas_agent/agent/")}
    assert after == before
    assert (project / "tiers.toml").read_text("utf-8") == "# Mine.\n"
    assert not (project / "src/saas_agent/storage/table.py").exists()


def test_what_comes_with_an_answer_is_added_to_what_is_yours(generated: Generated) -> None:
    [origin] = [origin for origin in ORIGINS if origin.variant.id == "table-only"][:1]
    project = generated[origin]
    # A newer version alone adds nothing there.
    updater.run(project, {})
    assert not sample(project, "attachments").exists()
    commit_all(project, "Update")
    done = updater.run(project, {"storage": "[dynamodb, s3]"})
    assert sample(project, "attachments").exists()
    assert "src/saas_agent/agent/tools/attachments.py" in done.change.added


@pytest.mark.parametrize("kind", ["markers", "rejected", "unmerged", "nothing"])
def test_conflicts_that_are_left_are_refused(kind: str, fresh: Fresh, tmp_path: Path) -> None:
    project = copied(fresh(ORIGINS[0]), tmp_path / "project")
    commit_all(project, "Generate")
    match kind:
        case "markers":
            (project / "docs/mine.md").write_text("text\n=======\n>>>>>>> template-v9.0.0\n", "utf-8")
        case "rejected":
            (project / "Makefile.rej").write_text("hunk\n", "utf-8")
        case "unmerged":
            blob = git(project, "hash-object", "-w", "Makefile").strip()
            lines = "".join(f"100644 {blob} {stage}\tMakefile\n" for stage in (1, 2, 3))
            gone = f"0 {'0' * 40}\tMakefile\n"
            subprocess.run(
                ["git", "update-index", "--index-info"], cwd=project, input=gone + lines, text=True, check=True
            )
    done = subprocess.run(["make", "conflicts"], cwd=project, capture_output=True, text=True, check=False)
    assert (done.returncode == 0) == (kind == "nothing"), done.stderr

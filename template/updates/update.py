"""`make update`: brings this repository to a newer version of its template, or to other answers.

Copier renders the template twice, as it was for this repository and as it is to be; git merges the difference with what
you made of it. Nothing of the template is executed, and nothing is changed unless all of it can be.

Exit status 0: updated, or there was nothing to do. 1: refused, nothing was changed. 2, with --check: there is a newer
version. 3: updated, with conflicts to resolve; 0 where these are committed, with --branch.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from updates import agreement
from updates.merge import Entry, Merged, UpdateError, Workshop, git
from updates.template import ANSWERS_FILE, Answers, Migration, Template

NEWER, CONFLICTS = 2, 3
# Where --again puts what was there.
ASIDE = "refs/update/aside"


@dataclass(frozen=True)
class Change:
    """What the template changed, whether or not you had edited it; paths.

    renamed: "old -> new". kept: yours, which the template dropped or has otherwise. offered: what the template has new
    among what is yours, and was not added.
    """

    added: tuple[str, ...]
    changed: tuple[str, ...]
    removed: tuple[str, ...]
    renamed: tuple[str, ...]
    kept: tuple[str, ...]
    offered: tuple[str, ...]


@dataclass(frozen=True)
class Update:
    """What an update did.

    answers, placement: a line for each that is another now. unasked: questions that are new, with the answers they got.
    to_agree: whether tenancy.lock doesn't agree with the placement. notes: heading and text of what CHANGELOG.md says
    of each version that came in.
    """

    old: str
    new: str
    answers: tuple[str, ...]
    unasked: tuple[str, ...]
    placement: tuple[str, ...]
    to_agree: bool
    notes: tuple[tuple[str, str], ...]
    change: Change
    merged: Merged


def run(
    root: Path,
    data: Mapping[str, str],
    *,
    to: str | None = None,
    again: bool = False,
    tell: Callable[[str], None] = lambda _: None,
) -> Update | None:
    """Updates the repository of which `root` is the working tree, or a folder; None where there is nothing to do.

    data: answers to change, as `copier --data` takes them. to: a version (default: the newest). again: does anew what a
    plain `copier update` left uncommitted, which is put aside. tell: takes a line for each step.
    """
    prefix = git(root, "rev-parse", "--show-prefix").strip()
    if not again and git(root, "status", "--porcelain"):
        raise UpdateError("there are uncommitted changes; commit or stash them, and update then")
    answers = Answers.read(git(root, "show", f"HEAD:{prefix}{ANSWERS_FILE}"))
    # Copier compares resolved paths.
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name).resolve()
        tell("Fetching the template")
        template = Template(answers.source, scratch / "template")
        old, new = answers.version, to or template.newest()
        template.require_newer(new, old)
        if template.require(new) == template.require(old) and not data:
            return None
        migrations = template.migrations(old, new)
        carried = dict(answers.given)
        for migration in migrations:
            carried = migration.carry(carried)
        workshop = Workshop(scratch / "workshop", root)
        everything = workshop.committed()
        mine = {path.removeprefix(prefix): entry for path, entry in everything.items() if path.startswith(prefix)}
        agreed = workshop.read(mine[agreement.LOCK]) if agreement.LOCK in mine else None
        if agreed is not None and not data:
            _require_agreed(workshop.read(mine[agreement.PLACEMENT]), agreed)

        tell(f"Rendering {old} and {new}")
        before, after = scratch / "before", scratch / "after"
        _render(template, answers, before, carried, after, new, data, agreed)
        now = Answers.read((after / ANSWERS_FILE).read_text(encoding="utf-8"))
        _require_answers(carried, now.given, data, template.questions(new), new)
        placement = _require_placement(before, after, data, new)

        tell("Merging")
        was, becomes = workshop.rendered(before), workshop.rendered(after)
        # Nobody edits the answers; whoever did gets what they come to.
        mine[ANSWERS_FILE] = was[ANSWERS_FILE]
        change = prepare(workshop, was, mine, becomes, template.owned(new), migrations, adding=bool(data))
        outside = {path: entry for path, entry in everything.items() if not path.startswith(prefix)}
        base, yours, theirs = (
            {**outside, **{f"{prefix}{path}": entry for path, entry in files.items()}} for files in (was, mine, becomes)
        )
        label = f"template-{new}"
        merged = workshop.merge(base, yours, theirs, label)
        workshop.require_room(merged)
        if again:
            _put_aside(root)
            tell(f"What was there is kept as {ASIDE}")
        workshop.apply(merged, label)
        message = git(root, "rev-parse", "--path-format=absolute", "--git-path", "MERGE_MSG").strip()
        Path(message).write_text(f"Update the template from {old} to {new}\n", encoding="utf-8")
        return Update(
            old=old,
            new=now.version,
            answers=tuple(agreement.differences(answers.given, now.given)),
            unasked=tuple(f"{key}: {now.given[key]}" for key in now.given if key not in carried and key not in data),
            placement=placement,
            to_agree=_differs(agreed, after),
            notes=template.notes(old, new),
            change=change,
            merged=merged,
        )


def prepare(
    workshop: Workshop,
    was: dict[str, Entry],
    mine: dict[str, Entry],
    becomes: dict[str, Entry],
    owned: Sequence[str],
    migrations: Sequence[Migration],
    *,
    adding: bool,
) -> Change:
    """Makes the three sides ready to be merged: what a release moved is moved on all, what is yours is left alone.

    owned: files and folders that are yours. In a folder of these something new is added only with `adding`: you changed
    an answer, and it comes with it.
    """
    _move(was, mine, becomes, migrations)
    kept, offered = _keep_yours(was, mine, becomes, owned, adding=adding)
    renamed = workshop.renames(was, becomes)
    return Change(
        added=tuple(sorted(set(becomes) - set(was) - set(renamed.values()))),
        changed=tuple(sorted(path for path in set(was) & set(becomes) if was[path] != becomes[path])),
        removed=tuple(sorted(set(was) - set(becomes) - set(renamed))),
        renamed=tuple(f"{source} -> {target}" for source, target in sorted(renamed.items())),
        kept=kept,
        offered=offered,
    )


def propose(root: Path, branch: str, message: str) -> None:
    """Commits what the update left, conflicts included, on a branch that is made for it and checked out.

    For a change request: what is unresolved is seen there, and `make conflicts` keeps it from being merged.
    """
    git(root, "branch", branch)
    # `git switch` refuses where something is unmerged; the commit is the same.
    git(root, "symbolic-ref", "HEAD", f"refs/heads/{branch}")
    git(root, "add", "--all", ":/")
    git(root, "commit", "--quiet", "--no-verify", "--file", "-", stdin=message)


def proposed(root: Path, branch: str) -> bool:
    """Whether that branch is there already, here or at the origin: somebody may have begun to resolve conflicts."""
    here = git(root, "branch", "--list", branch)
    return bool(here or git(root, "ls-remote", "--heads", "origin", f"refs/heads/{branch}"))


def newer(root: Path) -> tuple[str, str] | None:
    """The version that this repository has and the newest, where that is another."""
    answers = Answers.read(git(root, "show", f"HEAD:{git(root, 'rev-parse', '--show-prefix').strip()}{ANSWERS_FILE}"))
    with tempfile.TemporaryDirectory() as name:
        template = Template(answers.source, Path(name).resolve() / "template")
        newest = template.newest()
        same = template.require(newest) == template.require(answers.version)
    return None if same else (answers.version, newest)


def _render(
    template: Template,
    answers: Answers,
    before: Path,
    carried: Mapping[str, Any],
    after: Path,
    new: str,
    data: Mapping[str, str],
    agreed: str | None,
) -> None:
    """Both at once, each by a process of its own."""
    given = before.with_name("answers.yml")
    Answers(answers.source, answers.version, answers.given).write(given)
    after.mkdir()
    Answers(answers.source, answers.version, carried).write(after / ANSWERS_FILE)
    if agreed is not None:
        (after / agreement.LOCK).write_text(agreed, encoding="utf-8")
    options = [option for key, value in data.items() for option in ("--data", f"{key}={value}")]
    renderings = (
        template.render(answers.version, before, "--data-file", str(given)),
        template.render(new, after, *options),
    )
    for rendering in renderings:
        rendering.wait()


def _require_answers(
    before: Mapping[str, Any],
    now: Mapping[str, Any],
    data: Mapping[str, str],
    questions: Collection[str],
    version: str,
) -> None:
    """UpdateError where an answer is not what it was, and that was not asked for."""
    for key in data:
        if key not in now:
            raise UpdateError(
                f"{version} doesn't ask for {key} with these answers, so it can't be given; "
                f"expected one of {', '.join(now)}"
            )
    for key, value in before.items():
        if key in data or now.get(key) == value:
            continue
        if key in now:
            raise UpdateError(
                f"{version} would change {key} from {value} to {now[key]} without being told to; "
                f"give the answer that you want: -d '{key}=...'"
            )
        if key not in questions or not data:
            raise UpdateError(
                f"{version} would lose the answer {key} = {value}, and what it decides; "
                "stay with your version, and report it to the template"
            )


def _require_agreed(placement: str, agreed: str) -> None:
    """UpdateError where an answer was changed that nobody has agreed to yet: an update would cover it up."""
    differing = list(agreement.differences(agreement.agreed(agreed), agreement.in_force(placement)))
    if differing:
        raise UpdateError(
            f"{agreement.LOCK} doesn't agree with {agreement.PLACEMENT}: {'; '.join(differing)}; "
            "`make agree` and commit it, or give the answer back that was agreed to, before you update"
        )


def _require_placement(before: Path, after: Path, data: Mapping[str, str], version: str) -> tuple[str, ...]:
    """A line for each component that is placed otherwise; UpdateError where no answer was given that could mean it."""
    texts = [(folder / agreement.PLACEMENT).read_text(encoding="utf-8") for folder in (before, after)]
    was, becomes = map(agreement.placement, texts)
    # A component that is new leaves the others where they are; it is shown, and agreed to afterwards.
    flips = list(agreement.differences(was, {key: value for key, value in becomes.items() if key in was}))
    if flips and not data:
        raise UpdateError(
            f"{version} would change how tenants are held apart, and nobody said so: {'; '.join(flips)}; "
            "stay with your version, or give the answer that you want with -d"
        )
    return tuple(agreement.differences(was, becomes))


def _differs(agreed: str | None, after: Path) -> bool:
    """Whether what was agreed is not what will be in force."""
    in_force = agreement.in_force((after / agreement.PLACEMENT).read_text(encoding="utf-8"))
    return agreed is not None and agreement.agreed(agreed) != in_force


def _move(
    was: dict[str, Entry], mine: dict[str, Entry], becomes: Mapping[str, Entry], migrations: Sequence[Migration]
) -> None:
    """Moves what releases say they moved, on your side too, where you have not moved or replaced it yourself."""
    moved: dict[str, str] = {}
    for migration in migrations:
        moved = {source: migration.moved.get(target, target) for source, target in moved.items()} | migration.moved
    for source, target in moved.items():
        for files in (was, mine):
            if source in files and target in becomes and target not in files:
                files[target] = files.pop(source)


def _keep_yours(
    was: Mapping[str, Entry],
    mine: Mapping[str, Entry],
    becomes: dict[str, Entry],
    owned: Sequence[str],
    *,
    adding: bool,
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What the template's side is made to leave alone, and what it is made not to add."""
    kept: list[str] = []
    offered: list[str] = []
    for path in sorted(set(was) | set(becomes)):
        if not any(path == name or path.startswith(f"{name}/") for name in owned):
            continue
        if path in was:
            if becomes.get(path) != was[path]:
                (kept if path in mine else offered).append(path)
            becomes[path] = was[path]
        elif path in mine or (path not in owned and not adding):
            (kept if path in mine else offered).append(path)
            del becomes[path]
    return tuple(kept), tuple(offered)


def _put_aside(root: Path) -> None:
    """Commits the working tree to a reference of its own, and goes back to what is committed.

    As in a stash, what was staged is the commit's second parent: it may be in no file any more.
    """
    top = Path(git(root, "rev-parse", "--show-toplevel").strip())
    entries = git(top, "ls-files", "--stage", "-z").split("\0")
    # Without those that are unmerged, of which the owner's side is committed.
    staged = "".join(f"{entry}\0" for entry in entries if entry.partition("\t")[0].endswith(" 0"))
    with tempfile.TemporaryDirectory() as name:
        environ = {"GIT_INDEX_FILE": str(Path(name) / "staged")}
        git(top, "update-index", "-z", "--add", "--index-info", stdin=staged, environ=environ)
        index = git(top, "write-tree", environ=environ).strip()
        environ = {"GIT_INDEX_FILE": str(Path(name) / "index")}
        git(top, "read-tree", "HEAD", environ=environ)
        git(top, "add", "--all", environ=environ)
        tree = git(top, "write-tree", environ=environ).strip()
    parent = git(top, "commit-tree", index, "-p", "HEAD", "-m", "What was staged").strip()
    message = "Before the update was done again"
    commit = git(top, "commit-tree", tree, "-p", "HEAD", "-p", parent, "-m", message).strip()
    git(root, "update-ref", "--create-reflog", ASIDE, commit)
    git(root, "reset", "--quiet", "--hard", "HEAD")
    # What is in the commit, and nothing else: what git ignored then it may not ignore now.
    for name in git(top, "diff", "-z", "--name-only", "--no-renames", "--diff-filter=A", "HEAD", commit).split("\0"):
        if name:
            (top / name).unlink(missing_ok=True)
            for folder in PurePosixPath(name).parents[:-1]:
                with suppress(OSError):
                    (top / folder).rmdir()


def report(update: Update) -> str:
    """What was done and what is left to do, in Markdown."""
    merged, change = update.merged, update.change
    security = [line for _, text in update.notes for line in _section(text, "Security")]
    notes = [line for _, text in update.notes for line in _section(text, "Update notes")]
    conflicts = [f"`{conflict.path}`: {conflict.reason}" for conflict in merged.conflicts]
    parts = (
        ("Conflicts to resolve", conflicts),
        ("Security fixes that came in", security),
        ("Update notes", notes),
        ("Answers that changed", update.answers),
        ("Questions that are new, and the answer taken", update.unasked),
        ("Placement and isolation that changed", update.placement),
        ("Your changes and the template's together", _code(merged.combined)),
        ("Moved by the template, your changes with it", _code(change.renamed)),
        ("Changed by the template, deleted by you, still deleted", _code(merged.still_deleted)),
        ("Yours, and left as it is, though the template has it otherwise or no longer", _code(change.kept)),
        ("New in the template among what is yours, not added", _code(change.offered)),
        ("Changed by the template", _code(change.changed)),
        ("Added by the template", _code(change.added)),
        ("Removed by the template", _code(change.removed)),
        ("Next", _next(update)),
    )
    lines = [f"# Template {update.old} -> {update.new}", ""]
    for title, items in parts:
        if items:
            lines += [f"## {title}", "", *(f"- {item}" for item in items), ""]
    return "\n".join(lines)


def _code(paths: Collection[str]) -> list[str]:
    return [f"`{path}`" for path in paths]


def _section(text: str, title: str) -> list[str]:
    """The points under a heading of the change log, each in one line."""
    found: list[str] = []
    inside = going_on = False
    for line in text.splitlines():
        if line.startswith("#"):
            inside = line.lstrip("#").strip() == title
        elif inside and line.startswith("- "):
            found.append(line.removeprefix("- "))
        elif inside and line.strip() and going_on:
            found[-1] += f" {line.strip()}"
        going_on = inside and bool(found) and bool(line.strip())
    return found


def _next(update: Update) -> list[str]:
    steps = []
    if update.merged.conflicts:
        steps.append("resolve the conflicts (`git status` lists them), `git add` each file, then `make conflicts`")
    if update.to_agree:
        steps.append("`make agree`, when the placement above is what you want; until then `make test` fails")
    return [*steps, "`make lint test demo`", "`git commit`; then `make deploy STAGE=dev`"]


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line and returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m updates.update", description=__doc__)
    parser.add_argument("-d", "--data", action="append", default=[], metavar="QUESTION=ANSWER", help="change an answer")
    parser.add_argument("--to", metavar="VERSION", help="a version of the template (default: the newest)")
    parser.add_argument("--check", action="store_true", help="only say whether there is a newer version")
    parser.add_argument("--again", action="store_true", help="do anew what a plain `copier update` left uncommitted")
    parser.add_argument(
        "--branch", metavar="PREFIX", help="commit it on a new branch PREFIX/VERSION, conflicts and all"
    )
    parser.add_argument("--report", metavar="FILE", type=Path, help="write the report there too")
    arguments = parser.parse_args(argv)
    if bad := [text for text in arguments.data if "=" not in text]:
        parser.error(f"--data {bad[0]}: expected QUESTION=ANSWER")
    data = dict(text.split("=", 1) for text in arguments.data)

    def tell(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    root = Path.cwd()
    try:
        if arguments.check or arguments.branch:
            found = newer(root)
            if found is None and not data:
                print("This is the newest version.")
                return 0
            version = arguments.to or (found[1] if found else "answers")
            if arguments.check:
                print(f"{version} is there.")
                return NEWER
            branch = f"{arguments.branch}/{version}"
            if proposed(root, branch):
                print(f"The branch {branch} is there already; delete it to have the update made again.")
                return 0
        update = run(root, data, to=arguments.to, again=arguments.again, tell=tell)
        if update is None:
            print("This is the newest version, and no answer was given: nothing to do.")
            return 0
        text = report(update)
        if arguments.report:
            arguments.report.parent.mkdir(parents=True, exist_ok=True)
            arguments.report.write_text(text, encoding="utf-8")
        if arguments.branch:
            propose(root, branch, f"Update the template from {update.old} to {update.new}\n\n{text}")
    except UpdateError as error:
        tell(f"update: {error}")
        return 1
    print(text, end="")
    return CONFLICTS if update.merged.conflicts and not arguments.branch else 0


if __name__ == "__main__":
    sys.exit(main())

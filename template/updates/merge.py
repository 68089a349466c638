"""Three-way merge of file trees with git: what the template was, what you made of it, what the template is now.

It works in a repository of its own, which borrows the objects of yours: until `apply` nothing of yours is touched.
"""

import os
import subprocess
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

# Git's mode, such as "100755", and object id.
Entry = tuple[str, str]
Files = Mapping[str, Entry]

YOURS = "your-edits"
_BASE, _RESULT = "before", "result"
_IDENTITY = {
    f"GIT_{who}_{what}": value
    for who in ("AUTHOR", "COMMITTER")
    for what, value in (("NAME", "Update"), ("EMAIL", "update@localhost"), ("DATE", "@0 +0000"))
}
# Bytes are merged as they are, and a folder that the template renamed pulls none of your own files along.
_PLAIN = ("-c", "core.autocrlf=false", "-c", "core.fileMode=true", "-c", "core.quotePath=false")
_MERGE = ("-c", "merge.directoryRenames=false", "-c", "merge.renames=true", "-c", "merge.conflictStyle=merge")


class UpdateError(Exception):
    """An update that can't be; one line that says why and what to do. Nothing was changed."""


@dataclass(frozen=True)
class Conflict:
    """A path that is left unmerged in the index, and what happened to it."""

    path: str
    reason: str


@dataclass(frozen=True)
class Merged:
    """What a merge came to.

    tree: the whole, conflict markers included. unmerged: lines of `git update-index --index-info`. combined: paths
    where both sides' changes went together. still_deleted: paths that you deleted and the template changed.
    """

    tree: str
    conflicts: tuple[Conflict, ...]
    unmerged: tuple[str, ...]
    combined: tuple[str, ...]
    still_deleted: tuple[str, ...]


def git(folder: Path, *arguments: str, stdin: str | None = None, environ: Mapping[str, str] | None = None) -> str:
    """What git prints; UpdateError with the first thing that it complains about where it fails."""
    done = subprocess.run(
        ["git", *arguments],
        cwd=folder,
        env={**os.environ, **(environ or {})},
        input=stdin,
        capture_output=True,
        encoding="utf-8",
        errors="surrogateescape",
        check=False,
    )
    if done.returncode != 0:
        if "not a git repository" in done.stderr:
            raise UpdateError(f"{folder} is in no git repository; expected one, with the template's files committed")
        complaint = (done.stderr.strip() or f"exit status {done.returncode}").splitlines()
        raise UpdateError(f"git {arguments[0]} failed: {' '.join(line.strip() for line in complaint[:3])}")
    return done.stdout


class Workshop:
    """A bare repository beside the owner's, in which trees are made and merged."""

    def __init__(self, folder: Path, repository: Path) -> None:
        """`folder`: empty, and the caller's to delete. `repository`: the owner's working tree."""
        self._folder = folder
        self._repository = repository
        git(repository, "init", "--quiet", "--bare", str(folder))
        objects = git(repository, "rev-parse", "--path-format=absolute", "--git-path", "objects").strip()
        alternates = folder / "objects" / "info" / "alternates"
        alternates.parent.mkdir(parents=True, exist_ok=True)
        alternates.write_text(f"{objects}\n", encoding="utf-8")

    def rendered(self, folder: Path) -> dict[str, Entry]:
        """The files of a folder, their content now objects of the workshop."""
        self._with_index("rendered", "add", "--all", "--force", ".", work_tree=folder)
        tree = self._with_index("rendered", "write-tree").strip()
        (self._folder / "rendered").unlink()
        return self.files(tree)

    def committed(self) -> dict[str, Entry]:
        """The files of the owner's HEAD."""
        return self.files(git(self._repository, "rev-parse", "HEAD").strip())

    def files(self, tree: str) -> dict[str, Entry]:
        """The files of a tree or commit."""
        listed = self._git("ls-tree", "-r", "-z", tree)
        entries = (line.split("\t", 1) for line in listed.split("\0") if line)
        return {path: (kind.split()[0], kind.split()[2]) for kind, path in entries}

    def read(self, entry: Entry) -> str:
        """The text of a file."""
        return self._git("cat-file", "blob", entry[1])

    def renames(self, before: Files, after: Files) -> dict[str, str]:
        """Old path -> new path of what git takes for renamed, changed or not."""
        trees = (self._tree(before), self._tree(after))
        listed = self._git("diff-tree", "-r", "-z", "-M", "--diff-filter=R", "--name-status", *trees)
        fields = listed.split("\0")[:-1]
        return dict(zip(fields[1::3], fields[2::3], strict=True))

    def merge(self, before: Files, yours: Files, theirs: Files, label: str) -> Merged:
        """Both changes of `before` in one tree. `label`: the template's side in conflict markers."""
        base = self._commit(before, _BASE)
        self._commit(yours, YOURS, base)
        self._commit(theirs, label, base)
        status, printed = self._merge_tree(label)
        tree, _, rest = printed.partition("\0")
        staged, _, told = rest.partition("\0\0") if status else ("", "", rest.removeprefix("\0"))
        stages: dict[str, dict[int, str]] = {}
        for line in filter(None, staged.split("\0")):
            kind, path = line.split("\t", 1)
            stages.setdefault(path, {})[int(kind.split()[2])] = line
        messages = list(_messages(told))
        binary = {path for kind, paths in messages if "binary" in kind for path in paths}
        deleted = {path for path, found in stages.items() if set(found) == {1, 3}}
        combined = {path for kind, paths in messages if kind == "Auto-merging" for path in paths}
        if deleted:
            tree = self._tree({path: entry for path, entry in self.files(tree).items() if path not in deleted})
        self._commit_tree(tree, _RESULT, base)
        return Merged(
            tree=tree,
            conflicts=tuple(
                Conflict(path, _reason(set(found), path in binary))
                for path, found in sorted(stages.items())
                if path not in deleted
            ),
            unmerged=tuple(
                line for path, found in sorted(stages.items()) if path not in deleted for line in found.values()
            ),
            combined=tuple(sorted(combined - set(stages))),
            still_deleted=tuple(sorted(deleted)),
        )

    def require_room(self, merged: Merged) -> None:
        """UpdateError where a new file would take the place of one that git ignores: nobody could bring it back."""
        top = Path(git(self._repository, "rev-parse", "--show-toplevel").strip())
        committed = set(self.committed())
        for path in sorted(set(self.files(merged.tree)) - committed):
            if there := self._ignored_at(top, path, committed):
                raise UpdateError(f"{there} is in the way, which git ignores; move it, the template has {path}")

    def _ignored_at(self, top: Path, path: str, committed: Collection[str]) -> str | None:
        """What git ignores and would have to go for a file of this path: a file, one in its place, or a folder."""
        for folder in reversed(PurePosixPath(path).parents[:-1]):
            if str(folder) not in committed and os.path.lexists(top / folder) and not (top / folder).is_dir():
                return str(folder) if self._is_ignored(top, str(folder)) else None
        if (top / path).is_dir() and not (top / path).is_symlink():
            ignored = git(top, "ls-files", "-z", "--others", "--ignored", "--exclude-standard", "--", path)
            return ignored.split("\0")[0] or None
        return path if os.path.lexists(top / path) and self._is_ignored(top, path) else None

    @staticmethod
    def _is_ignored(top: Path, path: str) -> bool:
        return subprocess.run(["git", "check-ignore", "--quiet", "--", path], cwd=top, check=False).returncode == 0

    def apply(self, merged: Merged, label: str) -> None:
        """Puts the result into the owner's index and working tree, which must be as committed.

        What git ignores must not be in the way: see `require_room`.
        """
        names = [f"refs/heads/{name}" for name in (_BASE, label, _RESULT)]
        git(self._repository, "fetch", "--quiet", "--no-tags", "--no-write-fetch-head", str(self._folder), *names)
        git(self._repository, "read-tree", "-m", "-u", "HEAD", merged.tree)
        if merged.unmerged:
            # Stage 0 first goes away; then come the stages that a conflict has.
            paths = {line.split("\t", 1)[1] for line in merged.unmerged}
            gone = [f"0 {'0' * 40}\t{path}" for path in sorted(paths)]
            lines = "".join(f"{line}\0" for line in [*gone, *merged.unmerged])
            git(self._repository, "update-index", "-z", "--index-info", stdin=lines)

    def _merge_tree(self, label: str) -> tuple[int, str]:
        done = subprocess.run(
            ["git", *_MERGE, "merge-tree", "--write-tree", "--messages", "-z", YOURS, label],
            cwd=self._folder,
            capture_output=True,
            encoding="utf-8",
            errors="surrogateescape",
            check=False,
        )
        if done.returncode not in (0, 1):
            raise UpdateError(f"git can't merge: {done.stderr.strip()}; expected git 2.38 or newer")
        return done.returncode, done.stdout

    def _tree(self, files: Files) -> str:
        lines = "".join(f"{mode} {blob}\t{path}\0" for path, (mode, blob) in files.items())
        self._with_index("composed", "update-index", "-z", "--index-info", stdin=lines)
        tree = self._with_index("composed", "write-tree").strip()
        (self._folder / "composed").unlink(missing_ok=True)
        return tree

    def _commit(self, files: Files, name: str, *parents: str) -> str:
        return self._commit_tree(self._tree(files), name, *parents)

    def _commit_tree(self, tree: str, name: str, *parents: str) -> str:
        options = [option for parent in parents for option in ("-p", parent)]
        commit = git(self._folder, "commit-tree", tree, "-m", name, *options, environ=_IDENTITY).strip()
        self._git("update-ref", f"refs/heads/{name}", commit)
        return commit

    def _with_index(self, index: str, *arguments: str, work_tree: Path | None = None, stdin: str | None = None) -> str:
        environ = {"GIT_DIR": str(self._folder), "GIT_INDEX_FILE": str(self._folder / index)}
        if work_tree is not None:
            environ["GIT_WORK_TREE"] = str(work_tree)
        return git(work_tree or self._folder, *_PLAIN, *arguments, stdin=stdin, environ=environ)

    def _git(self, *arguments: str) -> str:
        return git(self._folder, *_PLAIN, *arguments)


def _messages(told: str) -> list[tuple[str, list[str]]]:
    """`git merge-tree -z` tells of each event its paths, its kind and a sentence."""
    fields = told.split("\0")
    found = []
    position = 0
    while position < len(fields) and fields[position].isdigit():
        count = int(fields[position])
        paths = fields[position + 1 : position + 1 + count]
        found.append((fields[position + 1 + count], paths))
        position += count + 3
    return found


def _reason(stages: Collection[int], binary: bool) -> str:
    match sorted(stages), binary:
        case [1, 2, 3], False:
            return "you and the template changed the same lines; both stand between the markers"
        case [1, 2, 3], True:
            return "you and the template changed a binary file; yours was kept"
        case [2, 3], False:
            return "you and the template each added this file; both stand between the markers"
        case [2, 3], True:
            return "you and the template each added this binary file; yours was kept"
        case [1, 2], _:
            return "you changed it and the template dropped it; yours was kept"
        case _:
            return "you and the template moved it to different places; both were kept"

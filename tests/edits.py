"""A year of edits to a generated repository, and what must be left of each after an update: to the byte.

Which files and lines are edited follows from what the template changed between two renderings, so that the script is as
good for the next release.
"""

import hashlib
import re
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

Files = dict[str, tuple[int, bytes]]

HUNK = re.compile(rb"^@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@", re.MULTILINE)
PICTURE = b"\x89PNG\r\n\x1a\n" + bytes(range(256))
YOURS = b"your-edits"
TOOL = "src/saas_agent/agent/tools"


class Unchanged(Exception):
    """The template has changed too little between the two renderings for an edit of this kind."""


@dataclass(frozen=True)
class Hunk:
    """Lines that the template changed, from 0: [start, end) became [new_start, new_end)."""

    start: int
    end: int
    new_start: int
    new_end: int


def hunks(before: bytes, after: bytes, folder: Path) -> list[Hunk]:
    """What git takes for changed."""
    names = [folder / "before", folder / "after"]
    for path, data in zip(names, (before, after), strict=True):
        path.write_bytes(data)
    command = ["git", "diff", "--no-index", "--unified=0", *map(str, names)]
    printed = subprocess.run(command, stdout=subprocess.PIPE, check=False).stdout
    found = []
    for line in HUNK.finditer(printed):
        start, count, new_start, new_count = (int(text) if text else 1 for text in line.groups())
        # Of an empty side git names the line before it.
        start, new_start = start - (count > 0), new_start - (new_count > 0)
        found.append(Hunk(start, start + count, new_start, new_start + new_count))
    return found


def blob(data: bytes) -> str:
    """Git's id of a file."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


@dataclass
class Script:
    """Edits of a repository in which nothing was edited yet.

    before, after: what the template generated, and what it generates now. owned: what is the owner's. label: the
    template's side in conflict markers. expected: every file after the update. unmerged: path -> stage -> git's id.
    still_deleted: what the report must name. left_out: kinds of edits of what the template changed for which it changed
    too little.
    """

    folder: Path
    scratch: Path
    before: Files
    after: Files
    owned: tuple[str, ...]
    label: bytes
    expected: Files = field(init=False)
    unmerged: dict[str, dict[int, str]] = field(default_factory=dict)
    still_deleted: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.expected = {
            path: content for path, content in self.after.items() if not self.is_yours(path) or path in self.owned
        } | {path: content for path, content in self.before.items() if self.is_yours(path)}
        self._used: set[str] = {".copier-answers.yml"}

    def is_yours(self, path: str) -> bool:
        return any(path == name or path.startswith(f"{name}/") for name in self.owned)

    def run(self) -> None:
        """Every kind of edit once, of those that there is something for."""
        # Those that are choosy first.
        for edit in (
            self.replace_the_lines_that_the_template_changed,
            self.edit_a_line_beside_them,
            self.add_a_line_far_from_them,
            self.rename_what_the_template_changed,
            self.add_what_the_template_adds,
            self.edit_what_the_template_dropped,
            self.delete_what_the_template_changed,
            self.make_binary_what_the_template_changed,
        ):
            try:
                edit()
            except Unchanged:
                self.left_out.append(edit.__name__)
        for edit in (
            self.delete_what_it_left_alone,
            self.edit_and_move_what_it_left_alone,
            self.make_binary_what_it_left_alone,
            self.make_executable,
            self.edit_what_is_yours,
            self.add_files,
        ):
            edit()

    # ------------------------------------------------------------------------------------- text that both sides changed

    def replace_the_lines_that_the_template_changed(self) -> None:
        path, hunk = self._hunk(lambda hunk: hunk.end > hunk.start and hunk.new_end > hunk.new_start)
        mine = b"# Mine.\n"
        lines, new = self._lines(path)
        self._write(path, b"".join([*lines[: hunk.start], mine, *lines[hunk.end :]]))
        self._expect(
            path,
            b"".join(
                [*new[: hunk.new_start], b"<<<<<<< %s\n" % YOURS, mine, b"=======\n"]
                + [*new[hunk.new_start : hunk.new_end], b">>>>>>> %s\n" % self.label, *new[hunk.new_end :]]
            ),
        )
        self._conflict(path, 1, 2, 3)

    def edit_a_line_beside_them(self) -> None:
        path, hunk = self._hunk(lambda hunk: hunk.start >= 3 and hunk.new_start >= 3)
        lines, new = self._lines(path)
        mine = b"# Mine, one line from the template's.\n"
        lines[hunk.start - 2] = new[hunk.new_start - 2] = mine
        self._write(path, b"".join(lines))
        self._expect(path, b"".join(new))

    def add_a_line_far_from_them(self) -> None:
        path, _ = self._hunk(lambda hunk: True, first=5)
        lines, new = self._lines(path)
        mine = b"# Mine, far from the template's.\n"
        self._write(path, mine + b"".join(lines))
        self._expect(path, mine + b"".join(new))

    # --------------------------------------------------------------------------------------- whole files, on both sides

    def rename_what_the_template_changed(self) -> None:
        path = self._pick(self._changed(), alike=True)
        self._move(path, f"docs/renamed/{Path(path).name}", self.after[path])

    def delete_what_the_template_changed(self) -> None:
        path = self._pick(self._changed())
        (self.folder / path).unlink()
        del self.expected[path]
        self.still_deleted.append(path)

    def make_binary_what_the_template_changed(self) -> None:
        path = self._pick(self._changed())
        self._write(path, PICTURE)
        self._expect(path, PICTURE)
        self._conflict(path, 1, 2, 3)

    def add_what_the_template_adds(self) -> None:
        path = self._pick(p for p in self.after if p not in self.before and self.after[p][1].endswith(b"\n"))
        mine = b"# Mine, of that name.\n"
        self._write(path, mine)
        theirs = self.after[path][1]
        self._expect(path, b"<<<<<<< %s\n%s=======\n%s>>>>>>> %s\n" % (YOURS, mine, theirs, self.label))
        self._conflict(path, 2, 3)

    def edit_what_the_template_dropped(self) -> None:
        path = self._pick(p for p in self.before if p not in self.after and self.before[p][1])
        # So much of it that it is like no other file.
        data = b"# Mine, and the template has no use for it.\n" * (self.before[path][1].count(b"\n") + 10)
        self._write(path, data)
        self.expected[path] = (self.before[path][0], data)
        self._conflict(path, 1, 2)

    # ------------------------------------------------------------------------------------------ files of one side alone

    def delete_what_it_left_alone(self) -> None:
        path = self._pick(self._alone())
        (self.folder / path).unlink()
        del self.expected[path]

    def edit_and_move_what_it_left_alone(self) -> None:
        path = self._pick(self._alone())
        data = b"# Mine, and moved.\n" + self.before[path][1]
        self._move(path, f"elsewhere/{Path(path).name}", (self.before[path][0], data))
        self._write(f"elsewhere/{Path(path).name}", data)

    def make_binary_what_it_left_alone(self) -> None:
        path = self._pick(self._alone())
        self._write(path, PICTURE)
        self._expect(path, PICTURE)

    def make_executable(self) -> None:
        path = self._pick(self._alone())
        (self.folder / path).chmod(0o755)
        self.expected[path] = (0o111, self.before[path][1])

    def edit_what_is_yours(self) -> None:
        for path, data in (("tiers.toml", b"# Mine.\n"), ("src/saas_agent/agent/prompt.py", b'PROMPT = "Mine."\n')):
            self._write(path, data)
            self._expect(path, data)
        # A sample that nobody wanted stays away.
        (self.folder / f"{TOOL}/preferences.py").unlink()
        del self.expected[f"{TOOL}/preferences.py"]

    def add_files(self) -> None:
        for path, data in (
            (f"{TOOL}/mine.py", b"# Mine.\n"),
            ("docs/mine.md", b"# Mine\n"),
            ("docs/picture.png", PICTURE),
        ):
            self._write(path, data)
            self.expected[path] = (0, data)

    # --------------------------------------------------------------------------------------------------------- choosing

    def _changed(self) -> Iterator[str]:
        """Text that the template has changed, and still has at its path."""
        for path, (_, data) in self.before.items():
            if path in self.after and self.after[path][1] != data and not self.is_yours(path):
                yield path

    def _alone(self) -> Iterator[str]:
        """Files of some length that the template has left as they were."""
        for path, content in self.before.items():
            if self.after.get(path) == content and not self.is_yours(path) and content[1].count(b"\n") > 20:
                yield path

    def _pick(self, paths: Iterator[str], *, alike: bool = False) -> str:
        for path in sorted(paths):
            if path not in self._used and (not alike or self._likeness(path) > 0.8):
                self._used.add(path)
                return path
        raise Unchanged

    def _hunk(self, fits: Callable[[Hunk], bool], first: int = 0) -> tuple[str, Hunk]:
        """A file and lines of it that the template changed, with unchanged lines around them."""
        for path in sorted(self._changed()):
            found = [] if path in self._used else hunks(self.before[path][1], self.after[path][1], self.scratch)
            ends = [0, *(hunk.end for hunk in found)]
            starts = [*(hunk.start for hunk in found), 10**9]
            for number, hunk in enumerate(found):
                apart = hunk.start - ends[number] >= 5 * (number > 0) and starts[number + 1] - hunk.end >= 5
                if apart and found[0].start >= first and fits(hunk):
                    self._used.add(path)
                    return path, hunk
        raise Unchanged

    def _likeness(self, path: str) -> float:
        """How much of the file the template left."""
        lines, new = self._lines(path)
        return len(set(lines) & set(new)) / max(len(set(lines)), len(set(new)))

    def _lines(self, path: str) -> tuple[list[bytes], list[bytes]]:
        return (
            self.before[path][1].splitlines(keepends=True),
            self.after[path][1].splitlines(keepends=True),
        )

    # ---------------------------------------------------------------------------------------------------------- writing

    def _write(self, path: str, data: bytes) -> None:
        target = self.folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)

    def _move(self, path: str, target: str, expected: tuple[int, bytes]) -> None:
        (self.folder / target).parent.mkdir(parents=True, exist_ok=True)
        (self.folder / path).rename(self.folder / target)
        del self.expected[path]
        self.expected[target] = expected

    def _expect(self, path: str, data: bytes) -> None:
        self.expected[path] = (self.expected[path][0], data)

    def _conflict(self, path: str, *stages: int) -> None:
        sides = {1: self.before, 3: self.after}
        self.unmerged[path] = {
            stage: blob(sides[stage][path][1] if stage in sides else (self.folder / path).read_bytes())
            for stage in stages
        }

"""Whatever both sides do to a tree: each change of the owner is in the result, or the report names its path."""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from .git import commit_all, git
from .rendering import contents
from .updating import Workshop, updater

SCRIPTS = 120
OWNED = ("mine", "mine.toml")


@dataclass
class Tree:
    """A tree that is edited at random, and what must be found again after a merge.

    texts: line -> path that it was put into. gone: line -> path that it was taken out of. bytes_at: path -> content.
    links: path -> target. deleted, executable, touched: paths. moved: new path -> old path.
    """

    folder: Path
    name: str
    chance: random.Random
    texts: dict[str, str] = field(default_factory=dict)
    gone: dict[str, str] = field(default_factory=dict)
    bytes_at: dict[str, bytes] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    deleted: set[str] = field(default_factory=set)
    executable: set[str] = field(default_factory=set)
    moved: dict[str, str] = field(default_factory=dict)
    touched: set[str] = field(default_factory=set)

    def pick(self, suffix: str = "") -> str | None:
        """A path that was not edited yet, so that what is expected of each is simple."""
        paths = [path for path in contents(self.folder) if path.endswith(suffix) and path not in self.touched]
        if not paths:
            return None
        path = self.chance.choice(paths)
        self.touched.add(path)
        return path

    def token(self, what: str) -> str:
        return f"{self.name} {what} {len(self.texts)} {self.chance.random()}"


def lines_of(tree: Tree, path: str) -> list[str]:
    return (tree.folder / path).read_text("utf-8").splitlines()


def write(tree: Tree, path: str, lines: list[str]) -> None:
    target = tree.folder / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text("".join(f"{line}\n" for line in lines), "utf-8")


def edit_lines(tree: Tree) -> None:
    if (path := tree.pick(".txt")) is None:
        return
    lines = lines_of(tree, path)
    for _ in range(tree.chance.randint(1, 4)):
        position = tree.chance.randrange(len(lines))
        line = tree.token("line")
        if tree.chance.random() < 0.5:
            lines.insert(position, line)
        else:
            lines[position] = line
        tree.texts[line] = path
    tree.texts = {line: where for line, where in tree.texts.items() if where != path or line in lines}
    write(tree, path, lines)


def delete_lines(tree: Tree) -> None:
    if (path := tree.pick(".txt")) is None:
        return
    lines = lines_of(tree, path)
    start = tree.chance.randrange(len(lines))
    taken = lines[start : start + tree.chance.randint(1, 3)]
    tree.gone |= {line: path for line in taken if lines.count(line) == 1}
    write(tree, path, [line for line in lines if line not in taken])


def delete_file(tree: Tree) -> None:
    if (path := tree.pick()) is not None:
        (tree.folder / path).unlink()
        tree.deleted.add(path)


def move_file(tree: Tree) -> None:
    if (path := tree.pick()) is None:
        return
    target = tree.folder / tree.chance.choice(["moved", "a"]) / f"{tree.name}-{Path(path).name}"
    target.parent.mkdir(exist_ok=True)
    (tree.folder / path).rename(target)
    name = target.relative_to(tree.folder).as_posix()
    tree.moved[name] = path
    tree.touched.add(name)
    if path.endswith(".txt") and tree.chance.random() < 0.5:
        lines = lines_of(tree, name)
        line = tree.token("moved")
        tree.texts[line] = name
        write(tree, name, [line, *lines])


def change_bytes(tree: Tree) -> None:
    if (path := tree.pick(tree.chance.choice([".bin", ".txt"]))) is not None:
        tree.bytes_at[path] = b"\0" + tree.chance.randbytes(200)
        (tree.folder / path).write_bytes(tree.bytes_at[path])


def add_text(tree: Tree) -> None:
    # The name may be the one that the other side gives to a file of its own.
    path = f"new-{tree.chance.randrange(3)}.txt"
    if path not in tree.touched:
        tree.touched.add(path)
        line = tree.token("added")
        tree.texts[line] = path
        write(tree, path, [line, "the same on both sides"])


def add_bytes(tree: Tree) -> None:
    path = f"new-{tree.chance.randrange(3)}.bin"
    if path not in tree.touched:
        tree.touched.add(path)
        tree.bytes_at[path] = b"\0" + tree.chance.randbytes(100)
        (tree.folder / path).write_bytes(tree.bytes_at[path])


def make_executable(tree: Tree) -> None:
    if (path := tree.pick()) is not None:
        (tree.folder / path).chmod(0o755)
        tree.executable.add(path)


def turn_line_ends(tree: Tree) -> None:
    if (path := tree.pick(".txt")) is not None:
        data = (tree.folder / path).read_bytes().replace(b"\n", b"\r\n")
        (tree.folder / path).write_bytes(data)
        tree.texts |= {f"{line}\r": path for line in data.decode().split("\r\n")[:1]}


def put_a_link(tree: Tree) -> None:
    if (path := tree.pick()) is not None:
        (tree.folder / path).unlink()
        (tree.folder / path).symlink_to("elsewhere")
        tree.links[path] = "elsewhere"


def edit_yours(tree: Tree) -> None:
    name = tree.chance.choice(["mine/tool.txt", "mine.toml", "mine/own.txt"])
    if name not in tree.touched:
        tree.touched.add(name)
        line = tree.token("yours")
        tree.texts[line] = name
        write(tree, name, [line])


Edit = Callable[[Tree], None]
BOTH: list[Edit] = [edit_lines, edit_lines, delete_lines, delete_file, move_file, change_bytes, add_text, add_bytes]
OWNERS: list[Edit] = [*BOTH, make_executable, turn_line_ends, put_a_link, edit_yours]


def plant(folder: Path) -> None:
    """What the template generated: texts of which some repeat themselves, and binary files."""
    for name in ("a/one", "a/two", "b/three", "b/c/four", "five", "six", "seven", "eight", "mine/tool"):
        lines = [f"{name} {number}" if number % 7 else "    return None" for number in range(40)]
        target = folder / f"{name}.txt"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text("".join(f"{line}\n" for line in lines), "utf-8")
    for name in ("nine", "b/ten", "eleven"):
        (folder / f"{name}.bin").write_bytes(name.encode() + bytes(range(256)))
    (folder / "mine.toml").write_text("yours = true\n", "utf-8")


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("planted")
    plant(folder)
    commit_all(folder, "Generate")
    return folder


@dataclass
class Outcome:
    """Both sides as they were edited, the repository after the merge, and every path that the report names."""

    yours: Tree
    theirs: Tree
    folder: Path
    named: set[str]
    conflicts: set[str]


def merged(seed: int, planted: Path, scratch: Path) -> Outcome:
    chance = random.Random(seed)
    for name in ("yours", "theirs"):
        git(scratch, "clone", "--quiet", "--shared", str(planted), name)
    yours, theirs = (Tree(scratch / name, name, chance) for name in ("yours", "theirs"))
    for tree, edits in ((yours, OWNERS), (theirs, BOTH)):
        for _ in range(chance.randint(3, 8)):
            chance.choice(edits)(tree)
    commit_all(yours.folder, "Edit")
    commit_all(theirs.folder, "Release")
    workshop = Workshop(scratch / "workshop", yours.folder)
    was = workshop.files(git(planted, "rev-parse", "HEAD").strip())
    mine = workshop.committed()
    becomes = workshop.rendered(theirs.folder)
    assert becomes == {**workshop.files(git(theirs.folder, "rev-parse", "HEAD^{tree}").strip())}
    change = updater.prepare(workshop, was, mine, becomes, OWNED, [], adding=False)
    done = workshop.merge(was, mine, becomes, "template")
    workshop.apply(done, "template")
    conflicts = {conflict.path for conflict in done.conflicts}
    return Outcome(
        yours, theirs, yours.folder, {*conflicts, *done.still_deleted, *change.kept, *change.offered}, conflicts
    )


def found(outcome: Outcome) -> Iterator[tuple[str, Path]]:
    for path in outcome.folder.rglob("*"):
        name = path.relative_to(outcome.folder).as_posix()
        if not name.startswith(".git/") and (path.is_symlink() or path.is_file()):
            yield name, path


@pytest.mark.parametrize("seed", range(SCRIPTS))
def test_no_edit_is_lost(seed: int, planted: Path, tmp_path: Path) -> None:
    outcome = merged(seed, planted, tmp_path)
    files = dict(found(outcome))
    held = {name: path.read_bytes() for name, path in files.items() if not path.is_symlink()}
    text = {name: set(data.decode("utf-8", "replace").split("\n")) for name, data in held.items()}
    yours, theirs = outcome.yours, outcome.theirs

    # What the owner wrote is there: always.
    for line, path in yours.texts.items():
        assert any(line in lines for lines in text.values()), (line, path)
    for path, data in yours.bytes_at.items():
        assert data in held.values(), path
    for path, target in yours.links.items():
        links = [file for file in files.values() if file.is_symlink() and str(file.readlink()) == target]
        assert len(links) == len(yours.links), path
    # What the owner took away stays away, or is named.
    new_names = {old: new for new, old in theirs.moved.items()}
    for line, path in yours.gone.items():
        back = [name for name, lines in text.items() if line in lines]
        assert set(back) <= outcome.named, (line, path, back)
    for path in yours.deleted:
        if path not in theirs.touched or path in theirs.deleted:
            assert path not in files
        assert path not in files or path in outcome.named
        assert new_names.get(path) not in files or {path, new_names[path]} & outcome.named, path
    for new, old in yours.moved.items():
        assert new in files or new in outcome.named or any(new in name for name in files), new
        assert old not in files or old in outcome.named or old in theirs.touched, old
    for path in yours.executable:
        name = new_names.get(path, path)
        if path not in theirs.touched:
            assert files[name].stat().st_mode & 0o111, path

    # What the template brought is there, or is named.
    for line, path in theirs.texts.items():
        if not any(line in lines for lines in text.values()):
            assert {path, theirs.moved.get(path, path)} & outcome.named or theirs.moved.get(path, path) in (
                yours.deleted | set(yours.links) | set(yours.bytes_at)
            ), (line, path)
    # A conflict is one for git as well, and shows.
    unmerged = {line.split("\t", 1)[1] for line in git(outcome.folder, "ls-files", "--unmerged").splitlines()}
    assert unmerged == outcome.conflicts
    marked = {name for name, lines in text.items() if any(line.startswith("<<<<<<< ") for line in lines)}
    assert marked <= outcome.conflicts


def test_the_edits_are_of_every_kind(planted: Path, tmp_path: Path) -> None:
    """Otherwise the test above shows less than it seems to."""
    seen: set[str] = set()
    for seed in range(12):
        (tmp_path / str(seed)).mkdir()
        outcome = merged(seed, planted, tmp_path / str(seed))
        for name in ("texts", "gone", "bytes_at", "links", "deleted", "executable", "moved"):
            seen |= {name} if getattr(outcome.yours, name) else set()
        seen |= {"conflicts"} if outcome.conflicts else set()
    assert seen == {"texts", "gone", "bytes_at", "links", "deleted", "executable", "moved", "conflicts"}

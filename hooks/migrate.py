"""What a `_migrations` entry of copier.yml runs: a release's migration.toml, for those who update with Copier alone.

    migrate.py v<release>

Copier sets STAGE and VERSION_FROM, and runs it in the repository that is updated. Before Copier renders, it renames
answers and moves files, so that edits move along. Afterwards it brings back what the template dropped and its owner had
edited. `make update` needs none of this.
"""

import os
import subprocess
import sys
from pathlib import Path

HOOKS = Path(__file__).resolve().parent
# The updater that is generated reads the same file.
sys.path.insert(0, str(HOOKS.parent / "template"))

from updates.template import ANSWERS_FILE, Answers, Migration  # noqa: E402


def git(folder: Path, *arguments: str) -> str | None:
    """What git prints, or None where it fails."""
    done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=False)
    return done.stdout if done.returncode == 0 else None


def before(migration: Migration, repository: Path) -> None:
    """Answers under their new names, files at their new paths."""
    path = repository / ANSWERS_FILE
    answers = Answers.read(path.read_text("utf-8"))
    carried = migration.carry(answers.given)
    if carried != answers.given:
        Answers(answers.source, answers.version, carried).write(path)
    for source, target in migration.moved.items():
        if (repository / source).is_file() and not (repository / target).exists():
            (repository / target).parent.mkdir(parents=True, exist_ok=True)
            git(repository, "mv", "--", source, target)


def after(migration: Migration, repository: Path, version: str) -> None:
    """Brings back what was dropped although its owner had edited it."""
    for path in migration.removed:
        mine = git(repository, "rev-parse", f"HEAD:./{path}")
        generated = git(HOOKS.parent, "rev-parse", f"{version}:template/{path}")
        # Of what Jinja composed nobody knows here what it was: it counts as edited.
        if mine is not None and mine != generated and not (repository / path).exists():
            git(repository, "checkout", "HEAD", "--", path)
            print(f"{path} is kept: you edited it, and the template dropped it ({migration.removed[path]})")


def main() -> int:
    """Does what the stage asks for."""
    [release] = sys.argv[1:]
    path = HOOKS / release / "migration.toml"
    migration = Migration.parse(path.read_text("utf-8"), str(path))
    if os.environ["STAGE"] == "before":
        before(migration, Path.cwd())
    else:
        after(migration, Path.cwd(), os.environ["VERSION_FROM"])
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Git, kept apart from the configuration of whoever runs the tests."""

import os
import shutil
import subprocess
from pathlib import Path

from .matrix import ROOT

ENVIRONMENT = {
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_SYSTEM": os.devnull,
    "GIT_AUTHOR_NAME": "Test",
    "GIT_AUTHOR_EMAIL": "test@example.com",
    "GIT_COMMITTER_NAME": "Test",
    "GIT_COMMITTER_EMAIL": "test@example.com",
}


def git(folder: Path, *arguments: str) -> str:
    """What the command prints; CalledProcessError where it fails."""
    done = subprocess.run(
        ["git", *arguments],
        cwd=folder,
        env={**os.environ, **ENVIRONMENT},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return done.stdout


def commit_all(folder: Path, message: str, *, tag: str | None = None) -> None:
    """Commits all there is, in a repository that is made where there is none."""
    if not (folder / ".git").exists():
        git(folder, "init", "--quiet", "--initial-branch", "main")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--allow-empty", "--message", message)
    if tag:
        git(folder, "tag", tag)


def snapshot(destination: Path) -> None:
    """This repository as it stands, edits and new files included, as one commit tagged v0.1.0."""
    listed = git(ROOT, "ls-files", "--cached", "--others", "--exclude-standard", "-z")
    for name in filter(None, listed.split("\0")):
        source = ROOT / name
        if source.is_file():
            target = destination / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)
    commit_all(destination, "The template", tag="v0.1.0")

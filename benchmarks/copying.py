"""How long it takes to generate a repository, beside Copier with nothing to do and other generators."""

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from tests.git import ENVIRONMENT, commit_all

from .measure import Command, Row, environment, medians, ratio
from .tools import tool

COOKIECUTTER = "2.7.1"
AGENT_STARTER_PACK = "0.41.3"


def measure(template: Path, rendered: Path, scratch: Path) -> list[Row]:
    """`template`: the tagged repository; `rendered`: its default variant."""
    files = sum(path.is_file() for path in rendered.rglob("*"))
    commands = {
        "ours": _copier(template, scratch),
        "empty": _copier(empty_template(scratch / "empty"), scratch),
        "cookiecutter": _cookiecutter(rendered, scratch),
        "agent-starter-pack": _agent_starter_pack(scratch),
    }
    seconds = medians(commands)
    return [
        ratio(f"copy, {files} files / copier with an empty template", seconds, "ours", "empty", 1.6),
        Row(
            f"copy / cookiecutter {COOKIECUTTER} rendering the same {files} files",
            f"{seconds['ours']:.2f} s / {seconds['cookiecutter']:.2f} s",
            seconds["ours"] / seconds["cookiecutter"],
            f"{seconds['ours'] / seconds['cookiecutter']:.2f}x",
            None,
        ),
        ratio(
            f"copy / agent-starter-pack {AGENT_STARTER_PACK} create",
            seconds,
            "ours",
            "agent-starter-pack",
            0.5,
        ),
    ]


def _removing(folder: Path) -> Callable[[], None]:
    return lambda: shutil.rmtree(folder, ignore_errors=True)


def _copier(template: Path, scratch: Path) -> Command:
    destination = scratch / "out" / template.name
    copy = [sys.executable, "-m", "copier", "copy", "--quiet", "--defaults"]
    return Command(
        [*copy, template, destination],
        scratch,
        environment(**ENVIRONMENT),
        _removing(destination),
    )


def empty_template(folder: Path) -> Path:
    """A tagged template that asks nothing and has no file but the answers."""
    (folder / "template").mkdir(parents=True)
    (folder / "copier.yml").write_text("_subdirectory: template\n", "utf-8")
    answers = "{{ _copier_answers | to_nice_yaml -}}\n"
    (folder / "template" / "{{ _copier_conf.answers_file }}.jinja").write_text(answers, "utf-8")
    commit_all(folder, "The template", tag="v0.1.0")
    return folder


def _cookiecutter(rendered: Path, scratch: Path) -> Command:
    """Every file rendered, as far as an engine renders what stands between `raw` and `endraw`."""
    template = scratch / "cookiecutter"
    for source in filter(Path.is_file, rendered.rglob("*")):
        target = template / "{{cookiecutter.name}}" / source.relative_to(rendered)
        target.parent.mkdir(parents=True, exist_ok=True)
        text = source.read_text("utf-8")
        target.write_text("{% raw %}" + text + "{% endraw %}", "utf-8")
    (template / "cookiecutter.json").write_text('{"name": "project"}\n', "utf-8")
    destination = scratch / "out" / "cookiecutter"
    command = tool("cookiecutter", COOKIECUTTER)
    return Command(
        [command, "--no-input", "--output-dir", destination, template],
        scratch,
        environment(HOME=str(scratch)),
        _removing(destination),
    )


def _agent_starter_pack(scratch: Path) -> Command:
    destination = scratch / "out" / "agent-starter-pack"
    chosen = ["--agent", "adk", "--deployment-target", "agent_engine", "--cicd-runner", "skip"]
    unasked = ["--auto-approve", "--skip-checks", "--output-dir", destination]
    command = tool("agent-starter-pack", AGENT_STARTER_PACK)
    return Command(
        [command, "create", "desk", *chosen, *map(str, unasked)],
        scratch,
        environment(HOME=str(scratch)),
        _removing(destination),
    )

"""What the generated README and `make serve` tell their reader to type works as it stands there."""

import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from .matrix import Variant, every_combination, load
from .rendering import Renderings
from .running import copied

[DEFAULT] = [variant for variant in load().supported if variant.id == "default"]
ENDED = 60  # seconds


@pytest.fixture(scope="module")
def repository(renderings: Renderings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The default repository, with this environment in the place of the one that `make` would install."""
    folder = copied(renderings[DEFAULT], tmp_path_factory.mktemp("readme") / "repository")
    commands = folder / ".venv" / "bin"
    commands.mkdir(parents=True)
    for name, command in {
        "python": '"$@"',
        "uv": '-m uv "$@"',
        "tenants": '-m saas_agent.control_plane.cli "$@"',
    }.items():
        script = f"#!/bin/sh\nPYTHONPATH={folder / 'src'} exec {shlex.quote(sys.executable)} {command}\n"
        (commands / name).write_text(script, encoding="utf-8")
        (commands / name).chmod(0o755)
    (folder / ".venv" / ".installed").touch()
    return folder


@pytest.fixture(scope="module")
def serving(repository: Path) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """`make serve` on a free port: the process of make, and what was printed."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with subprocess.Popen(
        ["make", "serve", f"ARGS=--port {port}"], cwd=repository, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        printed = ""
        for line in process.stdout:
            printed += line
            if "every command takes --local" in line:
                break
        try:
            yield process, printed
        finally:
            process.terminate()


def run(command: str, folder: Path) -> str:
    """Runs it as a shell in that folder would; what it prints. Fails unless it succeeds."""
    done = subprocess.run(["bash", "-euo", "pipefail", "-c", command], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


def commands_in(text: str, start: str) -> list[str]:
    """The indented lines of a Markdown text that begin so, without their comments."""
    return [line.strip().partition("  #")[0] for line in text.splitlines() if line.startswith(f"    {start}")]


def test_the_readmes_local_commands_work(repository: Path, serving: tuple["subprocess.Popen[str]", str]) -> None:
    readme = (repository / "README.md").read_text(encoding="utf-8")
    local = [command for command in commands_in(readme, ".venv/bin/tenants ") if "--local" in command]
    assert local
    for command in local:
        assert "acme" in run(command, repository)
    assert "REGISTRY_TABLE=" in run("set -a; . .local/environment; set +a; env", repository)


def test_the_readmes_other_commands_are_understood(repository: Path) -> None:
    readme = (repository / "README.md").read_text(encoding="utf-8")
    understands = "import sys; from saas_agent.control_plane.cli import _parser; _parser().parse_args(sys.argv[1:])"
    told = [command.removeprefix(".venv/bin/tenants ") for command in commands_in(readme, ".venv/bin/tenants ")]
    assert len(told) > 3
    for command in told:
        run(f".venv/bin/python -c {shlex.quote(understands)} {command}", repository)
    targets = set(re.findall(r"^([a-z-]+):.*## ", (repository / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert {command.split()[1] for command in commands_in(readme, "make ")} <= targets


def test_what_serve_prints_can_be_pasted(repository: Path, serving: tuple["subprocess.Popen[str]", str]) -> None:
    commands = serving[1][serving[1].index("eval ") :]
    if shutil.which("aws") is None:
        commands = re.sub(r"^aws .*$", "", commands, flags=re.MULTILINE)
    answered = run(commands, repository)
    assert '"answer"' in answered
    assert '"type": "done"' in answered


def test_what_serve_leaves_is_in_no_commit(repository: Path, serving: tuple["subprocess.Popen[str]", str]) -> None:
    run("git init --quiet", repository)
    assert run("git check-ignore .local/environment", repository).strip() == ".local/environment"


def test_a_second_local_cloud_in_the_same_folder_is_refused(
    repository: Path, serving: tuple["subprocess.Popen[str]", str]
) -> None:
    before = (repository / ".local" / "environment").read_bytes()
    assert refused(["local.serve", "--port", "0"], repository).startswith("serve: a local cloud is served from this")
    assert (repository / ".local" / "environment").read_bytes() == before


@pytest.mark.parametrize("port", ["80000", "-1"])
def test_a_port_that_is_none_is_refused_in_a_line(port: str, repository: Path, tmp_path: Path) -> None:
    folder = copied(repository, tmp_path / "repository")
    shutil.rmtree(folder / ".local", ignore_errors=True)
    assert refused(["local.serve", f"--port={port}"], folder).startswith(f"serve: port {port}: expected a number")


@pytest.mark.parametrize("command", ["local.demo", "local.serve"])
def test_a_model_that_is_none_is_refused_in_a_line(command: str, repository: Path, tmp_path: Path) -> None:
    folder = copied(repository, tmp_path / "repository")
    assert "LOCAL_MODEL=bogus..." in refused([command], folder, LOCAL_MODEL="bogus")


@pytest.mark.parametrize(
    ("command", "unwritable"), [("local.demo", "build"), ("local.serve", ".local"), ("infra.package", "dist")]
)
def test_what_it_can_not_write_is_said_first_and_in_a_line(
    command: str, unwritable: str, repository: Path, tmp_path: Path
) -> None:
    folder = copied(repository, tmp_path / "repository")
    shutil.rmtree(folder / unwritable, ignore_errors=True)
    (folder / unwritable).touch()
    began = time.monotonic()
    assert unwritable in refused([command], folder)
    assert time.monotonic() - began < ENDED


def refused(arguments: list[str], folder: Path, **environ: str) -> str:
    """What `python -m ...` says in its one line; fails unless its exit status is 1."""
    done = subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": "src", "PYTHONDONTWRITEBYTECODE": "1", **environ},
        capture_output=True,
        text=True,
        timeout=ENDED,
        check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    [line] = done.stderr.splitlines()
    return line


def test_ending_make_ends_the_local_cloud(repository: Path, serving: tuple["subprocess.Popen[str]", str]) -> None:
    process, printed = serving
    found = re.search(r"http://127\.0\.0\.1:(\d+)", printed)
    assert found
    process.send_signal(signal.SIGTERM)
    process.wait(ENDED)
    for _ in range(100):
        with socket.socket() as connection:
            if connection.connect_ex(("127.0.0.1", int(found[1]))) != 0:
                break
        time.sleep(0.1)
    else:
        pytest.fail("the local cloud still answers")
    assert not (repository / ".local" / "environment").exists()


def by_id(variant: Variant) -> str:
    return variant.id


# What a document says -> the file that it is true with.
SAID = {
    "AssumeRoleWithWebIdentity": "src/saas_agent/tenancy/web_identity.py",
    "credentials function": "src/saas_agent/tenancy/token_vending.py",
    "infra/tenant.yaml": "infra/tenant.yaml",
    "a user pool of its own": "src/saas_agent/functions/users_own.py",
    "the hub": "src/saas_agent/control_plane/federation.py",
    "PartiQL": "src/saas_agent/storage/table.py",
    "LeadingKeys": "src/saas_agent/storage/table.py",
    "s3:prefix": "src/saas_agent/storage/files.py",
    "nowledge function": "src/saas_agent/storage/knowledge_function.py",
    "foreign_passage": "src/saas_agent/storage/knowledge.py",
    "execution role is acme's own": "src/saas_agent/tenancy/runtime_role.py",
    "acme's own role and resources": "src/saas_agent/tenancy/own_role.py",
    "AgentCore Gateway": "src/saas_agent/gateway.py",
    "a third party": "src/saas_agent/outbound.py",
}
DOCUMENTS = ("README.md", "AGENTS.md", "docs/control-plane.md", "docs/isolation.md", "docs/updates.md")


@pytest.mark.parametrize("variant", list(every_combination()), ids=by_id)
def test_the_documents_speak_of_what_is_there_and_of_nothing_else(variant: Variant, renderings: Renderings) -> None:
    rendered = renderings[variant]
    text = "\n".join((rendered / name).read_text(encoding="utf-8") for name in DOCUMENTS)
    for said, file in SAID.items():
        assert (said in text) == (rendered / file).exists(), said
    for file in re.findall(r"`((?:infra|src|local|tests|docs)/[\w./]+)`", text):
        assert (rendered / file).exists(), file


@pytest.mark.parametrize("variant", list(every_combination()), ids=by_id)
def test_the_pictures_are_whole(variant: Variant, renderings: Renderings) -> None:
    readme = (renderings[variant] / "README.md").read_text(encoding="utf-8")
    sequence, flowchart = re.findall(r"(?s)```mermaid\n(.*?)```", readme)
    # A semicolon or a hash ends a message in Mermaid.
    assert not re.search("[;#]", sequence)
    there = set(re.findall(r"participant (\w+) as", sequence))
    assert set(re.findall(r"^ +(\w+)-", sequence, re.MULTILINE)) <= there
    assert set(re.findall(r">>(\w+):", sequence)) <= there
    nodes = set(re.findall(r"\b(\w+)(?:\[|\{\{)", flowchart))
    used = re.findall(r"^ +(\w+)", flowchart, re.MULTILINE) + re.findall(r"[|>] (\w+)$", flowchart, re.MULTILINE)
    assert set(used) <= nodes

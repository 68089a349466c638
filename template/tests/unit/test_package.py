"""The zips: the same bytes every time, what runs and nothing else, dependencies by hash."""

import io
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from infra import package
from infra.package import Package, PackageError, Packages, build

CONFIGURATION = {"placement.toml", "tiers.toml", "rates.toml"}


def names(zipped: Package) -> set[str]:
    return set(zipfile.ZipFile(io.BytesIO(zipped.content)).namelist())


def copy_of_project(folder: Path) -> Path:
    for name in CONFIGURATION:
        shutil.copy(package.ROOT / name, folder / name)
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(package.ROOT / "src", folder / "src", ignore=ignored)
    return folder


def put(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def unpack(zipped: Package, folder: Path) -> Path:
    """The zip's files, in a folder of their own."""
    zipfile.ZipFile(io.BytesIO(zipped.content)).extractall(folder / "unpacked")
    return folder / "unpacked"


def python(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs Python there, with the packages of this environment and nothing of its variables."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={"PYTHONPATH": str(folder), "PYTHONWARNINGS": "ignore"},
        capture_output=True,
        text=True,
        check=False,
    )


def install_fakes(_requirements: Path, target: Path) -> None:
    """What uv would install, in small: PyJWT with what it needs, botocore, and an agent library."""
    jwt = ["jwt/__init__.py", "pyjwt-2.0.dist-info/METADATA"]
    cryptography = ["cryptography/_rust.abi3.so", "cryptography-5.0.dist-info/METADATA"]
    put(
        target,
        {
            "bin/uvicorn": "",
            ".lock": "",
            "jwt/__init__.py": "",
            "pyjwt-2.0.dist-info/METADATA": (
                'Metadata-Version: 2.1\nName: PyJWT\nVersion: 2.0\nRequires-Dist: cryptography>=3; extra == "crypto"\n'
            ),
            "pyjwt-2.0.dist-info/RECORD": "".join(f"{name},,\n" for name in jwt),
            "pyjwt-2.0.dist-info/INSTALLER": "uv",
            "pyjwt-2.0.dist-info/licenses/LICENSE": "MIT",
            "cryptography/_rust.abi3.so": "",
            "cryptography-5.0.dist-info/METADATA": ("Metadata-Version: 2.1\nName: cryptography\nVersion: 5.0\n"),
            "cryptography-5.0.dist-info/RECORD": "".join(f"{name},,\n" for name in cryptography),
            "botocore/handlers.py": "register('redshift')",
            "botocore/data/endpoints.json": "{}",
            "botocore/data/s3/2006-03-01/service-2.json.gz": "",
            "botocore/data/redshift/2012-12-01/service-2.json.gz": "",
            "botocore/data/sts/2011-06-15/service-2.json.gz": "",
            "botocore/data/bedrock-runtime/2023-09-30/service-2.json.gz": "",
            "strands/models/bedrock.py": "client('bedrock-runtime')",
            "strands/tests/test_it.py": "client('redshift')",
            "strands/__pycache__/it.cpython-313.pyc": "",
        },
    )


@pytest.fixture
def fake_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(package, "_install", install_fakes)


def test_the_same_code_gives_the_same_bytes_wherever_and_whenever_it_lies(tmp_path: Path) -> None:
    copied = copy_of_project(tmp_path)
    for path in copied.rglob("*"):
        os.utime(path, (1_000_000_000, 1_000_000_000))
        path.chmod(0o755 if path.is_dir() else 0o600)
    here, there = build(dependencies=False), build(dependencies=False, root=copied)
    assert here.runtime.content == there.runtime.content
    assert here.functions.content == there.functions.content


def test_other_code_gets_another_key(tmp_path: Path) -> None:
    copied = copy_of_project(tmp_path)
    before = build(dependencies=False, root=copied)
    (copied / "tiers.toml").write_text((copied / "tiers.toml").read_text() + "\n")
    after = build(dependencies=False, root=copied)
    assert before.runtime.key != after.runtime.key
    assert after.runtime.key == f"runtime/{after.runtime.digest}.zip"


def test_a_new_prompt_leaves_the_functions_as_they_are(tmp_path: Path) -> None:
    copied = copy_of_project(tmp_path)
    before = build(dependencies=False, root=copied)
    put(copied, {"src/saas_agent/agent/prompt.py": "PROMPT = 'Be brief.'\n"})
    after = build(dependencies=False, root=copied)
    assert before.runtime.key != after.runtime.key
    assert before.functions.key == after.functions.key


def test_the_runtime_gets_the_whole_package_its_configuration_and_the_entry_point() -> None:
    content = names(build(dependencies=False).runtime)
    assert {
        "main.py",
        "saas_agent/main.py",
        "saas_agent/agent/prompt.py",
    } | CONFIGURATION <= content
    assert not any("__pycache__" in name for name in content)


def test_the_runtime_starts_from_its_zip_alone(tmp_path: Path) -> None:
    unpacked = unpack(build(dependencies=False).runtime, tmp_path)
    started = python(unpacked, "main.py")
    assert started.returncode == 1
    assert '"StartsRefused":1' in started.stdout  # which an alarm looks for
    assert started.stderr.startswith("The agent does not start: SERVICE is not set")
    # It imports with the garbage collector off.
    imported = python(unpacked, "-c", "import main, saas_agent.main as a, gc; print(main.run is a.run, gc.isenabled())")
    assert imported.stdout == "True True\n", imported.stderr


def test_the_functions_run_from_their_zip_alone(tmp_path: Path) -> None:
    functions = build(dependencies=False).functions
    content = names(functions)
    assert "saas_agent/functions/pre_token.py" in content
    # Of what is the agent's, the tools behind a gateway alone, where there is one.
    behind_gateway = {"saas_agent/agent/__init__.py", "saas_agent/agent/gateway_tools.py"}
    assert {name for name in content if name.startswith("saas_agent/agent/")} <= behind_gateway
    assert "saas_agent/wiring.py" not in content
    modules = [
        name.removesuffix(".py").replace("/", ".")
        for name in sorted(content)
        if name.startswith("saas_agent/functions/") and not name.endswith("__init__.py")
    ]
    unpacked = unpack(functions, tmp_path)
    done = python(unpacked, "-c", f"import {', '.join(modules)}, saas_agent; print(saas_agent.__file__)")
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).resolve().is_relative_to(unpacked.resolve())


@pytest.mark.usefixtures("fake_install")
def test_dependencies_come_without_what_is_never_read() -> None:
    content = names(build().runtime)
    assert "pyjwt-2.0.dist-info/METADATA" in content
    assert "pyjwt-2.0.dist-info/licenses/LICENSE" in content
    for name in (
        ".lock",
        "bin/uvicorn",
        "pyjwt-2.0.dist-info/RECORD",
        "pyjwt-2.0.dist-info/INSTALLER",
        "strands/tests/test_it.py",
        "strands/__pycache__/it.cpython-313.pyc",
    ):
        assert name not in content


@pytest.mark.usefixtures("fake_install")
def test_services_that_nobody_names_are_left_out() -> None:
    content = names(build().runtime)
    assert "botocore/data/endpoints.json" in content
    assert "botocore/data/sts/2011-06-15/service-2.json.gz" in content
    assert "botocore/data/bedrock-runtime/2023-09-30/service-2.json.gz" in content
    assert "botocore/data/redshift/2012-12-01/service-2.json.gz" not in content


@pytest.mark.usefixtures("fake_install")
def test_a_service_that_a_tool_names_is_there(tmp_path: Path) -> None:
    copied = copy_of_project(tmp_path)
    put(copied, {"src/saas_agent/agent/warehouse.py": 'client = session.client("redshift")\n'})
    content = names(build(root=copied).runtime)
    assert "botocore/data/redshift/2012-12-01/service-2.json.gz" in content


@pytest.mark.usefixtures("fake_install")
def test_functions_get_the_dependencies_that_they_import(tmp_path: Path) -> None:
    copied = copy_of_project(tmp_path)
    put(copied, {"src/saas_agent/functions/verify.py": "import boto3\nimport jwt\n"})
    content = names(build(root=copied).functions)
    assert {"jwt/__init__.py", "cryptography/_rust.abi3.so"} <= content
    assert not any(name.startswith(("strands/", "botocore/")) for name in content)


@pytest.mark.usefixtures("fake_install")
def test_the_same_dependencies_give_the_same_bytes() -> None:
    assert build().runtime.content == build().runtime.content


def test_adot_is_in_the_runtimes_zip_alone_and_only_where_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def install(requirements: Path, target: Path) -> None:
        install_fakes(requirements, target)
        put(target, {"opentelemetry/sdk.py": requirements.name, "bin/opentelemetry-instrument": "#!/home/me/python"})

    monkeypatch.setattr(package, "_install", install)
    plain, traced = build(), build(tracing="adot")
    assert (plain.tracing, traced.tracing) == ("none", "adot")
    assert traced.functions.content == plain.functions.content
    assert names(traced.runtime) - names(plain.runtime) == {"bin/opentelemetry-instrument"}
    for zipped, requirements in ((plain.runtime, b"runtime.txt"), (traced.runtime, b"adot.txt")):
        assert zipfile.ZipFile(io.BytesIO(zipped.content)).read("opentelemetry/sdk.py") == requirements
    assert build(tracing="adot").runtime.content == traced.runtime.content


def test_adots_entry_point_runs_from_the_zip_alone(tmp_path: Path) -> None:
    archive = zipfile.ZipFile(io.BytesIO(build(dependencies=False, tracing="adot").runtime.content))
    modes = {entry.filename: entry.external_attr >> 16 for entry in archive.infolist()}
    assert modes.pop("bin/opentelemetry-instrument") == 0o100755
    assert set(modes.values()) == {0o100644}
    archive.extractall(tmp_path / "code")
    # In place of OpenTelemetry's: it shows what it would run.
    module = "opentelemetry/instrumentation/auto_instrumentation.py"
    put(tmp_path / "code", {module: "import sys\n\n\ndef run():\n    print(*sys.argv[1:])\n"})
    (tmp_path / "elsewhere").mkdir()
    for given, run in ((["main.py"], f"{sys.executable} main.py"), (["python3", "main.py"], "python3 main.py")):
        started = subprocess.run(
            [sys.executable, "-I", "-S", tmp_path / "code" / "bin" / "opentelemetry-instrument", *given],
            cwd=tmp_path / "elsewhere",
            capture_output=True,
            text=True,
            check=False,
        )
        assert started.stdout.strip() == run, started.stderr


def test_there_is_no_other_tracing() -> None:
    with pytest.raises(PackageError, match=r"^tracing 'jaeger': expected one of none, adot$"):
        build(dependencies=False, tracing="jaeger")


def test_missing_requirements_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(PackageError, match=r"^runtime\.txt was not found .*`make lock`$"):
        build(root=copy_of_project(tmp_path))


def test_a_machine_without_uv_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = copy_of_project(tmp_path)
    put(root, {"requirements/runtime.txt": ""})
    monkeypatch.setattr(shutil, "which", lambda *_args, **_named: None)
    with pytest.raises(PackageError, match=r"^uv was not found; expected .*; install it there$"):
        build(root=root)


def test_what_uv_says_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = copy_of_project(tmp_path)
    put(root, {"requirements/runtime.txt": "nothing==1\n", "uv": "#!/bin/sh\necho No >&2\nexit 1\n"})
    (root / "uv").chmod(0o755)
    monkeypatch.setenv("PATH", f"{root}{os.pathsep}{os.environ['PATH']}")
    with pytest.raises(PackageError, match=r"^the dependencies could not be installed .*: No$"):
        build(root=root)


def test_a_zip_that_is_too_large_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(package, "_RUNTIME_LIMITS", (1000, 10**9))
    with pytest.raises(PackageError, match=r"^runtime\.zip has .*; expected at most 0\.0 MB"):
        build(dependencies=False)


def test_the_command_writes_both_zips_and_tells_their_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    built = build(dependencies=False)
    asked: list[str] = []

    def build_for(tracing: str) -> Packages:
        asked.append(tracing)
        return built

    monkeypatch.setattr(package, "build", build_for)
    monkeypatch.setattr(package, "ROOT", tmp_path)
    assert package.main(["--tracing", "adot"]) == package.main([]) == 0
    assert asked == ["adot", "none"]
    assert (tmp_path / "dist" / "runtime.zip").read_bytes() == built.runtime.content
    assert (tmp_path / "dist" / "functions.zip").read_bytes() == built.functions.content
    assert built.runtime.digest in capsys.readouterr().out


def test_the_command_fails_with_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def fail(**_: str) -> None:
        raise PackageError("no")

    monkeypatch.setattr(package, "build", fail)
    assert package.main([]) == 1
    assert capsys.readouterr().err == "error: no\n"

"""The code as it is deployed: a zip for the runtime and one for the Lambda functions.

The same input gives the same bytes.
Both run on Linux, arm64, Python 3.13, whatever this machine is.
"""

import argparse
import ast
import hashlib
import io
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import Distribution, distributions
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

_PACKAGE = "saas_agent"
_CONFIGURATION = ("placement.toml", "tiers.toml", "rates.toml")
_ENTRY_POINT = '''"""AgentCore Runtime starts this file."""

import gc

# What is imported stays: the collector would look through it again and again, for a tenth of the start.
gc.disable()

from saas_agent.main import run

gc.freeze()
gc.enable()

if __name__ == "__main__":
    run()
'''

# Where traces are exported by ADOT, AgentCore starts this first. The installed one names the Python of the machine that
# installed it, finds its packages only where somebody says where they are, and takes a program, no file.
_INSTRUMENT = "bin/opentelemetry-instrument"
_INSTRUMENTING = """#!/usr/bin/env python3
import os
import sys
from pathlib import Path

code = str(Path(__file__).resolve().parent.parent)
sys.path.insert(0, code)
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [code, os.environ.get("PYTHONPATH")]))
if sys.argv[1:] and sys.argv[1].endswith(".py"):
    sys.argv.insert(1, sys.executable)

from opentelemetry.instrumentation.auto_instrumentation import run

sys.exit(run())
"""

# AgentCore Runtime takes 250 MB zipped and 750 MB unzipped, Lambda 250 MB unzipped (developer
# guides, quotas).
_MEGABYTE = 1024 * 1024
_RUNTIME_LIMITS = (250 * _MEGABYTE, 750 * _MEGABYTE)
_FUNCTIONS_LIMITS = (250 * _MEGABYTE, 250 * _MEGABYTE)

# Lambda's own runtime has them.
_LAMBDA_HAS = {"boto3", "botocore", "dateutil", "jmespath", "s3transfer", "urllib3"}
# The extras of `pyproject.toml`, which no import statement shows: PyJWT imports cryptography only
# where it is there.
_EXTRAS = {"pyjwt": ["cryptography"]}

# botocore makes these clients itself, on its way to credentials; every other one is named in
# somebody's code.
_CREDENTIAL_SERVICES = {"signin", "sso", "sso-oidc", "sts"}
_SERVICE_DATA = "botocore/data/"
_QUOTED = re.compile(r"""["']([a-z][a-z0-9-]*)["']""")

# Of a distribution's metadata, what importlib.metadata and the licences ask for.
_METADATA_KEPT = re.compile(
    r"[^/]+\.dist-info/(METADATA|entry_points\.txt|licenses/.*|(LICEN[CS]E|NOTICE|COPYING)[^/]*)"
)

# The oldest time that a zip can hold.
_LONG_AGO = (1980, 1, 1, 0, 0, 0)


# By what traces leave the runtime, as the parameter Tracing of the platform's stack: the requirements of its zip.
_RUNTIME_REQUIREMENTS = {"none": "runtime.txt", "adot": "adot.txt"}


class PackageError(Exception):
    """The code can't be packaged. One line: what is wrong, what was expected, what to do."""


@dataclass(frozen=True)
class Package:
    """A zip. `unzipped`: bytes of its files."""

    name: str
    content: bytes = field(repr=False)
    unzipped: int

    @property
    def digest(self) -> str:
        """SHA-256 of the bytes, in hex."""
        return hashlib.sha256(self.content).hexdigest()

    @property
    def key(self) -> str:
        """Where it is kept: a name that tells its content."""
        return f"{self.name}/{self.digest}.zip"


@dataclass(frozen=True)
class Packages:
    """Everything that is deployed besides the templates. `tracing`: how the runtime's zip has to be started."""

    runtime: Package
    functions: Package
    tracing: str = "none"


def build(dependencies: bool = True, root: Path = ROOT, tracing: str = "none") -> Packages:
    """Packages the code, with its third-party dependencies unless the place it goes to has them.

    Dependencies are those of `requirements/runtime.txt`, by hash. With `tracing="adot"` the runtime's are those of
    `requirements/adot.txt`, which holds other versions of OpenTelemetry, and its zip has ADOT's entry point.

    Raises:
        PackageError: there is no such tracing, dependencies can't be installed, or a zip is too large.
    """
    if tracing not in _RUNTIME_REQUIREMENTS:
        raise PackageError(f"tracing {tracing!r}: expected one of {', '.join(_RUNTIME_REQUIREMENTS)}")
    with tempfile.TemporaryDirectory() as scratch:
        installed = {name: Path(scratch, name) for name in {"runtime.txt", _RUNTIME_REQUIREMENTS[tracing]}}
        for name, target in installed.items():
            target.mkdir()
            if dependencies:
                _install(root / "requirements" / name, target)
        runtime = _runtime_files(root, installed[_RUNTIME_REQUIREMENTS[tracing]])
        if tracing == "adot":
            runtime[_INSTRUMENT] = _INSTRUMENTING.encode()
        return Packages(
            _zipped("runtime", runtime, _RUNTIME_LIMITS),
            _zipped("functions", _functions_files(root, installed["runtime.txt"]), _FUNCTIONS_LIMITS),
            tracing,
        )


def _runtime_files(root: Path, installed: Path) -> dict[str, bytes]:
    own = {path.relative_to(root / "src").as_posix(): path for path in (root / "src" / _PACKAGE).rglob("*.py")}
    third_party = _worth_keeping(installed)
    services = _mentioned_services([*own.values(), *(installed / name for name in third_party)])
    files = {
        name: (installed / name).read_bytes()
        for name in third_party
        if _service_of(name) is None or _service_of(name) in services
    }
    files |= {name: path.read_bytes() for name, path in own.items()}
    files |= {name: (root / name).read_bytes() for name in _CONFIGURATION}
    files["main.py"] = _ENTRY_POINT.encode()
    return files


def _functions_files(root: Path, installed: Path) -> dict[str, bytes]:
    own, imported = _reachable(root / "src", (root / "src" / _PACKAGE / "functions").glob("*.py"))
    wanted = _distribution_files(installed, imported - _LAMBDA_HAS)
    files = {name: (installed / name).read_bytes() for name in _worth_keeping(installed) if name in wanted}
    files |= {path.relative_to(root / "src").as_posix(): path.read_bytes() for path in own}
    files |= {name: (root / name).read_bytes() for name in _CONFIGURATION}
    return files


def _install(requirements: Path, target: Path) -> None:
    if not requirements.is_file():
        raise PackageError(f"{requirements.name} was not found in requirements/; run `make lock`")
    uv = shutil.which("uv") or shutil.which("uv", path=str(Path(sys.executable).parent))
    if uv is None:
        raise PackageError("uv was not found; expected it on PATH or in this environment; install it there")
    command = [
        uv,
        "pip",
        "install",
        "--quiet",
        "--no-config",
        "--python",
        sys.executable,
        "--target",
        str(target),
    ]
    command += ["--python-platform", "aarch64-manylinux_2_28", "--python-version", "3.13"]
    command += [
        "--only-binary",
        ":all:",
        "--no-deps",
        "--require-hashes",
        "--link-mode",
        "copy",
        "-r",
        str(requirements),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        said = " ".join(done.stderr.split())
        raise PackageError(f"the dependencies could not be installed for Linux on arm64: {said}")


def _worth_keeping(installed: Path) -> list[str]:
    """Files of the dependencies, as relative paths, without what is never read where they run."""
    names = (path.relative_to(installed).as_posix() for path in installed.rglob("*") if path.is_file())
    return sorted(name for name in names if _is_read(name))


def _is_read(name: str) -> bool:
    parts = name.split("/")
    if parts[0] == "bin" or name == ".lock" or "tests" in parts[1:-1] or "__pycache__" in parts:
        return False
    return not parts[0].endswith(".dist-info") or bool(_METADATA_KEPT.fullmatch(name))


def _service_of(name: str) -> str | None:
    """The AWS service whose API this file describes, if it is one of botocore's descriptions."""
    service, is_folder, _ = name.removeprefix(_SERVICE_DATA).partition("/")
    return service if name.startswith(_SERVICE_DATA) and is_folder else None


def _mentioned_services(files: Iterable[Path]) -> set[str]:
    """Every quoted word of the code: a client can only be made of a service that somebody names.

    More than needed (`config` is a service too), and less only where a name is put together at run
    time. botocore's own code is left out, which names services without making clients of them.
    """
    mentioned = set(_CREDENTIAL_SERVICES)
    for path in files:
        if path.suffix == ".py" and path.parent.name != "botocore":
            mentioned.update(_QUOTED.findall(path.read_text(encoding="utf-8", errors="replace")))
    return mentioned


def _reachable(src: Path, entry_points: Iterable[Path]) -> tuple[set[Path], set[str]]:
    """The project's own files that the entry points import, and the other packages they import."""
    own: set[Path] = set()
    imported: set[str] = set()
    pending = list(entry_points)
    while pending:
        path = pending.pop()
        if path in own:
            continue
        own.add(path)
        for name in _imports(path):
            top = name.partition(".")[0]
            if top == _PACKAGE:
                pending += _files_of(src, name)
            elif top not in sys.stdlib_module_names:
                imported.add(top)
    return own, imported


def _imports(path: Path) -> Iterable[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            # `from package import module` names a module only together.
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _files_of(src: Path, name: str) -> Iterable[Path]:
    """What is read to import the module: its file, and the __init__ of each package around it."""
    parts = name.split(".")
    for depth in range(1, len(parts) + 1):
        folder = src.joinpath(*parts[:depth])
        candidates = (folder / "__init__.py", folder.with_suffix(".py"))
        yield from (path for path in candidates if path.is_file())


def _distribution_files(installed: Path, imported: set[str]) -> set[str]:
    """The files of the distributions that provide these packages, and of all that those need."""
    found = {_normal(distribution.name): distribution for distribution in distributions(path=[str(installed)])}
    pending = [name for name, distribution in found.items() if _top_level(distribution) & imported]
    needed: set[str] = set()
    while pending:
        name = pending.pop()
        if name in needed or name not in found:
            continue
        needed.add(name)
        plain = (requirement for requirement in found[name].requires or [] if "extra ==" not in requirement)
        pending += [_normal(re.split(r"[^\w.-]", requirement, maxsplit=1)[0]) for requirement in plain]
        pending += _EXTRAS.get(name, [])
    return {file.as_posix() for name in needed for file in found[name].files or []}


def _top_level(distribution: Distribution) -> set[str]:
    return {file.parts[0].removesuffix(".py") for file in distribution.files or []}


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _zipped(name: str, files: Mapping[str, bytes], limits: tuple[int, int]) -> Package:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for file in sorted(files):
            entry = zipfile.ZipInfo(file, _LONG_AGO)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.create_system = 3  # Unix, on every machine
            # AgentCore keeps to these, and runs what it starts.
            entry.external_attr = (0o100755 if file == _INSTRUMENT else 0o100644) << 16
            archive.writestr(entry, files[file])
    package = Package(name, buffer.getvalue(), sum(map(len, files.values())))
    if len(package.content) > limits[0] or package.unzipped > limits[1]:
        raise PackageError(
            f"{name}.zip has {_size(len(package.content))}, {_size(package.unzipped)} unzipped; "
            f"expected at most {_size(limits[0])} and {_size(limits[1])}; drop a dependency"
        )
    return package


def _size(count: int) -> str:
    return f"{count / _MEGABYTE:.1f} MB"


def main(arguments: list[str] | None = None) -> int:
    """Writes both zips to `dist/`; exit status 1 and one line where that fails."""
    parser = argparse.ArgumentParser(prog="python -m infra.package", description=__doc__)
    parser.add_argument("--tracing", choices=_RUNTIME_REQUIREMENTS, default="none", help="as the stage's Tracing")
    options = parser.parse_args(arguments)
    folder = ROOT / "dist"
    try:
        # Before the dependencies are fetched, which takes a while.
        folder.mkdir(exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
        packages = build(tracing=options.tracing)
    except PackageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"error: {error}; expected a folder dist/ to write to", file=sys.stderr)
        return 1
    for package in (packages.runtime, packages.functions):
        (folder / f"{package.name}.zip").write_bytes(package.content)
        sizes = f"{_size(len(package.content))}, {_size(package.unzipped)} unzipped"
        print(f"dist/{package.name}.zip  {sizes}  sha256 {package.digest}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

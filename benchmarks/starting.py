"""How long a runtime's code takes to import, beside the two SDKs that it can't do without."""

import sys
from pathlib import Path

from .measure import Command, Row, environment, medians, ratio, run

# As it is deployed, but for the dependencies, which both sides take from this environment.
_UNPACK = """
import io, sys, zipfile
from infra.package import build

zipfile.ZipFile(io.BytesIO(build(dependencies=False).runtime.content)).extractall(sys.argv[1])
"""


def measure(rendered: Path, scratch: Path) -> list[Row]:
    """`rendered`: the default variant."""
    unpacked = scratch / "runtime"
    run(Command([sys.executable, "-c", _UNPACK, unpacked], rendered, environment()))
    seconds = medians({"ours": _imports("main", unpacked), "sdks": _imports("strands, bedrock_agentcore", unpacked)})
    what = "import of the runtime's entry point / of strands and bedrock_agentcore"
    return [ratio(what, seconds, "ours", "sdks", 1.15)]


def _imports(modules: str, folder: Path) -> Command:
    """The import alone: a process that serves doesn't end, so how long it takes to is nobody's concern."""
    code = f"import os, {modules}; os._exit(0)"
    return Command([sys.executable, "-c", code], folder, environment())

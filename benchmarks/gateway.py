"""What gateway and interceptor add to a tool call; `tool_call.py` measures it inside the generated repository."""

import json
import subprocess
import sys
from pathlib import Path

from tests.rendering import copy

from .measure import Row, environment


def measure(template: Path, scratch: Path) -> list[Row]:
    """`template`: of which a variant with a gateway is rendered."""
    rendered = scratch / "gateway"
    copy(template, rendered, {"gateway": True})
    done = subprocess.run(
        # Without -P, this folder would come first, and this module would pass for the package of its name.
        [sys.executable, "-P", str(Path(__file__).with_name("tool_call.py"))],
        cwd=rendered,
        env=environment(PYTHONPATH=".:src"),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    found = json.loads(done.stdout.strip().splitlines()[-1])
    measured = (
        f"{found['gateway_ms']:.1f} ms - {found['function_ms']:.1f} ms, "
        f"medians of {found['calls']} calls in {found['rounds']} rounds"
    )
    added = float(found["added_ms"])
    return [Row("added to a tool call by gateway and interceptor", measured, added, f"{added:.1f} ms", None)]

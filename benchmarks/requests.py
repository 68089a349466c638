"""What the tenancy layers add to a warm request; `request.py` measures it inside the generated repository."""

import json
import subprocess
import sys
from pathlib import Path

from .measure import Row, environment


def measure(rendered: Path) -> list[Row]:
    """`rendered`: the default variant."""
    script = Path(__file__).with_name("request.py")
    done = subprocess.run(
        # Without -P, this folder would come first, and this module would pass for the package of its name.
        [sys.executable, "-P", str(script)],
        cwd=rendered,
        env=environment(PYTHONPATH=".:src"),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    found = json.loads(done.stdout.strip().splitlines()[-1])
    measured = (
        f"{found['shipped_ms']:.1f} ms - {found['bare_ms']:.1f} ms, "
        f"medians of {found['requests']} requests in {found['rounds']} rounds"
    )
    added = float(found["added_ms"])
    return [Row("added by tenancy to a warm request", measured, added, f"{added:.1f} ms", 8)]

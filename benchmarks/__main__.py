"""`python -m benchmarks [PART]...`: measures the parts that are named, or all, and prints a table.

Exit status 1 when a promise isn't kept.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from tests.releases import tagged_clone
from tests.rendering import copy

from . import archives, copying, gateway, metering, onboarding, requests, starting, updating
from .measure import Row, table


def main() -> int:
    """Prints the table and returns the exit status."""
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        template, rendered = scratch / "template", scratch / "rendered"
        parts: dict[str, Callable[[], list[Row]]] = {
            "copying": lambda: copying.measure(template, rendered, scratch),
            "starting": lambda: starting.measure(rendered, scratch),
            "archives": lambda: archives.measure(rendered),
            "requests": lambda: requests.measure(rendered),
            "onboarding": lambda: onboarding.measure(template, rendered, scratch),
            "updating": lambda: updating.measure(template, scratch),
            "metering": lambda: metering.measure(rendered),
            "gateway": lambda: gateway.measure(template, scratch),
        }
        parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
        parser.add_argument("parts", nargs="*", choices=[[], *parts], help="all when none is named")
        chosen = parser.parse_args().parts or list(parts)
        tagged_clone(template)
        copy(template, rendered, {})
        rows = []
        for part in chosen:
            print(f"Measuring {part}", file=sys.stderr)
            rows += parts[part]()
    print(table(rows))
    return 0 if all(row.kept for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())

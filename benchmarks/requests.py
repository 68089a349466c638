"""What the tenancy layers add to a warm request; `request.py` measures it inside the generated repository."""

import re
from pathlib import Path

from .measure import Row, inside


def measure(rendered: Path) -> list[Row]:
    """`rendered`: the default variant."""
    # The quotas are taken as shipped, but one tenant asks more often here than a tier allows.
    tiers = rendered / "tiers.toml"
    text = re.sub(r"^requests_per_minute = \d+", "requests_per_minute = 100000", tiers.read_text("utf-8"), flags=re.M)
    tiers.write_text(re.sub(r"^concurrent_sessions = \d+", "concurrent_sessions = 2000", text, flags=re.M), "utf-8")
    found, _ = inside(rendered, "request.py")
    measured = (
        f"{found['shipped_ms']:.1f} ms - {found['bare_ms']:.1f} ms, "
        f"medians of {found['requests']} requests in {found['rounds']} rounds"
    )
    added = float(found["added_ms"])
    return [Row("added by tenancy to a warm request", measured, added, f"{added:.1f} ms", 8)]

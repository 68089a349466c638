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
    return [
        _row("added by tenancy to a warm request", found["warm"], 8),
        _row("added by tenancy to the first request of a session", found["first"], None),
    ]


def _row(what: str, found: dict[str, float], goal: float | None) -> Row:
    measured = (
        f"{found['shipped_ms']:.1f} ms - {found['bare_ms']:.1f} ms, "
        f"medians of {found['requests']} requests in {found['rounds']} rounds"
    )
    return Row(what, measured, found["added_ms"], f"{found['added_ms']:.1f} ms", goal)

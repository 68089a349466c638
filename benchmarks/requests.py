"""What the tenancy layers add to a warm request; `request.py` measures it inside the generated repository."""

from pathlib import Path

from .measure import Row, inside


def measure(rendered: Path) -> list[Row]:
    """`rendered`: the default variant."""
    found, _ = inside(rendered, "request.py")
    measured = (
        f"{found['shipped_ms']:.1f} ms - {found['bare_ms']:.1f} ms, "
        f"medians of {found['requests']} requests in {found['rounds']} rounds"
    )
    added = float(found["added_ms"])
    return [Row("added by tenancy to a warm request", measured, added, f"{added:.1f} ms", 8)]

"""What gateway and interceptor add to a tool call; `tool_call.py` measures it inside the generated repository."""

from pathlib import Path

from tests.rendering import copy

from .measure import Row, inside


def measure(template: Path, scratch: Path) -> list[Row]:
    """`template`: of which a variant with a gateway is rendered."""
    rendered = scratch / "gateway"
    copy(template, rendered, {"gateway": True})
    found, _ = inside(rendered, "tool_call.py")
    measured = (
        f"{found['gateway_ms']:.1f} ms - {found['function_ms']:.1f} ms, "
        f"medians of {found['calls']} calls in {found['rounds']} rounds"
    )
    added = float(found["added_ms"])
    return [Row("added to a tool call by gateway and interceptor", measured, added, f"{added:.1f} ms", None)]

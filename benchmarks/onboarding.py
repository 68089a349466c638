"""How long onboarding takes with many at once; `tenants.py` measures it inside a generated repository."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.rendering import copy

from .measure import Row, inside


def measure(template: Path, rendered: Path, scratch: Path) -> list[Row]:
    """`rendered`: the default variant, where all is shared."""
    silo = scratch / "silo"
    copy(template, silo, {"deployment_model": "silo"})
    pool, own = _onboarded(rendered, 1000, 8), _onboarded(silo, 20, 20)
    return [
        *_rows("shared", pool, grows=False),
        *_rows("dedicated", own, grows=True),
    ]


def _onboarded(repository: Path, count: int, threads: int) -> dict[str, Any]:
    found, _ = inside(repository, "tenants.py", count, threads)
    return found


def _rows(what: str, found: Mapping[str, Any], *, grows: bool) -> list[Row]:
    at_once = f"{found['tenants']:,} tenants, {found['threads']} at once"
    problems, documents = found["problems"], found["iam_documents_per_tenant"]
    return [
        Row(
            f"onboarding, everything {what}",
            f"{at_once}, {found['seconds']:.0f} s in all",
            0,
            f"p50 {found['p50']:.2f} s, p95 {found['p95']:.2f} s",
            None,
        ),
        Row(f"tenants lost, doubled or incomplete, {what}", at_once, len(problems), "; ".join(problems) or "0", 0),
        Row(
            f"calls of the last onboarding as of the first, {what}",
            f"{found['calls']} calls",
            0 if found["same_calls"] else 1,
            "the same" if found["same_calls"] else "others",
            None if grows else 0,
        ),
        Row(
            f"IAM roles and policies made for a tenant, {what}", at_once, documents, f"{documents:g}",
            None if grows else 0,
        ),
    ]  # fmt: skip

"""The local cloud and the deployment are tested here, since what is generated has them unchanged."""

from pathlib import Path

import pytest

from .matrix import ROOT, Variant, load
from .rendering import Renderings, contents
from .running import copied, passes, python

SUITE = "tests/local_cloud"

# The one that uses all of it, and the one that has the least: the tests must not lean on what an answer adds.
TESTED_IN = ("default", "vending-memory")


def suite_in(variant: Variant, renderings: Renderings, folder: Path) -> Path:
    """A copy of the variant, with the tests of `tests/local_cloud` beside those that it ships."""
    repository = copied(renderings[variant], folder)
    return copied(ROOT / SUITE, repository / SUITE).parent.parent


@pytest.mark.parametrize(
    "variant", [each for each in load().supported if each.id in TESTED_IN], ids=lambda each: each.id
)
def test_the_local_cloud_is_right(variant: Variant, renderings: Renderings, tmp_path: Path) -> None:
    passes(suite_in(variant, renderings, tmp_path / variant.id), SUITE)


def test_its_tests_have_the_right_types(renderings: Renderings, type_cache: Path, tmp_path: Path) -> None:
    [variant] = [each for each in load().supported if each.id == TESTED_IN[0]]
    repository = suite_in(variant, renderings, tmp_path / variant.id)
    python(repository, "mypy", "--cache-dir", str(type_cache), "--package", SUITE.replace("/", "."))


def test_every_variant_has_the_same_local_cloud(renderings: Renderings) -> None:
    """Otherwise it would have to be tested in every variant."""
    found: dict[str, set[tuple[int, bytes]]] = {}
    for variant in load().supported:
        for name, content in contents(renderings[variant]).items():
            if name.startswith(("local/", "infra/")) and name.endswith(".py"):
                found.setdefault(name, set()).add(content)
    assert {"local/gate.py", "infra/deploy.py"} <= set(found)
    assert [name for name, versions in found.items() if len(versions) > 1] == []

"""Every supported variant passes the tests that it ships."""

from pathlib import Path

import pytest

from .matrix import Variant, load
from .rendering import Renderings
from .running import copied, passes


@pytest.mark.parametrize(
    "variant",
    [
        pytest.param(variant, id=variant.id, marks=() if variant.id == "default" else pytest.mark.others)
        for variant in load().supported
    ],
)
def test_it_passes_the_tests_it_ships(variant: Variant, renderings: Renderings, tmp_path: Path) -> None:
    passes(copied(renderings[variant], tmp_path / variant.id))

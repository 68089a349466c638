"""Every supported variant passes the tests that it ships."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from .matrix import Variant, load
from .rendering import Renderings

SECONDS = 600


@pytest.mark.parametrize("variant", load().supported, ids=lambda variant: variant.id)
def test_it_passes_the_tests_it_ships(variant: Variant, renderings: Renderings, tmp_path: Path) -> None:
    repository = tmp_path / variant.id
    shutil.copytree(renderings[variant], repository)
    # With the packages of this environment, which are those that it pins.
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=repository,
        env={
            **{name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")},
            "PYTHONDONTWRITEBYTECODE": "1",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert re.search(r"^\d+ passed", done.stdout.strip().splitlines()[-1]), done.stdout

"""What the tests share: the template as a tagged repository, and each variant rendered once."""

import gc
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .git import ENVIRONMENT
from .matrix import load
from .releases import tagged_clone
from .rendering import Renderings, compiled_once, copy
from .sharing import folder, once
from .updating import Generated, Origin

# They import what is generated, and run there: test_local_cloud.py.
collect_ignore = ["local_cloud"]

# What is imported here stays: by Python's own thresholds much time goes into looking for garbage among it.
gc.set_threshold(100_000, 50, 100)


@pytest.fixture(scope="session", autouse=True)
def _own_git() -> Iterator[None]:
    """Copier runs git in this process's environment: nobody's identity and hooks reach it."""
    before = {name: os.environ.get(name) for name in ENVIRONMENT}
    os.environ.update(ENVIRONMENT)
    yield
    for name, value in before.items():
        if value is None:
            del os.environ[name]
        else:
            os.environ[name] = value


@pytest.fixture(scope="session", autouse=True)
def _compiled_once() -> Iterator[None]:
    with compiled_once():
        yield


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """This repository as it stands, committed and tagged as the next version; the released ones are tagged too."""
    return once(folder(tmp_path_factory, "origin") / "template", tagged_clone)


@pytest.fixture(scope="session")
def renderings(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Renderings:
    """Each variant, rendered once."""
    return Renderings(template, folder(tmp_path_factory, "variants"))


@pytest.fixture(scope="session")
def generated(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Generated:
    """Repositories that the released versions generated."""
    return Generated(template, folder(tmp_path_factory, "pristine"), tmp_path_factory.mktemp("generated"))


@pytest.fixture(scope="session")
def fresh(template: Path, renderings: Renderings, tmp_path_factory: pytest.TempPathFactory) -> Callable[[Origin], Path]:
    """What this tree generates for the answers of a released variant; read-only."""
    made = folder(tmp_path_factory, "fresh")

    def render(origin: Origin) -> Path:
        answers = origin.answers()
        for variant in load().supported:
            if variant.answers == answers:
                return renderings[variant]
        return once(made / origin.id, lambda path: copy(template, path, answers))

    return render


@pytest.fixture(scope="session")
def type_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache for all variants: what they have in common is checked once."""
    return tmp_path_factory.mktemp("mypy")

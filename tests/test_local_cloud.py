"""The local cloud and the deployment are tested here, since what is generated has them unchanged."""

from pathlib import Path

import pytest

from .matrix import ROOT, Variant, load
from .rendering import Renderings, contents
from .running import copied, passes, python

SUITE = "tests/local_cloud"

# The one that uses most of it, and the one that has the least: the tests must not lean on what an answer adds.
TESTED_IN = ("default", "vending-memory")

# A runtime as it is deployed, which takes its dependencies from the index: one that tenants share, and a tenant's own,
# whose MCP client traces, too.
DEPLOYED = "test_adot.py"
DEPLOYED_IN = ("default", "silo-table")

# A variant that has services which not all have, and the tests of these services.
SERVICES = {
    "knowledge": ("test_issue_tracker.py", "test_knowledge_base.py"),
    "vending-memory": ("test_identity.py", "test_issue_tracker_oauth.py"),
}


def the(name: str) -> Variant:
    """The supported variant of this id."""
    [variant] = [each for each in load().supported if each.id == name]
    return variant


def suite_in(variant: Variant, renderings: Renderings, folder: Path) -> Path:
    """A copy of the variant, with the tests of `tests/local_cloud` beside those that it ships."""
    repository = copied(renderings[variant], folder)
    suite = copied(ROOT / SUITE, repository / SUITE)
    for tests in {tests for files in SERVICES.values() for tests in files} - {*SERVICES.get(variant.id, ())}:
        (suite / tests).unlink()
    return repository


@pytest.mark.parametrize("name", TESTED_IN)
def test_the_local_cloud_is_right(name: str, renderings: Renderings, tmp_path: Path) -> None:
    passes(suite_in(the(name), renderings, tmp_path / name), SUITE, f"--ignore={SUITE}/{DEPLOYED}")


@pytest.mark.parametrize("name", DEPLOYED_IN)
def test_a_deployed_runtime_exports_its_traces(name: str, renderings: Renderings, tmp_path: Path) -> None:
    passes(suite_in(the(name), renderings, tmp_path / name), f"{SUITE}/{DEPLOYED}")


@pytest.mark.parametrize("name", sorted({*SERVICES} - {*TESTED_IN}))
def test_services_that_not_all_have_are_right(name: str, renderings: Renderings, tmp_path: Path) -> None:
    passes(suite_in(the(name), renderings, tmp_path / name), *(f"{SUITE}/{tests}" for tests in SERVICES[name]))


@pytest.mark.parametrize("name", SERVICES)
def test_its_tests_have_the_right_types(name: str, renderings: Renderings, type_cache: Path, tmp_path: Path) -> None:
    repository = suite_in(the(name), renderings, tmp_path / name)
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

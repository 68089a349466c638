"""One local cloud for all the tests of a process that need one: deployed once, with tenants as they are asked for."""

from collections.abc import Iterator

import botocore.loaders
import pytest

from local.authorization import DecisionLog
from local.cloud import LocalCloud
from local.stage import Actor, Stage
from saas_agent.tenancy.placement import load_placement

# Tests make many boto3 sessions, and each would read the service models again: they share one reader.
_LOADER = botocore.loaders.create_loader()
botocore.loaders.create_loader = lambda *_: _LOADER


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Unit tests first: some replace AWS within the process, which a deployed local cloud does not survive."""
    items.sort(key=lambda item: "unit" not in item.path.parts)


@pytest.fixture(scope="session")
def cloud() -> Iterator[LocalCloud]:
    """A deployed local cloud."""
    with LocalCloud(load_placement().region) as running:
        running.deploy()
        yield running


@pytest.fixture(scope="session")
def stage(cloud: LocalCloud) -> Stage:
    """The stage in it."""
    return cloud.stage()


@pytest.fixture
def decisions(cloud: LocalCloud) -> DecisionLog:
    """What it decided."""
    return cloud.decisions


@pytest.fixture(scope="session")
def acme(stage: Stage) -> Actor:
    """A basic tenant."""
    return stage.onboard("acme", "basic")


@pytest.fixture(scope="session")
def acme2(stage: Stage) -> Actor:
    """Another basic tenant, whose name starts like the first one's."""
    return stage.onboard("acme2", "basic")


@pytest.fixture(scope="session")
def globex(stage: Stage) -> Actor:
    """A premium tenant."""
    return stage.onboard("globex", "premium")

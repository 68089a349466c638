"""One local cloud for all the tests of a process that need one: deployed once, with tenants as they are asked for."""

from collections.abc import Iterator

import pytest
from strands import tool

from local.authorization import DecisionLog
from local.cloud import LocalCloud
from local.environment import keep_service_models
from local.proof import tiers_to_prove
from local.stage import Actor, Stage
from saas_agent import conversation
from saas_agent.tenancy.placement import load_placement

keep_service_models()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Unit tests first: some replace AWS within the process, which a deployed local cloud does not survive.

    Then those of the policies: the roles of the few tenants that they need are judged a hundred times over, and the
    other tests onboard more, one of them dozens; that one comes last.
    """
    last = "test_tenants.py"
    items.sort(key=lambda item: ("unit" not in (parts := item.path.parts), "isolation" not in parts, last in parts))


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
    """A tenant of the first tier."""
    return stage.onboard("acme", tiers_to_prove()[0])


@pytest.fixture(scope="session")
def acme2(stage: Stage) -> Actor:
    """Another tenant of that tier, whose name starts like the first one's."""
    return stage.onboard("acme2", tiers_to_prove()[0])


@pytest.fixture(scope="session")
def globex(stage: Stage) -> Actor:
    """A tenant of another tier; its components are placed otherwise, where any tier's are."""
    return stage.onboard("globex", tiers_to_prove()[1])


@pytest.fixture
def one_tool(monkeypatch: pytest.MonkeyPatch) -> str:
    """The agent has one tool, whichever this repository gives it; the tool's name, which the local model knows."""

    @tool
    def remember_preference(preference: str = "") -> str:
        """Remember a preference of the user."""
        return f"Noted: {preference}"

    monkeypatch.setattr(conversation, "caller_tools", lambda _: [remember_preference])
    return "remember_preference"

"""The deployed policies, read once from the local cloud."""

import pytest

from local.stage import Stage

from .documents import Documents, deployed_policies


@pytest.fixture(scope="session")
def documents(stage: Stage) -> Documents:
    """Every role of the deployment, as IAM holds it."""
    return deployed_policies(stage.session, stage.outputs)

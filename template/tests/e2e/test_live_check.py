"""The live check, on the local cloud: the code that runs against AWS."""

import pytest

from local.live_check import check
from local.stage import Stage
from saas_agent.control_plane.states import Status


def test_the_live_check_passes_and_can_be_repeated(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        assert check(stage) == 0, capsys.readouterr().out
        printed = capsys.readouterr().out
        assert ", 0 leaked" in printed
        assert "Is the access token taken in exchange for credentials?" in printed
        assert stage.tenants.show("live-check").status is Status.SUSPENDED

"""The live check, on the local cloud: the code that runs against AWS."""

import pytest

from local import live_check
from local.cloud import LocalCloud
from local.live_check import check, main
from local.stage import Stage
from saas_agent.control_plane.connection import Connection
from saas_agent.control_plane.states import Status


def test_the_live_check_passes_and_can_be_repeated(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        assert check(stage) == 0, capsys.readouterr().out
        printed = capsys.readouterr().out
        assert ", 0 leaked" in printed
        assert "Is the access token taken in exchange for credentials?" in printed
        assert stage.tenants.show("live-check").status is Status.SUSPENDED


def test_the_command_reaches_the_local_cloud_and_nothing_else(
    cloud: LocalCloud, stage: Stage, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    service = stage.settings.service
    running = Connection(cloud.operator_session(), service, "local", cloud.endpoint)
    monkeypatch.setattr(live_check, "connect_local", lambda _: running)
    # As in a shell of one's own: nothing points to the local cloud yet.
    monkeypatch.setenv("AWS_ENDPOINT_URL", "")
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    monkeypatch.setattr(live_check, "check", lambda found: len(list(found.tenants.all())) and 0)
    assert main(["--local"]) == 0, capsys.readouterr().err

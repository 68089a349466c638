"""Signs of life: plain lines for a log, one changing line for a terminal."""

import io

import pytest

from infra.progress import Lines, Progress, Terminal, progress_on


class Screen(io.StringIO):
    """A stream that is a terminal."""

    def isatty(self) -> bool:
        return True


def test_a_log_gets_a_line_for_everything() -> None:
    log = io.StringIO()
    progress = progress_on(log)
    assert isinstance(progress, Lines)
    progress.say("Deploying")
    progress.event("Table CREATE_IN_PROGRESS")
    progress.tick()
    progress.close()
    assert log.getvalue() == "Deploying\n  Table CREATE_IN_PROGRESS\n"


def test_a_terminal_shows_the_latest_event_on_one_line_with_the_seconds() -> None:
    screen, now = Screen(), [100.0]
    progress = Terminal(screen, clock=lambda: now[0])
    progress.event("first")
    now[0] = 107.4
    progress.event("second")
    now[0] = 109.6
    progress.tick()
    shown = screen.getvalue()
    assert "\n" not in shown
    assert shown.split("\r\x1b[2K")[1:] == ["  0 s  first", "  7 s  second", " 10 s  second"]


def test_a_terminal_keeps_what_is_said_and_clears_the_changing_line() -> None:
    screen = Screen()
    progress = progress_on(screen)
    assert isinstance(progress, Terminal)
    progress.event("passing")
    progress.say("staying")
    progress.close()
    assert screen.getvalue().endswith("\r\x1b[2Kstaying\n\r\x1b[2K")


def test_a_line_never_wraps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    screen = Screen()
    Terminal(screen).event("x" * 200)
    assert len(screen.getvalue().removeprefix("\r\x1b[2K")) == 39


def test_the_silent_one_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress()
    progress.say("a")
    progress.event("b")
    progress.tick()
    progress.close()
    assert capsys.readouterr() == ("", "")

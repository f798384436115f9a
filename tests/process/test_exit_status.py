"""What a process says that was started together with others, all of which have the same to say."""

from __future__ import annotations

import pytest

from wavespeed_runner.errors import ConfigError, RunError
from wavespeed_runner.process import exit_status
from wavespeed_runner.process.exit_status import FAILED, INTERRUPTED, WRONG, run_command


def test_the_first_speaks_and_ends_the_others_before_they_say_it_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse() -> int:
        raise ConfigError("steps=0: at least 1")

    def stop() -> int:
        raise KeyboardInterrupt

    waited: list[float] = []
    monkeypatch.setattr(exit_status, "sleep", lambda seconds: waited.append(seconds + len(capsys.readouterr().err)))
    assert run_command(refuse, str) == WRONG
    assert capsys.readouterr().err == "error: steps=0: at least 1\n"
    assert run_command(refuse, str, follows=True) == WRONG
    assert capsys.readouterr().err == "error: steps=0: at least 1\n", "its own mistake is told after all"
    assert waited == [0, exit_status.FIRST_SPEAKS_S], "nothing is said before"

    def fail() -> int:
        raise RunError("out of memory")

    assert run_command(fail, lambda error: None, follows=True) == FAILED
    assert capsys.readouterr().err == "error: out of memory\n" and len(waited) == 2, "the others may not know of it"

    assert run_command(stop, str, follows=True) == INTERRUPTED and not capsys.readouterr().err
    assert run_command(stop, str) == INTERRUPTED and capsys.readouterr().err

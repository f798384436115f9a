"""A panic of a library in Rust, such as tokenizers, ends a run like any other failure: a record and one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.execution.test_runner_failures import command, fail, on_disk
from wavespeed_runner.cli.main import main
from wavespeed_runner.process.exit_status import run_command


class PanicException(BaseException):
    """What a library in Rust raises: no `Exception`, and not to be imported."""


def test_a_panic_of_a_library_in_rust_is_one_line(
    family: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    family(decode=fail(PanicException, "Onig: Regex search error"))
    assert main(command(tmp_path)) == 1
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1
    assert err.startswith("error: stage decode: PanicException: Onig: Regex search error (see ")
    assert on_disk(tmp_path / "outputs")["status"] == "failed"


def test_a_panic_outside_of_a_run_is_one_line_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(fail(PanicException, "no\nregex"), lambda error: None) == 1
    assert capsys.readouterr().err == "error: PanicException: no regex; set HYDRA_FULL_ERROR=1 for the traceback\n"
    with pytest.raises(SystemExit):
        run_command(fail(SystemExit, 3), lambda error: None)

"""A reader that has seen enough (`| head`): the command ends as it would have, with its own exit status."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console
from rich.text import Text

from tests.children import CONTEXT
from tests.command_line import TINY
from wavespeed_runner.process.exit_status import exit_with, run_command
from wavespeed_runner.process.pipes import get_styled_output

REPO = Path(__file__).resolve().parents[2]
CODE = """
import sys
from wavespeed_runner.process.exit_status import run_command, exit_with
from wavespeed_runner.errors import RunError

def command():
    for _ in range({lines}):
        print("a line of output")
    print("to stderr", file=sys.stderr)
    sys.stdout.flush()
    open("ended", "w").close()
    {end}

exit_with(lambda arguments: run_command(command, lambda error: None))
"""


def closed() -> int:
    """The writing end of a pipe that nobody reads."""
    read, write = os.pipe()
    os.close(read)
    return write


def status(folder: Path, *command: str, stderr: int = subprocess.PIPE) -> tuple[int, str]:
    """Exit status and stderr of a command whose output nobody reads."""
    out = closed()
    try:
        done = subprocess.run(
            [sys.executable, *command], cwd=folder, env={**os.environ, "PYTHONPATH": str(REPO)},
            stdout=out, stderr=stderr, text=True, timeout=240,
        )  # fmt: skip
    finally:
        os.close(out)
    return done.returncode, done.stderr


def run_unread(folder: Path, *arguments: str) -> int | None:
    """Exit status of our command whose output nobody reads."""
    process = CONTEXT.Process(target=_command_unread, args=(folder, arguments))
    process.start()
    process.join(240)
    return process.exitcode


def _command_unread(folder: Path, arguments: tuple[str, ...]) -> None:
    from wavespeed_runner.cli.main import main

    os.chdir(folder)
    os.dup2(closed(), 1)
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.argv[1:] = arguments
    exit_with(main)


@pytest.mark.parametrize("lines", [1, 10000], ids=["within the buffer", "beyond it"])
@pytest.mark.parametrize(
    ("end", "wanted"), [("return 0", 0), ("return 1", 1), ("raise RunError('no')", 1), ("raise KeyboardInterrupt", 130)]
)
def test_the_exit_status_is_that_of_the_command(tmp_path: Path, lines: int, end: str, wanted: int) -> None:
    found, said = status(tmp_path, "-c", CODE.format(lines=lines, end=end))
    assert found == wanted
    assert (tmp_path / "ended").exists() and "Broken pipe" not in said and "BrokenPipe" not in said
    assert said.startswith("to stderr\n"), "only what nobody reads is dropped"


@pytest.mark.parametrize(("end", "wanted"), [("return 0", 0), ("raise RunError('no')", 1)])
def test_where_nobody_reads_the_errors_either(tmp_path: Path, end: str, wanted: int) -> None:
    assert status(tmp_path, "-c", CODE.format(lines=10000, end=end), stderr=subprocess.STDOUT)[0] == wanted
    assert (tmp_path / "ended").exists()


@pytest.mark.slow
@pytest.mark.parametrize("multirun", [(), ("-m",)], ids=["a run", "a sweep"])
def test_a_failed_job_is_a_failure_and_a_completed_one_is_none(tmp_path: Path, multirun: tuple[str, ...]) -> None:
    given = (*multirun, *TINY, "steps=1", "width=32", "height=32", "measure=none")
    assert run_unread(tmp_path, *given, "prompt='a red circle'") == 0
    # A file where the store's folder should be.
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "store").touch()
    assert run_unread(tmp_path, *given, "prompt='a red circle'", "outputs=taken") == 1


def test_the_store_s_table(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    assert status(tmp_path, "-m", "wavespeed_runner", "store", "store") == (0, "")


@pytest.mark.parametrize(("closed", "output"), [(">&-", ""), ("2>&-", "a line of output\n"), (">&- 2>&-", "")])
def test_streams_that_were_closed_from_the_start(closed: str, output: str, tmp_path: Path) -> None:
    code = (
        CODE.format(lines=1, end="return 3").replace("sys.stdout.flush()", "").replace('print("to stderr"', 'print(""')
    )
    command = f'"$0" -c "$1" {closed}'
    done = subprocess.run(
        ["sh", "-c", command, sys.executable, code], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(REPO)},
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stderr.strip()) == (3, "") and done.stdout.startswith(output)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
@pytest.mark.parametrize("lines", [1, 10000], ids=["within the buffer", "beyond it"])
def test_output_that_cannot_be_written_is_one_line(lines: int, tmp_path: Path) -> None:
    code = CODE.format(lines=lines, end="return 0").replace("sys.stdout.flush()", "")
    environment = {**os.environ, "PYTHONPATH": str(REPO)}
    environment.pop("PYTHONUNBUFFERED", None)
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, env=environment, stdout=full, stderr=subprocess.PIPE, text=True,
            timeout=60,
        )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.removeprefix("to stderr\n") == "error: outputs: No space left on device\n"


def test_control_characters_do_not_reach_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever a command prints; joined emoji and other scripts stay as they are."""

    def command() -> int:
        print("a\x1b[31mred\x1b]0;title\x07\u202eb\tc\u061c\u2028\u2029", "\U0001f468\u200d\U0001f469 \u05d0\xe9")
        return 0

    assert run_command(command, lambda error: None) == 0
    assert capsys.readouterr().out == "a?[31mred?]0;title??b\tc??? \U0001f468\u200d\U0001f469 \u05d0\xe9\n"


def test_a_writer_of_colours_keeps_them(capsys: pytest.CaptureFixture[str]) -> None:
    def command() -> int:
        Console(file=get_styled_output(), force_terminal=True, color_system="standard").print(Text("red", style="red"))
        print("\x1b[31mred")
        return 0

    assert run_command(command, lambda error: None) == 0
    assert capsys.readouterr().out == "\x1b[31mred\x1b[0m\n?[31mred\n"

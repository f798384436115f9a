"""The one way in which files are written: whole or not at all, permissions by the umask, no leftovers."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import wavespeed_runner
from wavespeed_runner.caching.calibration import file as calibration_file
from wavespeed_runner.caching.calibration.data import Calibration
from wavespeed_runner.errors import RunError
from wavespeed_runner.media.images import write_png
from wavespeed_runner.records.file import write_record
from wavespeed_runner.storage import atomic
from wavespeed_runner.storage.atomic import write_text, write_whole
from wavespeed_runner.storage.store import Store

KEY = "ab" * 32
PIXELS = np.zeros((2, 2, 3), np.uint8)
CALIBRATION = Calibration(key={"model": "flux"}, made={}, sigmas=[1.0])
WRITERS: dict[str, Callable[[Path], Any]] = {
    "bytes": lambda folder: write_whole(folder / "file.bin", b"one", b"two"),
    "text": lambda folder: write_text(folder / "file.txt", "text"),
    "a record": lambda folder: write_record(folder, {"a": 1}),
    "an image": lambda folder: write_png(folder / "file.png", PIXELS, metadata={}),
    "a calibration": lambda folder: calibration_file.save(CALIBRATION, folder / "file.yaml"),
    "a store's entry": lambda folder: Store(folder).write(KEY, b"payload", stage="encode"),
}


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o002, 0o664), (0o077, 0o600)])
def test_permissions_are_those_of_the_umask(tmp_path: Path, writer: str, umask: int, mode: int) -> None:
    before = os.umask(umask)
    try:
        WRITERS[writer](tmp_path)
    finally:
        os.umask(before)
    (file,) = files(tmp_path)
    assert file.stat().st_mode & 0o777 == mode


@pytest.mark.parametrize("writer", WRITERS)
def test_a_file_is_on_the_disk_before_it_gets_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writer: str
) -> None:
    """Else a machine that loses power may keep the name without the content."""
    order: list[str] = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda file: (order.append("fsync"), fsync(file)))
    monkeypatch.setattr(os, "replace", lambda *paths: (order.append("replace"), replace(*paths)))
    WRITERS[writer](tmp_path)
    assert order == ["fsync", "replace"]


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("moment", ["fsync", "replace"])
@pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_failure_keeps_the_old_file_and_leaves_no_part_of_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writer: str, moment: str, failure: BaseException
) -> None:
    WRITERS[writer](tmp_path)
    (file,) = files(tmp_path)
    before = file.read_bytes()

    def fail(*_: Any) -> None:
        raise failure

    monkeypatch.setattr(os, moment, fail)
    with pytest.raises((OSError, RunError, KeyboardInterrupt)):
        WRITERS[writer](tmp_path)
    assert files(tmp_path) == [file] and file.read_bytes() == before


def test_parts_are_joined_and_folders_made(tmp_path: Path) -> None:
    write_whole(tmp_path / "a" / "b" / "file", b"one", b"", b"two")
    assert (tmp_path / "a" / "b" / "file").read_bytes() == b"onetwo"


@pytest.mark.parametrize("name", ["x" * 255, "猫" * 85])
def test_a_name_as_long_as_the_system_allows(tmp_path: Path, name: str) -> None:
    """The temporary file's name is no longer than the file's own may be."""
    write_whole(tmp_path / name, b"whole")
    assert (tmp_path / name).read_bytes() == b"whole"


def test_text_is_utf_8_with_the_line_ends_that_it_has(tmp_path: Path) -> None:
    write_text(tmp_path / "file", "ü\r\nx\n")
    assert (tmp_path / "file").read_bytes() == "ü\r\nx\n".encode()


def test_text_that_cannot_be_written_is_one_line_with_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("where a folder should be")
    with pytest.raises(RunError, match=r"file/x: cannot be written: .*; choose another folder with outputs=DIR$"):
        write_text(tmp_path / "file" / "x", "text")
    with pytest.raises(RunError, match=r"cannot be written: .*; give out=FILE$"):
        write_text(tmp_path / "file" / "x", "text", way_out="give out=FILE")


def leave(folder: Path, name: str, *, system: str = "", process: int = 0, age: float = 0) -> Path:
    """A temporary file as a writer leaves it."""
    part = folder / f".{name}.{system or atomic._identify_system()}.{process}.{'a' * 16}.tmp"
    part.write_bytes(b"part")
    os.utime(part, (time.time() - age, time.time() - age))
    return part


def find_dead_process() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_what_a_killed_writer_left_is_removed_by_the_next_and_a_living_writer_s_part_is_not(tmp_path: Path) -> None:
    """Of another system's writers it cannot be told whether they live, so theirs are left until they are old."""
    dead, living = find_dead_process(), os.getppid()
    kept = [
        leave(tmp_path, "file", process=living),
        leave(tmp_path, "else", process=living, age=3000),
        leave(tmp_path, "file", system="0" * 8, process=dead),
        leave(tmp_path, "else", system="0" * 8, process=dead, age=3000),
    ]
    for name in ("file", "else", "new\nline"):
        leave(tmp_path, name, process=dead)
        leave(tmp_path, f"{name}2", process=living, age=4000)
        leave(tmp_path, f"{name}3", system="0" * 8, process=living, age=4000)
    for name in (".vimrc.tmp", ".file.1.tmp", "x.tmp", f".file.{'a' * 16}.tmp"):  # of other programs
        (tmp_path / name).write_bytes(b"")
        os.utime(tmp_path / name, (0, 0))
        kept.append(tmp_path / name)
    write_whole(tmp_path / "file", b"whole")
    assert files(tmp_path) == sorted([*kept, tmp_path / "file"])


def test_what_a_killed_writer_really_leaves_is_removed_at_once(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys; from wavespeed_runner.storage.atomic import write_whole\n"
        "os.replace = lambda *paths: os.kill(os.getpid(), signal.SIGKILL)\n"
        "write_whole(sys.argv[1], b'x')"
    )
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path / "file")], check=False).returncode == -9
    (left,) = files(tmp_path)
    assert left.suffix == ".tmp"
    write_whole(tmp_path / "other", b"whole")
    assert files(tmp_path) == [tmp_path / "other"]


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda part: os.symlink("file", part)])
def test_what_looks_like_a_temporary_file_and_is_none_is_left_alone(
    tmp_path: Path, make: Callable[[Path], Any]
) -> None:
    (tmp_path / "file").write_bytes(b"old")
    part = leave(tmp_path, "x", process=find_dead_process())
    part.unlink()
    make(part)
    write_whole(tmp_path / "file2", b"whole")  # and does not wait for a pipe
    assert part in list(tmp_path.iterdir()) and (tmp_path / "file").read_bytes() == b"old"


def test_a_folder_is_looked_through_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[Any] = []
    scan = os.scandir
    monkeypatch.setattr(os, "scandir", lambda folder: (looked.append(folder), scan(folder))[1])
    for number in range(5):
        write_whole(tmp_path / f"file{number}", b"whole")
    assert looked == [str(tmp_path)]
    if (child := os.fork()) == 0:  # it may live in the place of one that was killed
        write_whole(tmp_path / "file", b"whole")
        os._exit(len(looked))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 2


def test_no_process_is_ended_by_asking_for_it_on_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "name", "nt")
    monkeypatch.setattr(os, "kill", lambda *_: pytest.fail("this would end it"))
    assert atomic._is_running(find_dead_process.__code__.co_firstlineno)


def test_no_other_module_puts_files_in_place() -> None:
    """Whoever replaces or renames files does it here."""
    root = Path(str(wavespeed_runner.__file__)).parent
    found = set()
    for path in root.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            named = node.func if isinstance(node, ast.Call) else None
            if isinstance(named, ast.Attribute) and isinstance(named.value, ast.Name):
                called = f"{named.value.id}.{named.attr}"
                if called in ("os.replace", "os.rename", "os.fsync", "tempfile.mkstemp", "tempfile.NamedTemporaryFile"):
                    found.add(path)
    assert found == {Path(str(atomic.__file__))}

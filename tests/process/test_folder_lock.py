"""Locks on folders: one holder, freed by any end of its process, told by a reader that may not even write there."""

from __future__ import annotations

import errno
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from wavespeed_runner.errors import RunError
from wavespeed_runner.process import folder_lock
from wavespeed_runner.process.folder_lock import LOCK, is_locked, lock_folder, wait_for_lock

HOLD = """
import sys, time
from pathlib import Path
from wavespeed_runner.process.folder_lock import lock_folder
print(lock_folder(Path(sys.argv[1])) is not None, flush=True)
time.sleep({seconds})
"""


def hold(folder: Path, seconds: float) -> subprocess.Popen[str]:
    """A process that has the lock of a folder and sleeps."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD.format(seconds=seconds), str(folder)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdout.readline() == "True\n"
    return process


def test_one_process_has_it_and_a_kill_frees_it(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    assert is_locked(folder) is None
    process = hold(folder, 60)
    try:
        assert lock_folder(folder) is None and is_locked(folder) is True
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert is_locked(folder) is False and (folder / LOCK).exists()
    lock = lock_folder(folder)
    assert lock is not None and is_locked(folder) is True, "also within one process"
    os.close(lock)
    assert is_locked(folder) is False


def test_a_reader_that_may_not_write_can_tell(tmp_path: Path) -> None:
    lock = lock_folder(tmp_path)
    assert lock is not None
    (tmp_path / LOCK).chmod(0o444)
    assert is_locked(tmp_path) is True
    os.close(lock)
    assert is_locked(tmp_path) is False


@pytest.mark.parametrize("why", [errno.EACCES, errno.EROFS], ids=["another user's", "a read-only file system"])
def test_where_the_lock_file_opens_for_reading_alone(why: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock, real = lock_folder(tmp_path), os.open

    def read_only(path: Path, flags: int, *more: int) -> int:
        if flags & (os.O_RDWR | os.O_WRONLY):
            raise OSError(why, os.strerror(why), str(path))
        return real(path, flags, *more)

    monkeypatch.setattr(os, "open", read_only)
    assert lock is not None and is_locked(tmp_path) is True
    os.close(lock)
    assert is_locked(tmp_path) is False and is_locked(tmp_path / "none") is None


def test_a_network_file_system_where_a_reader_may_not_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It locks exclusively only what is open for writing."""

    def refused(file: int, blocking: bool) -> bool:
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))

    lock = lock_folder(tmp_path)
    monkeypatch.setattr(folder_lock, "lock_descriptor", refused)
    assert lock is not None and is_locked(tmp_path) is True
    os.close(lock)
    assert is_locked(tmp_path) is False


def test_who_waits_says_so_and_gets_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    process = hold(tmp_path, 1)
    with open(tmp_path / LOCK, "a") as file, caplog.at_level(logging.WARNING, "wavespeed_runner"):
        wait_for_lock(file.fileno(), "job 3")
        assert "job 3: another process is running it" in caplog.text
        assert process.wait(30) == 0 and is_locked(tmp_path) is True


def test_a_folder_that_cannot_be_made_and_a_lock_that_leads_nowhere_are_errors(tmp_path: Path) -> None:
    (tmp_path / LOCK).symlink_to(tmp_path / "no" / "folder")
    for folder in (tmp_path, Path("/proc/wavespeed")):
        with pytest.raises(RunError, match="cannot be written: No such file or directory; choose another folder"):
            lock_folder(folder)

"""The store between processes: kills, rivals and limits of the system leave whole entries only."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.store_helpers import files, key_of, payload_of
from wavespeed_runner.storage.store import STALE_S, Store

REPO = Path(__file__).resolve().parents[2]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def child(code: str, *arguments: object) -> subprocess.Popen[str]:
    """A process that has the helpers and the store."""
    head = (
        "import os, random, resource, signal, sys, time\nfrom pathlib import Path\n"
        "from tests.store_helpers import key_of, payload_of\nfrom wavespeed_runner.storage.store import Store\n"
        "from wavespeed_runner.errors import RunError\n"
    )
    command = [sys.executable, "-c", head + code, *map(str, arguments)]
    return subprocess.Popen(command, cwd=REPO, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_kills_at_random_moments_leave_whole_entries_only(store: Store) -> None:
    code = (
        "store = Store(Path(sys.argv[1])); print('ready', flush=True)\n"
        "while True:\n    n = random.randrange(4); store.write(key_of(n), payload_of(n), stage='x')\n"
    )
    for attempt in range(10):
        process = child(code, store.root)
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        time.sleep(random.uniform(0.0, 0.03) + 0.1 * (attempt == 0))
        process.kill()
        process.communicate()
        assert store.verify() == 0
        for number in range(4):
            assert store.read(key_of(number)) in (None, payload_of(number))
    assert store.size()[0] > 0, "nothing was ever written"


@pytest.mark.parametrize("moment", ["fsync", "replace"])
def test_a_kill_before_the_end_keeps_the_old_entry(store: Store, moment: str) -> None:
    store.write(key_of(1), b"old", stage="x")
    code = f"os.{moment} = lambda *a: os.kill(os.getpid(), signal.SIGKILL)\n"
    process = child(code + "Store(Path(sys.argv[1])).write(key_of(1), payload_of(1), stage='x')", store.root)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert store.read(key_of(1)) == b"old" and store.size()[0] == 1
    assert len(files(store.root)) == 2, "the dead writer's temporary file"
    assert store.prune() == (0, 0), "it may still be written to"
    (left,) = (path for path in files(store.root) if path.suffix == ".tmp")
    size = left.stat().st_size
    os.utime(left, (0, time.time() - STALE_S - 10))
    assert store.prune() == (0, size)
    assert files(store.root) == [store.path(key_of(1))]


def test_rivals_never_see_a_wrong_payload(store: Store) -> None:
    code = (
        "store, end = Store(Path(sys.argv[1])), time.time() + 1.5\n"
        "hits = 0\n"
        "while time.time() < end:\n"
        "    n = random.randrange(6)\n"
        "    store.write(key_of(n), payload_of(n), stage='x')\n"
        "    for m in range(6):\n"
        "        found = store.read(key_of(m)); hits += found is not None\n"
        "        assert found in (None, payload_of(m)), m\n"
        "    if random.random() < 0.2: store.prune(max_bytes=700_000)\n"
        "    list(store.entries()); store.size()\n"
        "assert not store.damaged; assert hits\n"
    )
    processes = [child(code, store.root) for _ in range(4)]
    for process in processes:
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
    assert store.verify() == 0
    assert [path for path in files(store.root) if path.suffix == ".tmp"] == []


def test_a_write_that_the_system_cuts_short_leaves_the_old_entry(store: Store) -> None:
    store.write(key_of(1), b"old", stage="x")
    code = (
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "try: Store(Path(sys.argv[1])).write(key_of(1), payload_of(1), stage='x')\n"
        "except RunError as error: print(error)\n"
    )
    out, errors = child(code, store.root).communicate(timeout=60)
    assert "cannot write" in out and "too large" in out and out.count("\n") == 1, errors
    assert store.read(key_of(1)) == b"old" and len(files(store.root)) == 1

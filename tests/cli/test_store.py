"""`python -m wavespeed_runner store`: the table, verifying, pruning, and how wrong arguments are refused."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.store_helpers import key_of, payload_of
from wavespeed_runner.cli.arguments import parse_size
from wavespeed_runner.cli.main import main
from wavespeed_runner.cli.store import parse_age
from wavespeed_runner.metrics.timing import format_bytes
from wavespeed_runner.storage.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    return main(["store", *map(str, arguments)]), *capsys.readouterr()


def test_command_line(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    store.write(key_of(1), payload_of(1, 5000), stage="encode")
    store.write(key_of(2), payload_of(2, 1_500_000), stage="decode")
    code, out, err = run(capsys, store.root)
    lines = [line.split() for line in out.splitlines()]
    assert (code, err) == (0, "") and lines[0] == ["stage", "entries", "size"]
    assert lines[1:] == [["decode", "1", "1.5", "MB"], ["encode", "1", "5.2", "kB"], ["total", "2", "1.5", "MB"]]
    path = store.path(key_of(2))
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    code, out, err = run(capsys, store.root, "--verify")
    assert code == 1 and "damaged and removed: 1" in out and not path.exists()
    assert run(capsys, store.root, "--older-than", "30d")[1].startswith("removed: 0 entries")
    assert run(capsys, store.root, "--prune-to", "1kB")[1].startswith("removed: 1 entries, 5.2 kB")


@pytest.mark.parametrize("arguments", [(), ("--verify",), ("--prune-to", "0B"), ("--older-than", "0s")])
def test_a_linked_folder_is_left_alone(store: Store, capsys: pytest.CaptureFixture[str], arguments: tuple[str]) -> None:
    other = Store(store.root.parent / "other")
    other.write(key_of(1), payload_of(1, 5000), stage="encode")
    store.root.mkdir()
    folder = other.path(key_of(1)).parent
    (store.root / folder.name).symlink_to(folder)
    code, out, _ = run(capsys, store.root, *arguments)
    assert code == 0 and out.splitlines()[-1 - ("--verify" in arguments)].split() == ["total", "0", "0", "B"]
    assert other.read(key_of(1)) == payload_of(1, 5000)


@pytest.mark.parametrize("arguments", [(), ("--verify",), ("--prune-to", "1GB")])
def test_a_store_that_may_not_be_read_is_an_error(
    store: Store, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    """It is not an empty store without damage."""
    store.write(key_of(1), payload_of(1, 5000), stage="encode")
    monkeypatch.setattr(Path, "is_dir", lambda path: True)  # for the folder above is closed to another user, too
    with as_another_user(store.root):
        code, out, err = run(capsys, store.root, *arguments)
    assert code != 0 and "total" not in out and "verified" not in out
    assert f"{store.root}: cannot be read: Permission denied; correct its permissions" in err and err.count("\n") == 1


@contextmanager
def as_another_user(folder: Path) -> Iterator[None]:
    """The body may not read the folder. root may read anything, so it becomes somebody else for a while."""
    root = os.geteuid() == 0
    folder.chmod(0)
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)
        folder.chmod(0o755)


@pytest.mark.parametrize(
    "arguments",
    [("--prune-to", "much"), ("--prune-to", "2iB"), ("--older-than", "30"), ("--unknown",), ("nowhere",), (".", "x")],
)
def test_wrong_arguments_are_one_line(capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]) -> None:
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (2, "") and err.count("\n") == 1 and arguments[-1] in err


def test_sizes_and_ages() -> None:
    sizes = {"0": 0, "1000": 1000, "2GB": 2 * 10**9, "1.5 kB": 1500, "1MiB": 2**20, "3g": 3 * 10**9}
    assert {text: parse_size(text) for text in sizes} == sizes
    assert [parse_age(text) for text in ("90s", "1.5m", "2h", "1d", "1w")] == [90, 90, 7200, 86400, 604800]
    assert [format_bytes(n) for n in (0, 999, 1000, 999_950, 2 * 10**9)] == [
        "0 B",
        "999 B",
        "1.0 kB",
        "1.0 MB",
        "2.0 GB",
    ]

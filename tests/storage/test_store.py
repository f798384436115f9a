"""The store under damage and full disks: a payload comes back as written, or not at all."""

from __future__ import annotations

import errno
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.store_helpers import files, key_of, payload_of
from wavespeed_runner.errors import RunError
from wavespeed_runner.storage.entry import DAMAGED
from wavespeed_runner.storage.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@settings(max_examples=60, deadline=None)
@given(payload=st.binary(max_size=2000), stage=st.text(max_size=20))
def test_round_trip(payload: bytes, stage: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder))
        assert key_of(1) not in store and store.read(key_of(1)) is None
        store.write(key_of(1), payload, stage=stage)
        assert key_of(1) in store and store.read(key_of(1)) == payload
        (entry,) = store.entries()
        assert entry[:2] == (key_of(1), stage) and abs(entry.last_used - time.time()) < 60
        assert store.size() == (1, entry.bytes) and entry.bytes > len(payload)
        assert store.damaged == []


@pytest.mark.parametrize("key", ["", "abc", "A" * 64, "g" * 64, "0" * 63, "0" * 65, "../" + "0" * 61, "0" * 64 + "\n"])
def test_other_keys_are_refused(store: Store, key: str) -> None:
    for use in (store.path, store.read, store.__contains__, lambda k: store.write(k, b"", stage="x")):
        with pytest.raises(ValueError, match="sha256 in lowercase hex"):
            use(key)
    assert files(store.root) == []


def check_found(raw: bytes) -> None:
    """Damaged bytes in an entry's place: not returned, removed, remembered, and writing mends it."""
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder))
        path = store.path(key_of(1))
        path.parent.mkdir()
        path.write_bytes(raw)
        assert store.read(key_of(1)) is None
        assert store.damaged == [key_of(1)] and files(store.root) == []
        store.write(key_of(1), b"again", stage="x")
        assert store.read(key_of(1)) == b"again"


def whole_entry(payload: bytes) -> tuple[bytes, int]:
    """The bytes of a good entry, and the length of its header."""
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder))
        store.write(key_of(1), payload, stage="decode")
        raw = store.path(key_of(1)).read_bytes()
    return raw, len(raw) - len(payload)


ENTRY, HEADER = whole_entry(payload_of(1, 3000))


@settings(max_examples=200, deadline=None)
@given(position=st.integers(0, HEADER - 1), change=st.integers(1, 255))
def test_a_changed_byte_in_the_header_is_found(position: int, change: int) -> None:
    check_found(ENTRY[:position] + bytes([ENTRY[position] ^ change]) + ENTRY[position + 1 :])


@settings(max_examples=100, deadline=None)
@given(position=st.integers(HEADER, len(ENTRY) - 1), change=st.integers(1, 255))
def test_a_changed_byte_in_the_payload_is_found(position: int, change: int) -> None:
    check_found(ENTRY[:position] + bytes([ENTRY[position] ^ change]) + ENTRY[position + 1 :])


@settings(max_examples=60, deadline=None)
@given(length=st.integers(0, len(ENTRY) - 1))
def test_a_cut_entry_is_found(length: int) -> None:
    check_found(ENTRY[:length])


@pytest.mark.parametrize(
    "raw", [b"", b"\n", b"null\n", b"[" * 60000 + b"\n", b"\xff\xfe", b"{}\n", ENTRY + b"x", ENTRY * 2]
)
def test_garbage_is_found(raw: bytes) -> None:
    check_found(raw)


def test_damage_is_a_warning_and_shows_in_the_listing(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    for number in (1, 2):
        store.write(key_of(number), b"payload", stage="encode")
    with open(store.path(key_of(1)), "r+b") as file:
        file.truncate(20)
    store.path(key_of(3)).parent.mkdir()
    os.replace(store.path(key_of(2)), store.path(key_of(3)))
    assert [entry.stage for entry in store.entries()] == [DAMAGED, DAMAGED], "cut, and lying under a wrong key"
    assert store.read(key_of(1)) is None
    (record,) = caplog.records
    assert record.name == "wavespeed_runner" and record.levelname == "WARNING"
    assert str(store.path(key_of(1))) in record.getMessage()


def test_an_unreadable_entry_counts_as_damaged(store: Store) -> None:
    store.path(key_of(1)).mkdir(parents=True)
    assert store.read(key_of(1)) is None and store.damaged == [key_of(1)]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names")
def test_nobody_waits_for_a_pipe_in_an_entry_s_place(store: Store) -> None:
    path = store.path(key_of(1))
    path.parent.mkdir(parents=True)
    os.mkfifo(path)
    with pytest.raises(RunError, match="cannot be read: not a regular file; remove it"):
        list(store.entries())
    assert store.read(key_of(1)) is None and store.verify() == 1 and store.damaged == [key_of(1)] * 2


def test_a_full_disk_is_one_line_and_leaves_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RunError) as caught:
        store.write(key_of(1), b"payload", stage="x")
    message = str(caught.value)
    assert str(store.path(key_of(1))) in message and "No space left" in message and "\n" not in message
    assert "--prune-to" in message and "outputs=" in message
    assert files(store.root) == []


def test_an_interrupted_write_leaves_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        store.write(key_of(1), b"payload", stage="x")
    assert files(store.root) == []


def test_a_folder_that_cannot_be_written_to_says_so(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("a file where the folder should be")  # stops root too, unlike permissions
    store = Store(tmp_path / "store")
    assert store.read(key_of(1)) is None and key_of(1) not in store and store.size() == (0, 0)
    with pytest.raises(RunError, match=r"cannot write .*/store/.*\.entry: .*can be written to.*outputs=DIR"):
        store.write(key_of(1), b"payload", stage="x")


def aged(store: Store, ages_s: dict[int, float]) -> None:
    for number, age in ages_s.items():
        store.write(key_of(number), payload_of(number, 1000), stage="x")
        os.utime(store.path(key_of(number)), (0, time.time() - age))


def kept(store: Store) -> set[int]:
    return {number for number in range(10) if key_of(number) in store}


def test_prune_takes_the_least_recently_used_first(store: Store) -> None:
    aged(store, {0: 500, 1: 400, 2: 300, 3: 200})
    size = {number: store.path(key_of(number)).stat().st_size for number in range(4)}
    assert store.read(key_of(0)) is not None, "used now, so the last to go"
    assert store.prune(max_bytes=size[0] + size[3]) == (2, size[1] + size[2])
    assert kept(store) == {0, 3}
    assert store.prune(max_bytes=size[0] + size[3]) == (0, 0)
    assert store.prune(max_bytes=0) == (2, size[0] + size[3]) and kept(store) == set()


def test_prune_by_age(store: Store) -> None:
    aged(store, {0: 500, 1: 400, 2: 300})
    assert store.prune(older_than_s=350)[0] == 2
    assert kept(store) == {2}
    assert store.verify() == 0 and store.prune(older_than_s=250)[0] == 1, "verifying is not using"


def test_prune_leaves_other_files_alone(store: Store) -> None:
    aged(store, {0: 500})
    others = [store.root / "notes.txt", store.root / "ab" / "mine.entry"]
    for path in others:
        path.parent.mkdir(exist_ok=True)
        path.write_text("not ours")
    assert store.size()[0] == 1 and store.verify() == 0
    assert store.prune(max_bytes=0)[0] == 1
    assert sorted(files(store.root)) == sorted(others)


def test_a_payload_in_parts_is_read_from_its_file(store: Store) -> None:
    store.write(key_of(1), b"ab", memoryview(b"cd"), stage="quant")
    assert store.read(key_of(1)) == b"abcd"
    assert store.read_mapped(key_of(1), bytes) == b"abcd"
    assert store.read_mapped(key_of(2), bytes) is None

    def change(view: memoryview) -> str:
        view[0] = 0
        return "changed"

    assert store.read_mapped(key_of(1), change) == "changed" and store.read(key_of(1)) == b"abcd"


@pytest.mark.parametrize("damage", [lambda raw: raw[:-1], lambda raw: raw[:-1] + b"x", lambda raw: b""])
def test_a_damaged_entry_is_not_decoded(store: Store, damage: Callable[[bytes], bytes]) -> None:
    store.write(key_of(1), b"abcd", stage="quant")
    store.path(key_of(1)).write_bytes(damage(store.path(key_of(1)).read_bytes()))
    assert store.read_mapped(key_of(1), bytes) is None
    assert store.damaged == [key_of(1)] and key_of(1) not in store


@pytest.fixture
def victim(store: Store, tmp_path: Path) -> Path:
    """An entry and a temporary file outside of the store, in a folder that a link in the store leads to; all old."""
    outside = Store(tmp_path / "outside")
    outside.write(key_of(1), b"somebody's", stage="x")
    folder = outside.path(key_of(1)).parent
    (folder / ".left.entry.tmp").write_bytes(b"")
    damaged = folder / f"{folder.name}{'0' * 62}.entry"
    damaged.write_bytes(b"damaged")
    for path in folder.iterdir():
        os.utime(path, (1, 1))
    store.root.mkdir()
    (store.root / folder.name).symlink_to(folder)
    return folder


def test_a_folder_that_is_a_link_is_left_alone(store: Store, victim: Path, caplog: pytest.LogCaptureFixture) -> None:
    before = sorted((path.name, path.stat().st_mtime) for path in victim.iterdir())
    assert list(store.entries()) == [] and store.size() == (0, 0)
    assert store.verify() == 0 and store.damaged == []
    assert store.prune(max_bytes=0, older_than_s=0) == (0, 0)
    assert key_of(1) not in store and store.read(key_of(1)) is None
    assert store.read_mapped(key_of(1), bytes) is None
    with pytest.raises(RunError, match=r"is a link, which leads out of the store; remove it$"):
        store.write(key_of(1), b"ours", stage="x")
    assert sorted((path.name, path.stat().st_mtime) for path in victim.iterdir()) == before
    (said,) = caplog.messages
    assert said.endswith("is a link, which leads out of the store; it is left alone")


def test_an_entry_that_is_a_link_is_removed_and_not_what_it_leads_to(store: Store, tmp_path: Path) -> None:
    other = tmp_path / "large"
    other.write_bytes(bytes(1000))
    store.path(key_of(1)).parent.mkdir(parents=True)
    store.path(key_of(1)).symlink_to(other)
    removed, freed = store.prune(max_bytes=0)
    assert removed == 1 and freed < 1000 and other.read_bytes() == bytes(1000)

"""Which files a config may name, whatever the form of the path, and that nothing waits for a pipe or a device."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wavespeed_runner.cli.main import main
from wavespeed_runner.errors import ConfigError
from wavespeed_runner.inputs.files import (
    ADAPTER,
    CALIBRATION,
    IMAGE,
    PROMPTS,
    InputError,
    check_named_by_config,
    check_regular,
    read_file,
    read_head,
    read_text,
    resolve_path,
)

SECRET = "my private text"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`here`, where the command runs, with links of all kinds; beside it private files; `given`, a folder of the
    command line's."""
    top = tmp_path_factory.mktemp("home")
    for folder in ("here/sub", "private", "given"):
        (top / folder).mkdir(parents=True)
    for suffix in ("txt", "png", "yaml", "safetensors"):
        for folder in ("here", "here/sub", "private", "given"):
            (top / folder / f"x.{suffix}").write_text(SECRET if folder == "private" else "open")
        (top / "here" / f"link.{suffix}").symlink_to(top / "private" / f"x.{suffix}")
        (top / "here" / f"chain.{suffix}").symlink_to(f"link.{suffix}")
        (top / "here" / f"near.{suffix}").symlink_to(f"sub/x.{suffix}")
        (top / "here" / f"given.{suffix}").symlink_to(top / "given" / f"x.{suffix}")
        (top / "here" / f"device.{suffix}").symlink_to("/dev/zero")
        os.mkfifo(top / "here" / f"pipe.{suffix}")
    (top / "here" / "folder").symlink_to(top / "private")
    (top / "here" / "loop.txt").symlink_to("loop.txt")
    return top


@pytest.fixture
def here(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(home / "here")
    return home


KINDS = {"txt": PROMPTS, "png": IMAGE, "yaml": CALIBRATION, "safetensors": ADAPTER}


@pytest.mark.parametrize("suffix", KINDS)
@pytest.mark.parametrize("path", ["x", "sub/x", "./x", "near", "given", "missing"])
def test_a_config_may_name_what_lies_here_or_where_the_command_said(here: Path, path: str, suffix: str) -> None:
    check_named_by_config("image", f"{path}.{suffix}", KINDS[suffix], [here / "given"])


@pytest.mark.parametrize("suffix", KINDS)
@pytest.mark.parametrize(
    "path",
    [
        "../private/x", "sub/../../private/x", "{top}/private/x", "//{top}/private/x", "~/x", "link", "chain",
        "folder/x", "./folder/x", "device", "sub//x", "C:/x", "\\\\host\\x", "file:///{top}/private/x",
        "${oc.env:HOME}",
        "pkg://wavespeed_runner//{top}/private/x", "pkg://wavespeed_runner/../x", "pkg://{top}/private/x", "pkg://os/x",
        "pkg://../x", "pkg://wavespeed_runner.conf/x", "pkg:///x", "x\0",
    ],
)  # fmt: skip
def test_a_config_may_not_name_anything_else(here: Path, path: str, suffix: str) -> None:
    with pytest.raises(ConfigError, match=r"^image="):
        check_named_by_config("image", f"{path.format(top=here) if '{top}' in path else path}.{suffix}", KINDS[suffix])


@pytest.mark.parametrize("path", ["x.txt", "x.png", "x", "x.txt.exe", "", "."])
def test_a_config_may_not_name_a_file_of_another_kind(here: Path, path: str) -> None:
    with pytest.raises(ConfigError, match=r"a relative \.yaml file"):
        check_named_by_config("cache.calibration", path, CALIBRATION)


@pytest.mark.parametrize("name", ["my..photo", "Photo 10:30", "5$", "a~b", ".hidden", "..x", "x.."])
def test_unusual_names_are_names(here: Path, name: str) -> None:
    assert check_named_by_config("image", f"{name}.png", IMAGE) == f"{name}.png"
    assert check_named_by_config("image", f"{name}/{name}.png", IMAGE) == f"{name}/{name}.png"


def test_a_file_that_is_not_here_is_looked_for_where_the_command_said(here: Path) -> None:
    (here / "given" / "only.png").write_text("open")
    (here / "given" / "out.png").symlink_to(here / "private" / "x.png")
    folders = [here / "nowhere", here / "given"]
    assert check_named_by_config("image", "only.png", IMAGE, folders) == str(here / "given" / "only.png")
    assert check_named_by_config("image", "./only.png", IMAGE, folders) == str(here / "given" / "only.png")
    assert check_named_by_config("image", "x.png", IMAGE, folders) == "x.png", "the one here comes first"
    assert check_named_by_config("image", "none.png", IMAGE, folders) == "none.png"
    with pytest.raises(ConfigError, match="a link leads out of the folder"):
        check_named_by_config("image", "out.png", IMAGE, folders)


@pytest.mark.parametrize(
    "path", ["pkg://__main__/x", "pkg://wavespeed_runner/a\0b", "pkg://sys/x", "pkg://wavespeed_runner/" + "a" * 5000]
)
def test_a_package_s_path_that_is_none_is_one_line(path: str) -> None:
    try:
        resolve_path(path)
    except ConfigError as error:
        assert str(error).isprintable() or "\0" in path


def test_a_home_folder_of_nobody_is_one_line() -> None:
    with pytest.raises(ConfigError, match=r"^~nobody\.of\.this\.name/x: there is no such home folder"):
        resolve_path("~nobody.of.this.name/x")


def test_bytes_are_read_as_they_are_on_every_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows opens files as text unless it is told otherwise."""
    (tmp_path / "x").write_bytes(b"a\r\n\x1ab")
    real, given = os.open, []
    monkeypatch.setattr(os, "O_BINARY", 0x8000_0000, raising=False)

    def record(path: Path, flags: int) -> int:
        given.append(flags)
        return real(path, flags & ~os.O_BINARY)  # type: ignore[attr-defined]

    monkeypatch.setattr(os, "open", record)
    assert read_file(tmp_path / "x", 10) == b"a\r\n\x1ab"
    assert len(given) == 1 and given[0] & 0x8000_0000


def test_the_head_of_a_file_is_all_that_is_read(here: Path, tmp_path: Path) -> None:
    file = tmp_path / "x"
    with file.open("wb") as stream:
        stream.write(b"one\ntwo\nend\nrest")
        stream.truncate(10**12)  # sparse
    assert read_head(file, b"\nend", 100) == b"one\ntwo"
    with pytest.raises(InputError, match="no 'other' in its first 100 bytes"):
        read_head(file, b"\nother", 100)
    file.write_bytes(b"short")
    assert read_head(file, b"\nend", 5) == b"short"
    with pytest.raises(InputError, match="not a regular file"):
        read_head(Path("pipe.txt"), b"\nend", 100)


def test_links_in_a_circle_are_one_line(here: Path) -> None:
    with pytest.raises(ConfigError, match=r"prompts\.path=loop\.txt: not a path"):
        check_named_by_config("prompts.path", "loop.txt", PROMPTS)
    with pytest.raises(OSError, match="symbolic links"):
        read_text(Path("loop.txt"))


PARTS = st.sampled_from(
    ["..", ".", "/", "//", "\\", "~", "~root", "private", "folder", "link", "x", "sub", "pkg:", "wavespeed_runner",
     "${image}", "\0", " ", "%2e%2e", "file:", "a" * 300, "é", "\u202e", "prompts", "demo", ".txt"]
)  # fmt: skip


@settings(max_examples=700, deadline=None)
@given(parts=st.lists(PARTS, min_size=1, max_size=7), slash=st.sampled_from(["/", "", "//"]))
def test_no_form_of_a_path_leads_to_a_private_file(home: Path, parts: list[str], slash: str) -> None:
    """Whatever passes the check is a file of the folder where the command runs, or of a package."""
    before = Path.cwd()
    os.chdir(home / "here")
    try:
        path = f"{slash.join(parts)}.txt"
        try:
            check_named_by_config("prompts.path", path, PROMPTS)
            text = read_text(resolve_path(path))
        except (ConfigError, OSError, ValueError):
            return
        assert SECRET not in text
        place = resolve_path(path).resolve()
        assert place.is_relative_to(home / "here") or path.startswith("pkg://")
    finally:
        os.chdir(before)


@pytest.mark.parametrize("name", ["pipe.txt", "device.txt", "sub", "/dev/zero", "/dev/stdin"])
def test_pipes_devices_and_folders_are_refused_at_once(here: Path, name: str) -> None:
    began = time.monotonic()
    for read in (lambda: read_file(Path(name), 10**9), lambda: check_regular(Path(name))):
        with pytest.raises(InputError, match=r"a folder, not a file|not a regular file"):
            read()
    assert time.monotonic() - began < 1


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    file = tmp_path / "large"
    with file.open("wb") as stream:
        stream.truncate(10**12)  # sparse
    with pytest.raises(InputError, match=r"1000000000000 bytes, and at most 100 are read"):
        read_file(file, 100)
    (tmp_path / "exact").write_bytes(b"x" * 100)
    assert read_file(tmp_path / "exact", 100) == b"x" * 100


def test_text_is_utf_8(tmp_path: Path) -> None:
    (tmp_path / "marked").write_bytes("\ufeffé".encode())
    (tmp_path / "other").write_bytes("é".encode("latin-1"))
    assert read_text(tmp_path / "marked") == "é"
    with pytest.raises(InputError, match="not UTF-8 text"):
        read_text(tmp_path / "other")


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="no /proc here")
@pytest.mark.parametrize(
    ("key", "more"),
    [
        ("adapters.path=l.safetensors", ["adapters=lora"]),
        ("adapters.path=l.safetensors", ["adapters=textual_inversion"]),
        ("model.repo=l.safetensors", []),
        ("model.repo=l.gguf", []),
        ("model.vae=l.safetensors", []),
    ],
)
def test_a_file_that_only_looks_regular_is_refused_by_its_key(
    key: str, more: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Links to `/proc/self/mem` can be opened, and every read or seek of them fails."""
    monkeypatch.chdir(tmp_path)
    Path(key.partition("=")[2]).symlink_to("/proc/self/mem")
    assert main(["model=flux", *more, key, "dry_run=true"]) == 2
    said = capsys.readouterr().err
    assert key in said and "cannot be read" in said and len(said.splitlines()) == 1


@pytest.mark.parametrize("name", ["store", "runs", "sweeps"])
def test_links_in_a_circle_below_outputs_are_refused_when_planned(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("outputs").mkdir()
    Path("outputs", name).symlink_to(name)
    assert main(["model=demo", "dry_run=true"]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: outputs=outputs: outputs/{name}: ") and "remove that link" in said
    assert main(["store", f"outputs/{name}"]) == 2
    assert "symbolic links" in capsys.readouterr().err

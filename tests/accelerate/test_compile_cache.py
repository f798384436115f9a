"""The compiler's cache: where it is, that a second process finds it, and that two may use it at once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.accelerate.compile_runs import make_options
from wavespeed_runner.accelerate import compile_cache, compile_mark
from wavespeed_runner.accelerate.compile_cache import find_folder, use_folder
from wavespeed_runner.errors import ConfigError, RunError
from wavespeed_runner.rules.compile_needs import has_compiler, has_headers

CHILD = """
import json, multiprocessing, sys
from dataclasses import asdict
from pathlib import Path
import torch, torch._inductor.compile_fx
from wavespeed_runner.accelerate.compilation import use_compiler
from wavespeed_runner.accelerate.compile_monitor import CompileMonitor
from wavespeed_runner.accelerate.compile_options import CompileOptions

class Block(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(8, 8)
    def forward(self, x):
        return torch.nn.functional.gelu(self.linear(x)).softmax(-1) + x

def compile_block(outputs, results):
    torch.manual_seed(0)
    block, options = Block(), CompileOptions(regional=True)
    x = torch.randn(4, 8)
    with torch.inference_mode():
        plain = block(x)
        block.forward = torch.compile(block.forward, fullgraph=True)
        monitor = CompileMonitor({"block": [block]})
        with use_compiler(options, outputs, "cpu"), monitor.watch() as events:
            result = block(x)
    results.put({**asdict(events), "difference": float((result - plain).abs().max())})

def run(outputs, count):
    # Forked before anything is compiled: each is a process of its own that need not import torch again.
    context = multiprocessing.get_context("fork")
    results = context.SimpleQueue()
    processes = [context.Process(target=compile_block, args=(outputs, results)) for _ in range(count)]
    for process in processes: process.start()
    for process in processes: process.join()
    assert all(process.exitcode == 0 for process in processes)
    built = {str(path): path.stat().st_mtime_ns for path in Path(outputs).rglob("*.so")}
    return {"events": [results.get() for _ in processes], "built": built}

print(json.dumps([run(sys.argv[1], 2), run(sys.argv[1], 1)]))
"""
QUICK = {"OMP_NUM_THREADS": "1", "TORCHINDUCTOR_VEC_ISA_OK": "1", "TORCHINDUCTOR_COMPILE_THREADS": "1"}
"""Without the programs by which torch finds out whether the compiler knows the processor's vectors, and without the
processes that compile kernels beside each other: there is one kernel."""


def compile_in_processes(outputs: Path) -> list[dict[str, Any]]:
    """Two processes at once, then a third: what each saw, and the libraries that were there afterwards."""
    environment = {**os.environ, **QUICK, "PYTHONPATH": os.pathsep.join(sys.path)}
    environment.pop("TORCHINDUCTOR_CACHE_DIR", None)
    command = [sys.executable, "-c", CHILD, str(outputs)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.slow
@pytest.mark.skipif(not (has_compiler() and has_headers()), reason="inductor needs a C++ compiler and Python's headers")
def test_a_second_process_finds_what_the_first_has_compiled(tmp_path: Path) -> None:
    """The first two at once, into the same empty folder."""
    first, second = compile_in_processes(tmp_path)
    assert len(first["events"]) == 2
    for events in first["events"]:
        assert events["graphs"] == 1 and events["difference"] < 1e-6
        assert events["cache_hits"] + events["cache_misses"] == 1
    assert [path.name for path in tmp_path.iterdir()] == [compile_cache.FOLDER]
    assert first["built"]
    (events,) = second["events"]
    assert (events["cache_hits"], events["cache_misses"], events["recompiles"]) == (1, 0, [])
    assert events["difference"] < 1e-6 and events["seconds"] > 0
    assert second["built"] == first["built"], "nothing was built again"


def test_the_folder_is_one_for_each_set_of_versions_and_each_processor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options, outputs = make_options(), str(tmp_path)
    folder = find_folder(options, outputs, "cpu")
    assert folder.parent == tmp_path / "compile_cache" and folder == find_folder(options, outputs, "cpu")
    elsewhere = find_folder(make_options(cache_dir=str(tmp_path / "mine")), outputs, "cpu")
    assert elsewhere.parent == tmp_path / "mine" and elsewhere.name != folder.name
    others = []
    for name, value in (
        ("read_versions", lambda: {"torch": "9.9", "python": "3.12"}),
        ("read_device_name", lambda device: "Another CPU"),
        ("_read_cpu_flags", lambda: "flags: avx512f"),
    ):
        with monkeypatch.context() as patched:
            patched.setattr(compile_cache, name, value)
            others.append(find_folder(options, outputs, "cpu"))
    assert len({folder, *others}) == 4


def test_a_folder_that_somebody_sent_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted under the name that another user has for it, at whatever place, or copied from this user's own."""
    outputs = tmp_path / "outputs"

    def find(user: str, place: Path = outputs) -> Path:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / user))
        return find_folder(make_options(), str(place), "cpu")

    planted, own = find("stranger"), find("me")
    assert own != planted and own.parent == planted.parent == outputs / compile_cache.FOLDER
    assert find("me") == own and find("me", tmp_path / "copy").name != own.name
    with use_folder(own):
        assert not Path(os.environ["TORCHINDUCTOR_CACHE_DIR"]).is_relative_to(planted)
    key = tmp_path / "me" / "wavespeed_runner" / compile_mark.NAME
    assert key.stat().st_mode & 0o777 == 0o600 and [file.name for file in key.parent.iterdir()] == [key.name]
    assert key.read_text() not in str(own)


@pytest.mark.parametrize("place", ["relative", ""])
def test_the_secret_is_never_read_from_where_the_command_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", place)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert compile_mark.find_user_cache() == tmp_path / "home" / ".cache" / "wavespeed_runner"
    monkeypatch.setenv("HOME", "relative")
    with pytest.raises(OSError, match="no home folder"):
        compile_mark.find_user_cache()


@pytest.mark.parametrize("damaged", [True, False])
def test_without_a_secret_nothing_below_outputs_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, damaged: bool
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    if damaged:
        (tmp_path / "home" / "wavespeed_runner").mkdir(parents=True)
        (tmp_path / "home" / "wavespeed_runner" / compile_mark.NAME).write_text("")
    else:
        (tmp_path / "home").write_text("a file, where no folder can be made")
    compile_cache._make_temporary.cache_clear()
    folder = find_folder(make_options(), str(tmp_path), "cpu")
    assert folder == find_folder(make_options(), str(tmp_path), "cpu")
    assert not folder.is_relative_to(tmp_path) and folder.parent.stat().st_mode & 0o777 == 0o700
    (said,) = [record.getMessage() for record in caplog.records]
    assert said.startswith("compile.cache_dir: no kernels are kept from run to run")
    compile_cache._make_temporary.cache_clear()


def test_the_variables_are_set_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "/before")
    monkeypatch.delenv("TRITON_CACHE_DIR", raising=False)
    with pytest.raises(ValueError, match="x"), use_folder(tmp_path / "a"):
        assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == str(tmp_path / "a" / "inductor")
        assert os.environ["TRITON_CACHE_DIR"] == str(tmp_path / "a" / "triton")
        raise ValueError("x")
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == "/before" and "TRITON_CACHE_DIR" not in os.environ


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "/before")
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(RunError, match=r"compile\.cache_dir: .*file.* cannot be written to"),
        use_folder(tmp_path / "file"),
    ):
        pass
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == "/before"
    with pytest.raises(ConfigError, match=r"compile\.cache_dir=: a folder is needed"):
        make_options(cache_dir=" ")

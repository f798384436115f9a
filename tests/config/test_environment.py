"""What is said of machine and versions, and what of it a stored result depends on."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from wavespeed_runner import __version__
from wavespeed_runner.config import environment
from wavespeed_runner.config.environment import (
    collect_key_parts,
    count_threads,
    describe_environment,
    digest_code,
    read_device_name,
    resolve_device,
)

CACHED = (environment.read_versions, digest_code, environment.has_cuda, environment.digest_plugins, read_device_name)


@pytest.fixture(autouse=True)
def asked_anew() -> Iterator[None]:
    """Answers are kept for the life of a process."""
    yield
    for function in CACHED:
        function.cache_clear()


@pytest.fixture
def copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the package's code, which `environment` takes for the package."""
    package = tmp_path / "wavespeed_runner"
    shutil.copytree(
        Path(environment.__file__).parents[1], package, ignore=shutil.ignore_patterns("demo*", "__pycache__")
    )
    monkeypatch.setattr(environment, "__file__", str(package / "config" / "environment.py"))
    return package


def digest() -> str:
    return digest_code.__wrapped__()


def test_neither_torch_nor_diffusers_is_imported() -> None:
    code = (
        "import sys\nfrom wavespeed_runner.config.environment import describe_environment, collect_key_parts\n"
        "collect_key_parts('cpu'), describe_environment('cpu')\n"
        "print(sorted({'torch', 'diffusers', 'numpy'} & set(sys.modules)))\n"
    )
    repo = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=repo, capture_output=True, text=True, timeout=60)
    assert done.stdout == "[]\n", done.stderr


def append_a_comment(package: Path) -> None:
    with open(package / "models" / "families" / "flux.py", "a") as file:
        file.write("# a comment\n")


CHANGES: dict[str, Callable[[Path], Any]] = {
    "a changed byte": append_a_comment,
    "a new file": lambda package: (package / "caching" / "new.py").write_text(""),
    "a removed file": lambda package: (package / "stages" / "decode.py").unlink(),
    "a renamed file": lambda package: (package / "caching" / "window.py").rename(package / "caching" / "windows.py"),
    "a changed module": lambda package: (package / "samplers" / "table.py").write_text("x = 1\n"),
    "a renamed folder": lambda package: (package / "caching").rename(package / "reuse"),
    "another published table": lambda package: (package / "caching" / "calibration" / "new.yaml").write_text("a: 1\n"),
    "a data file of another kind": lambda package: (package / "models" / "sizes.json").write_text("{}"),
    "a module in the root": lambda package: (package / "attention.py").write_text("x = 1\n"),
    "how stages are timed, which they store": lambda package: (package / "metrics" / "timing.py").write_text("x = 1\n"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_the_code_digest_changes_with_the_code_that_computes(copied: Path, change: str) -> None:
    before = digest()
    CHANGES[change](copied)
    assert digest() != before


@pytest.mark.parametrize("folder", ["attention", "quantization/kernels"])
def test_code_in_a_new_folder_counts_without_being_listed(copied: Path, folder: str) -> None:
    (copied / folder).mkdir(parents=True)
    (copied / folder / "code.py").write_text("x = 1\n")
    before = digest()
    (copied / folder / "code.py").write_text("x = 2\n")
    assert digest() != before


@pytest.mark.parametrize(
    "name",
    [
        "records/record.py",
        "report/console.py",
        "report/new.py",
        "conf/config.yaml",
        "models/__pycache__/flux.pyc",
        "models/.flux.py.swp",
    ],
)
def test_what_is_harmless_is_not_in_the_code_digest(copied: Path, name: str) -> None:
    """`conf/` lies in the package only where it was installed: its values stand in the keys themselves."""
    before = digest()
    (copied / name).parent.mkdir(exist_ok=True)
    (copied / name).write_text("# another\n")
    assert digest() == before


@pytest.mark.parametrize("name", environment.HARMLESS)
def test_a_harmless_name_that_is_not_there_is_an_error(copied: Path, name: str) -> None:
    """Else a renamed folder would be hashed under its new name, and nobody would know that it need not be."""
    (copied / name).rename(copied / "renamed")
    with pytest.raises(RuntimeError, match=f"environment.HARMLESS: the package has no {re.escape(name)}"):
        digest()


def test_the_code_digest_does_not_depend_on_where_the_package_lies(copied: Path) -> None:
    there = digest()
    moved = copied.with_name("moved")
    copied.rename(moved)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(environment, "__file__", str(moved / "config" / "environment.py"))
        assert digest() == there


def test_threads_are_those_that_openmp_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert count_threads() == 3 == describe_environment("cpu")["threads"]
    read_device_name.cache_clear()
    assert read_device_name("cpu").endswith(" x3"), "they decide the last bits of a sum"


@pytest.mark.parametrize("value", [None, "", "many"])
def test_without_a_number_threads_are_at_least_one(monkeypatch: pytest.MonkeyPatch, value: str | None) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if value is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", value)
    assert count_threads() >= 1


def test_versions_are_the_installed_ones_and_absent_is_said() -> None:
    found = environment.read_versions()
    assert found["wavespeed_runner"] == __version__ and found["diffusers"] == version("diffusers")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(environment, "PACKAGES", ("no-such-package",))
        assert environment.read_versions.__wrapped__()["no-such-package"] == "absent"


def test_everything_that_matters_is_text_and_the_device_is_part_of_it() -> None:
    matters = collect_key_parts("cpu")
    assert all(isinstance(value, str) and value for value in matters.values())
    assert matters["device"] == read_device_name("cpu") and matters["code"] == digest_code()
    assert collect_key_parts("cuda:7")["device"] != matters["device"]


def test_a_given_device_is_taken_as_it_is_and_auto_is_one_that_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    assert resolve_device("cuda:1") == "cuda:1"
    monkeypatch.setattr(environment, "has_cuda", lambda: True)
    assert resolve_device("auto") == "cuda"
    monkeypatch.setattr(environment, "has_cuda", lambda: False)
    assert resolve_device("auto") in ("cpu", "mps")


def test_a_plugins_code_matters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its criterion or its family decides results as ours do, in whichever of its files it stands."""
    package = tmp_path / "plugin_whose_code_matters"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "rule.py").write_text("reuse = False\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(sys.modules, "plugin_whose_code_matters", __import__("plugin_whose_code_matters"))
    monkeypatch.setattr(environment.registry, "load_all", lambda: ("plugin_whose_code_matters",))
    before = collect_key_parts("cpu")
    (package / "rule.py").write_text("reuse = True\n")
    environment.digest_plugins.cache_clear()
    assert collect_key_parts("cpu") != before


@pytest.mark.parametrize("name", environment.VARIABLES)
def test_a_variable_that_chooses_other_kernels_matters(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    before = collect_key_parts("cpu")
    monkeypatch.setenv(name, "_native_math")
    assert collect_key_parts("cpu") != before
    assert describe_environment("cpu")["variables"] == {name: "_native_math"}


@pytest.mark.parametrize("hidden", ["", "-1"])
def test_a_hidden_gpu_is_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, hidden: str) -> None:
    monkeypatch.setattr(environment, "DRIVER_SIGNS", (str(tmp_path),))
    monkeypatch.setattr(environment, "read_versions", lambda: {"torch": "2.13.0+cu130"})
    assert environment.has_cuda()
    environment.has_cuda.cache_clear()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
    assert not environment.has_cuda()


@pytest.mark.parametrize(
    ("visible", "device", "name"),
    [
        (None, "cuda", "A"),
        (None, "cuda:1", "B"),
        ("1,0", "cuda", "B"),
        ("1", "cuda:0", "B"),
        ("GPU-7", "cuda", "cuda GPU-7"),
    ],
)
def test_the_gpu_is_the_one_that_is_visible(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, visible: str | None, device: str, name: str
) -> None:
    for bus, model in (("0000:01:00.0", "A"), ("0000:02:00.0", "B")):
        (tmp_path / bus).mkdir()
        (tmp_path / bus / "information").write_text(f"Model: \t {model}\nIRQ: 1\n")
    monkeypatch.setattr(environment, "CARDS", str(tmp_path))
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert read_device_name(device) == name

"""Every place where the package opens a file, parses one, or has a library load one is known, with its reason."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from wavespeed_runner.config.paths import PACKAGE

OPENERS = {
    "open", "fdopen", "read_text", "read_bytes", "load", "loads", "safe_load", "load_all", "full_load", "unsafe_load",
    "decode_file", "parse", "safe_open", "load_file", "from_pretrained", "from_single_file", "load_lora_weights",
    "load_textual_inversion", "load_config", "download", "hf_hub_download", "snapshot_download", "from_file", "fromfile",
    "genfromtxt", "loadtxt", "memmap", "reader", "DictReader", "imread", "copyfile", "copytree", "exec", "eval",
    "compile", "run_path", "import_module", "find_spec", "__import__", "Unpickler", "from_config",
}  # fmt: skip
"""Names of functions that open, parse or load; also where they are called as a method."""

ROOM = "inputs"
"""The one room that may."""

ALLOWED = {
    # Our own files and the machine's.
    ("config/environment.py", "read_bytes"): "our own source, hashed",
    ("config/environment.py", "read_text"): "/proc",
    ("metrics/timing.py", "read_text"): "/proc",
    ("report/page/__init__.py", "read_text"): "parts of the page, in the package",
    ("cli/usage.py", "read_text"): "conf/config.yaml of the package",
    ("cli/support_table.py", "read_text"): "conf/cache of the package",
    ("sharing/to_experiment.py", "read_text"): "conf/ of the package",
    ("caching/criteria/published.py", "safe_load"): "tables of the package",
    ("caching/criteria/published.py", "read_text"): "tables of the package",
    ("planning/store_keys.py", "read_bytes"): "a stage's source, hashed",
    ("process/folder_lock.py", "open"): "locks of ours",
    ("process/pipes.py", "open"): "/dev/null",
    ("sweeps/folder.py", "open"): "a lock of ours",
    ("sweeps/progress.py", "open"): "/dev/null",
    ("sweeps/launchers/subprocess.py", "open"): "the log of a job's process, written",
    ("sweeps/launchers/subprocess.py", "read_text"): "the log of a job's process",
    ("storage/atomic.py", "open"): "written; and locked, not read",
    ("storage/store.py", "open"): "entries, whose checksum is compared",
    ("storage/store.py", "loads"): "an entry's header, of limited length",
    ("artifacts.py", "loads"): "the header of a store entry, after its checksum",
    ("models/weights/identity.py", "open"): "weights, hashed",
    ("models/weights/identity.py", "read_text"): "the hub cache's note of a commit",
    ("media/videos.py", "open"): "an MP4, after check_regular: its tags alone",
    # Weights, after folder_gate and find_damage.
    ("models/weights/pretrained.py", "download"): "diffusers' own, which refuses code of the repository",
    ("models/weights/pretrained.py", "from_pretrained"): "after check_folder, with trust_remote_code=False",
    ("models/weights/external_components.py", "from_pretrained"): "after refuse_code, with trust_remote_code=False",
    ("models/weights/single_file.py", "from_pretrained"): "one module of diffusers, from a checked file",
    ("models/weights/single_file.py", "from_single_file"): "after find_damage",
    ("models/weights/single_file.py", "load_config"): "JSON of a checked folder",
    ("models/weights/single_file.py", "safe_open"): "after find_damage",
    ("accelerate/lora.py", "load_lora_weights"): "after find_damage, safetensors alone",
    ("accelerate/textual_inversion.py", "load_file"): "after find_damage",
    ("accelerate/textual_inversion.py", "load_textual_inversion"): "tensors that are loaded already",
    ("accelerate/adapter_options.py", "hf_hub_download"): "a .safetensors file, then find_damage",
    # Python modules: ours and the installed plugins'.
    ("registry.py", "import_module"): "our own rooms",
    ("registry.py", "load"): "an installed plugin's entry point",
}
"""(file, function) -> why it needs no other gate."""


def calls(file: Path) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            module = getattr(getattr(node.func, "value", None), "id", "")
            ours = (module, name) in {("re", "compile"), ("ast", "parse")} or (name == "parse" and module != "yaml")
            if name in OPENERS and not ours and not (name == "compile" and module != ""):
                yield name, node


def found() -> dict[tuple[str, str], list[ast.Call]]:
    places: dict[tuple[str, str], list[ast.Call]] = {}
    for file in sorted(PACKAGE.rglob("*.py")):
        name = file.relative_to(PACKAGE).as_posix()
        if not name.startswith(f"{ROOM}/"):
            for function, call in calls(file):
                places.setdefault((name, function), []).append(call)
    return places


OWN = {("models/weights/pretrained.py", "load"), ("caching/calibration/file.py", "load")}
"""Functions of ours that are called `load`."""


def is_ours(place: tuple[str, str], call: ast.Call) -> bool:
    """A plain call of `load` or `read_text` is one of ours, imported from a room."""
    return isinstance(call.func, ast.Name) and place[1] in ("load", "read_text")


def test_every_place_that_opens_a_file_is_known() -> None:
    places = {place for place, of in found().items() if not all(is_ours(place, call) for call in of)}
    unknown = sorted(places - ALLOWED.keys())
    assert not unknown, "read it through wavespeed_runner.inputs, or say here why it needs no gate"
    assert not sorted(ALLOWED.keys() - places), "no longer there"


@pytest.mark.parametrize("function", ["from_pretrained"])
def test_libraries_never_run_code_of_a_folder(function: str) -> None:
    for place, of in found().items():
        if place[1] == function and place[0] != "models/weights/single_file.py":
            text = (PACKAGE / place[0]).read_text(encoding="utf-8")
            assert '"trust_remote_code": False' in text or "trust_remote_code=False" in text, place
            assert of


def test_nothing_unpickles() -> None:
    for file in PACKAGE.rglob("*.py"):
        imported = {
            name.name.partition(".")[0]
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
            if isinstance(node, ast.Import | ast.ImportFrom)
            for name in (node.names if isinstance(node, ast.Import) else [ast.alias(node.module or "")])
        }
        assert not imported & {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}, file

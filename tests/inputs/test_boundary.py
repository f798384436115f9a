"""Every place where the package opens a file, parses one, or has a library load one is known, with its reason."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from wavespeed_runner.config.paths import PACKAGE

OPENERS = {
    "open", "fdopen", "read_text", "read_bytes", "load", "loads", "safe_load", "full_load", "unsafe_load",
    "decode_file", "parse", "safe_open", "load_file", "from_pretrained", "from_single_file", "load_lora_weights",
    "load_textual_inversion", "load_config", "download", "hf_hub_download", "snapshot_download", "from_file",
    "fromfile", "genfromtxt", "loadtxt", "memmap", "reader", "DictReader", "imread", "copyfile", "copytree", "exec",
    "eval",     "compile", "run_path", "import_module", "find_spec", "__import__", "Unpickler",
}  # fmt: skip
"""Names of functions that open, parse or load; also where they are called as a method."""

ROOM = "inputs"
"""The one room that may."""

ALLOWED = {
    # Our own files and the machine's.
    ("config/environment.py", "read_bytes"): "our own source, hashed",
    ("config/environment.py", "read_text"): "/proc",
    ("config/capability.py", "read_text"): "/proc",
    ("metrics/timing.py", "read_text"): "/proc",
    ("report/page/static.py", "read_text"): "the same, of the pages of the other rooms too",
    ("cli/usage.py", "read_text"): "conf/config.yaml of the package",
    ("config/familiar_models.py", "read_text"): "options of the package",
    ("config/own_models.py", "read_text"): "options of the package",
    ("config/unknown_keys.py", "read_text"): "options of the package",
    ("cli/strategy_ranges.py", "read_text"): "conf/cache of the package",
    ("config/shadowed.py", "load_config"): "options that Hydra has read, by its own sources",
    ("config/chosen.py", "load_config"): "the same",
    ("cli/support_table.py", "read_text"): "conf/cache of the package",
    ("rules/cache_window.py", "read_text"): "conf/cache of the package",
    ("sharing/to_experiment.py", "read_text"): "conf/ of the package",
    ("sharing/find_graph.py", "read_text"): "conf/graph of the package",
    ("report/published.py", "safe_load"): "a table of the package",
    ("report/published.py", "read_text"): "a table of the package",
    ("caching/criteria/published.py", "safe_load"): "tables of the package",
    ("caching/criteria/published.py", "read_text"): "tables of the package",
    ("planning/store_keys.py", "read_bytes"): "a stage's source, hashed",
    ("process/folder_lock.py", "open"): "locks of ours",
    ("process/bounded_call.py", "loads"): "the result of a call in a child of ours",
    ("process/bounded_call.py", "open"): "/dev/null and /proc",
    ("process/bounded_call.py", "fdopen"): "/dev/null",
    ("process/pipes.py", "open"): "/dev/null",
    ("sweeps/folder.py", "open"): "a lock of ours",
    ("sweeps/progress.py", "open"): "/dev/null",
    ("sweeps/launchers/subprocess.py", "open"): "the log of a job's process, written",
    ("sweeps/launchers/subprocess.py", "read_text"): "the log of a job's process",
    ("storage/atomic.py", "open"): "written",
    ("storage/entry.py", "loads"): "an entry's header, of limited length",
    ("models/weights/kept_module.py", "loads"): "what a store entry is, after its checksum",
    ("artifacts.py", "loads"): "the header of a store entry, after its checksum",
    ("models/weights/identity.py", "open"): "weights, hashed",
    ("models/weights/identity.py", "read_text"): "the hub cache's note of a commit",
    ("media/videos.py", "open"): "an MP4, after check_regular: its tags alone",
    # Weights, after folder_gate and find_damage.
    ("models/weights/pretrained.py", "download"): "diffusers' own, which refuses code of the repository",
    ("models/weights/pretrained.py", "from_pretrained"): "after check_folder, with trust_remote_code=False",
    ("models/weights/folder_models.py", "from_pretrained"): "the same",
    ("models/weights/external_components.py", "from_pretrained"): "after refuse_code, with trust_remote_code=False",
    ("models/weights/trial_builds.py", "from_pretrained"): "after check_component, in a child with bounds",
    ("models/weights/trial_builds.py", "load_config"): "the same",
    ("models/weights/hub.py", "snapshot_download"): "configurations, no weights, to be checked",
    ("models/weights/single_file.py", "from_single_file"): "tensors of a GGUF file, after check_gguf_header",
    ("models/weights/tensors.py", "safe_open"): "after find_damage",
    ("accelerate/lora.py", "load_lora_weights"): "tensors that are loaded already",
    ("accelerate/adapter_flaws.py", "load_file"): "after find_damage and find_hostile",
    ("judges/weight_file.py", "load_file"): "after check_weights, which calls find_damage",
    ("judges/text_image.py", "from_pretrained"): "after check_component and a trial, with trust_remote_code=False",
    ("judges/chosen.py", "read_bytes"): "a judge's source, hashed",
    ("accelerate/textual_inversion.py", "load_file"): "after find_damage",
    ("accelerate/textual_inversion.py", "load_textual_inversion"): "tensors that are loaded already",
    ("accelerate/adapter_options.py", "hf_hub_download"): "a .safetensors file, then find_damage",
    # Python modules: ours and the installed plugins'.
    ("__init__.py", "import_module"): "our own functions",
    ("artifacts.py", "load"): "tensors of a store entry, after its checksum",
    ("cli/main.py", "import_module"): "our own commands",
    ("sweeps/sweep.py", "import_module"): "our own launchers",
    ("sweeps/launchers/slurm/launcher.py", "find_spec"): "whether submitit is installed",
    ("sweeps/launchers/slurm/preview.py", "find_spec"): "the same",
    ("config/file_source.py", "load_config"): "Hydra's own, after check_yaml; in packages, within these",
    ("models/weights/quantized.py", "find_spec"): "whether a package is installed",
    ("rules/quant_device.py", "find_spec"): "whether a package is installed",
    ("config/fast/shipped.py", "load_config"): "the same, for shipped files",
    ("config/fast/compose.py", "load_config"): "hands over the one that the file above wraps",
    ("accelerate/compile_cache.py", "read_text"): "/proc/cpuinfo",
    ("accelerate/compile_mark.py", "open"): "the same, written",
    ("accelerate/compile_mark.py", "fdopen"): "the same, written",
    ("accelerate/compile_mark.py", "read_text"): "the user's secret, in the user's home",
    ("accelerate/kernels.py", "open"): "/dev/null",
    ("accelerate/tiny_vae.py", "from_pretrained"): "after inspect_tiny_vae; one module of diffusers, safetensors alone",
    ("cli/support_attention.py", "read_text"): "our own conf/",
    ("execution/estimate.py", "loads"): "a list of nodes",
    ("execution/ranks/adopted.py", "loads"): "from a rank of the same launcher: plain data",
    ("execution/ranks/failures.py", "read_text"): "the log of a rank's process",
    ("execution/ranks/local.py", "open"): "the log of a rank's process, written; an empty file of ours",
    ("execution/ranks/messages.py", "import_module"): "of a message of our own processes: classes of data alone",
    ("execution/ranks/messages.py", "loads"): "a message of our own processes",
    ("execution/ranks/worker.py", "import_module"): "a file of ours, which stands above it",
    ("execution/ranks/worker.py", "open"): "the log of a rank's process, written",
    ("models/weights/fake_pipeline.py", "from_pretrained"): "after check_folder, with trust_remote_code=False",
    ("models/weights/fake_pipeline.py", "load_config"): "JSON of a checked folder",
    ("process/torchao_import.py", "import_module"): "modules of diffusers and transformers, by name",
    ("rules/attention_needs.py", "find_spec"): "whether a package is installed",
    ("rules/basics.py", "find_spec"): "whether a package is installed",
    ("rules/compile_needs.py", "find_spec"): "whether a compiler's package is installed",
    ("registry.py", "import_module"): "our own rooms",
    ("cli/support_coming_from.py", "read_text"): "a table of the package",
    ("cli/support_coming_from.py", "load"): "the same",
    ("registry.py", "load"): "an installed plugin's entry point",
}
"""(file, function) -> why it needs no other gate."""


BUILT_IN = {"open", "exec", "eval", "compile", "__import__"}
"""These count as a plain name only, besides `open`: `model.eval()` and `re.compile` are others."""
OURS = {"load", "read_text"}
"""As a plain name these are functions of ours, imported from a room."""


def uses(file: Path) -> Iterator[str]:
    """The names of all openers that a file uses, called at once or kept for later."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute) and node.attr in OPENERS - BUILT_IN:
            if not (node.attr == "parse" and getattr(node.value, "id", "") != "yaml"):
                yield node.attr
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "open":
            yield "open"
        elif isinstance(node, ast.Name) and node.id in OPENERS - OURS and isinstance(node.ctx, ast.Load):
            yield node.id


def find_uses() -> set[tuple[str, str]]:
    files = {file.relative_to(PACKAGE).as_posix(): file for file in PACKAGE.rglob("*.py")}
    return {(name, use) for name, file in files.items() if not name.startswith(f"{ROOM}/") for use in uses(file)}


def test_every_place_that_opens_a_file_is_known() -> None:
    unknown = sorted(find_uses() - ALLOWED.keys())
    assert not unknown, "read it through wavespeed_runner.inputs, or say here why it needs no gate"
    assert not sorted(ALLOWED.keys() - find_uses()), "no longer there"


@pytest.mark.parametrize("name", ["pretrained", "folder_models", "external_components"])
def test_libraries_never_run_code_of_a_folder(name: str) -> None:
    """Each call that loads from a folder says so; the value cannot come from a config."""
    text = (PACKAGE / "models" / "weights" / f"{name}.py").read_text(encoding="utf-8")
    assert '"trust_remote_code": False' in text
    assert "trust_remote_code=True" not in text and '"trust_remote_code": True' not in text


def test_a_single_file_is_completed_from_a_checked_folder_alone() -> None:
    """diffusers imports what the index names; so a folder is given to it, after check_folder, and no hub id."""
    text = (PACKAGE / "models" / "weights" / "single_file.py").read_text(encoding="utf-8")
    assert "config=str(configs)" in text and "local_files_only=True" in text and text.count(" config=") == 1
    assert "from_pretrained" not in text
    caller = (PACKAGE / "models" / "weights" / "pretrained.py").read_text(encoding="utf-8")
    body = caller[caller.index("def _complete_single_file") :]
    assert body.index("check_folder(") < body.index("load_single_file(")


def test_nothing_unpickles() -> None:
    for file in PACKAGE.rglob("*.py"):
        imported = {
            name.name.partition(".")[0]
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
            if isinstance(node, ast.Import | ast.ImportFrom)
            for name in (node.names if isinstance(node, ast.Import) else [ast.alias(node.module or "")])
        }
        assert not imported & {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}, file


def test_one_function_finds_the_place_behind_links() -> None:
    """Links in a circle raise a RuntimeError in `Path.resolve`, or nothing, as the version of Python has it."""
    found = {
        f"{file.relative_to(PACKAGE).as_posix()}:{node.lineno}"
        for file in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if _finds_place(node)
    }
    assert {place.partition(":")[0] for place in found} == {"inputs/files.py"}, found


def _finds_place(node: ast.AST) -> bool:
    """Whether it is `path.resolve()`, `Path.resolve`, `os.path.realpath` or `samefile`."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        return node.func.attr == "resolve" and not node.args
    of_class = isinstance(node, ast.Attribute) and getattr(node.value, "id", "") == "Path" and node.attr == "resolve"
    return of_class or getattr(node, "attr", getattr(node, "id", "")) in ("realpath", "samefile")

"""No kernels are downloaded for a model, and no key of its configuration chooses code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.models.test_folder_gate import make_folder
from wavespeed_runner.errors import ConfigError
from wavespeed_runner.models.weights.code_gate import COMPILE_KEYS, IMPLEMENTATIONS, explain_code
from wavespeed_runner.models.weights.folder_gate import check_folder

REPO = Path(__file__).resolve().parents[2]
STUB = """
called = []
class _Any:
    def __init__(self, *args, **kwargs): pass
    def __getattr__(self, name): return _Any()
    def __call__(self, decorated=None, *args, **kwargs): return decorated
def get_kernel(*args, **kwargs):
    called.append(args)
    raise FileNotFoundError("reached")
def __getattr__(name):
    return type(name, (_Any,), {})
"""
TRY = """
import sys
import kernels
from transformers.utils import import_utils
from wavespeed_runner.models.weights.trial import Candidate, find_class
from pathlib import Path
found = find_class(Candidate(name="text_encoder", library="transformers", class_name="CLIPTextModel", folder=Path(".")))
from transformers.integrations import hub_kernels
from transformers.modeling_flash_attention_utils import lazy_import_flash_attention
from transformers.models.mra import modeling_mra
for act in (lambda: hub_kernels.lazy_load_kernel(next(iter(hub_kernels._HUB_KERNEL_MAPPING), "")),
            lambda: lazy_import_flash_attention("kernels-community/flash-attn2"),
            modeling_mra.load_cuda_kernels):
    try:
        act()
    except Exception as error:
        print(type(error).__name__, error, file=sys.stderr)
print(len(kernels.called))
"""


@pytest.mark.parametrize("typed", [{}, {"USE_HUB_KERNELS": "YES"}])
def test_transformers_downloads_no_kernels(tmp_path: Path, typed: dict[str, str]) -> None:
    """With a stand-in for the package `kernels`, which notes what is asked of it."""
    from transformers.utils.import_utils import KERNELS_MIN_VERSION

    (tmp_path / "kernels.py").write_text(STUB)
    about = tmp_path / f"kernels-{KERNELS_MIN_VERSION}.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: kernels\nVersion: {KERNELS_MIN_VERSION}\n")
    (about / "top_level.txt").write_text("kernels\n")
    paths = os.pathsep.join([str(REPO), str(tmp_path)])
    environment = {key: value for key, value in os.environ.items() if key != "USE_HUB_KERNELS"}
    done = subprocess.run(
        [sys.executable, "-c", TRY], env={**environment, **typed, "PYTHONPATH": paths, "HF_HUB_OFFLINE": "1"},
        capture_output=True, text=True, timeout=300, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    count = int(done.stdout.split()[-1])
    assert count >= 2 if typed else count == 0, done.stderr


def test_every_implementation_of_the_installed_library_is_known() -> None:
    """Those that are allowed exist, and need no other package; whatever else there is, is refused."""
    from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    there = {"eager", *ALL_ATTENTION_FUNCTIONS.valid_keys(), *ALL_EXPERTS_FUNCTIONS.keys()}
    assert set(IMPLEMENTATIONS) <= there
    for name in there - set(IMPLEMENTATIONS):
        assert explain_code("_attn_implementation", name) and explain_code("experts_implementation", name), name


def test_another_name_for_a_key_is_refused(tmp_path: Path) -> None:
    """`attribute_map` of a file stands in for the class's own: what looks harmless would choose the attention."""
    from transformers import CLIPTextConfig

    changes: dict[str, Any] = {"attribute_map": {"harmless": "_attn_implementation"}, "harmless": "flex_attention"}
    folder = make_folder(tmp_path, changes)
    assert CLIPTextConfig.from_pretrained(str(folder / "text_encoder"))._attn_implementation == "flex_attention"
    with pytest.raises(ConfigError, match="attribute_map gives keys another meaning"):
        check_folder("model.repo=x", folder)


def test_a_generation_has_no_compiler(tmp_path: Path) -> None:
    folder = make_folder(tmp_path)
    file = folder / "text_encoder" / "generation_config.json"
    file.write_text(json.dumps({"cache_implementation": "hybrid", "max_length": 20}))
    check_folder("model.repo=x", folder)
    file.write_text(json.dumps({"compile_config": {"backend": "evil"}}))
    with pytest.raises(ConfigError, match=r"generation_config\.json: compile_config = .* asks for a compiler"):
        check_folder("model.repo=x", folder)
    assert COMPILE_KEYS.fullmatch("torch_compile") and not COMPILE_KEYS.fullmatch("disable_compile")

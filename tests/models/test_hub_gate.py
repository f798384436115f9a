"""What a hub repository asks for is checked before anything of it is loaded, whichever key names it."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import transformers
from diffusers import DiffusionPipeline, StableDiffusionPipeline
from safetensors.torch import save_file

from tests.models.test_every_model import config_of
from tests.models.test_single_file import Tuned, has_same_weights
from wavespeed_runner.config.schema import Init
from wavespeed_runner.errors import ConfigError
from wavespeed_runner.models.weights import hub
from wavespeed_runner.models.weights.external_components import load_external_components
from wavespeed_runner.models.weights.pretrained import load
from wavespeed_runner.registry import find_implementation


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder to which any hub repository is "downloaded"; beside it a module that must not be imported."""
    folder = tmp_path / "repository"
    folder.mkdir()
    (tmp_path / "evil_module.py").write_text("raise SystemExit('this code was run')\n")
    monkeypatch.syspath_prepend(tmp_path)

    def download(repo: str, *, revision: Any, allow_patterns: list[str], local_files_only: bool) -> str:
        assert not any("safetensors" in pattern or pattern.endswith((".py", "*")) for pattern in allow_patterns)
        return str(folder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    return folder


@pytest.mark.parametrize(
    ("index", "words"),
    [
        ({"unet": ["evil_module", "UNet2DConditionModel"]}, "asks for code from 'evil_module'"),
        ({"text_encoder": ["transformers", "AutoModel"]}, r"asks for transformers\.AutoModel"),
        ({"_class_name": ["evil_module", "Pipeline"]}, "asks for a pipeline of its own"),
    ],
)
def test_a_repository_that_completes_a_single_file_runs_no_code(
    repository: Path, tmp_path: Path, index: dict[str, Any], words: str
) -> None:
    file = tmp_path / "x.safetensors"
    save_file({"model.diffusion_model.x": torch.zeros(1), "cond_stage_model.transformer.x": torch.zeros(1)}, file)
    (repository / "model_index.json").write_text(json.dumps({"_class_name": "StableDiffusionPipeline", **index}))
    model = replace(config_of("sd15"), init=Init.pretrained, repo=str(file), components="evil/repo")
    with pytest.raises(ConfigError, match=rf"^model\.components=evil/repo: .*{words}"):
        load(find_implementation("model", model), model, "cpu")
    assert "evil_module" not in sys.modules


def test_a_repository_completes_a_single_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tuned = Tuned("sd15", tmp_path)
    monkeypatch.setattr(hub, "must_use_cache", lambda *_: False)
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: str(tmp_path))
    monkeypatch.setattr(StableDiffusionPipeline, "download", lambda *_, **__: str(tmp_path))
    file = tmp_path / "tuned.safetensors"
    save_file(tuned.state(), file)
    model = replace(tuned.config, init=Init.pretrained, repo=str(file), components="some/repo")
    read: Any = load(tuned.family, model, "cpu")
    assert isinstance(read, DiffusionPipeline)
    for part in tuned.parts:
        assert has_same_weights(getattr(read, part), getattr(tuned.pipe, part)), part


@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json"])
def test_a_text_encoder_of_a_repository_of_its_own_runs_no_code(
    repository: Path, monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    (repository / "config.json").write_text('{"model_type": "llama"}')
    (repository / file).write_text('{"auto_map": {"AutoModel": "evil_module.Evil"}}')
    model = replace(config_of("hidream"), init=Init.pretrained)
    family = find_implementation("model", model)
    ((key, classes),) = family.external_components.items()
    for name in classes.values():
        monkeypatch.setattr(getattr(transformers, name), "from_pretrained", lambda *_, **__: pytest.fail("loaded"))
    with pytest.raises(ConfigError, match=rf"^model\.{key}=evil/repo: .*{file} asks for code \(auto_map\)"):
        load_external_components(family, replace(model, **{key: "evil/repo"}), torch.float32)


def test_a_text_encoder_of_a_repository_of_its_own_is_built_on_trial(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against the sizes that the hub tells: its weights are not here yet."""
    sizes = {"model-00001-of-00002.safetensors": 7000, "model-00002-of-00002.safetensors": 77, "other/a.safetensors": 9}
    files = [SimpleNamespace(rfilename=name, size=size) for name, size in {**sizes, "a.bin": 5}.items()]
    monkeypatch.setattr("huggingface_hub.model_info", lambda *_, **__: SimpleNamespace(siblings=files))
    (repository / "config.json").write_text('{"model_type": "llama"}')  # the defaults are a model of 7 billion weights
    model = replace(config_of("hidream"), init=Init.pretrained)
    family = find_implementation("model", model)
    ((key, classes),) = family.external_components.items()
    tokenizers = [name for name in classes if name.startswith("tokenizer")]
    with pytest.raises(ConfigError, match=rf"^model\.{key}=evil/repo: .*weights, and 7077 bytes of files cannot hold"):
        load_external_components(family, replace(model, **{key: "evil/repo"}), torch.float32, without=tokenizers)

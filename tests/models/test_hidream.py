"""HiDream-I1: image sizes, and Llama from a repository of its own."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.models.staged import denoise_latents, run_stages
from tests.models.tiny_families import SAMPLE, SIZE, composed, config_of, tiny
from wavespeed_runner.accelerate.switches import SwitchSettings
from wavespeed_runner.config.schema import Init
from wavespeed_runner.errors import ConfigError, RunError
from wavespeed_runner.models.families.hidream import HIDREAM
from wavespeed_runner.models.family import CallInputs
from wavespeed_runner.models.weights.pretrained import load
from wavespeed_runner.planning.plan import build_plan
from wavespeed_runner.rules.check import apply_rules
from wavespeed_runner.stages.apply import LoadOptions
from wavespeed_runner.stages.load import _identify_weights

SIZES = [(1024, 1024), (768, 1360), (1360, 768), (880, 1168), (1248, 832), (512, 512), (64, 48), (16, 16), (336, 1008)]


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_hidream_keeps_the_size(width: int, height: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pipeline scales every size to one area, unless this is set as the area."""
    family, config, pipe = tiny("hidream_fast")
    sizes: list[tuple[int, int]] = []

    def stop(batch: int, channels: int, tall: int, wide: int, *_: Any) -> Any:
        sizes.append((wide, tall))
        raise KeyboardInterrupt

    monkeypatch.setattr(pipe, "prepare_latents", stop)
    embeddings = family.encode(pipe, config, SAMPLE, None)
    with pytest.raises(KeyboardInterrupt):
        denoise_latents(family, pipe, config, embeddings, steps=2, width=width, height=height)
    assert sizes == [(width, height)]


def test_hidream_makes_oblong_images() -> None:
    family, config, pipe = tiny("hidream_fast")
    image = run_stages(family, pipe, config, SAMPLE, steps=1, width=64, height=32)
    assert image.shape == (1, 32, 64, 3) and image.std() > 1


def test_hidream_refuses_what_its_transformer_cannot_hold() -> None:
    def refused(*size: str) -> bool:
        return "size-limit" in {spoken.rule for spoken in apply_rules(config_of("model=hidream", *size))}

    assert refused("width=1040", "height=1024") and not refused("width=768", "height=1360")
    assert refused("width=2048", "height=1024", "model.init=tiny")
    assert HIDREAM.max_pixels == tiny("hidream_fast")[2].transformer.max_seq * 16 * 16


def test_hidream_adds_noise_of_the_samples_own_generator() -> None:
    """The scheduler of the distilled variants draws noise in each step, and the pipeline passes it no generator."""
    family, config, pipe = tiny("hidream_dev")
    images = []
    for state in (1, 2):
        torch.manual_seed(state)
        images.append(run_stages(family, pipe, config, SAMPLE, steps=2, **SIZE))
    assert np.array_equal(*images)


def test_hidream_puts_images_before_layers() -> None:
    family, config, pipe = tiny("hidream")
    embeddings = family.encode(pipe, config, SAMPLE, 2.0)
    assert {len(tensor) for tensor in embeddings.values()} == {1}
    inputs = CallInputs(steps=1, guidance_scale=2.0, generator=None, **SIZE)
    arguments = family.build_arguments(config, embeddings, inputs)
    assert arguments["prompt_embeds_llama3"].shape == (2, 1, 128, 32)


@pytest.fixture(scope="module")
def published_like(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(HiDream's folder, Llama's folder): two repositories, as on the hub."""
    folder = tmp_path_factory.mktemp("hidream")
    pipe = tiny("hidream")[2]
    pipe.save_pretrained(folder / "main")
    llama = folder / "llama"
    shutil.move(folder / "main" / "text_encoder_4", llama)
    for file in (folder / "main" / "tokenizer_4").iterdir():
        shutil.move(file, llama / file.name)
    (folder / "main" / "tokenizer_4").rmdir()
    index = folder / "main" / "model_index.json"
    parts = json.loads(index.read_text())
    index.write_text(json.dumps(parts | {"text_encoder_4": [None, None], "tokenizer_4": [None, None]}))
    return folder / "main", llama


def test_hidream_takes_llama_from_a_repository_of_its_own(published_like: tuple[Path, Path]) -> None:
    main, llama = published_like
    family, config, pipe = tiny("hidream")
    read = replace(config, init=Init.pretrained, repo=str(main), text_encoder_4=str(llama))
    expected = run_stages(family, pipe, config, SAMPLE, steps=2, **SIZE)
    assert np.array_equal(run_stages(family, load(family, read, "cpu"), config, SAMPLE, steps=2, **SIZE), expected)
    file = main / "transformer" / "diffusion_pytorch_model.safetensors"
    single = replace(read, repo=str(file), components=str(main))
    assert np.array_equal(run_stages(family, load(family, single, "cpu"), config, SAMPLE, steps=2, **SIZE), expected)


def test_hidream_without_llama_says_where_it_is_named(published_like: tuple[Path, Path], tmp_path: Path) -> None:
    main, llama = published_like
    family, config, _ = tiny("hidream")
    read = replace(config, init=Init.pretrained, repo=str(main), text_encoder_4=None)
    with pytest.raises(RunError, match=r"has no text_encoder_4, tokenizer_4, .* leave model\.text_encoder_4"):
        load(family, read, "cpu")
    overrides = ["model=hidream", f"model.repo={main}", "dry_run=true", f"outputs={tmp_path}"]
    build_plan(composed(*overrides, f"model.text_encoder_4={llama}"))
    with pytest.raises(ConfigError, match=r"model\.text_encoder_4=.*: it has no config.json"):
        build_plan(composed(*overrides, f"model.text_encoder_4={tmp_path / 'nothing'}"))
    shutil.copytree(llama, tmp_path / "cut")
    (weights := tmp_path / "cut" / "model.safetensors").write_bytes((llama / "model.safetensors").read_bytes()[:-1])
    with pytest.raises(ConfigError, match=r"model\.text_encoder_4=.*model\.safetensors is damaged"):
        build_plan(composed(*overrides, f"model.text_encoder_4={tmp_path / 'cut'}"))
    weights.unlink()
    with pytest.raises(ConfigError, match=r"model\.text_encoder_4=.*it has no \.safetensors file"):
        build_plan(composed(*overrides, f"model.text_encoder_4={tmp_path / 'cut'}"))


def test_hidreams_llama_offline_is_named_by_its_key(
    published_like: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    family, config, _ = tiny("hidream")
    read = replace(config, init=Init.pretrained, repo=str(published_like[0]))
    with pytest.raises(RunError, match=r"model\.text_encoder_4=meta-llama/Llama-3\.1-8B-Instruct: .*model\.init=tiny"):
        load(family, read, "cpu")


def test_hidreams_llama_has_a_place_for_every_tensor(published_like: tuple[Path, Path], tmp_path: Path) -> None:
    main, llama = published_like
    shutil.copytree(llama, tmp_path / "llama")
    (file,) = (tmp_path / "llama").glob("*.safetensors")
    odd = {"model.layers.0.self_attn.q_proj.odd": torch.ones(())}
    save_file(load_file(file) | odd, file, metadata={"format": "pt"})
    config = replace(tiny("hidream")[1], init=Init.pretrained, repo=str(main), text_encoder_4=str(tmp_path / "llama"))
    with pytest.raises(RunError, match=r"^model\.text_encoder_4=\S+: 1 .* no place .*layers\.0\.\S+odd"):
        load(HIDREAM, config, "cpu")


def test_another_llama_is_another_model(published_like: tuple[Path, Path], tmp_path: Path) -> None:
    main, llama = published_like
    shutil.copytree(llama, tmp_path / "other")
    config = replace(tiny("hidream")[1], init=Init.pretrained, repo=str(main))

    def identity(folder: Path) -> Any:
        model = replace(config, text_encoder_4=str(folder))
        return _identify_weights(
            LoadOptions(model=model, device="cpu", adapters=config_of().adapters, accelerate=SwitchSettings())
        )

    assert identity(llama) == identity(tmp_path / "other")
    shutil.copytree(tmp_path / "other", tmp_path / "changed")
    settings = json.loads((tmp_path / "changed" / "config.json").read_text())
    (tmp_path / "changed" / "config.json").write_text(json.dumps(settings | {"rms_norm_eps": 0.1}))
    assert identity(llama) != identity(tmp_path / "changed")

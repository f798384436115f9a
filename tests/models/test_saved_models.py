"""Every family, saved and loaded again: from a diffusers folder, and its denoiser from a single file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.models.staged import run_stages
from tests.models.test_every_model import MODELS, SAMPLE, config_of, start_of
from wavespeed_runner.config.schema import Init
from wavespeed_runner.errors import RunError
from wavespeed_runner.models.families.hunyuan_video15_architectures import TINY_TEMPLATE, TINY_TOKENS
from wavespeed_runner.models.text.vision import build_processor, build_tokenizer
from wavespeed_runner.models.weights.pretrained import load
from wavespeed_runner.registry import find_implementation

FAMILIES = sorted({config_of(name).name: name for name in reversed(MODELS)}.values())
"""One model of each family."""
OTHER_ARCHITECTURES = ("ltx23",)
"""Models whose architecture is not that of the first one of their family."""
NO_SINGLE_FILE = ("cogvideox", "cogvideox_i2v", "pixart_sigma")
"""Families whose denoiser diffusers 0.42 reads only from folders."""


@pytest.fixture(scope="module", params=[*FAMILIES, *OTHER_ARCHITECTURES])
def saved(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any, Path, Any]:
    """(family, config, folder, the image generated before saving)."""
    config = config_of(request.param)
    if config.name == "ltx2":
        config = replace(config, stg_blocks=[1])  # that of the published model is not in a tiny one
    family = find_implementation("model", config)
    pipe = load(family, config, "cpu")
    folder = tmp_path_factory.mktemp(request.param)
    expected = generate(family, pipe, config)
    if hasattr(pipe, "processor"):  # to save one, and to load it, takes torchvision
        pipe.register_modules(processor=None)
    pipe.save_pretrained(folder)
    assert expected.std() > 1
    return family, config, folder, expected


def generate(family: Any, pipe: Any, config: Any) -> Any:
    size: dict[str, Any] = {"width": family.tiny_size, "height": family.tiny_size}
    if family.kind == "video":
        size["num_frames"] = family.tiny_frames
    size |= start_of(next(iter(family.tasks)), family.tiny_size)
    if config.name.startswith("hunyuan_video15"):  # numbers of the pipeline that no file keeps
        vars(pipe).update(TINY_TOKENS | TINY_TEMPLATE)
    return run_stages(family, pipe, config, SAMPLE, steps=2, **size)


def ready_for(family: Any) -> dict[str, Any]:
    """What is not read from the folder; see `saved`."""
    return {"processor": build_processor(build_tokenizer(4096))} if family.packages else {}


def assert_same(actual: Any, expected: Any) -> None:
    """To one level of 255: weights of a file begin elsewhere in memory, and products of matrices round by that."""
    assert np.abs(actual.astype(int) - expected.astype(int)).max() <= 1


def test_a_saved_folder(saved: tuple[Any, Any, Path, Any]) -> None:
    family, config, folder, expected = saved
    read = replace(config, init=Init.pretrained, repo=str(folder), **dict.fromkeys(family.external_components))
    assert_same(generate(family, load(family, read, "cpu", ready_for(family)), config), expected)


def test_a_single_file_completed_from_a_folder(saved: tuple[Any, Any, Path, Any]) -> None:
    family, config, folder, expected = saved
    file = folder / family.denoiser / "diffusion_pytorch_model.safetensors"
    read = replace(config, init=Init.pretrained, repo=str(file), components=str(folder))
    read = replace(read, **dict.fromkeys(family.external_components))
    if config.name in NO_SINGLE_FILE:
        with pytest.raises(RunError, match="diffusers reads no single file of a"):
            load(family, read, "cpu", ready_for(family))
        return
    assert_same(generate(family, load(family, read, "cpu", ready_for(family)), config), expected)

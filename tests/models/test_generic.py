"""`model=generic`, with pipelines of known families and of an unknown one, against their own calls."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.models.shipped import config_of
from tests.models.staged import run_stages
from tests.models.test_every_model import tiny
from wavespeed_runner.artifacts import Sample
from wavespeed_runner.config.compose import compose_job, composer
from wavespeed_runner.config.resolve import resolve_config
from wavespeed_runner.config.schema import Dtype, Guidance
from wavespeed_runner.errors import ConfigError, RunError
from wavespeed_runner.models.families.generic import GenericConfig
from wavespeed_runner.models.weights.pretrained import load
from wavespeed_runner.planning.plan import build_plan
from wavespeed_runner.registry import find_implementation

SAMPLE = Sample(prompt="ein roter Kreis über einem Quadrat", negative_prompt="dark", seed=3)


def generic(folder: Path, *overrides: str) -> Any:
    given = [f"model.repo={folder}", "steps=2", *overrides]
    model = "generic_video" if any("num_frames" in override for override in overrides) else "generic"
    with composer(None):
        return resolve_config(compose_job([f"model={model}", *given], [f"model={model}", *given])).model


@pytest.mark.parametrize(
    ("name", "guidance", "argument"),
    [
        ("sd15", Guidance.true_cfg, "guidance_scale"),
        ("qwen_image", Guidance.true_cfg, "true_cfg_scale"),
        ("flux", Guidance.embedded, "guidance_scale"),
        ("wan21", Guidance.true_cfg, "guidance_scale"),
    ],
)
def test_the_result_is_the_pipelines_own(name: str, guidance: Guidance, argument: str, tmp_path: Path) -> None:
    model = replace(config_of(name), dtype=Dtype.float32)
    family = find_implementation("model", model)
    pipe = load(family, model, "cpu")
    pipe.save_pretrained(tmp_path)
    size: dict[str, Any] = {"width": family.tiny_size, "height": family.tiny_size}
    if family.kind == "video":
        size["num_frames"] = family.tiny_frames
    config = replace(generic(tmp_path, *(f"{key}={value}" for key, value in size.items())), guidance=guidance)
    own = find_implementation("model", config)
    loaded = load(own, config, "cpu")
    for part, module in pipe.components.items():
        if isinstance(module, torch.nn.Module):
            same = module.state_dict(), getattr(loaded, part).state_dict()
            assert same[0].keys() == same[1].keys() and all(torch.equal(same[0][key], same[1][key]) for key in same[0])
    ours = run_stages(own, loaded, config, SAMPLE, steps=2, guidance_scale=3.0, **size)
    call = {argument: 3.0, "num_inference_steps": 2, "generator": torch.Generator().manual_seed(SAMPLE.seed), **size}
    call["negative_prompt"] = SAMPLE.negative_prompt
    # Not `pipe`: its weights lie elsewhere in memory, and products of matrices round by where these begin.
    output = loaded(prompt=SAMPLE.prompt, output_type="np", **call)
    expected = np.asarray(output.images if hasattr(output, "images") else output.frames)
    assert np.array_equal(ours, (expected * 255).round().astype("uint8")) and ours.std() > 1


def test_the_plan_says_what_is_not_split(tmp_path: Path) -> None:
    tiny("sd15")[2].save_pretrained(tmp_path / "sd")
    overrides = ["model=generic", f"model.repo={tmp_path / 'sd'}", f"outputs={tmp_path}"]
    with composer(None):
        plan = build_plan(compose_job(overrides, overrides))
    (word,) = [word for word in plan.verdicts if word.rule == "whole"]
    assert "denoising times include both" in word.message


def test_a_pipeline_of_another_kind_is_refused_by_name() -> None:
    class Pipe:
        scheduler = None

        def __call__(self, image: Any, num_inference_steps: int) -> None: ...

    config = GenericConfig(repo="a/b", steps=1, width=64, height=64, guidance_scale=5.0)
    check = find_implementation("model", config).check
    with pytest.raises(RunError, match=r"model\.repo=a/b: Pipe takes no prompt, generator, output_type, guidance"):
        check(config, Pipe())


def test_tiny_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"model\.init=tiny: model=generic learns its components only"):
        generic(Path("a/b"), "model.init=tiny")

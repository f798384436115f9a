"""Weights in repositories and files: what is looked for, and what completes a single file."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from wavespeed_runner.config.schema import Init
from wavespeed_runner.errors import ConfigError, RunError
from wavespeed_runner.models.weights.checkpoint import inspect_checkpoint
from wavespeed_runner.models.weights.pretrained import find_component_source, load
from wavespeed_runner.planning.plan import Plan
from wavespeed_runner.registry import find_implementation

Planned = Callable[..., Plan]


def test_weights_that_are_only_there_in_half_precision(tmp_path: Path, planned: Planned) -> None:
    """`model.fp16.safetensors` alone, as many fine-tunes come."""
    model = planned().config.model
    family = find_implementation("model", model)
    pipe = load(family, model, "cpu")
    pipe.save_pretrained(tmp_path, variant="fp16")
    with pytest.raises(ConfigError, match=r"holds only .*fp16\.safetensors; use model\.weights=fp16"):
        inspect_checkpoint(str(tmp_path))
    pretrained = replace(model, init=Init.pretrained, repo=str(tmp_path), weights="fp16")
    again = load(family, pretrained, "cpu")
    for name in ("transformer", "text_encoder", "text_encoder_2", "vae"):
        ours, theirs = getattr(again, name).state_dict(), getattr(pipe, name).state_dict()
        assert all(torch.equal(ours[key], theirs[key]) for key in theirs), name


@pytest.mark.parametrize("name", ["vae", "scheduler"])
def test_a_part_that_no_pipeline_does_without_is_missed_by_the_plan(
    tmp_path: Path, planned: Planned, name: str
) -> None:
    model = planned().config.model
    load(find_implementation("model", model), model, "cpu").save_pretrained(tmp_path)
    index = json.loads((tmp_path / "model_index.json").read_text())
    (tmp_path / "model_index.json").write_text(json.dumps({**index, name: [None, None]}))
    with pytest.raises(ConfigError, match=rf"'{name}' in model_index\.json is \[null, null\], and the pipeline cannot"):
        planned("model.init=pretrained", f"model.repo={tmp_path}")


def test_parts_that_nobody_loads_are_not_looked_for(tmp_path: Path) -> None:
    (tmp_path / "model_index.json").write_text(
        '{"safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"]}'
    )
    with pytest.raises(ConfigError, match="'safety_checker' is named"):
        inspect_checkpoint(str(tmp_path))
    inspect_checkpoint(str(tmp_path), without=["safety_checker"])


def test_what_completes_a_single_file_is_part_of_what_it_is(planned: Planned, tmp_path: Path) -> None:
    model = replace(planned().config.model, init=Init.pretrained, repo=str(tmp_path / "x.safetensors"))
    family = find_implementation("model", model)
    assert find_component_source(family, model) == "black-forest-labs/FLUX.1-dev"
    assert find_component_source(family, replace(model, components="a/b")) == "a/b"
    assert find_component_source(family, replace(model, repo="a/b")) is None


def test_a_class_that_the_installed_diffusers_lacks_is_one_line() -> None:
    from wavespeed_runner.models.weights.hub import get_diffusers_class

    with pytest.raises(RunError, match=r"diffusers [\d.]+ has no NoSuchPipeline; a newer one is needed"):
        get_diffusers_class("NoSuchPipeline")

"""Checkpoints of several components in one file, in the layout in which Stable Diffusion and its fine-tunes come."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from tests.models import original_layout
from tests.models.staged import staged
from tests.models.test_every_model import SAMPLE, config_of
from wavespeed_runner.config.schema import Dtype, Init
from wavespeed_runner.errors import RunError
from wavespeed_runner.models.weights.pretrained import load
from wavespeed_runner.registry import find_implementation

State = dict[str, torch.Tensor]
CLIP = "cond_stage_model.transformer.text_model."


class Tuned:
    """A tiny model, the same fine-tuned, and the folder of the first, from which files of the second are completed."""

    def __init__(self, name: str, folder: Path) -> None:
        self.config = replace(config_of(name), dtype=Dtype.float32)
        self.family = find_implementation("model", self.config)
        self.pipe, self.folder = load(self.family, self.config, "cpu"), folder
        self.pipe.save_pretrained(folder)
        self.parts = list(self.family.single_file_prefixes)
        generator = torch.Generator().manual_seed(1)
        for part in self.parts:
            for weight in getattr(self.pipe, part).parameters():
                weight.add_(0.1 * torch.randn(weight.shape, generator=generator))

    def state(self) -> State:
        return original_layout.whole(self.pipe)

    def load(self, state: State) -> Any:
        file = self.folder / "tuned.safetensors"
        save_file(state, file)
        return load(self.family, replace(self.config, **self.given(file)), "cpu")

    def given(self, file: Path) -> dict[str, Any]:
        return {"init": Init.pretrained, "repo": str(file), "components": str(self.folder)}

    def image(self, pipe: Any) -> Any:
        return staged(self.family, pipe, self.config, SAMPLE, width=64, height=64, steps=1)


@pytest.fixture(scope="module", params=["sd15", "sd21", "sdxl"])
def tuned(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Tuned:
    return Tuned(request.param, tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="module")
def sd15(tmp_path_factory: pytest.TempPathFactory) -> Tuned:
    return Tuned("sd15", tmp_path_factory.mktemp("alone"))


def same(one: Any, other: Any) -> bool:
    """Whether two modules have the same weights, bit for bit."""
    first, second = one.state_dict(), other.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_all_parts_come_from_the_file(tuned: Tuned) -> None:
    read = tuned.load(tuned.state())
    for part in tuned.parts:
        assert same(getattr(read, part), getattr(tuned.pipe, part)), part
    assert type(read.scheduler) is type(tuned.pipe.scheduler)
    assert np.array_equal(tuned.image(read), tuned.image(tuned.pipe))


def test_what_the_file_lacks_comes_from_the_folder(tuned: Tuned) -> None:
    state = {name: weight for name, weight in tuned.state().items() if not name.startswith("first_stage_model.")}
    read, untuned = tuned.load(state), load(tuned.family, tuned.config, "cpu")
    assert same(read.vae, untuned.vae) and not same(read.vae, tuned.pipe.vae)
    assert same(read.text_encoder, tuned.pipe.text_encoder) and same(read.unet, tuned.pipe.unet)


def test_a_denoiser_alone_in_the_original_layout(tuned: Tuned) -> None:
    state = {name: weight for name, weight in tuned.state().items() if name.startswith("model.diffusion_model.")}
    read, untuned = tuned.load(state), load(tuned.family, tuned.config, "cpu")
    assert same(read.unet, tuned.pipe.unet) and same(read.text_encoder, untuned.text_encoder)


def without_last_mlp(state: State) -> State:
    gone = f"{CLIP}encoder.layers.1.mlp.fc2.bias"
    assert gone in state
    return {name: weight for name, weight in state.items() if name != gone}


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        (without_last_mlp, r"'text_encoder' is incomplete, 1 of its weights are missing.*fc2\.bias"),
        (
            lambda state: {name: weight for name, weight in state.items() if "diffusion_model" not in name},
            "it holds text_encoder, vae and no unet",
        ),
        # Names of 2022, which diffusers does not read: the folder's text encoder must not be taken in its place.
        (
            lambda state: {name.replace(CLIP, "cond_stage_model.transformer."): value for name, value in state.items()},
            r"cannot be loaded.*CLIPTextModel",
        ),
        (lambda state: state | {"v_pred": torch.zeros(0)}, "predicts velocity, .* expects epsilon; give a diffusers"),
    ],
)
def test_files_that_do_not_fit_are_refused(sd15: Tuned, changed: Any, says: str) -> None:
    with pytest.raises(RunError, match=rf"model\.repo=.*tuned\.safetensors: .*{says}") as caught:
        sd15.load(changed(sd15.state()))
    assert "\n" not in str(caught.value)

"""Single-file checkpoints of several components, in the original layout of Stable Diffusion and its fine-tunes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from tests.models import original_layout
from tests.models.staged import run_stages
from tests.models.test_every_model import SAMPLE, config_of
from wavespeed_runner.config.schema import Dtype, Init
from wavespeed_runner.errors import RunError
from wavespeed_runner.models.weights.pretrained import load
from wavespeed_runner.registry import find_implementation

State = dict[str, torch.Tensor]
CLIP = "cond_stage_model.transformer.text_model."


class Tuned:
    """A tiny model saved to a folder, and a fine-tune of it whose single files the folder completes."""

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
        return original_layout.build_state_dict(self.pipe)

    def load(self, state: State) -> Any:
        file = self.folder / "tuned.safetensors"
        save_file(state, file)
        return load(self.family, replace(self.config, **self.given(file)), "cpu")

    def given(self, file: Path) -> dict[str, Any]:
        return {"init": Init.pretrained, "repo": str(file), "components": str(self.folder)}

    def image(self, pipe: Any) -> Any:
        return run_stages(self.family, pipe, self.config, SAMPLE, width=64, height=64, steps=1)


@pytest.fixture(scope="module", params=["sd15", "sd21", "sdxl"])
def tuned(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Tuned:
    return Tuned(request.param, tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="module")
def sd15(tmp_path_factory: pytest.TempPathFactory) -> Tuned:
    return Tuned("sd15", tmp_path_factory.mktemp("alone"))


def has_same_weights(first: Any, second: Any) -> bool:
    """True if two modules have the same weights, bit for bit."""
    ours, theirs = first.state_dict(), second.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_all_parts_come_from_the_file(tuned: Tuned) -> None:
    read = tuned.load(tuned.state())
    for part in tuned.parts:
        assert has_same_weights(getattr(read, part), getattr(tuned.pipe, part)), part
    assert type(read.scheduler) is type(tuned.pipe.scheduler)
    assert np.array_equal(tuned.image(read), tuned.image(tuned.pipe))


def test_what_the_file_lacks_comes_from_the_folder(tuned: Tuned) -> None:
    state = {name: weight for name, weight in tuned.state().items() if not name.startswith("first_stage_model.")}
    read, untuned = tuned.load(state), load(tuned.family, tuned.config, "cpu")
    assert has_same_weights(read.vae, untuned.vae) and not has_same_weights(read.vae, tuned.pipe.vae)
    assert has_same_weights(read.text_encoder, tuned.pipe.text_encoder) and has_same_weights(read.unet, tuned.pipe.unet)


def test_a_denoiser_alone_in_the_original_layout(tuned: Tuned) -> None:
    state = {name: weight for name, weight in tuned.state().items() if name.startswith("model.diffusion_model.")}
    read, untuned = tuned.load(state), load(tuned.family, tuned.config, "cpu")
    assert has_same_weights(read.unet, tuned.pipe.unet) and has_same_weights(read.text_encoder, untuned.text_encoder)


def test_names_of_2022(sd15: Tuned) -> None:
    """Without `text_model.`: the folder's text encoder must not be used instead."""
    state = {name.replace(CLIP, "cond_stage_model.transformer."): value for name, value in sd15.state().items()}
    assert has_same_weights(sd15.load(state).text_encoder, sd15.pipe.text_encoder)


def remove_last_mlp(state: State) -> State:
    removed = f"{CLIP}encoder.layers.1.mlp.fc2.bias"
    assert removed in state
    return {name: weight for name, weight in state.items() if name != removed}


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        (remove_last_mlp, r"'text_encoder' is incomplete, 1 of its weights are missing.*fc2\.bias"),
        (
            lambda state: {name: weight for name, weight in state.items() if "diffusion_model" not in name},
            "it holds text_encoder, vae and no unet",
        ),
        (
            lambda state: {
                name.removeprefix("model.diffusion_model."): weight
                for name, weight in state.items()
                if "diffusion_model" in name or name.endswith(("quant_conv.bias", "fc2.bias"))
            },
            r"it holds text_encoder, vae and no unet, whose tensors begin with model\.diffusion_model\. beside theirs: "
            r"\d+ do not, the first is \S+; give a file of a whole model, or of the unet alone",
        ),
    ],
)
def test_files_that_do_not_fit_are_refused(sd15: Tuned, changed: Any, says: str) -> None:
    with pytest.raises(RunError, match=rf"model\.repo=.*tuned\.safetensors: .*{says}") as caught:
        sd15.load(changed(sd15.state()))
    assert "\n" not in str(caught.value)

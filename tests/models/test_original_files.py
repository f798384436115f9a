"""Files in the layouts of models' authors, and whole models in one file: every component becomes what it was."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.models import original_layout, original_transformers
from tests.models.shared_files import State, assert_same, change_folder, load_file, original_flux, prefixed
from tests.models.tiny_families import tiny
from wavespeed_runner.config.schema import Init
from wavespeed_runner.models.weights.pretrained import load


def whole(name: str, encoders: dict[str, str]) -> State:
    """A whole model in one file, as ComfyUI writes it. encoders: component -> its name there."""
    pipe = tiny(name)[2]
    denoiser = original_flux() if name == "flux" else pipe.transformer.state_dict()
    state = prefixed(denoiser, "model.diffusion_model.") | prefixed(original_layout.vae(pipe.vae), "vae.")
    for part, title in encoders.items():
        inner = getattr(pipe, part).state_dict()
        if title == "clip_l" and "text_projection.weight" not in inner:  # files have the names of older releases
            inner = {f"text_model.{key.removeprefix('text_model.')}": tensor for key, tensor in inner.items()}
        state |= prefixed(inner, f"text_encoders.{title}.transformer.")
        state[f"text_encoders.{title}.logit_scale"] = torch.ones(())
    return {key: tensor.clone() for key, tensor in state.items()}


@pytest.mark.parametrize(
    ("name", "encoders"),
    [
        ("flux", {"text_encoder": "clip_l", "text_encoder_2": "t5xxl"}),
        ("sd35_medium", {"text_encoder": "clip_l", "text_encoder_2": "clip_g", "text_encoder_3": "t5xxl"}),
    ],
)
def test_a_whole_model_in_one_file(
    name: str,
    encoders: dict[str, str],
    folders: Callable[[str], Path],
    narrow_flux: None,
) -> None:
    pipe = tiny(name)[2]
    with torch.no_grad():  # the file's differ from those of the folder that completes it
        parts = {part: [weight + 1 for weight in getattr(pipe, part).parameters()] for part in ("vae", *encoders)}
        folder = folders(name)
        before = {part: [weight.clone() for weight in getattr(pipe, part).parameters()] for part in parts}
        try:
            for part, weights in parts.items():
                for weight, new in zip(getattr(pipe, part).parameters(), weights, strict=True):
                    weight.copy_(new)
            loaded = load_file(name, folder, whole(name, encoders))
            for part in ("transformer", *parts):
                ours, theirs = getattr(loaded, part).state_dict(), dict(getattr(pipe, part).state_dict())
                if part == "text_encoder" and "text_projection.weight" in theirs:
                    # As diffusers' `create_diffusers_clip_model_from_ldm`: not used in Stable Diffusion 3.
                    theirs["text_projection.weight"] = torch.eye(len(theirs["text_projection.weight"]))
                assert ours.keys() == theirs.keys(), part
                assert all(torch.equal(ours[key], theirs[key]) for key in theirs), part
        finally:
            for part, weights in before.items():
                for weight, old in zip(getattr(pipe, part).parameters(), weights, strict=True):
                    weight.copy_(old)


def test_sana_as_its_authors_save_it(folders: Callable[[str], Path]) -> None:
    """With a table of positions and a caption that no weight is made of, and that diffusers' converter takes out."""
    transformer = tiny("sana")[2].transformer
    assert_same(load_file("sana", folders("sana"), original_transformers.sana(transformer)).transformer, transformer)


def test_a_whole_ltx_video(folders: Callable[[str], Path], tmp_path: Path) -> None:
    pipe, folder = tiny("ltx_video")[2], folders("ltx_video")
    state = original_transformers.ltx_video(pipe.transformer, pipe.vae)
    other = change_folder(folder, tmp_path / "other", "vae", lambda vae: {key: 2 * part for key, part in vae.items()})
    loaded = load_file("ltx_video", other, state)
    assert_same(loaded.transformer, pipe.transformer)
    assert_same(loaded.vae, pipe.vae)
    family, config, _ = tiny("ltx_video")
    config = replace(config, init=Init.pretrained, repo=str(other), vae=str(other / "shared.safetensors"))
    assert_same(load(family, config, "cpu").vae, pipe.vae)


@pytest.mark.parametrize("name", ["z_image", "lumina2"])
def test_what_authors_files_have_and_their_code_does_not_use(name: str, folders: Callable[[str], Path]) -> None:
    state = dict(tiny(name)[2].transformer.state_dict()) | {"norm_final.weight": torch.ones(3)}
    assert_same(load_file(name, folders(name), state).transformer, tiny(name)[2].transformer)

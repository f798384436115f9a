"""Every tensor of a single file has a place in the model, or the file is refused by the tensor's name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.models import original_layout, original_transformers
from tests.models.shared_files import State, load_file
from tests.models.tiny_families import tiny
from wavespeed_runner.errors import RunError
from wavespeed_runner.models.weights.layouts import CLIP_L
from wavespeed_runner.models.weights.placement import place

FEW = torch.ones(3)


def flux() -> State:
    return dict(tiny("flux")[2].transformer.state_dict())


def original_flux() -> State:
    return original_transformers.flux(tiny("flux")[2].transformer)


def wan() -> State:
    return original_transformers.wan(tiny("wan21")[2].transformer)


def sdxl() -> State:
    return original_layout.build_state_dict(tiny("sdxl")[2])


def without(state: State, name: str) -> State:
    assert name in state
    return {key: tensor for key, tensor in state.items() if key != name}


def prefixed(state: State, prefix: str) -> State:
    return {f"{prefix}{name}": tensor for name, tensor in state.items()}


@pytest.mark.parametrize(
    ("name", "state", "says"),
    [
        (
            "flux",
            lambda: flux() | {"bogus.weight": FEW},
            r"1 of its tensors have no place .*, the first is bogus\.weight",
        ),
        (
            "flux",
            lambda: flux() | {"transformer_blocks.0.norm1.linear.scale_bias": FEW},
            r"no place in 'transformer' \(FluxTransformer2DModel\), the first is transformer_blocks\.0\.\S+scale_bias",
        ),
        (
            "flux",
            lambda: original_flux() | {"double_blocks.0.img_attn.proj.lora": FEW},
            r"the first is double_blocks\.0\.img_attn\.proj\.lora",
        ),
        (
            "flux",
            lambda: without(flux(), "proj_out.weight"),
            r"'transformer' is incomplete, 1 .* first is proj_out\.weight",
        ),
        (
            "flux",
            lambda: without(original_flux(), "single_blocks.0.linear1.bias"),
            r"'transformer' is incomplete, in the original layout .* it lacks single_blocks\.0\.linear1\.bias",
        ),
        (
            "flux",
            lambda: prefixed(without(flux(), "proj_out.weight"), "model.diffusion_model."),
            r"the first is proj_out\.weight; download it again",
        ),
        (
            "flux",
            lambda: flux() | {"proj_out.bias": FEW},
            r"'transformer': proj_out\.bias has the shape \[3\] and needs \[\d+\], as model\.components=\S+ says",
        ),
        (
            "flux",
            wan,
            r"such as \S+, are not those of a FluxTransformer2DModel, neither in diffusers' .*model=\.\.\.",
        ),
        (
            "wan21",
            lambda: wan() | {f"vace_blocks.{i}.before_proj.weight": FEW.clone() for i in range(2)},
            r"2 of its tensors have no place .* first is vace_blocks\.0\.before_proj\.weight",
        ),
        (
            "wan21",
            lambda: without(wan(), "blocks.1.ffn.2.bias"),
            r"1 of its weights .* first is blocks\.1\.ffn\.net\.2\.bias",
        ),
        (
            "wan21",
            lambda: wan() | {f"input_blocks.{i}": torch.zeros(0) for i in range(2000)},
            r"it holds \d+ for this component, and at most \d+ are read",
        ),
        ("wan21", flux, "are not those of a WanTransformer3DModel"),
        (
            "sdxl",
            lambda: sdxl() | {"conditioner.embedders.1.model.positional_embedding": torch.zeros(77, 40)},
            r"'text_encoder_2': \S+position_embedding\.weight has the shape \[77, 40\] and needs \[77, 48\]",
        ),
        (
            "sdxl",
            lambda: sdxl() | {"odd.weight": FEW},
            r"1 of its tensors belong to none of \w.*, the first is odd\.weight",
        ),
        (
            "sdxl",
            lambda: sdxl() | {"first_stage_model.decoder.odd": FEW},
            r"no place in 'vae' \(AutoencoderKL\), the first is first_stage_model\.decoder\.odd",
        ),
        (
            "sdxl",
            lambda: sdxl() | {"conditioner.embedders.0.transformer.text_model.encoder.layers.9.mlp.fc1.bias": FEW},
            r"no place in 'text_encoder' \(CLIPTextModel\), .*layers\.9\.mlp\.fc1\.bias",
        ),
        ("flux", lambda: flux() | {"v_pred": torch.zeros(0)}, r"no place in 'transformer' .*the first is v_pred;"),
        ("sdxl", lambda: sdxl() | {"edm_vpred.sigma_max": FEW}, r"the first is edm_vpred\.sigma_max"),
    ],
)
def test_files_that_do_not_fit_are_refused_by_a_name(
    name: str,
    state: Callable[[], State],
    says: str,
    folders: Callable[[str], Path],
    narrow_flux: None,
) -> None:
    with pytest.raises(RunError, match=rf"^model\.repo=\S+shared\.safetensors: .*{says}") as caught:
        load_file(name, folders(name), state())
    assert "\n" not in str(caught.value)


def assert_same(loaded: Any, expected: Any) -> None:
    ours, theirs = loaded.state_dict(), expected.state_dict()
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize("prefix", ["model.diffusion_model.", "diffusion_model.", "transformer.", "model."])
@pytest.mark.parametrize("state", [flux, original_flux])
def test_prefixes_that_programs_put_before_all_names(
    prefix: str,
    state: Callable[[], State],
    folders: Callable[[str], Path],
    narrow_flux: None,
) -> None:
    loaded = load_file("flux", folders("flux"), prefixed(state(), prefix))
    assert_same(loaded.transformer, tiny("flux")[2].transformer)


def test_what_a_file_has_beside_its_weights(folders: Callable[[str], Path]) -> None:
    """Tables that schedulers compute, a second copy, and parts of a text encoder that are not used."""
    beside = {
        "alphas_cumprod": torch.ones(1000),
        "betas": torch.ones(1000),
        "sqrt_one_minus_alphas_cumprod": torch.ones(1000),
        "model_ema.diffusion_modelout2bias": FEW,
        "denoiser.sigmas": torch.ones(1000),
        "conditioner.embedders.1.model.logit_scale": torch.ones(()),
        "conditioner.embedders.0.transformer.text_projection.weight": torch.ones(2, 2),
        "first_stage_model.loss.discriminator.main.0.bias": FEW.clone(),
    }
    loaded, pipe = load_file("sdxl", folders("sdxl"), sdxl() | beside), tiny("sdxl")[2]
    for part in ("unet", "vae", "text_encoder", "text_encoder_2"):
        assert_same(getattr(loaded, part), getattr(pipe, part))


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


def test_the_trial_takes_no_memory_whatever_a_header_says() -> None:
    """A projection is added to CLIP of Stable Diffusion 3, as wide as the file says: here of 400 TB."""
    prefix, width = f"{CLIP_L}transformer.", 10**7
    shapes = {f"{prefix}text_model.final_layer_norm.bias": [width]}
    placement = place(tiny("sd35_medium")[2].text_encoder, shapes, [CLIP_L])
    assert not placement.error
    assert any(f"[{width}, {width}]" in each for each in placement.misshapen)


def test_sana_as_its_authors_save_it(folders: Callable[[str], Path]) -> None:
    """With a table of positions and a caption that no weight is made of, and that diffusers' converter takes out."""
    transformer = tiny("sana")[2].transformer
    assert_same(load_file("sana", folders("sana"), original_transformers.sana(transformer)).transformer, transformer)


@pytest.mark.parametrize("name", ["z_image", "lumina2"])
def test_what_authors_files_have_and_their_code_does_not_use(name: str, folders: Callable[[str], Path]) -> None:
    state = dict(tiny(name)[2].transformer.state_dict()) | {"norm_final.weight": FEW}
    assert_same(load_file(name, folders(name), state).transformer, tiny(name)[2].transformer)

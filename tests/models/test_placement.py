"""Every tensor of a single file has a place in the model, or the file is refused by the tensor's name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.models import original_layout, original_transformers
from tests.models.shared_files import State, assert_same, load_file, original_flux, prefixed
from tests.models.tiny_families import tiny
from wavespeed_runner.errors import RunError
from wavespeed_runner.models.weights.layouts import CLIP_L
from wavespeed_runner.models.weights.placement import place

FEW = torch.ones(3)


def flux() -> State:
    return dict(tiny("flux")[2].transformer.state_dict())


def wan() -> State:
    return original_transformers.wan(tiny("wan21")[2].transformer)


def sdxl() -> State:
    return original_layout.build_state_dict(tiny("sdxl")[2])


def without(state: State, name: str) -> State:
    assert name in state
    return {key: tensor for key, tensor in state.items() if key != name}


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
            lambda: without(flux(), "proj_out.weight") | {"bogus.weight": FEW},
            r"1 of its weights .* first is proj_out\.weight, and 1 of its tensors have no place, the first is bogus",
        ),
        (
            "flux",
            lambda: without(original_flux(), "double_blocks.0.img_attn.proj.bias") | {"bogus.weight": FEW},
            r"it lacks double_blocks\.0\.img_attn\.proj\.bias, and 1 of its tensors have no place, the first is bogus",
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
        (
            "z_image",
            lambda: dict(tiny("z_image")[2].transformer.state_dict()) | {"vae.encoder.conv_in.bias": FEW},
            r"more than the transformer, such as vae\.encoder\.conv_in\.bias, .* alone; give such a file, or",
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


def test_a_flux_of_another_width_is_refused_by_a_tensor_and_its_shape(folders: Callable[[str], Path]) -> None:
    """diffusers' converter cuts `linear1` at the width of FLUX.1, 3072."""
    state = original_flux()
    shape = list(state["single_blocks.0.linear1.weight"].shape)
    with pytest.raises(RunError) as caught:
        load_file("flux", folders("flux"), state)
    said = str(caught.value)
    assert f"'transformer': single_blocks.0.linear1.weight of the shape {shape} cannot be converted" in said
    assert "shared.safetensors" in said and "give it as a diffusers folder (model.repo=FOLDER)" in said
    assert "init=tiny" not in said, "it has no weights of this file"


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


def test_the_trial_takes_no_memory_whatever_a_header_says() -> None:
    """A projection is added to CLIP of Stable Diffusion 3, as wide as the file says: here of 400 TB."""
    prefix, width = f"{CLIP_L}transformer.", 10**7
    shapes = {f"{prefix}text_model.final_layer_norm.bias": [width]}
    placement = place(tiny("sd35_medium")[2].text_encoder, shapes, [CLIP_L])
    assert not placement.error
    assert any(f"[{width}, {width}]" in each for each in placement.misshapen)

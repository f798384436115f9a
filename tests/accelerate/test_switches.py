"""Switches of `accelerate`: each takes effect, leaves evidence, and is undone where it is process-wide."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.accelerate.denoiser_calls import call_family, distance
from tests.accelerate.test_order import add_lora, build_model, run_model
from tests.accelerate.test_switches_of_families import save_tiny_vae
from tests.conftest import run_as_data
from wavespeed_runner.accelerate.shared_weights import copy_pipeline
from wavespeed_runner.accelerate.switches import (
    SwitchSettings,
    apply_switches,
    collect_evidence,
    identify_switches,
    use_switches,
)
from wavespeed_runner.accelerate.tiny_vae import inspect_tiny_vae
from wavespeed_runner.errors import ConfigError, RunError
from wavespeed_runner.planning.plan import Plan

Planned = Callable[..., Plan]
MATMUL = torch.backends.cuda.matmul


def read_flags() -> tuple[Any, ...]:
    """All that torch says about its matrix products."""
    precision = torch.get_float32_matmul_precision()
    return MATMUL.allow_tf32, MATMUL.fp32_precision, MATMUL.allow_fp16_accumulation, precision


@pytest.mark.parametrize("switch", ["tf32", "fp16_accumulation"])
def test_a_switch_of_torch_is_set_inside_and_undone_also_after_an_error(switch: str) -> None:
    before, switches = read_flags(), SwitchSettings(**{switch: True})
    with pytest.raises(KeyError), use_switches(switches, "cuda"):
        assert (MATMUL.allow_tf32, MATMUL.allow_fp16_accumulation) == (switch == "tf32", switch != "tf32")
        raise KeyError
    assert read_flags() == before
    assert collect_evidence(None, switches) == {switch: True}  # as torch reports it while it is set
    assert read_flags() == before


def test_what_was_on_before_stays_on() -> None:
    before = read_flags()
    torch.set_float32_matmul_precision("high")
    try:
        set_by_others = read_flags()
        with use_switches(SwitchSettings(tf32=True), "cuda"):
            pass
        assert read_flags() == set_by_others and MATMUL.allow_tf32
    finally:
        torch.set_float32_matmul_precision("highest")
        MATMUL.fp32_precision = before[1]
    assert read_flags() == before


def test_without_switches_nothing_happens() -> None:
    model = call_family("flux")
    assert apply_switches(model.pipe, model.family, SwitchSettings()) is model.pipe
    assert collect_evidence(model.pipe, SwitchSettings()) is None and identify_switches(SwitchSettings()) == []


def test_channels_last_changes_the_layout_of_kernels_and_not_the_result() -> None:
    model = call_family("sdxl")
    expected = model.repeat(model.pipe)
    pipe = copy_pipeline(model.pipe)
    for part in ("unet", "vae"):  # `copy_pipeline` shares tensors, and layouts belong to tensors
        setattr(pipe, part, type(getattr(pipe, part)).from_config(getattr(pipe, part).config))
        getattr(pipe, part).load_state_dict(getattr(model.pipe, part).state_dict())
    before = collect_evidence(pipe, SwitchSettings(channels_last=True))
    apply_switches(pipe, model.family, SwitchSettings(channels_last=True))
    after = collect_evidence(pipe, SwitchSettings(channels_last=True))
    assert before is not None and after is not None
    for part in ("unet", "vae"):
        layout = after["channels_last"][part]
        assert layout["channels_last"] == layout["kernels"] > before["channels_last"][part]["channels_last"]
    assert distance(model.repeat(pipe), expected) < 1e-4


def test_diffusers_loses_a_lora_that_is_not_in_the_weights_when_it_fuses_projections() -> None:
    """Why `fuse_qkv` needs `adapters.fuse=true`."""
    with torch.inference_mode():
        plain, adapted = run_model(build_model()), run_model(add_lora(build_model()))
        lost = add_lora(build_model())
        lost.fuse_qkv_projections()
        assert distance([run_model(lost)], [plain]) < 1e-5 < 1e-2 < distance([adapted], [plain])
        kept = add_lora(build_model())
        kept.fuse_lora()
        kept.unload_lora()
        kept.fuse_qkv_projections()
        assert distance([run_model(kept)], [adapted]) < 1e-5


def test_a_model_without_fused_layers_is_an_error() -> None:
    class Pipe:
        transformer = torch.nn.Linear(2, 2)

    with pytest.raises(RunError, match=r"accelerate\.fuse_qkv=true: diffusers fused no layer of Pipe"):
        apply_switches(Pipe(), call_family("flux").family, SwitchSettings(fuse_qkv=True))


def test_a_tiny_autoencoder_for_other_latents_is_an_error(tmp_path: Path) -> None:
    folder = save_tiny_vae(tmp_path / "tiny", call_family("sd").pipe.vae)
    pipe = copy_pipeline(call_family("flux").pipe)
    assert pipe.vae.config.latent_channels != call_family("sd").pipe.vae.config.latent_channels
    with pytest.raises(RunError, match=r"accelerate\.tiny_vae=.*latent channels, and this model's VAE has"):
        apply_switches(pipe, call_family("flux").family, SwitchSettings(tiny_vae=folder))


def test_a_tiny_autoencoder_has_a_place_for_every_tensor(tmp_path: Path) -> None:
    pipe = copy_pipeline(call_family("sd").pipe)
    folder = save_tiny_vae(tmp_path / "tiny", pipe.vae)
    file = Path(folder) / "diffusion_pytorch_model.safetensors"
    save_file(load_file(file) | {"decoder.odd": torch.ones(2)}, file, metadata={"format": "pt"})
    with pytest.raises(
        RunError, match=r"accelerate\.tiny_vae=\S+: 1 of the tensors .* no place .* first is decoder\.odd"
    ):
        apply_switches(pipe, call_family("sd").family, SwitchSettings(tiny_vae=folder))


def break_folder(folder: Path, how: str) -> str:
    """What the message about it says."""
    config = json.loads((folder / "config.json").read_text())
    weights = folder / "diffusion_pytorch_model.safetensors"
    if how == "class":
        config["_class_name"] = "AutoencoderKL"
    if how == "code":
        config["auto_map"] = {"AutoModel": "evil.Model"}
    (folder / "config.json").write_text(json.dumps(config))
    if how == "config":
        (folder / "config.json").unlink()
    if how == "cut":
        weights.write_bytes(weights.read_bytes()[:-100])
    if how == "pickle":
        weights.rename(folder / "diffusion_pytorch_model.bin")
    return {
        "class": "an AutoencoderTiny is needed",
        "code": "auto_map",
        "config": "no config.json",
        "cut": "damaged",
        "pickle": r"no \.safetensors",
    }[how]


@pytest.mark.parametrize("how", ["class", "code", "config", "cut", "pickle"])
def test_a_folder_that_may_not_be_loaded_is_refused_before_it_is(how: str, tmp_path: Path) -> None:
    folder = Path(save_tiny_vae(tmp_path / "tiny", call_family("flux").pipe.vae))
    assert inspect_tiny_vae(str(folder)) is not None
    with pytest.raises(ConfigError, match=rf"accelerate\.tiny_vae=.*{break_folder(folder, how)}"):
        inspect_tiny_vae(str(folder))


def test_missing_weights_are_an_error(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = Path(save_tiny_vae(tmp_path / "tiny", call_family("flux").pipe.vae))
    weights = folder / "diffusion_pytorch_model.safetensors"
    tensors = load_file(weights)
    tensors.pop(next(iter(tensors)))
    save_file(tensors, weights)
    with pytest.raises(RunError, match=r"accelerate\.tiny_vae=.*is incomplete, 1 of its weights"):
        pipe = copy_pipeline(call_family("flux").pipe)
        apply_switches(pipe, call_family("flux").family, SwitchSettings(tiny_vae=str(folder)))


def test_the_weights_of_a_tiny_autoencoder_decide_the_store_key(planned: Planned, tmp_path: Path) -> None:
    """Its content, not where it lies."""
    vae = call_family("flux").pipe.vae
    one, other = (save_tiny_vae(tmp_path / name, vae) for name in ("one", "other"))
    keys = [identify_switches(SwitchSettings(tiny_vae=folder)) for folder in (one, other)]
    assert keys[0] == keys[1]
    config = Path(other) / "config.json"
    config.write_text(config.read_text().replace('"scaling_factor": 1.0', '"scaling_factor": 1.5'))
    assert identify_switches(SwitchSettings(tiny_vae=other)) != keys[0]


@pytest.mark.parametrize("graph", ["text_to_image", "image_to_image"])
def test_a_run_decodes_with_it_and_is_compared_with_the_real_one(graph: str, planned: Planned, tmp_path: Path) -> None:
    folder = save_tiny_vae(tmp_path / "tiny", call_family("flux").pipe.vae)
    plan = planned(f"graph={graph}", "accelerate=tiny_vae", f"accelerate.tiny_vae={folder}", "measure.reference=true")
    record = run_as_data(plan, tmp_path / "run", [])
    assert record["status"] == "completed", record["error"]
    assert record["engaged"]["accelerate"]["tiny_vae"]["class"] == "AutoencoderTiny"
    assert record["reference"]["kind"] == "run" and record["samples"][0]["quality"]["mae"] > 0


def test_a_run_with_fused_projections_says_so(planned: Planned, tmp_path: Path) -> None:
    plan = planned("accelerate=fuse_qkv", "measure.reference=true")
    record = run_as_data(plan, tmp_path / "run", [])
    assert record["status"] == "completed", record["error"]
    assert record["engaged"]["accelerate"]["fuse_qkv"]["transformer"] == 6
    assert record["samples"][0]["quality"]["mae"] < 0.5

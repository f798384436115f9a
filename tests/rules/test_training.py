"""Rules on what files say of how weights were trained: when each applies, and when it does not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from tests.rules.cases import LORA, Apply, Values
from wavespeed_runner.config.paths import CONF
from wavespeed_runner.rules.training import TRAINING

DIFFUSION: Values = {"family.schedule": "diffusion", "steps": 8}
GUIDED: Values = {"model.guidance": "true_cfg", "guidance_scale": 5.0}
Said = Callable[[Values], dict[str, str]]


@pytest.fixture
def said(apply: Apply) -> Said:
    """Rule -> message and fix, of the rules of this file that apply."""
    ids = [rule.id for rule in TRAINING]
    return lambda values: {f.rule: f"{f.message}; {f.fix}" for f in apply(values) if f.rule in ids}


def write_lora(folder: Path, name: str = "x", **metadata: str) -> Values:
    file = folder / f"{name}.safetensors"
    save_file({"a.lora_A.weight": torch.ones(1, 1)}, file, {key.replace("__", "."): v for key, v in metadata.items()})
    return LORA | {"adapters.path": str(file)}


@pytest.mark.parametrize(
    ("path", "values", "says"),
    [
        (
            "latent-consistency/lcm-lora-sdxl",
            {"sampler": "euler"},
            "LCM, as of a distillation, and it is run with sampler=euler; sampler=lcm",
        ),
        ("latent-consistency/lcm-lora-sdxl", {"sampler": "lcm", "guidance_scale": 5.0}, "run with guidance_scale=5;"),
        (
            "h1t/TCD-SDXL-LoRA",
            {"sampler": "lcm"},
            "TCD, as of a distillation, and it is run with sampler=lcm; sampler=tcd",
        ),
        (
            "ByteDance/SDXL-Lightning",
            {"sampler": "ddim"},
            "Lightning, as of a distillation, and it is run with sampler=ddim; sampler=euler",
        ),
        (
            "ByteDance/Hyper-SD",
            {"sampler": "dpmpp_2m"},
            "Hyper, as of a distillation, and it is run with sampler=dpmpp_2m; sampler=ddim",
        ),
    ],
)
def test_a_distilled_lora_with_a_sampler_that_is_not_its_own(said: Said, path: str, values: Values, says: str) -> None:
    found = said(LORA | DIFFUSION | {"adapters.path": path, "guidance_scale": 1.0} | values)
    assert says in found["distilled-lora"]


def test_the_sampler_of_sdxl_is_not_known_to_be_euler_with_trailing_steps(composed: Any) -> None:
    from wavespeed_runner.config.resolve import resolve_config
    from wavespeed_runner.rules.check import apply_rules

    config = resolve_config(composed("model=sdxl", "adapters=lora", "adapters.path=ByteDance/SDXL-Lightning"))
    (message,) = [finding.message for finding in apply_rules(config) if finding.rule == "distilled-lora"]
    assert "is run with sampler=default and guidance_scale=5" in message


@pytest.mark.parametrize(
    ("path", "values"),
    [
        ("latent-consistency/lcm-lora-sdxl", {"sampler": "lcm", "guidance_scale": 2.0}),
        ("h1t/TCD-SDXL-LoRA", {"sampler": "tcd", "guidance_scale": 5.0}),
        ("ByteDance/Hyper-SD", {"sampler": "tcd"}),
        ("owner/name", {"sampler": "euler", "guidance_scale": 7.0}),
        ("ByteDance/Hyper-SD", {"sampler": "euler", "family.schedule": "flow", "steps": 16}),
    ],
)
def test_a_distilled_lora_as_its_authors_use_it(said: Said, path: str, values: Values) -> None:
    assert said(LORA | DIFFUSION | {"adapters.path": path, "guidance_scale": 1.0} | values) == {}


@pytest.mark.parametrize(
    ("name", "steps", "says"),
    [
        (
            "Hyper-FLUX.1-dev-8steps-lora",
            28,
            "its name says Hyper, as of a distillation for 8 steps, and it is run with steps=28; steps=8",
        ),
        ("Hyper-FLUX.1-dev-16steps-lora", 28, "for 16 steps, and it is run with steps=28; steps=16"),
        (
            "Qwen-Image-Lightning-4steps-V1.0",
            8,
            "its name says Lightning, as of a distillation for 4 steps, and it is run with steps=8",
        ),
        (
            "FLUX.1-Turbo-Alpha",
            28,
            "says Turbo, as of a distillation for few steps, and it is run with steps=28; the steps that its authors",
        ),
        ("Hyper-FLUX.1-dev-8steps-lora", 8, ""),
        ("FLUX.1-Turbo-Alpha", 8, ""),
        ("turbocharged_style", 28, ""),
    ],
)
def test_a_distilled_lora_with_more_steps_than_it_was_made_for(
    said: Said, tmp_path: Path, name: str, steps: int, says: str
) -> None:
    found = said(write_lora(tmp_path, name) | {"steps": steps})
    assert found.keys() == ({"distilled-lora-steps"} if says else set())
    assert says in found.get("distilled-lora-steps", "")
    distilled = {"family.is_distilled": lambda model: True}
    assert "distilled-lora-steps" not in said(write_lora(tmp_path, name) | {"steps": steps} | distilled)


def test_a_local_file_says_by_its_name_or_title_how_it_was_distilled(said: Said, tmp_path: Path) -> None:
    euler = DIFFUSION | {"sampler": "euler", "guidance_scale": 1.0}
    assert "distilled-lora" in said(write_lora(tmp_path, "my_lcm_v2") | euler)
    assert "distilled-lora" in said(write_lora(tmp_path, modelspec__title="An LCM of mine") | euler)
    assert "distilled-lora" in said(write_lora(tmp_path, ss_output_name="tcd") | euler)
    assert said(write_lora(tmp_path, "y") | euler) == {}
    cfg = write_lora(tmp_path, "Hyper-SDXL-8steps-CFG-lora") | DIFFUSION | {"sampler": "ddim", "guidance_scale": 6.0}
    assert "timesteps that are not trailing" in said(cfg)["distilled-lora"]
    assert said(cfg | {"sampler.timestep_spacing": "trailing"}) == {}
    assert said(cfg | write_model(tmp_path / "model", {"timestep_spacing": "trailing"})) == {}


def test_the_way_out_is_for_the_lora_that_the_message_is_about(said: Said) -> None:
    """Of two distilled ones the first is run as its authors do."""
    paths = ["latent-consistency/lcm-lora-sdxl", "h1t/TCD-SDXL-LoRA"]
    values = LORA | DIFFUSION | {"adapters.path": paths, "sampler": "lcm", "guidance_scale": 2.0}
    assert (
        "TCD-SDXL-LoRA: its name says TCD, as of a distillation, and it is run with sampler=lcm; sampler=tcd"
        in said(values)["distilled-lora"]
    )


def test_a_lora_that_keeps_guidance_is_not_told_to_lower_it(said: Said, tmp_path: Path) -> None:
    cfg = write_lora(tmp_path, "Hyper-SDXL-8steps-CFG-lora") | DIFFUSION | {"sampler": "euler", "guidance_scale": 6.0}
    found = said(cfg)["distilled-lora"]
    assert "sampler=ddim" in found and "guidance_scale" not in found


def test_a_lora_that_says_that_it_is_for_another_model(said: Said, tmp_path: Path) -> None:
    found = said(write_lora(tmp_path, modelspec__architecture="stable-diffusion-xl-v1-base/lora"))
    assert "modelspec.architecture is stable-diffusion-xl-v1-base, and the model is flux" in found["adapters-base"]
    for architecture in ("flux-1-dev/lora", "chroma/lora", "mine/lora", ""):
        assert said(write_lora(tmp_path, modelspec__architecture=architecture)) == {}


@pytest.mark.parametrize(
    ("metadata", "says"),
    [
        ({"modelspec__prediction_type": "v"}, "on a model that predicts v_prediction, and this one predicts epsilon"),
        ({"ss_zero_terminal_snr": "True"}, "with zero terminal SNR"),
        ({"modelspec__timestep_range": "900,1000"}, "for timesteps 900,1000 alone"),
    ],
)
def test_what_a_lora_was_trained_with_is_said(said: Said, tmp_path: Path, metadata: Any, says: str) -> None:
    model = write_model(tmp_path / "model", {}) | DIFFUSION
    assert says in said(write_lora(tmp_path, **metadata) | model)["adapters-trained"]
    same = {"modelspec__prediction_type": "epsilon", "ss_zero_terminal_snr": "False", "ss_clip_skip": "None"}
    assert said(write_lora(tmp_path, **same) | model) == {}


def test_a_dora_on_weights_in_8_bits_must_be_fused(said: Said, tmp_path: Path) -> None:
    file = tmp_path / "dora.safetensors"
    save_file({"a.dora_scale": torch.ones(1, 1)}, file)
    dora = LORA | {"adapters.path": str(file)}
    assert "adapters.fuse=true" in said(dora | {"memory": "layerwise_casting"})["adapters-dora"]
    assert said(dora) == said(dora | {"memory": "layerwise_casting", "adapters.fuse": True}) == {}
    assert said(write_lora(tmp_path) | {"memory": "layerwise_casting"}) == {}


def test_clip_skip_of_a_lora_for_stable_diffusion(composed: Any, tmp_path: Path) -> None:
    from wavespeed_runner.config.resolve import resolve_config
    from wavespeed_runner.rules.check import apply_rules

    def found(clip_skip: str, own: str = "null") -> list[str]:
        path = write_lora(tmp_path, ss_clip_skip=clip_skip)["adapters.path"]
        given = ("model=sd15", f"model.clip_skip={own}", "adapters=lora", f"adapters.path={path}")
        config = resolve_config(composed(*given))
        return [f"{f.message}; {f.fix}" for f in apply_rules(config) if f.rule == "adapters-trained"]

    assert found("1") == found("None") == found("²") == found("0") == []
    assert found("2")[0].endswith("with clip skip 2, as kohya counts; model.clip_skip=1")
    assert found("1", own="1")[0].endswith("; model.clip_skip=null") and found("2", own="1") == []


def test_a_checkpoint_that_says_that_it_is_another_or_a_lora(said: Said, tmp_path: Path) -> None:
    def found(architecture: str) -> dict[str, str]:
        file = write_lora(tmp_path, modelspec__architecture=architecture)["adapters.path"]
        return said({"model.init": "pretrained", "model.repo": file})

    assert "stable-diffusion-v1, and the model is flux" in found("stable-diffusion-v1")["checkpoint-base"]
    assert "it is a LoRA: " in found("flux-1-dev/lora")["checkpoint-base"]
    assert found("flux-1-dev") == found("somebody's") == found("") == {}


@pytest.mark.parametrize(
    ("architecture", "fix"),
    [
        ("stable-diffusion-v1", "model=sd15"),
        ("stable-diffusion-v2-768-v", "model=sd21"),
        ("stable-diffusion-xl-v1-base", "model=sdxl"),
        ("stable-diffusion-3.5-large", "the model that it is for"),
        ("flux-1-dev/lora", "adapters=lora adapters.path="),
    ],
)
def test_what_a_checkpoint_of_another_model_is(apply: Apply, tmp_path: Path, architecture: str, fix: str) -> None:
    file = write_lora(tmp_path, modelspec__architecture=architecture)["adapters.path"]
    found = apply({"model.init": "pretrained", "model.repo": file})
    (base,) = [finding for finding in found if finding.rule == "checkpoint-base"]
    assert base.fix == (fix + file if fix.endswith("path=") else fix)
    if fix.startswith("model="):
        assert (CONF / "model" / f"{fix.removeprefix('model=')}.yaml").exists()


def test_clip_skip_of_a_checkpoint(composed: Any, tmp_path: Path) -> None:
    from wavespeed_runner.config.resolve import resolve_config
    from wavespeed_runner.rules.check import apply_rules

    def found(layer: str) -> list[str]:
        file = write_lora(tmp_path, modelspec__encoder_layer=layer)["adapters.path"]
        config = resolve_config(composed("model=sd15", f"model.repo={file}", "model.init=pretrained"))
        return [f"{f.message}; {f.fix}" for f in apply_rules(config) if f.rule == "checkpoint-trained"]

    assert found("12")[0].endswith("trained with clip skip 12, as kohya counts; model.clip_skip=11")
    assert found("1") == found("x") == found("0") == []


def write_model(folder: Path, scheduler: dict[str, Any]) -> Values:
    """Values for a local model with this configuration of its scheduler."""
    (folder / "scheduler").mkdir(parents=True)
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(scheduler))
    return {"model.init": "pretrained", "model.repo": str(folder)}


def test_zero_snr_with_guidance_that_is_not_rescaled(said: Said, tmp_path: Path) -> None:
    zero = write_model(tmp_path / "zero", {"rescale_betas_zero_snr": True}) | DIFFUSION
    other = write_model(tmp_path / "other", {"rescale_betas_zero_snr": False}) | DIFFUSION
    assert "overexposes" in said(zero | GUIDED)["zero-snr-guidance"]
    assert said(zero | GUIDED | {"guidance_scale": 1.0}) == said(other | GUIDED) == said(DIFFUSION | GUIDED) == {}
    file = tmp_path / "x.safetensors"
    save_file({"v_pred": torch.zeros(0), "ztsnr": torch.zeros(0)}, file)
    flagged = DIFFUSION | GUIDED | {"model.init": "pretrained", "model.repo": str(file)}
    assert "overexposes" in said(flagged)["zero-snr-guidance"]

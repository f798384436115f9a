"""Rules on the switches of `accelerate`: when each applies, and when it does not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.rules.cases import LORA, Apply, Cases, check_rule
from wavespeed_runner.rules import Rule
from wavespeed_runner.rules.accelerate import SWITCHES, _read_channels

FUSED, LAST = {"accelerate": "fuse_qkv"}, {"accelerate": "channels_last"}
TF32, FP16 = {"accelerate": "tf32", "device": "cuda"}, {"accelerate": "fp16_accumulation", "device": "cuda"}
HALF = {"model.dtype": "float16"}
UNET = {"model": {"name": "sd", "repo": "a/b", "steps": 4, "width": 64, "height": 64}}
FLUX = {"model": {**UNET["model"], "name": "flux", "guidance_scale": 3.5}}
"""Pretrained weights of a repository."""


def tiny(repo: str, *values: dict[str, Any]) -> dict[str, Any]:
    merged: dict[str, Any] = {"accelerate": "tiny_vae"}
    for more in values:
        merged |= more
    return merged | {"accelerate.tiny_vae": repo}


TAEF1, TAESD, TAESD3 = (f"madebyollin/{name}" for name in ("taef1", "taesd", "taesd3"))

CASES: Cases = {
    "fuse-qkv-family": (
        [FUSED | {"model.name": name} for name in ("sd3", "ltx_video", "hidream", "z_image")],
        [FUSED, FUSED | UNET, {"model.name": "sd3"}],
    ),
    "fuse-qkv-lora": ([FUSED | LORA], [FUSED, FUSED | LORA | {"adapters.fuse": True}, LORA]),
    "channels-last-family": ([LAST], [LAST | UNET, {}]),
    "torch-switches-device": ([TF32 | {"device": "cpu"}, FP16 | {"device": "auto"}], [TF32, FP16, {}]),
    "tf32-dtype": (
        [TF32 | HALF],
        [TF32, TF32 | HALF | {"family.float32_components": ("vae",)}, HALF],
    ),
    "tf32-capability": ([TF32 | {"device": "cuda:75"}], [TF32, TF32 | {"device": "cuda:80"}]),
    "fp16-accumulation-dtype": ([FP16, FP16 | {"model.dtype": "bfloat16"}], [FP16 | HALF]),
    "tiny-vae-family": ([tiny(TAEF1, {"model.name": "wan"})], [tiny(TAEF1), {"model.name": "wan"}]),
    "tiny-vae-folder": ([tiny("/nowhere/at/all")], [tiny(TAEF1), {}]),
    "tiny-vae-channels": (
        [tiny(TAESD, FLUX), tiny(TAEF1, UNET)],
        [tiny(TAEF1, FLUX), tiny(TAEF1), tiny("somebody/else", FLUX)],
    ),
    "tiny-vae-other-space": ([tiny(TAESD3, FLUX)], [tiny(TAEF1, FLUX), tiny(TAESD, FLUX), tiny("somebody/else", FLUX)]),
    "tiny-vae-space": (
        [tiny("somebody/else", FLUX), tiny(TAEF1)],
        [tiny(TAEF1, FLUX), tiny(TAESD3, FLUX), tiny(TAESD, FLUX), {}],
    ),
    "tiny-vae-own": (
        [tiny(TAEF1, {"model.vae": "a/b", "model.init": "pretrained"})],
        [tiny(TAEF1), {"model.vae": "a/b", "model.init": "pretrained"}],
    ),
    "tiny-vae-tiling": (
        [tiny(TAEF1, {"memory": "vae_tiling"})],
        [tiny(TAEF1), {"memory": "vae_tiling"}],
    ),
    "tiny-vae-encodes": (
        [tiny(TAEF1, {"graph": "image_to_image"}), tiny(TAEF1, {"graph": "hires_fix"})],
        [tiny(TAEF1), {"graph": "image_to_image"}],
    ),
}


def test_every_rule_has_cases() -> None:
    assert list(CASES) == [rule.id for rule in SWITCHES]


@pytest.mark.parametrize("rule", SWITCHES, ids=lambda rule: rule.id)
def test_a_rule_applies_where_it_should_and_only_there(apply: Apply, rule: Rule) -> None:
    check_rule(apply, rule, CASES[rule.id])


def test_the_channels_of_local_folders_are_read(apply: Apply, tmp_path: Path) -> None:
    """The shipped demo has a VAE of its own, and a folder says what it holds."""
    tiny_vae = tmp_path / "tiny"
    tiny_vae.mkdir()
    (tiny_vae / "config.json").write_text('{"_class_name": "AutoencoderTiny", "latent_channels": 16}')
    (tiny_vae / "x.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
    demo = FLUX | {"model": {**FLUX["model"], "repo": "pkg://wavespeed_runner/weights/demo"}}
    for values, wrong in ((demo, True), (FLUX, False)):
        rules = [finding.rule for finding in apply(tiny(str(tiny_vae), values))]
        assert ("tiny-vae-channels" in rules) == wrong
        assert "tiny-vae-folder" not in rules


def test_channels_that_are_no_number_are_left_to_the_gate_of_folders() -> None:
    assert [_read_channels({"latent_channels": value}) for value in (16, float("nan"), "4", [4], None)] == [
        16,
        None,
        None,
        None,
        None,
    ]
    assert _read_channels({}) == 4

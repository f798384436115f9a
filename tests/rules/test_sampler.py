"""Rules on samplers: when each applies, and when it does not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.rules.cases import DISTILLED, FBCACHE, LORA, OWN, Apply, Cases, check_rule
from wavespeed_runner.config.resolve import resolve_config
from wavespeed_runner.rules import Rule
from wavespeed_runner.rules.check import Finding, apply_rules
from wavespeed_runner.rules.sampler import SAMPLERS
from wavespeed_runner.samplers.few_steps import MEASURED_ON

RULES = (*SAMPLERS,)
HEUN = {"sampler": "heun", "family.schedule": "diffusion"}
UNET = {"model.init": "pretrained", "model.repo": MEASURED_ON}
PNDM = {"sampler": "pndm", "family.schedule": "diffusion"}
DPMPP_2S = UNET | {"sampler": "dpmpp_2s", "sampler.sigmas": "beta", "family.schedule": "diffusion"}
CASES: Cases = {
    "sampler-fits": (
        [
            {"sampler": "pndm"},
            {"sampler": "unipc", "family.schedule": "cogvideox"},
            {"sampler": "euler", "family.unsupported_samplers": {"euler": "it was tried"}},
        ],
        [{}, {"sampler": "euler_karras"}, {"sampler": "pndm", "family.schedule": "diffusion"}],
    ),
    "sampler-task": (
        [{"sampler": "heun", "graph": "image_to_image"}],
        [
            {"sampler": "heun"},
            {"sampler": "dpmpp_2m", "graph": "image_to_image"},
            {"sampler": "heun", "graph": "image_to_image", "family.schedule": "diffusion"},
        ],
    ),
    "sampler-option": (
        [
            {"sampler": "euler", "sampler.shift": 2.0, "family.schedule": "diffusion"},
            {"sampler": "euler_stochastic", "family.schedule": "diffusion"},
            {"sampler": "lcm", "sampler.sigmas": "karras", "family.schedule": "diffusion"},
            {"sampler": "ddim", "sampler.eta": 0.5, "family.schedule": "cogvideox"},
        ],
        [
            {"sampler": "euler", "sampler.shift": 2.0},
            {"sampler": "ddim", "sampler.eta": 0.5, "family.schedule": "diffusion"},
            {"sampler": "ddim", "family.schedule": "cogvideox"},
            {"sampler": "pndm"},
        ],
    ),
    "sampler-steps": (
        [{"sampler": name, "steps": 51, "family.schedule": "diffusion"} for name in ("lcm", "tcd")],
        [
            *({"sampler": name, "steps": 50, "family.schedule": "diffusion"} for name in ("lcm", "tcd")),
            {"sampler": "lcm", "steps": 51},
            {"sampler": "ddim", "steps": 1001, "family.schedule": "diffusion"},
            {"steps": 1001},
        ],
    ),
    "sampler-no-image": (
        [
            *(HEUN | UNET | {"steps": n} for n in (2, 3)),
            HEUN | UNET | {"steps": 3, "sampler.timestep_spacing": "trailing"},  # as the model's own
            HEUN | UNET | {"steps": 3, "sampler.sigmas": "uniform"},
            DPMPP_2S | {"steps": 5},
            PNDM | UNET | {"steps": 5, "sampler.timestep_spacing": "leading"},
        ],
        [
            HEUN | UNET | {"steps": 9},
            HEUN | UNET | {"steps": 1},  # not measured
            HEUN | UNET | {"steps": 3, "sampler.timestep_spacing": "linspace"},
            DPMPP_2S | {"steps": 4},
            PNDM | UNET | {"steps": 4, "sampler.timestep_spacing": "leading"},
            HEUN | {"steps": 3, "model.init": "pretrained"},
            HEUN | UNET | {"steps": 3, "graph": "image_to_image"},
            UNET | {"steps": 3, "family.schedule": "diffusion"},
        ],
    ),
    "sampler-few-steps": (
        [
            HEUN | {"steps": 3, "model.init": "pretrained"},
            PNDM | {"steps": 5, "model.init": "pretrained"},
            OWN["pndm"] | {"steps": 5, "model.init": "pretrained", "family.schedule": "diffusion"},
        ],
        [
            HEUN | UNET | {"steps": 3},
            HEUN | {"steps": 3},
            HEUN | {"steps": 9, "model.init": "pretrained"},
            PNDM | {"steps": 4, "model.init": "pretrained"},  # an image with leading timesteps, and not with trailing
            {"sampler": "heun", "steps": 3, "model.init": "pretrained"},
            HEUN | DISTILLED | {"steps": 3, "model.init": "pretrained"},
            HEUN | LORA | {"steps": 3, "model.init": "pretrained", "adapters.path": "latent-consistency/lcm-lora-sdxl"},
        ],
    ),
    "few-step-model": (
        [
            DISTILLED | {"sampler": "dpmpp_2m"},
            DISTILLED | {"sampler": "euler_karras"},
            DISTILLED | OWN["lcm"] | {"sampler": "euler"},
        ],
        [
            DISTILLED,
            DISTILLED | {"sampler": "euler"},
            DISTILLED | OWN["lcm"],
            DISTILLED | OWN["lcm"] | {"sampler": "lcm"},
            {"model.steps": 4, "sampler": "dpmpp_2m"},
        ],
    ),
    "distilled-sampler": (
        [
            {"sampler": "lcm"},
            {"sampler": "tcd", "family.schedule": "diffusion"},
            LORA | {"sampler": "lcm"},
            LORA | {"sampler": "lcm", "adapters.path": "h1t/TCD-SDXL-LoRA"},
            LORA
            | {"sampler": "tcd", "adapters.path": "latent-consistency/lcm-lora-sdxl", "family.schedule": "diffusion"},
            LORA | {"sampler": "lcm", "adapters.path": "somebody/calcmann"},
        ],
        [
            DISTILLED | OWN["lcm"] | {"sampler": "lcm", "model.steps": 28},
            {"sampler": "euler"},
            LORA | {"sampler": "lcm", "adapters.path": "latent-consistency/lcm-lora-sdxl"},
            LORA
            | {
                "sampler": "lcm",
                "adapters.path": ["a/b", "c/d"],
                "adapters.file": ["x.safetensors", "LCM.safetensors"],
            },
            LORA | {"sampler": "tcd", "adapters.path": "h1t/TCD-SDXL-LoRA", "family.schedule": "diffusion"},
            LORA | {"sampler": "tcd", "adapters.path": "ByteDance/Hyper-SD", "family.schedule": "diffusion"},
        ],
    ),
    "multi-call-sampler-cache": (
        [FBCACHE | {"sampler": "heun"}, FBCACHE | {"sampler": "dpm2", "family.schedule": "diffusion"}],
        [{"sampler": "heun"}, FBCACHE | {"sampler": "pndm", "family.schedule": "diffusion"}, FBCACHE],
    ),
    "stochastic-sampler-cache": (
        [
            *(FBCACHE | {"sampler": name} for name in ("euler_stochastic", "dpmpp_2m_sde", "euler_ancestral")),
            FBCACHE | OWN["lcm"],
            FBCACHE | OWN["cogvideox_dpm"] | {"family.schedule": "cogvideox"},
        ],
        [
            FBCACHE | {"sampler": "euler"},
            {"cache": "taylorseer", "sampler": "euler_stochastic"},
            {"sampler": "euler_stochastic"},
            FBCACHE,
            OWN["lcm"],
            FBCACHE | OWN["lcm"] | {"sampler": "euler"},
        ],
    ),
}


def test_every_rule_has_cases() -> None:
    assert list(CASES) == [rule.id for rule in RULES]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_a_rule_applies_where_it_should_and_only_there(apply: Apply, rule: Rule) -> None:
    check_rule(apply, rule, CASES[rule.id])


def test_the_message_names_the_models_own_sampler(composed: Callable[..., dict[str, Any]]) -> None:
    def findings(*overrides: str) -> dict[str, Finding]:
        return {
            finding.rule: finding for finding in apply_rules(resolve_config(composed("model.repo=a/b", *overrides)))
        }

    noisy = findings("model=cogvideox", "cache=fbcache")["stochastic-sampler-cache"]
    assert noisy.message.startswith("this model's own sampler, cogvideox_dpm, adds fresh noise")
    assert noisy.fix == "a deterministic sampler (sampler=ddim), or a higher threshold"
    assert "stochastic-sampler-cache" not in findings("model=cogvideox_2b", "cache=fbcache")
    assert "stochastic-sampler-cache" not in findings("model=cogvideox", "cache=fbcache", "sampler=ddim")
    own = findings("model=cogvideox_2b", "cache=fbcache", "sampler=cogvideox_dpm")["stochastic-sampler-cache"]
    assert own.fix == "a deterministic sampler (sampler=default), or a higher threshold"
    assert {"few-step-model", "distilled-sampler"}.isdisjoint(findings("model=hidream_dev", "sampler=lcm"))
    assert findings("model=hidream_dev", "sampler=euler")["few-step-model"].fix == "sampler=default"
    assert findings("model=hidream", "sampler=lcm")["distilled-sampler"]
    assert findings("model=flux_schnell", "cache=fbcache")["few-steps"].fix == "cache=none"
    assert findings("model=flux", "steps=4", "cache=fbcache")["few-steps"].fix.startswith("12 steps")


def test_the_message_on_too_few_steps_names_the_noise_levels_and_a_measured_number(
    composed: Callable[..., dict[str, Any]],
) -> None:
    def find(*overrides: str) -> Finding:
        rules = ("sampler-no-image", "sampler-few-steps")
        (found,) = [each for each in apply_rules(resolve_config(composed(*overrides))) if each.rule in rules]
        return found

    unet = ("model=demo_unet", "model.init=pretrained", "sampler.sigmas=beta")
    bad = find(*unet, "sampler=dpmpp_2s", "steps=3")
    assert "sampler dpmpp_2s with beta noise levels gave no image in 3 steps on this model" in bad.message
    assert bad.fix == "steps=4, or sampler=default"
    assert find(*unet, "sampler=dpmpp_3m", "steps=8").fix == "sampler=default"
    named, own = (
        find("model=sd15", "model.init=pretrained", "steps=5", *sampler).message for sampler in (["sampler=pndm"], [])
    )
    assert named.partition("sampler ")[2] == own.partition("own sampler, ")[2]
    assert "pndm with trailing and with leading timesteps gave no image in 5 steps on the demo U-Net" in own

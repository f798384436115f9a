"""Rules on graphs and the values that their stages read: when each applies, and when it does not."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from tests.rules.cases import VIDEO, Apply, Cases, check_rule, read_prompt_and_image
from wavespeed_runner.config.schema import Config
from wavespeed_runner.rules import Rule
from wavespeed_runner.rules.graph import GRAPHS

RULES = (*GRAPHS,)
CASES: Cases = {
    "decode-fits": (
        [{"graph": "text_to_video"}, {"graph": "text_to_image"} | VIDEO],
        [{"graph": "text_to_video"} | VIDEO, {"graph": "hires_fix"}],
    ),
    "graph-fits": (
        [
            {"graph": "inpaint", "family.tasks": {"text_to_image": "x", "image_to_image": "y"}},
            {"graph": "hires_fix", "family.tasks": {"text_to_image": "x"}},
            {"graph": "text_to_video", "family.kind": "video"},
        ],
        [{"graph": "inpaint"}, {"graph": "text_to_video"} | VIDEO],
    ),
    "latents-fit": (
        [{"graph": "hires_fix_latents", "family.unpack_latents": None}, {"graph": "hires_fix_latents"} | VIDEO],
        [{"graph": "hires_fix_latents"}, {"graph": "hires_fix", "family.unpack_latents": None}],
    ),
    "encode-needs-image": (
        [{"graph": "image_to_image", "family.encode": read_prompt_and_image}],
        [{"graph": "image_to_image"}, {"graph": "image_to_video_seen", "family.encode": read_prompt_and_image}],
    ),
    "encode-takes-no-image": (
        [{"graph": "image_to_video_seen"}],
        [{"graph": "image_to_video"}, {"graph": "image_to_video_seen", "family.encode": read_prompt_and_image}],
    ),
    "strength": ([{"strength": 0.0}, {"strength": -0.5}, {"strength": 1.01}], [{"strength": 1.0}, {"strength": 0.01}]),
    "strength-unused": (
        [
            {"strength": 0.5},
            {"graph": "image_to_image", "strength": 0.5, "family.beside_noise": ("image_to_image",)},
            {"graph": "image_to_video", "strength": 0.5} | VIDEO,
            {"graph": "image_to_image", "strength": 0.5, "graph.stages.denoise.options": {"strength": 0.5}},
        ],
        [
            {},
            *(
                {"graph": name, "strength": 0.5}
                for name in ("image_to_image", "inpaint", "hires_fix_latents", "detail")
            ),
            {"graph": "hires_fix", "strength": 0.5, "graph.stages.denoise_large.options": {"steps": 5}},
            {"graph": "hires_fix"},
        ],
    ),
    "strength-steps": (
        [
            {"family.schedule": "diffusion", "graph": "image_to_image", "strength": 0.03},
            {"family.schedule": "diffusion", "graph": "hires_fix", "strength": 0.03},
        ],
        [
            {"graph": "image_to_image", "strength": 0.03},
            {"family.schedule": "diffusion", "graph": "image_to_image", "strength": 0.04},
            {"family.schedule": "diffusion"},
        ],
    ),
    "strength-whole": (
        [
            {"graph": "image_to_image", "steps": 1, "strength": 0.5},
            {"graph": "image_to_image", "steps": 9, "strength": 0.9},
            {"graph": "inpaint", "steps": 2, "strength": 0.6},
        ],
        [
            {"graph": "image_to_image", "steps": 2, "strength": 0.5},
            {"graph": "image_to_image", "steps": 10, "strength": 0.9},
            {"graph": "image_to_image", "steps": 1, "strength": 1.0},
            {"family.schedule": "diffusion", "graph": "image_to_image", "steps": 3, "strength": 0.9},
            {"steps": 1, "strength": 0.5},
        ],
    ),
    "fps": (
        [{"model.fps": 8}, {"family.kind": "video", "model.fps": 0}, {"family.kind": "video", "model.fps": 241}],
        [{}, {"family.kind": "video", "model.fps": 8}],
    ),
    "strength-of-stage": (
        [{"graph": "hires_fix", "graph.stages.denoise.options": {"strength": 0.5}}],
        [{"graph": "hires_fix", "graph.stages.denoise_large.options": {"strength": 0.5}}],
    ),
    "image-unused": (
        [
            {"image": "photo.png"},
            {"graph": "image_to_image", "image": "photo.png", "graph.stages.image.options": {"path": "other.png"}},
        ],
        [{"graph": "image_to_image", "image": "photo.png"}, {"image": Config.image}],
    ),
    "mask-unused": (
        [{"mask": "white.png"}, {"graph": "image_to_image", "mask": "white.png"}],
        [{"graph": "inpaint", "mask": "white.png"}, {}],
    ),
}


@pytest.mark.parametrize(("strength", "enough"), [(0.5, 2), (0.6, 3), (0.9, 10), (0.95, 20)])
def test_steps_that_a_strength_needs_to_keep_something_of_the_image(apply: Apply, strength: float, enough: int) -> None:
    from diffusers import FluxImg2ImgPipeline

    given = {"graph": "image_to_image", "steps": 1, "strength": strength}
    (finding,) = [finding for finding in apply(given) if finding.rule == "strength-whole"]
    assert finding.message.startswith(f"steps=1 strength={strength}: this model rounds up, to all 1 steps")
    assert finding.fix == f"steps={enough} or more, or a lower strength"
    pipe: Any = SimpleNamespace(scheduler=SimpleNamespace(order=1, timesteps=range(enough)))
    assert len(FluxImg2ImgPipeline.get_timesteps(pipe, enough, strength, "cpu")[0]) == enough - 1


def test_every_rule_has_cases() -> None:
    assert list(CASES) == [rule.id for rule in RULES]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_a_rule_applies_where_it_should_and_only_there(apply: Apply, rule: Rule) -> None:
    check_rule(apply, rule, CASES[rule.id])


def test_a_graph_of_images_is_refused_for_that_on_a_model_of_videos(apply: Apply) -> None:
    first = next(finding for finding in apply({"graph": "detail", "num_frames": 5} | VIDEO) if finding.verdict == "bad")
    assert first.message == "the graph makes images, and this model makes videos"
    assert first.fix == "graph=text_to_video, image_to_video"

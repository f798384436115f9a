"""Rules on plain values (sizes, steps, devices, guidance, number formats): when each applies."""

from __future__ import annotations

import pytest

from tests.rules.cases import EMBEDDED, LORA, NO_GUIDANCE, VIDEO, Apply, Cases, Values, check_rule
from wavespeed_runner.rules import Rule
from wavespeed_runner.rules.basics import VALUES
from wavespeed_runner.rules.guidance import GUIDANCE
from wavespeed_runner.rules.numerics import NUMERICS

RULES = (
    *VALUES,
    *GUIDANCE,
    *NUMERICS,
)
RESCALED = {"model.guidance_rescale": 0.7, "guidance_scale": 5.0}
LARGE_VIDEO = VIDEO | {
    "graph": "text_to_video",
    "model.init": "random",
    "model.fps": 24,
    "family.decoder_channels": 128,
    "width": 1280,
    "height": 720,
    "num_frames": 129,
}
AUDIO = {"model.name": "ltx2", "model.audio_guidance_scale": 7.0}
DEMO = {"model.repo": "pkg://wavespeed_runner/weights/demo", "model.init": "pretrained"}
"""Its tokenizers were trained for 20 tokens, see training/text.py."""
CASES: Cases = {
    "empty-path": (
        [{"model.repo": ""}, {"model.vae": ""}, LORA | {"adapters.path": ""}, LORA | {"adapters.path": ["a/b", ""]}],
        [{"model.vae": None}, {"model.repo": "."}, LORA],
    ),
    "model-package": (
        [{"model.init": "pretrained", "family.packages": ("no_such_package",)}],
        [
            {"model.init": "pretrained"},
            {"model.init": "pretrained", "family.packages": ("torch",)},
            {"model.init": "tiny", "family.packages": ("no_such_package",)},
            # a plan for a GPU that is not here
            {"model.init": "pretrained", "family.packages": ("no_such_package",), "device": "cuda", "dry_run": True},
        ],
    ),
    "steps-positive": ([{"steps": 0}, {"steps": -3}], [{"steps": 1}]),
    "steps-least": (
        [{"family.min_steps": 2, "steps": 1}],
        [{"steps": 1}, {"family.min_steps": 2, "steps": 2}, {"family.min_steps": 2, "steps": 0}],
    ),
    "size": ([{"width": 40}, {"height": 0}, {"height": -16}], [{"width": 16, "height": 1024}]),
    "too-much": ([{"width": 16400}, {"height": 10**8}], [{"width": 16384}]),
    "repeats": ([{"measure.repeats": 0}, {"measure.warmup": -1}], [{"measure.repeats": 1, "measure.warmup": 0}]),
    "size-limit": ([{"family.max_pixels": 500, "width": 32, "height": 32}], [{"family.max_pixels": 1024}, {}]),
    "size-fixed": (
        [
            {"family.fixed_size": (64, 64), "model.init": "tiny", "width": 64, "height": 64, "family.tiny_size": 32},
            {"family.fixed_size": (720, 480)},
        ],
        [{}, {"family.fixed_size": (96, 64), "model.init": "pretrained", "width": 96, "height": 64}],
    ),
    "batch": (
        [{"batch_size": 0}, {"num_images_per_prompt": 0}],
        [{"batch_size": 4, "num_images_per_prompt": 4}],
    ),
    "batch-fits": (
        [{"family.supports_batches": False, "batch_size": 2}],
        [{"family.supports_batches": False}, {"batch_size": 2}],
    ),
    "difference-gain": ([{"measure.difference_gain": 0.0}, {"measure.difference_gain": -1.0}], [{}]),
    "device": (
        [{"device": "gpu"}, {"device": "cuda:x"}, {"device": ""}, {"device": "CPU"}],
        [{"device": device} for device in ("auto", "cpu", "cuda", "cuda:1", "mps")],
    ),
    "device-present": (
        [{"device": "cuda"}, {"device": "cuda:1"}],
        [{"device": "cpu"}, {"device": "auto"}, {"device": "cuda", "dry_run": True}],
    ),
    "device-elsewhere": (
        [{"device": "cuda", "dry_run": True}],
        [{"device": "cuda"}, {"device": "cpu", "dry_run": True}],
    ),
    "device-mps": ([{"device": "mps"}], [{"device": "cpu"}]),
    "weights": ([{"model.weights": "../../x"}, {"model.weights": "a.b"}], [{"model.weights": "fp16"}, {}]),
    "components": (
        [
            {"model.components": "a/b", "model.repo": "c/d", "model.init": "pretrained"},
            {"model.components": "a/b", "model.repo": "x.safetensors"},
        ],
        [{"model.components": "a/b", "model.repo": "x.safetensors", "model.init": "pretrained"}, {}],
    ),
    "vae-random": (
        [{"model.vae": "a/b", "model.init": "tiny"}, {"model.vae": "a/b", "model.init": "random"}],
        [{"model.vae": "a/b", "model.init": "pretrained"}, {"model.init": "tiny"}],
    ),
    "num-frames": ([{"num_frames": 5}], [{"num_frames": None}]),
    "num-frames-fit": (
        [VIDEO | {"num_frames": frames} for frames in (None, 0, -3, 4, 6)],
        [VIDEO | {"num_frames": 1}, VIDEO | {"num_frames": 5}, {"num_frames": 6}],
    ),
    "guidance-negative": ([{"guidance_scale": -0.5}], [{"guidance_scale": 0.0}, NO_GUIDANCE]),
    "guidance-none": ([NO_GUIDANCE | {"guidance_scale": 3.5}], [NO_GUIDANCE, EMBEDDED | {"guidance_scale": 3.5}]),
    "guidance-below-one": (
        [{"guidance_scale": 0.5}, {"guidance_scale": 0.0}],
        [{"guidance_scale": 1.0}, EMBEDDED | {"guidance_scale": 0.5}],
    ),
    "negative-prompt": (
        [{"negative_prompt": "x"}, {"negative_prompt": "x", "guidance_scale": 3.5} | EMBEDDED],
        [
            {"negative_prompt": "x", "guidance_scale": 3.5},
            {"negative_prompt": ""},
            {"negative_prompt": "own", "model.negative_prompt": "own"},
            {"negative_prompt": "x", "guidance_scale": 1.0} | AUDIO,
        ],
    ),
    "guidance-rescale-task": (
        [RESCALED | {"model.name": "sd", "graph": "image_to_image"}],
        [RESCALED | {"model.name": "sd"}, RESCALED | {"model.name": "sdxl", "graph": "image_to_image"}],
    ),
    "guidance-rescale-idle": (
        [RESCALED | {"model.name": "sdxl", "guidance_scale": 1.0}],
        [
            RESCALED | {"model.name": "sdxl"},
            {"model.name": "sdxl", "guidance_scale": 1.0},
            RESCALED | {"model.name": "ltx2", "guidance_scale": 1.0, "model.stg_scale": 1.0},
            RESCALED | {"model.name": "ltx2", "guidance_scale": 1.0, "model.modality_scale": 3.0},
        ],
    ),
    "dynamic-cfg": (
        [{"model.name": "cogvideox", "model.use_dynamic_cfg": True, "sampler": "ddim"}],
        [
            {"model.name": "cogvideox", "sampler": "ddim"},
            {"model.name": "cogvideox", "model.use_dynamic_cfg": True, "sampler": "cogvideox_dpm"},
            {"model.name": "cogvideox", "model.use_dynamic_cfg": True},
        ],
    ),
    "half-on-cpu": ([{"model.dtype": "bfloat16"}], [{"model.dtype": "float32"}, {"model.dtype": "float16"}]),
    "float16-range": (
        [{"model.dtype": "float16", "family.why_not_float16": lambda model: "there"}],
        [{"model.dtype": "float16"}, {"model.dtype": "bfloat16", "family.why_not_float16": lambda model: "there"}],
    ),
    "decode-whole": (
        [LARGE_VIDEO],
        [
            LARGE_VIDEO | {"memory": "vae_tiling"},
            LARGE_VIDEO | {"family.decoder_channels": None},
            LARGE_VIDEO | {"num_frames": 5},
            LARGE_VIDEO | {"model.init": "tiny"},
        ],
    ),
    "whole": ([{"family.single_call": True}], [{}]),
    "tokens": (
        [{**DEMO, "model.max_sequence_length": 512}, {**DEMO, "model.max_sequence_length": 21}],
        [{**DEMO, "model.max_sequence_length": 20}, {**DEMO, "model.repo": "a/b"}, {}],
    ),
    "tiny-quality": ([{"model.init": "tiny"}, {"model.init": "random"}], [{"model.init": "pretrained"}]),
}


def test_without_guidance_the_message_begins_with_what_was_typed(apply: Apply) -> None:
    def said(**values: object) -> str:
        return next(
            f"{f.message}; {f.fix}" for f in apply({"model.guidance": "none", **values}) if f.rule == "guidance-none"
        )

    own = {"model.guidance_scale": 3.5, "guidance_scale": 3.5}
    assert said(**own).startswith("model.guidance=none: the model's own guidance_scale=3.5 could then not take effect")
    assert said(**own).endswith("; model.guidance_scale=null, and no guidance_scale")
    assert said(**own | {"guidance_scale": 2.0}).startswith("guidance_scale=2.0: this model takes no guidance")


def test_the_way_out_of_a_size_is_the_nearest_one(apply: Apply) -> None:
    def fix(**values: int) -> str:
        return next(finding.fix for finding in apply(values) if finding.rule == "size")

    assert fix(width=100, height=48) == "such as width=96 height=48"
    assert fix(width=3, height=10**9 + 1) == "such as width=16 height=16384"


def test_every_rule_has_cases() -> None:
    assert list(CASES) == [rule.id for rule in RULES]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_a_rule_applies_where_it_should_and_only_there(apply: Apply, rule: Rule) -> None:
    check_rule(apply, rule, CASES[rule.id])


OWN_VALUES = [
    ({"steps": 0}, "steps=28 is the model's own"),
    ({"steps": 0, "model.steps": 0}, "it is the model's own, model.steps; steps=20, or leave model.steps out"),
    ({"guidance_scale": -1.0, "model.guidance_scale": -1.0}, "guidance_scale=1, or leave model.guidance_scale out"),
    (NO_GUIDANCE | {"guidance_scale": 3.5}, "leave guidance_scale out"),
    (
        NO_GUIDANCE | {"guidance_scale": 3.5, "model.guidance_scale": 3.5},
        "model.guidance_scale=null, and no guidance_scale",
    ),
]


@pytest.mark.parametrize(("values", "fix"), OWN_VALUES)
def test_the_way_out_is_none_that_would_be_refused_again(apply: Apply, values: Values, fix: str) -> None:
    assert next(finding.fix for finding in apply(values) if finding.verdict == "bad").endswith(fix)

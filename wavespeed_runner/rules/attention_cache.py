"""Rules on diffusers' own cache strategies: models in which their attention hooks find nothing, or mix up branches."""

from __future__ import annotations

from ..caching.attach.diffusers_options import DiffusersHookOptions, FasterCache
from ..config.schema import Config
from ..models.family import Family, uses_cfg
from ..models.guidance import has_other_guidance
from .rule import Rule

ONE_CALL_A_BRANCH = (
    *("chroma", "flux", "flux_kontext", "flux2_klein", "hunyuan_video", "hunyuan_video_i2v", "hunyuan_video15"),
    *("hunyuan_video15_i2v", "lumina2", "qwen_image", "qwen_image_edit", "qwen_image_edit_plus"),
    *("wan", "wan_i2v", "wan22", "wan22_i2v", "wan22_5b"),
)
"""Families whose pipelines call the denoiser once for each guidance branch; the others batch them."""
HALVED = ("cogvideox", "cogvideox_i2v")
"""Families whose guided batch FasterCache can halve."""
NO_FASTERCACHE = ("hidream", "lumina2", "z_image", "sd", "sdxl")
"""Families none of whose modules FasterCache knows."""
WHOLE = ("generic", "generic_video")
"""Families whose pipeline is called as a whole: it is unknown what they repeat each step."""


def _is_guided(c: Config, f: Family) -> bool:
    return uses_cfg(c.model, c.guidance_scale, off=f.unguided_scale)


def _calls_once_a_branch(c: Config, f: Family) -> bool:
    return (c.model.name in ONE_CALL_A_BRANCH and _is_guided(c, f)) or has_other_guidance(c.model)


def _turn_branches_off(c: Config, f: Family) -> str:
    other = has_other_guidance(c.model)
    off = "model.stg_scale=0 model.modality_scale=1" if other else f"guidance_scale={f.unguided_scale:g}"
    return f"{off}, or another strategy (cache=fbcache)"


ATTENTION: tuple[Rule, ...] = (
    Rule(
        id="attention-whole",
        verdict="bad",
        when=lambda c, f: isinstance(c.cache, DiffusersHookOptions) and c.model.name in WHOLE,
        message="cache={c.cache.title}: it is not known what this model repeats at each step, so nothing can be "
        "skipped",
        fix="cache=none",
    ),
    Rule(
        id="attention-branches",
        verdict="bad",
        when=lambda c, f: isinstance(c.cache, DiffusersHookOptions) and _calls_once_a_branch(c, f),
        message="cache={c.cache.title}: this model's pipeline calls the denoiser once for each guidance branch, and "
        "diffusers' hooks would answer one with the other's attention",
        fix=_turn_branches_off,
        source="tests/caching/test_diffusers_hooks_refused.py",
    ),
    Rule(
        id="fastercache-family",
        verdict="bad",
        when=lambda c, f: isinstance(c.cache, FasterCache) and c.model.name in NO_FASTERCACHE,
        message="cache=fastercache: diffusers' hooks know none of this model's attention",
        fix="cache=pab, or cache=fbcache",
        source="tests/caching/test_diffusers_hooks_refused.py",
    ),
    Rule(
        id="fastercache-guidance",
        verdict="bad",
        when=lambda c, f: (
            isinstance(c.cache, FasterCache)
            and c.model.name not in (*ONE_CALL_A_BRANCH, *HALVED, *NO_FASTERCACHE)
            and _is_guided(c, f)
        ),
        message="cache=fastercache: diffusers cannot halve the batch that this model's pipeline makes for guidance",
        fix="guidance_scale=1, or cache=pab",
        source="tests/caching/test_diffusers_hooks_refused.py",
    ),
)

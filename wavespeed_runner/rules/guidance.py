"""Rules on guidance and negative prompts."""

from __future__ import annotations

from ..config.schema import Config
from ..models.family import Family, uses_cfg
from ..models.guidance import has_other_guidance
from .graph import list_tasks
from .rule import Rule, suggest_own


def _get_guidance(c: Config) -> str:
    return c.model.guidance.value


def _uses_negative_prompt(c: Config, f: Family) -> bool:
    return uses_cfg(c.model, c.guidance_scale, off=f.unguided_scale)


def _describe_guidance(c: Config) -> str:
    if _get_guidance(c) == "embedded":
        return "model.guidance=embedded alone, where the scale is an input of the model"
    return f"guidance_scale={c.guidance_scale}" if _get_guidance(c) == "true_cfg" else "model.guidance=none"


def _explain_no_guidance(c: Config, f: Family) -> str:
    """Begins with what was typed: the scale, or `model.guidance` where the scale is the model's own."""
    if c.guidance_scale == c.model.guidance_scale:
        return f"model.guidance=none: the model's own guidance_scale={c.guidance_scale} could then not take effect"
    why = "this model takes no guidance (model.guidance=none), so it could not take effect"
    return f"guidance_scale={c.guidance_scale}: {why}"


def _find_use_of_negative_prompt(c: Config, f: Family) -> str:
    """What makes a negative prompt take effect."""
    if _get_guidance(c) == "true_cfg":
        return f"guidance_scale above {f.unguided_scale:g}, or no negative_prompt"
    if _get_guidance(c) == "embedded" and hasattr(c.model, "true_cfg_scale"):
        return "model.true_cfg_scale=4, say: every step then runs the negative prompt too; or no negative_prompt"
    return "a model with classifier-free guidance, or no negative_prompt"


def _find_task_without_rescale(c: Config, f: Family) -> str:
    """The first task whose pipeline has no `guidance_rescale`, if it is on."""
    wanted = getattr(c.model, "guidance_rescale", 0.0)
    return next((task for task in list_tasks(c, f) if task not in f.rescales_guidance), "") if wanted else ""


GUIDANCE: tuple[Rule, ...] = (
    Rule(
        id="guidance-negative",
        verdict="bad",
        when=lambda c, f: (c.guidance_scale or 0) < 0,
        message="guidance_scale={c.guidance_scale}: 0 or more is needed",
        fix=lambda c, f: suggest_own(c, "guidance_scale", f"{f.unguided_scale:g}"),
    ),
    Rule(
        id="guidance-none",
        verdict="bad",
        when=lambda c, f: _get_guidance(c) == "none" and c.guidance_scale is not None,
        message=_explain_no_guidance,
        fix=lambda c, f: (
            "leave guidance_scale out"
            if c.model.guidance_scale is None
            else "model.guidance_scale=null, and no guidance_scale"
        ),
    ),
    Rule(
        id="guidance-below-one",
        verdict="bad",
        when=lambda c, f: (
            _get_guidance(c) == "true_cfg" and c.guidance_scale is not None and c.guidance_scale < f.unguided_scale
        ),
        message="guidance_scale={c.guidance_scale}: classifier-free guidance acts above {f.unguided_scale:g}, so it "
        "could not take effect",
        fix="guidance_scale={f.unguided_scale:g} for none",
        source="diffusers FluxPipeline: 'enabled when `true_cfg_scale` > 1'",
    ),
    Rule(
        id="negative-prompt",
        verdict="bad",
        # The model's own is no request: planning leaves it out where nothing reads it.
        when=lambda c, f: (
            bool(c.negative_prompt) and c.negative_prompt != c.model.negative_prompt and not _uses_negative_prompt(c, f)
        ),
        message=lambda c, f: f"negative_prompt is given, but nothing uses it with {_describe_guidance(c)}",
        fix=_find_use_of_negative_prompt,
        source="diffusers FluxPipeline: 'Ignored when not using guidance'",
    ),
    Rule(
        id="guidance-rescale-task",
        verdict="bad",
        when=lambda c, f: bool(_find_task_without_rescale(c, f)),
        message=lambda c, f: (
            f"model.guidance_rescale={getattr(c.model, 'guidance_rescale', 0):g}: diffusers has none for "
            f"{_find_task_without_rescale(c, f)} with this model"
        ),
        fix="model.guidance_rescale=0",
        source="tests/models/test_guidance.py",
    ),
    Rule(
        id="guidance-rescale-idle",
        verdict="bad",
        when=lambda c, f: (
            bool(getattr(c.model, "guidance_rescale", 0))
            and not _uses_negative_prompt(c, f)
            and not has_other_guidance(c.model)
        ),
        message="model.guidance_rescale={c.model.guidance_rescale:g}: there is no guidance to rescale with "
        "guidance_scale={c.guidance_scale}",
        fix="guidance_scale above {f.unguided_scale:g}, or model.guidance_rescale=0",
        source="https://arxiv.org/abs/2305.08891",
    ),
    Rule(
        id="dynamic-cfg",
        verdict="unverified",
        when=lambda c, f: (
            getattr(c.model, "use_dynamic_cfg", False) and c.sampler.name not in ("default", "cogvideox_dpm")
        ),
        message="model.use_dynamic_cfg=true: the makers change the scale from step to step with the DPM solver alone, "
        "not with {c.sampler.name}",
        fix="model.use_dynamic_cfg=false",
        source="https://github.com/zai-org/CogVideo/blob/main/inference/cli_demo.py",
    ),
)

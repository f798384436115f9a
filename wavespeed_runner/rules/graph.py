"""Rules on graphs: what they need a model to do, and values that no stage reads."""

from __future__ import annotations

from dataclasses import fields
from inspect import signature
from math import ceil
from typing import Any

from ..config.schema import Config, StageConfig, top_level
from ..models.family import Family, infer_task, starts_from_image
from ..registry import list_names, lookup
from .rule import Rule, suggest_own

MADE = {"image": "images", "video": "videos"}
OTHER = {"image": "video", "video": "image"}
OTHER_DECODE = {"image": "decode_video", "video": "decode"}
"""The stage that decodes what a family of this kind does not generate."""


def find_denoise_stages(c: Config) -> list[StageConfig]:
    """The denoise stages of the graph."""
    return [stage for stage in c.graph.stages.values() if stage.stage == "denoise"]


def list_tasks(c: Config, f: Family) -> list[str]:
    """The task of each denoise stage, such as `text_to_image`."""
    return [infer_task(f.kind, stage.inputs) for stage in find_denoise_stages(c)]


def _find_unfit_task(c: Config, f: Family) -> str:
    """The first task that the model cannot do; empty if it can do all."""
    return next((task for task in list_tasks(c, f) if task not in f.tasks), "")


def _uses_latents(c: Config) -> bool:
    """True if the graph upscales latents, or denoises from given ones."""
    unpacking = any(stage.stage == "upscale_latents" for stage in c.graph.stages.values())
    return unpacking or any("latents" in stage.inputs for stage in find_denoise_stages(c))


def _reads_image(f: Family) -> bool:
    return "image" in signature(f.encode).parameters


def _has_encoder(c: Config, *, image: bool) -> bool:
    """True if the graph has an encode stage with an image (or one without)."""
    return any(("image" in stage.inputs) == image for stage in c.graph.stages.values() if stage.stage == "encode")


def takes_strength(stage: StageConfig, f: Family) -> bool:
    """True if a denoise stage starts from an image, so that `strength` decides how much of the schedule runs."""
    return starts_from_image(f, infer_task(f.kind, stage.inputs))


def _sets_option(stage: StageConfig, key: str) -> bool:
    """True if the graph gives this option to the stage, which then does not follow the top-level value."""
    return isinstance(stage.options, dict) and key in stage.options


def _is_strength_read(c: Config, f: Family) -> bool:
    """True if a stage starts from an image, and follows the top-level strength."""
    stages = [stage for stage in find_denoise_stages(c) if takes_strength(stage, f)]
    return any(not _sets_option(stage, "strength") for stage in stages)


def _is_strength_unused(c: Config, f: Family) -> bool:
    default = type(c.model).strength
    given = c.graph.strength is not None or not c.strength == c.model.strength == default
    return given and not _is_strength_read(c, f)


def suggest_graph(f: Family, key: str) -> str:
    """The way out where no stage reads a value: a graph that does, if the model has one, or to leave it out.

    Args:
        f: of the model.
        key: `strength`, `image` or `mask`.
    """
    tasks = [task for task in f.tasks if key != "strength" or starts_from_image(f, task)]
    fitting = [task for task in tasks if task == "inpaint" or (key != "mask" and task.startswith("image_"))]
    return f"graph={_name_graph(f, fitting[0])}, or leave {key} out" if fitting else f"leave {key} out"


def _name_graph(f: Family, task: str) -> str:
    """The shipped graph of a task: there is another where the prompt is read together with the image."""
    return f"{task}_seen" if _reads_image(f) and task.startswith("image_") else task


def _name_graphs(f: Family, joint: str) -> str:
    return joint.join(_name_graph(f, task) for task in f.tasks)


def list_unused_values(c: Config, f: Family) -> list[str]:
    """Top-level values of images that no stage reads; whether somebody gave them cannot be seen from a default."""
    unused = [key for key in ("image", "mask") if not _is_value_read(c, key)]
    return unused if _is_strength_read(c, f) else ["strength", *unused]


def _list_parts(c: Config, f: Family) -> list[tuple[int, float]]:
    """Steps and strength of each denoise stage that starts from an image; a stage's own count, if they are numbers."""
    found = []
    for stage in find_denoise_stages(c):
        options = stage.options if isinstance(stage.options, dict) else {}
        steps: Any = options.get("steps", c.steps)
        strength: Any = options.get("strength", c.strength)
        if takes_strength(stage, f) and isinstance(steps, int) and isinstance(strength, int | float):
            found.append((steps, strength))
    return found


def _find_stage_without_steps(c: Config, f: Family) -> str:
    """Steps and strength of a denoise stage that is left without a step; empty if there is no such stage.

    Flow models round up, so they always have one; the others round down.
    """
    parts = _list_parts(c, f) if f.schedule != "flow" else []
    return next((f"steps={steps} strength={part}" for steps, part in parts if int(steps * part) < 1), "")


def _find_whole_part(c: Config, f: Family) -> tuple[int, float] | None:
    """Steps and strength of a stage of a flow model that runs all steps, though its strength is below 1; or None."""
    parts = _list_parts(c, f) if f.schedule == "flow" else []
    return next(
        ((steps, part) for steps, part in parts if 0 < part < 1 <= steps and int(steps - steps * part) < 1), None
    )


def _explain_whole_part(c: Config, f: Family) -> tuple[str, str]:
    """What is to be said of such a stage, and the way out."""
    steps, part = _find_whole_part(c, f) or (1, 0.5)
    enough = ceil(round(1 / (1 - part), 6))
    return (
        f"steps={steps} strength={part}: this model rounds up, to all {steps} steps, so it starts from noise alone, as "
        "with strength=1",
        f"steps={enough} or more, or a lower strength",
    )


def _is_value_read(c: Config, key: str) -> bool:
    """True if a stage, ours or a plugin's, has an option that follows this top-level value."""
    for stage in c.graph.stages.values():
        if stage.stage in list_names("stage"):
            options = fields(lookup("stage", stage.stage).options)
            if any(option.default == top_level(key) and not _sets_option(stage, option.name) for option in options):
                return True
    return False


GRAPHS: tuple[Rule, ...] = (
    Rule(
        id="decode-fits",
        verdict="bad",
        when=lambda c, f: any(s.stage == OTHER_DECODE[f.kind] for s in c.graph.stages.values()),
        message=lambda c, f: f"the graph makes {MADE[OTHER[f.kind]]}, and this model makes {MADE[f.kind]}",
        fix=lambda c, f: f"graph={_name_graphs(f, ', ')}" if f.tasks else "a graph of the other kind",
    ),
    Rule(
        id="graph-fits",
        verdict="bad",
        when=lambda c, f: bool(_find_unfit_task(c, f)),
        message=lambda c, f: f"the graph asks for {_find_unfit_task(c, f)}, and this model does {f.task_names}",
        fix=lambda c, f: f"graph={_name_graphs(f, ' or ')}" if f.tasks else "another model",
        source="diffusers has no such pipeline of this family",
    ),
    Rule(
        id="latents-fit",
        verdict="bad",
        when=lambda c, f: _uses_latents(c) and (f.unpack_latents is None or f.kind == "video"),
        message="the graph starts from latents, which this model cannot do",
        fix="graph=hires_fix goes by way of pixels",
        source="diffusers' image-to-image pipeline of this family takes images alone",
    ),
    Rule(
        id="encode-needs-image",
        verdict="bad",
        when=lambda c, f: _reads_image(f) and _has_encoder(c, image=False),
        message="this model reads the prompt together with an image, and the graph gives its encode stage none",
        fix=lambda c, f: f"graph={_name_graphs(f, ' or ')}, or wire an image to the stage",
    ),
    Rule(
        id="encode-takes-no-image",
        verdict="bad",
        when=lambda c, f: not _reads_image(f) and _has_encoder(c, image=True),
        message="this model reads the prompt alone, and the graph gives its encode stage an image",
        fix=lambda c, f: f"graph={_name_graphs(f, ' or ')}, or take the image away from the stage",
    ),
    Rule(
        id="strength",
        verdict="bad",
        when=lambda c, f: not 0 < (c.strength or 0) <= 1,
        message="strength={c.strength}: above 0 and at most 1 is needed",
        fix=lambda c, f: suggest_own(c, "strength", "0.6"),
    ),
    Rule(
        id="strength-unused",
        verdict="bad",
        when=_is_strength_unused,
        message="strength={c.strength}: no stage of the graph takes it, so it could not take effect",
        fix=lambda c, f: suggest_graph(f, "strength"),
    ),
    Rule(
        id="strength-steps",
        verdict="bad",
        when=lambda c, f: bool(_find_stage_without_steps(c, f)),
        message=lambda c, f: f"{_find_stage_without_steps(c, f)}: that is less than one step of this model",
        fix="more steps, or a higher strength: their product must be 1 or more",
    ),
    Rule(
        id="strength-whole",
        verdict="unverified",
        when=lambda c, f: _find_whole_part(c, f) is not None,
        message=lambda c, f: _explain_whole_part(c, f)[0],
        fix=lambda c, f: _explain_whole_part(c, f)[1],
        source="get_timesteps of diffusers' FluxImg2ImgPipeline",
    ),
    Rule(
        id="fps",
        verdict="bad",
        when=lambda c, f: not 1 <= (c.model.fps or 0) <= 240 if f.kind == "video" else c.model.fps is not None,
        message="model.fps={c.model.fps}: 1 to 240 for models of videos, null for models of images",
        fix="leave model.fps out",
    ),
    Rule(
        id="strength-of-stage",
        verdict="bad",
        when=lambda c, f: any(_sets_option(s, "strength") and not takes_strength(s, f) for s in find_denoise_stages(c)),
        message="the graph gives a strength to a denoise stage that starts from pure noise, where it could not take "
        "effect",
        fix="wire an image to it, or leave its strength out",
    ),
    Rule(
        id="image-unused",
        verdict="bad",
        when=lambda c, f: c.image != Config.image and not _is_value_read(c, "image"),
        message="image={c.image}: no stage of the graph reads it, so it could not take effect",
        fix=lambda c, f: suggest_graph(f, "image"),
    ),
    Rule(
        id="mask-unused",
        verdict="bad",
        when=lambda c, f: c.mask != Config.mask and not _is_value_read(c, "mask"),
        message="mask={c.mask}: no stage of the graph reads it, so it could not take effect",
        fix=lambda c, f: suggest_graph(f, "mask"),
    ),
)

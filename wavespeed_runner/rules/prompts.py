"""Rules on how prompts are read: weighted, in chunks."""

from __future__ import annotations

from inspect import signature

from ..config.schema import Config, Weighting
from ..models.family import Family
from .rule import Rule


def weighs_prompts(f: Family) -> bool:
    """Whether the family's prompts can be weighted and read in chunks: those that CLIP alone reads."""
    return "reading" in signature(f.encode).parameters


def _encodes(c: Config) -> bool:
    return any(stage.stage == "encode" for stage in c.graph.stages.values())


READING: tuple[Rule, ...] = (
    Rule(
        id="texts-beside-path",
        verdict="unverified",
        when=lambda c, f: c.prompt is None and c.prompts.path is not None and bool(c.prompts.texts),
        message=lambda c, f: (
            f"prompts.path={c.prompts.path}: its prompts are taken, and not the "
            f"{len(c.prompts.texts or ())} of prompts.texts"
        ),
        fix="prompts=listed takes those of prompts.texts",
    ),
    Rule(
        id="weighting-fits",
        verdict="bad",
        when=lambda c, f: c.prompts.weighting is not Weighting.none and not (weighs_prompts(f) and _encodes(c)),
        message="prompts.weighting={c.prompts.weighting.value}: it is defined for prompts that CLIP alone reads, and "
        "this model reads them with another encoder",
        fix="prompts.weighting=none, or a model such as sd15, sd21, sdxl",
        # Which has weights for T5 as well, and drops them.
        source="https://github.com/AUTOMATIC1111/stable-diffusion-webui, modules/models/sd3/sd3_cond.py",
    ),
    Rule(
        id="chunked-fits",
        verdict="bad",
        when=lambda c, f: c.prompts.chunked and not (weighs_prompts(f) and _encodes(c)),
        message="prompts.chunked=true: it is for the 75 tokens of CLIP, and this model reads prompts with another "
        "encoder",
        fix="leave prompts.chunked out; model.max_sequence_length is the limit of many models",
        source="https://github.com/AUTOMATIC1111/stable-diffusion-webui, modules/sd_hijack_clip.py",
    ),
)

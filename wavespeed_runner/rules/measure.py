"""Rules on measuring: the reference's own number of steps, taking turns, and the noise floor."""

from __future__ import annotations

from dataclasses import fields

from ..config.measure import NoiseFloor
from ..config.schema import Config, StageConfig, top_level
from ..models.family import Family
from ..registry import list_names, lookup
from ..samplers import find_max_steps
from .rule import Rule


def _find_most_steps(c: Config, f: Family) -> int:
    return min(1000, find_max_steps(f, c.sampler) or 1000)


def _counts_steps(stage: StageConfig) -> bool:
    """True if a stage, ours or a plugin's, has an option that follows the top-level steps."""
    if stage.stage not in list_names("stage"):
        return False
    return any(field.default == top_level("steps") for field in fields(lookup("stage", stage.stage).options))


def _list_stages_with_own_steps(c: Config) -> list[str]:
    """Names of the stages to which the graph gives steps of their own."""
    return [
        name
        for name, stage in c.graph.stages.items()
        if _counts_steps(stage) and isinstance(stage.options, dict) and "steps" in stage.options
    ]


def _has_reference_steps(c: Config) -> bool:
    return c.measure.reference_steps is not None


def _is_out_of_range(c: Config, f: Family) -> bool:
    wanted = c.measure.reference_steps
    return wanted is not None and not max(c.steps or 0, 1) <= wanted <= _find_most_steps(c, f)


MEASURING: tuple[Rule, ...] = (
    Rule(
        id="reference-steps-unused",
        verdict="bad",
        when=lambda c, f: _has_reference_steps(c) and not c.measure.reference,
        message="measure.reference_steps={c.measure.reference_steps}: there is no reference with "
        "measure.reference=false, so it could not take effect",
        fix="measure.reference=true, or leave it out",
    ),
    Rule(
        id="reference-steps-range",
        verdict="bad",
        when=_is_out_of_range,
        message=lambda c, f: (
            f"measure.reference_steps={c.measure.reference_steps}: from the run's own {c.steps} to "
            f"{_find_most_steps(c, f)} is allowed; a run cannot be compared with fewer steps than its own"
        ),
        fix="leave it out for as many as the run",
    ),
    Rule(
        id="reference-steps-own",
        verdict="bad",
        when=lambda c, f: _has_reference_steps(c) and bool(_list_stages_with_own_steps(c)),
        message=lambda c, f: (
            f"measure.reference_steps={c.measure.reference_steps}: the graph gives steps of their own to "
            f"{', '.join(_list_stages_with_own_steps(c))}, which would not follow it"
        ),
        fix="leave measure.reference_steps out, or graph.stages.*.options.steps",
    ),
    Rule(
        id="reference-steps-nobody",
        verdict="bad",
        when=lambda c, f: (
            _has_reference_steps(c) and not any(_counts_steps(stage) for stage in c.graph.stages.values())
        ),
        message="measure.reference_steps={c.measure.reference_steps}: no stage of the graph counts steps, so it could "
        "not take effect",
        fix="leave it out",
    ),
    Rule(
        id="in-turn-unused",
        verdict="bad",
        when=lambda c, f: c.measure.in_turn and not c.measure.reference,
        message="measure.in_turn=true: there is no reference to take turns with, with measure.reference=false",
        fix="measure.reference=true, or leave it out; rerun=true denoises again",
    ),
    Rule(
        id="noise-floor-unused",
        verdict="bad",
        when=lambda c, f: c.measure.noise_floor is not NoiseFloor.none and not c.measure.reference,
        message="measure.noise_floor={c.measure.noise_floor.value}: it is the reference's, and there is none with "
        "measure.reference=false",
        fix="measure.reference=true, or measure.noise_floor=none",
    ),
)

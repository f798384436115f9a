"""Rules on measuring: the reference's own sampler and number of steps, taking turns, and the noise floor."""

from __future__ import annotations

from dataclasses import fields

from ..accelerate.adapter_training import read_trainings
from ..config.measure import NoiseFloor, find_reference_steps, has_own_reference
from ..config.schema import Config, SamplerConfig, StageConfig, top_level
from ..models.family import Family
from ..registry import list_names, lookup
from ..samplers import (
    DefaultSampler,
    find_max_steps,
    fitted,
    full_sampler,
    is_own_sampler,
    is_stochastic,
    resolve_sampler,
)
from .rule import Rule
from .training import FEW_STEPS, SAMPLERS_OF, describe_name, find_distillations

MOST_REFERENCE_STEPS = 1000


def _find_most_steps(c: Config, f: Family) -> int:
    """Of the reference."""
    sampler = _find_reference_sampler(c, f)
    return min(MOST_REFERENCE_STEPS, find_max_steps(f, sampler) or MOST_REFERENCE_STEPS)


def _find_reference_sampler(c: Config, f: Family) -> SamplerConfig:
    if not has_own_reference(c):
        return c.sampler
    # A fitted one stands for another sampler where the model's own draws fresh noise.
    own = full_sampler(f, c.model) if c.sampler.name == fitted.NAME else DefaultSampler()
    return resolve_sampler(f, c.model, own)


def _has_other_sampler(c: Config, f: Family) -> bool:
    """Whether the run's sampler is not its reference's."""
    return has_own_reference(c) and not is_own_sampler(f, c.model, c.sampler)


def _find_fewest_steps(c: Config, f: Family) -> int:
    """Of the reference: with the same sampler not fewer than the run's."""
    return 1 if _has_other_sampler(c, f) else max(c.steps or 0, 1)


def _follows(stage: StageConfig, key: str) -> bool:
    """True if a stage, ours or a plugin's, has an option that follows the top-level `steps` or `sampler`."""
    if stage.stage not in list_names("stage"):
        return False
    return any(field.default == top_level(key) for field in fields(lookup("stage", stage.stage).options))


def _list_stages_with_own(c: Config, *keys: str) -> list[str]:
    """`steps of denoise`: what the graph gives to single stages of what the reference would change."""
    return [
        f"{key} of {name}"
        for name, stage in c.graph.stages.items()
        for key in keys
        if _follows(stage, key) and isinstance(stage.options, dict) and key in stage.options
    ]


def _has_reference_steps(c: Config) -> bool:
    return c.measure.reference_steps is not None


def _is_out_of_range(c: Config, f: Family) -> bool:
    wanted = c.measure.reference_steps
    return wanted is not None and not _find_fewest_steps(c, f) <= wanted <= _find_most_steps(c, f)


def _has_more_steps_than_reference(c: Config) -> bool:
    return has_own_reference(c) and (c.steps or 0) > (find_reference_steps(c) or 0)


def _describe_range(c: Config, f: Family) -> str:
    start = f"measure.reference_steps={c.measure.reference_steps}: from "
    if _has_other_sampler(c, f):
        return f"{start}1 to {_find_most_steps(c, f)} is allowed"
    return (
        f"{start}the run's own {c.steps} to {_find_most_steps(c, f)} is allowed; a run cannot be compared with fewer "
        "steps than its own"
    )


def _explain_unfit_lora(c: Config, f: Family) -> str:
    """Which distilled LoRA makes a reference of sampler and steps that it was not made for; empty: none does."""
    if not (c.measure.reference and has_own_reference(c)) or f.is_distilled(c.model):
        return ""
    sampler, steps = _find_reference_sampler(c, f).name, find_reference_steps(c) or 0
    for each in (training for training in read_trainings(c.adapters) if training.distillation):
        known = SAMPLERS_OF.get(str(each.distillation), ()) if each in find_distillations(c, f) else ()
        wrong = [f"sampler={sampler}"] if known and sampler not in known else []
        wrong += [f"steps={steps}"] if steps > (each.steps or FEW_STEPS) else []
        if wrong:
            return f"{describe_name(each)}, and the reference is run with {' and '.join(wrong)}"
    return ""


def _fix_range(c: Config, f: Family) -> str:
    if not has_own_reference(c):
        return "leave it out for as many as the run's own"
    if c.model.steps is not None and _find_fewest_steps(c, f) <= c.model.steps <= _find_most_steps(c, f):
        return "leave it out for as many as the model's own"
    return f"measure.reference_steps={min(_find_fewest_steps(c, f), _find_most_steps(c, f))}"


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
        message=_describe_range,
        fix=_fix_range,
    ),
    Rule(
        id="reference-steps-own",
        verdict="bad",
        when=lambda c, f: _has_reference_steps(c) and bool(_list_stages_with_own(c, "steps")),
        message=lambda c, f: (
            f"measure.reference_steps={c.measure.reference_steps}: the graph sets "
            f"{', '.join(_list_stages_with_own(c, 'steps'))}, which would not follow it"
        ),
        fix="leave measure.reference_steps out, or graph.stages.*.options.steps",
    ),
    Rule(
        id="reference-steps-nobody",
        verdict="bad",
        when=lambda c, f: (
            _has_reference_steps(c) and not any(_follows(stage, "steps") for stage in c.graph.stages.values())
        ),
        message="measure.reference_steps={c.measure.reference_steps}: no stage of the graph counts steps, so it could "
        "not take effect",
        fix="leave it out",
    ),
    Rule(
        id="reference-sampler-unused",
        verdict="bad",
        when=lambda c, f: c.measure.reference_sampler is not None and not c.measure.reference,
        message="measure.reference_sampler={c.measure.reference_sampler.value}: there is no reference with "
        "measure.reference=false, so it could not take effect",
        fix="measure.reference=true, or leave it out",
    ),
    Rule(
        id="reference-sampler-stages",
        verdict="bad",
        when=lambda c, f: has_own_reference(c) and bool(_list_stages_with_own(c, "sampler", "steps")),
        message=lambda c, f: (
            f"measure.reference_sampler=own: the graph sets {', '.join(_list_stages_with_own(c, 'sampler', 'steps'))}, "
            "which would not follow it"
        ),
        fix="leave measure.reference_sampler out, or graph.stages.*.options.sampler and steps",
    ),
    Rule(
        id="reference-sampler-nobody",
        verdict="bad",
        when=lambda c, f: (
            has_own_reference(c) and not any(_follows(stage, "sampler") for stage in c.graph.stages.values())
        ),
        message="measure.reference_sampler=own: no stage of the graph has a sampler, so it could not take effect",
        fix="leave it out",
    ),
    Rule(
        id="reference-sampler-steps",
        verdict="bad",
        when=lambda c, f: (
            _has_more_steps_than_reference(c) and not _has_reference_steps(c) and not _has_other_sampler(c, f)
        ),
        message="measure.reference_sampler=own: the reference has the {c.model.steps} steps of the model's own, and "
        "steps={c.steps} of the same sampler cannot be compared with fewer",
        fix="measure.reference_steps={c.steps}, or leave measure.reference_sampler out",
    ),
    Rule(
        id="reference-sampler-more-steps",
        verdict="unverified",
        when=lambda c, f: _has_more_steps_than_reference(c) and _has_other_sampler(c, f),
        message=lambda c, f: (
            f"steps={c.steps}: the reference has {find_reference_steps(c)} steps of the model's own sampler; where the "
            "two differ, the reference need not be the better one"
        ),
        fix=lambda c, f: f"measure.reference_steps={min(c.steps or 1, _find_most_steps(c, f))} or more",
    ),
    Rule(
        id="reference-sampler-noise",
        verdict="unverified",
        when=lambda c, f: (
            c.measure.reference
            and _has_other_sampler(c, f)
            and any(
                is_stochastic(each) for each in (resolve_sampler(f, c.model, c.sampler), _find_reference_sampler(c, f))
            )
        ),
        message="measure.reference_sampler=own: of sampler {c.sampler.name} and the model's own, one draws fresh noise "
        "in each step, so the images differ by that noise as well",
        fix="a deterministic sampler, or measure.reference_sampler=same",
    ),
    Rule(
        id="reference-sampler-lora",
        verdict="unverified",
        when=lambda c, f: bool(_explain_unfit_lora(c, f)),
        message=lambda c, f: f"measure.reference_sampler=own: {_explain_unfit_lora(c, f)}",
        fix="measure.reference_sampler=same",
        source="tests/rules/test_measure.py",
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

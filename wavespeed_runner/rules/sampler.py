"""Rules on samplers: which fit a model and a graph, and how they affect caches. Facts: `samplers/table.py`."""

from __future__ import annotations

from ..accelerate.adapter_training import read_trainings
from ..config.schema import Config, Init, SamplerConfig
from ..models.family import Family
from ..models.weights.file_flags import find_scheduler
from ..samplers import (
    count_denoiser_calls,
    deterministic_samplers,
    find_imageless,
    find_max_steps,
    fitting_samplers,
    is_stochastic,
    model_default_sampler,
    required_distillation,
    resolve_sampler,
    why_option_unused,
    why_unfit,
    why_unfit_for_task,
)
from ..samplers.few_steps import MEASURED_ON
from .cache import is_cached, watches_change
from .graph import list_tasks
from .rule import Rule
from .training import SAMPLERS_OF, find_distillations


def _explain_unfit_task(c: Config, f: Family) -> str:
    return next((why for task in list_tasks(c, f) if (why := why_unfit_for_task(f, c.sampler.name, task))), "")


def _resolve_sampler(c: Config, f: Family) -> SamplerConfig:
    return resolve_sampler(f, c.model, c.sampler)


def _count_calls(c: Config, f: Family) -> int:
    return count_denoiser_calls(_resolve_sampler(c, f), c.steps or 0)


def _describe_sampler(c: Config, f: Family) -> str:
    """The sampler's name as the subject of a sentence."""
    if c.sampler.name != "default":
        return f"sampler {c.sampler.name}"
    return f"this model's own sampler, {_resolve_sampler(c, f).name},"


def _find_deterministic(c: Config, f: Family) -> str:
    """A sampler without fresh noise: the model's own if it has none."""
    return (
        "default" if not is_stochastic(model_default_sampler(f, c.model)) else next(iter(deterministic_samplers(f)), "")
    )


def _find_imageless(c: Config, f: Family) -> tuple[str, list[int]]:
    """Sampler and spacing that gave no image in so few steps: from noise, of weights that were made for many."""
    made_for_few = f.schedule != "diffusion" or f.is_distilled(c.model) or bool(find_distillations(c, f))
    from_noise = any(task.startswith("text_to") for task in list_tasks(c, f))
    if c.model.init is not Init.pretrained or made_for_few or not from_noise:
        return "", []
    return find_imageless(_resolve_sampler(c, f), c.steps or 0, find_scheduler(f, c.model))


def _has_too_few_steps(c: Config, f: Family) -> bool:
    return bool(_find_imageless(c, f)[0])


def _is_measured(c: Config) -> bool:
    return c.model.repo == MEASURED_ON


def _describe_too_few(c: Config, f: Family) -> str:
    whose = "this model's own sampler, " if c.sampler.name == "default" else "sampler "
    return (
        f"steps={c.steps}: {whose}{_find_imageless(c, f)[0]} gave no image in {c.steps} steps on "
        f"{'this model' if _is_measured(c) else 'the demo U-Net'} (median SSIM to its full steps below 0.5)"
    )


def _fix_too_few(c: Config, f: Family) -> str:
    more = next((steps for steps in _find_imageless(c, f)[1] if steps > (c.steps or 0)), None)
    return f"steps={more}, or sampler=default" if more else "sampler=default"


SAMPLERS: tuple[Rule, ...] = (
    Rule(
        id="sampler-fits",
        verdict="bad",
        when=lambda c, f: bool(why_unfit(f, c.sampler.name)),
        message=lambda c, f: f"sampler={c.sampler.name}: not for this model: {why_unfit(f, c.sampler.name)}",
        fix=lambda c, f: f"one of {', '.join(fitting_samplers(f))}",
        source="tests/samplers/test_build_scheduler.py",
    ),
    Rule(
        id="sampler-task",
        verdict="bad",
        when=lambda c, f: bool(_explain_unfit_task(c, f)),
        message=lambda c, f: f"sampler={_explain_unfit_task(c, f)}",
        fix="sampler=default, or a sampler of one call a step",
        source="tests/samplers/test_every_sampler.py",
    ),
    Rule(
        id="sampler-option",
        verdict="bad",
        when=lambda c, f: bool(why_option_unused(f, c.sampler)),
        message=lambda c, f: why_option_unused(f, c.sampler),
        fix="leave it out",
        source="tests/samplers/test_build_scheduler.py",
    ),
    Rule(
        id="sampler-steps",
        verdict="bad",
        when=lambda c, f: 0 < (find_max_steps(f, c.sampler) or 0) < (c.steps or 0),
        message=lambda c, f: (
            f"steps={c.steps}: sampler {c.sampler.name} has {find_max_steps(f, c.sampler)} steps at most on "
            f"{f.schedule} models, those of its distillation"
        ),
        fix=lambda c, f: f"steps={find_max_steps(f, c.sampler)} or fewer, or sampler=default",
        source="tests/samplers/test_every_sampler.py",
    ),
    Rule(
        id="sampler-no-image",
        verdict="bad",
        when=lambda c, f: _has_too_few_steps(c, f) and _is_measured(c),
        message=_describe_too_few,
        fix=_fix_too_few,
        source="docs/sampling.md",
    ),
    Rule(
        id="sampler-few-steps",
        verdict="unverified",
        when=lambda c, f: _has_too_few_steps(c, f) and not _is_measured(c),
        message=_describe_too_few,
        fix="more steps, or another sampler: docs/sampling.md has what each reached",
        source="docs/sampling.md",
    ),
    Rule(
        id="few-step-model",
        verdict="unverified",
        when=lambda c, f: f.is_distilled(c.model) and _resolve_sampler(c, f) != model_default_sampler(f, c.model),
        message="this model was distilled to {c.model.steps} steps of its own sampler; what "
        "{c.sampler.name} makes of them is unknown",
        fix="sampler=default",
    ),
    Rule(
        id="distilled-sampler",
        verdict="unverified",
        when=lambda c, f: (
            bool(required_distillation(c.sampler))
            and not f.is_distilled(c.model)
            and not any(
                c.sampler.name in SAMPLERS_OF.get(str(each.distillation), ())
                for each in read_trainings(c.adapters)
                if each.distillation
            )
        ),
        message=lambda c, f: (
            f"sampler {c.sampler.name} is for weights made by {required_distillation(c.sampler)} distillation; what "
            "it makes of others is unknown"
        ),
        fix="weights or a LoRA distilled for it, or sampler=default",
        source="https://arxiv.org/abs/2310.04378, https://arxiv.org/abs/2402.19159",
    ),
    Rule(
        id="multi-call-sampler-cache",
        verdict="unverified",
        when=lambda c, f: is_cached(c) and _count_calls(c, f) > (c.steps or 0) + 1,
        message=lambda c, f: (
            f"{_describe_sampler(c, f)} calls the denoiser {_count_calls(c, f)} times in {c.steps} steps: the cache's "
            "window and its hits count calls, and the two calls of a step are close together"
        ),
        fix="a sampler of one call a step, such as dpmpp_2m",
        source="tests/samplers/test_every_sampler.py",
    ),
    Rule(
        id="stochastic-sampler-cache",
        verdict="unverified",
        when=lambda c, f: watches_change(c) and is_stochastic(_resolve_sampler(c, f)),
        message=lambda c, f: (
            f"{_describe_sampler(c, f)} adds fresh noise each step, and what the cache watches changes more: on the "
            "demo model such samplers had hits in 0 to 15 % of the steps, others in 32 to 60 %"
        ),
        fix=lambda c, f: f"a deterministic sampler (sampler={_find_deterministic(c, f)}), or a higher threshold",
        # Users of ComfyUI found the same of SDE samplers, but not of Euler ancestral:
        # https://github.com/chengzeyi/Comfy-WaveSpeed/issues/62
        source="docs/studies/samplers_x_cache",
    ),
)

"""Writes plans as text: what `dry_run=true` prints."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import MISSING, fields
from typing import Any

from ..accelerate.compile_options import TYPED
from ..accelerate.order import ORDER
from ..config.environment import read_device_name
from ..config.lossy import list_lossy
from ..config.schema import Config, Init, ModelConfig, SamplerConfig, Weighting, to_data
from ..errors import make_printable
from ..planning.graph import Graph
from ..planning.plan import Plan
from ..planning.reference import Floor, list_reference_values
from ..registry import find_implementation, lookup
from ..rules.cache_calls import count_steps_by_stage
from ..rules.check import STAGE_VALUES
from ..samplers import is_own_sampler, model_default_sampler
from ..sweeps.jobs import Job
from .plan_parallel import describe_messages, describe_ranks

APPLIED = tuple(applied.group for applied in ORDER)
"""Config groups that are applied to the loaded model, in that order."""


def plans_text(jobs: list[Job]) -> str:
    """The plans of a command's jobs as text.

    Of several jobs, the first plan in full, then one line for each job: how it differs, or why it is skipped.
    """
    first = next(job for job in jobs if job.plan is not None)
    assert first.plan is not None
    if len(jobs) == 1:
        return plan_text(first.plan)
    shared = set.intersection(*(set(job.overrides) for job in jobs))
    skipped = sum(job.plan is None for job in jobs)
    lines, printed = [plan_text(first.plan, first.overrides), "jobs"], set(_remarks(first.plan))
    for job in jobs:
        lines += _job_lines(job, printed, shared, len(str(len(jobs) - 1)))
    return "\n".join([*lines, f"{len(jobs)} jobs" + (f", {skipped} of them skipped" if skipped else "")])


def _job_lines(job: Job, printed: set[str], shared: set[str], width: int) -> list[str]:
    """One line for a job of a sweep, and its remarks that were not printed before, which are added to `printed`."""
    overrides = " ".join(override for override in job.overrides if override not in shared)
    start = f"  {job.number:{width}}  {overrides}"
    if job.plan is None:
        return [f"{start}  skipped: {job.skipped}"]
    stored = sum(keys[job.plan.graph.output] in job.plan.store for keys in job.plan.keys)
    new = [line for line in _remarks(job.plan) if line not in printed]
    printed.update(new)
    return [f"{start}  {stored} of {len(job.plan.keys)} in the store", *(f"  {'':{width}}{line}" for line in new)]


def _remarks(plan: Plan) -> list[str]:
    """What the rules doubt in a plan, and what was set automatically."""
    doubts = [line for line in _verdicts(plan) if line.split()[0] != "good"]
    return doubts + [f"  {change.key}={change.value}: {change.why}" for change in plan.changes]


MOST_NUMBERS = 3
"""Of a list, that the plan shows."""


def plan_text(plan: Plan, overrides: list[str] | None = None) -> str:
    """One plan as text: the stages and what of them is stored, the reference, the rules, what was set automatically.

    Args:
        plan: of a run or a job.
        overrides: of the job, where there are several.
    """
    c, store = plan.config, plan.store
    weights = c.model.repo if c.model.init is Init.pretrained else f"init={c.model.init.value}, random weights"
    weights += f"; VAE {c.model.vae}" if c.model.vae else ""
    guidance = "" if c.guidance_scale is None else f", guidance {c.guidance_scale:g}"
    title = "images     " if c.num_frames is None else "videos     "
    frames = "" if c.num_frames is None else f" x {c.num_frames} frames"
    lines = [f"job: {' '.join(overrides)}"] if overrides else []
    lines += [
        f"model      {c.model.name} ({weights}), {c.model.dtype.value}, on {c.device}: {read_device_name(c.device)}"
        f"{_list_own_options(c.model, ModelConfig, ('shift',) if getattr(c.sampler, 'shift', None) else ())}",
        f"{title}{len(plan.samples)}, {c.width}x{c.height}{frames}, {_steps(plan)}{guidance}, {_seeds(plan)}, "
        f"sampler {c.sampler.name}{_list_own_options(c.sampler, SamplerConfig)}, cache {make_printable(c.cache.title)}",
        *(f"           {sample.prompt!r}" for sample in plan.samples[:4]),
        *([f"           and {len(plan.samples) - 4} more"] if len(plan.samples) > 4 else []),
        *_negative(plan),
        *_unusual_options(plan),
        *describe_ranks(c),
        *describe_messages(c),
        "stages",
        *_stages(plan, plan.graph, plan.keys),
        f"reference  {_reference(plan)}",
        *(_stages(plan, plan.reference, plan.reference_keys) if plan.reference else []),
        *(_floor(plan, floor) for floor in plan.floors),
        "rules",
        *(_verdicts(plan) or ["  none speaks"]),
    ]
    lines += ["set automatically", *(f"  {x.key}={x.value}: {x.why}" for x in plan.changes)] if plan.changes else []
    count, size = store.size()
    lines += [f"store      {store.root}: {count} entries, {size / 1e6:.1f} MB", f"fingerprint {plan.fingerprint}"]
    return "\n".join(lines) + "\n"


def _list_own_options(options: Any, base: type, replaced: Collection[str] = ()) -> str:
    """Values of a model's or sampler's own keys (those that not all have) that differ from its class's defaults.

    Args:
        options: the model's or the sampler's.
        base: the class that has the keys of all.
        replaced: keys that have no effect here, as a model's shift where the sampler has one.
    """
    known = {*(field.name for field in fields(base)), *replaced}
    own = []
    for field in fields(options):
        plain = field.default if field.default_factory is MISSING else field.default_factory()
        value = getattr(options, field.name)
        if field.name not in known and field.name != "calibrated_for" and value != plain:
            long = isinstance(value, list) and len(value) > MOST_NUMBERS
            own.append(f"{field.name}={f'[{len(value)} numbers]' if long else to_data(value)}")
    return f" ({', '.join(own)})" if own else ""


def _seeds(plan: Plan) -> str:
    """`seed 0`; `seeds 0 to 47, each prompt its own` where prompts do not share theirs."""
    first, last = plan.samples[0].seed, plan.samples[-1].seed
    own = last - first >= plan.config.num_images_per_prompt
    return f"seeds {first} to {last}, each prompt its own" if own else f"seed {first}"


def _negative(plan: Plan) -> list[str]:
    """The negative prompt that was typed; the model's own stands below, among what was set automatically."""
    is_own = any(change.key == "negative_prompt" for change in plan.changes)
    return [f"negative   {plan.config.negative_prompt!r}"] if plan.config.negative_prompt and not is_own else []


def _steps(plan: Plan) -> str:
    """`28 steps`; `28 steps, of which 17 run at strength 0.6 (denoise)` where a stage starts from an image."""
    c, family = plan.config, find_implementation("model", plan.config.model)
    nodes = [node for node in plan.graph.nodes.values() if node.stage.name == "denoise"]
    counts = count_steps_by_stage(c, family)
    parts = [
        f", of which {count} run at strength {node.options.strength:g} ({node.name})"
        for node, count in zip(nodes, counts, strict=False)
        if count < node.options.steps
    ]
    return f"{c.steps} steps{''.join(parts)}"


def _unusual_options(plan: Plan) -> list[str]:
    """What is applied to the model and to prompts, and batches, where they differ from the defaults."""
    c = plan.config
    lines = []
    for group in APPLIED:
        options = getattr(c, group)
        plain = to_data(lookup(group, options.name).options())
        keys = [f"{k}={v}" for k, v in to_data(options).items() if v != plain.get(k) and k != "name"]
        named = [] if options.name in ("none", "settings") else [TYPED.get(options.name, options.name)]
        if named or keys:
            lines.append(f"{group:10} {' '.join([*named, ', '.join(keys)]).rstrip()}")
    read = [*([f"weighting={c.prompts.weighting.value}"] if c.prompts.weighting is not Weighting.none else [])]
    read += ["chunked"] if c.prompts.chunked else []
    lines += [f"prompts    {', '.join(read)}"] if read else []
    lines += [f"metrics    {_describe_judges(c)}"] if c.metrics else []
    return lines + ([f"batches    of {c.batch_size}"] if c.batch_size > 1 else [])


def _describe_judges(c: Config) -> str:
    """`lpips (net=alex, weights=FILE), scene`: what judges the images beside SSIM, PSNR and MAE."""
    named = []
    for name, options in c.metrics.items():
        keys = ", ".join(f"{key}={value}" for key, value in to_data(options).items())
        named.append(f"{name} ({keys})" if keys else name)
    return ", ".join(named)


def _stages(plan: Plan, graph: Graph, keys: list[dict[str, str]]) -> list[str]:
    """One line for each stage: what of it is stored, its inputs, and values of its own that differ from the run's."""
    lines, store = [], plan.store
    stages = {name: node.stage.name for name, node in graph.nodes.items()}
    labels = {name: name if name == stage else f"{name} ({stage})" for name, stage in stages.items()}
    width = max(12, *map(len, labels.values()))
    for name, node in graph.nodes.items():
        sources = ", ".join(f"{i}={source}" for i, source in node.inputs.items())
        count = sum(k[name] in store for k in keys)
        stored = f"{count} of {len(keys)} in the store" if node.stage.pure else "in memory, if needed"
        values = {key: getattr(node.options, key) for key in STAGE_VALUES if hasattr(node.options, key)}
        other = "".join(
            f" {k}={TYPED.get(getattr(v, 'name', v), getattr(v, 'name', v))}"
            for k, v in values.items()
            if v != getattr(plan.config, k)
        )
        lines.append(f"  {labels[name]:{width}} {stored:22} {sources}{other}".rstrip())
    return lines


def _reference(plan: Plan) -> str:
    c, own = plan.config, list_reference_values(plan.config)
    if plan.reference_kind == "self":
        same = ", and sampler and steps are the model's own" if "sampler" in own else ""
        if same and c.steps != c.model.steps:
            same = ", the sampler is the model's own, and the steps are those of measure.reference_steps"
        return f"this run itself: nothing lossy is on{same}"
    if plan.reference_kind == "none":
        return "none (measure.reference=false)"
    other = [f"{key}={value} instead of {given}" for key, value, given in list_lossy(to_data(c))]
    other += [_own_sampler(c)] if "sampler" in own else []
    if "steps" in own:
        other.append(f"{own['steps']} steps" + (f" instead of {c.steps}" if own["steps"] != c.steps else ""))
    return f"the same with {' and '.join(other)}: same prompts and noise"


def _own_sampler(c: Config) -> str:
    """`the model's own sampler (euler) instead of unipc (shift=3.0)`."""
    family = find_implementation("model", c.model)
    known = model_default_sampler(family, c.model).name
    named = "the model's own sampler" + (f" ({known})" if known != "default" else "")
    given = f" instead of {c.sampler.name}{_list_own_options(c.sampler, SamplerConfig)}"
    return named + ("" if is_own_sampler(family, c.model, c.sampler) else given)


def _floor(plan: Plan, floor: Floor) -> str:
    how = "once more" if floor.kind == "repeat" else f"in {floor.what}"
    stored = sum(keys[floor.graph.output] in plan.store for keys in floor.keys)
    return f"floor      the reference {how}, untimed: {stored} of {len(floor.keys)} in the store"


def _verdicts(plan: Plan) -> list[str]:
    lines = []
    for v in plan.verdicts:
        fix = f"; fix: {v.fix}" if v.fix else ""
        source = f" [{v.source}]" if v.source else ""
        lines.append(f"  {v.verdict:10} {v.rule}: {v.message}{fix}{source}")
    return lines

"""Makes the record of a new run, and the summaries over its images that go into it."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from statistics import median

import msgspec

from ..config import trust
from ..config.environment import describe_environment
from ..config.schema import KEYS_NOT_IN_IMAGES, Config, SamplerConfig, Seeds, to_data
from ..metrics.timing import summarize_timings
from ..planning.plan import Plan
from ..planning.reference import list_reference_values
from ..registry import find_implementation
from ..samplers import DefaultSampler, is_own_sampler
from ..storage.atomic import write_text
from ..storage.yaml_text import dump_yaml
from .record import (
    SCHEMA_VERSION,
    CacheSummary,
    Environment,
    MemorySummary,
    PlanChange,
    PlanSummary,
    Record,
    Reference,
    RuleVerdict,
    Timing,
)
from .sample import Engaged, SampleRecord

IMAGE_KEY = "wavespeed_runner"
"""The PNG text chunk, and the MP4 tag, that holds an image's config and fingerprint as JSON."""
PIXELS = "pixels_sha256"
"""The MP4 tag that holds the digest of the frames, as they were before they were encoded."""


def new_record(plan: Plan, overrides: list[str]) -> Record:
    """Makes the record of a run that has not begun; a kill at any moment leaves it `interrupted`."""
    return Record(
        schema_version=SCHEMA_VERSION,
        status="interrupted",
        error=None,
        fingerprint=plan.fingerprint,
        config=to_data(plan.config),
        overrides=overrides,
        environment=msgspec.convert(describe_environment(plan.config.device), Environment),
        plan=PlanSummary(
            stages=list(plan.graph.nodes),
            prompts=[sample.prompt for sample in plan.samples[:: plan.config.num_images_per_prompt]],
            verdicts=[msgspec.convert(asdict(verdict), RuleVerdict) for verdict in plan.verdicts],
            changes=[PlanChange(key=change.key, value=change.value, why=change.why) for change in plan.changes],
        ),
        reference=_describe_reference(plan),
        engaged=Engaged(),
        stages=[],
        samples=[],
        cache=None,
        timing=None,
        quality=None,
        noise_floor=None,
        warnings=[],
        identity=plan.identity,
    )


def _describe_reference(plan: Plan) -> Reference:
    """What the run is compared with, with the sampler and the steps of a reference run."""
    reference = msgspec.convert({"kind": plan.reference_kind}, Reference)
    if plan.reference:
        own = list_reference_values(plan.config)
        run, other = (_name_own_default(plan.config, each) for each in (plan.config.sampler, own.get("sampler")))
        reference.sampler = to_data(other or run)
        reference.same_sampler = run == (other or run) and to_data(plan.config.sampler) != reference.sampler
        reference.steps = own.get("steps", plan.config.steps)
    return reference


def _name_own_default(config: Config, sampler: SamplerConfig | None) -> SamplerConfig | None:
    """`default` for the model's own sampler that was named, such as `euler`: both compute the same."""
    family = find_implementation("model", config.model)
    return DefaultSampler() if sampler and is_own_sampler(family, config.model, sampler) else sampler


def cache_summary(samples: list[SampleRecord]) -> CacheSummary:
    """Counts cached and computed steps over all images."""
    computed_steps = [[step.index for step in sample.steps if step.computed] for sample in samples]
    total = sum(len(sample.steps) for sample in samples)
    computed = sum(map(len, computed_steps))
    all_agree = all(steps == computed_steps[0] for steps in computed_steps)
    return CacheSummary(
        hits=total - computed,
        computed=computed,
        computed_steps=[*computed_steps[0]] if all_agree and computed_steps else [*computed_steps],
        hit_rate=(total - computed) / total if total else 0.0,
        predicted=None,
    )


def timing_summary(samples: list[SampleRecord]) -> Timing:
    """Summarizes the denoising times of all images; the speedup is the ratio of the medians."""
    times = summarize_timings([seconds for sample in samples for seconds in sample.raw_seconds])
    references = [seconds for sample in samples for seconds in sample.reference_raw_seconds or ()]
    reference_median = median(references) if references else None
    void = next((sample.timing_void for sample in samples if sample.timing_void), None)
    return Timing(
        first_call=samples[0].first_call,
        compile_seconds=samples[0].compile_seconds,
        **times,
        reference_raw=references or None,
        reference_median=reference_median,
        speedup=reference_median / times["median"] if reference_median and not void else None,
        void=void,
        # Only then were both timed on a machine in the same state.
        same_run=all(bool(sample.timed_together) for sample in samples) if references else None,
    )


def memory_summary(samples: list[SampleRecord]) -> MemorySummary:
    """Bytes of the weights, and at the peak of denoising, over all images."""
    passes = [engaged.weights for sample in samples for engaged in sample.engaged.values() if engaged.weights]
    peaks = [sample.peak_memory_bytes for sample in samples if sample.peak_memory_bytes is not None]
    weights = max((sum(components.values()) for components in passes), default=None)
    return MemorySummary(weight_bytes=weights, peak_bytes=max(peaks, default=None))


def image_data(config: Config, prompt: str, seed: int, fingerprint: str) -> dict[str, str]:
    """Makes the metadata of an image: the config that produces this one image, and the fingerprint of that run."""
    data = {k: v for k, v in trust.remove_places(to_data(config)).items() if k not in (*KEYS_NOT_IN_IMAGES, "metrics")}
    data.update(prompt=prompt, seed=seed, seeds=Seeds.same.value, num_images_per_prompt=1)
    data["prompts"] = {**data["prompts"], "texts": None}  # other images' prompts are not this one's to tell
    if data["parallel"]["name"] == "data":  # its ranks share several images, and one rank made this one
        data["parallel"] = {"name": "none"}
    return {IMAGE_KEY: json.dumps({"config": data, "fingerprint": fingerprint}, sort_keys=True)}


def write_config(folder: Path, plan: Plan) -> None:
    """Writes the resolved config beside the record as YAML, which `replay` takes too."""
    head = f"# Run it again: python -m wavespeed_runner replay config.yaml\n# fingerprint: {plan.fingerprint}\n"
    write_text(folder / "config.yaml", head + dump_yaml(to_data(plan.config)))

"""Calibration: runs a few prompts uncached and records what cache strategies need to know of the model."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..caching.calibration.build import RecordedNumbers, build_calibration, summarize_recording
from ..caching.calibration.data import Calibration, build_file_name, build_key, compare_keys
from ..caching.calibration.file import load, load_key, save
from ..caching.calibration.recorder import Recorder, build_recording_cache
from ..config.chosen import sets_key
from ..config.compose import composer, find_key
from ..config.denoise_options import DenoiseOptions
from ..config.environment import read_versions
from ..errors import ConfigError
from ..planning.graph import Node
from ..registry import find_implementation
from ..stages.denoise import denoise
from ..sweeps.jobs import Job, plan_jobs
from .denoising import run_denoising
from .importance import LEAST_STEPS, measure_importance

if TYPE_CHECKING:
    from ..artifacts import Latents
    from ..planning.plan import Plan

IMPORTANCE = 8
"""Images that tell what an error at each step costs."""
PROMPTS = ("prompts", "prompts.path", "prompts.texts", "prompt", "experiment")
"""Overrides that choose the prompts; without one of them, `prompts=calibration` is taken."""


def plan_uncached_runs(args: Namespace, *, blocks: bool = True) -> Plan:
    """The plan of the uncached runs that a calibration or a search makes.

    Args:
        args: `overrides`, `config_dir` and `multirun`, as parsed. Unless they or their experiment say otherwise, each
            of several prompts has seeds of its own: one seed for all would show how one noise behaves.
        blocks: refuse models whose blocks are not known.

    Raises:
        ConfigError: a cache strategy is on, there are several jobs, or no strategy can act on the model.
    """
    typed = {find_key(override) for override in args.overrides}
    chosen = [] if typed & {*PROMPTS} else ["prompts=calibration"]
    jobs = _plan(args, chosen)
    plan = jobs[0].plan
    if plan and len(plan.samples) > plan.config.num_images_per_prompt and not _has_seeds(args):
        jobs = _plan(args, [*chosen, "seeds=per_prompt"])
        plan = jobs[0].plan
    if len(jobs) > 1 or plan is None:
        raise ConfigError(f"{len(jobs)} jobs: one model and one setting are calibrated at a time")
    if plan.config.dry_run:
        raise ConfigError(
            "dry_run=true: this command has no dry run; python -m wavespeed_runner with these overrides shows the plan"
        )
    if plan.config.cache.name != "none":
        raise ConfigError(f"cache={plan.config.cache.title}: calibration runs are uncached; leave it out")
    if plan.config.parallel.name != "none":
        raise ConfigError(
            f"parallel={plan.config.parallel.name}: this command works in one process; leave it out. What it finds out "
            "holds for any number of ranks"
        )
    if blocks and find_implementation("model", plan.config.model).blocks is None:
        raise ConfigError(f"model.name={plan.config.model.name}: it has no blocks that a strategy could skip")
    return plan


def _plan(args: Namespace, chosen: list[str]) -> list[Job]:
    return plan_jobs(Namespace(**{**vars(args), "overrides": [*chosen, *args.overrides]}))


def _has_seeds(args: Namespace) -> bool:
    """Whether `seeds` were typed, or stand in the chosen experiment."""
    if any(find_key(override) == "seeds" for override in args.overrides):
        return True
    with composer(args.config_dir):
        return sets_key(args.overrides, "experiment", "seeds")


def default_path(plan: Plan) -> Path:
    """Where later runs look for the calibration of a run."""
    return Path(plan.config.outputs) / "calibrations" / build_file_name(build_key(plan.config))


def write_calibration(plan: Plan, path: Path, importance: int = IMPORTANCE) -> Calibration:
    """Runs the plan's prompts and writes the calibration. What earlier searches and fits have added to it is kept.

    Args:
        plan: of uncached runs.
        path: the file.
        importance: so many of the images, at most, tell what an error at each step costs; 0: none.

    Raises:
        RunError: a stage fails, or the file cannot be written.
    """
    key = build_key(plan.config)
    calibration = calibrate(plan, key)
    if importance and calibration.gram and calibration.steps >= LEAST_STEPS:
        weights = measure_importance(plan, calibration, plan.samples[:importance])
        calibration = replace(calibration, importance=weights)
    if path.exists() and not compare_keys(key, load_key(path)):
        before = load(path)
        calibration = replace(calibration, schedules=before.schedules, samplers=before.samplers, caches=before.caches)
    save(calibration, path)
    return calibration


def calibrate(plan: Plan, key: dict[str, Any]) -> Calibration:
    """Runs the plan's prompts and combines what they show.

    Args:
        plan: of uncached runs.
        key: what the calibration is for, see `build_key`.
    """
    from tqdm import tqdm

    runs: list[RecordedNumbers] = []
    samples = plan.samples
    shown = tqdm(samples, desc="prompts", unit="prompt", leave=False, disable=None)
    run_denoising(plan, lambda node: _record(node, runs.extend), ([sample] for sample in shown))
    made = {
        "prompts": [sample.prompt for sample in samples],
        "seeds": [sample.seed for sample in samples],
        "device": plan.config.device.partition(":")[0],
        "dtype": plan.config.model.dtype.value,
        "versions": {name: read_versions()[name] for name in ("wavespeed_runner", "diffusers", "torch")},
    }
    return build_calibration(key, made, runs)


def _record(node: Node, take: Callable[[list[RecordedNumbers]], None]) -> Node:
    """The denoising stage with a recorder. Never stored: the latents do not count, and the store would skip the run."""

    def denoise_recorded(options: DenoiseOptions, **inputs: Any) -> Latents:
        recorder = Recorder()
        once = replace(options, cache=build_recording_cache(), warmup=0, repeats=1, batch_size=1)
        latents = denoise(once, recorder, **inputs)
        take(summarize_recording(recorder))
        return latents

    return replace(node, lasting=False, stage=replace(node.stage, function=denoise_recorded, batch=None))


def summary(calibration: Calibration) -> str:
    """A few lines on what a calibration holds."""
    branches = max((len(traces) for traces in calibration.signals.values()), default=0)
    lines = [
        f"{len(calibration.made['prompts'])} prompts, {calibration.steps} steps, {branches} guidance branches; "
        f"signals: {', '.join(calibration.signals)}"
    ]
    if weights := calibration.importance:
        most = max(range(calibration.steps), key=lambda step: weights[step])
        lines.append(
            f"an error at step {most + 1} costs most in the end, {weights[most] / min(weights):.3g} times one at step "
            f"{weights.index(min(weights)) + 1}"
        )
    if calibration.schedules:
        lines.append(f"schedules of earlier searches kept: {', '.join(map(str, calibration.schedules))} computed steps")
    if calibration.samplers:
        lines.append(f"samplers of earlier fits kept: {', '.join(map(str, calibration.samplers))} evaluations")
    if calibration.caches:
        lines.append(f"weights of earlier fits kept: {', '.join(map(str, calibration.caches))} computed steps")
    if fit := calibration.polynomial:
        lowest, highest = fit.range
        lines.append(f"polynomial of the modulated input: {lowest:.3g} to {highest:.3g}, error {fit.error:.3g} (rms)")
    return "\n".join(lines)

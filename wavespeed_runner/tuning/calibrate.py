"""Measures a model once, for the strategies that need it: runs a few prompts uncached and writes a calibration.

    python -m wavespeed_runner calibrate [out=FILE] [GROUP=OPTION ...] [KEY=VALUE ...]

Takes the runner's overrides: those of the runs that shall use it, without those of `cache`. Prompts are those of
`prompts=calibration` unless others are given, with the seeds seed, seed + 1, ... The file goes to
OUTPUTS/calibrations/, where later runs find it, unless `out` says otherwise. Exit status as the runner's.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError

if TYPE_CHECKING:
    from ..artifacts import Latents
    from ..caching.calibration.data import Calibration
    from ..caching.calibration.recorder import RecordedNumbers
    from ..planning.graph import Graph, Node
    from ..planning.plan import Plan

PROMPTS = ("prompts", "prompts.path", "prompt", "experiment")
"""Overrides that say which prompts; without one of them, those for calibration are taken."""


def main(arguments: list[str]) -> int:
    """Exit status as the module says."""
    from ..config.error_messages import explain_config_error
    from ..process.exit_status import run_command

    return run_command(lambda: _main(arguments), explain_config_error)


def _main(arguments: list[str]) -> int:
    if "--help" in arguments or "-h" in arguments:
        print(__doc__)
        return 0
    from ..caching.calibration.data import build_file_name, build_key, compare_keys
    from ..caching.calibration.file import load, load_key, save

    out, plan = planned(arguments)
    key = build_key(plan.config)
    path = Path(out) if out is not None else Path(plan.config.outputs) / "calibrations" / build_file_name(key)
    calibration = calibrated(plan, key)
    if path.exists() and not compare_keys(key, load_key(path)) and (searched := load(path).schedules):
        calibration = replace(calibration, schedules=searched)
        print(f"kept the steps that a search has found, of {', '.join(map(str, searched))} computed ones")
    save(calibration, path)
    print(summary(calibration))
    print(path)
    return 0


def planned(arguments: list[str]) -> tuple[str | None, Plan]:
    """Where to, and the plan of the uncached runs.

    Raises:
        ConfigError: a cache strategy is on, several jobs, or a model that no strategy can be put on.
    """
    from ..config.arguments import parse_arguments
    from ..registry import implementation_of
    from ..sweeps.jobs import jobs_of

    given = [a.partition("=")[2] for a in arguments if a.startswith("out=")]
    rest = [a for a in arguments if not a.startswith("out=")]
    if len(given) > 1 or "" in given:
        raise ConfigError("out=: one file is needed")
    if not any(a.lstrip("+").partition("=")[0] in PROMPTS for a in rest):
        rest = ["prompts=calibration", *rest]
    args = parse_arguments(rest)
    jobs = jobs_of(args)
    plan = jobs[0].plan
    if len(jobs) > 1 or plan is None:
        raise ConfigError(f"{len(jobs)} jobs: one model and one setting are calibrated at a time")
    if plan.config.dry_run:
        raise ConfigError(
            "dry_run=true: this command has no rehearsal; python -m wavespeed_runner with it shows the plan"
        )
    if plan.config.cache.name != "none":
        raise ConfigError(f"cache={plan.config.cache.name}: calibration runs are uncached; leave it out")
    if implementation_of("model", plan.config.model).blocks is None:
        raise ConfigError(f"model.name={plan.config.model.name}: it has no blocks that a strategy could skip")
    return (given[0] if given else None), plan


def calibrated(plan: Plan, key: dict[str, Any]) -> Calibration:
    """Runs the prompts of a plan and puts together what they show."""
    from tqdm import tqdm

    from ..caching.calibration.recorder import build_calibration
    from ..config.environment import versions, what_matters
    from ..execution.executor import Execution
    from ..planning.graph import keys

    runs: list[RecordedNumbers] = []
    graph = recording_graph(plan.graph, runs.extend)
    samples = [replace(sample, seed=sample.seed + index) for index, sample in enumerate(plan.samples)]
    matters = what_matters(plan.config.device)
    execution = Execution(plan.store, rerun=False, on_stage=lambda name: None, device=plan.config.device)
    try:
        for sample in tqdm(samples, desc="prompts", unit="prompt", leave=False, disable=None):
            execution.run(graph, [sample], [keys(graph, sample, matters)], [])
    finally:
        execution.close()
    made = {
        "prompts": [sample.prompt for sample in samples],
        "seeds": [sample.seed for sample in samples],
        "device": plan.config.device.partition(":")[0],
        "dtype": plan.config.model.dtype.value,
        "versions": {name: versions()[name] for name in ("wavespeed_runner", "diffusers", "torch")},
    }
    return build_calibration(key, made, runs)


def recording_graph(graph: Graph, take: Callable[[list[RecordedNumbers]], None]) -> Graph:
    """The part of a graph that ends in its denoising stage, which hands over what it has seen."""
    return ending(graph, lambda node: _recorded(node, take))


def ending(graph: Graph, replaced: Callable[[Node], Node]) -> Graph:
    """The part of a graph that ends in its denoising stage, with another node in the stage's place."""
    from ..config.denoise_options import DenoiseOptions
    from ..planning.graph import Graph

    (last,) = [node for node in graph.nodes.values() if isinstance(node.options, DenoiseOptions)]
    needed, names = set(), [last.name]
    while names:
        name = names.pop()
        if name in graph.nodes and name not in needed:
            needed.add(name)
            names += graph.nodes[name].inputs.values()
    nodes = {name: node for name, node in graph.nodes.items() if name in needed}
    return Graph(nodes={**nodes, last.name: replaced(last)}, output=last.name)


def _recorded(node: Node, take: Callable[[list[RecordedNumbers]], None]) -> Node:
    """The denoising stage with an observer. It is never stored: what it gives is not what counts."""
    from ..caching.calibration.recorder import Recorder, build_recording_cache, summarize_recording

    def denoise_watched(options: Any, **inputs: Any) -> Latents:
        from ..stages.denoise import denoise

        recorder = Recorder()
        alone = replace(options, cache=build_recording_cache(), warmup=0, repeats=1, batch_size=1)
        latents = denoise(alone, recorder, **inputs)
        take(summarize_recording(recorder))
        return latents

    return replace(node, lasting=False, stage=replace(node.stage, function=denoise_watched, batch=None))


def summary(calibration: Calibration) -> str:
    """What was found, in a few lines."""
    branches = max((len(traces) for traces in calibration.signals.values()), default=0)
    lines = [
        f"{len(calibration.made['prompts'])} prompts, {calibration.steps} steps, {branches} guidance branches; "
        f"signals: {', '.join(calibration.signals)}"
    ]
    if fit := calibration.polynomial:
        lowest, highest = fit.range
        lines.append(f"polynomial of the modulated input: {lowest:.3g} to {highest:.3g}, error {fit.error:.3g} (rms)")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Searches which steps to compute: `cache=planned` takes what is found.

    python -m wavespeed_runner search computed=6,8,10 [tries=60] [out=FILE] [GROUP=OPTION ...] [KEY=VALUE ...]

Takes the runner's overrides, without those of `cache`, as `python -m wavespeed_runner calibrate` does, whose file for
this run it needs. It runs that calibration's prompts uncached, begins with the schedule that the calibration suggests
for each number of computed steps, and moves single steps as long as the images' mean SSIM to the uncached ones grows,
`tries` schedules at most. What is found is written into the calibration: into the user's own, a copy of a shipped one
in OUTPUTS/calibrations/, or `out`. Exit status as the runner's.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError

if TYPE_CHECKING:
    from ..artifacts import Latents
    from ..caching.calibration.data import Calibration
    from ..caching.calibration.schedule_search import Schedule
    from ..planning.graph import Graph, Node
    from ..planning.plan import Plan

TRIES = 60
BATCH = 8
"""Images that are denoised together: faster, and for choosing as good as alone."""


def main(arguments: list[str]) -> int:
    """Exit status as the module says."""
    from ..config.error_messages import explain_config_error
    from ..process.exit_status import run_command

    return run_command(lambda: _main(arguments), explain_config_error)


def _main(arguments: list[str]) -> int:
    if "--help" in arguments or "-h" in arguments:
        print(__doc__)
        return 0
    from ..caching.calibration.data import build_file_name
    from ..caching.calibration.file import save
    from ..caching.calibration.resolve import find_calibration
    from .calibrate import planned

    budgets, tries, rest = _own(arguments)
    out, plan = planned(["prompt=x", *rest])
    _, calibration = find_calibration(plan.config, "a search needs a calibration")
    if too_many := [budget for budget in budgets if budget >= calibration.steps]:
        raise ConfigError(f"computed={too_many[0]}: fewer than the run's {calibration.steps} steps are needed")
    path = Path(out) if out else Path(plan.config.outputs) / "calibrations" / build_file_name(calibration.key)
    found = searched(plan, calibration, budgets, tries)
    save(replace(calibration, schedules={**calibration.schedules, **found}), path)
    print(path)
    return 0


def _own(arguments: list[str]) -> tuple[list[int], int, list[str]]:
    """Budgets, tries, and the runner's overrides."""
    own = {"computed": "", "tries": str(TRIES)}
    rest = []
    for argument in arguments:
        key, _, value = argument.partition("=")
        if key in own:
            own[key] = value
        else:
            rest.append(argument)
    budgets = [int(part) for part in own["computed"].split(",") if part.isdigit()]
    if not budgets or len(budgets) != own["computed"].count(",") + 1 or min(budgets) < 3:
        raise ConfigError(f"computed={own['computed']}: numbers of computed steps, 3 or more each; computed=6,8,10")
    if not own["tries"].isdigit() or not int(own["tries"]):
        raise ConfigError(f"tries={own['tries']}: how many schedules are tried, 1 or more")
    return budgets, int(own["tries"]), rest


def searched(plan: Plan, calibration: Calibration, budgets: list[int], tries: int) -> dict[int, list[int]]:
    """Budget -> the computed steps, counted from 1."""
    from ..config.environment import what_matters
    from ..execution.executor import Execution
    from ..planning.graph import keys
    from .calibrate import ending

    made = calibration.made
    samples = [
        replace(plan.samples[0], prompt=prompt, seed=seed)
        for prompt, seed in zip(made["prompts"], made["seeds"], strict=True)
    ]
    search = Search(calibration=calibration, budgets=budgets, tries=tries)
    graph: Graph = ending(plan.graph, search.node)
    matters = what_matters(plan.config.device)
    execution = Execution(plan.store, rerun=False, on_stage=lambda name: None, device=plan.config.device)
    try:
        execution.run(graph, samples, [keys(graph, sample, matters) for sample in samples], [])
    finally:
        execution.close()
    return search.found


@dataclass(kw_only=True)
class Search:
    """Stands in for the denoising stage: searches with its inputs, and gives the uncached latents."""

    calibration: Calibration
    budgets: list[int]
    tries: int
    found: dict[int, list[int]] = field(default_factory=dict)

    def node(self, node: Node) -> Node:
        """The denoising stage that searches. It is never stored."""
        return replace(node, lasting=False, stage=replace(node.stage, batch=self.denoise))

    def denoise(self, options: Any, inputs: list[dict[str, Any]]) -> list[Latents]:
        """The stage for all the calibration's samples."""
        from ..caching.calibration.schedule_search import search_schedule
        from ..caching.predictors.fitted import find_best_schedule

        alone = replace(options, warmup=0, repeats=1, batch_size=BATCH if inputs[0]["pipeline"].family.batches else 1)
        latents, reference = _images(alone, inputs)
        for budget in self.budgets:
            tried = 0

            def cost(schedule: Schedule, budget: int = budget) -> float:
                nonlocal tried
                tried += 1
                loss = 1 - _likeness(_images(self._with(alone, budget, schedule), inputs)[1], reference)
                print(f"{budget} of {self.calibration.steps}, try {tried}: SSIM {1 - loss:.4f}", file=sys.stderr)
                return loss

            gram, before = self.calibration.gram[0], self.calibration.schedules.get(budget)
            starts = [tuple(find_best_schedule(gram, budget, first=first)) for first in (1, 2, 3) if first < budget]
            starts += [tuple(step - 1 for step in before)] if before else []
            best, loss = search_schedule(cost, starts, self.calibration.steps, tries=self.tries)
            self.found[budget] = [step + 1 for step in best]
            print(f"computed={budget}: SSIM {1 - loss:.4f} with steps {self.found[budget]}")
        return latents

    def _with(self, options: Any, budget: int, schedule: Schedule) -> Any:
        """The stage's options with `cache=planned` on this schedule."""
        from ..caching.criteria.schedules import Steps
        from ..caching.predictors.fitted import Fitted
        from ..caching.signals.block_signals import NoSignal
        from ..caching.strategies import Planned

        steps = Steps(computed=[step + 1 for step in schedule], of=self.calibration.steps)
        fitted = Fitted(gram=self.calibration.gram[0])
        return replace(options, cache=Planned(computed=budget, signal=NoSignal(), criterion=steps, predictor=fitted))


def _images(options: Any, inputs: list[dict[str, Any]]) -> tuple[list[Latents], list[Any]]:
    """Latents of every sample, and the images: uint8 arrays."""
    from ..stages.decode import decode_latents
    from ..stages.denoise import denoise_batch

    made = denoise_batch(options, inputs)
    pixels = [decode_latents(inputs[0]["pipeline"], latents) for latents in made]
    return made, [image for several in pixels for image in several.reshape(-1, *several.shape[-3:])]


def _likeness(images: list[Any], reference: list[Any]) -> float:
    """Mean SSIM; of videos over all frames."""
    from ..metrics.quality import compare_images

    values = [compare_images(one, other)["ssim"] for one, other in zip(images, reference, strict=True)]
    return sum(value for value in values if value is not None) / len(values)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

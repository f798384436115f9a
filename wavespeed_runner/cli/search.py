"""`search`: finds the best steps to compute, for `cache=planned`."""

from __future__ import annotations

import sys
from argparse import Namespace
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ConfigError, Unfit, make_printable
from ..process.exit_status import DONE
from .arguments import CommandParser, read_target

if TYPE_CHECKING:
    from ..caching.calibration.data import Calibration
    from ..planning.plan import Plan

IMAGES = ("prompt", "prompts", "prompts.path", "prompts.texts", "seed", "seeds", "num_images_per_prompt")
"""Overrides that a search takes only where they make the prompts and seeds of the run's calibration."""
ABOUT = """
For each number of computed steps, begins with the schedule that the calibration of the run suggests and moves single
steps as long as the images' mean SSIM to the uncached ones grows. Where the run has no calibration, makes one first.

Takes the overrides of the runs that will use it, without those of `cache`. The images are those of the calibration's
prompts. The schedules are written into the calibration: into the user's own, or into a copy of a shipped one.
"""


def build_parser() -> CommandParser:
    """The arguments of `search`."""
    parser = CommandParser("search", "computed=N[,N...] [tries=60] [images=N] [out=FILE] [OVERRIDE ...]", ABOUT)
    parser.add_key("computed", "6,8,10", read=parse_budgets, required=True, help="numbers of computed steps")
    parser.add_key("tries", "60", read=parse_tries, default=60, help="schedules tried for each number, at most")
    parser.add_key(
        "images",
        "24",
        read=parse_images,
        help="only so many of the calibration's images, half of them fragile: fewer steps change them most",
    )
    parser.add_key("out", "FILE", read=read_target, help="default: in OUTPUTS/calibrations/, where later runs find it")
    parser.add_overrides()
    return parser


def parse_budgets(text: str) -> list[int]:
    """Numbers of computed steps from `6,8,10`. Raises ValueError for anything else, and for numbers below 3."""
    parts = text.split(",")
    if not all(part.isdigit() and int(part) >= 3 for part in parts):
        raise ValueError("numbers of computed steps, 3 or more each, are needed, as in computed=6,8,10")
    return [int(part) for part in parts]


def parse_tries(text: str) -> int:
    """A whole number above 0. Raises ValueError for anything else."""
    if not text.isdigit() or not int(text):
        raise ValueError("how many schedules are tried: 1 or more")
    return int(text)


def parse_images(text: str) -> int:
    """A whole number from 2 to 99999. Raises ValueError for anything else."""
    if not text.isdigit() or len(text) > 5 or int(text) < 2:
        raise ValueError("how many of the calibration's images: a whole number from 2 to 99999")
    return int(text)


def main(args: Namespace) -> int:
    """Searches, writes the schedules into the calibration, and prints its path."""
    from ..caching.calibration.file import save
    from ..tuning.calibrate import default_path, plan_uncached_runs
    from ..tuning.search_schedule import search_schedules

    plan = plan_uncached_runs(args)
    path = args.out or default_path(plan)
    calibration = _find_or_make_calibration(plan, path, args.overrides)
    there = len(calibration.made["prompts"])
    if args.images is not None and args.images >= there:
        raise ConfigError(
            f"images={args.images}: fewer than the {there} images of the calibration are needed, to choose from; leave "
            "it out to take all"
        )
    results = search_schedules(plan, calibration, args.computed, args.tries, _tell, args.images)
    schedules = {computed: result.steps for computed, result in results.items()}
    save(replace(calibration, schedules={**calibration.schedules, **schedules}), path)
    for computed, result in results.items():
        print(f"computed={computed}: SSIM {result.ssim:.4f} with steps {result.steps}")
    print(make_printable(str(path)))
    return DONE


def _find_or_make_calibration(plan: Plan, path: Path, overrides: list[str]) -> Calibration:
    """The calibration of the run; where there is none, a new one, written to `path`.

    Raises:
        ConfigError: other prompts or seeds were typed than those of the calibration that there is.
    """
    from ..caching.calibration.find import find_calibration
    from ..config.compose import find_key
    from ..tuning.calibrate import summary, write_calibration

    try:
        where, calibration = find_calibration(plan.config, "a search needs a calibration", exact=True)
    except Unfit:
        if plan.config.cache.calibration is not None:
            raise
        _tell("no calibration fits this run; making one first")
        calibration = write_calibration(plan, path)
        _tell(summary(calibration))
        return calibration
    made, samples = calibration.made, plan.samples
    prompts, seeds = [sample.prompt for sample in samples], [sample.seed for sample in samples]
    typed = [override for override in overrides if find_key(override) in IMAGES]
    if typed and (prompts != made["prompts"] or seeds != made["seeds"]):
        raise ConfigError(
            f"{' '.join(typed)}: a search takes the prompts and seeds of the run's calibration, {where}; leave "
            f"{'this' if len(typed) == 1 else 'these'} out, or calibrate with {'it' if len(typed) == 1 else 'them'} "
            "first"
        )
    return calibration


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)

"""`tune`: finds the fastest setting under a quality that is accepted, or the best one within a time."""

from __future__ import annotations

import re
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import make_printable
from ..process.exit_status import DONE
from .arguments import CommandParser

if TYPE_CHECKING:
    from ..tune.tuning import Tuning

SPACE = "quick"
ABOUT = """
Tries settings against the model's own sampler at its own number of steps, on one half of the prompts: each ladder of
settings by halving on a few prompts, the most promising on all of the half. A bound holds where its 95 % confidence
limit over prompts does. The fastest one that keeps the bounds is judged on the other half, and that is the answer.

Writes an experiment file with its claim, and a page. The same command goes on where it was stopped.
"""


def build_parser() -> CommandParser:
    """The arguments of `tune`."""
    from ..tune.space import IMAGES, list_spaces

    parser = CommandParser("tune", "quality='ssim>=0.97' [time='<=3s'] [space=quick] [OVERRIDE ...]", ABOUT)
    parser.add_key(
        "quality", "BOUNDS", help="ssim>=0.97, p10(ssim)>=0.95, worst(ssim)>=0.9, mae<=2, forks<=5%; several with ,"
    )
    parser.add_key("time", "LIMIT", help="<=3s, <=800ms: the most an image may take; alone: the best within it")
    parser.add_key("by", "METRIC", help="what is the best, where only a time is given; default: ssim")
    parser.add_key(
        "space", "NAME", default=SPACE, help=f"what is tried: {', '.join(list_spaces(None))}, or DIR/tune/NAME.yaml"
    )
    parser.add_key(
        "images", "N", read=parse_images, help=f"prompts, half of them for judging; default: {IMAGES}, or all if fewer"
    )
    parser.add_key("gallery", "DIR", read=Path, help="shared experiments, whose settings are tried too")
    parser.add_key("budget", "2h", read=parse_budget, help="90s, 30min, 2h, or 40jobs; default: until nothing is left")
    parser.add_key("name", "NAME", help="of the experiment; default: after the model and the setting")
    parser.add_overrides()
    return parser


def parse_images(text: str) -> int:
    """An even number of prompts, 4 or more. Raises ValueError for anything else."""
    if not text.isdigit() or int(text) < 4 or int(text) % 2:
        raise ValueError("an even number of prompts, 4 or more, is needed")
    return int(text)


def parse_budget(text: str) -> tuple[int | None, float | None]:
    """Jobs, or seconds. Raises ValueError for anything else."""
    match = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)\s*(s|m|min|h|jobs)", text, re.ASCII)
    if not match or not float(match[1]):
        raise ValueError("a time or a number of jobs is needed, as in budget=30min, budget=2h or budget=40jobs")
    if match[2] == "jobs":
        if "." in match[1]:
            raise ValueError("a whole number of jobs is needed")
        return int(match[1]), None
    return None, float(match[1]) * {"s": 1, "m": 60, "min": 60, "h": 3600}[match[2]]


def main(args: Namespace) -> int:
    """Tunes, and writes the answer."""
    from ..sweeps.launchers.inprocess import keep_models
    from ..tune.answer import write_answer
    from ..tune.prepare import calibrate, prepare
    from ..tune.sentence import describe_answer, describe_cuts, describe_shared
    from ..tune.tune import tune

    tuning = prepare(args, _tell)
    if tuning.plan.config.dry_run:
        return _print_plan(tuning)
    _tell(
        f"looking for {tuning.aim}: space {tuning.space.name}, {len(tuning.tuning.prompts)} prompts for tuning, "
        f"{len(tuning.judging.prompts)} others for judging; {tuning.folder}"
    )
    for one in tuning.shared:
        _tell(f"from {one.file}: {one.setting.name}")
    _warn_of_prompts(tuning)
    if tuning.space.calibrate:
        calibrate(tuning)
    with keep_models():
        tune(tuning)
    for file, name, said in describe_shared(tuning):
        _tell(f"from {file}: {name}: {said}")
    for line in describe_cuts(tuning.cuts):
        _tell(line)
    if tuning.budget.spent:
        _tell(f"{tuning.budget.spent}: not all was tried; the same command with a larger one goes on")
    print(make_printable(describe_answer(tuning)))
    for what, text in write_answer(tuning, args.name):
        print(f"{what:9}{make_printable(text)}")
    return DONE


def _print_plan(tuning: Tuning) -> int:
    from ..tune.space import FEW

    count = cut = 0
    large = [family for family in tuning.space.families if family.size > FEW]
    for family in (family for family in tuning.space.families if family.size <= FEW):
        for chosen in family.combinations():
            settings, cuts = tuning.planner(family.settings(chosen))
            count, cut = count + len(settings), cut + len(cuts)
    print(f"aim      {tuning.aim}")
    also = f", and {sum(map(len, tuning.space.also.values()))} options on top" if tuning.space.also else ""
    print(f"space    {tuning.space.name}: {count} settings, {cut} more that the rules refuse{also}")
    for family in large:
        print(f"         {family.name}: {family.size} ladders of {len(family.values)}, of which some are chosen")
    for one in tuning.shared:
        print(f"         from {make_printable(f'{one.file}: {one.setting.name}')}")
    for left_out in tuning.cuts:
        print(f"         not tried: {make_printable(left_out.reason)}")
    print(f"prompts  {len(tuning.tuning.prompts)} for tuning, {len(tuning.judging.prompts)} for judging")
    _warn_of_prompts(tuning)
    print(f"folder   {make_printable(str(tuning.folder))}")
    return DONE


def _warn_of_prompts(tuning: Tuning) -> None:
    """Says where the prompts are of another kind than what the model is used for."""
    from ..tune.halves import has_foreign_prompts

    if has_foreign_prompts(tuning.plan):
        _tell(
            "warning: these prompts are captions of the demo models' shapes, which say little of what you use this "
            "model for; prompts=file prompts.path=FILE gives your own"
        )


def _tell(line: str) -> None:
    print(make_printable(line), flush=True)

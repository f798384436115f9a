"""`calibrate`: measures a model once, for the cache strategies that need it."""

from __future__ import annotations

from argparse import Namespace

from ..errors import make_printable
from ..process.exit_status import DONE
from .arguments import CommandParser, read_target

ABOUT = """
Runs a few prompts uncached and writes what cache strategies need to know of the model, as a calibration. Takes the
overrides of the runs that will use it, without those of `cache`. The prompts are those of prompts=calibration unless
others are given, with seeds=per_prompt unless seeds=same is given, or an experiment has it.

Skips some steps one at a time in `importance` of the images, which tells what an error at each step costs in the end.

`search` and `fit` calibrate by themselves where that is needed.
"""


def build_parser() -> CommandParser:
    """The arguments of `calibrate`."""
    parser = CommandParser("calibrate", "[out=FILE] [importance=8] [OVERRIDE ...]", ABOUT)
    parser.add_key("out", "FILE", read=read_target, help="default: in OUTPUTS/calibrations/, where later runs find it")
    parser.add_key(
        "importance",
        "8",
        read=parse_images,
        default=8,
        help="images that tell what an error at each step costs; 0: none",
    )
    parser.add_overrides()
    return parser


def parse_images(text: str) -> int:
    """A number of images. Raises ValueError for anything else."""
    if not text.isdigit() or len(text) > 5:
        raise ValueError("how many images: a whole number from 0 to 99999")
    return int(text)


def main(args: Namespace) -> int:
    """Writes the calibration; prints what is in it, and its path."""
    from ..tuning.calibrate import default_path, plan_uncached_runs, summary, write_calibration

    plan = plan_uncached_runs(args)
    path = args.out or default_path(plan)
    print(summary(write_calibration(plan, path, args.importance)))
    print(make_printable(str(path)))
    return DONE

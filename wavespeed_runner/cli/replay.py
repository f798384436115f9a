"""`replay`: runs an image, a video, a record, a config or an exported experiment again, and compares."""

from __future__ import annotations

import re
from argparse import Namespace
from pathlib import Path

from ..errors import ConfigError
from ..process.exit_status import DONE, FAILED
from .arguments import CommandParser

ABOUT = """
Computes everything again, takes nothing from the store, and says whether the result is the same.

Of an exported experiment every claimed figure is verified: `reproduced`, `within noise`, or `not reproduced` and why.
With other prompts (prompts.path=FILE) or another seed it is judged by 95 % intervals over those prompts: `met`,
`not met`, or `not settled`, where more prompts are needed. Of a record the figures are shown beside the new ones.

Exit status: 0 the same images, pixel for pixel, or every claim holds or is met, or there was nothing to compare with;
1 other images, a claim that is not reproduced, not met or not settled, or a failure; 2 the file cannot be replayed.
"""
KEYS = {
    "outputs": ("DIR", "where results are written; default: outputs"),
    "device": ("DEVICE", "default: as the file says"),
    "prompts.path": ("FILE", "other prompts, to judge a claim on; or those that the file names and that are not here"),
    "seed": ("N", "another seed, to judge a claim on"),
    "image": ("FILE", "the starting image, where the file names one that is not here"),
    "mask": ("FILE", "the mask, likewise"),
    "adapters.path": ("FILE[,FILE]", "the adapters, likewise; all of them, in their order"),
    "metrics": ("none", "judge by SSIM, PSNR and MAE alone, where the file's other judges are not here"),
    "metrics.lpips.weights": ("FILE", "the weights of LPIPS, where the file names some that are not here"),
    "metrics.dists.weights": ("FILE", "the weights of DISTS, likewise"),
    "metrics.clip_score.folder": ("DIR", "the CLIP of CLIPScore, likewise"),
    "metrics.pick_score.folder": ("DIR", "the CLIP of PickScore, likewise"),
    "attention": ("NAME", "the attention backend, where the file names one that downloads code"),
    "compile.backend": ("NAME", "the compiler's backend, where the file names one of a package"),
    "compile.options": ("JSON", "the compiler's options, where the file has some that no file may set"),
}
LIMITS = {
    "limits.images": "the most images; default: 10000",
    "limits.steps": "the most denoising steps of all images, with repeats; default: 100000000",
    "limits.pixels": "the most pixels of an image, or of all frames of a video; default: 1073741824",
}
"""What the file itself says of these does not count."""


def build_parser() -> CommandParser:
    """The arguments of `replay`."""
    parser = CommandParser("replay", "FILE [KEY=VALUE ...]", ABOUT)
    parser.add_argument(
        "file",
        metavar="FILE",
        type=Path,
        help="an image or video of a run, its folder, record.json or config.yaml, or an experiment",
    )
    for key, (metavar, about) in KEYS.items():
        parser.add_key(key, metavar, help=about, read=READ.get(key, str))
    for key, about in LIMITS.items():
        parser.add_key(key, "N", help=about, read=_read_limit)
    return parser


def _read_none(text: str) -> str:
    if text != "none":
        raise ValueError("none, which leaves the judges of the file out; it is asked for no others")
    return text


def _read_seed(text: str) -> str:
    if not re.fullmatch(r"[0-9]{1,20}", text) or int(text) >= 2**64:
        raise ValueError("a whole number from 0 to 2**64 - 1")
    return text


READ = {"metrics": _read_none, "seed": _read_seed}
"""What is read of a key's text; of others any."""


def _read_limit(text: str) -> str:
    if not re.fullmatch(r"[1-9][0-9]{0,17}", text):
        raise ValueError("a whole number above 0, of at most 18 digits")
    return text


def main(args: Namespace) -> int:
    """Runs the file again and prints the verdict."""
    if not args.file.exists():
        raise ConfigError(
            f"{args.file}: no such file; give an image, a run's folder, a record.json, a config.yaml or an experiment"
        )
    from ..sharing.export import find_record
    from ..sharing.replay import replay

    file = find_record(args.file) if args.file.is_dir() else args.file
    values = {key: value for key in (*KEYS, *LIMITS) if (value := vars(args)[key]) is not None}
    return DONE if replay(file, values) else FAILED

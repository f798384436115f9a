"""`gallery`: a folder of shared experiments as one page."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ConfigError, make_printable
from ..process.exit_status import DONE
from .arguments import CommandParser

if TYPE_CHECKING:
    from ..sharing.gallery import Entry

ABOUT = """
Writes one page about a folder of shared experiments: who claims what, on which hardware, and whether it was replayed
here. An image with the name of an experiment, beside it, is shown with it. Nothing is run, and what the files say is
checked as `replay` would.
"""
PAGE = "gallery.html"


def build_parser() -> CommandParser:
    """The arguments of `gallery`."""
    parser = CommandParser("gallery", "DIR [out=FILE.html] [outputs=DIR]", ABOUT)
    parser.add_argument("folder", metavar="DIR", type=Path, help="with experiment files that export or tune wrote")
    parser.add_key("out", "FILE.html", read=Path, help=f"the page; default: DIR/{PAGE}")
    parser.add_key("outputs", "DIR", read=Path, default=Path("outputs"), help="where replays are looked for")
    return parser


def main(args: Namespace) -> int:
    """Writes the page, and prints a line for each experiment."""
    if args.out is not None and args.out.suffix not in (".html", ".htm"):
        raise ConfigError(f"out={args.out}: the name of a page ends in .html")
    from ..sharing.gallery import collect_gallery, page
    from ..storage.atomic import write_bytes

    entries = collect_gallery(args.folder, args.outputs)
    out = args.out or args.folder / PAGE
    write_bytes(out, page(entries).encode(), way_out="choose another with out=FILE.html")
    for entry in entries:
        print(make_printable(f"{entry.title}: {_describe(entry)}"))
    print(make_printable(str(out)))
    return DONE


def _describe(entry: Entry) -> str:
    from ..sharing.gallery import describe_figure

    if (claim := entry.claim) is None:
        return entry.problem
    speed, ssim = describe_figure(claim.speedup, 2, "x"), describe_figure(claim.ssim, 4, "")
    figures = ", ".join(filter(None, [speed, ssim and f"SSIM {ssim}"])) or "nothing was timed or compared"
    replayed = "; ".join(entry.replays) or "not replayed here"
    apart = f"; apart from the claim: {'; '.join(entry.judged)}" if entry.judged else ""
    return f"{entry.model}, {entry.setting}: {figures}, {claim.device_name}; {replayed}{apart}"

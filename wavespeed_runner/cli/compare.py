"""`compare`: two or more runs, sweeps or machines side by side."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from ..errors import ConfigError, make_printable
from ..process.exit_status import DONE
from .arguments import CommandParser

ABOUT = """
Prints what differs in the settings, hardware and versions of two or more runs or sweeps, their figures with intervals,
and whether each is better than the first one's, the same, or not settled. Jobs of sweeps are compared where the same
was typed. Nothing is run.
"""
MOST = 8
"""Sides that a console and a page have room for."""


def build_parser() -> CommandParser:
    """The arguments of `compare`."""
    parser = CommandParser("compare", "A B [C ...] [out=FILE.html]", ABOUT)
    parser.add_argument("folders", nargs="+", metavar="DIR", type=Path, help="of runs or sweeps; A is compared with")
    parser.add_key("out", "FILE.html", read=Path, help="also write a page with the images side by side")
    return parser


def main(args: Namespace) -> int:
    """Prints the comparison, and writes the page where one is asked for."""
    if not 2 <= len(args.folders) <= MOST:
        raise ConfigError(f"compare: {len(args.folders)} folders; 2 to {MOST} are compared, A B [C ...]")
    if args.out is not None and args.out.suffix not in (".html", ".htm"):
        raise ConfigError(f"out={args.out}: the name of a page ends in .html")
    from ..report.compare import compare
    from ..report.compare.text import show

    comparison = compare(args.folders)
    show(comparison)
    if args.out is not None:
        from ..report.compare.page import page
        from ..storage.atomic import write_bytes

        write_bytes(args.out, page(comparison).encode(), way_out="choose another with out=FILE.html")
        print(make_printable(str(args.out)))
    return DONE

"""`support`: prints which models, graphs, samplers and caches fit together."""

from __future__ import annotations

from argparse import Namespace

from ..process.exit_status import DONE
from .arguments import CommandParser

ABOUT = """
Prints which models, graphs, samplers and caches fit together, as Markdown; docs/support.md is the whole table.
Each combination is put together as a run would be, and checked by the rules that check every run.
"""


def build_parser() -> CommandParser:
    """The arguments of `support`."""
    parser = CommandParser("support", "[MODEL ...]", ABOUT)
    parser.add_argument("models", nargs="*", metavar="MODEL", help="these models alone; default: all")
    return parser


def main(args: Namespace) -> int:
    """Prints the table."""
    from .support_check import Combinations
    from .support_table import table

    print(table(Combinations(args.models)).rstrip())
    return DONE

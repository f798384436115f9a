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
    parser.add_argument("models", nargs="*", metavar="MODEL", help="these options or folders alone; default: all")
    parser.add_argument("--config-dir", metavar="DIR", help="a folder with options of your own")
    parser.add_argument("--backends", action="store_true", help="print the attention backends and what each needs")
    parser.add_argument("--strategies", action="store_true", help="print the main key of each cache strategy")
    parser.add_argument("--parallel", action="store_true", help="print what context parallelism is predicted to cost")
    parser.add_argument("--coming-from", action="store_true", help="print how settings of other tools are typed here")
    parser.add_argument("--published", action="store_true", help="print what others have published: docs/published.md")
    return parser


def main(args: Namespace) -> int:
    """Prints the table."""
    if args.backends:
        from .support_attention import describe_backends

        print(describe_backends())
        return DONE
    if args.strategies:
        from .strategy_ranges import describe_strategies

        print(describe_strategies())
        return DONE
    if args.parallel:
        from .support_parallel import describe_cost

        print(describe_cost())
        return DONE
    if args.coming_from:
        from .support_coming_from import describe_tools

        print(describe_tools())
        return DONE
    if args.published:
        from ..report.published_text import published_md

        print(published_md().rstrip())
        return DONE
    from .support_check import Combinations
    from .support_table import table

    print(table(Combinations(args.models, args.config_dir), named=bool(args.models)).rstrip())
    return DONE

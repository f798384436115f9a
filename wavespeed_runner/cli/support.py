"""`support`: prints which models, graphs, samplers and caches fit together."""

from __future__ import annotations

from argparse import Namespace

from ..errors import ConfigError
from ..process.exit_status import DONE
from .arguments import CommandParser

ABOUT = """
Prints which models, graphs, samplers and caches fit together, as Markdown; docs/support.md is the whole table.
Each combination is put together as a run would be, and checked by the rules that check every run.
"""
PAGES = ("backends", "strategies", "parallel", "coming_from", "published")
"""The flags that print something else, by their attribute."""


def build_parser() -> CommandParser:
    """The arguments of `support`."""
    parser = CommandParser("support", "[MODEL ...]", ABOUT)
    parser.add_argument("models", nargs="*", metavar="MODEL", help="these options or folders alone; default: all")
    parser.add_argument("--config-dir", metavar="DIR", help="a folder with options of your own")
    parser.add_argument("--backends", action="store_true", help="print the attention backends and what each needs")
    parser.add_argument("--strategies", action="store_true", help="print the main key of each cache strategy")
    parser.add_argument("--parallel", action="store_true", help="print what context parallelism is predicted to cost")
    parser.add_argument("--coming-from", action="store_true", help="print how settings of other tools are typed here")
    parser.add_argument(
        "--published", action="store_true", help="print the times that others published: of MODEL, or docs/published.md"
    )
    return parser


def main(args: Namespace) -> int:
    """Prints the table.

    Raises:
        ConfigError: no such model, several flags that print something, or a MODEL where one page is of all of them.
    """
    _refuse_what_is_not_read(args)
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
        print(_describe_published(args).rstrip())
        return DONE
    from .support_check import Combinations
    from .support_table import table

    print(table(Combinations(args.models, args.config_dir), named=bool(args.models)).rstrip())
    return DONE


def _refuse_what_is_not_read(args: Namespace) -> None:
    flags = [f"--{page.replace('_', '-')}" for page in PAGES if getattr(args, page)]
    if len(flags) > 1:
        raise ConfigError(f"{' '.join(flags)}: each prints something of its own; give one of them")
    if flags and args.models and not args.published:
        models = " ".join(args.models)
        raise ConfigError(
            f"{flags[0]} {models}: it prints one page for all models and takes no MODEL (--published does); leave "
            f"{models} out, or {flags[0]}: `python -m wavespeed_runner support {models}` prints what is known of it"
        )


def _describe_published(args: Namespace) -> str:
    """The published times: all, or those of the weights of the models that were named."""
    from ..report.published_text import published_md

    if not args.models:
        return published_md()
    from .support_check import Combinations

    options = Combinations(args.models, args.config_dir)
    return published_md([str(options.config(model).model.repo) for model in options.models])

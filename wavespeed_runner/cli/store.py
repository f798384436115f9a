"""`store`: the size of a store of finished stages; verifies it, and removes what is damaged or old."""

from __future__ import annotations

import argparse
import re
from argparse import Namespace
from pathlib import Path

from ..errors import ConfigError
from ..metrics.timing import format_bytes
from ..process.exit_status import DONE, FAILED
from ..storage.folders import explain_no_place
from ..storage.store import Store
from .arguments import CommandParser, parse_size

ABOUT = """
Prints how many entries a store has for each stage, and their size. A store is a cache: whatever is removed is computed
again when it is needed. Exit status 1: --verify has found damaged entries, which it removes.
"""


def build_parser() -> CommandParser:
    """The arguments of `store`."""
    parser = CommandParser("store", "[DIR] [--verify] [--prune-to SIZE] [--older-than AGE]", ABOUT)
    default = Path("outputs/store")
    parser.add_argument("dir", nargs="?", metavar="DIR", type=Path, default=default, help="default: %(default)s")
    parser.add_argument("--verify", action="store_true", help="read every entry and remove damaged ones")
    parser.add_argument("--prune-to", type=parse_size, metavar="SIZE", help="keep the most recently used, e.g. 2GB")
    parser.add_argument("--older-than", type=parse_age, metavar="AGE", help="remove what was not used for, e.g., 30d")
    return parser


def main(args: Namespace) -> int:
    """Verifies and prunes as asked, then prints the table."""
    if reason := explain_no_place(args.dir):
        raise ConfigError(f"{args.dir}: {reason}; give the folder `store` below a run's outputs=DIR")
    if not args.dir.is_dir():
        raise ConfigError(f"{args.dir}: no such folder; give the folder `store` below a run's outputs=DIR")
    store = Store(args.dir)
    damaged = store.verify() if args.verify else 0
    if args.prune_to is not None or args.older_than is not None:
        removed, freed = store.prune(args.prune_to, args.older_than)
        print(f"removed: {removed} entries, {format_bytes(freed)}")
    print(table(store))
    if args.verify:
        print(f"verified; damaged and removed: {damaged}")
    return FAILED if damaged else DONE


def parse_age(text: str) -> float:
    """Seconds from `30d`, `12h`, `45m`, `90s`, `2w`."""
    match = re.fullmatch(r"(\d{1,18}(?:\.\d{1,18})?)\s*([smhdw])", text.strip().lower())
    if not match:
        raise argparse.ArgumentTypeError(f"'{text}' is not an age such as 12h or 30d")
    return float(match[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}[match[2]]


def table(store: Store) -> str:
    """Entries and size of every stage, and the sum, as text."""
    stages: dict[str, list[int]] = {}
    for entry in store.entries():
        stages.setdefault(entry.stage, []).append(entry.bytes)
    rows = [(stage, str(len(sizes)), format_bytes(sum(sizes))) for stage, sizes in sorted(stages.items())]
    everything = [size for sizes in stages.values() for size in sizes]
    rows = [("stage", "entries", "size"), *rows, ("total", str(len(everything)), format_bytes(sum(everything)))]
    width = max(len(row[0]) for row in rows)
    return "\n".join(f"{name:<{width}}  {count:>7}  {size:>9}" for name, count, size in rows)

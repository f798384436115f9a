"""`python -m wavespeed_runner store [DIR] [--verify] [--prune-to 2GB] [--older-than 30d]`: what is in a store."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from ..errors import RunError, one_line
from ..process.pipes import tolerate_closed_output
from ..storage.store import Store


def parse_size(text: str) -> int:
    """Bytes from `2GB`, `500 MB`, `1.5GiB`, `1000`; powers of 1000, with an `i` of 1024."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)b?", text.strip().lower())
    if not found or (found[3] and not found[2]):
        raise argparse.ArgumentTypeError(f"'{text}' is not a size such as 500MB or 2GB")
    return int(float(found[1]) * (1024 if found[3] else 1000) ** " kmgt".index(found[2] or " "))


def parse_age(text: str) -> float:
    """Seconds from `30d`, `12h`, `45m`, `90s`, `2w`."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhdw])", text.strip().lower())
    if not found:
        raise argparse.ArgumentTypeError(f"'{text}' is not an age such as 12h or 30d")
    return float(found[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}[found[2]]


def format_size(count: int) -> str:
    """`1.2 GB`: powers of 1000, as `parse_size` reads it."""
    value, units = float(count), ["B", "kB", "MB", "GB", "TB"]
    while value >= 999.95 and len(units) > 1:
        value /= 1000
        units.pop(0)
    return f"{value:.0f} {units[0]}" if units[0] == "B" else f"{value:.1f} {units[0]}"


def table(store: Store) -> str:
    """Entries and size of every stage, and the sum, as text."""
    stages: dict[str, list[int]] = {}
    for entry in store.entries():
        stages.setdefault(entry.stage, []).append(entry.bytes)
    rows = [(stage, str(len(sizes)), format_size(sum(sizes))) for stage, sizes in sorted(stages.items())]
    everything = [size for sizes in stages.values() for size in sizes]
    rows = [("stage", "entries", "size"), *rows, ("total", str(len(everything)), format_size(sum(everything)))]
    width = max(len(row[0]) for row in rows)
    return "\n".join(f"{name:<{width}}  {count:>7}  {size:>9}" for name, count, size in rows)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}\n")


@tolerate_closed_output()
def main(arguments: Sequence[str] | None = None) -> int:
    """0: done; 1: damaged entries were found, or something cannot be removed; 2: wrong arguments."""
    parser = _Parser(prog="python -m wavespeed_runner store", description="What is in a store, and what to remove.")
    parser.add_argument("dir", nargs="?", type=Path, default=Path("outputs/store"), help="default: %(default)s")
    parser.add_argument("--verify", action="store_true", help="read every entry and remove damaged ones")
    parser.add_argument("--prune-to", type=parse_size, metavar="SIZE", help="keep the most recently used, e.g. 2GB")
    parser.add_argument("--older-than", type=parse_age, metavar="AGE", help="remove what was not used for, e.g., 30d")
    given = parser.parse_args(arguments)
    if not given.dir.is_dir():
        parser.error(f"{given.dir}: no such folder (a run makes it: DIR is its `outputs` and /store)")
    store = Store(given.dir)
    try:
        damaged = store.verify() if given.verify else 0
        if given.prune_to is not None or given.older_than is not None:
            removed, freed = store.prune(given.prune_to, given.older_than)
            print(f"removed: {removed} entries, {format_size(freed)}")
        print(table(store))
    except RunError as error:
        print(f"{parser.prog}: {one_line(error)}", file=sys.stderr)
        return 1
    if given.verify:
        print(f"verified; damaged and removed: {damaged}")
    return 1 if damaged else 0

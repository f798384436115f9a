"""`report`: writes results.csv, report.md, report.png, report.html and grid.png from the records below a folder."""

from __future__ import annotations

from argparse import Namespace
from collections import Counter
from pathlib import Path

from ..errors import ConfigError, make_printable
from ..process.exit_status import DONE
from ..records.config_dir import check_typed
from ..storage.folders import explain_no_place
from .arguments import CommandParser

ABOUT = """
Writes results.csv, report.md, report.png, report.html and grid.png: a report of a sweep, of one run, or of everything
below a folder, from the records that are there. Works at any time, also while the sweep runs.
"""
REASONS = 10
"""Most failures that are printed; report.md lists them all."""


def build_parser() -> CommandParser:
    """The arguments of `report`."""
    parser = CommandParser("report", "DIR [out=DIR] [config_dir=DIR] [against=published]", ABOUT)
    parser.add_argument("folder", metavar="DIR", type=Path, help="of a sweep or a run, or any above them")
    parser.add_key("out", "DIR", read=Path, help="the folder to write into; default: the one that is read")
    parser.add_key(
        "config_dir", "DIR", help="the --config-dir of the runs; default: a sweep's own, if it is below here"
    )
    parser.add_key(
        "against",
        "published",
        read=_read_against,
        help="beside it, what others have published of the same model and setting: docs/published.md",
    )
    return parser


def _read_against(text: str) -> str:
    if text != "published":
        raise ValueError("published is what a sweep can be put beside; leave it out for none")
    return text


def main(args: Namespace) -> int:
    """Writes the files and prints how many jobs there are, why some failed, and the files' paths."""
    out = args.out or args.folder
    if args.out is not None and args.out.exists() and not args.out.is_dir():
        raise ConfigError(f"out={args.out}: is a file; give a folder, which is made where there is none")
    if args.out is not None and (reason := explain_no_place(args.out)):
        raise ConfigError(f"out={args.out}: {reason}; give a folder, which is made where there is none")
    from ..report.collect import add_published, collect
    from ..report.files import write_files

    sweep = collect(args.folder, None if args.config_dir is None else check_typed(args.config_dir))
    if args.against:
        sweep = add_published(sweep)
    paths = write_files(sweep, out)
    count = len(sweep.rows)
    statuses = Counter(row.status for row in sweep.rows).most_common()
    summary = ", ".join(f"{number} {status}" for status, number in statuses)
    print(make_printable(f"{sweep.title}: {count} job{'s' * (count != 1)}: {summary}"))
    failures = [row for row in sweep.rows if row.status in ("failed", "lost")]
    for row in failures[:REASONS]:
        print("  " + make_printable(f"{row.job} ({row.label}) {row.status}: {row.reason}"))
    if len(failures) > REASONS:
        print(f"  and {len(failures) - REASONS} more, in report.md")
    if sweep.not_followed:
        print("  " + make_printable(f"the page names experiments and does not have them: {sweep.not_followed}"))
    if sweep.published_note:
        print("  " + make_printable(sweep.published_note))
    for path in paths:
        print(make_printable(str(path)))
    return DONE

"""A report of a sweep, of a run, or of everything below a folder, from the records that are there.

    python -m wavespeed_runner report DIR [out=DIR]

Writes results.csv, report.md, report.png and report.html into DIR, or into the folder after out=. Works at any time,
also while the sweep runs. Exit status: 0 written; 1 they could not be; 2 a wrong command, or nothing to report on.
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

from ..errors import ConfigError, did_you_mean, printable

KEYS = ("out",)
USAGE = "python -m wavespeed_runner report DIR [out=DIR]"
REASONS = 10
"""Most failures that are listed; the files have them all."""


def main(arguments: list[str]) -> int:
    """Exit status as the module says."""
    from ..config.error_messages import explain_config_error
    from ..process.exit_status import run_command

    return run_command(lambda: _main(arguments), explain_config_error)


def _main(arguments: list[str]) -> int:
    if "--help" in arguments or "-h" in arguments:
        print(__doc__)
        return 0
    folder, out = _arguments(arguments)
    from ..report.collect import collect
    from ..report.files import write_files

    sweep = collect(folder)
    paths = write_files(sweep, out)
    counted = Counter(row.status for row in sweep.rows)
    count = len(sweep.rows)
    said = ", ".join(f"{number} {status}" for status, number in counted.most_common())
    print(printable(f"{sweep.title}: {count} job{'s' * (count != 1)}: {said}"))
    failures = [row for row in sweep.rows if row.status in ("failed", "lost")]
    for row in failures[:REASONS]:
        print("  " + printable(f"{row.job} ({row.label}) {row.status}: {row.reason}"))
    if len(failures) > REASONS:
        print(f"  and {len(failures) - REASONS} more, in report.md")
    for path in paths:
        print(path)
    return 0


def _arguments(arguments: list[str]) -> tuple[Path, Path]:
    """The folder to read and the one to write."""
    outs = [argument.partition("=")[2] for argument in arguments if argument.startswith("out=")]
    folders = [argument for argument in arguments if not argument.startswith("out=")]
    for argument in folders:
        _refuse_key(argument)
    if len(folders) != 1 or len(outs) > 1 or "" in (*folders, *outs) or folders[0].startswith("-"):
        raise ConfigError(f"one folder is needed: {USAGE}")
    if outs and Path(outs[0]).exists() and not Path(outs[0]).is_dir():
        raise ConfigError(f"out={outs[0]}: is a file; give a folder, which is made where there is none")
    return Path(folders[0]), Path(outs[0] if outs else folders[0])


def _refuse_key(argument: str) -> None:
    """`ot=x` is no folder, unless there is one of that name: Hydra may be told to make such."""
    key, equals, _ = argument.partition("=")
    if equals and key.replace(".", "").isidentifier() and not Path(argument).exists():
        raise ConfigError(f"{argument}: no such key{did_you_mean(key, KEYS)}: {USAGE}; allowed: {', '.join(KEYS)}=DIR")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

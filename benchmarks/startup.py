"""How long a command takes from the shell: what answers without torch, and a one-image run with a warm store.

    python -m benchmarks.startup [--rounds 7]

Goal: help, an error and a dry run under 1.5 s; the run under 10 s. Medians with the range; the commands take turns.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from time import perf_counter

RESULTS = Path(__file__).parent / "results" / "startup.json"
ONE = ["prompt=a red circle above a blue square", "cache=fbcache"]
COMMANDS = {
    "help": (["--help"], 0),
    "config error": (["cache=fbcach"], 2),
    "dry run": ([*ONE, "dry_run=true"], 0),
    "the same run again": (ONE, 0),
    "another threshold, reference stored": ([*ONE, "cache.residual_diff_threshold={fresh}"], 0),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    from wavespeed_runner.config.environment import describe_environment

    seconds: dict[str, list[float]] = {name: [] for name in COMMANDS}
    with tempfile.TemporaryDirectory() as folder:
        run([*ONE, f"outputs={folder}"], 0)
        for index in range(rounds):
            for name, (arguments, status) in COMMANDS.items():
                given = [a.format(fresh=0.05 + 0.001 * index) for a in arguments]
                seconds[name].append(run([*given, f"outputs={folder}"] if name != "help" else given, status))
    figures = {
        "command": "python -m benchmarks.startup",
        "environment": describe_environment("cpu"),
        "seconds": seconds,
    }
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(figures, indent=1) + "\n")
    for name, values in seconds.items():
        print(f"{name:36} {median(values):5.2f} s  ({min(values):.2f} to {max(values):.2f})")


def run(arguments: list[str], status: int) -> float:
    """Wall seconds of the command; it must end with `status`."""
    began = perf_counter()
    done = subprocess.run([sys.executable, "-m", "wavespeed_runner", *arguments], capture_output=True, text=True)
    seconds = perf_counter() - began
    if done.returncode != status:
        raise SystemExit(f"{arguments}: exit status {done.returncode}, {status} expected\n{done.stderr}")
    return seconds


if __name__ == "__main__":
    main()

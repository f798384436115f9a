"""How long a command takes from the shell: what answers without torch, and a one-image run with a warm store.

    python -m benchmarks.startup [--rounds 7] [--before CHECKOUT]

Goal: help, an error and a dry run under 1.5 s; the run under 10 s. Medians with the range; the commands take turns.
With `--before`, a checkout of another state takes turns with this one, in the same environment.
"""

from __future__ import annotations

import argparse
import json
import os
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
    parser.add_argument("--before", type=Path, help="a checkout of the state to compare with", metavar="CHECKOUT")
    arguments = parser.parse_args()
    from wavespeed_runner.config.environment import describe_environment

    checkouts = {"now": Path.cwd()} | ({"before": arguments.before} if arguments.before else {})
    seconds = measure(checkouts, arguments.rounds)
    figures = {
        "command": "python -m benchmarks.startup" + " --before CHECKOUT" * bool(arguments.before),
        "states": {state: read_revision(checkout) for state, checkout in checkouts.items()},
        "environment": describe_environment("cpu"),
        "seconds": seconds,
    }
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(figures, indent=1) + "\n")
    for state, by_command in seconds.items():
        for name, values in by_command.items():
            print(f"{state:7} {name:36} {median(values):5.2f} s  ({min(values):.2f} to {max(values):.2f})")
    for name in COMMANDS if arguments.before else ():
        ratios = [now / before for now, before in zip(seconds["now"][name], seconds["before"][name], strict=True)]
        print(f"now / before {name:36} {median(ratios):5.2f}  ({min(ratios):.2f} to {max(ratios):.2f})")


def measure(checkouts: dict[str, Path], rounds: int) -> dict[str, dict[str, list[float]]]:
    """Seconds of each command, by state and round; each state has a store of its own."""
    seconds: dict[str, dict[str, list[float]]] = {state: {name: [] for name in COMMANDS} for state in checkouts}
    with tempfile.TemporaryDirectory() as folder:
        for state, checkout in checkouts.items():
            run([*ONE, f"outputs={folder}/{state}"], 0, checkout)
        for index in range(rounds):
            for name, (words, status) in COMMANDS.items():
                for state, checkout in checkouts.items():
                    given = [word.format(fresh=0.05 + 0.001 * index) for word in words]
                    given += [f"outputs={folder}/{state}"] if name != "help" else []
                    seconds[state][name].append(run(given, status, checkout))
    return seconds


def read_revision(checkout: Path) -> str:
    """The commit that a checkout is at, with `-dirty` where files differ from it."""
    command = ["git", "-C", str(checkout), "describe", "--always", "--dirty", "--match", ""]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def run(arguments: list[str], status: int, checkout: Path) -> float:
    """Wall seconds of the command in a checkout; it must end with `status`."""
    began = perf_counter()
    command = [sys.executable, "-m", "wavespeed_runner", *arguments]
    environment = os.environ | {"PYTHONPATH": str(checkout)}
    done = subprocess.run(command, capture_output=True, text=True, cwd=checkout, env=environment)
    seconds = perf_counter() - began
    if done.returncode != status:
        raise SystemExit(f"{arguments}: exit status {done.returncode}, {status} expected\n{done.stderr}")
    return seconds


if __name__ == "__main__":
    main()

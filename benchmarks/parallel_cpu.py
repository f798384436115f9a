"""Ranks on a CPU: that messages are as predicted, decisions as in one process, and what both cost there.

    python -m benchmarks.parallel_cpu [--rounds 3]

On one machine's cores several ranks are slower than one process: they share the cores, and each message is copied
through the loopback interface. The seconds are here to say so. What carries over to GPUs are the messages of a step,
and that every strategy computes the steps that it computes in one process.
Each round runs every setting once, one process (the reference of each run) and ranks in turn, by the runner itself.
The table of docs/parallel.md is made from the results.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from .marked import write_marked
from .readme import ROOT

RESULTS = Path(__file__).parent / "results"
COMMON = ["prompt=a red circle above a blue square", "measure.warmup=1"]
KINDS = {
    "ulysses, 2 ranks": ["parallel=ulysses", "parallel.degree=2"],
    "ring, 2 ranks": ["parallel=ring", "parallel.degree=2"],
    "unified, 4 ranks": ["parallel=unified"],
}
DOCUMENT = ROOT / "docs" / "parallel.md"
CACHES = ("none", "fbcache", "teacache", "planned")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=RESULTS / "parallel_cpu.json")
    args = parser.parse_args()
    runs: dict[str, list[dict[str, Any]]] = {}
    alone = {cache: run([f"cache={cache}"]) for cache in CACHES}
    for _ in range(args.rounds):
        for kind, overrides in KINDS.items():
            for cache in CACHES:
                runs.setdefault(f"{kind}, {cache}", []).append(run([f"cache={cache}", *overrides]))
    environment = alone["none"]["environment"]
    figures = {
        "command": f"python -m benchmarks.parallel_cpu --rounds {args.rounds}",
        "environment": {key: environment[key] for key in ("device_name", "platform", "threads", "versions")},
        "settings": {name: describe(records, alone[name.rpartition(", ")[2]]) for name, records in runs.items()},
    }
    args.out.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    write_marked(DOCUMENT, "measured", make_table(figures))


def make_table(figures: dict[str, Any]) -> str:
    """The figures as the document has them: text and a table in Markdown."""
    environment, settings = figures["environment"], figures["settings"]
    equal = "every" if all(one["decisions_of_one_process"] for one in settings.values()) else "not every"
    most = max(one["largest_difference"] for one in settings.values())
    lines = [
        f"`{figures['command']}` on {environment['device_name']}, the demo model, 28 steps, one image; "
        "one process without a cache and the ranks take turns.",
        f"In {equal} run the ranks computed the steps that one process computes. The largest difference of the "
        f"denoiser's first result was {most:.1e} (relative, L2).",
        "",
        "| setting | steps computed | s | times as fast as one process without a cache | messages a step | kB a step |",
        "|---|---|---|---|---|---|",
    ]
    for name, one in settings.items():
        messages, speedup = one["messages"].values(), one["speedup"]
        calls, sent = (sum(kind[key] for kind in messages) for key in ("calls_per_step", "bytes_per_step"))
        spread = f"{speedup['median']:.2f} ({speedup['least']:.2f} to {speedup['most']:.2f})"
        seconds = f"{one['seconds']:.2f}"
        lines.append(f"| {name} | {one['computed']} | {seconds} | {spread} | {calls:.1f} | {sent / 1000:.0f} |")
    return "\n".join(lines) + "\n"


def run(overrides: list[str]) -> dict[str, Any]:
    """The record of one run in a process and a store of its own."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "wavespeed_runner", *COMMON, *overrides, f"outputs={folder}"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        (file,) = Path(folder).glob("runs/*/*/record.json")
        record: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        return record


def describe(records: list[dict[str, Any]], alone: dict[str, Any]) -> dict[str, Any]:
    """Figures of one setting. alone: the same cache in one process."""
    last = records[-1]
    seconds = [record["samples"][0]["seconds"] for record in records]
    ratios = [record["samples"][0]["reference_seconds"] / record["samples"][0]["seconds"] for record in records]
    return {
        "seconds": median(seconds),
        "speedup": {"median": median(ratios), "least": min(ratios), "most": max(ratios)},
        "computed": list_computed(last).count(True),
        "decisions_of_one_process": all(list_computed(record) == list_computed(alone) for record in records),
        "largest_difference": max(record["engaged"]["parallel"]["difference"]["alone"] for record in records),
        "messages": last["engaged"]["parallel"]["messages"],
    }


def list_computed(record: dict[str, Any]) -> list[bool]:
    """Which steps were computed."""
    return [step["computed"] for step in record["samples"][0]["steps"]]


if __name__ == "__main__":
    main()

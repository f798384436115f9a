"""Writes docs/coming_from.md: settings of other tools, and how they are typed here."""

from __future__ import annotations

from functools import lru_cache
from importlib.resources import files
from typing import Any

import yaml

HEAD = """# Coming from another tool

How a setting of another tool is typed here, and whether it then does the same. Every row is planned by a test; where
steps are named, so many are computed if every change is small enough for reuse: here, and by the other tool's rule, of
which the test has a replica written from its description. `python -m wavespeed_runner support --coming-from` prints
this page.

A threshold belongs to what is watched, a window to what its ends are fractions of, a polynomial or a list of ratios to
one set of weights, one sampler, one shift and one number of steps. Where one of them is another, the number is another:
`thresholds` and `tune` find yours.
"""
AGREE = {"same": "the same", "near": "nearly", "other": "another thing"}


@lru_cache(maxsize=1)
def read_tools() -> list[dict[str, Any]]:
    """The tools with their rows, from `coming_from.yaml` of this package."""
    text = (files(__package__) / "coming_from.yaml").read_text(encoding="utf-8")
    tools: list[dict[str, Any]] = yaml.load(text, yaml.CSafeLoader)
    return tools


def describe_tools() -> str:
    """The page."""
    return "\n".join([HEAD, *(line for tool in read_tools() for line in _describe(tool))]).rstrip()


def _describe(tool: dict[str, Any]) -> list[str]:
    lines = [f"## {tool['tool']}: {tool['of']}", "", f"{tool['about'].strip()} [Source]({tool['source']}).", ""]
    lines += ["| there | here | the same? | computed, at least |", "|---|---|---|---|"]
    for row in tool["rows"]:
        note = f": {row['note']}" if "note" in row else ""
        computed = f"{_shorten(row['computed'])} of {row['steps']}" if "computed" in row else ""
        lines.append(f"| {row['theirs']} | `{row['ours']}` | {AGREE[row['agree']]}{note} | {computed} |")
    return [*lines, ""]


def _shorten(steps: list[int]) -> str:
    """Steps as `1-6, 12`."""
    runs: list[list[int]] = []
    for step in steps:
        if runs and step == runs[-1][-1] + 1:
            runs[-1].append(step)
        else:
            runs.append([step])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)

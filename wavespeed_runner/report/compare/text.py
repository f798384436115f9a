"""A comparison on the console."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..console_table import Column, make_table
from ..console_text import encode_for
from .build import Comparison, Match

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

COLOURS = {"better": "green", "worse": "red", "same": "dim", "not settled": "yellow"}
MEANING = (
    "Against A. Better, worse: the 95 % interval of the difference is on one side, image by image where prompts and "
    "seeds are the same. Same: within 3 % of the time, 0.001 of SSIM. Not settled: more prompts would tell."
)


def show(comparison: Comparison) -> None:
    """Prints it: a table for each setting, then what the first side does not have."""
    from rich.console import Console

    from ...process.pipes import get_styled_output

    console = Console(file=get_styled_output(), highlight=False)
    for name in comparison.names:
        console.print(encode_for(console, name), markup=False, soft_wrap=True)
    for match in comparison.matches:
        console.print()
        if match.label:
            console.print(encode_for(console, match.label), style="bold", markup=False)
        console.print(_table(console, comparison, match), crop=False)
    console.print()
    for name, labels in comparison.left_out:
        text = f"only in {name}: {', '.join(labels)}"
        console.print(encode_for(console, text), markup=False, soft_wrap=True)
    console.print(MEANING, style="dim")


def _table(console: Console, comparison: Comparison, match: Match) -> Table:
    from rich.text import Text

    def cell(text: str, verdict: str = "") -> Text:
        shown = Text(encode_for(console, text))
        if verdict:
            shown.append(f"\n{verdict}", style=COLOURS[verdict])
        return shown

    columns = [Column(head=""), *(Column(head=name[0]) for name in comparison.names)]
    rows = [[cell(name), *(cell(one.text, one.verdict) for one in figures)] for name, figures in match.figures]
    settings = [[cell(text) for text in (key, *values)] for key, values in match.settings]
    return make_table(console, columns, rows + settings, [""] * len(rows) + ["dim"] * len(settings), apart=len(rows))

"""A comparison on the console."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..console_text import encode_for
from .build import Comparison, Match

if TYPE_CHECKING:
    from rich.console import Console

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
        console.print(_table(console, comparison, match))
    console.print()
    for name, labels in comparison.left_out:
        text = f"only in {name}: {', '.join(labels)}"
        console.print(encode_for(console, text), markup=False, soft_wrap=True)
    console.print(MEANING, style="dim")


def _table(console: Console, comparison: Comparison, match: Match) -> Any:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    def cell(text: str, verdict: str = "") -> Text:
        shown = Text(encode_for(console, text))
        if verdict:
            shown.append(f"\n{verdict}", style=COLOURS[verdict])
        return shown

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), show_edge=False, pad_edge=False)
    table.add_column("", overflow="fold")
    for name in comparison.names:
        table.add_column(name[0], overflow="fold")
    for name, figures in match.figures:
        table.add_row(name, *(cell(one.text, one.verdict) for one in figures))
    if match.settings:
        table.add_section()
    for key, values in match.settings:
        table.add_row(cell(key), *(cell(value) for value in values), style="dim")
    return table

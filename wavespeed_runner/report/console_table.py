"""Tables for a console: as narrow as it needs, broken between words and after underscores and dots, never in a word."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

from .console_text import encode_for

if TYPE_CHECKING:
    from rich.console import Console, JustifyMethod
    from rich.table import Table
    from rich.text import Text

WORDS = re.compile(r" +|(?<=\w_)(?=\w)|(?<=[A-Za-z]\.)(?=\w)")
"""Where names and sentences break; no number has such a place."""
NOTES = re.compile(r" +(?=\()")
"""Where a figure breaks: before what stands behind it in brackets, and not before its unit."""
LONGEST_WORD, SHORTEST_PIECE = 24, 12
"""A longer word, such as a path, may be broken anywhere, into pieces of at least so many columns; none of ours is."""


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column: its head, and how its cells are set."""

    head: str
    justify: JustifyMethod = "left"
    style: str = ""
    breaks: re.Pattern[str] = WORDS


def make_table(
    console: Console,
    columns: Sequence[Column],
    rows: Sequence[Sequence[str | Text]],
    styles: Sequence[str] = (),
    *,
    apart: int = 0,
) -> Table:
    """A table that fits into the console if its words do; print it with `crop=False`, as it is wider if they do not.

    Args:
        console: it is made for; what its encoding lacks is replaced.
        columns: of the table.
        rows: their cells, without markup.
        styles: of the rows; none by default.
        apart: how many rows stand above a line; 0 for no line.
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    def read(cell: str | Text) -> Text:
        return Text(encode_for(console, cell)) if isinstance(cell, str) else cell

    heads = [read(column.head) for column in columns]
    cells = [[read(cell) for cell in row] for row in rows]
    pairs = [
        (column.breaks, [head, *(row[i] for row in cells)])
        for i, (column, head) in enumerate(zip(columns, heads, strict=True))
    ]
    # The box's own blank, and one on each side of a cell, or, where that is too much, on its left alone.
    for gap in (3, 2):
        gaps = gap * (len(columns) - 1)
        widths = _choose_widths(pairs, console.width - gaps)
        if sum(widths) + gaps <= console.width:
            break
    total = sum(widths) + gaps
    table = Table(box=box.SIMPLE_HEAD, padding=(0, gap - 2, 0, 1), show_edge=False, pad_edge=False, width=total)
    for column, head, width in zip(columns, heads, widths, strict=True):
        shown = _break_lines(head, width, column.breaks)
        table.add_column(shown, justify=column.justify, style=column.style, width=width, no_wrap=True)
    for i, row in enumerate(cells):
        broken = [
            _break_lines(cell, width, column.breaks) for cell, width, column in zip(row, widths, columns, strict=True)
        ]
        table.add_row(*broken, style=styles[i] if styles else None, end_section=i == apart - 1 < len(rows) - 1)
    return table


def _choose_widths(columns: Sequence[tuple[re.Pattern[str], list[Text]]], room: int) -> list[int]:
    """The widths of columns: what they would like, or, where there is no room, less of the widest that can break."""

    def measure(cells: list[Text], breaks: re.Pattern[str], width: int) -> int:
        return max(line.cell_len for cell in cells for line in _break_lines(cell, width, breaks).split("\n"))

    widths = [measure(cells, breaks, 10_000) for breaks, cells in columns]
    least = [measure(cells, breaks, 1) for breaks, cells in columns]
    while sum(widths) > room and (loose := [i for i, width in enumerate(widths) if width > least[i]]):
        widths[max(loose, key=lambda i: widths[i])] -= 1
    # What does not break there may leave room.
    return [measure(cells, breaks, width) for (breaks, cells), width in zip(columns, widths, strict=True)]


def _break_lines(text: Text, width: int, breaks: re.Pattern[str]) -> Text:
    """The text in lines of at most so many columns, as far as its words allow."""
    from rich.cells import chop_cells
    from rich.text import Text

    lines: list[Text] = []
    for line in text.split("\n"):
        begin = end = 0
        gaps = [match.span() for match in breaks.finditer(line.plain)]
        for start, stop in zip(
            [0, *(after for _, after in gaps)], [*(before for before, _ in gaps), len(line)], strict=True
        ):
            if begin < end and line[begin:stop].cell_len > width:
                lines.append(line[begin:end])
                begin = start
            end = stop
        lines.append(line[begin:end])
    pieces: list[Text] = []
    for line in lines:
        parts = chop_cells(line.plain, max(width, SHORTEST_PIECE)) if line.cell_len > max(width, LONGEST_WORD) else []
        pieces += line.divide([end for end in accumulate(map(len, parts)) if end < len(line)])
    return Text("\n").join(pieces)

"""The files of a report, written into a folder: for spreadsheets, pull requests, papers, and for looking at."""

from __future__ import annotations

from pathlib import Path

from ..storage.atomic import write_bytes
from .csv_file import results_csv
from .markdown import report_md
from .rows import Sweep

CSV, MARKDOWN, FIGURE, PAGE, GRID = "results.csv", "report.md", "report.png", "report.html", "grid.png"


def write_files(sweep: Sweep, folder: Path) -> list[Path]:
    """Writes them all, each whole or not at all; returns their paths.

    Raises:
        RunError: the folder cannot be written.
    """
    from .figure import report_png
    from .grid import grid_png
    from .page import page

    made: list[tuple[str, bytes]] = [
        (CSV, results_csv(sweep).encode("utf-8", "replace")),
        (MARKDOWN, report_md(sweep, figure=FIGURE, table=CSV).encode("utf-8", "replace")),
        (FIGURE, report_png(sweep)),
        (PAGE, page(sweep, folder=folder).encode()),
    ]
    if grid := grid_png(sweep):
        made.append((GRID, grid))
    return [_written(folder / name, content) for name, content in made]


def _written(path: Path, content: bytes) -> Path:
    write_bytes(path, content, way_out="choose a folder with out=DIR")  # with out= or without: it is the way out
    return path

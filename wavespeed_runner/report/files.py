"""The four files of a report, written into a folder: for spreadsheets, pull requests, papers, and for looking at."""

from __future__ import annotations

from pathlib import Path

from ..errors import RunError
from ..pictures import write_whole
from ..record import write_text
from .collect import Sweep
from .csv_file import results_csv
from .markdown import report_md

CSV, MARKDOWN, FIGURE, PAGE = "results.csv", "report.md", "report.png", "report.html"


def write_files(sweep: Sweep, folder: Path) -> list[Path]:
    """Writes them all, each whole or not at all; returns their paths.

    Raises:
        RunError: the folder cannot be written.
    """
    from .figure import report_png
    from .page import page

    write_text(folder / CSV, results_csv(sweep))
    write_text(folder / MARKDOWN, report_md(sweep, figure=FIGURE, table=CSV))
    try:
        write_whole(folder / FIGURE, report_png(sweep))
    except OSError as error:
        raise RunError(
            f"{folder / FIGURE}: cannot be written: {error.strerror or error}; choose another folder with out=DIR"
        ) from error
    write_text(folder / PAGE, page(sweep, folder=folder))
    return [folder / name for name in (CSV, MARKDOWN, FIGURE, PAGE)]

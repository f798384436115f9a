"""`results.csv`: one row per job for pandas and spreadsheets, and the description of its columns."""

from __future__ import annotations

import csv
from io import StringIO
from typing import Any

from ..records.csv_cells import make_cell
from .csv_column import Column
from .csv_columns import COLUMNS
from .judges import FIELDS, PREFIX, judge_columns
from .rows import Row, Sweep

AXIS = "axis:"
"""Prefix of the columns of swept keys, one per key."""


def results_csv(sweep: Sweep) -> str:
    """Renders the jobs of a sweep as CSV; returns the content of the file."""
    file = StringIO()
    table = csv.writer(file, lineterminator="\n")
    columns = [*COLUMNS[1:], *judge_columns(sweep.rows)]
    table.writerow(
        [COLUMNS[0].name, *(make_cell(AXIS + key) for key in sweep.axes), *(make_cell(c.name) for c in columns)]
    )
    for row in sweep.rows:
        axes = [make_cell(row.axes.get(key, "")) for key in sweep.axes]
        table.writerow([_cell(COLUMNS[0], row), *axes, *(_cell(column, row) for column in columns)])
    return file.getvalue()


def documentation() -> str:
    """Renders the description of the columns; returns the content of `docs/results_csv.md`."""
    lines = [f"| `{column.name}` | {column.meaning} |" for column in COLUMNS]
    axis = f"| `{AXIS}KEY` | one column per swept key: its value as typed, empty if the job does not set it |"
    judges = [
        f"| `{PREFIX}NAME{field}` | of each judge `metrics=NAME`: {meaning} |" for field, (meaning, _) in FIELDS.items()
    ]
    return "\n".join([HEAD, "| column | meaning |", "|---|---|", lines[0], axis, *lines[1:], *judges, ""])


HEAD = """\
# Columns of results.csv

`python -m wavespeed_runner report DIR` writes this file with one row per job, including jobs that failed, were skipped
or have not run. Format: UTF-8, separated by commas, decimal points, one header line. Unknown values are empty; 1 is yes
and 0 is no. Text that begins with `=`, `+`, `-` or `@` and is no number has an apostrophe before it, because a
spreadsheet would take it for a formula. Intervals are 95 % percentile bootstrap intervals over prompts, with all images
of a prompt resampled together; with one prompt, they are over seeds. Generated from
`wavespeed_runner/report/csv_columns.py` and `csv_quality.py`.
"""


def _cell(column: Column, row: Row) -> Any:
    try:
        value = column.value(row)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
        return ""
    return make_cell(value)

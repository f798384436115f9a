"""Published times as text: `docs/published.md`, and the section of a report that is put beside them."""

from __future__ import annotations

from collections.abc import Sequence

from ..config.own_models import find_published_option
from .markdown_text import escape, format_table
from .published import SETTING, PublishedRow, read_published
from .rows import Sweep

HEAD = ("method", "hardware", "seconds", "speedup", "quality", "by", "date")
BESIDE = (
    "Measured by others on their machines, of these weights at this size and number of steps, with the sampler, "
    "precision and guidance of each source; in no Pareto front and not in results.csv. The bands in the plot are their "
    "speedups applied to the reference here, of methods that this sweep uses. A speedup with ~ is the ratio to their "
    "own baseline."
)


def published_section(sweep: Sweep) -> list[str]:
    """The section of `report.md`; none where it was not asked for."""
    if not sweep.published_note:
        return []
    note = f"{escape(sweep.published_note)}."
    rows = [note, BESIDE, format_published(sweep.published)] if sweep.published else [note]
    return ["## Published by others", *rows]


def list_cells(row: PublishedRow) -> list[str]:
    """A row as the texts of a table with the head `HEAD`."""
    seconds = f"{row.seconds:g}" if row.seconds is not None else f"{row.seconds_per_step:g} a step"
    speedup = "" if row.speedup is None else f"{'~' * row.is_ratio}{row.speedup:.2f}"
    return [row.method, row.hardware, seconds, speedup, row.quality, row.by, row.date]


def describe_setting(row: PublishedRow) -> str:
    """`1024 x 1024, 28 steps`."""
    size = f"{row.width} x {row.height}" if row.width else "size not stated"
    frames = f" x {row.num_frames} frames" if row.num_frames else ""
    return f"{size}{frames}, {'steps not stated' if row.steps is None else f'{row.steps} steps'}"


def list_overrides(row: PublishedRow) -> list[str]:
    """What is typed for a run at a row's setting, as far as it is stated; empty where no option has its weights."""
    option = next(filter(None, map(find_published_option, row.repos)), None)
    stated = [f"{key}={value}" for key in SETTING if (value := getattr(row, key)) is not None]
    return [f"model={option}", *stated] if option else []


def published_md(repos: Sequence[str] = ()) -> str:
    """The document `docs/published.md`: every row, a table for each model and setting.

    repos: hub ids of the weights whose rows alone are wanted; of none all.
    """
    parts = [
        "# Published times",
        "Measured by others on their machines, each read at its source; this project measured none of them. Generated "
        "by `python -m wavespeed_runner support --published` from `wavespeed_runner/report/published.yaml`. A speedup "
        "with ~ is not stated: it is the ratio to the baseline of the same source. `python -m wavespeed_runner report "
        "DIR against=published` puts the rows of your model and setting beside your own sweep; the command below each "
        "heading is the plain run at its setting, on which a cache, `quant`, `compile` and `parallel` are put.",
    ]
    tables: dict[tuple[str, str], list[PublishedRow]] = {}
    for row in read_published():
        if not repos or {*repos} & {*row.repos}:
            tables.setdefault((row.repos[0], describe_setting(row)), []).append(row)
    if not tables:
        return f"No published time of {', '.join(repos)} is known here. There are some of {_list_options()}.\n"
    for (repo, setting), rows in tables.items():
        command = " ".join(list_overrides(rows[0]))
        parts += [f"## {repo}, {setting}", *([f"`python -m wavespeed_runner {command}`"] if command else [])]
        parts += [format_published(rows)]
    return "\n\n".join(parts) + "\n"


def _list_options() -> str:
    """The options whose weights have published times: `flux, flux2`."""
    options = (find_published_option(repo) for row in read_published() for repo in row.repos)
    return ", ".join(dict.fromkeys(filter(None, options)))


def format_published(rows: Sequence[PublishedRow]) -> str:
    """Rows as a table in Markdown; who published links to where."""
    lines = []
    for row in rows:
        cells = [escape(cell) for cell in list_cells(row)]
        cells[HEAD.index("by")] = f"[{escape(row.by)}]({row.source})"
        lines.append(cells)
    return format_table(HEAD, lines)

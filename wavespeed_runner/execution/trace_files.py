"""What a cache strategy decided at each step, as a table (`trace.csv`) and as a plot (`trace.png`). Reads a record."""

from __future__ import annotations

import csv
from dataclasses import dataclass, fields
from io import BytesIO, StringIO
from math import ceil
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Any

from ..caching.window import is_inside_window
from ..config.schema import CacheConfig
from ..media.contact_sheet import INK, LINE, QUIET
from ..records.record import Record
from ..records.sample import BranchDecision, SampleRecord, Step
from ..storage.atomic import write_whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BRANCHES = ("#1f5fa8", "#c2571a", "#3f7d3a")
"""Colours of the guidance branches of a step."""
PANELS, COLUMNS = 12, 3
"""Most panels that are drawn, and most side by side."""
PANEL, STRIP, WIDTH, MARGIN, ENTRY = 2.3, 1.0, 4.4, 0.6, 1.4
"""Inches: height of a panel, of one with decisions alone; width of both; height of the legend, width of its entries."""
TITLE, DPI = 62, 100
"""Most characters of a line of a title."""
SHADE, LIMIT, DASHES = "#e9eff6", "#b3261e", (0, (4, 3))
WINDOW = ("start", "end", "warmup_steps", "force_last_step")


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of `trace.csv`: a step, in one guidance branch of one image. Unknown values are empty."""

    file: str
    prompt_index: int
    """Counted from 0, as in file names."""
    seed: int
    stage: str
    """The graph's node; a graph may denoise more than once."""
    step: int  # counted from 1
    branch: str
    """Guidance branch; empty where a step has but one."""
    computed: bool
    """1 or 0."""
    signal: float | None
    """How much what is watched has changed."""
    level: float | None
    """What was compared with the threshold."""
    threshold: float | None
    """Empty for schedules."""
    seconds: float
    """Of the whole step, all its branches."""


def rows(record: Record) -> list[Row]:
    """Lists everything that strategies decided in a run; nothing where none was attached."""
    result: list[Row] = []
    per_prompt = record.config.get("num_images_per_prompt") or 1
    for number, sample in enumerate(record.samples):
        for step in sample.steps:
            if not decided_on(sample, step.stage):
                continue
            branches: dict[str, BranchDecision | Step] = {**step.branches} if step.branches else {"": step}
            for branch, decision in branches.items():
                result.append(
                    Row(
                        file=sample.file,
                        prompt_index=number // per_prompt,
                        seed=sample.seed,
                        stage=step.stage,
                        step=step.index,
                        branch=branch,
                        computed=decision.computed,
                        signal=decision.signal,
                        level=decision.level,
                        threshold=(strategy(record, step.stage).get("criterion") or {}).get("threshold"),
                        seconds=step.seconds,
                    )
                )
    return result


def decided_on(sample: SampleRecord, stage: str) -> bool:
    """Whether a strategy decided on the steps of this stage: not diffusers' own, which skip attention inside steps."""
    evidence = sample.engaged[stage].cache if stage in sample.engaged else None
    return evidence is not None and evidence.calls > 0 and evidence.modules is None


def strategy(record: Record, stage: str) -> dict[str, Any]:
    """The cache options of a denoising stage: its own, or else those of the run."""
    config = record.config
    own = (((config.get("graph") or {}).get("stages") or {}).get(stage) or {}).get("options") or {}
    options: dict[str, Any] = own.get("cache") or config["cache"]
    return options


def write_trace(folder: Path, record: Record, *, plot: bool = True) -> None:
    """Writes `trace.csv` and, unless told otherwise, `trace.png`; neither where no strategy was attached."""
    found = rows(record)
    if found:
        write_whole(folder / "trace.csv", as_csv(found).encode())
    if found and plot:
        buffer = BytesIO()
        figure(record, found).savefig(buffer, dpi=DPI, metadata={"Software": None})
        write_whole(folder / "trace.png", buffer.getvalue())


def as_csv(found: list[Row]) -> str:
    """Returns the content of `trace.csv`."""
    names = [one.name for one in fields(Row)]
    file = StringIO()
    table = csv.writer(file, lineterminator="\n")
    table.writerow(names)
    for row in found:
        values = [getattr(row, name) for name in names]
        table.writerow([int(value) if isinstance(value, bool) else value for value in values])
    return file.getvalue()


def figure(record: Record, found: list[Row]) -> Figure:
    """Draws a panel for each image and stage.

    It shows what is compared with the threshold over the steps, and below it the decisions; for schedules only these.
    """
    from matplotlib.figure import Figure

    panels: dict[tuple[str, str], list[Row]] = {}
    for row in found:
        panels.setdefault((row.file, row.stage), []).append(row)
    shown = list(panels.values())[:PANELS]
    columns = min(COLUMNS, ceil(len(shown) ** 0.5))
    lines = ceil(len(shown) / columns)
    curves = any(row.signal is not None or row.level is not None for row in found)
    height = (PANEL if curves else STRIP) * lines + MARGIN
    made = Figure(figsize=(WIDTH * columns, height), layout="constrained")
    grid = made.subplots(lines, columns, squeeze=False, sharey=True)
    top = _top(shown)
    prompts = {sample.file: sample.prompt for sample in record.samples}
    for place, part in zip(grid.flat, shown, strict=False):
        _panel(place, part, strategy(record, part[0].stage), top=top if curves else 0)
        stage = f", {part[0].stage}" if len({row.stage for row in found}) > 1 else ""
        which = f"(seed {part[0].seed}{stage})".replace(" ", "\N{NO-BREAK SPACE}")
        lines_of_title = wrap(f"{_drawable(prompts[part[0].file])} {which}", TITLE, max_lines=2, placeholder="…")
        place.set_title("\n".join(lines_of_title), fontsize=8.5, color=INK, loc="left", parse_math=False)
    for place in grid.flat[len(shown) :]:
        place.set_visible(False)
    for place in grid.flat[max(0, len(shown) - columns) : len(shown)]:
        place.set_xlabel("step", fontsize=8.5, color=QUIET)
    if curves:
        for place in grid[:, 0]:
            place.set_ylabel(_watched(strategy(record, shown[0][0].stage)), fontsize=8.5, color=QUIET)
    _legend(made, shown, top=top if curves else 0, left_out=len(panels) - len(shown))
    return made


def _top(shown: list[list[Row]]) -> float:
    """Upper end of the axis: all that is drawn, and thresholds that would not flatten it."""
    values = [value for part in shown for row in part if (value := drawn(row, part)) is not None]
    highest = max(values, default=0.0) or 1.0
    near = [row.threshold for part in shown for row in part if row.threshold and row.threshold <= 2 * highest]
    return 1.08 * max([highest, *near])


def _watched(cache: dict[str, Any]) -> str:
    """`relative_change` of `first_block_residual`, on two lines."""
    names = [(cache.get(part) or {}).get("name", "") for part in ("criterion", "signal")]
    return " of\n".join(name.replace("_", " ") for name in names if name and name != "none")


def _panel(axes: Any, part: list[Row], cache: dict[str, Any], *, top: float) -> None:
    """top: upper end of the vertical axis; 0: decisions alone."""
    steps = sorted({row.step for row in part})
    window = CacheConfig(**{key: cache[key] for key in WINDOW if key in cache})
    acts = [step for step in steps if step > 1 and is_inside_window(window, step - 1, len(steps))]
    if acts:
        axes.axvspan(acts[0] - 0.5, acts[-1] + 0.5, color=SHADE, zorder=0)
    branches = list(dict.fromkeys(row.branch for row in part))
    # Decisions lie in rows below the curves, in parts of the axis' length.
    rise = 0.09 if top else 1 / (len(branches) + 1)
    for order, branch in enumerate(branches):
        own, colour = [row for row in part if row.branch == branch], BRANCHES[order % len(BRANCHES)]
        if top:
            seen = [(row.step, value, row.computed) for row in own if (value := drawn(row, part)) is not None]
            axes.plot([step for step, *_ in seen], [value for _, value, _ in seen], color=colour, linewidth=0.9)
            _marks(axes, seen, colour, "o", 4)
        strip = [(row.step, rise * (order + (0.7 if top else 1)), row.computed) for row in own]
        _marks(axes, strip, colour, "s", 5, transform=axes.get_xaxis_transform())
    threshold = part[0].threshold
    if top and threshold is not None and threshold <= top:
        axes.axhline(threshold, color=LIMIT, linewidth=0.9, linestyle=DASHES)
    room = rise * (len(branches) + 0.5)
    axes.set_ylim(-top * room / (1 - room) if top else 0, top or 1)
    axes.set_yticks([tick for tick in axes.get_yticks() if 0 <= tick <= top] if top else [])
    axes.set_xlim(0.3, max(steps) + 0.7)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.tick_params(labelsize=8, colors=QUIET)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(LINE)


def drawn(row: Row, part: list[Row]) -> float | None:
    """What a panel shows of a step: the level; or the signal, which is known at more steps, where the two are one."""
    same = all(one.level is None or one.level == one.signal for one in part)
    return row.signal if same else row.level


def _marks(
    axes: Any, points: list[tuple[int, float, bool]], colour: str, marker: str, size: float, **more: Any
) -> None:
    """Filled: computed; hollow: cached."""
    for computed, face in ((True, colour), (False, "white")):
        x = [step for step, _, is_computed in points if is_computed == computed]
        y = [value for _, value, is_computed in points if is_computed == computed]
        style = {"linestyle": "none", "markerfacecolor": face, "markeredgecolor": colour, "markersize": size}
        axes.plot(x, y, marker=marker, clip_on=False, in_layout=False, **style, **more)


def _legend(made: Any, shown: list[list[Row]], *, top: float, left_out: int) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    branches = [branch for branch in dict.fromkeys(row.branch for part in shown for row in part) if branch]
    colours = dict(zip(branches, BRANCHES * len(branches), strict=False))
    handles: list[Any] = [
        Line2D([], [], linestyle="none", marker="s", color=INK, label="computed"),
        Line2D([], [], linestyle="none", marker="s", color=INK, markerfacecolor="white", label="cached"),
        Patch(color=SHADE, label="may be cached"),
        *(Line2D([], [], color=colours[name], label=_drawable(name)) for name in branches),
    ]
    thresholds = {row.threshold for part in shown for row in part if row.threshold is not None}
    if top and thresholds:
        number = f" {min(thresholds):.4g}" if len(thresholds) == 1 else ""
        above = ", above" if min(thresholds) > top else ""
        handles.append(Line2D([], [], color=LIMIT, linestyle=DASHES, label=f"threshold{number}{above}"))
    if left_out:
        handles.append(Line2D([], [], linestyle="none", label=f"{left_out} more in trace.csv"))
    fitting = int(made.get_figwidth() / ENTRY)
    made.legend(
        handles=handles, loc="outside upper left", ncols=fitting, fontsize=8.5, frameon=False, columnspacing=1.2
    )


def _drawable(text: str) -> str:
    """As matplotlib's own font can have it: Latin, Greek and Cyrillic letters."""
    return "".join(c if c.isprintable() and c < "\u0530" else "?" for c in " ".join(text.split()))

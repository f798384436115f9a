"""The decisions of the cache strategy at each step as a table, read from a record; the content of `trace.csv`."""

from __future__ import annotations

import csv
from dataclasses import dataclass, fields
from io import StringIO
from typing import Any

from ..records.csv_cells import make_cell
from ..records.record import Record
from ..records.sample import BranchDecision, SampleRecord, Step


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row of `trace.csv`: one step in one guidance branch of one image. Unknown values are empty."""

    file: str
    prompt_index: int
    """Counted from 0, as in file names."""
    seed: int
    stage: str
    """Name of the denoising stage; a graph may have several."""
    step: int  # counted from 1
    branch: str
    """Guidance branch; empty if the step has only one."""
    computed: bool
    """Whether the step was computed, not cached; 1 or 0 in the file."""
    signal: float | None
    """What the criterion measured at this step."""
    level: float | None
    """The value that was compared with the threshold."""
    threshold: float | None
    """Empty for schedules."""
    seconds: float
    """Time of the whole step, with all guidance branches."""
    outside_window: bool
    """Whether a window over timesteps or noise levels had the step computed; 1 or 0 in the file."""


def rows(record: Record) -> list[Row]:
    """Lists the decisions of all cache strategies in a run; empty if none was attached."""
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
                        outside_window=step.outside_window,
                    )
                )
    return result


def decided_on(sample: SampleRecord, stage: str) -> bool:
    """Whether a strategy decided on whole steps of this stage; diffusers' own ones skip attention inside a step."""
    evidence = sample.engaged[stage].cache if stage in sample.engaged else None
    return evidence is not None and evidence.calls > 0 and evidence.modules is None


def strategy(record: Record, stage: str) -> dict[str, Any]:
    """Returns the cache options of a denoising stage: its own, or those of the run."""
    config = record.config
    stage_options = (((config.get("graph") or {}).get("stages") or {}).get(stage) or {}).get("options") or {}
    cache: dict[str, Any] = stage_options.get("cache") or config["cache"]
    return cache


def as_csv(decisions: list[Row]) -> str:
    """Returns the content of `trace.csv`."""
    names = [field.name for field in fields(Row)]
    file = StringIO()
    table = csv.writer(file, lineterminator="\n")
    table.writerow(names)
    for row in decisions:
        table.writerow([make_cell(getattr(row, name)) for name in names])
    return file.getvalue()

"""The samples of a job on the page: images, and the decisions of the cache strategy at each step."""

from __future__ import annotations

import os
from collections.abc import Sequence
from math import isfinite
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote

from ...execution.trace_table import Row as Decision
from ...execution.trace_table import rows as decisions
from ...inputs.files import find_place
from ...records.sample import SampleRecord
from ..rows import Row, Sweep
from .images import Album, still, within


def samples_of(row: Row) -> list[SampleRecord]:
    """Returns the samples of a completed job; none of any other job."""
    return row.record.samples if row.record is not None and row.status == "completed" else []


def describe_subject(sweep: Sweep, place: int) -> str:
    """Names the sample at this place by its prompt and seed, where all jobs have the same."""
    shown = [samples[place] for row in sweep.rows if len(samples := samples_of(row)) > place]
    prompts = {" ".join(sample.prompt.split()) for sample in shown}
    seeds = {sample.seed for sample in shown}
    prompt = prompts.pop() if len(prompts) == 1 else f"image {place + 1} of each job"
    return f"{prompt} (seed {seeds.pop()})" if len(seeds) == 1 else prompt


def sample_data(row: Row, sample: SampleRecord, album: Album, folder: Path) -> dict[str, Any]:
    """Returns a sample's entry: places of image, reference and difference map in the album, links to the first two."""
    name = PurePosixPath(sample.file).name
    files = (sample.file, f"reference/{name}", f"difference/{name}")
    ssim = sample.quality.ssim if sample.quality else None
    return {
        "file": sample.file,
        "prompt": f"{' '.join(sample.prompt.split())} (seed {sample.seed})",
        "ssim": None if ssim is None else f"{ssim:.4f}",
        "images": [album.add(within(row.folder, still(file))) for file in files],
        "links": [_link(within(row.folder, file), folder) for file in files[:2]],
        "trace": [],
    }


def _link(path: Path | None, start: Path) -> str | None:
    """A relative link, so that the folder can be moved; never a scheme such as `javascript:`."""
    if path is None:
        return None
    relative = Path(os.path.relpath(find_place(path), find_place(start))).as_posix()
    return "./" + quote(os.fsencode(relative))  # the bytes of the name, which need not be UTF-8


def add_traces(row: Row, samples: list[dict[str, Any]]) -> None:
    """Adds the strategies' decisions to each sample: one trace per stage and guidance branch."""
    try:
        traces = _traces(decisions(row.record)) if row.record is not None and samples else {}
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError):
        traces = {}  # a damaged record loses its traces, but the page is still made
    for sample in samples:
        sample["trace"] = traces.get(sample.pop("file"), [])


def _traces(all_decisions: Sequence[Decision]) -> dict[str, list[dict[str, Any]]]:
    """The traces of each sample, by its file."""
    by_file: dict[str, dict[tuple[str, str], list[Decision]]] = {}
    for decision in all_decisions:
        by_file.setdefault(decision.file, {}).setdefault((decision.stage, decision.branch), []).append(decision)
    stages = {decision.stage for decision in all_decisions}
    return {
        file: [_trace(line, stage if len(stages) > 1 else "", branch) for (stage, branch), line in lines.items()]
        for file, lines in by_file.items()
    }


def _trace(line: Sequence[Decision], stage: str, branch: str) -> dict[str, Any]:
    signal = [_short(step.signal) for step in line]
    level = [_short(step.level) for step in line]
    return {
        "name": ", ".join(filter(None, [stage, branch])),
        "computed": "".join("1" if step.computed else "0" for step in line),
        "signal": signal,
        # One curve is enough where the signal itself is compared with the threshold.
        "level": None if all(b is None or a == b for a, b in zip(signal, level, strict=True)) else level,
        "threshold": finite(line[0].threshold),
    }


def finite(value: float | None) -> float | None:
    """Returns the number; None for NaN and infinity, which JSON does not have."""
    return value if value is not None and isfinite(value) else None


def _short(value: float | None) -> float | None:
    return None if value is None or not isfinite(value) else float(f"{value:.4g}")

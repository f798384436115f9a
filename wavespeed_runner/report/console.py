"""The table in the console after a run: prints what the record says, computes nothing new.

Made for a terminal and for the log of a CI job: at most 80 columns without one, no path ever cut or wrapped.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import INTERRUPTED_MESSAGE
from ..metrics.timing import format_bytes, summarize_timings
from ..records.file import FILE
from ..records.names import against_reference_steps, describe_failure, model_name, setting_name
from ..records.record import NumericsFloor, Record
from ..records.sample import Metrics
from .console_text import LEGEND, encode_for, print_line
from .engaged import describe_engaged
from .strips import draw_strips

if TYPE_CHECKING:
    from rich.console import Console

QUALITY = (("ssim", "SSIM", 4), ("mae_similarity", "MAE similarity", 4), ("psnr", "PSNR in dB", 1))
"""Metric, its name for people, digits."""


def show(record: Record, folder: Path, console: Console | None = None) -> None:
    """Prints the result of one run; of a failed or interrupted one, what `show_failure` prints.

    Args:
        record: of the run.
        folder: of the run.
        console: where to print; stdout by default.
    """
    if record.status != "completed":
        show_failure(record, folder, console)
        return
    from rich.console import Console

    console = console or Console()
    print_line(console, _headline(record), style="bold", before=True)
    _table(console, record)
    for i, line in enumerate(draw_strips(record)):
        print_line(console, line, style="dim" if line == LEGEND else "", before=i == 0)
    for i, (group, text) in enumerate(describe_engaged(record)):
        print_line(console, f"{group:10} {text}", before=i == 0, wrap=True)
    for line in _remarks(record):
        print_line(console, line, before=True, wrap=True)
    for warning in record.warnings:
        print_line(console, f"warning: {warning}", style="yellow", before=True, wrap=True)
    _paths(console, record, folder)


def show_failure(record: Record, folder: Path, console: Console | None = None) -> None:
    """Prints one line, on stderr by default: where and why a run stopped, and where its record is."""
    from rich.console import Console

    console = console or Console(stderr=True)
    text = describe_failure(record)
    if record.status == "interrupted":
        where = f"stage {record.error.stage}: " if record.error and record.error.stage else ""
        text = f"{where}{INTERRUPTED_MESSAGE}"
    print_line(console, f"error: {text} (see {folder / FILE})", style="bold red")


def _headline(record: Record) -> str:
    """`demo · 4 images of 64 × 64 · 30 steps · cpu`."""  # noqa: RUF002
    config, count, kind = record.config, len(record.samples), _kind(record)
    size = f" of {config['width']} × {config['height']}" if config.get("width") and config.get("height") else ""  # noqa: RUF001
    parts = [model_name(config["model"]), f"{count} {kind}{'s' * (count != 1)}{size}"]
    if kind == "video":
        frames = record.samples[0].frames
        parts.append(f"{frames} frame{'s' * (frames != 1)}")
    if config.get("steps"):
        parts.append(f"{config['steps']} step{'s' * (config['steps'] != 1)}{against_reference_steps(config)}")
    device = record.environment.device
    # Names of GPUs are short and tell much; those of CPUs are long, and the record has them.
    parts.append(record.environment.device_name if device.startswith("cuda") else device)
    return " · ".join(parts)


def _kind(record: Record) -> str:
    """What the run made: `image` or `video`."""
    return "video" if any(sample.frames is not None for sample in record.samples) else "image"


def _table(console: Console, record: Record) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    is_compared = record.reference.kind == "run"
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), show_edge=False, pad_edge=False)
    table.add_column("")
    if is_compared:
        table.add_column("reference", justify="right")
    table.add_column(setting_name(record), justify="right", style="bold")
    quality = _quality_rows(record) if is_compared else _floor_rows(record, *QUALITY)
    for label, reference, result in [*_time_rows(record), *_work_rows(record), *_memory_rows(record), *quality]:
        cells = [label, reference, result] if is_compared else [label, result]
        table.add_row(*(Text(encode_for(console, cell)) for cell in cells))
    console.print()
    console.print(table)


def _time_rows(record: Record) -> list[tuple[str, str, str]]:
    """Label, reference, result."""
    timing = record.timing
    assert timing
    references = [s.reference_seconds for s in record.samples if s.reference_seconds is not None]
    reference = summarize_timings(timing.reference_raw or references)
    middle = reference["median"] if timing.reference_median is None else timing.reference_median
    spread = len(timing.raw) > 1
    longest = max(timing.median or 0, middle or 0)
    label = f"time per {_kind(record)}, median ± MAD" if spread else f"time per {_kind(record)}"
    own_time = _duration(timing.median, timing.mad if spread else None, longest)
    rows = [(label, _duration(middle, reference["mad"] if spread else None, longest), own_time)]
    if record.reference.kind == "run" and timing.speedup:
        guess = "~" if timing.same_run is False else ""
        rows.append(("speedup", "", f"{guess}{timing.speedup:.2f}×"))  # noqa: RUF001
    if timing.void is not None:
        rows.append(("timing", "", "void: compiled meanwhile"))
    if timing.compile_seconds is not None and timing.first_call is not None:
        times = [_duration(seconds, None, timing.first_call) for seconds in (timing.first_call, timing.compile_seconds)]
        rows.append(("first call / of it compiling", "", " / ".join(times)))
    return rows


def _work_rows(record: Record) -> list[tuple[str, str, str]]:
    """Label, reference, result."""
    samples, evidence = record.samples, record.engaged.cache
    if evidence and evidence.modules is not None:  # diffusers' own strategies skip attention inside of steps
        work = f"{evidence.calls - evidence.hits} / {evidence.hits}"
        rows = [("attention calls computed / cached", f"{evidence.calls} / 0", work)]
    else:
        total = [len(sample.steps) for sample in samples]
        computed = [sum(step.computed for step in sample.steps) for sample in samples]
        cached = [t - c for t, c in zip(total, computed, strict=True)]
        reference = [len(s.steps) if s.reference_steps is None else s.reference_steps for s in samples]
        rows = [("steps computed / cached", f"{_span(reference)} / 0", f"{_span(computed)} / {_span(cached)}")]
    if evidence and evidence.flop_share is not None:
        blocks, denoiser = evidence.flop_share, evidence.denoiser_flop_share or 0
        shares = f"{100 * blocks:.0f} % / {100 * denoiser:.0f} %"
        rows.append(("FLOPs of blocks / denoiser", "100 % / 100 %", shares))
    return rows


def _memory_rows(record: Record) -> list[tuple[str, str, str]]:
    figures = record.memory
    if figures is None or figures.peak_bytes is None or figures.weight_bytes is None:
        return []
    return [
        ("memory of weights / peak", "", f"{format_bytes(figures.weight_bytes)} / {format_bytes(figures.peak_bytes)}")
    ]


def _quality_rows(record: Record) -> list[tuple[str, str, str]]:
    rows: list[tuple[str, str, str]] = []
    for metric, label, digits in QUALITY:
        if record.quality is None:
            break
        summary = getattr(record.quality, metric)
        if summary.mean is None:  # PSNR where all images are identical: infinite
            rows.append((label, "", "identical"))
        elif len(record.samples) > 1:
            rows.append((f"{label}, mean (worst)", "", f"{summary.mean:.{digits}f} ({summary.worst:.{digits}f})"))
        else:
            rows.append((label, "", f"{summary.mean:.{digits}f}"))
        rows += [(f"  {name}", value, "") for name, _, value in _floor_rows(record, (metric, label, digits))]
    return rows


def _floor_rows(record: Record, *metrics: tuple[str, str, int]) -> list[tuple[str, str, str]]:
    """How close the reference comes to itself: again, and in another precision, as far as it was measured."""
    floor = record.noise_floor
    known: list[Metrics] = [f for f in (floor.repeat, floor.numerics) if f is not None] if floor else []
    how = " / ".join(f"in {one.what}" if isinstance(one, NumericsFloor) else "again" for one in known)
    rows = []
    for metric, label, digits in metrics if known else ():
        values = [getattr(one, metric) for one in known]
        rows.append((f"{label} {how}", "", " / ".join("identical" if v is None else f"{v:.{digits}f}" for v in values)))
    return rows


def _duration(seconds: float | None, mad: float | None, longest: float) -> str:
    """`704 ± 4 ms`: unit and digits follow from the longest time in the row; a dash where nothing was timed."""
    if seconds is None:
        return "-"
    factor, unit = (1, "s") if longest >= 1 else (1000, "ms")
    digits = max(0, 3 - len(str(int(longest * factor)))) + (unit == "s")
    around = f" ± {mad * factor:.{digits}f}" if mad is not None else ""
    return f"{seconds * factor:.{digits}f}{around} {unit}"


def _span(counts: Sequence[int]) -> str:
    """`17`, or `15-17` where images differ."""
    low, high = min(counts, default=0), max(counts, default=0)
    return str(low) if low == high else f"{low}-{high}"


def _remarks(record: Record) -> list[str]:
    """What the reader would otherwise wonder about."""
    lines = []
    samples = record.samples
    stored, count = sum(sample.source == "store" for sample in samples), len(samples)
    if stored == count > 0 and not any(sample.reference_source == "computed" for sample in samples):
        lines.append(
            "Nothing was denoised: everything was in the store already, and the times above are from when it was "
            "computed. rerun=true computes it again."
        )
    elif stored:
        lines.append(f"{stored} of {count} images came from the store; rerun=true denoises them again.")
    if record.timing and record.timing.same_run is False:
        lines.append(
            "Reference and images were timed in different runs, so the speedup is a guess; rerun=true times them in "
            "turn."
        )
    evidence = record.engaged.cache
    if evidence and evidence.flops_missing:
        lines.append(f"The share of FLOPs was not counted: {evidence.flops_missing}.")
    if record.reference.kind == "self":
        lines.append("Nothing lossy is on: this run is itself the reference.")
    elif record.reference.kind == "none":
        lines.append("Not compared with a reference; measure.reference=true does that.")
    return lines


def _paths(console: Console, record: Record, folder: Path) -> None:
    print_line(console, f"{_kind(record)}s and record", style="dim", before=True)
    print_line(console, f"  {folder}")
    for name, what in (("overview.png", "side by side"), ("trace.png", "what the cache decided at each step")):
        if (folder / name).exists():
            print_line(console, what, style="dim")
            print_line(console, f"  {folder / name}")

"""The table in the console after a run: prints what the record says, computes nothing new.

Made for a terminal and for the log of a CI job: at most 80 columns without one, no path ever cut or wrapped.
"""

from __future__ import annotations

from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import INTERRUPTED_MESSAGE
from ..process.pipes import get_styled_output
from ..records.file import FILE
from ..records.names import describe_failure, model_name, setting_name
from ..records.quality_summary import count_forks
from ..records.record import Record
from ..records.reference import against_reference
from .console_rows import QUALITY, floor_rows, judge_rows, memory_rows, quality_rows, read_kind, time_rows, work_rows
from .console_table import Column, make_table
from .console_text import LEGEND, print_line
from .engaged import describe_engaged
from .remarks import explain_forks
from .strips import draw_strips

if TYPE_CHECKING:
    from rich.console import Console


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

    console = console or Console(file=get_styled_output())
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
    config, count, kind = record.config, len(record.samples), read_kind(record)
    size = f" of {config['width']} × {config['height']}" if config.get("width") and config.get("height") else ""  # noqa: RUF001
    parts = [model_name(config["model"]), f"{count} {kind}{'s' * (count != 1)}{size}"]
    if kind == "video":
        frames = record.samples[0].frames
        parts.append(f"{frames} frame{'s' * (frames != 1)}")
    if config.get("steps"):
        steps = f"{config['steps']} step{'s' * (config['steps'] != 1)}{against_reference(record)}"
        parts.append(f"{steps}{_strength(record)}")
    if config.get("seed"):  # 0 is everybody's; another may have been drawn
        parts.append(f"seed {config['seed']}")
    device = record.environment.device
    # Names of GPUs are short and tell much; those of CPUs are long, and the record has them.
    parts.append(record.environment.device_name if device.startswith("cuda") else device)
    return " · ".join(parts)


def _strength(record: Record) -> str:
    """`, of which 15 run at strength 0.6` where a stage starts from an image, so that not all steps run; else empty."""
    stages = {n: s for n, s in record.config.get("graph", {}).get("stages", {}).items() if s["stage"] == "denoise"}
    if read_kind(record) == "video":  # the image is its first frame, and all steps run
        return ""
    parts = []
    for name, stage in stages.items():
        options, takes = stage.get("options") or {}, {"image", "latents"} & set(stage.get("inputs") or {})
        value, steps = (options.get(key, record.config.get(key)) for key in ("strength", "steps"))
        if not takes or not isinstance(value, float) or value >= 1 or not isinstance(steps, int):
            continue  # at 1 all steps run, as in models that take no strength
        run = sum(step.stage == name for step in record.samples[0].steps) if record.samples else 0
        # A sampler of two calls a step records calls; how many steps ran is then not known here.
        count = f", of which {run} run" if 0 < run <= ceil(steps * value) else ""
        parts.append(f"{count} at strength {value:g}{f' ({name})' if len(stages) > 1 else ''}")
    return "".join(dict.fromkeys(parts))


def _table(console: Console, record: Record) -> None:
    is_compared = record.reference.kind == "run"
    middle = [Column(head="reference", justify="right")] if is_compared else []
    columns = [Column(head=""), *middle, Column(head=setting_name(record), justify="right", style="bold")]
    quality = quality_rows(record) if is_compared else floor_rows(record, *QUALITY)
    quality += judge_rows(record)
    figures = [*time_rows(record), *work_rows(record), *memory_rows(record), *quality]
    rows = [[label, *([reference] if is_compared else []), result] for label, reference, result in figures]
    console.print()
    console.print(make_table(console, columns, rows), crop=False)


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
    # Where they were timed together all the same, a warning says what makes the speedup a guess.
    if record.timing and record.timing.same_run is False and not all(sample.timed_together for sample in samples):
        lines.append(
            "Reference and images were timed in different runs, so the speedup is a guess; rerun=true times them in "
            "turn."
        )
    evidence = record.engaged.cache
    if evidence and evidence.flops_missing:
        lines.append(f"The share of FLOPs was not counted: {evidence.flops_missing}.")
    if record.reference.kind == "run" and (forks := count_forks(record)):
        lines += explain_forks(record, forks)
    if record.reference.kind == "self":
        lines.append("Nothing lossy is on: this run is itself the reference.")
    elif record.reference.kind == "none":
        lines.append("Not compared with a reference; measure.reference=true does that.")
    return lines


def _paths(console: Console, record: Record, folder: Path) -> None:
    print_line(console, f"{read_kind(record)}s and record", style="dim", before=True)
    print_line(console, f"  {folder}")
    for name, what in (("overview.png", "side by side"), ("trace.png", "what the cache decided at each step")):
        if (folder / name).exists():
            print_line(console, what, style="dim")
            print_line(console, f"  {folder / name}")

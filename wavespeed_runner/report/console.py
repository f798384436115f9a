"""The table in the console after a run: reads a record (`record.json`, DESIGN section 5), prints, computes nothing new.

Made for a terminal and for the log of a CI job: at most 80 columns without one, no path ever cut or wrapped.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..metrics.timing import summarize_timings
from ..records.names import fewer_than_reference, model_name, setting

if TYPE_CHECKING:
    from rich.console import Console

QUALITY = (("ssim", "SSIM", 4), ("mae_similarity", "MAE similarity", 4), ("psnr", "PSNR in dB", 1))
"""Metric, its name for people, digits."""
ASCII = str.maketrans({"×": "x", "±": "+-", "■": "#", "□": "."})  # noqa: RUF001
"""For logs that are not UTF-8."""
STRIPS, STRIP = 8, 60
"""Most strips that are drawn, and most steps in one."""
LEGEND = "■ computed   □ reused"


def show(record: dict[str, Any], console: Console | None = None) -> None:
    """Prints the result of one run; of a failed or interrupted one, what `show_failure` says."""
    if record["status"] != "completed":
        show_failure(record, console)
        return
    from rich.console import Console

    console = console or Console()
    _line(console, _headline(record), style="bold", before=True)
    _table(console, record)
    for i, line in enumerate(_strips(record)):
        _line(console, line, style="dim" if line == LEGEND else "", before=i == 0)
    for line in _remarks(record):
        _line(console, line, before=True, wrap=True)
    for warning in record["warnings"]:
        _line(console, f"warning: {warning}", style="yellow", before=True, wrap=True)
    _paths(console, record)


def show_failure(record: dict[str, Any], console: Console | None = None) -> None:
    """Prints, on stderr unless told otherwise, one line: where and why a run stopped, and where its record is."""
    from rich.console import Console

    console = console or Console(stderr=True)
    error = record.get("error") or {}
    where = f"stage {error['stage']}: " if error.get("stage") else ""
    if record["status"] == "interrupted":
        text = "interrupted; the same command run again goes on from what is in the store"
    else:
        # The message of a RunError was written for people; of anything else, the type says more than the message.
        kind = "" if error.get("type") == "RunError" else f"{error.get('type', 'failed')}: "
        text = kind + " ".join(str(error.get("message", "")).split())
    record_path = f" (see {Path(record['output_dir']) / 'record.json'})" if record.get("output_dir") else ""
    _line(console, f"error: {where}{text}{record_path}", style="bold red")


def _headline(record: dict[str, Any]) -> str:
    """`demo · 4 images of 64 × 64 · 30 steps · cpu`: what the record tells of it."""  # noqa: RUF002
    config, count, kind = record["config"], len(record["samples"]), _kind(record)
    size = f" of {config['width']} × {config['height']}" if config.get("width") and config.get("height") else ""  # noqa: RUF001
    parts = [model_name(config["model"]), f"{count} {kind}{'s' * (count != 1)}{size}"]
    if kind == "video":
        frames = record["samples"][0]["frames"]
        parts.append(f"{frames} frame{'s' * (frames != 1)}")
    if config.get("steps"):
        parts.append(f"{config['steps']} step{'s' * (config['steps'] != 1)}{fewer_than_reference(config)}")
    machine = record.get("environment") or {}
    device = str(machine.get("device") or "")
    # Names of GPUs are short and tell much; those of CPUs are long, and the record has them.
    name = machine.get("device_name") if device.startswith("cuda") else None
    return " · ".join([*parts, *filter(None, [name or device])])


def _kind(record: dict[str, Any]) -> str:
    """What the run made: `image` or `video`."""
    return "video" if any("frames" in sample for sample in record["samples"]) else "image"


def _table(console: Console, record: dict[str, Any]) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    compared = record["reference"]["kind"] == "run"
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), show_edge=False, pad_edge=False)
    table.add_column("")
    if compared:
        table.add_column("reference", justify="right")
    table.add_column(setting(record), justify="right", style="bold")
    for label, reference, result in _rows(record):
        cells = [label, reference, result] if compared else [label, result]
        table.add_row(*(Text(encodable(console, cell)) for cell in cells))
    console.print()
    console.print(table)


def _rows(record: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Label, reference, result."""
    timing, samples = record["timing"], record["samples"]
    compared = record["reference"]["kind"] == "run"
    one_each = [s["reference_seconds"] for s in samples if s.get("reference_seconds") is not None]
    theirs = summarize_timings(timing.get("reference_raw") or one_each)
    if timing.get("reference_median") is not None:
        theirs["median"] = timing["reference_median"]
    spread = len(timing.get("raw") or ()) > 1
    longest = max(t["median"] or 0 for t in (timing, theirs))
    time_label = f"time a {_kind(record)}, median ± MAD" if spread else f"time a {_kind(record)}"
    rows = [(time_label, _duration(theirs, longest, spread), _duration(timing, longest, spread))]
    if compared and timing.get("speedup"):
        guess = "~" if timing.get("same_run") is False else ""
        rows.append(("speedup", "", f"{guess}{timing['speedup']:.2f}×"))  # noqa: RUF001
    computed = [sum(step["computed"] for step in s["steps"]) for s in samples]
    total = [len(s["steps"]) for s in samples]
    reused = [t - c for t, c in zip(total, computed, strict=True)]
    theirs_in_all = [s.get("reference_steps", steps) for s, steps in zip(samples, total, strict=True)]
    rows.append(("steps computed / reused", f"{_span(theirs_in_all)} / 0", f"{_span(computed)} / {_span(reused)}"))
    evidence = (record.get("engaged") or {}).get("cache") or {}
    if "modules" in evidence:  # diffusers' own strategies skip attention inside of steps
        done, skipped = evidence["calls"] - evidence["hits"], evidence["hits"]
        rows[-1] = ("attention calls computed / reused", f"{evidence['calls']} / 0", f"{done} / {skipped}")
    if evidence.get("flop_share") is not None:
        shares = " / ".join(f"{100 * evidence[name]:.0f} %" for name in ("flop_share", "denoiser_flop_share"))
        rows.append(("FLOPs of blocks / denoiser", "100 % / 100 %", shares))
    return rows + (_quality_rows(record) if compared else _floor_rows(record, *QUALITY))


def _quality_rows(record: dict[str, Any]) -> list[tuple[str, str, str]]:
    rows = []
    for metric, label, digits in QUALITY:
        if (figures := (record.get("quality") or {}).get(metric)) is None:
            continue
        if figures["mean"] is None:  # PSNR of nothing but identical images: infinite
            rows.append((label, "", "identical"))
        elif len(record["samples"]) > 1:
            rows.append((f"{label}, mean (worst)", "", f"{figures['mean']:.{digits}f} ({figures['worst']:.{digits}f})"))
        else:
            rows.append((label, "", f"{figures['mean']:.{digits}f}"))
        rows += [(f"  {name}", value, "") for name, _, value in _floor_rows(record, (metric, label, digits))]
    return rows


def _floor_rows(record: dict[str, Any], *metrics: tuple[str, str, int]) -> list[tuple[str, str, str]]:
    """How close the reference comes to itself: again, and in another precision, as far as it was measured."""
    floor = record.get("noise_floor") or {}
    known = {name: floor[name] for name in ("repeat", "numerics") if floor.get(name)}
    how = " / ".join(f"in {one['what']}" if "what" in one else "again" for one in known.values())
    shown = [(label, [one[metric] for one in known.values()], digits) for metric, label, digits in metrics if known]
    return [
        (f"{label} {how}", "", " / ".join("identical" if v is None else f"{v:.{digits}f}" for v in values))
        for label, values, digits in shown
    ]


def _duration(timing: dict[str, Any], longest: float, spread: bool) -> str:
    """`704 ± 4 ms`: unit and digits follow from the longest time in the row; a dash where nothing was timed."""
    if timing["median"] is None:
        return "-"
    factor, unit = (1, "s") if longest >= 1 else (1000, "ms")
    digits = max(0, 3 - len(str(int(longest * factor)))) + (unit == "s")
    around = f" ± {timing['mad'] * factor:.{digits}f}" if spread and timing.get("mad") is not None else ""
    return f"{timing['median'] * factor:.{digits}f}{around} {unit}"


def _span(counts: Sequence[int]) -> str:
    """`17`, or `15-17` where images differ."""
    low, high = min(counts, default=0), max(counts, default=0)
    return str(low) if low == high else f"{low}-{high}"


def _strips(record: dict[str, Any]) -> list[str]:
    """Which steps were computed and which reused, drawn: one line if all images agree, else one per image."""
    strips = ["".join("■" if step["computed"] else "□" for step in s["steps"]) for s in record["samples"]]
    if not any("□" in strip for strip in strips) or max(map(len, strips)) > STRIP:
        return []
    foretold = _foretold(record, max(map(len, strips)))
    if len(set(strips)) == 1:
        return [strips[0], *foretold, LEGEND]
    prompts = [" ".join(s["prompt"].split()) for s in record["samples"]]
    lines = [f"{strip}  {prompt}"[:79] for strip, prompt in zip(strips, prompts, strict=True)]
    more = [f"... and {len(lines) - STRIPS} images more"] if len(lines) > STRIPS else []
    return [*lines[:STRIPS], *more, *foretold, LEGEND]


def _foretold(record: dict[str, Any], steps: int) -> list[str]:
    """What a calibration says that would be computed, drawn as what was; nothing without one."""
    said = (record.get("cache") or {}).get("foretold")
    if not said:
        return []
    bar = "".join("■" if step in said["computed_steps"] else "□" for step in range(1, steps + 1))
    return [f"{bar}  foretold by the calibration"[:79]]


def _remarks(record: dict[str, Any]) -> list[str]:
    """What the reader would otherwise wonder about."""
    lines = []
    samples = record["samples"]
    stored, count = sum(s.get("source") == "store" for s in samples), len(samples)
    if stored == count > 0 and not any(s.get("reference_source") == "computed" for s in samples):
        lines.append(
            "Nothing was denoised: everything was in the store already, and the times above are from when it was "
            "computed. rerun=true computes it again."
        )
    elif stored:
        lines.append(f"{stored} of {count} images came from the store, not denoised again; rerun=true does that.")
    if (record.get("timing") or {}).get("same_run") is False:
        lines.append(
            "Reference and setting were timed in different runs, so the speedup is a guess: rerun=true times them "
            "in turn."
        )
    missing = ((record.get("engaged") or {}).get("cache") or {}).get("flops_missing")
    if missing:
        lines.append(f"The share of FLOPs was not counted: {missing}.")
    if record["reference"]["kind"] == "self":
        lines.append("Nothing lossy is on: this run is itself the reference.")
    elif record["reference"]["kind"] == "none":
        lines.append("Not compared with a reference: measure.reference=true does that.")
    return lines


def _paths(console: Console, record: dict[str, Any]) -> None:
    folder = Path(record["output_dir"])
    _line(console, f"{_kind(record)}s and record", style="dim", before=True)
    _line(console, f"  {folder}")
    for name, what in (("overview.png", "side by side"), ("trace.png", "what the cache decided at each step")):
        if (folder / name).exists():
            _line(console, what, style="dim")
            _line(console, f"  {folder / name}")


def encodable(console: Console, text: str) -> str:
    """Text as the console's encoding can have it, and no control characters: a prompt may be a stranger's."""
    text = "".join(c if c.isprintable() else "?" for c in text)
    if console.encoding.lower().startswith("utf"):
        return text
    return text.replace(" ·", ",").translate(ASCII).encode(console.encoding, "replace").decode(console.encoding)


def _line(console: Console, text: str, *, style: str = "", before: bool = False, wrap: bool = False) -> None:
    """Prints text literally (no markup: prompts and paths have brackets), after an empty line if `before`."""
    from rich.text import Text

    if before:
        console.print()
    console.print(Text(encodable(console, text), style=style), soft_wrap=not wrap)

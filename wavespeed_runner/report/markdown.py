"""`report.md`: the report of a sweep or a run in Markdown, for pull requests and papers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from ..metrics.forks import FORK
from ..metrics.statistics import Interval
from ..records.quality_summary import Quality
from .engaged import describe_engaged
from .judges import describe_mean, list_judges
from .markdown_text import escape, escape_code, escape_span, format_table
from .published_text import published_section
from .ranking import is_nothing_faster, time_factors
from .remarks import (
    NOTHING_FASTER,
    SCALED,
    describe_apart,
    describe_compiling,
    describe_forks,
    describe_never_hit,
    enumerate_names,
)
from .rows import Row, Sweep

MOST_ROWS = 80
"""Most rows of the table; with more jobs, those on the Pareto front and the rivals come first."""
MOST_LISTED = 40
"""Most failed jobs, and most reasons for skipped ones, that are listed."""
LONGEST_PROMPT = 48
"""Most characters of a prompt in the table."""
RIVAL = "fewer steps without a cache"


def report_md(sweep: Sweep, *, figure: str = "report.png", table: str = "results.csv") -> str:
    """Renders the report of a sweep in Markdown.

    Args:
        sweep: what to report.
        figure: file name of the plot, in the same folder.
        table: file name of the CSV file, in the same folder.

    Returns:
        The content of the file.
    """
    done = [row for row in sweep.rows if row.status == "completed"]
    parts = [f"# {escape(sweep.title)}", _summary(sweep)]
    if sweep.command:
        parts.append(f"```sh\n{escape_code(sweep.command)}\n```")
    if any(row.compared_with for row in done):
        parts.append(f"![Time and computed share against SSIM]({figure})")
    if done:
        shown = _shown(done)
        parts += ["## Results", _results(shown)]
        if left := len(done) - len(shown):
            parts.append(f"{left} of {len(done)} jobs are not shown here; `{table}` lists all of them.")
        parts += [_notes(done), *_judges(shown), *published_section(sweep)]
    parts += _engaged(done) + _failures(sweep.rows) + _skipped(sweep.rows) + _environment(sweep)
    return "\n\n".join(parts) + "\n"


def _summary(sweep: Sweep) -> str:
    counts = Counter(row.status for row in sweep.rows)
    statuses = ", ".join(f"{count} {status}" for status, count in counts.most_common())
    count = f"{len(sweep.rows)} job{'s' * (len(sweep.rows) != 1)}"
    return f"{count}: {statuses}.{'' if sweep.finished else ' Not finished yet.'}"


def _shown(done: Sequence[Row]) -> list[Row]:
    """At most `MOST_ROWS` rows in their order; those on the front and rivals are kept before others."""
    first = sorted(range(len(done)), key=lambda i: (not (done[i].front or done[i].rival), i))[:MOST_ROWS]
    return [done[i] for i in sorted(first)]


def _results(rows: Sequence[Row]) -> str:
    longest = max((row.seconds.value for row in rows if row.seconds), default=1.0)
    factor, unit = (1.0, "s") if longest >= 1 else (1000.0, "ms")
    digits = 3 if longest >= 1 else 1 if longest < 0.1 else 0
    head = ["setting", f"time per image ({unit})", "speedup", "computed", "SSIM", "median, 10 %", "forks", "worst SSIM"]
    head += ["MAE similarity", "median, 10 %"]
    rivals = any(row.beaten_by_fewer_steps is not None for row in rows)
    lines = [
        [
            f"**{escape(row.label)}**" if row.front else escape(row.label),
            _interval(row.seconds, digits, factor),
            _speedup(row),
            "" if row.computed_share is None else f"{100 * row.computed_share:.0f} %",
            _mean(row.quality.get("ssim")),
            _spread(row.quality.get("ssim")),
            f"{row.forks.count} of {row.forks.of}" if row.forks else "",
            _worst(row.quality.get("ssim")),
            _mean(row.quality.get("mae_similarity")),
            _spread(row.quality.get("mae_similarity")),
            *([_verdict(row)] if rivals else []),
        ]
        for row in rows
    ]
    return format_table([*head, *([f"against {RIVAL}"] if rivals else [])], lines)


def _interval(interval: Interval | None, digits: int, factor: float = 1.0) -> str:
    if interval is None:
        return ""
    value, low, high = (f"{number * factor:.{digits}f}" for number in (interval.value, interval.low, interval.high))
    return value if low == value == high else f"{value} ({low} to {high})"


def _mean(quality: Quality | None) -> str:
    return _interval(quality.mean, 4) if quality else ""


def _spread(quality: Quality | None) -> str:
    return f"{quality.median:.4f}, {quality.p10:.4f}" if quality else ""


def _worst(quality: Quality | None, digits: str = ".4f") -> str:
    if quality is None:
        return ""
    prompt = quality.worst_prompt
    cut = prompt if len(prompt) <= LONGEST_PROMPT else prompt[: LONGEST_PROMPT - 1].rstrip() + "…"
    return f"{quality.worst:{digits}} ({escape(cut)}, seed {quality.worst_seed})"


def _speedup(row: Row) -> str:
    if row.speedup is None:
        return ""
    text, interval = f"{'' if row.same_run else '~'}{row.speedup:.2f}x", row.speedup_interval
    return f"{text} ({interval.low:.2f} to {interval.high:.2f})" if interval and interval.low < interval.high else text


def _verdict(row: Row) -> str:
    if row.rival:
        return "(other sampler)" if row.solver else "(fewer steps)"
    if row.beaten_by_fewer_steps is None:
        return ""
    verdict = "beaten by" if row.beaten_by_fewer_steps else "better than"
    named = f"{verdict} {row.best_rival}" if row.best_rival else verdict.split()[0]
    return f"{'' if row.judged_same_run else '~'}{escape(named)}"


def _notes(done: Sequence[Row]) -> str:
    """Explanations of the table as a list, only those that apply to these jobs."""
    prompts = {sample.prompt for row in done if row.record for sample in row.record.samples}
    lines = [
        "Time is the median time to denoise one image; SSIM and MAE similarity are means over the images. Brackets: "
        f"95 % bootstrap intervals over {'prompts' if len(prompts) > 1 else 'the images of the only prompt'}.",
    ]
    if any(row.front for row in done):
        lines.append(
            "Bold: faster than the reference, and no other setting is both as fast and as good (Pareto front)."
        )
    elif is_nothing_faster(done):
        lines.append(NOTHING_FASTER)
    if any(factor != 1 for factor in time_factors(done)):
        lines.append(SCALED)
    if any(row.forks for row in done):
        lines.append(
            f"10 %: a tenth of the images are no better. Forks: images with an SSIM below {FORK:g}, which count as "
            "another image than the reference."
        )
    lines += map(escape, [*describe_forks(done), *describe_never_hit(done), *describe_compiling(done)])
    lines += describe_apart(done)
    if any(row.beaten_by_fewer_steps is not None for row in done):
        lines.append(
            f"Beaten: {RIVAL}, of whichever sampler was run, have at least this SSIM in no more time (interpolated "
            "between the step counts that were run with one sampler, and the reference); the best of them is named."
        )
    if any(row.beaten_by_fewer_steps is not None and not row.judged_same_run for row in done):
        lines.append("~beaten, ~better: timed in different runs, so the verdict is only an estimate.")
    floors = [row.quality["ssim"].noise_floor for row in done if "ssim" in row.quality]
    known = [floor for floor in floors if floor is not None]
    if known:
        lines.append(
            f"Noise floor: the reference compared with itself, run again or with other numerics, has SSIM "
            f"{min(known):.4f}; differences above it mean nothing."
        )
    if len({row.compared_with for row in done if row.compared_with}) > 1:
        lines.append("Jobs with different references, prompts or hardware are not compared with each other.")
    return "\n".join(f"- {line}" for line in lines)


def _judges(rows: Sequence[Row]) -> list[str]:
    """What the judges of the config group `metrics` say, a table of its own for each."""
    parts = []
    for name, is_less in list_judges(rows).items():
        judged = [(row, row.metrics[name]) for row in rows if name in row.metrics]
        lines = [
            [
                escape(row.label),
                describe_mean(quality),
                f"{quality.median:.4g}, {quality.p10:.4g}",
                _worst(quality, ".4g"),
                "" if quality.reference_mean is None else f"{quality.reference_mean:.4g}",
            ]
            for row, quality in judged
        ]
        better = "less" if is_less else "more"
        head = ["setting", f"{name} ({better} is better)", "median, 10 %", "worst", "of the references"]
        parts.append(format_table(head, lines))
    return ["## Judges", *parts] if parts else []


def _engaged(done: Sequence[Row]) -> list[str]:
    """What quantization, compilation and the other groups did, of the jobs that have any of them."""
    lines = [
        f"- `{escape_span(row.job)}` {escape(row.label)}, {group}: {escape(what)}"
        for row in _shown(done)
        for group, what in (describe_engaged(row.record) if row.record else [])
    ]
    return ["## What took effect", "\n".join(lines)] if lines else []


def _failures(rows: Sequence[Row]) -> list[str]:
    ended = [row for row in rows if row.status in ("failed", "lost", "interrupted", "running")]
    if not ended:
        return []
    lines = [[escape(row.job), escape(row.label), row.status, escape(row.reason)] for row in ended[:MOST_LISTED]]
    more = [f"and {len(ended) - MOST_LISTED} more"] if len(ended) > MOST_LISTED else []
    return ["## Without a result", format_table(["job", "setting", "status", "reason"], lines), *more]


def _skipped(rows: Sequence[Row]) -> list[str]:
    """Skipped jobs grouped by reason: a sweep over combinations may skip hundreds for the same one."""
    labels: dict[str, list[str]] = {}
    for row in rows:
        if row.status == "skipped":
            labels.setdefault(row.reason, []).append(row.label)
    if not labels:
        return []
    ordered = sorted(labels.items(), key=lambda item: -len(item[1]))
    lines = [
        [str(len(names)), escape(reason), escape(enumerate_names(names))] for reason, names in ordered[:MOST_LISTED]
    ]
    more = [f"and {len(labels) - MOST_LISTED} more reasons"] if len(labels) > MOST_LISTED else []
    return ["## Skipped", format_table(["jobs", "reason", "settings"], lines), *more]


def _environment(sweep: Sweep) -> list[str]:
    known = sweep.environment
    if not known:
        return []
    versions = known.get("versions") if isinstance(known.get("versions"), dict) else {}
    pairs: list[tuple[str, object]] = [("device", known.get("device_name")), ("driver", known.get("driver"))]
    pairs += [(str(name), version) for name, version in (versions or {}).items() if version != "absent"]
    pairs += [("platform", known.get("platform")), ("commit", known.get("commit"))]
    text = ["## Environment", ", ".join(f"{escape(name)} {escape(str(value))}" for name, value in pairs if value)]
    if known.get("differs"):
        text.append(f"Not the same in all jobs: {', '.join(escape(str(key)) for key in known['differs'])}.")
    return text

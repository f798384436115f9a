"""The columns of `results.csv`: names, meanings, and how each value is read from a row of the report."""

from __future__ import annotations

from ..records.names import model_name, setting_name
from ..records.record import Timing
from ..records.reference import reference_sampler, reference_steps
from .csv_column import Column, get_record
from .csv_quality import QUALITY_COLUMNS
from .rows import Row


def _timing(row: Row) -> Timing:
    """The timing of a row; raises LookupError if there is none, so the cell stays empty."""
    if (timing := get_record(row).timing) is None:
        raise LookupError
    return timing


COLUMNS = (
    Column(name="job", meaning="folder of the job, relative to the sweep's folder", value=lambda row: row.job),
    Column(name="label", meaning="name of the job in plots; unique", value=lambda row: row.label),
    Column(
        name="status",
        meaning="`completed`, `failed`, `interrupted` (by the user, or killed together with the sweep), `running`, "
        "`lost` (its process died), `skipped` (refused by a rule) or `missing` (not run yet)",
        value=lambda row: row.status,
    ),
    Column(name="reason", meaning="why the job failed or was skipped", value=lambda row: row.reason),
    Column(name="model", meaning="the loaded model", value=lambda row: model_name(get_record(row).config["model"])),
    Column(name="setting", meaning="the lossy options", value=lambda row: setting_name(get_record(row))),
    Column(name="steps", meaning="denoising steps", value=lambda row: get_record(row).config["steps"]),
    Column(
        name="reference_steps",
        meaning="denoising steps of the reference",
        value=lambda row: reference_steps(get_record(row)),
    ),
    Column(
        name="reference_sampler",
        meaning="sampler of the reference; `default` is the model's own",
        value=lambda row: reference_sampler(get_record(row))["name"],
    ),
    Column(name="pictures", meaning="number of images or videos", value=lambda row: len(get_record(row).samples)),
    Column(
        name="prompts",
        meaning="number of different prompts",
        value=lambda row: len({sample.prompt for sample in get_record(row).samples}),
    ),
    Column(
        name="seeds",
        meaning="`same`: every prompt has the same seeds; `per_prompt`: seeds of its own",
        value=lambda row: get_record(row).config.get("seeds", "same"),
    ),
    Column(
        name="seconds",
        meaning="time to denoise one image, median over images and repeats",
        value=lambda row: row.seconds and row.seconds.value,
    ),
    Column(
        name="seconds_low", meaning="lower bound of its interval", value=lambda row: row.seconds and row.seconds.low
    ),
    Column(
        name="seconds_high", meaning="upper bound of its interval", value=lambda row: row.seconds and row.seconds.high
    ),
    Column(name="seconds_p90", meaning="90th percentile over images and repeats", value=lambda row: _timing(row).p90),
    Column(
        name="seconds_mad",
        meaning="median absolute deviation over images and repeats, so it includes differences between images: the ± "
        "in the console table, and `mad` in a claim",
        value=lambda row: _timing(row).mad,
    ),
    Column(
        name="first_call_seconds",
        meaning="time of the first generation, which includes warm-up and is not part of `seconds`",
        value=lambda row: _timing(row).first_call,
    ),
    Column(
        name="compile_seconds",
        meaning="time of compiling in the warm-up; empty where nothing is compiled",
        value=lambda row: _timing(row).compile_seconds,
    ),
    Column(
        name="timing_void",
        meaning="why the times mean nothing: code was compiled, or fell back to eager, while they were taken; "
        "`seconds` and `speedup` are empty then",
        value=lambda row: _timing(row).void,
    ),
    Column(
        name="reference_seconds",
        meaning="median time to denoise one image of the reference",
        value=lambda row: _timing(row).reference_median,
    ),
    Column(name="speedup", meaning="`reference_seconds` divided by `seconds`", value=lambda row: row.speedup),
    Column(
        name="same_run",
        meaning="whether reference and job were timed in turn in one run. 0: they were timed in different processes, "
        "more than 15 minutes apart, or (as the computed share shows) while the machine was busier, so the speedup is "
        "only an estimate",
        value=lambda row: row.same_run if row.speedup is not None else None,
    ),
    Column(
        name="computed_share",
        meaning="share of the reference's work that was computed: by FLOPs of the blocks where they were counted, "
        "otherwise by steps; empty for strategies that skip attention inside a step (`pab`, `fastercache`), whose "
        "share is not measured",
        value=lambda row: row.computed_share,
    ),
    Column(
        name="hit_rate",
        meaning="share of the steps that were cached",
        value=lambda row: getattr(get_record(row).cache, "hit_rate", None),
    ),
    Column(
        name="never_hit",
        meaning="a cache was on but every step was computed: the cache did not cause any difference in time",
        value=lambda row: row.never_hit if row.status == "completed" else None,
    ),
    *QUALITY_COLUMNS,
    Column(
        name="weight_bytes",
        meaning="bytes of the weights of all components, as they are stored while the model runs",
        value=lambda row: row.weight_bytes,
    ),
    Column(
        name="peak_memory_bytes",
        meaning="at the peak of denoising, without the weights of other models in the process; on CUDA what torch "
        "allocated on the device, elsewhere the resident memory of the process",
        value=lambda row: row.peak_memory_bytes,
    ),
    Column(
        name="compared_with",
        meaning="equal for jobs that can be compared: same model, prompts, reference and hardware",
        value=lambda row: row.compared_with,
    ),
    Column(
        name="rivals_with",
        meaning="equal for jobs with the same rivals: comparable, and with the same batch size and memory options",
        value=lambda row: row.rivals_with,
    ),
    Column(
        name="rival",
        meaning="the job only has fewer steps than the reference, or another sampler, with nothing lossy on",
        value=lambda row: row.rival,
    ),
    Column(
        name="front",
        meaning="on the Pareto front: faster than the reference, and no other comparable job is both as fast and as "
        "good. Times count relative to the reference where every comparable job was timed in the same run as one. "
        "A job that computed as much as the reference in the same way is never on it",
        value=lambda row: row.front,
    ),
    Column(
        name="beaten_by_fewer_steps",
        meaning="fewer steps without a cache, of any sampler, have at least this SSIM in no more time (interpolated "
        "between rivals of one sampler, and the reference); empty without rivals",
        value=lambda row: row.beaten_by_fewer_steps,
    ),
    Column(name="best_rival", meaning="those with the highest SSIM in no more time", value=lambda row: row.best_rival),
    Column(
        name="judged_same_run",
        meaning="whether that comparison uses times relative to a reference timed in the same run; if not, it is an "
        "estimate",
        value=lambda row: row.judged_same_run if row.beaten_by_fewer_steps is not None else None,
    ),
    Column(name="device", meaning="name of the CPU or GPU", value=lambda row: get_record(row).environment.device_name),
    Column(name="torch", meaning="version of torch", value=lambda row: get_record(row).environment.versions["torch"]),
    Column(
        name="diffusers",
        meaning="version of diffusers",
        value=lambda row: get_record(row).environment.versions["diffusers"],
    ),
    Column(
        name="commit",
        meaning="commit of wavespeed_runner; `+` marks uncommitted changes",
        value=lambda row: get_record(row).environment.commit,
    ),
    Column(
        name="fingerprint",
        meaning="identifies everything that determines the images",
        value=lambda row: get_record(row).fingerprint,
    ),
)

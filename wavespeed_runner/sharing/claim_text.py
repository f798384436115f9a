"""Writes the text of an exported experiment: the comment at its head, and the claim as annotated YAML."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..accelerate.adapter_options import as_list
from ..config.claim import ClaimConfig, ClaimedFigure
from ..config.lossy import lossy_names
from ..metrics.forks import FORK
from ..models.weights.checkpoint import find_local_path
from ..records.names import model_name, setting_name
from ..records.quality_summary import count_forks
from ..records.record import Record
from ..records.reference import against_reference
from ..report.remarks import explain_forks
from .claim import is_single_timing
from .prompts import explain_not_carried, needs_prompt_file

NOTES = {
    "seconds": "median time to denoise an image; mad: of all timings; repeat_floor: of repeats of the same work",
    "speedup": "against the reference",
    "ssim": "mean against the reference; low and high: 95 % interval; p10: a tenth of the images are no better",
    "forks": f"images with an SSIM below {FORK:g}, which count as another image than the reference",
    "noise_floor": "the reference against itself",
    "computed_share": "of the blocks' work",
}
"""Comments beside keys of the claim."""
SINGLE = "of one image, timed once: how much it varies is not known, and it counts with a quarter of it as noise"
SHOWN_VERSIONS = ("wavespeed_runner", "torch", "diffusers", "transformers", "python")
"""Versions in the comment; the claim itself has all."""


def describe_claim(record: Record, config: dict[str, Any], claim: ClaimConfig, name: str) -> list[str]:
    """Lines of the comment at the head of an experiment file.

    They give the command that runs it, the model and setting, what was measured, on which hardware and with which
    versions, the command that verifies it, and the files it needs.
    """
    images, steps = len(claim.pixels_sha256), config["steps"]
    size = f"{config['width']}x{config['height']}"
    frames = f", {config['num_frames']} frames" if config["num_frames"] else ""
    versions = ", ".join(f"{key} {claim.versions[key]}" for key in SHOWN_VERSIONS if key in claim.versions)
    return [
        f"python -m wavespeed_runner --config-dir DIR experiment={name} (this file: DIR/experiment/{name}.yaml)",
        f"{model_name(config['model'])}, {setting_name(record)}: {_describe_figures(claim)}.",
        *(explain_forks(record, forks) if (forks := count_forks(record)) else []),
        f"Measured on {claim.device_name}: {images} images of {claim.prompts} prompts, {size}{frames}, "
        f"{steps} steps{against_reference(record)}.",
        f"With {versions}{f', commit {claim.commit}' if claim.commit else ''}.",
        f"Check it: python -m wavespeed_runner replay {name}.yaml",
        *([f"Its prompts are not in this file: {why}."] if (why := _explain_prompts(record, config)) else []),
        *_list_needed_files(config),
    ]


def describe_image(config: dict[str, Any], name: str, path: Path) -> list[str]:
    """Lines of the comment at the head of an experiment file that was made of one image."""
    setting = " + ".join(lossy_names(config)) or "no cache"
    return [
        f"python -m wavespeed_runner --config-dir DIR experiment={name} (this file: DIR/experiment/{name}.yaml)",
        f"{model_name(config['model'])}, {setting}: the settings of one image, which has no figures to claim.",
        f"Check it: python -m wavespeed_runner replay {path.name}",
        *_list_needed_files(config),
    ]


def _explain_prompts(record: Record, config: dict[str, Any]) -> str:
    """Why the prompts are not in the file; empty where they are, or everyone has them."""
    return explain_not_carried(record.plan.prompts) if needs_prompt_file(config) else ""


def format_claim(claim: ClaimConfig) -> str:
    """The key `claim` as YAML.

    Scalars are written as JSON, which Hydra's YAML reads with the same type: a hash or version made of digits stays
    text.
    """
    lines = ["claim:    # the measured figures, for replay to compare with; no effect on the run"]
    for key, value in asdict(claim).items():
        if value is None or value in ([], {}):
            continue
        note = f"    # {NOTES[key]}" if key in NOTES else ""
        note = f"    # {SINGLE}" if key in ("seconds", "speedup") and is_single_timing(claim) else note
        if isinstance(value, list):
            lines += [f"  {key}:", *(f"  - {json.dumps(item)}" for item in value)]
        elif key == "versions":
            lines += [f"  {key}:", *(f"    {name}: {json.dumps(version)}" for name, version in value.items())]
        elif key == "metrics":
            lines += [f"  {key}:", *(f"    {name}: {_format_figure(figure)}" for name, figure in value.items())]
        elif isinstance(value, dict):
            lines.append(f"  {key}: {_format_figure(value)}{note}")
        else:
            lines.append(f"  {key}: {json.dumps(value)}{note}")
    return "\n".join(lines) + "\n"


def _format_figure(figure: dict[str, float | None]) -> str:
    return (
        "{" + ", ".join(f"{name}: {json.dumps(number)}" for name, number in figure.items() if number is not None) + "}"
    )


def _describe_figures(claim: ClaimConfig) -> str:
    figures = []
    if claim.speedup is not None:
        interval = _format_interval(claim.speedup, ".2f")
        figures.append(f"{claim.speedup.value:.2f} times as fast as its reference{interval}")
    if claim.seconds is not None:
        figures.append(f"{claim.seconds.value:.3g} s per image{' (a single timing)' * is_single_timing(claim)}")
    if claim.ssim is not None:
        named = {"median": claim.ssim.median, "10th percentile": claim.ssim.p10, "worst": claim.ssim.worst}
        spread = "".join(f", {name} {value:.4f}" for name, value in named.items() if value is not None)
        forks = f", {claim.forks} of {len(claim.pixels_sha256)} images are forks" if claim.forks else ""
        floor = "" if claim.ssim.noise_floor is None else f", noise floor {claim.ssim.noise_floor:.4f}"
        figures.append(f"SSIM {claim.ssim.value:.4f}{_format_interval(claim.ssim, '.4f')}{spread}{forks}{floor}")
    figures += [f"{name} {figure.value:.4g}{_format_interval(figure, '.4g')}" for name, figure in claim.metrics.items()]
    return "; ".join(figures) or "nothing was timed or compared"


def _format_interval(figure: ClaimedFigure, digits: str) -> str:
    if figure.low is None or figure.high is None or figure.low == figure.high:
        return ""
    return f" (95 %: {figure.low:{digits}} to {figure.high:{digits}})"


def _list_needed_files(config: dict[str, Any]) -> list[str]:
    """One line for each file that the experiment needs and another user may not have."""
    model, adapters = config["model"], config["adapters"]
    weights = [
        (f"model.{key}", model.get(key)) for key in ("repo", "components", "vae") if model["init"] == "pretrained"
    ]
    lines = [
        f"{key}={path} is a local path: put the weights there, or change it to where the same weights are."
        for key, path in weights
        if path and not path.startswith("pkg://") and find_local_path(path) is not None
    ]
    files = [("prompts.path", config["prompts"]["path"] if needs_prompt_file(config) else None)]
    files += [(key, config[key]) for key in ("image", "mask")]
    files += [(f"metrics.{name}.weights", judge.get("weights")) for name, judge in config.get("metrics", {}).items()]
    lines += [
        f"metrics.{name}.folder={judge['folder']} is a local path: put that CLIP there, or give it with "
        f"metrics.{name}.folder=DIR."
        for name, judge in config.get("metrics", {}).items()
        if judge.get("folder")
    ]
    files += [("adapters.path", p) for p in as_list(adapters.get("path")) if p and find_local_path(p) is not None]
    return lines + [
        f"{key}={path}: put this file in the folder where the command runs, or give it with {key}=FILE."
        for key, path in files
        if path and not path.startswith("pkg://") and not Path(path).is_absolute()
    ]

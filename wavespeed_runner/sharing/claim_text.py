"""What an exported experiment says of itself: comments for people, and the claim as annotated YAML."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..accelerate.adapter_options import as_list
from ..config.claim import ClaimConfig, ClaimedFigure
from ..models.weights.checkpoint import find_local_path
from ..records.names import model_name, setting_name
from ..records.record import Record

ABOUT = {
    "seconds": "denoising an image, median; mad: of all timings; repeat_floor: the same, of one image again",
    "speedup": "against the reference",
    "ssim": "mean likeness to the reference; low and high: 95 %; worst: of the images",
    "noise_floor": "the reference to itself",
    "computed_share": "of the blocks' work",
}
SHOWN_VERSIONS = ("wavespeed_runner", "torch", "diffusers", "transformers", "python")
"""For people; the claim has all."""


def headline(record: Record, config: dict[str, Any], claim: ClaimConfig, name: str) -> list[str]:
    """Lines of the comment: the command, what it is, what was measured, where, with which versions, what it needs."""
    images, steps = len(claim.pixels_sha256), config["steps"]
    size = f"{config['width']}x{config['height']}"
    frames = f", {config['num_frames']} frames" if config["num_frames"] else ""
    against = config["measure"]["reference_steps"]
    reference = f" against {against}" if against not in (None, steps) else ""
    versions = ", ".join(f"{key} {claim.versions[key]}" for key in SHOWN_VERSIONS if key in claim.versions)
    return [
        f"python -m wavespeed_runner --config-dir DIR experiment={name} (this file: DIR/experiment/{name}.yaml)",
        f"{model_name(config['model'])}, {setting_name(record)}: {_measured(claim)}.",
        f"Measured on {claim.device_name}: {images} images of {claim.prompts} prompts, {size}{frames}, "
        f"{steps} steps{reference}.",
        f"With {versions}{f', commit {claim.commit}' if claim.commit else ''}.",
        f"Check it: python -m wavespeed_runner replay {name}.yaml",
        *_needs(config),
    ]


def claim_text(claim: ClaimConfig) -> str:
    """Writes the key `claim` as YAML.

    Scalars are written as JSON, which Hydra's YAML reads as what they are: a hash or a version of digits stays text.
    """
    lines = ["claim:    # what was measured: for replay to compare with; it computes nothing"]
    for key, value in asdict(claim).items():
        if value is None or value == []:
            continue
        about = f"    # {ABOUT[key]}" if key in ABOUT else ""
        if isinstance(value, list):
            lines += [f"  {key}:", *(f"  - {json.dumps(one)}" for one in value)]
        elif key == "versions":
            lines += [f"  {key}:", *(f"    {name}: {json.dumps(one)}" for name, one in value.items())]
        elif isinstance(value, dict):
            known = ", ".join(f"{name}: {json.dumps(one)}" for name, one in value.items() if one is not None)
            lines.append(f"  {key}: {{{known}}}{about}")
        else:
            lines.append(f"  {key}: {json.dumps(value)}{about}")
    return "\n".join(lines) + "\n"


def _measured(claim: ClaimConfig) -> str:
    said = []
    if claim.speedup is not None:
        said.append(f"{claim.speedup.value:.2f} times as fast as its reference{_around(claim.speedup, 2)}")
    if claim.seconds is not None:
        said.append(f"{claim.seconds.value:.3g} s an image")
    if claim.ssim is not None:
        worst = "" if claim.ssim.worst is None else f", worst {claim.ssim.worst:.4f}"
        floor = "" if claim.ssim.noise_floor is None else f", noise floor {claim.ssim.noise_floor:.4f}"
        said.append(f"SSIM {claim.ssim.value:.4f}{_around(claim.ssim, 4)}{worst}{floor}")
    return "; ".join(said) or "nothing was timed or compared"


def _around(figure: ClaimedFigure, digits: int) -> str:
    if figure.low is None or figure.high is None or figure.low == figure.high:
        return ""
    return f" (95 %: {figure.low:.{digits}f} to {figure.high:.{digits}f})"


def _needs(config: dict[str, Any]) -> list[str]:
    """Files that somebody else does not have."""
    model, adapters = config["model"], config["adapters"]
    weights = [(f"model.{key}", model.get(key)) for key in ("repo", "components") if model["init"] == "pretrained"]
    weights += [("adapters.path", path) for path in as_list(adapters.get("path"))]
    lines = [
        f"{key}={path} is a local path: it must be there, or be changed to where the same weights are."
        for key, path in weights
        if path and not path.startswith("pkg://") and find_local_path(path) is not None
    ]
    files = {"prompts.path": config["prompts"]["path"] if config["prompt"] is None else None}
    files |= {key: config[key] for key in ("image", "mask")}
    return lines + [
        f"{key}={path}: this file must lie where the command runs, or be given with {key}=FILE."
        for key, path in files.items()
        if path and not path.startswith("pkg://") and not Path(path).is_absolute()
    ]

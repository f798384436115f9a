"""Rules on plain values: sizes, steps, devices."""

from __future__ import annotations

import re
from importlib.util import find_spec
from sys import platform

from ..config.environment import has_cuda
from ..config.schema import Config, Init
from ..inputs.limits import MAX_SIDE
from ..models.family import Family
from ..models.weights.checkpoint import find_local_path, is_single_file
from .attention_needs import is_planned_elsewhere
from .rule import Rule, suggest_own


def _find_fixed_size(c: Config, f: Family) -> tuple[int, int] | None:
    return (f.tiny_size, f.tiny_size) if c.model.init is Init.tiny else f.fixed_size


def _fits_frames(count: int, multiple: int) -> bool:
    return count >= 1 and (count - 1) % multiple == 0


def _find_lacking(c: Config, f: Family) -> str:
    """A package that the model's components need and that is not installed; empty: none, or it is run elsewhere."""
    if c.model.init is not Init.pretrained or is_planned_elsewhere(c):
        return ""
    return next((package for package in f.packages if find_spec(package) is None), "")


def _is_single_file(c: Config) -> bool:
    return c.model.init is Init.pretrained and is_single_file(find_local_path(c.model.repo))


def _find_empty(c: Config) -> str:
    """The key of a model or an adapter that is named by an empty text, which as a path is the current folder."""
    named = {f"model.{key}": getattr(c.model, key, None) for key in ("repo", "components", "vae")}
    paths = getattr(c.adapters, "path", None)
    named |= {"adapters.path": ""} if "" in (paths if isinstance(paths, list) else [paths]) else {}
    return next((key for key, value in named.items() if value == ""), "")


def _round_side(side: int | None, f: Family) -> int:
    """The nearest side that the model can generate at; the smallest tested one where none is given."""
    most = MAX_SIDE // f.size_multiple
    return min(max(round((side or f.tiny_size) / f.size_multiple), 1), most) * f.size_multiple


VALUES: tuple[Rule, ...] = (
    Rule(
        id="empty-path",
        verdict="bad",
        when=lambda c, f: bool(_find_empty(c)),
        message=lambda c, f: (
            f"{_find_empty(c)}=: it is empty; allowed: a hub id 'owner/name', or a path (this folder: .)"
        ),
        fix="leave it out",
    ),
    Rule(
        id="model-package",
        verdict="bad",
        when=lambda c, f: bool(_find_lacking(c, f)),
        message=lambda c, f: (
            f"model={c.model.name}: loading it needs the package {_find_lacking(c, f)}, which is not installed"
        ),
        fix=lambda c, f: f"pip install {_find_lacking(c, f)}",
    ),
    Rule(
        id="steps-positive",
        verdict="bad",
        when=lambda c, f: (c.steps or 0) < 1,
        message="steps={c.steps}: at least 1 is needed",
        fix=lambda c, f: suggest_own(c, "steps", "20"),
    ),
    Rule(
        id="steps-least",
        verdict="bad",
        when=lambda c, f: 1 <= (c.steps or 0) < f.min_steps,
        message="steps={c.steps}: this model needs {f.min_steps} or more: with fewer, its noise levels are not numbers",
        fix=lambda c, f: suggest_own(c, "steps", "20"),
        source="stretch_shift_to_terminal of diffusers' FlowMatchEulerDiscreteScheduler: 0 / 0 for one level",
    ),
    Rule(
        id="size",
        verdict="bad",
        when=lambda c, f: any(v is None or v < 1 or v % f.size_multiple for v in (c.width, c.height)),
        message="width={c.width} height={c.height}: both must be positive multiples of {f.size_multiple}",
        fix=lambda c, f: f"such as width={_round_side(c.width, f)} height={_round_side(c.height, f)}",
    ),
    Rule(
        id="too-much",
        verdict="bad",
        when=lambda c, f: max(c.width or 0, c.height or 0) > MAX_SIDE,
        message=f"width={{c.width}} height={{c.height}}: at most {MAX_SIDE} pixels a side",
        fix="a mistyped zero?",
    ),
    Rule(
        id="repeats",
        verdict="bad",
        when=lambda c, f: c.measure.repeats < 1 or c.measure.warmup < 0,
        message="measure.repeats={c.measure.repeats} measure.warmup={c.measure.warmup}: "
        "at least 1 repeat, and no negative warm-up",
        fix="measure=default",
    ),
    Rule(
        id="size-limit",
        verdict="bad",
        when=lambda c, f: f.max_pixels is not None and (c.width or 0) * (c.height or 0) > f.max_pixels,
        message="width={c.width} height={c.height}: this model makes at most {f.max_pixels} pixels",
        fix="width={c.model.width} height={c.model.height}",
    ),
    Rule(
        id="size-fixed",
        verdict="bad",
        when=lambda c, f: f.fixed_size is not None and (c.width, c.height) != _find_fixed_size(c, f),
        message="width={c.width} height={c.height}: this model has learned positions of one size, "
        "{f.fixed_size[0]} x {f.fixed_size[1]} (init=tiny: {f.tiny_size} x {f.tiny_size})",
        fix="leave width and height out",
        source="diffusers CogVideoXPatchEmbed",
    ),
    Rule(
        id="batch",
        verdict="bad",
        when=lambda c, f: c.batch_size < 1 or c.num_images_per_prompt < 1,
        message="batch_size={c.batch_size} num_images_per_prompt={c.num_images_per_prompt}: at least 1 each",
        fix="batch_size=1 num_images_per_prompt=1",
    ),
    Rule(
        id="batch-fits",
        verdict="bad",
        when=lambda c, f: c.batch_size > 1 and not f.supports_batches,
        message="batch_size={c.batch_size}: prompts of this model cannot be joined to one batch",
        fix="batch_size=1",
    ),
    Rule(
        id="difference-gain",
        verdict="bad",
        when=lambda c, f: c.measure.difference_gain <= 0,
        message="measure.difference_gain={c.measure.difference_gain}: must be above 0",
        fix="measure.difference_gain=4",
    ),
    Rule(
        id="device",
        verdict="bad",
        when=lambda c, f: c.device not in ("auto", "cpu", "mps") and not _is_cuda(c.device),
        message="device={c.device}: allowed are auto, cpu, cuda, cuda:N, mps",
        fix="device=auto",
    ),
    Rule(
        id="device-present",
        verdict="bad",
        when=lambda c, f: _is_cuda(c.device) and not has_cuda() and not c.dry_run,
        message="device={c.device}: no NVIDIA driver, or a torch built without CUDA",
        fix="device=cpu",
    ),
    Rule(
        id="device-elsewhere",
        verdict="unverified",
        when=lambda c, f: _is_cuda(c.device) and not has_cuda() and c.dry_run,
        message="device={c.device}: this machine has none, so this is a plan for another one: what its GPU can do and "
        "what is installed there is not checked",
        fix="plan it again on the machine that will run it",
    ),
    Rule(
        id="device-mps",
        verdict="bad",
        when=lambda c, f: c.device == "mps" and platform != "darwin",
        message="device=mps: only macOS has it",
        fix="device=auto",
    ),
    Rule(
        id="weights",
        verdict="bad",
        when=lambda c, f: c.model.weights is not None and re.fullmatch(r"[A-Za-z0-9_-]{1,40}", c.model.weights) is None,
        message="model.weights={c.model.weights}: it is a part of the names of files, such as fp16",
        fix="model.weights=null for files without such a part",
    ),
    Rule(
        id="components",
        verdict="bad",
        when=lambda c, f: c.model.components is not None and not _is_single_file(c),
        message="model.components={c.model.components}: it completes a single file, and model.repo={c.model.repo} with "
        "model.init={c.model.init.value} is none, so it could not take effect",
        fix="leave model.components out",
    ),
    Rule(
        id="vae-random",
        verdict="bad",
        when=lambda c, f: c.model.vae is not None and c.model.init is not Init.pretrained,
        message="model.vae={c.model.vae}: with model.init={c.model.init.value} all weights are random",
        fix="leave model.vae out",
    ),
    Rule(
        id="num-frames",
        verdict="bad",
        when=lambda c, f: c.num_frames is not None and f.kind == "image",
        message="num_frames={c.num_frames}: this model makes images, not videos",
        fix="leave num_frames out",
    ),
    Rule(
        id="num-frames-fit",
        verdict="bad",
        when=lambda c, f: f.kind == "video" and not _fits_frames(c.num_frames or 0, f.frame_multiple),
        message="num_frames={c.num_frames}: one more than a multiple of {f.frame_multiple} is needed",
        fix=lambda c, f: suggest_own(c, "num_frames", f"{f.frame_multiple + 1}"),
    ),
)


def _is_cuda(device: str) -> bool:
    kind, _, index = device.partition(":")
    return kind == "cuda" and (not index or index.isdigit())

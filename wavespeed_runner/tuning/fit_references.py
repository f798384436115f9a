"""What a fit is fitted to: images of the model's own full run, made once and kept in the store."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from ..artifacts import Latents, Value
from ..metrics.forks import FORK
from ..metrics.quality import compare_images
from ..registry import find_implementation
from ..storage.store import Store
from .fit_numbers import robust_loss
from .student import BATCH, Generated, Student, relative_errors

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

STAGE = "fit"
"""What the store calls these entries."""
VERSION = 1
"""Of what they hold and how it is made: a higher one makes them anew."""


@dataclass(frozen=True, kw_only=True)
class FullRun:
    """A loaded model, and what its full run makes of all images."""

    student: Student
    key: str
    """Identifies the images, and everything that they depend on."""
    reference: Tensor
    """(images, D), the last states of the sampler."""
    shown: list[np.ndarray]
    """The images or videos that are not fitted on, decoded."""
    fitted_on: list[int]
    held_out: list[int]
    probed: list[int]
    """Those among `fitted_on` that starts are tried on."""
    images: dict[str, Any]
    """What a calibration tells of them."""

    def find_loss(self, generated: Generated) -> float:
        """Mean `robust_loss` of the images that are not fitted on."""
        return float(robust_loss(relative_errors(generated.result, self.reference[self.held_out])).mean())

    def measure(self, generated: Generated) -> dict[str, Any]:
        """Quality of the images that are not fitted on: SSIM to those of the full run; of videos, mean over frames."""
        import numpy as np

        pairs = zip(self.student.decode(generated.latents), self.shown, strict=True)
        values = np.array([compare_frames(*pair) for pair in pairs])
        round_ = partial(round, ndigits=4)
        return {
            "ssim": {
                "mean": round_(float(values.mean())),
                "median": round_(float(np.median(values))),
                "p10": round_(float(np.quantile(values, 0.1))),
            },
            "forks": int((values < FORK).sum()),
        }


def compare_frames(frames: np.ndarray, reference: np.ndarray) -> float:
    """Mean SSIM of the frames of one image or video, each (frames, height, width, 3); 0 where it is not defined."""
    values = [compare_images(*pair)["ssim"] for pair in zip(frames, reference, strict=True)]
    return sum(float(value) for value in values if value is not None) / len(values)


def make_full_run(
    student: Student, keys: Sequence[str], store: Store, *, fitted_on: int, probed: int, tell: Callable[[str], None]
) -> FullRun:
    """Makes the images of the full run, or reads them: each group is stored as soon as it is there.

    Args:
        student: the model and all images.
        keys: of each image, everything that it depends on.
        store: where they are kept.
        fitted_on: so many first images are fitted on, the others held out.
        probed: so many first images are what starts are tried on.
        tell: called with a line on what was read.
    """
    import torch
    from tqdm import tqdm

    assert len(student.requests) == len(keys), "one image a sample"
    groups = [range(first, min(first + BATCH, len(keys))) for first in range(0, len(keys), BATCH)]
    stored = [_digest([keys[index] for index in group]) for group in groups]
    found: list[Value] = []
    known = sum(key in store for key in stored)
    if known:
        tell(f"{known} of {len(groups)} groups of reference images are in the store")
    for group, key in zip(tqdm(groups, desc="full runs", leave=False, disable=None), stored, strict=True):
        raw = store.read(key)
        if raw is None:
            raw = _make_group(student, group).to_bytes()
            store.write(key, raw, stage=STAGE)
        found.append(Value.from_bytes(raw))
    results = [value.tensors.pop("result") for value in found]
    latents = Latents(
        tensors={name: torch.cat([value.tensors[name] for value in found]) for name in found[0].tensors},
        data=found[0].data,
    )
    held_out = list(range(fitted_on, len(keys)))
    shown = Latents(tensors={name: t[fitted_on:] for name, t in latents.tensors.items()}, data=latents.data)
    return FullRun(
        student=student,
        key=_digest(stored),
        reference=torch.cat(results).to(student.pipeline.device),
        shown=student.decode(shown),
        fitted_on=list(range(fitted_on)),
        held_out=held_out,
        probed=list(range(min(probed, fitted_on))),
        images=describe_images(student),
    )


def describe_images(student: Student) -> dict[str, Any]:
    """The first seed, and how many prompts there are, with a digest that tells lists of prompts apart."""
    prompts = list(dict.fromkeys(request.prompt for request in student.requests))
    digest = sha256("\n".join(prompts).encode()).hexdigest()[:8]
    return {"first_seed": student.requests[0].seed, "prompts": len(prompts), "prompts_digest": digest}


def _make_group(student: Student, group: range) -> Value:
    options = student.options
    full = find_implementation("sampler", options.sampler)(student.pipeline.pipe, options.sampler)
    made = student.generate(full, options.steps, group)
    return Value(tensors={**made.latents.tensors, "result": made.result}, data=made.latents.data)


def _digest(parts: Sequence[str]) -> str:
    return sha256("\n".join([f"fit {VERSION}", *parts]).encode()).hexdigest()

"""Which images a fit or a search takes: all, or of many candidates those that fewer steps change most, and others.

A fragile image is one that becomes another one where few steps take a little different way. Few of the drawn ones are,
and no start knows which: a cheap probe tells.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from hashlib import sha256
from typing import TYPE_CHECKING

from ..artifacts import Sample, Value
from ..config.environment import collect_key_parts
from ..planning.store_keys import compute_keys_of_samples
from ..registry import find_implementation
from ..storage.store import Store
from .denoising import end_at_denoising
from .fit_references import STAGE, VERSION
from .student import BATCH, Student, relative_errors

if TYPE_CHECKING:
    from torch import Tensor

    from ..planning.plan import Plan

PROBES = (4, 6)
"""Steps of the model's own sampler whose results are compared."""
FRAGILE = 0.5
"""The part of the images that are chosen for it."""


def choose_images(
    student: Student, keys: Sequence[str], store: Store, *, candidates: int, images: int, tell: Callable[[str], None]
) -> list[int]:
    """Indices of the images that are fitted on, ordinary ones first, and then those that are held out.

    Args:
        student: the model, with the candidates first, then the images that are held out, which are never chosen.
        keys: of each of its images, everything that it depends on.
        store: where the outcome of the probe is kept.
        candidates: how many there are.
        images: how many of them are wanted; where that is all of them, nothing is probed.
        tell: called with a line on what was chosen.
    """
    held_out = list(range(candidates, len(student.requests)))
    if candidates <= images:
        return [*range(candidates), *held_out]
    changes = _read_or_probe(student, keys[:candidates], store)
    order = changes.argsort(descending=True, stable=True).tolist()
    fragile = order[: int(FRAGILE * images)]
    ordinary = [index for index in range(candidates) if index not in set(fragile)][: images - len(fragile)]
    middle, least = float(changes.median()), float(changes[fragile[-1]])
    tell(
        f"{len(fragile)} of {candidates} candidates are taken for being fragile: between {PROBES[0]} and {PROBES[1]} "
        f"steps they change by {least**0.5:.2f} or more, the median one by {middle**0.5:.2f}"
    )
    return [*ordinary, *fragile, *held_out]


def key_images(plan: Plan, samples: Sequence[Sample]) -> list[str]:
    """Of each image, a hash of all that it depends on."""
    graph = end_at_denoising(plan.graph, lambda node: node)
    keys = compute_keys_of_samples(graph, samples, collect_key_parts(plan.config.device), timing=False)
    return [key[graph.output] for key in keys]


def take_images(student: Student, chosen: Sequence[int]) -> Student:
    """The same model with some of its images."""
    return replace(student, requests=[student.requests[index] for index in chosen])


def _read_or_probe(student: Student, keys: Sequence[str], store: Store) -> Tensor:
    """(candidates,): how far each image is with more steps from what it is with fewer; not finite counts as far."""
    import torch

    key = sha256("\n".join([f"fragile {VERSION} {PROBES}", *keys]).encode()).hexdigest()
    raw = store.read(key)
    if raw is None:
        changes = torch.cat([_probe(student, keys, first) for first in range(0, len(keys), BATCH)])
        raw = Value(tensors={"changes": changes}, data={}).to_bytes()
        store.write(key, raw, stage=STAGE)
    return Value.from_bytes(raw).tensors["changes"]


def _probe(student: Student, keys: Sequence[str], first: int) -> Tensor:
    group = range(first, min(first + BATCH, len(keys)))
    few, more = (_generate(student, steps, group) for steps in PROBES)
    return relative_errors(few, more).cpu().nan_to_num(nan=1e9, posinf=1e9)


def _generate(student: Student, steps: int, group: range) -> Tensor:
    options = student.options
    full = find_implementation("sampler", options.sampler)(student.pipeline.pipe, options.sampler)
    return student.generate(full, steps, group).result

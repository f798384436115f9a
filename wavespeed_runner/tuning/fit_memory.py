"""What the derivative of a fit keeps in memory, said before the fit starts."""

from __future__ import annotations

from ..metrics.timing import format_bytes
from ..registry import find_implementation
from .checkpointing import count_inputs
from .student import Student


def describe_memory(student: Student, evaluations: int) -> str:
    """A line on what the derivative will keep, from what goes into the blocks in one generation."""
    if not student.checkpointing or student.pipeline.family.blocks is None:
        return "checkpointing=false or unknown blocks: the derivative keeps all activations of all evaluations"
    size = measure_block_inputs(student) * evaluations
    together = student.count_together()
    line = (
        f"the derivative of {evaluations} evaluations keeps what goes into their blocks: {format_bytes(size)} an "
        f"image, {format_bytes(size * together)} for {together} differentiated together, beside what a run takes"
    )
    free = _find_free_memory(student.pipeline.device)
    if free is not None and size * together > free:
        line += f"; only {format_bytes(free)} are free: take fewer evaluations, or gradients=false"
    return line


def measure_block_inputs(student: Student) -> int:
    """Bytes that go into all blocks in one evaluation for one image, all guidance branches together."""
    options, pipe = student.options, student.pipeline.pipe
    full = find_implementation("sampler", options.sampler)(pipe, options.sampler)
    with count_inputs(student.denoisers, student.pipeline.family.blocks) as counted:
        student.generate(full, options.steps, [0])
    return sum(counted) // options.steps


def _find_free_memory(device: str) -> int | None:
    """Bytes that are free on a GPU; None for other devices, where others use the memory too."""
    import torch

    return int(torch.cuda.mem_get_info(device)[0]) if device.startswith("cuda") else None

"""What a fit keeps in memory, said before it starts, and how many images are differentiated at once."""

from __future__ import annotations

from ..metrics.timing import format_bytes
from ..registry import find_implementation
from .checkpointing import count_inputs
from .student import Student

RESIDUALS = 3
"""Computed residuals that a skipped step combines."""


def choose_together(student: Student, evaluations: int, skipped: int = 0) -> tuple[int, str]:
    """How many images fit into memory at once while the derivative is taken, and a line on what it keeps.

    Args:
        student: the model.
        evaluations: of the denoiser whose blocks run.
        skipped: steps of a cache whose residuals are predicted.
    """
    most = student.count_together()
    if not student.checkpointing or student.pipeline.family.blocks is None:
        return most, "checkpointing=false or unknown blocks: the derivative keeps all activations of all evaluations"
    inputs, largest = measure_block_inputs(student)
    # A skipped step's weights are differentiated by the residuals, which 16-bit models keep in float32 for it.
    size = inputs * evaluations + 2 * largest * RESIDUALS * skipped
    free = find_free_memory(student.pipeline.device)
    together = most if free is None or not size else max(1, min(most, free // size))
    line = (
        f"the derivative of {evaluations} evaluations keeps what goes into their blocks: {format_bytes(size)} an "
        f"image, {format_bytes(size * together)} for {together} differentiated together, beside what a run takes"
    )
    if free is not None and size > free:
        line += f"; only {format_bytes(free)} are free: take fewer evaluations, or gradients=false"
    return together, line


def measure_block_inputs(student: Student) -> tuple[int, int]:
    """Bytes that go into all blocks in one evaluation for one image, and those of the largest tensor among them."""
    options, pipe = student.options, student.pipeline.pipe
    full = find_implementation("sampler", options.sampler)(pipe, options.sampler)
    with count_inputs(student.denoisers, student.pipeline.family.blocks) as counted:
        student.generate(full, options.steps, [0])
    return sum(counted) // options.steps, max(counted, default=0)


def find_free_memory(device: str) -> int | None:
    """Bytes of a GPU that are free, or that PyTorch holds unused; None for other devices, which others use too."""
    import torch

    if not device.startswith("cuda"):
        return None
    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return int(torch.cuda.mem_get_info(device)[0]) + unused

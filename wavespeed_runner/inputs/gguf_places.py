"""Where the tensors of a GGUF file lie: inside the file, aligned, and each by itself.

The gguf package maps whatever place a header gives: one that wraps around 2^64, or lies on another tensor, becomes
weights that nobody stored. https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import prod

from .files import InputError

BLOCKS = {
    0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34), 10: (256, 84),
    11: (256, 110), 12: (256, 144), 13: (256, 176), 14: (256, 210), 20: (32, 18), 23: (256, 136), 30: (1, 2),
}  # fmt: skip
"""Type of a tensor that diffusers reads -> numbers in a block, and its bytes: F32, F16, Q4_0 to Q6_K, IQ4, BF16."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What a header says of a tensor."""

    name: str
    shape: list[int]
    """Outermost dimension first."""
    kind: int
    offset: int
    """From where the data begin."""


def refuse_places(entries: Sequence[Entry], start: int, alignment: int, size: int) -> None:
    """Refuses tensors that a reader would find where none was written.

    Args:
        entries: the tensors.
        start: of the data, in bytes from the beginning of the file.
        alignment: of each tensor.
        size: of the file.

    Raises:
        InputError: names the tensor.
    """
    if twice := [name for name, count in Counter(entry.name for entry in entries).items() if count > 1]:
        raise InputError(f"the tensor {twice[0]} stands in it twice")
    spans = []
    for entry in entries:
        end = entry.offset + measure(entry)
        if entry.offset % alignment:
            raise InputError(f"the tensor {entry.name} begins at {entry.offset}, no multiple of {alignment}")
        if start + end > size:
            raise InputError(
                f"the tensor {entry.name} ends at byte {start + end}, and the file has {size}: it is cut off, or its "
                "header is wrong"
            )
        spans.append((entry.offset, end, entry.name))
    for (_, end, name), (begin, _, other) in pairwise(sorted(span for span in spans if span[0] < span[1])):
        if begin < end:
            raise InputError(f"the tensors {name} and {other} lie in the same place")


def measure(entry: Entry) -> int:
    """Bytes of a tensor. Raises `InputError` where its numbers are of no type that is read, or fill no blocks."""
    if entry.kind not in BLOCKS:
        raise InputError(f"the tensor {entry.name} has numbers of the type {entry.kind}, which diffusers does not read")
    numbers, bytes_each = BLOCKS[entry.kind]
    row = entry.shape[-1] if entry.shape else 1
    if row % numbers:
        raise InputError(f"the tensor {entry.name} has rows of {row} numbers, which fill no blocks of {numbers}")
    return prod(entry.shape) // numbers * bytes_each


def count_spare(entries: Sequence[Entry], start: int, alignment: int, size: int) -> int:
    """Bytes of a file that belong to no tensor, without those that fill up each to the alignment."""
    used = sum(-(-measure(entry) // alignment) * alignment for entry in entries)
    return max(0, size - start - used)

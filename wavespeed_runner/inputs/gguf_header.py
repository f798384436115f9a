"""Walks the header of a GGUF file within bounds, before the gguf package does, which believes every count in it.

Only names, shapes and places of tensors are kept: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md.
"""

from __future__ import annotations

from math import prod
from pathlib import Path
from typing import BinaryIO

from . import limits
from .files import InputError, open_regular, told_as_input_error
from .gguf_places import Entry, count_spare, refuse_places

MAGIC, VERSIONS = b"GGUF", (2, 3)
SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
"""Type of a value -> its bytes."""
U32, TEXT, ARRAY = 4, 8, 9
ALIGNMENT_KEY, ALIGNMENT, MAX_ALIGNMENT = "general.alignment", 32, 2**16
"""What the data begin at a multiple of, and each tensor in them: the usual one, and the largest."""
RESERVED = ("GGUF.version", "GGUF.tensor_count", "GGUF.kv_count")
"""Keys that the gguf package adds itself."""
PACKED = 8
"""The most numbers that a byte holds in any type of tensor."""


class _Walk:
    """Reads forward through a header; every count is compared with its bound and with what is left of the file."""

    def __init__(self, stream: BinaryIO, size: int) -> None:
        self.stream = stream
        self.size = size
        self.entries = 0
        self.alignment = ALIGNMENT
        self.keys = set(RESERVED)

    def take(self, count: int) -> bytes:
        if self.stream.tell() + count > min(self.size, limits.MAX_GGUF_HEADER_BYTES):
            large = self.stream.tell() + count <= self.size
            raise InputError(
                f"a header of more than {limits.MAX_GGUF_HEADER_BYTES} bytes" if large else "cut off inside its header"
            )
        return self.stream.read(count)

    def number(self, count: int) -> int:
        return int.from_bytes(self.take(count), "little")

    def text(self) -> bytes:
        length = self.number(8)
        if length > limits.MAX_GGUF_TEXT_BYTES:
            raise InputError(f"a text of {length} bytes in its header; at most {limits.MAX_GGUF_TEXT_BYTES} are read")
        return self.take(length)

    def name(self) -> str:
        raw = self.text()
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError:
            raise InputError(f"a name in its header is not UTF-8: {raw[:40]!r}") from None

    def skip_pair(self) -> None:
        """A key and its value, of which only the alignment counts."""
        key, kind = self.name(), self.number(4)
        if key in self.keys:
            raise InputError(f"the key {key} stands in its header twice")
        self.keys.add(key)
        if key != ALIGNMENT_KEY:
            self.skip_value(kind)
            return
        self.alignment = self.number(4) if kind == U32 else 0
        if self.alignment % 8 or not 0 < self.alignment <= MAX_ALIGNMENT or self.alignment & (self.alignment - 1):
            raise InputError(f"{ALIGNMENT_KEY} in its header is no power of 2 from 8 to {MAX_ALIGNMENT} in 32 bits")

    def skip_value(self, kind: int, depth: int = 0) -> None:
        if kind in SIZES:
            self.take(SIZES[kind])
        elif kind == TEXT:
            self.text()
        elif kind == ARRAY:
            self.skip_array(depth)
        else:
            raise InputError(f"a value of the unknown type {kind} in its header")

    def skip_array(self, depth: int) -> None:
        kind, count = self.number(4), self.number(8)
        self.entries += count
        if depth >= limits.MAX_GGUF_DEPTH:
            raise InputError(f"arrays inside each other; at most {limits.MAX_GGUF_DEPTH} levels are read")
        if self.entries > limits.MAX_GGUF_ENTRIES:
            raise InputError(
                f"arrays of {self.entries} entries in its header; at most {limits.MAX_GGUF_ENTRIES} are read"
            )
        if kind in SIZES:
            self.take(SIZES[kind] * count)
            return
        for _ in range(count):
            self.skip_value(kind, depth + 1)

    def read_tensor(self) -> Entry:
        name = self.name()
        dimensions = self.number(4)
        if dimensions > limits.MAX_GGUF_DIMENSIONS:
            raise InputError(f"a tensor of {dimensions} dimensions; at most {limits.MAX_GGUF_DIMENSIONS} are read")
        shape = [self.number(8) for _ in range(dimensions)]
        return Entry(name=name, shape=shape[::-1], kind=self.number(4), offset=self.number(8))


def check_gguf_header(file: Path) -> dict[str, list[int]]:
    """Walks the header of a GGUF file: name -> shape of its tensors, outermost dimension first.

    Raises:
        OSError: there is no such file, or it may not be read.
        InputError: not a regular file, not GGUF, cut off, it claims more than is read, or a tensor lies where none can.
    """
    return {entry.name: entry.shape for entry in _read(file)[0]}


def count_spare_bytes(file: Path) -> int:
    """Bytes of a checked GGUF file that belong to none of its tensors, and that nothing reads."""
    return count_spare(*_read(file))


def _read(file: Path) -> tuple[list[Entry], int, int, int]:
    """The tensors, where their data begin, what they are aligned to, and the size of the file."""
    with open_regular(file) as stream, told_as_input_error():
        size = stream.seek(0, 2)
        stream.seek(0)
        if stream.read(len(MAGIC)) != MAGIC:
            raise InputError("it is not in the GGUF format, whatever its name says")
        walk = _Walk(stream, size)
        version, tensors, keys = walk.number(4), walk.number(8), walk.number(8)
        if version not in VERSIONS:
            raise InputError(f"its version is {version}; read are {' and '.join(map(str, VERSIONS))}, little-endian")
        for name, count, most in (
            ("tensors", tensors, limits.MAX_GGUF_TENSORS),
            ("keys", keys, limits.MAX_GGUF_KEYS),
        ):
            if count > most:
                raise InputError(f"its header claims {count} {name}; at most {most} are read")
        for _ in range(keys):
            walk.skip_pair()
        # All together: tensors may lie in the same place, and each is copied.
        listed = [walk.read_tensor() for _ in range(tensors)]
        elements = sum(prod(entry.shape) for entry in listed)
        if elements > PACKED * size:
            raise InputError(f"its tensors have {elements} numbers, more than {size} bytes hold")
        start = -(-stream.tell() // walk.alignment) * walk.alignment
        refuse_places(listed, start, walk.alignment, size)
        return listed, start, walk.alignment, size

"""Reads the scales of a safetensors file, a few bytes for each weight, to find one that is no number: no torch."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from math import inf
from pathlib import Path

from ...inputs.documents import read_safetensors_header
from ...inputs.files import open_regular

CODES = {"F16": ("e", 2), "BF16": ("H", 2), "F32": ("f", 4), "F64": ("d", 8)}
"""Number format of a file -> the code and the bytes of one number in `struct`, which has no bfloat16."""


def find_no_number(file: Path, names: Iterable[str]) -> str | None:
    """`NAME: nan` of the first scale that is infinite, below 0 or not a number; None if all are.

    One of 0 is for who loads the weights: rows that are all 0 may have it.

    Args:
        file: undamaged.
        names: of the scales, in this file or in another one.
    """
    header, length, _ = read_safetensors_header(file)
    with open_regular(file) as stream:
        for name in names:
            if name not in header:
                continue
            begin, end = header[name]["data_offsets"]
            stream.seek(8 + length + begin)
            for number in _decode(stream.read(end - begin), header[name]["dtype"]):
                if not 0 <= number < inf:
                    return f"{name}: {number:g}"
    return None


def _decode(content: bytes, dtype: str) -> Iterable[float]:
    code, size = CODES[dtype]
    count = len(content) // size
    if dtype == "BF16":  # the upper half of a float32
        words = struct.unpack(f"<{count}H", content)
        return struct.unpack(f"<{count}f", struct.pack(f"<{count}I", *(word << 16 for word in words)))
    return struct.unpack(f"<{count}{code}", content)

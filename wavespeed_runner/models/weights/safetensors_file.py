"""Checks a safetensors file by its header, without loading it: no torch, no safetensors library.

Format: https://github.com/huggingface/safetensors#format. A file is 8 bytes little-endian header length, a JSON header
{name: {dtype, shape, data_offsets: [begin, end]}}, and the data, which the offsets cover without gap or overlap.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from functools import lru_cache
from math import prod
from pathlib import Path
from typing import Any

from ...inputs.documents import read_safetensors_header
from ...inputs.files import InputError, open_regular

PLAIN = ("F16", "BF16", "F32", "F64")
"""Number formats of weights that are not quantized: they are cast to the format of the model."""
WEIGHTS = (*PLAIN, "F8_E4M3", "F8_E5M2")
"""Number formats of weights: a cast would drop the second half of a complex number, and take counts for weights."""
NUMBERED = re.compile(
    r"(.*\.)?(position_ids|token_type_ids|num_batches_tracked|relative_position_index|comfy_quant|scaled_fp8)|"
    r"v_pred|ztsnr|edm_.*|model_ema\..*"
)
"""Tensors beside the weights, which may be whole numbers: positions, counts, marks, flags, what only training needs."""
BITS = {"BOOL": 8, "U8": 8, "I8": 8, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8}
BITS |= {"I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32, "U32": 32, "F32": 32, "I64": 64, "U64": 64, "F64": 64}
BITS |= {"F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "C64": 64}

STRUCTS = {"F64": "d", "F32": "f", "F16": "e", "BF16": "f", "I64": "q", "I32": "i"}
"""Number format -> how `struct` reads it; bfloat16 as the first half of a float32."""


def find_damage(file: Path) -> str | None:
    """What is wrong with a safetensors file, judged by its header and its size; None if nothing is."""
    stat = file.stat()
    return _find_damage(file, stat.st_size, (stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino))


@lru_cache(maxsize=1024)
def _find_damage(file: Path, size: int, version: tuple[int, ...]) -> str | None:
    """Version changes whenever the file does. It is only a cache key: the jobs of a sweep read each header once."""
    try:
        header, length, size = read_safetensors_header(file)
    except InputError as error:
        return str(error)
    return _find_offset_damage(header, size, length)


def _find_offset_damage(header: dict[str, Any], size: int, length: int) -> str | None:
    """What is wrong with the tensors that a header describes. size: of the file; length: of the header, in bytes."""
    header.pop("__metadata__", None)
    try:
        spans = sorted(_read_span(name, tensor) for name, tensor in header.items())
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        return f"its header describes a tensor wrongly ({error})"
    end = 0
    for begin, stop in spans:
        if begin != end:
            return f"there is a gap or an overlap between tensors at byte {begin}"
        end = stop
    if end != size - 8 - length:
        return f"it is {size} bytes long, but its header describes {8 + length + end}"
    return None


def _read_span(name: str, tensor: dict[str, Any]) -> tuple[int, int]:
    begin, end = tensor["data_offsets"]
    shape = tensor["shape"]
    if not all(isinstance(n, int) and n >= 0 for n in (begin, end, *shape)):
        raise ValueError(f"'{name}': offsets and shape must be whole numbers")
    bits = BITS.get(tensor["dtype"])
    if bits is None:
        raise ValueError(f"'{name}': {tensor['dtype']} is no known number format")
    if (end - begin) * 8 != prod(shape) * bits:
        raise ValueError(f"'{name}': {end - begin} bytes for shape {shape} of {tensor['dtype']}")
    return begin, end


def find_no_weight(tensors: Mapping[str, dict[str, Any]], quantized: bool = False) -> str | None:
    """`NAME is stored as FORMAT` of the first tensor that holds no weights; None if all do.

    Args:
        tensors: of an undamaged file: name -> its `dtype`.
        quantized: by a library, which stores weights as whole numbers of its own.
    """
    for name, tensor in tensors.items():
        kind = tensor["dtype"] if name != "__metadata__" else WEIGHTS[0]
        if kind not in WEIGHTS and (kind == "C64" or not (quantized or NUMBERED.fullmatch(name))):
            return f"{name} is stored as {kind}"
    return None


def is_code(name: str, kind: str) -> bool:
    """Whether a tensor may be what a library quantized a weight to: fewer bits than those of plain weights."""
    return name != "__metadata__" and kind not in PLAIN and not NUMBERED.fullmatch(name)


def unpack_numbers(kind: str, content: bytes) -> tuple[float, ...]:
    """The numbers that the bytes of a small tensor hold. kind: a number format of `STRUCTS`."""
    if kind == "BF16":
        content = b"".join(b"\0\0" + content[place : place + 2] for place in range(0, len(content), 2))
    form = STRUCTS[kind]
    return struct.unpack(f"<{len(content) // struct.calcsize(f'<{form}')}{form}", content)


def read_numbers(file: Path, name: str) -> tuple[float, ...]:
    """The numbers of one small tensor of an undamaged file."""
    header, length, _ = read_safetensors_header(file)
    begin, end = header[name]["data_offsets"]
    with open_regular(file) as stream:
        stream.seek(8 + length + begin)
        return unpack_numbers(header[name]["dtype"], stream.read(end - begin))


def count_loaded_bytes(file: Path, element_size: int) -> int:
    """Bytes that the tensors of an undamaged safetensors file take once they are loaded.

    Args:
        file: holds the tensors.
        element_size: bytes of a value of the number format that plain floating-point tensors are cast to.
    """
    total = 0
    tensors = read_safetensors_header(file)[0]
    for name, tensor in tensors.items():
        if name != "__metadata__":
            begin, end = _read_span(name, tensor)
            # Scales of a quantized weight, named `WEIGHT.absmax`, stay as they are.
            is_plain = tensor["dtype"] in PLAIN and name.rpartition(".")[0] not in tensors
            total += prod(tensor["shape"]) * element_size if is_plain else end - begin
    return total


def list_variant_files(folder: Path, variant: str | None) -> list[Path]:
    """Weight files of a variant such as fp16, in one piece or in shards; none for no variant.

    `NAME.fp16.safetensors`, `NAME.fp16-00001-of-00002.safetensors`, and `NAME-00001-of-00002.fp16.safetensors` of older
    releases of diffusers.
    """
    return [file for file in folder.glob("*.safetensors") if variant and re.search(rf"\.{variant}[.-]", file.name)]


def list_weight_files(folder: Path, variant: str | None) -> list[Path]:
    """The files that loading reads: those of the variant where there are some."""
    plain = [file for file in folder.glob("*.safetensors") if file.name.count(".") == 1]
    return list_variant_files(folder, variant) or plain


def read_tensor_names(file: Path) -> list[str]:
    """Names of the tensors in an undamaged safetensors file."""
    return list(read_tensor_shapes(file))


def read_tensor_shapes(file: Path) -> dict[str, list[int]]:
    """Name -> shape of the tensors in an undamaged safetensors file."""
    header = read_safetensors_header(file)[0]
    return {name: tensor["shape"] for name, tensor in header.items() if name != "__metadata__"}

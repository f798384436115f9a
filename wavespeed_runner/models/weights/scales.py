"""Recognises weights that are stored in fp8 with scales, by the header of their file: no torch, nothing loaded.

A weight is the stored numbers times a scale, of which there is one for the tensor or one for each row (output channel).
Names are those of ComfyUI's files: https://github.com/comfyanonymous/ComfyUI/blob/master/QUANTIZATION.md for
`LAYER.weight_scale`; older ones have `LAYER.scale_weight` and a tensor `scaled_fp8`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from pathlib import Path
from typing import Any

from ...errors import ConfigError
from ...inputs.documents import parse_json, read_safetensors_header
from ...inputs.files import InputError
from .safetensors_file import find_no_weight, is_code
from .scale_numbers import find_no_number

SCALES = (".weight_scale", ".scale_weight")
INPUT_SCALES = (".input_scale", ".scale_input")
"""Scales of what a layer is given, for products of fp8 matrices. Weights are converted back here, so none is needed."""
MARKS = ("scaled_fp8", ".comfy_quant")
"""Ends of names of tensors that say how others are stored."""
MAX_MARK_BYTES = 4096
ABOUT = "_quantization_metadata"
"""Entry of the header's metadata that says the same for all layers."""
FP8 = ("F8_E4M3", "F8_E5M2")
FORMATS = ("float8_e4m3fn", "float8_e5m2")
"""The same, as ComfyUI calls them."""
FLOATS = ("F16", "BF16", "F32", "F64")
PART = re.compile(r"(text_encoders\.[^.]+|conditioner\.embedders\.[^.]+|\w*vae|first_stage_model|cond_stage_model)\.")
"""What stands before the names of a part of a whole model, which may be stored in another way than the denoiser."""
FOREIGN = {
    ".weight_scale_2": "nvfp4",
    ".pre_quant_scale": "smoothed weights",
    ".weight_scale_inv": "fp8 in blocks",
    ".wscales": "SVDQuant",
    ".smooth_factor": "SVDQuant",
    ".absmax": "bitsandbytes",
    ".quant_map": "bitsandbytes",
    ".qweight": "integers in groups",
    ".qzeros": "integers in groups",
}
"""End of a name -> the kind of storage that has such tensors, and that is not read."""
WAY_OUT = (
    "use a file of the model in bfloat16, float16, fp8 (plain or scaled) or GGUF, and quant=fp8_wo for small weights"
)

Header = dict[str, dict[str, Any]]
"""Name of a tensor -> its `dtype` and `shape`, as in safetensors files."""


@dataclass(frozen=True, kw_only=True)
class Scales:
    """What a file's quantized weights are converted back with."""

    weights: dict[str, str]
    """Weight -> its scale; both are names of tensors."""
    unused: tuple[str, ...]
    """Tensors that nothing needs then: scales of inputs, and marks."""
    inputs: int
    """How many of these are scales of inputs."""
    marks: tuple[str, ...]
    """Those that hold JSON of their own, for `check_mark`."""
    plain: int
    """How many weights are in fp8 and have no scale: they are what is stored."""

    @property
    def all_names(self) -> set[str]:
        """Every tensor that is no weight."""
        return {*self.weights.values(), *self.unused}


def read_headers(files: Iterable[Path]) -> tuple[Header, list[Any]]:
    """The tensors of undamaged safetensors files that belong together, and what their metadata say of scales."""
    tensors: Header = {}
    about = []
    for file in files:
        header = read_safetensors_header(file)[0]
        metadata = header.pop("__metadata__", None)
        if isinstance(metadata, dict) and ABOUT in metadata:
            about.append(metadata[ABOUT])
        tensors |= header
    return tensors, about


def is_scaled(tensors: Iterable[str]) -> bool:
    """True if some of a file's tensors are scales, or say that there are some."""
    return any(name.endswith((*SCALES, *MARKS)) for name in tensors)


def inspect_scales(where: str, files: Sequence[Path]) -> Scales:
    """As `find_scales`, for undamaged files, which are read once a process as long as they stay as they are."""
    states = [file.stat() for file in files]
    return _inspect_scales(where, tuple(files), tuple((s.st_size, s.st_mtime_ns, s.st_ino) for s in states))


@lru_cache(maxsize=256)
def _inspect_scales(where: str, files: tuple[Path, ...], version: tuple[tuple[int, ...], ...]) -> Scales:
    """Version changes whenever a file does. It is only a cache key."""
    scales = find_scales(where, *read_headers(files))
    for file in files:
        if flaw := find_no_number(file, scales.weights.values()):
            raise ConfigError(f"{where}: {flaw} is no scale; a finite number above 0 is needed; {WAY_OUT}")
    return scales


def find_scales(where: str, tensors: Header, about: Iterable[Any] = ()) -> Scales:
    """Finds the scale of each quantized weight, and says what of such storage is not understood.

    Args:
        where: `key=value` of the file, for messages.
        tensors: of the file, or of all files of a component.
        about: what `read_headers` found in their metadata.

    Raises:
        ConfigError: names the tensor whose storage is not read here.
    """
    for name in tensors:
        if kind := next((FOREIGN[end] for end in FOREIGN if name.endswith(end)), ""):
            raise ConfigError(f"{where}: {name} belongs to weights stored as {kind}, which is not read; {WAY_OUT}")
    for text in about:
        check_mark(where, ABOUT, text)
    weights: dict[str, str] = {}
    for name in tensors:
        if end := next((end for end in SCALES if name.endswith(end)), ""):
            weight = f"{name.removesuffix(end)}.weight"
            if weight in weights:
                raise ConfigError(f"{where}: {weight} has two scales, {weights[weight]} and {name}; {WAY_OUT}")
            _refuse_scale(where, name, weight, tensors)
            weights[weight] = name
    refuse_other_numbers(where, tensors)
    unscaled = _list_unscaled(tensors, weights)
    _refuse_unscaled(where, unscaled, weights)
    marks = _list_marks(where, tensors)
    inputs = [name for name in tensors if name.endswith(INPUT_SCALES)]
    return Scales(
        weights=weights,
        unused=(*inputs, *marks),
        inputs=len(inputs),
        marks=tuple(name for name in marks if name.endswith(".comfy_quant")),
        plain=len(unscaled),
    )


def _list_unscaled(tensors: Header, scaled: Iterable[str]) -> list[str]:
    """Matrices in fp8 that have no scale."""
    known = set(scaled)
    return [
        name
        for name, tensor in tensors.items()
        if tensor["dtype"] in FP8 and len(tensor["shape"]) > 1 and name.endswith(".weight") and name not in known
    ]


def _refuse_unscaled(where: str, unscaled: Sequence[str], scaled: Iterable[str]) -> None:
    """Refuses a weight in fp8 without a scale beside others that have one: it may be off by any factor."""
    parts = [_find_part(name) for name in scaled]
    lost = [name for name in unscaled if _find_part(name) in parts]
    if lost:
        more = f", nor have {len(lost) - 1} more" if len(lost) > 1 else ""
        raise ConfigError(
            f"{where}: {lost[0]} is in fp8 and has no scale{more}, where {len(parts)} others have one, so its numbers "
            f"may be off by any factor; download the file again, or {WAY_OUT}"
        )


def _find_part(name: str) -> str:
    match = PART.match(name)
    return match[0] if match else ""


def refuse_other_numbers(where: str, tensors: Header, quantized: bool = False) -> None:
    """Raises `ConfigError` for a tensor whose numbers are none of weights. quantized: by a library, in its own way."""
    if flaw := find_no_weight(tensors, quantized):
        raise ConfigError(f"{where}: {flaw}, which is not read; {WAY_OUT}")


def refuse_plain(where: str, tensors: Header) -> None:
    """Raises `ConfigError` for a component that names a quantization and whose weights are all plain."""
    if tensors and not any(is_code(name, tensor["dtype"]) for name, tensor in tensors.items()):
        raise ConfigError(
            f"{where}: its config.json names a quantization (quantization_config), and none of its {len(tensors)} "
            "tensors is quantized, so it would have no effect; remove quantization_config, and choose quant=NAME"
        )


def _list_marks(where: str, tensors: Header) -> list[str]:
    marks = [name for name in tensors if name.endswith(MARKS)]
    for name in marks:
        size = prod(tensors[name]["shape"])
        if size > MAX_MARK_BYTES:
            raise ConfigError(f"{where}: {name} has {size} bytes; at most {MAX_MARK_BYTES} are read; {WAY_OUT}")
    return marks


def _refuse_scale(where: str, name: str, weight: str, tensors: Header) -> None:
    """Refuses a scale that belongs to nothing, or that is neither of a tensor nor of its rows."""
    scale = tensors[name]
    if weight not in tensors:
        raise ConfigError(f"{where}: {name} is the scale of {weight}, which the file lacks; download it again")
    stored, shape = tensors[weight]["dtype"], tensors[weight]["shape"]
    if stored not in FP8:
        raise ConfigError(f"{where}: {weight} is stored as {stored} with a scale, which is not read; {WAY_OUT}")
    rows = shape[0] if shape else 1
    is_of_rows = prod(scale["shape"]) == rows == scale["shape"][0] if scale["shape"] else False
    if scale["dtype"] not in FLOATS or not (prod(scale["shape"]) == 1 or is_of_rows):
        raise ConfigError(
            f"{where}: {name} is {scale['dtype']} of shape {scale['shape']}, for a weight of shape {shape}; read are "
            f"floating-point scales of a tensor, [], and of its rows, [{rows}]; {WAY_OUT}"
        )


def check_mark(where: str, name: str, text: Any) -> None:
    """Refuses JSON that says of a layer, or of all, that it is stored in another way than fp8 with scales.

    name: of what holds it, for messages.
    """
    try:
        data = parse_json(text if isinstance(text, bytes) else str(text))
    except InputError as error:
        raise ConfigError(f"{where}: {name} is not read: {error}; {WAY_OUT}") from None
    layers = data.get("layers", {"": data}) if isinstance(data, dict) else None
    if not isinstance(layers, dict) or not all(isinstance(layer, dict) for layer in layers.values()):
        raise ConfigError(f"{where}: {name} does not say how layers are stored; {WAY_OUT}")
    for layer, said in layers.items():
        # `full_precision_matrix_mult` asks for what is done here in any case.
        if said.get("format") not in FORMATS or said.keys() - {"format", "full_precision_matrix_mult"}:
            raise ConfigError(
                f"{where}: {name}{f' of {layer}' if layer else ''} says {str(said)[:120]}, which is not read; {WAY_OUT}"
            )

"""A module as bytes: its class, its configuration and all its tensors, those that torchao quantized among them.

The bytes are a safetensors file, https://github.com/huggingface/safetensors#format. Neither writing nor reading makes a
second copy of the whole: tensors are written from where they are, and read one by one. Those of a GPU are copied to
main memory to be written.

Where in memory a weight begins decides how some products of matrices are rounded (MKL on x86), and loaded files leave
weights at any multiple of 8 bytes. So a weight comes back at the same place relative to `ALIGNMENT`: a process that
reads a kept module computes the bits of the one that wrote it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ...errors import RunError
from ...process.torchao_import import import_torchao
from .class_names import LOADABLE
from .empty_module import assign, build_empty

if TYPE_CHECKING:
    import torch
    from torch import nn

Buffer = bytes | memoryview

DTYPES = {
    "float64": "F64",
    "float32": "F32",
    "float16": "F16",
    "bfloat16": "BF16",
    "float8_e4m3fn": "F8_E4M3",
    "float8_e5m2": "F8_E5M2",
    "int64": "I64",
    "int32": "I32",
    "int16": "I16",
    "int8": "I8",
    "uint8": "U8",
    "bool": "BOOL",
}
"""Number formats as torch and as safetensors name them."""
ABOUT, PLACES = "wavespeed_runner", "wavespeed_runner_places"
"""Names in the file's metadata: of what the module is, and of where weights begin that are not aligned."""
ALIGNMENT = 64
"""Bytes; torch allocates main memory in multiples of it."""


def find_unkept(module: nn.Module) -> str:
    """Why a module cannot be written by `to_parts`; empty if it can."""
    plain = [(name, tensor) for name, tensor in _list_tensors(module) if not hasattr(tensor, "tensor_data_names")]
    unknown = [name for name, tensor in plain if str(tensor.dtype).removeprefix("torch.") not in DTYPES]
    if unknown:
        return f"{unknown[0]} has a number format that safetensors lacks"
    return "" if _find_library(module) else f"{type(module).__name__} is neither of diffusers nor of transformers"


def to_parts(module: nn.Module) -> list[Buffer]:
    """The file's bytes, in order: a header, then each tensor's memory where it is."""
    from torchao.prototype.safetensors.safetensors_support import flatten_tensor_state_dict

    tensors = dict(_list_tensors(module))
    quantized = {name: tensor for name, tensor in tensors.items() if hasattr(tensor, "tensor_data_names")}
    flat, metadata = flatten_tensor_state_dict(quantized)
    plain = {name: tensor for name, tensor in tensors.items() if name not in quantized}
    about = {"library": _find_library(module), "class": type(module).__name__, "config": _read_config(module)}
    places = {name: tensor.data_ptr() % ALIGNMENT for name, tensor in plain.items() if tensor.device.type == "cpu"}
    places = {name: place for name, place in places.items() if place}
    return _write_tensors({**plain, **flat}, {**metadata, ABOUT: json.dumps(about), PLACES: json.dumps(places)})


def from_view(view: memoryview) -> nn.Module:
    """The module, on the CPU and ready for inference. view: of the file's bytes; must be writable, is not changed.

    Raises:
        RunError: the bytes are not of a module that may be loaded.
    """
    import_torchao()
    from torchao.prototype.safetensors.safetensors_support import unflatten_tensor_state_dict

    tensors, metadata = _read_tensors(view)
    module = _build_empty(json.loads(metadata.pop(ABOUT)))
    if json.loads(metadata["tensor_names"]):
        quantized, tensors = unflatten_tensor_state_dict(tensors, metadata)
        tensors |= quantized
    if missing := assign(module, tensors):
        raise RunError(f"store: an entry of a {type(module).__name__} lacks {missing[0]}; remove the store")
    return module


def _list_tensors(module: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """Every parameter and buffer, also buffers that a state dict leaves out: how they came about need not be known."""
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        yield name, tensor.detach()


def _find_library(module: nn.Module) -> str:
    """`diffusers` or `transformers`, whichever has the module's class; empty if neither has."""
    for name, library in _import_libraries().items():
        if type(module) is getattr(library, type(module).__name__, None):
            return name
    return ""


def _import_libraries() -> dict[str, Any]:
    """The libraries whose models can be kept, by name."""
    import diffusers
    import transformers

    return {"diffusers": diffusers, "transformers": transformers}


def _read_config(module: Any) -> dict[str, Any]:
    """A module's configuration as JSON data."""
    config: dict[str, Any] = json.loads(
        module.to_json_string() if hasattr(module, "to_json_string") else module.config.to_json_string(use_diff=False)
    )
    return config


def _build_empty(about: dict[str, Any]) -> nn.Module:
    """A module of the class and configuration, with its parameters on the meta device."""
    library, name, libraries = about["library"], about["class"], _import_libraries()
    if library not in libraries or not (LOADABLE.fullmatch(name) or re.fullmatch(r"UNet\w+", name)):
        raise RunError(f"store: an entry asks for {library}.{name}, which may not be loaded; remove the store")
    return build_empty(getattr(libraries[library], name), about["config"])


def _write_tensors(tensors: dict[str, torch.Tensor], metadata: dict[str, str]) -> list[Buffer]:
    header: dict[str, Any] = {"__metadata__": metadata}
    views, end = [], 0
    for name, tensor in tensors.items():
        view = _view_bytes(tensor)
        span = [end, end := end + len(view)]
        dtype = DTYPES[str(tensor.dtype).removeprefix("torch.")]
        header[name] = {"dtype": dtype, "shape": list(tensor.shape), "data_offsets": span}
        views.append(view)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return [len(text).to_bytes(8, "little") + text, *views]


def _view_bytes(tensor: torch.Tensor) -> memoryview:
    import torch

    flat: Any = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
    return memoryview(flat)


def _read_tensors(view: memoryview) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    import torch

    start = 8 + int.from_bytes(view[:8], "little")
    header = json.loads(bytes(view[8:start]))
    metadata = header.pop("__metadata__")
    places = json.loads(metadata.pop(PLACES, "{}"))
    formats = {short: getattr(torch, name) for name, short in DTYPES.items()}
    tensors = {}
    for name, entry in header.items():
        begin, end = (start + offset for offset in entry["data_offsets"])
        flat = torch.empty(0)
        if end > begin:
            place = places.get(name, 0)
            flat = torch.empty(place + end - begin, dtype=torch.uint8)[place:]
            flat.copy_(torch.frombuffer(view[begin:end], dtype=torch.uint8))
        tensors[name] = flat.view(formats[entry["dtype"]]).reshape(entry["shape"])
    return tensors, metadata

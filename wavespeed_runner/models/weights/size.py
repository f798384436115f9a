"""Counts the bytes that the weights of a module or pipeline take."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from diffusers import DiffusionPipeline


def count_component_bytes(pipe: DiffusionPipeline) -> dict[str, int]:
    """Component -> bytes of its parameters and buffers. Memory that components share counts for the first of them."""
    import torch

    known: set[int] = set()
    modules = {name: part for name, part in pipe.components.items() if isinstance(part, torch.nn.Module)}
    return {name: _count_new_bytes(module, known) for name, module in modules.items()}


def count_pipeline_bytes(pipes: Iterable[DiffusionPipeline], device: str, without: DiffusionPipeline) -> int:
    """Bytes on a device of the parameters and buffers of pipelines, less what they share with one more."""
    import torch

    kind, known = torch.device(device).type, set[int]()

    def count(pipe: DiffusionPipeline) -> int:
        modules = [part for part in pipe.components.values() if isinstance(part, torch.nn.Module)]
        return sum(_count_new_bytes(module, known, kind) for module in modules)

    count(without)
    return sum(map(count, pipes))


def _count_new_bytes(module: torch.nn.Module, known: set[int], kind: str | None = None) -> int:
    """Bytes of the storages that are not among the known ones, which they then are; `kind` of device, None for all."""
    total = 0
    for tensor in (*module.parameters(), *module.buffers()):
        for part in list_plain_tensors(tensor):
            storage = part.untyped_storage()
            if storage._cdata not in known and kind in (None, part.device.type):
                known.add(storage._cdata)
                total += storage.nbytes()
    return total


def list_weights(pipe: DiffusionPipeline) -> Iterator[torch.Tensor]:
    """The tensors that hold the numbers of a pipeline's parameters and buffers."""
    import torch

    for module in pipe.components.values():
        if isinstance(module, torch.nn.Module):
            for tensor in (*module.parameters(), *module.buffers()):
                yield from list_plain_tensors(tensor)


def list_plain_tensors(tensor: torch.Tensor) -> list[torch.Tensor]:
    """The tensors that hold the numbers: those inside a quantized one (values, scales), or the tensor itself."""
    flatten = getattr(tensor, "__tensor_flatten__", None)
    if flatten is None:
        return [tensor]
    return [part for name in flatten()[0] for part in list_plain_tensors(getattr(tensor, name))]

"""Follows tensors of a file through any conversion, to know which of them have reached the model."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from ...errors import format_error

if TYPE_CHECKING:
    import torch
    from torch import nn


class StuckError(RuntimeError):
    """A conversion could not cut a tensor, or join several."""

    def __init__(self, message: str, sources: frozenset[str]) -> None:
        super().__init__(message)
        self.sources = sources
        """Names of the tensors that these were computed from."""


def trace(tensors: dict[str, torch.Tensor], also: dict[str, str] | None = None) -> dict[str, torch.Tensor]:
    """The same tensors, which remember their names, as does all that is computed from them.

    also: name -> another name that its tensor stands for too, such as a scale that was multiplied in.
    """
    traced = {}
    for name, tensor in tensors.items():
        traced[name] = tensor.as_subclass(_traced_class())
        traced[name].sources = frozenset({name, (also or {}).get(name, name)})
    return traced


def read_sources(tensor: Any) -> frozenset[str]:
    """Names of the traced tensors that a tensor was computed from; empty for others."""
    return getattr(tensor, "sources", frozenset())


def settle(module: nn.Module) -> dict[str, frozenset[str]]:
    """Makes the traced parameters of a module plain ones; returns parameter -> its sources."""
    import torch

    found = {}
    for name, parameter in list(module.named_parameters()):
        if isinstance(parameter, _traced_class()):
            found[name] = read_sources(parameter)
            owner, _, last = name.rpartition(".")
            plain = torch.nn.Parameter(parameter.data.as_subclass(torch.Tensor), requires_grad=False)
            holder = module.get_submodule(owner)
            if isinstance(holder, torch.nn.ParameterDict):
                holder[last] = plain
            else:
                setattr(holder, last, plain)
    return found


@lru_cache(maxsize=1)
def _traced_class() -> Any:
    """A subclass of tensor; defined when it is needed, because torch is imported late."""
    import torch

    class Traced(torch.Tensor):
        sources: frozenset[str]

        @classmethod
        def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            sources = frozenset[str]().union(*(read_sources(part) for part in _flatten((args, kwargs or {}))))
            try:
                result = super().__torch_function__(func, types, args, kwargs or {})
            except RuntimeError as error:
                raise StuckError(format_error(error), sources) from error
            for part in _flatten(result):
                if isinstance(part, cls):
                    part.sources = read_sources(part) | sources
            return result

    return Traced


def _flatten(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        for part in value:
            yield from _flatten(part)
    else:
        yield value

"""Follows the memory of tensors as operations allocate and free it: real ones, or fake ones that have only a shape."""

from __future__ import annotations

import weakref
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

COMPUTE = 1e9
"""What a fake tensor's number is read as. It is above every threshold, so that a cache strategy computes each step: the
case that needs most."""


@dataclass(kw_only=True)
class Allocations:
    """Bytes of the tensors that operations created, until the last reference to each is gone.

    Of what kernels allocate inside themselves and free again, only the workspaces of convolutions on a CPU are known.
    """

    on_cpu: bool = True
    """Whether the operations are for a CPU."""

    now: int = 0
    """Of the tensors that are alive."""
    peak: int = 0
    """The most of them since `restart`."""
    alive: dict[int, int] = field(default_factory=dict)

    left_out: set[int] = field(default_factory=set)

    def restart(self) -> None:
        """Forgets the peak; tensors that are alive still count."""
        self.peak = self.now

    def leave_out(self, tensor: Any) -> None:
        """Never counts this tensor's memory: a weight, of which operations return views."""
        self.left_out.add(tensor.untyped_storage()._cdata)

    def add(self, storage: Any) -> None:
        """Counts the memory of a tensor, once."""
        key = storage._cdata
        if key in self.alive or key in self.left_out:
            return
        self.alive[key] = storage.nbytes()
        self.now += storage.nbytes()
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._drop, key)

    def add_for_a_moment(self, size: int) -> None:
        """Counts so many bytes that live no longer than one operation."""
        self.peak = max(self.peak, self.now + size)

    def _drop(self, key: int) -> None:
        self.now -= self.alive.pop(key, 0)


def count_allocations(allocations: Allocations) -> AbstractContextManager[Any]:
    """A context in which every operation's results are counted. Fake tensors' numbers are read as `COMPUTE`."""
    import torch
    from torch._subclasses.fake_tensor import FakeTensor
    from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
    from torch.utils._pytree import tree_leaves

    aten = torch.ops.aten
    read_number = (aten._local_scalar_dense.default, aten.item.default)
    convolutions = (aten.convolution, aten.conv1d, aten.conv2d, aten.conv3d)

    class Counting(TorchDispatchMode):  # the class is defined here because torch is imported late
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            kwargs = kwargs or {}
            tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
            is_fake = any(isinstance(tensor, FakeTensor) for tensor in tensors)
            if is_fake and func in read_number:
                return COMPUTE if tensors[0].dtype.is_floating_point else 1
            if is_fake or not tensors:
                out = func(*args, **kwargs)
            else:
                with _disable_current_modes():  # real numbers beside a fake model, such as a scheduler's noise levels
                    out = func(*args, **kwargs)
            for leaf in tree_leaves(out):
                if isinstance(leaf, torch.Tensor):
                    allocations.add(leaf.untyped_storage())
            if allocations.on_cpu and func.overloadpacket in convolutions:
                allocations.add_for_a_moment(_estimate_workspace(tensors[0], tensors[1], out))
            return out

    return Counting()


def _estimate_workspace(images: Any, weight: Any, out: Any) -> int:
    """Bytes that torch allocates inside a convolution on a CPU, as its profiler shows them (torch 2.13).

    oneDNN copies the operands into a layout of its own. Two kinds of float32 convolutions are not given to it: those of
    single pixels, which need nothing, and those in three dimensions, which unfold the input into a matrix.
    """
    import torch

    size = images.element_size()
    if images.dtype == torch.float32 and weight[0, 0].numel() == 1:
        return 0
    if images.dtype == torch.float32 and images.dim() == 5:
        return int(weight[0].numel() * out[0, 0].numel() * size)
    return int(max(images.numel() + weight.numel(), out.numel()) * size)

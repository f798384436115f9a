"""Messages between ranks: the collectives that context parallelism needs, as operators of torch, each of them counted.

They are custom operators, because a compiled graph then contains them as they are: nothing breaks the graph, and the
count is taken by the call that sends, whether the code around it is compiled or not. diffusers' own functions
(`_all_to_all_single`, functional collectives) cannot be counted in a compiled graph. All tensors are flat, as
`torch.distributed.all_to_all_single` takes them; who holds how much is known beforehand from `shares`, so no sizes are
exchanged.
"""

from __future__ import annotations

from collections import Counter
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor
    from torch.distributed import ProcessGroup

GROUPS: dict[str, ProcessGroup] = {}
"""Groups of ranks by the name that operators are given: a graph holds no process group."""
CALLS: Counter[str] = Counter()
"""Kind of message -> calls of this rank."""
BYTES: Counter[str] = Counter()
"""Kind of message -> bytes that this rank sent to others."""


def take_counts() -> dict[str, dict[str, int]]:
    """Kind of message -> its calls and bytes since the last time; starts to count anew."""
    taken = {kind: {"calls": CALLS[kind], "bytes": BYTES[kind]} for kind in sorted(CALLS)}
    CALLS.clear()
    BYTES.clear()
    return taken


def average_counts(counts: dict[str, dict[str, int]], steps: int) -> dict[str, dict[str, float]]:
    """Kind of message -> its calls and bytes in a step, for the record."""
    return {kind: {f"{what}_per_step": n / steps for what, n in of.items()} for kind, of in counts.items()}


def exchange(flat: Tensor, send: list[int], receive: list[int], group: str, kind: str) -> Tensor:
    """Sends each rank of a group its part and receives one from each.

    Args:
        flat: shape (sum(send),): the parts, one after the other.
        send: elements for each rank of the group.
        receive: elements from each rank of the group.
        group: of `GROUPS`.
        kind: under what to count it.

    Returns:
        Shape (sum(receive),).
    """
    import torch

    result: Tensor = torch.ops.wavespeed_runner.exchange(flat, send, receive, group, kind)
    return result


def gather(flat: Tensor, sizes: list[int], group: str, kind: str) -> Tensor:
    """All ranks' tensors, one after the other: shape (sum(sizes),). sizes: elements of each rank."""
    import torch

    result: Tensor = torch.ops.wavespeed_runner.gather(flat, sizes, group, kind)
    return result


def add_up(values: Tensor, group: str, kind: str) -> Tensor:
    """The sum of a small tensor over the ranks of a group; the same bits on all of them."""
    import torch

    result: Tensor = torch.ops.wavespeed_runner.add_up(values, group, kind)
    return result


def _count(kind: str, elements: int, tensor: Tensor) -> None:
    CALLS[kind] += 1
    BYTES[kind] += elements * tensor.element_size()


@lru_cache(maxsize=1)
def define_operators() -> None:
    """Defines the operators; called before any rank computes, because torch is imported late."""
    import torch

    definitions: dict[str, tuple[str, Any, Any]] = {
        "exchange": (
            "(Tensor flat, int[] send, int[] receive, str group, str kind) -> Tensor",
            _run_exchange,
            lambda flat, send, receive, *_: flat.new_empty(sum(receive)),
        ),
        "gather": (
            "(Tensor flat, int[] sizes, str group, str kind) -> Tensor",
            _run_gather,
            lambda flat, sizes, *_: flat.new_empty(sum(sizes)),
        ),
        "add_up": (
            "(Tensor values, str group, str kind) -> Tensor",
            _run_add_up,
            lambda values, *_: torch.empty_like(values),
        ),
    }
    for name, (schema, function, shape) in definitions.items():
        # A schema, because the annotations are texts here.
        operator = torch.library.custom_op(f"wavespeed_runner::{name}", function, mutates_args=(), schema=schema)
        operator.register_fake(shape)


def _run_exchange(flat: Tensor, send: list[int], receive: list[int], group: str, kind: str) -> Tensor:
    from torch import distributed as dist

    members = GROUPS[group]
    _count(kind, flat.numel() - send[dist.get_rank(members)], flat)
    received = flat.new_empty(sum(receive))
    dist.all_to_all_single(received, flat.contiguous(), list(receive), list(send), group=members)
    return received


def _run_gather(flat: Tensor, sizes: list[int], group: str, kind: str) -> Tensor:
    import torch
    from torch import distributed as dist

    largest = max(sizes)
    _count(kind, largest * (len(sizes) - 1), flat)
    # Not every backend gathers different sizes, so the shorter ones are filled up.
    padded = flat if flat.numel() == largest else torch.nn.functional.pad(flat, (0, largest - flat.numel()))
    gathered = flat.new_empty(largest * len(sizes))
    # The second is the same under its name before torch 2.13.
    all_gather = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor
    all_gather(gathered, padded.contiguous(), group=GROUPS[group])
    if min(sizes) == largest:
        return gathered
    return torch.cat([part[:size] for part, size in zip(gathered.chunk(len(sizes)), sizes, strict=True)])


def _run_add_up(values: Tensor, group: str, kind: str) -> Tensor:
    from torch import distributed as dist

    total = values.clone()
    _count(kind, values.numel(), values)
    dist.all_reduce(total, group=GROUPS[group])
    return total

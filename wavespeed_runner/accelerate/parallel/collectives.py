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
    result: Tensor = _operators()["exchange"](flat, send, receive, group, kind)
    return result


def gather(flat: Tensor, sizes: list[int], group: str, kind: str) -> Tensor:
    """All ranks' tensors, one after the other: shape (sum(sizes),). sizes: elements of each rank."""
    result: Tensor = _operators()["gather"](flat, sizes, group, kind)
    return result


def add_up(values: Tensor, group: str, kind: str) -> Tensor:
    """The sum of a small tensor over the ranks of a group; the same bits on all of them."""
    result: Tensor = _operators()["add_up"](values, group, kind)
    return result


def _count(kind: str, elements: int, tensor: Tensor) -> None:
    CALLS[kind] += 1
    BYTES[kind] += elements * tensor.element_size()


@lru_cache(maxsize=1)
def _operators() -> dict[str, Any]:
    """The operators; defined when first used, because torch is imported late."""
    import torch
    from torch import distributed as dist

    def define(name: str, function: Any, shape: Any) -> Any:
        # Written-out types: annotations are texts here, which torch would look up in this module.
        operator = torch.library.custom_op(f"wavespeed_runner::{name}", mutates_args=(), schema=schema[name])(function)
        operator.register_fake(shape)
        return operator

    schema = {
        "exchange": "(Tensor flat, int[] send, int[] receive, str group, str kind) -> Tensor",
        "gather": "(Tensor flat, int[] sizes, str group, str kind) -> Tensor",
        "add_up": "(Tensor values, str group, str kind) -> Tensor",
    }

    def run_exchange(flat: Any, send: Any, receive: Any, group: str, kind: str) -> Any:
        members = GROUPS[group]
        _count(kind, flat.numel() - send[dist.get_rank(members)], flat)
        received = flat.new_empty(sum(receive))
        dist.all_to_all_single(received, flat, list(receive), list(send), group=members)
        return received

    def run_gather(flat: Any, sizes: Any, group: str, kind: str) -> Any:
        members, largest = GROUPS[group], max(sizes)
        _count(kind, largest * (len(sizes) - 1), flat)
        # Not every backend gathers different sizes, so the shorter ones are filled up.
        padded = flat if flat.numel() == largest else torch.nn.functional.pad(flat, (0, largest - flat.numel()))
        gathered = flat.new_empty(largest * len(sizes))
        # The second is the same under its name before torch 2.13.
        all_gather = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor
        all_gather(gathered, padded.contiguous(), group=members)
        if min(sizes) == largest:
            return gathered
        return torch.cat([part[:size] for part, size in zip(gathered.chunk(len(sizes)), sizes, strict=True)])

    def run_add_up(values: Any, group: str, kind: str) -> Any:
        total = values.clone()
        _count(kind, values.numel(), values)
        dist.all_reduce(total, group=GROUPS[group])
        return total

    return {
        "exchange": define("exchange", run_exchange, lambda flat, send, receive, *_: flat.new_empty(sum(receive))),
        "gather": define("gather", run_gather, lambda flat, sizes, *_: flat.new_empty(sum(sizes))),
        "add_up": define("add_up", run_add_up, lambda values, *_: torch.empty_like(values)),
    }

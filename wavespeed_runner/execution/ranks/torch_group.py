"""Joins and leaves the process group of torch.distributed, in which stages exchange tensors."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from ...accelerate.parallel.groups import forget_places
from ...config.environment import count_threads, read_device_name
from ...errors import RunError

MEET_S = 60.0
"""Most seconds for the ranks to find each other; all have said before that they are there."""
INTERFACE = "GLOO_SOCKET_IFNAME"
_chose_interface: dict[str, str] = {}
"""`here`: the interface that this process has chosen itself, until it leaves."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """A rank among the others."""

    rank: int
    world: int
    local_rank: int
    """Among those on its machine: the number of its CUDA device."""
    local_world: int
    device: str
    """`cpu` or `cuda`: the kind of all ranks' devices."""
    timeout: float
    """Seconds after which a message counts as lost."""


def join(place: Place, store: Any) -> dict[str, Any]:
    """Joins the process group.

    Args:
        place: of this rank.
        store: a `torch.distributed.Store` that all ranks have in common.

    Returns:
        What the record says of this rank: rank, device, device_name, host.
    """
    import torch
    import torch.distributed as dist

    device = place.device
    if device == "cuda":
        # srun --gpus-per-task shows each rank its own card alone.
        index = place.local_rank if torch.cuda.device_count() > 1 else 0
        device = f"cuda:{index}"
        torch.cuda.set_device(index)
        # By default a lost message ends the process; rank 0 has a record to write. 2: only the communicator ends.
        os.environ.setdefault("TORCH_NCCL_ASYNC_ERROR_HANDLING", "2")
    if place.local_world == place.world:
        _stay_on_this_machine()
    meet = timedelta(seconds=min(place.timeout, MEET_S))
    store.set_timeout(meet)
    dist.init_process_group(
        name_backend(place.device), store=store, rank=place.rank, world_size=place.world, timeout=meet
    )
    dist.distributed_c10d._set_pg_timeout(timedelta(seconds=place.timeout))
    return {
        "rank": place.rank,
        "device": device,
        "device_name": read_device_name(device) if device == "cpu" else torch.cuda.get_device_name(device),
        "host": socket.gethostname(),
    }


def confirm() -> None:
    """Waits until every rank has done its part of a call. Raises if one has not within the timeout.

    On a GPU a lost message is noticed by the next one alone, and what it should have brought is used meanwhile. This
    one goes through main memory, so it fails where it is waited for.
    """
    import torch
    import torch.distributed as dist

    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
    dist.all_reduce(torch.zeros(1))


def leave() -> None:
    """Leaves the process group, if this process is in one."""
    import torch.distributed as dist

    if dist.is_initialized():
        dist.destroy_process_group()
    forget_places()
    if _chose_interface.pop("here", None) == os.environ.get(INTERFACE, ""):
        del os.environ[INTERFACE]


def abort() -> None:
    """Ends what waits for messages on a GPU; what waits for gloo sees by itself that a socket is closed."""
    import torch.distributed as dist

    if dist.is_initialized() and "nccl" in str(dist.get_backend_config()):
        dist.distributed_c10d._abort_process_group()


def name_backend(device: str) -> str:
    """The backend of torch.distributed for a kind of device."""
    return "cpu:gloo,cuda:nccl" if device == "cuda" else "gloo"


def check_torch(device: str) -> None:
    """Raises RunError if this torch cannot pass messages between ranks on these devices."""
    import torch
    import torch.distributed as dist

    lacks = "torch.distributed" if not dist.is_available() else "NCCL"
    if lacks != "NCCL" or (device == "cuda" and not dist.is_nccl_available()):
        raise RunError(
            f"this torch ({torch.__version__}) is built without {lacks}, so ranks cannot exchange messages; install "
            "another build of it, or use parallel=none"
        )


@contextmanager
def divide_threads(local_world: int) -> Iterator[None]:
    """Gives this rank its share of the machine's cores while it computes together with the others.

    By torch's own setting and not by OMP_NUM_THREADS, which store keys of quantized weights depend on.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(max(1, count_threads() // local_world))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _stay_on_this_machine() -> None:
    """Has gloo listen on the loopback interface alone, unless the user chose one: no port is open to other machines."""
    loopback = next((name for _, name in socket.if_nameindex() if name in ("lo", "lo0")), "")
    if loopback and INTERFACE not in os.environ:
        os.environ[INTERFACE] = _chose_interface["here"] = loopback

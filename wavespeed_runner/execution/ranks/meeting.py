"""Where ranks of torchrun or srun meet: a store of torch.distributed on rank 0's machine."""

from __future__ import annotations

import os
import re
import sys
import threading
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, NoReturn

from ...config.launched import Launched
from ...errors import ConfigError, RunError, format_error
from ...process.exit_status import FAILED
from .torch_group import MEET_S

FIRST_PORT, PORTS = 15_000, 15_000
"""Below those that systems give to whoever asks for any."""
LATE_S = 15.0
"""Seconds after which torch has missed its own timeout."""


def open_store(launched: Launched) -> Any:
    """The store that all ranks share.

    Raises:
        ConfigError: its port is in use.
        RunError: rank 0 is out of reach.
    """
    import torch.distributed as dist

    timeout = timedelta(seconds=MEET_S)
    host, port = find_address(launched, os.environ)
    # Who is connected to another program's port waits without end, and sees no signal.
    watch = threading.Timer(MEET_S + LATE_S, _give_up, (f"rank {launched.rank}: {host}:{port} is not rank 0's",))
    watch.daemon = True
    watch.start()
    try:
        if launched.by == "torchrun":  # whose own process may hold the store
            store, *_ = next(dist.rendezvous("env://", launched.rank, launched.world, timeout=timeout))
            return store
        return dist.TCPStore(host, port, launched.world, launched.rank == 0, timeout=timeout)
    except (RuntimeError, ValueError) as error:
        text = format_error(error)
        if re.search("in use|EADDRINUSE", text):
            raise ConfigError(f"MASTER_PORT={port}: it is in use on {host}; give another one") from None
        if launched.rank:
            raise RunError(f"rank {launched.rank}: rank 0 cannot be reached at {host}:{port}: {text}") from None
        raise RunError(
            f"{launched.by} has started {launched.world} ranks, and they did not all come to {host}:{port} within "
            f"{MEET_S:.0f} seconds; see what they printed: {text}"
        ) from None
    finally:
        watch.cancel()


def _give_up(why: str) -> NoReturn:
    """Ends the process from another thread than the one that hangs."""
    print(f"error: {why}; set MASTER_PORT to a port that nobody uses", file=sys.stderr, flush=True)
    os._exit(FAILED)


def find_address(launched: Launched, given: Mapping[str, str]) -> tuple[str, int]:
    """Host and port where rank 0 keeps the store.

    Args:
        launched: this process.
        given: the environment. With srun MASTER_ADDR and MASTER_PORT are optional: the first machine of the step, and
            a port that follows from the ids of job and step.
    """
    if launched.by == "srun":
        number = int(given.get("SLURM_JOB_ID", "0")) * 7 + int(given.get("SLURM_STEP_ID", "0"))
        port = FIRST_PORT + number % PORTS
        host = "127.0.0.1" if launched.local_world == launched.world else find_first(given["SLURM_STEP_NODELIST"])
        return given.get("MASTER_ADDR", host), int(given.get("MASTER_PORT", port))
    return given["MASTER_ADDR"], int(given["MASTER_PORT"])


def find_first(nodes: str) -> str:
    """The first machine of one of Slurm's lists: `gpu[03-07,12]-a,cpu1` -> `gpu03-a`."""
    match = re.match(r"([^\[,]+)(?:\[(\d+)[^\]]*\])?([^\[,]*)", nodes)
    if not match:
        raise ConfigError(f"SLURM_STEP_NODELIST={nodes}: no machine; set MASTER_ADDR")
    return "".join(part or "" for part in match.groups())

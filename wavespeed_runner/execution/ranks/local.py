"""Starts ranks on this machine: processes of our own, one a device.

By `subprocess`, and neither by torchrun nor by `multiprocessing`: rank 0 stays the process that was typed, with its
console, its signals and its models from earlier jobs; each other rank is a fresh interpreter with a log of its own,
whose exit status tells how it ended; and no launcher stands between them that would have to be watched too. They speak
through inherited sockets, and meet for torch.distributed in a file without a name: nothing can be connected to from
outside, and nothing is left if all of them are killed.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from multiprocessing.connection import Connection
from pathlib import Path

from ...errors import RunError
from ...process.import_path import build_python_command
from .group import RankGroup, Spec
from .peers import Peer
from .torch_group import Place, check_torch

WORKER = "wavespeed_runner.execution.ranks.worker"


def start(spec: Spec, logs: Path | None) -> RankGroup:
    """Starts all ranks but this one and joins them.

    Args:
        spec: how many, on which kind of device.
        logs: folder for `rank1.log`, ...; None: what they print is dropped.

    Raises:
        RunError: a rank failed.
    """
    check_torch(spec.device)
    meeting, path, folder = _open_meeting()

    def forget() -> None:
        os.close(meeting)
        if folder:
            shutil.rmtree(folder, ignore_errors=True)

    peers: list[Peer] = []
    try:
        for rank in range(1, spec.ranks):
            peers.append(_start_rank(rank, meeting, logs))
    except OSError as error:
        RankGroup(spec, peers, forget).close()
        raise RunError(f"rank {len(peers) + 1} cannot be started: {error.strerror}; use fewer ranks") from error
    group = RankGroup(spec, peers, forget)
    try:
        import torch.distributed as dist

        places = [_place(spec, rank) for rank in range(spec.ranks)]
        group.join(dist.FileStore(path, spec.ranks), places, meeting=path, folder=folder)
    except BaseException:
        group.close()
        raise
    return group


def _place(spec: Spec, rank: int) -> Place:
    return Place(
        rank=rank,
        world=spec.ranks,
        local_rank=rank,
        local_world=spec.ranks,
        device=spec.device,
        timeout=spec.timeout,
    )


def _open_meeting() -> tuple[int, str, str | None]:
    """Opens the file in which the ranks find each other.

    Returns:
        Its descriptor, which the ranks inherit; its path in each of them; the folder that holds it, if there is one.
    """
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("wavespeed_ranks")
        path = f"/proc/self/fd/{descriptor}"
        if os.path.exists(path):
            return descriptor, path, None
        os.close(descriptor)
    folder = tempfile.mkdtemp(prefix="wavespeed_ranks_")
    path = os.path.join(folder, "store")
    return os.open(path, os.O_RDWR | os.O_CREAT, 0o600), path, folder


def _start_rank(rank: int, meeting: int, logs: Path | None) -> Peer:
    ours, theirs = socket.socketpair()
    if logs is not None:
        logs.mkdir(parents=True, exist_ok=True)
    log = logs / f"rank{rank}.log" if logs is not None else None
    command = build_python_command(WORKER, str(theirs.fileno()), str(rank), str(os.getpid()))
    with theirs, open(log or os.devnull, "ab") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            pass_fds=(theirs.fileno(), meeting),
        )
    return Peer(rank=rank, connection=Connection(ours.detach()), process=process, log=log)

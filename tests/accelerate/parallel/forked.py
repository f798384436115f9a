"""Runs a function on several ranks: children of this process, which inherit its models, connected by gloo."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import tempfile
import traceback
from collections.abc import Callable
from datetime import timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from torch import distributed as dist


def run_on_ranks(ranks: int, function: Callable[[], Any], *, timeout: float = 60.0) -> list[Any]:
    """What the function returns on each rank. Raises AssertionError with the traceback of the first that fails."""
    context = multiprocessing.get_context("fork")
    with tempfile.TemporaryDirectory() as folder:
        pipes = [context.Pipe(duplex=False) for _ in range(ranks)]
        children = [
            context.Process(target=_run, args=(rank, ranks, folder, function, pipes[rank][1], timeout), daemon=True)
            for rank in range(ranks)
        ]
        for child in children:
            child.start()
        try:
            answers = [_receive(reader, timeout * 4) for reader, _ in pipes]
        finally:
            for child in children:
                child.kill()
                child.join()
    failures = [value for status, value in answers if status == "failed"]
    # The first one to fail takes the others' connections with it.
    causes = [failure for failure in failures if "Connection" not in failure and "gloo" not in failure]
    assert not failures, (causes or failures)[0]
    return [value for _, value in answers]


def _receive(reader: Connection, seconds: float) -> tuple[str, Any]:
    if not reader.poll(seconds):
        return "failed", f"no answer in {seconds} s"
    answer: tuple[str, Any] = pickle.loads(reader.recv_bytes())
    return answer


def _run(rank: int, ranks: int, folder: str, function: Callable[[], Any], writer: Connection, timeout: float) -> None:
    torch.set_num_threads(1)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    try:
        store = dist.FileStore(str(Path(folder) / "rendezvous"), ranks)
        dist.init_process_group("gloo", store=store, rank=rank, world_size=ranks, timeout=timedelta(seconds=timeout))
        writer.send_bytes(pickle.dumps(("returned", function())))  # not as multiprocessing does: by shared memory
    except BaseException:
        writer.send_bytes(pickle.dumps(("failed", traceback.format_exc())))
    finally:
        writer.close()
        os._exit(0)  # without the parent's clean-up

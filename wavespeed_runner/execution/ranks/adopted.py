"""Ranks that torchrun or srun has started: each typed the same command; one drives, the others serve it.

They meet in a store of torch.distributed, where rank 0 leaves the address of a socket and a random key; over that
socket go the messages that ranks of our own get through inherited ones. Before anything is loaded or written, rank 0
compares what each rank is about to do: configuration, weights, versions and code.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from time import monotonic
from typing import Any

from ...accelerate.parallel.options import find_layout
from ...config.launched import Launched, find_launch
from ...errors import ConfigError, RunError, format_error
from ...planning.plan import Plan
from ...process.exit_status import DONE, WRONG
from .agreement import describe_plans, find_differences
from .group import RankGroup, Spec
from .meeting import find_address, open_store
from .messages import encode
from .peers import END_S, Peer
from .torch_group import MEET_S, Place, check_torch
from .worker import serve

KEY = "wavespeed_runner"
"""Of the store: where rank 0 can be reached."""
LONGEST = 2**26
"""Bytes of a rank's first message, at most."""
GREETING_S = 5.0
"""Seconds that whoever connects has for it: a rank sends it at once, and nobody else may keep the ranks waiting."""


@dataclass(kw_only=True)
class _Present:
    """The ranks that are there, on rank 0."""

    store: Any
    launched: list[Launched]
    """By rank."""
    peers: list[Peer]
    group: RankGroup | None = None


_present: list[_Present] = []
"""At most one: a process is launched once."""


def find_own_launch(plans: Sequence[Plan]) -> Launched | None:
    """This process among those that were started to run these plans together; None for one that runs them alone."""
    launched = find_launch()
    # srun may also have started runs of one process each.
    together = launched and any(find_layout(plan.config.parallel).ranks == launched.world for plan in plans)
    return launched if together else None


@contextmanager
def take_part(plans: Sequence[Plan]) -> Iterator[None]:
    """Brings the ranks together that a launcher has started; there may be none.

    On the others than rank 0 it serves, and the process ends.

    Args:
        plans: what this process is about to do. All ranks have to agree.

    Raises:
        ConfigError: a rank is about to do something else, or the launcher's port is in use.
        RunError: a rank does not come.
    """
    launched = find_own_launch(plans)
    if launched is None:
        yield
        return
    store, about = open_store(launched), describe_plans(plans)
    if launched.rank:
        connection = _connect(store, launched, about)
        logging.basicConfig(level=logging.INFO, stream=sys.stderr, force=True)
        serve(connection, launched.rank, store, patient=True)
    try:
        _present.append(_receive_all(store, launched, about))
        yield
    finally:
        for present in _present:
            if present.group is None:
                _dismiss(present.peers)
        _present.clear()


def is_launched() -> bool:
    """True on rank 0 of ranks that a launcher has started."""
    return bool(_present)


def explain_interrupt() -> RunError | None:
    """The failure of a rank because of which its launcher has sent this one a signal; None where there was none."""
    groups = [present.group for present in _present if present.group]
    return groups[0].explain_interrupt() if groups else None


def adopt(spec: Spec) -> RankGroup:
    """The ranks that are there, joined to a group.

    Raises:
        RunError: a rank failed; or they have been used by a group that is over, and nobody starts them again.
    """
    check_torch(spec.device)
    (present,) = _present
    by = present.launched[0].by
    if present.group:
        raise RunError(f"the ranks that {by} has started have ended; run the same command again: it goes on")
    present.group = RankGroup(spec, present.peers)
    places = [
        Place(
            rank=each.rank,
            world=each.world,
            local_rank=each.local_rank,
            local_world=each.local_world,
            device=spec.device,
            timeout=spec.timeout,
        )
        for each in present.launched
    ]
    present.group.join(present.store, places, folder=None)
    return present.group


def _connect(store: Any, launched: Launched, about: dict[str, str]) -> Connection:
    """Connects to rank 0 and tells it what this rank is about to do."""
    try:
        where = json.loads(store.get(KEY))
        alone = launched.local_world == launched.world
        host = "127.0.0.1" if alone else find_address(launched, os.environ)[0]
        line = socket.create_connection((host, where["port"]), timeout=MEET_S)
    except (RuntimeError, OSError) as error:
        raise RunError(f"rank {launched.rank}: rank 0 does not answer: {format_error(error)}") from None
    line.settimeout(None)
    connection = Connection(line.detach())
    told = {"key": where["key"], "launched": asdict(launched), "host": socket.gethostname(), "about": about}
    connection.send_bytes(json.dumps(told).encode())
    return connection


def _receive_all(store: Any, launched: Launched, about: dict[str, str]) -> _Present:
    """Waits for the other ranks and compares what they are about to do."""
    alone = launched.local_world == launched.world
    host = "127.0.0.1" if alone else ""  # every interface: the others have found this machine by the store's address
    present = _Present(store=store, launched=[launched], peers=[])
    differences, end, key = [], monotonic() + MEET_S, secrets.token_hex(32)
    with socket.create_server((host, 0)) as server:
        store.set(KEY, json.dumps({"port": server.getsockname()[1], "key": key}))
        while len(present.peers) < launched.world - 1:
            told, connection = _receive(server, end, launched, present)
            if not secrets.compare_digest(str(told.get("key")), key):
                connection.close()  # somebody else's
                continue
            other = Launched(**told["launched"])
            present.peers.append(Peer(rank=other.rank, connection=connection))
            present.launched.append(other)
            differences += find_differences(other.rank, told["host"], told["about"], about)
    present.peers.sort(key=lambda peer: peer.rank)
    present.launched.sort(key=lambda each: each.rank)
    if differences:
        _dismiss(present.peers, status=WRONG)
        raise ConfigError(f"{differences[0]}; start every rank with the same command, versions and weights")
    return present


def _receive(server: socket.socket, end: float, launched: Launched, present: _Present) -> tuple[dict[str, Any], Any]:
    """One more rank's first message, and the connection to it."""
    try:
        server.settimeout(max(end - monotonic(), 0.01))
        line, _ = server.accept()
    except TimeoutError:
        there = {peer.rank for peer in present.peers} | {0}
        missing = ", ".join(str(rank) for rank in range(launched.world) if rank not in there)
        raise RunError(
            f"{launched.by} has started {launched.world} ranks, and after {MEET_S:.0f} seconds these have not come: "
            f"{missing}; see what they printed"
        ) from None
    line.settimeout(None)
    connection = Connection(line.detach())
    try:
        told = json.loads(connection.recv_bytes(LONGEST)) if connection.poll(GREETING_S) else {}
    except (OSError, EOFError, ValueError):
        told = {}
    return (told if isinstance(told, dict) else {}), connection


def _dismiss(peers: list[Peer], status: int = DONE) -> None:
    """Ends ranks that are not in a group yet, with this exit status."""
    for peer in peers:
        with suppress(OSError, EOFError):
            peer.connection.send_bytes(encode({"do": "leave", "status": status}))
            while peer.connection.poll(END_S):  # until it has ended: a line that is cut means that rank 0 has failed
                peer.connection.recv_bytes()
        peer.connection.close()

"""`parallel=data`: the batches of a run over ranks, which share no image.

Each rank runs whole batches with a model of its own, and puts what it makes into the store. Rank 0 makes its part, then
goes through all images as one process does, and finds them there. Batches are cut as one process cuts them, and each
rank computes with as many threads as one process has: both decide the last bits. So the store cannot tell the ranks
from one process, except that what they timed on one CPU says how many shared it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec

from ..accelerate.parallel.options import find_layout
from ..errors import RunError
from ..planning.graph import list_results
from ..planning.plan import Plan
from ..records.sample import StageRun
from .batches import Pass, fill_store, list_batches
from .executor import Executor
from .ranks.group import RankGroup, Spec


@contextmanager
def share_out(plan: Plan, executor: Executor, passes: list[Pass], *, again: bool = False) -> Iterator[DataRanks | None]:
    """Gives each rank its part of the batches that the store lacks, and ends when all of them are made.

    Args:
        plan: of the run.
        executor: of this process, rank 0.
        passes: what each image goes through, in this order.
        again: denoise also what the store has.

    Yields:
        Who makes what; None where this process makes everything: without `parallel=data`, or with nothing to share.

    Raises:
        RunError: a rank failed, has another kind of device, or another store.
    """
    ranks = find_layout(plan.config.parallel).data
    batches = [batch for batch in list_batches(plan) if again or not _is_made(executor, passes, batch)]
    if ranks == 1 or len(batches) < 2:
        yield None
        return
    group = executor.kept.provide_ranks(
        Spec(
            ranks=ranks,
            device=plan.config.device.partition(":")[0],
            timeout=plan.config.parallel.timeout,  # type: ignore[attr-defined]  # not of `none`, which has one rank
        )
    )
    _refuse_mixed_devices(group)
    with group.watch_call():
        yield DataRanks(plan, executor, passes, group, batches, again)


class DataRanks:
    """The batches of a run, and the ranks that make them: dealt out one by one."""

    def __init__(
        self, plan: Plan, executor: Executor, passes: list[Pass], group: RankGroup, batches: list[range], again: bool
    ) -> None:
        self.plan, self.executor, self.passes, self.group, self.again = plan, executor, passes, group, again
        self.evidence = {"kind": "data", **group.evidence}
        """For the record's `engaged.parallel`."""
        self._rank_of = {batch.start: number % group.spec.ranks for number, batch in enumerate(batches)}
        self._own = deque(batch for batch in batches if self._rank_of[batch.start] == 0)
        self._made: dict[int, list[StageRun]] = {}
        """Batches that this rank has made: first image -> what ran."""
        for batch in batches:
            if rank := self._rank_of[batch.start]:
                group.hand_out(rank, self._describe(rank, batch))

    def finish(self, batch: range) -> list[StageRun] | None:
        """Waits until a batch is in the store; makes those of this rank meanwhile. To be called in their order.

        Returns:
            What ran for it; None: it was there before.
        """
        rank = self._rank_of.get(batch.start)
        if rank is None:
            return None
        while self._own and batch.start not in self._made and not (rank and self.group.has_answer(rank)):
            self._make_next()
        if rank:
            self.executor.on_stage("ranks")
            runs = msgspec.convert(self.group.await_answer(rank)["runs"], list[StageRun])
            self._refuse_other_store(rank, batch)
        else:
            runs = self._made.pop(batch.start)
        written = [key for p in self.passes for key in p.list_stored(list(p.graph.nodes.values()), batch)]
        self.executor.fresh.update(written)
        if self.executor.cache:
            self.executor.cache.forget(written)
        return runs

    def _make_next(self) -> None:
        """Makes the next batch of this rank."""
        self.group.check()
        batch = self._own.popleft()
        executor, samples = self.executor, [self.plan.samples[image] for image in batch]
        passes = [each.select(batch) for each in self.passes]
        executor.rank, executor.beside = 0, self._count_neighbours(0)
        try:
            self._made[batch.start] = fill_store(executor, passes, samples, batch.start, self.again)
        finally:
            executor.rank, executor.beside = None, 1
        self.group.check()

    def _count_neighbours(self, rank: int) -> int:
        """Ranks that compute on the same cores as this one, itself included."""
        if self.group.spec.device != "cpu":
            return 1
        hosts = [each["host"] for each in self.group.evidence["ranks"]]
        return hosts.count(hosts[rank])

    def _describe(self, rank: int, batch: range) -> dict[str, Any]:
        """The message that has a rank make a batch, see `make_batch`."""
        keys = {key for each in self.passes for image in batch for key in each.keys[image].values()}
        return {
            "do": "make",
            "passes": [each.describe(batch) for each in self.passes],
            "samples": [self.plan.samples[i] for i in batch],
            "first": batch.start,
            "again": self.again,
            "store": str(self.plan.store.root.absolute()),
            "device": self.executor.device,
            "rerun": self.executor.rerun,
            "fresh": sorted(self.executor.fresh & keys),
            "rank": rank,
            "beside": self._count_neighbours(rank),
        }

    def _refuse_other_store(self, rank: int, batch: range) -> None:
        """Raises RunError if what a rank says it has stored is not in this rank's store."""
        keys = [key for each in self.passes for key in each.list_stored(list_results(each.graph), batch)]
        if any(key not in self.executor.store for key in keys):
            host = self.group.evidence["ranks"][rank]["host"]
            raise RunError(
                f"parallel=data: what rank {rank} ({host}) has stored is not in {self.executor.store.root}; use "
                "outputs=DIR with a folder that all machines share"
            )


def _is_made(executor: Executor, passes: list[Pass], batch: range) -> bool:
    """True if the store has all results of a batch; with `rerun=true`, if they are of this process."""
    keys = [key for each in passes for key in each.list_stored(list_results(each.graph), batch)]
    return all(key in executor.store and (not executor.rerun or key in executor.fresh) for key in keys)


def _refuse_mixed_devices(group: RankGroup) -> None:
    """Raises RunError unless all ranks have the same kind of device: it decides the last bits, and keys name one."""
    first, *others = group.evidence["ranks"]
    for other in others:
        if other["device_name"] != first["device_name"]:
            raise RunError(
                f"parallel=data: rank {other['rank']} ({other['host']}) has {other['device_name']}, and rank 0 "
                f"({first['host']}) has {first['device_name']}; images of one run are made on devices of one kind"
            )

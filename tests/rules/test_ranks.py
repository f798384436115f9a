"""Rules on ranks: how many, on which devices, and whether those that were started are as many."""

from __future__ import annotations

import pytest

from tests.rules.cases import Apply, Cases, check_rule
from wavespeed_runner.config import environment
from wavespeed_runner.config.launched import Launched, find_launch
from wavespeed_runner.rules import Rule, ranks
from wavespeed_runner.rules.ranks import RANKS

TWO, EIGHT = {"parallel": "ulysses"}, {"parallel": "unified", "parallel.cfg": True}
ON_CUDA = {"device": "cuda", "dry_run": False}
CASES: Cases = {
    "ranks-device": ([TWO | {"device": "cuda:1"}], [TWO | {"device": "cuda"}, {"device": "cuda:1"}]),
    "ranks-mps": ([TWO | {"device": "mps"}], [TWO, {"device": "mps"}]),
    "ranks-cards": (
        [EIGHT | ON_CUDA, TWO | ON_CUDA | {"parallel.degree": 5}, {"parallel": "data", "parallel.degree": 5} | ON_CUDA],
        [TWO | ON_CUDA, EIGHT | {"device": "cuda", "dry_run": True}, EIGHT, ON_CUDA],
    ),
    "ranks-cpu": (
        [TWO | {"parallel.degree": 9}, EIGHT | {"limits.ranks": 7}],
        [EIGHT, TWO | {"parallel.degree": 9, "limits.ranks": 9}, EIGHT | {"limits.ranks": 7} | ON_CUDA],
    ),
}
AROUND = [rule for rule in RANKS if rule.id not in CASES]


@pytest.fixture(autouse=True)
def four_cards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranks, "count_cards", lambda: 4)
    monkeypatch.setattr(ranks, "resolve_device", lambda device: "cpu" if device == "auto" else device)
    monkeypatch.setattr(ranks, "find_launch", lambda: None)


@pytest.mark.parametrize("rule", [rule for rule in RANKS if rule.id in CASES], ids=lambda rule: rule.id)
def test_a_rule_on_ranks_applies_exactly_where_it_should(apply: Apply, rule: Rule) -> None:
    check_rule(apply, rule, CASES[rule.id])


def test_what_a_refusal_says(apply: Apply) -> None:
    (finding,) = [finding for finding in apply(EIGHT | ON_CUDA) if finding.rule == "ranks-cards"]
    assert finding.message == (
        "parallel.ulysses_degree=2 parallel.ring_degree=2 parallel.cfg=true: 8 ranks, one a GPU, and this machine has "
        "4 GPUs"
    )


def test_windows_has_no_ranks(apply: Apply, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranks, "platform", "win32")
    assert "ranks-system" in [finding.rule for finding in apply(TWO)]
    assert "ranks-system" not in [finding.rule for finding in apply({})]


def test_as_many_ranks_as_were_started(apply: Apply, monkeypatch: pytest.MonkeyPatch) -> None:
    def says(by: str, world: int, **values: object) -> list[str]:
        launched = Launched(by=by, rank=1, world=world, local_rank=1, local_world=world)
        monkeypatch.setattr(ranks, "find_launch", lambda: launched)
        return [finding.message for finding in apply(values) if finding.rule == "ranks-started"]

    assert says("torchrun", 4, parallel="ulysses") == [
        "parallel=ulysses: parallel.degree=2 has 2 ranks, and torchrun has started 4"
    ]
    assert says("torchrun", 2) == ["parallel=none: it is one process, and torchrun has started 2"]
    assert says("srun", 4, parallel="ulysses")
    assert says("srun", 2) == []  # each task may be a run of its own
    assert says("torchrun", 2, parallel="ulysses") == [] == says("srun", 2, parallel="cfg")


def test_of_several_machines_each_has_a_gpu_for_its_own_ranks(apply: Apply, monkeypatch: pytest.MonkeyPatch) -> None:
    for local_world, refused in ((4, False), (8, True)):
        launched = Launched(by="srun", rank=0, world=8, local_rank=0, local_world=local_world)
        monkeypatch.setattr(ranks, "find_launch", lambda launched=launched: launched)
        assert refused == ("ranks-cards" in [finding.rule for finding in apply(EIGHT | ON_CUDA)])


def test_what_torchrun_and_srun_tell_their_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    torchrun = {"RANK": "5", "WORLD_SIZE": "8", "MASTER_ADDR": "a", "MASTER_PORT": "1", "LOCAL_RANK": "1"}
    srun = {"SLURM_PROCID": "6", "SLURM_STEP_NUM_TASKS": "7", "SLURM_LOCALID": "0", "SLURM_NODEID": "3"}
    for given, expected in (
        ({}, None),
        (torchrun | {"LOCAL_WORLD_SIZE": "4"}, ("torchrun", 5, 8, 1, 4)),
        (torchrun | {"WORLD_SIZE": "1"}, None),
        (torchrun | {"WORLD_SIZE": "many"}, None),
        (srun | {"SLURM_STEP_TASKS_PER_NODE": "2(x3),1"}, ("srun", 6, 7, 0, 1)),
        (srun | {"SLURM_STEP_TASKS_PER_NODE": "?"}, None),
        # In a job's batch script, which runs once for all its tasks.
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "4", "SLURM_LOCALID": "0", "SLURM_NODEID": "0"}, None),
    ):
        with monkeypatch.context() as patch:
            for name, value in given.items():
                patch.setenv(name, value)
            found = find_launch()
        parts = found and (found.by, found.rank, found.world, found.local_rank, found.local_world)
        assert parts == expected, given


def test_cards_are_counted_without_torch(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    monkeypatch.setattr(environment, "CARDS", f"{tmp_path}/gpus")
    for visible, count in (("0,2", 2), ("", 0), ("-1", 0), ("GPU-1,GPU-2,GPU-3", 3)):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        assert environment.count_cards() == count
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert environment.count_cards() is None

"""Attention over several ranks against the formula in float64: any lengths, heads, masks, streams, also whole ones."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Any

import pytest
import torch

from tests.accelerate.parallel.forked import run_on_ranks
from wavespeed_runner.accelerate.parallel.attention import ParallelAttention, get_plain_attention
from wavespeed_runner.accelerate.parallel.collectives import take_counts
from wavespeed_runner.accelerate.parallel.groups import Place, find_place
from wavespeed_runner.accelerate.parallel.options import Layout
from wavespeed_runner.accelerate.parallel.partial_attention import align_bias
from wavespeed_runner.accelerate.parallel.shares import REST, Shares, divide


@dataclass(frozen=True)
class Case:
    """One attention: lengths of its streams, which of them are whole on every rank, heads, and the kind of mask."""

    seed: int
    heads: int
    queries: dict[str, int]
    keys: dict[str, int]
    mask: str


def draw_case(random: Random, ranks: int, seed: int) -> Case:
    lengths = {name: random.randint(ranks, 19) for name in ("a", "b")}
    rest = {REST: random.randint(0, 7)}
    streams = random.choice([lengths, {"a": lengths["a"]}, {"a": lengths["a"], **rest}, {**lengths, **rest}])
    keys = random.choice([streams, streams, {"a": lengths["a"]}]) if "b" not in streams else streams
    queries = random.choice([streams, rest]) if keys == {"a": lengths["a"]} and rest[REST] else streams
    masks = ["none", "keys", "added", "heads", "square"]
    if queries == keys:
        masks += ["own keys", "own pairs"]
    return Case(seed, random.randint(4, 7), queries, keys, random.choice(masks))


def build_mask(case: Case, generator: torch.Generator) -> torch.Tensor | None:
    """The mask over all tokens. The first key always counts."""
    rows, columns = sum(case.queries.values()), sum(case.keys.values())
    shapes = {"heads": (2, case.heads, 1, columns), "square": (2, 1, rows, columns)}
    counts = torch.rand(shapes.get(case.mask, (2, 1, 1, columns)), generator=generator) < 0.7
    counts[..., 0] = True
    if case.mask == "none":
        return None
    return torch.where(counts, 0.3, -1e4).to(torch.float32) if case.mask == "added" else counts


def compute_formula(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    scores = q.double() @ k.double().transpose(-1, -2) / q.shape[-1] ** 0.5
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf")) if mask.dtype is torch.bool else scores + mask.double()
    return (scores.softmax(-1) @ v.double()).nan_to_num(0.0)


def run_case(case: Case, place: Place) -> float:
    """Largest error on this rank."""
    generator = torch.Generator().manual_seed(case.seed)
    rows, columns = sum(case.queries.values()), sum(case.keys.values())
    k, v = (torch.randn(2, case.heads, columns, 8, generator=generator) for _ in range(2))
    q = torch.randn(2, case.heads, rows, 8, generator=generator)
    mask = build_mask(case, generator)
    shares = Shares(ranks=place.layout.sequence, rank=place.sequence_rank, active=True)
    for name, length in {**case.queries, **case.keys}.items():
        if name != REST:
            shares.set_length(name, length)
    attend = ParallelAttention(
        place=place,
        shares=shares,
        queries=tuple(case.queries),
        keys=tuple(case.keys),
        attend=get_plain_attention(),
        pairs=case.mask == "own pairs",
    )
    given = mask
    if mask is not None and case.mask.startswith("own"):
        given = shares.cut(mask, 3, tuple(case.keys))
    if mask is not None and given is not None and case.mask == "own pairs":
        given = given & given.transpose(-1, -2)
        mask = mask & mask.transpose(-1, -2)
    mine = [shares.cut(x, 2, tuple(of)) for x, of in ((q, case.queries), (k, case.keys), (v, case.keys))]
    actual = attend(*mine, given)
    expected = shares.cut(compute_formula(q, k, v, mask), 2, tuple(case.queries))
    assert actual.shape == expected.shape and actual.dtype == q.dtype
    return float((actual - expected).abs().max())


@pytest.mark.parametrize(
    "layout", [Layout(ulysses=2), Layout(ring=2), Layout(ulysses=4), Layout(ring=4), Layout(ulysses=2, ring=2)], ids=str
)
def test_any_attention_is_that_of_one_process(layout: Layout) -> None:
    random = Random(str(layout))
    cases = [draw_case(random, layout.ranks, seed) for seed in range(24)]

    def run() -> list[float]:
        place = find_place(layout)
        return [run_case(case, place) for case in cases]

    for errors in run_on_ranks(layout.ranks, run):
        worst = max(range(len(cases)), key=lambda i: errors[i])
        assert errors[worst] < 2e-6, cases[worst]


@pytest.mark.parametrize(
    ("layout", "elements", "calls"),
    [
        # S tokens of width H on N ranks: Ulysses 4 (S/N) H (N-1)/N, Ring 2 (S/N) H (N-1)
        (Layout(ulysses=2), 4 * 8 * 32 * 1 / 2, 2),
        (Layout(ulysses=4), 4 * 4 * 32 * 3 / 4, 2),
        (Layout(ring=2), 2 * 8 * 32 * 1, 1),
        (Layout(ring=4), 2 * 4 * 32 * 3, 3),
        (Layout(ulysses=2, ring=2), 4 * 4 * 32 / 2 + 2 * 4 * 32, 3),
    ],
    ids=str,
)
def test_the_bytes_that_are_sent_are_those_of_the_formula(layout: Layout, elements: float, calls: int) -> None:
    def run() -> dict[str, Any]:
        place = find_place(layout)
        shares = Shares(ranks=layout.ranks, rank=place.sequence_rank, active=True)
        shares.set_length("a", 16)
        attend = ParallelAttention(
            place=place, shares=shares, queries=("a",), keys=("a",), attend=get_plain_attention()
        )
        attend(*torch.randn(3, 1, 4, 16 // layout.ranks, 8))
        return take_counts()

    for counts in run_on_ranks(layout.ranks, run):
        assert sum(kind["bytes"] for kind in counts.values()) == 4 * elements
        assert sum(kind["calls"] for kind in counts.values()) == calls


@pytest.mark.parametrize("total", range(1, 30))
@pytest.mark.parametrize("ranks", [1, 2, 3, 4, 7])
def test_tokens_are_divided_as_torch_divides(total: int, ranks: int) -> None:
    pieces = torch.arange(total).tensor_split(ranks)
    assert divide(total, ranks) == tuple(len(piece) for piece in pieces)
    for rank in range(ranks if total >= ranks else 0):
        shares = Shares(ranks=ranks, rank=rank)
        shares.set_length("a", total)
        assert torch.equal(shares.cut(torch.arange(total), 0, ("a",)), pieces[rank])


@pytest.mark.parametrize("shape", [(2, 1, 1, 21), (2, 4, 1, 21), (1, 1, 5, 21), (2, 1, 5, 1)])
def test_a_bias_is_aligned_and_repeated_without_a_copy(shape: tuple[int, ...]) -> None:
    """As the memory-efficient operator of CUDA wants it: rows at multiples of 16 numbers."""
    bias, query = torch.randn(shape), torch.zeros(2, 4, 5, 8)
    aligned = align_bias(bias, query, 21)
    assert torch.equal(aligned, bias.expand(2, 4, 5, 21)) and aligned.stride(-1) == 1
    assert all(stride % 16 == 0 for stride in aligned.stride()[:3])
    assert aligned.untyped_storage().nbytes() <= 4 * bias[..., 0].numel() * 32

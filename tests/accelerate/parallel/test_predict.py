"""Predicted messages: against a count of every number that leaves a rank, closed formulas, and a published one."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from wavespeed_runner.accelerate.parallel import predict
from wavespeed_runner.accelerate.parallel.geometry import Geometry
from wavespeed_runner.accelerate.parallel.links import GIGABITS_400, H100, LATENCY, NODES, NVLINK, UNIFORM
from wavespeed_runner.accelerate.parallel.options import Layout
from wavespeed_runner.accelerate.parallel.predict import Messages, count_attention, count_step, hold_tokens
from wavespeed_runner.accelerate.parallel.shares import divide

JOINT = Geometry(
    heads=8,
    head_size=4,
    image_tokens=64,
    text_tokens=16,
    blocks=3,
    attentions=((3, (64, 16)),),
    channels=5,
    flops=10**9,
    batched_guidance=False,
    source="a test",
)
LAYOUTS = [
    Layout(ulysses=2),
    Layout(ulysses=4),
    Layout(ring=2),
    Layout(ring=5),
    Layout(ulysses=2, ring=2),
    Layout(ulysses=2, ring=3),
    Layout(ulysses=3, ring=2),
    Layout(ulysses=4, ring=4),
]


def simulate(held: list[int], heads: int, size: int, layout: Layout) -> list[tuple[int, int]]:
    """(all-to-all, ring) elements that leave each rank, head by head and pass by pass, from who owns what."""
    ranks, u, r = layout.sequence, layout.ulysses, layout.ring
    owner = [rank for rank in range(ranks) for _ in range(held[rank])]  # of each token outside of attention
    keeper = [place for place, part in enumerate(torch.arange(heads).tensor_split(u)) for _ in part]  # of each head
    exchanged, passed = [0] * ranks, [0] * ranks
    for rank in owner:
        for head in range(heads):
            computes = rank // u * u + keeper[head]  # the rank of the same group that has this head
            if computes != rank:
                exchanged[rank] += 3 * size  # q, k, v of a token go there
                exchanged[computes] += size  # its output comes back
    for place in range(u):
        numbers = 2 * size * keeper.count(place)  # of k and v, a token
        chunks = [sum(owner[t] // u == group for t in range(len(owner))) for group in range(r)]
        for _ in range(r - 1):
            for group in range(r):
                passed[group * u + place] += chunks[group] * numbers
            chunks = [chunks[-1], *chunks[:-1]]  # what a group held is now with the next one
    return list(zip(exchanged, passed, strict=True))


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize(("image", "text", "heads"), [(48, 24, 12), (47, 7, 12), (48, 24, 5), (13, 0, 7), (17, 5, 4)])
def test_every_number_that_leaves_a_rank_is_counted(layout: Layout, image: int, text: int, heads: int) -> None:
    held = hold_tokens(layout, image, text)
    ranks = range(layout.sequence)
    assert [count_attention(held, heads, 3, layout, rank) for rank in ranks] == simulate(held, heads, 3, layout)


@pytest.mark.parametrize("layout", [Layout(ulysses=4), Layout(ring=4), Layout(ulysses=4, ring=2)], ids=str)
def test_even_splits_follow_the_formulas_of_the_documentation(layout: Layout) -> None:
    s, h, n, u, r = 80, 32, layout.sequence, layout.ulysses, layout.ring
    for rank in range(n):
        exchanged, passed = count_attention(hold_tokens(layout, 64, 16), 8, 4, layout, rank)
        assert exchanged == 4 * (s / n) * h * (u - 1) / u and passed == 2 * (s / n) * h * (r - 1)


def test_ulysses_nears_what_its_authors_count() -> None:
    """3 all-to-alls of S H elements and one more, divided by N: https://github.com/microsoft/DeepSpeed/discussions/5551."""
    layout = Layout(ulysses=64)
    sent, _ = count_attention(hold_tokens(layout, 64 * 100), 64, 2, layout, 0)
    assert sent == pytest.approx(4 * 6400 * 128 / 64, rel=1 / 63)


@pytest.mark.parametrize(("length", "parts"), [(10, 4), (3, 5), (0, 2), (8, 2)])
def test_lengths_are_those_of_tensor_split(length: int, parts: int) -> None:
    expected = [len(part) for part in torch.empty(length).tensor_split(parts)]
    assert list(divide(length, parts)) == expected


def test_a_call_has_its_layers_and_one_gather() -> None:
    """A gather brings each rank the projected image tokens of all others: what a rank sends, each of them receives."""
    assert count_step(JOINT, Layout(ulysses=4)) == [
        Messages(kind="all_to_all", calls=6, elements=3 * 4 * 20 * 32 * 3 // 4),
        Messages(kind="gather", calls=1, elements=16 * 5 * 3),
    ]
    assert count_step(JOINT, Layout(ring=4))[0] == Messages(kind="ring", calls=9, elements=3 * 2 * 20 * 32 * 3)
    kinds = [(message.kind, message.calls) for message in count_step(JOINT, Layout(ulysses=2, ring=2))]
    assert kinds == [("all_to_all", 6), ("ring", 3), ("gather", 1)]
    assert count_step(JOINT, Layout()) == [] == count_step(JOINT, Layout(data=4))


def test_layers_whose_attention_is_among_image_tokens_alone_count_those() -> None:
    more = replace(JOINT, attentions=((3, (64, 16)), (2, (64,))))
    sent = count_step(more, Layout(ring=4))[0]
    assert sent == Messages(kind="ring", calls=15, elements=(3 * 20 + 2 * 16) * 2 * 32 * 3)


def test_the_rank_that_sends_most_is_told() -> None:
    uneven = replace(JOINT, image_tokens=65, attentions=((3, (65, 16)),))
    layout = Layout(ulysses=4)
    held = hold_tokens(layout, 65, 16)
    sent = [3 * count_attention(held, 8, 4, layout, rank)[0] for rank in range(4)]
    assert count_step(uneven, layout)[0].elements == max(sent) > min(sent)


def test_guidance_doubles_what_is_sent_unless_its_branches_are_on_different_ranks() -> None:
    once, twice = (count_step(JOINT, Layout(ulysses=2), branches=branches) for branches in (1, 2))
    assert [(m.calls, m.elements) for m in twice] == [(2 * m.calls, 2 * m.elements) for m in once]
    together = count_step(replace(JOINT, batched_guidance=True), Layout(ulysses=2), branches=2)
    assert [(m.calls, m.elements) for m in together] == [(m.calls, 2 * m.elements) for m in once]
    divided = count_step(JOINT, Layout(ulysses=2, cfg=2), branches=2)
    assert divided == [*once, Messages(kind="branches", calls=1, elements=64 * 5)]
    assert count_step(JOINT, Layout(cfg=2), branches=2, images=3) == [
        Messages(kind="branches", calls=1, elements=3 * 64 * 5)
    ]


def test_images_of_a_batch_send_more_in_as_many_calls() -> None:
    one, three = (count_step(JOINT, Layout(ulysses=2), images=images) for images in (1, 3))
    assert [(m.calls, m.elements) for m in three] == [(m.calls, 3 * m.elements) for m in one]


def test_a_decision_is_two_calls_for_each_image_and_call_of_the_denoiser() -> None:
    last = count_step(JOINT, Layout(ring=2), branches=2, images=3, decides=True)[-1]
    assert last == Messages(kind="decision", calls=12, elements=24)
    assert count_step(JOINT, Layout(cfg=2), branches=2, decides=True)[-1].kind == "branches", "each decides alone"


def test_times_are_bytes_over_bandwidth_latency_and_flops_over_speed() -> None:
    layout, messages = Layout(ulysses=4), [Messages(kind="all_to_all", calls=3, elements=10**6)]
    sending = predict.predict_sending(messages, 2, layout, UNIFORM[0])
    assert sending == pytest.approx(2e6 / NVLINK.bytes_per_second + 3 * LATENCY)
    computing = predict.predict_computing(JOINT, layout, H100, branches=2, images=3)
    assert computing == pytest.approx(6 * 1e9 / 4 / (989e12 * 0.5))
    assert predict.predict_computing(JOINT, Layout(ulysses=4, cfg=2), H100, branches=2, images=3) == computing / 2
    assert predict.predict_share(1.0, 3.0) == 0.25 and predict.predict_share(0.0, 0.0) == 0


@pytest.mark.parametrize(
    ("kind", "layout", "link"),
    [
        ("all_to_all", Layout(ulysses=8, ring=2), NVLINK),
        ("ring", Layout(ulysses=8, ring=2), GIGABITS_400),
        ("gather", Layout(ulysses=8, ring=2), GIGABITS_400),
        ("ring", Layout(ring=8, cfg=2), NVLINK),
        ("branches", Layout(ring=8, cfg=2), GIGABITS_400),
        ("all_to_all", Layout(ulysses=16), GIGABITS_400),
    ],
)
def test_messages_go_over_the_slowest_link_of_their_group(kind: str, layout: Layout, link: object) -> None:
    seconds = predict.predict_sending([Messages(kind=kind, calls=0, elements=10**9)], 1, layout, NODES)
    assert seconds == pytest.approx(1e9 / link.bytes_per_second)  # type: ignore[attr-defined]

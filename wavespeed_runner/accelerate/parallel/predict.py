"""Predicts what the ranks of context parallelism send each other, and how long it takes: formulas, no torch.

S tokens of width H (query heads x head size) on N ranks, each with S/N tokens. Elements that a rank sends:

- **Ulysses**, in one attention. Every rank has all heads of its S/N tokens and needs H/N of all tokens. It keeps the
  heads that are its own, so of q, k and v together it sends 3 (S/N) H (N-1)/N, in one all-to-all. Its output is H/N of
  all S tokens, of which it keeps its own tokens: it sends (S - S/N) H/N = (S/N) H (N-1)/N, in a second one. Together
  4 (S/N) H (N-1)/N in 2 calls. Large N: 4 S H / N, as in https://github.com/microsoft/DeepSpeed/discussions/5551.
- **Ring**. Each rank's k and v, 2 (S/N) H together, visit the N-1 other ranks, and a rank passes on what it holds:
  2 (S/N) H (N-1) in N-1 calls. This does not fall with N.
- **Unified**, U x R = N. Ulysses within groups of U ranks, which share S/R tokens: 4 (S/N) H (U-1)/U. Then a rank has
  H/U of S/R tokens and passes k and v on to R-1 others: 2 (S/R) (H/U) (R-1) = 2 (S/N) H (R-1).
- **Joint attention**: S counts the tokens of image and prompt, which are both divided. Cross-attention to the prompt,
  which every rank has, costs nothing.
- **Gather**: at the end of a denoiser's call every rank sends its projected image tokens, C numbers each, to the
  others: (S_image/N) C (N-1), once.
- **Guidance branches on different ranks**: each sends its output, S_image C, once a step.
- **Cache decision**: two all-reduces an image (numerator, denominator), of a sum and a count. The bytes do not matter,
  the calls do.

Where a length or the heads do not divide, they are split as `torch.tensor_split` does, the first ranks having one more.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from .geometry import Geometry
from .links import LATENCY, NODE, Gpu, Wiring
from .options import Layout
from .shares import divide


@dataclass(frozen=True, kw_only=True)
class Messages:
    """Messages of one kind that a rank sends in a step."""

    kind: str
    """`all_to_all`, `ring`, `gather`, `branches` or `decision`."""
    calls: int
    """Collectives; of `ring`, passes from a rank to the next."""
    elements: int
    """Numbers that leave the rank."""


def hold_tokens(layout: Layout, *lengths: int) -> list[int]:
    """Tokens that each rank of a sequence holds, where each of these sequences is split by itself."""
    return [sum(parts) for parts in zip(*(divide(length, layout.sequence) for length in lengths), strict=True)]


def count_attention(held: Sequence[int], heads: int, head_size: int, layout: Layout, rank: int) -> tuple[int, int]:
    """Elements that a rank sends in one attention: in all-to-alls, and in a ring.

    Args:
        held: tokens of each rank, see `hold_tokens`.
        heads: of the queries; those of keys and values are repeated to as many.
        head_size: numbers a head.
        layout: of the ranks.
        rank: from 0 to `layout.sequence` - 1.
    """
    group, place = divmod(rank, layout.ulysses)
    width = divide(heads, layout.ulysses)[place] * head_size
    groups = [sum(held[first : first + layout.ulysses]) for first in range(0, len(held), layout.ulysses)]
    inputs, outputs = 3 * held[rank] * (heads * head_size - width), (groups[group] - held[rank]) * width
    # A group's keys and values end their way one rank before their own: each rank passes on all but the next one's.
    passed = 2 * width * (sum(groups) - groups[(group + 1) % layout.ring])
    return inputs + outputs, passed


def count_step(
    geometry: Geometry, layout: Layout, *, branches: int = 1, images: int = 1, decides: bool = False
) -> list[Messages]:
    """What is sent in one step that computes everything, by the rank that sends most.

    Args:
        geometry: of the model at the size of the images.
        layout: of the ranks.
        branches: guidance branches, 1 or 2.
        images: denoised together.
        decides: True if a cache strategy measures whether to compute.
    """
    own = max(1, branches // layout.cfg)
    calls = 1 if geometry.batched_guidance else own
    held = [(layers, hold_tokens(layout, *lengths)) for layers, lengths in geometry.attentions]
    ranks = (_count_rank(geometry, layout, held, rank) for rank in range(layout.sequence))
    messages = [
        Messages(kind=one.kind, calls=calls * one.calls, elements=own * images * one.elements)
        for one in max(ranks, key=count_elements)
    ]
    stacked = layout.cfg > 1 and branches > 1 and geometry.batched_guidance
    if decides and (layout.sequence > 1 or stacked):
        messages.append(Messages(kind="decision", calls=2 * calls * images, elements=4 * calls * images))
    if layout.cfg > 1 and branches > 1:
        outputs = images * geometry.image_tokens * geometry.channels
        messages.append(Messages(kind="branches", calls=1, elements=outputs))
    return messages


def _count_rank(geometry: Geometry, layout: Layout, held: list[tuple[int, list[int]]], rank: int) -> list[Messages]:
    """Attention and gather of one rank in one call for one image. held: (layers, tokens of each rank)."""
    exchanged = passed = 0
    for layers, tokens in held:
        counted = count_attention(tokens, geometry.heads, geometry.head_size, layout, rank)
        exchanged, passed = exchanged + layers * counted[0], passed + layers * counted[1]
    gathered = divide(geometry.image_tokens, layout.sequence)[rank] * geometry.channels * (layout.sequence - 1)
    messages = [
        Messages(kind="all_to_all", calls=2 * geometry.layers * (layout.ulysses > 1), elements=exchanged),
        Messages(kind="ring", calls=geometry.layers * (layout.ring - 1), elements=passed),
        Messages(kind="gather", calls=int(layout.sequence > 1), elements=gathered),
    ]
    return [message for message in messages if message.calls]


def count_calls(messages: Iterable[Messages]) -> int:
    """Calls of all kinds."""
    return sum(message.calls for message in messages)


def count_elements(messages: Iterable[Messages]) -> int:
    """Elements of all kinds."""
    return sum(message.elements for message in messages)


def predict_sending(messages: Iterable[Messages], element_bytes: int, layout: Layout, wiring: Wiring) -> float:
    """Seconds that the messages of a step take if nothing is computed meanwhile.

    Every kind of message takes bytes / bandwidth + calls x latency, over the slowest link that its group of ranks uses.

    Args:
        messages: of `count_step`.
        element_bytes: bytes a number.
        layout: of the ranks; those of a Ulysses group are neighbours in a node.
        wiring: the links.
    """
    group = {"all_to_all": layout.ulysses, "branches": layout.sequence * layout.cfg}
    seconds = 0.0
    for message in messages:
        link = wiring.between if group.get(message.kind, layout.sequence) > NODE else wiring.inside
        seconds += message.elements * element_bytes / link.bytes_per_second + message.calls * LATENCY
    return seconds


def predict_computing(geometry: Geometry, layout: Layout, gpu: Gpu, *, branches: int = 1, images: int = 1) -> float:
    """Seconds that the rank with most tokens computes in a step."""
    rows = max(1, branches // layout.cfg) * images
    held = hold_tokens(layout, geometry.image_tokens, geometry.text_tokens)
    return rows * geometry.flops * max(held) / max(1, sum(held)) / gpu.sustained


def predict_share(sending: float, computing: float) -> float:
    """Share of a step's time that is communication, if the two do not overlap. Seconds in, 0 to 1 out."""
    return sending / (sending + computing) if sending else 0.0

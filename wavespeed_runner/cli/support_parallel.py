"""Writes the predicted cost of context parallelism for published models as Markdown; docs/parallel.md shows it."""

from __future__ import annotations

from math import gcd

from ..accelerate.parallel.geometry import Geometry, find_geometry
from ..accelerate.parallel.links import H100, LINKS, NODE, NODES, UNIFORM, Link
from ..accelerate.parallel.options import Layout
from ..accelerate.parallel.predict import (
    count_calls,
    count_elements,
    count_step,
    predict_computing,
    predict_sending,
    predict_share,
)
from ..config.schema import Config
from .plan_parallel import ELEMENT_BYTES, count_branches, describe_assumptions
from .support_check import Combinations

CASES = (
    ("flux", "FLUX.1-dev, 1024x1024", (1024, 1024, None)),
    ("hunyuan_video", "HunyuanVideo, 1280x720, 129 frames", (1280, 720, 129)),
    ("wan21_14b", "Wan 2.1 14B, 1280x720, 81 frames", (1280, 720, 81)),
)
"""Model option, title, (width, height, frames)."""

RANKS = (1, 2, 4, 8, 16, 64)

WIRINGS = (*UNIFORM, NODES)


def describe_cost() -> str:
    """A table a model: calls, bytes, and the share of a step's time that is communication, by ranks and links."""
    options = Combinations([name for name, _, _ in CASES])
    parts = [
        f"Predicted, not measured. Assumed: {describe_assumptions()}. FLOP/s: {H100.source}.",
        "\n".join(["| link | GB/s one way, a GPU | source |", "|---|---|---|", *map(_describe_link, LINKS)]),
    ]
    for name, title, (width, height, frames) in CASES:
        config = options.config(name)
        geometry = find_geometry(config.model, width=width, height=height, num_frames=frames)
        assert geometry is not None
        parts.append(f"**{title}** (`model={name}`): {_describe_model(geometry, config)}")
        parts.append(_table(geometry, config))
    return "\n\n".join(parts)


def _describe_link(link: Link) -> str:
    return f"| {link.name} | {link.bytes_per_second / 1e9:g} | {link.source} |"


def _describe_model(geometry: Geometry, c: Config) -> str:
    branches = count_branches(c)
    text = f" and {geometry.text_tokens:,} of the prompt" if geometry.text_tokens else ""
    flops, seconds = branches * geometry.flops, predict_computing(geometry, Layout(), H100, branches=branches)
    return (
        f"{geometry.image_tokens:,} tokens{text}, {geometry.layers} attention layers, {geometry.heads} heads of "
        f"{geometry.head_size}, {branches} guidance {'branches' if branches > 1 else 'branch'}, {c.model.dtype.value}. "
        f"A step takes {flops / 1e12:,.0f} TFLOP, {seconds:.2f} s on one GPU."
    )


def _table(geometry: Geometry, c: Config) -> str:
    columns = ["ranks", "parallel", "calls a step", "MB sent a step", *(wiring.name for wiring in WIRINGS)]
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    return "\n".join(
        [*lines, *(_row(geometry, c, *layout) for n in RANKS for layout in list_layouts(n, geometry.heads))]
    )


def list_layouts(ranks: int, heads: int) -> list[tuple[str, Layout]]:
    """Ulysses, or where the heads do not divide, unified with the largest groups whose do; and Ring."""
    if ranks == 1:
        return [("`none`", Layout())]
    ulysses = gcd(ranks, heads)
    ring = ranks // ulysses
    first = "`ulysses`" if ring == 1 else f"`unified` {ulysses} x {ring}"
    return [(first, Layout(ulysses=ulysses, ring=ring)), ("`ring`", Layout(ring=ranks))]


def _row(geometry: Geometry, c: Config, name: str, layout: Layout) -> str:
    branches, size = count_branches(c), ELEMENT_BYTES[c.model.dtype]
    messages = count_step(geometry, layout, branches=branches)
    computing = predict_computing(geometry, layout, H100, branches=branches)
    shares = [
        f"{predict_share(predict_sending(messages, size, layout, wiring), computing):.1%}"
        if wiring is not NODES or layout.ranks > NODE
        else ""
        for wiring in WIRINGS
    ]
    sent = f"{count_elements(messages) * size / 1e6:,.0f}"
    return f"| {' | '.join([str(layout.ranks), name, str(count_calls(messages)), sent, *shares])} |"

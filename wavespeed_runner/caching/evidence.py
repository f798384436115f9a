"""What a strategy did, as the record has it: of one image, and of several together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .flops import Flops
from .trace import Trace


def merged(parts: list[dict[str, Any] | None]) -> dict[str, Any] | None:
    """The evidence of several generations: counts added up, shares averaged over calls, or over FLOPs."""
    engaged = [part for part in parts if part]
    if not engaged:
        return None
    calls = sum(part["calls"] for part in engaged)
    hits = sum(part["hits"] for part in engaged)
    key = "module_share" if "modules" in engaged[0] else "block_share"
    share = sum(part[key] * part["calls"] for part in engaged) / calls if calls else 1.0
    return {**engaged[0], "calls": calls, "hits": hits, key: share, **merged_flops(engaged)}


def flops_evidence(flops: Flops, trace: Trace, image: int = 0) -> dict[str, Any]:
    """What `engaged.cache` says of it, for one image; `flop_share` is null where it is not known.

    block_flops, denoiser_flops: of all calls of the generation, had everything been computed; an image's part of its
        batch.
    flop_share, denoiser_flop_share: how much of them was computed. A hit in a batch whose other images have the
        blocks run saves nothing.
    """
    decisions = trace.of(image)
    calls, missing = flops.calls, flops.missing
    if not decisions:
        missing = "the strategy skips attention inside blocks"
    elif not missing and len(calls) != len(decisions):
        missing = f"{len(decisions)} calls of the denoiser, {len(calls)} in the warm-up"
    if missing:
        unknown = dict.fromkeys(("block_flops", "flop_share", "denoiser_flops", "denoiser_flop_share"))
        return {**unknown, "flops_missing": missing}
    images = len(trace.decisions) // max(1, len(decisions))
    saved = sum(call.skippable for call, decision in zip(calls, decisions, strict=True) if not decision.ran)
    blocks, denoiser = sum(call.blocks for call in calls), sum(call.denoiser for call in calls)
    return {
        "block_flops": blocks // images,
        "flop_share": 1 - saved / blocks,
        "denoiser_flops": denoiser // images,
        "denoiser_flop_share": 1 - saved / denoiser,
    }


def merged_flops(engaged: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The evidence of several generations: FLOPs added up, shares of the sum; null as soon as one is not known.

    Entries of the store that are older than these figures have none.
    """
    result: dict[str, Any] = {}
    for flops, share in (("block_flops", "flop_share"), ("denoiser_flops", "denoiser_flop_share")):
        known = [(one[flops], one[share]) for one in engaged if one.get(share) is not None]
        whole = sum(part for part, _ in known)
        complete = len(known) == len(engaged) and whole > 0
        result[flops] = whole if complete else None
        result[share] = sum(part * share for part, share in known) / whole if complete else None
    missing = [one["flops_missing"] for one in engaged if one.get("flops_missing")]
    return result | ({"flops_missing": missing[0]} if missing else {})

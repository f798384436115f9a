"""What a cache strategy saved, as `engaged.cache` of the record has it: of one image, and of several together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .flops import Flops
from .trace import Trace


def merge_evidence(parts: list[dict[str, Any] | None]) -> dict[str, Any] | None:
    """The evidence of several generations as one: counts are summed, shares averaged over calls or FLOPs."""
    engaged = [part for part in parts if part]
    if not engaged:
        return None
    calls = sum(part["calls"] for part in engaged)
    hits = sum(part["hits"] for part in engaged)
    key = "module_share" if "modules" in engaged[0] else "block_share"
    share = sum(part[key] * part["calls"] for part in engaged) / calls if calls else 1.0
    return {**engaged[0], "calls": calls, "hits": hits, key: share, **merge_flops(engaged)}


def build_flops_evidence(flops: Flops, trace: Trace, image: int = 0) -> dict[str, Any]:
    """How many FLOPs one image's generation takes, and which share of them was computed.

    Returns:
        `block_flops`, `denoiser_flops`: of all calls of the generation if everything were computed; the image's share
        of its batch.
        `flop_share`, `denoiser_flop_share`: the computed share of them. A cache hit saves nothing where another image
        of the batch has the blocks run.
        `flops_missing`: why the four are null, where they are.
    """
    decisions = trace.select_image(image)
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


def merge_flops(engaged: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The FLOPs of several generations as one: FLOPs are summed, shares are of the sum; null if any is unknown.

    Store entries that older versions wrote have no FLOPs.
    """
    result: dict[str, Any] = {}
    for flops, share in (("block_flops", "flop_share"), ("denoiser_flops", "denoiser_flop_share")):
        known = [(part[flops], part[share]) for part in engaged if part.get(share) is not None]
        total = sum(count for count, _ in known)
        complete = len(known) == len(engaged) and total > 0
        result[flops] = total if complete else None
        result[share] = sum(count * computed for count, computed in known) / total if complete else None
    missing = [part["flops_missing"] for part in engaged if part.get("flops_missing")]
    return result | ({"flops_missing": missing[0]} if missing else {})

"""What a strategy did in one generation: the evidence that it took effect."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(kw_only=True)
class Decision:
    """One call of the denoiser."""

    step: int
    """Counted from 0."""
    branch: str
    """Guidance branch, as the pipeline names it: `cond`, `uncond`."""
    computed: bool
    signal: float | None
    """The criterion's value; None where there was nothing to compare with."""


@dataclass(kw_only=True)
class Trace:
    """All decisions of one generation, and what the strategy was attached to (empty for no strategy)."""

    strategy: str
    attached_to: str = ""
    blocks: int = 0
    head_blocks: int = 0
    decisions: list[Decision] = field(default_factory=list)
    calls: int = 0
    """Of the denoiser in the current step, where the pipeline does not name its branches."""

    def end_step(self) -> None:
        """The sampler has made a step."""
        self.calls = 0

    def steps_as_data(self, seconds: list[float]) -> list[dict[str, Any]]:
        """The record's `steps`, one item a step of the sampler; `index` counted from 1.

        A step is computed when any guidance branch computed it; with several branches each is listed beside it.
        Without a strategy every step is computed.
        """
        by_step: dict[int, list[Decision]] = {}
        for decision in self.decisions:
            by_step.setdefault(decision.step, []).append(decision)
        items = []
        for index, spent in enumerate(seconds):
            branches = by_step.get(index, [])
            item: dict[str, Any] = {
                "index": index + 1,
                "computed": any(d.computed for d in branches) if branches else True,
                "signal": branches[0].signal if branches else None,
                "seconds": spent,
            }
            if len(branches) > 1:
                item["branches"] = {d.branch: {"computed": d.computed, "signal": d.signal} for d in branches}
            items.append(item)
        return items

    def evidence(self) -> dict[str, Any] | None:
        """The record's `engaged.cache`: None without a strategy."""
        if not self.attached_to:
            return None
        hits = sum(not d.computed for d in self.decisions)
        run = sum(self.blocks if d.computed else self.head_blocks for d in self.decisions)
        return {
            "strategy": self.strategy,
            "attached_to": self.attached_to,
            "blocks": self.blocks,
            "calls": len(self.decisions),
            "hits": hits,
            "block_share": run / (self.blocks * len(self.decisions)) if self.decisions else 1.0,
        }


def merged(parts: list[dict[str, Any] | None]) -> dict[str, Any] | None:
    """The evidence of several generations: counts added up, the share averaged over calls."""
    engaged = [part for part in parts if part]
    if not engaged:
        return None
    calls = sum(part["calls"] for part in engaged)
    share = sum(part["block_share"] * part["calls"] for part in engaged) / calls if calls else 1.0
    return {**engaged[0], "calls": calls, "hits": sum(part["hits"] for part in engaged), "block_share": share}

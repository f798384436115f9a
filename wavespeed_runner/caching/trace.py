"""What a cache strategy did in one generation: every decision, and the evidence that it took effect."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(kw_only=True)
class Decision:
    """Whether one call of the denoiser was computed or cached, for one image."""

    step: int
    """Counted from 0."""
    branch: str
    """Guidance branch, as the pipeline names it: `cond`, `uncond`."""
    image: int = 0
    """Index in the batch."""
    computed: bool
    ran: bool
    """True if the blocks ran: in a batch they do when any of its images computes."""
    signal: float | None
    """How much the signal changed; None where there was nothing to compare with."""
    level: float | None = None
    """What was compared with the threshold; None where the criterion was not asked, and for schedules."""
    outside: bool = False
    """True outside of a window over timesteps or noise levels."""


@dataclass(kw_only=True)
class Trace:
    """All decisions of one generation, and what the strategy was attached to (empty for `cache=none`)."""

    strategy: str
    attached_to: str = ""
    """Class of the denoiser."""
    blocks: int = 0
    always: int = 0
    """Blocks that run at every step, computed or cached."""
    decisions: list[Decision] = field(default_factory=list)
    calls_in_step: int = 0
    """Calls of the denoiser in the current step, where the pipeline does not name its guidance branches."""
    steps: int = 0
    """Steps that the sampler has made."""
    modules: int = 0
    """Attention modules that diffusers' own strategies have hooked; ours hook none."""
    module_calls: int = 0
    module_hits: int = 0
    """Of the calls, how many a hook answered without computing the module."""

    def end_step(self) -> None:
        """Called when the sampler has made a step."""
        self.calls_in_step = 0
        self.steps += 1

    def select_image(self, image: int) -> list[Decision]:
        """The decisions on one image of the batch."""
        return [decision for decision in self.decisions if decision.image == image]

    def build_step_records(self, seconds: list[float], image: int = 0) -> list[dict[str, Any]]:
        """The record's `steps` of one image: one item a step of the sampler, `index` counted from 1.

        A step counts as computed if any guidance branch computed it; several branches are listed as well. Without a
        strategy every step is computed.
        """
        by_step: dict[int, list[Decision]] = {}
        for decision in self.select_image(image):
            by_step.setdefault(decision.step, []).append(decision)
        return [_build_step_record(index, by_step.get(index, []), spent) for index, spent in enumerate(seconds)]

    def build_evidence(self, image: int = 0) -> dict[str, Any] | None:
        """The record's `engaged.cache` of one image; None without a strategy."""
        if not self.attached_to:
            return None
        common = {"strategy": self.strategy, "attached_to": self.attached_to}
        if self.modules:
            share = 1 - self.module_hits / self.module_calls if self.module_calls else 1.0
            return {
                **common,
                "modules": self.modules,
                "calls": self.module_calls,
                "hits": self.module_hits,
                "module_share": share,
            }
        decisions = self.select_image(image)
        blocks_run = sum(self.blocks if d.ran else self.always for d in decisions)
        return {
            **common,
            "blocks": self.blocks,
            "calls": len(decisions),
            "hits": sum(not d.computed for d in decisions),
            "block_share": blocks_run / (self.blocks * len(decisions)) if decisions else 1.0,
        }


def _build_step_record(index: int, branches: list[Decision], seconds: float) -> dict[str, Any]:
    item: dict[str, Any] = {
        "index": index + 1,
        "computed": any(d.computed for d in branches) if branches else True,
        "signal": branches[0].signal if branches else None,
        "level": branches[0].level if branches else None,
        "seconds": seconds,
    }
    if any(d.outside for d in branches):
        item["outside_window"] = True
    if len(branches) > 1:
        item["branches"] = {d.branch: {"computed": d.computed, "signal": d.signal, "level": d.level} for d in branches}
    return item

"""What a strategy did in one generation: the evidence that it took effect."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(kw_only=True)
class Decision:
    """One call of the denoiser, for one image."""

    step: int
    """Counted from 0."""
    branch: str
    """Guidance branch, as the pipeline names it: `cond`, `uncond`."""
    image: int = 0
    """Of the batch."""
    computed: bool
    ran: bool
    """Whether the blocks ran: for a batch, when any of its images wants it."""
    signal: float | None
    """How much what is watched has changed; None where there was nothing to compare with."""
    level: float | None = None
    """What was compared with the threshold; None where the criterion was not asked, and for schedules."""


@dataclass(kw_only=True)
class Trace:
    """All decisions of one generation, and what the strategy was attached to (empty for no strategy)."""

    strategy: str
    attached_to: str = ""
    blocks: int = 0
    always: int = 0
    """Of the blocks, how many run at every step."""
    decisions: list[Decision] = field(default_factory=list)
    calls: int = 0
    """Of the denoiser in the current step, where the pipeline does not name its branches."""
    steps: int = 0
    """That the sampler has made."""
    modules: int = 0
    """That diffusers' own strategies have hooked; ours hook none."""
    module_calls: int = 0
    module_hits: int = 0
    """Of the calls, how many the hooked module did not compute."""

    def end_step(self) -> None:
        """The sampler has made a step."""
        self.calls = 0
        self.steps += 1

    def of(self, image: int) -> list[Decision]:
        """Decisions on one image of the batch."""
        return [decision for decision in self.decisions if decision.image == image]

    def steps_as_data(self, seconds: list[float], image: int = 0) -> list[dict[str, Any]]:
        """The record's `steps` of one image, one item a step of the sampler; `index` counted from 1.

        A step is computed when any guidance branch computed it; with several branches each is listed beside it.
        Without a strategy every step is computed.
        """
        by_step: dict[int, list[Decision]] = {}
        for decision in self.of(image):
            by_step.setdefault(decision.step, []).append(decision)
        items = []
        for index, spent in enumerate(seconds):
            branches = by_step.get(index, [])
            item: dict[str, Any] = {
                "index": index + 1,
                "computed": any(d.computed for d in branches) if branches else True,
                "signal": branches[0].signal if branches else None,
                "level": branches[0].level if branches else None,
                "seconds": spent,
            }
            if len(branches) > 1:
                item["branches"] = {
                    d.branch: {"computed": d.computed, "signal": d.signal, "level": d.level} for d in branches
                }
            items.append(item)
        return items

    def evidence(self, image: int = 0) -> dict[str, Any] | None:
        """The record's `engaged.cache`, for one image: None without a strategy."""
        if not self.attached_to:
            return None
        if self.modules:
            share = 1 - self.module_hits / self.module_calls if self.module_calls else 1.0
            return {
                "strategy": self.strategy,
                "attached_to": self.attached_to,
                "modules": self.modules,
                "calls": self.module_calls,
                "hits": self.module_hits,
                "module_share": share,
            }
        decisions = self.of(image)
        run = sum(self.blocks if d.ran else self.always for d in decisions)
        return {
            "strategy": self.strategy,
            "attached_to": self.attached_to,
            "blocks": self.blocks,
            "calls": len(decisions),
            "hits": sum(not d.computed for d in decisions),
            "block_share": run / (self.blocks * len(decisions)) if decisions else 1.0,
        }

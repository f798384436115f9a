"""The order in which optimizations are applied to a loaded model: set by what the libraries support, not by YAML.

`stages/apply.py` applies them. A cache strategy is attached to the result for one generation at a time
(`caching/attach`), so it comes after all of them.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class AppliedGroup:
    """A config group in the order, and why it has this place."""

    group: str
    """The config group that is applied."""
    why: str
    """What fails if it is applied later."""
    source: str
    """Tests that show it with the libraries themselves."""


ORDER = (
    AppliedGroup(
        group="adapters",
        why="torchao, PEFT and torch refuse to fuse a LoRA into quantized or 8-bit weights; a LoRA loaded after "
        "layerwise casting cannot be computed; loading or weighting one after compiling recompiles all its blocks",
        source="tests/accelerate/test_order.py",
    ),
    AppliedGroup(
        group="accelerate",
        why="projections that are fused after quantization would be joined from 8-bit weights with different scales",
        source="tests/accelerate/test_order.py",
    ),
    AppliedGroup(
        group="quant",
        why="changing the weights of compiled blocks recompiles them",
        source="tests/accelerate/test_order.py",
    ),
    AppliedGroup(
        group="attention",
        why="another backend in a compiled block recompiles it",
        source="tests/accelerate/test_order.py",
    ),
    AppliedGroup(
        group="compile",
        why="a block compiled after offloading contains the hooks of group offloading, which break the full graph",
        source="tests/accelerate/test_order.py, https://github.com/huggingface/diffusers/pull/11605",
    ),
    AppliedGroup(
        group="memory",
        why="last, because it moves and casts the results of all the others",
        source="tests/accelerate/test_order.py",
    ),
)
"""The groups, first to last."""

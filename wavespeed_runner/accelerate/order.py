"""The order in which optimizations are applied to a loaded model: set by what the libraries support, not by YAML.

The groups `quant` and `compile` do not exist yet; their place is known from tests with torchao and torch.compile.
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
        group="quant",
        why="changing the weights of compiled blocks recompiles them",
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

"""In which order what is done to a model is done. Decided by what the libraries can do, not by YAML."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Step:
    group: str
    """The config group."""
    why: str
    """What goes wrong when it comes later than here."""
    source: str
    """Tests that show it with the libraries themselves."""


ORDER = (
    Step(
        group="adapters",
        why="fusing into quantized or 8-bit weights is refused by torchao, PEFT and torch; a LoRA loaded after casting "
        "cannot be computed; one that is loaded or weighed after compiling has all its blocks compiled again",
        source="tests/accelerate/test_order.py",
    ),
    Step(
        group="quant",
        why="other weights in compiled blocks have them compiled again",
        source="tests/accelerate/test_order.py",
    ),
    Step(
        group="compile",
        why="compiled after it, a block would have the hooks of group offloading inside, of which no whole graph can "
        "be made",
        source="tests/accelerate/test_order.py, https://github.com/huggingface/diffusers/pull/11605",
    ),
    Step(
        group="memory",
        why="last: it moves and casts what all the others have made",
        source="tests/accelerate/test_order.py",
    ),
)
"""Of these groups, the first to the last."""

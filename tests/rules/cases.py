"""What the tests of rules share: values of cases, and how a case is checked.

A case is a dict of values for the tiny model: a key of `GROUPS` chooses a config option, `family.KEY` changes a fact of
the model family, any other key sets a value.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from wavespeed_runner.rules import Rule
from wavespeed_runner.rules.check import Finding

Values = dict[str, Any]
Apply = Callable[[Values], list[Finding]]
Cases = dict[str, tuple[list[Values], list[Values]]]
"""Rule -> cases in which it applies, and others in which it does not."""

GROUPS = (
    *("adapters", "accelerate", "attention", "quant", "compile", "cache", "sampler", "memory", "graph", "measure"),
    "parallel",
)

FBCACHE = {"cache": "fbcache"}
TEACACHE = {"cache": "teacache"}
NOTHING = {"name": "none"}
EMBEDDED = {"model.guidance": "embedded"}
LORA = {"adapters": "lora", "adapters.path": "owner/name"}
TOKEN = {"adapters": "textual_inversion", "adapters.path": "owner/name", "adapters.token": "<new>"}
NO_GUIDANCE = {"model.guidance": "none", "model.guidance_scale": None, "guidance_scale": None}
DISTILLED = {"family.is_distilled": lambda model: True, "model.steps": 4}
OWN = {
    name: {"family.own_sampler": lambda model, name=name: name} for name in ("lcm", "euler", "pndm", "cogvideox_dpm")
}
VIDEO = {
    "family.kind": "video",
    "family.frame_multiple": 4,
    "family.tasks": {"text_to_video": "X", "image_to_video": "Y"},
}
"""As if the tiny model made videos."""


def read_prompt_and_image(pipe: Any, model: Any, sample: Any, guidance_scale: float | None, image: Any) -> Any:
    """The signature of an encoder that reads the prompt beside an image."""


def check_rule(apply: Apply, rule: Rule, cases: tuple[list[Values], list[Values]]) -> None:
    """The rule applies in each of the first cases, once and with whole texts, and in none of the second."""
    applies, silent = cases
    for values in applies:
        findings = [finding for finding in apply(values) if finding.rule == rule.id]
        assert len(findings) == 1, values
        assert findings[0].verdict == rule.verdict and "{" not in findings[0].message + findings[0].fix
    for values in silent:
        assert rule.id not in [finding.rule for finding in apply(values)], values

"""The accelerations in pairs: which of them work together, by the rules. One representative of each config group.

`tests/accelerate/test_pairs.py` runs every pair that is not refused, on the same three models.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import combinations
from typing import Any

from ..config.compose import compose_job, composer
from ..config.resolve import resolve_config
from ..config.schema import Config
from ..rules.check import apply_rules

MODELS = {
    "flux": ("model=flux", "graph=text_to_image"),
    "sd15": ("model=sd15", "graph=text_to_image"),
    "wan21": ("model=wan21", "graph=text_to_video"),
}
"""Name in the table -> overrides: a transformer, a U-Net, and a video model with guidance in two calls."""
ACCELERATIONS = {
    "adapters": ("adapters=lora", "adapters.fuse=true", "adapters.path=a/b"),
    "accelerate": ("accelerate=fuse_qkv",),
    "quant": ("quant=int8_dq",),
    "attention": ("attention=flash_native",),
    "compile": ("compile=regional",),
    "cache": ("cache=step_mask", "cache.criterion.mask=null", "cache.criterion.computed=[1,3]"),
    "casting": ("memory=layerwise_casting",),
    "offload": ("memory=group_offload",),
    "parallel": ("parallel=ulysses",),
}
"""Name in the table -> overrides."""
GROUPS = {"casting": "memory", "offload": "memory"}
"""Config groups of those that are not called by it."""
SHARED = ("model.init=tiny", "device=cpu", "steps=4")
_ALONE = ("offload-on-cpu", "whole", "half-on-cpu", "casting-reference", "quant-reference")
"""Rules about one of the two, or about the machine."""


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two accelerations on a model, and what the rules say of them."""

    model: str
    names: tuple[str, str]
    overrides: tuple[str, ...]
    refused: tuple[str, ...]
    """Reasons; empty if it runs."""
    doubts: tuple[str, ...]


def list_pairs() -> list[Pair]:
    """Every two accelerations on every model. Both of the group `memory` are never chosen at once."""
    pairs = []
    with composer(None):
        shipped = [_compose(*own, *SHARED) for own in MODELS.values()]
        # No group decides about another: what an acceleration sets is the same with every model.
        nodes = {
            name: _compose(*SHARED, *overrides)[GROUPS.get(name, name)] for name, overrides in ACCELERATIONS.items()
        }
        for data, (model, own) in zip(shipped, MODELS.items(), strict=True):
            base = resolve_config(data)
            chosen = {name: resolve_config({**data, GROUPS.get(name, name): node}) for name, node in nodes.items()}
            alone = {name: _judge(config)[1] for name, config in chosen.items()}
            for names in combinations(ACCELERATIONS, 2):
                groups = {GROUPS.get(name, name): name for name in names}
                if len(groups) < 2:
                    continue
                both = replace(base, **{group: getattr(chosen[name], group) for group, name in groups.items()})
                bad, doubts = _judge(both)
                pairs.append(
                    Pair(
                        model=model,
                        names=names,
                        overrides=(*own, *SHARED, *(o for name in names for o in ACCELERATIONS[name])),
                        refused=bad,
                        doubts=tuple(doubt for doubt in doubts if all(doubt not in alone[name] for name in names)),
                    )
                )
    return pairs


def _compose(*overrides: str) -> dict[str, Any]:
    return compose_job(list(overrides), list(overrides))


def _judge(config: Config) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What the rules refuse, and what they doubt."""
    findings = apply_rules(config)
    bad = tuple(finding.message for finding in findings if finding.verdict == "bad")
    doubts = [finding for finding in findings if finding.verdict == "unverified" and finding.rule not in _ALONE]
    return bad, tuple(doubt.message for doubt in doubts)


@lru_cache(maxsize=1)
def describe_pairs() -> str:
    """The table as Markdown: a row for two accelerations, a column for each model."""
    numbers: dict[str, int] = {}

    def cell(pair: Pair) -> str:
        reasons = pair.refused or pair.doubts
        marks = [str(numbers.setdefault(reason, len(numbers) + 1)) for reason in reasons[:1]]
        return marks[0] if pair.refused else f"~{marks[0]}" if marks else "yes"

    by_names: dict[tuple[str, str], dict[str, str]] = {}
    for pair in list_pairs():
        by_names.setdefault(pair.names, {})[pair.model] = cell(pair)
    lines = [
        "Each two of " + ", ".join(f"{name} (`{' '.join(o)}`)" for name, o in ACCELERATIONS.items()) + ".\n",
        f"| pair | {' | '.join(MODELS)} |",
        "|---" * (len(MODELS) + 1) + "|",
        *(f"| {' + '.join(names)} | {' | '.join(cells[m] for m in MODELS)} |" for names, cells in by_names.items()),
        "",
        *(f"{number}. {reason}" for reason, number in numbers.items()),
    ]
    return "\n".join(lines).rstrip()

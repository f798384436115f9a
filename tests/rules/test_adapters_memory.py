"""Rules on adapters and memory settings: when each applies, and when it does not."""

from __future__ import annotations

import pytest

from tests.rules.cases import FBCACHE, LORA, TEACACHE, TOKEN, Apply, Cases, check_rule
from wavespeed_runner.models.family import UNetBlocks
from wavespeed_runner.rules import Rule
from wavespeed_runner.rules.adapters_memory import ADAPTERS, MEMORY

RULES = (
    *ADAPTERS,
    *MEMORY,
)
CASES: Cases = {
    "adapters-fit": (
        [LORA | {"family.adapters": ()}, TOKEN | {"family.adapters": ("lora",)}],
        [LORA, TOKEN, {"family.adapters": ()}],
    ),
    "adapters-model": (
        [LORA | {"adapters.models": ["sdxl", "sd"]}],
        [LORA, LORA | {"adapters.models": ["sdxl", "flux"]}, {}],
    ),
    "adapters-path": ([{"adapters.path": "x.safetensors"}, {"adapters.path": ["a/b"]}], [{}, LORA]),
    "adapters-component": (
        [
            LORA | {"adapters.component": "transformer_2"},
            LORA | {"adapters.component": "vae", "family.denoiser_2": "transformer_2"},
        ],
        [LORA, LORA | {"adapters.component": "transformer_2", "family.denoiser_2": "transformer_2"}, {}],
    ),
    "adapters-half": (
        [
            LORA | {"family.denoiser_2": "transformer_2"},
            LORA | {"family.denoiser_2": "transformer_2", "adapters.component": "transformer_2"},
        ],
        [
            LORA,
            TOKEN | {"family.denoiser_2": "transformer_2"},
            LORA
            | {"family.denoiser_2": "transformer_2", "adapters.path": ["a/b", "c/d"]}
            | {"adapters.component": [None, "transformer_2"]},
        ],
    ),
    "adapters-twice": (
        [LORA | {"adapters.path": ["a/b", "c/d", "a/b"]}],
        [
            LORA | {"adapters.path": ["a/b", "c/d"]},
            LORA | {"adapters.path": ["a/b", "a/b"], "adapters.file": ["x.safetensors", "y.safetensors"]},
            LORA
            | {"adapters.path": ["a/b", "a/b"], "adapters.component": [None, "transformer_2"]}
            | {"family.denoiser_2": "transformer_2"},
            TOKEN | {"adapters.path": ["a/b", "a/b"]},
        ],
    ),
    "adapters-fused": (
        [LORA | {"adapters.fuse": True, "memory": "layerwise_casting"}],
        [LORA | {"memory": "layerwise_casting"}, LORA | {"adapters.fuse": True}, {"memory": "layerwise_casting"}],
    ),
    "offload-on-cpu": (
        [{"memory": "model_offload"}, {"memory": "group_offload"}],
        [{}, {"memory": "model_offload", "device": "cuda"}, {"memory": "vae_tiling"}],
    ),
    "group-keys": (
        [
            {"memory.use_stream": True},
            {"memory": "model_offload", "memory.blocks_per_group": 2},
            {"memory.group_type": "leaf_level"},
        ],
        [{"memory": "group_offload", "memory.blocks_per_group": 2, "memory.use_stream": True}],
    ),
    "group-blocks": (
        [
            {"memory": "group_offload", "memory.blocks_per_group": 0},
            {"memory": "group_offload", "memory.blocks_per_group": 2, "memory.group_type": "leaf_level"},
        ],
        [{"memory": "group_offload", "memory.group_type": "leaf_level"}],
    ),
    "group-stream": (
        [{"memory": "group_offload", "memory.use_stream": True}],
        [{"memory": "group_offload", "memory.use_stream": True, "device": "cuda:1"}, {"memory": "group_offload"}],
    ),
    "group-unet-cache": (
        [FBCACHE | {"memory": "group_offload", "memory.group_type": "block_level", "family.blocks": UNetBlocks()}],
        [
            FBCACHE | {"memory": "group_offload", "memory.group_type": "leaf_level", "family.blocks": UNetBlocks()},
            FBCACHE | {"memory": "group_offload", "memory.group_type": "block_level"},
        ],
    ),
    "group-modulated": (
        [TEACACHE | {"memory": "group_offload"}],
        [
            TEACACHE | {"memory": "group_offload", "memory.group_type": "leaf_level"},
            FBCACHE | {"memory": "group_offload"},
        ],
    ),
    "group-tail": (
        [FBCACHE | {"memory": "group_offload", "memory.blocks_per_group": 2, "cache.tail_blocks": 1}],
        [
            FBCACHE | {"memory": "group_offload", "cache.tail_blocks": 1},
            FBCACHE | {"memory": "group_offload", "memory.blocks_per_group": 2},
        ],
    ),
    "group-stream-cache": (
        [FBCACHE | {"memory": "group_offload", "memory.use_stream": True}],
        [FBCACHE | {"memory": "group_offload"}, {"memory": "group_offload", "memory.use_stream": True}],
    ),
    "casting-reference": (
        [{"memory": "layerwise_casting", "measure": "default"}],
        [{"memory": "layerwise_casting"}, {"measure": "default"}],
    ),
    "slicing-alone": ([{"memory": "vae_slicing"}], [{"memory": "vae_tiling"}, {}]),
}


def test_every_rule_has_cases() -> None:
    assert list(CASES) == [rule.id for rule in RULES]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_a_rule_applies_where_it_should_and_only_there(apply: Apply, rule: Rule) -> None:
    check_rule(apply, rule, CASES[rule.id])

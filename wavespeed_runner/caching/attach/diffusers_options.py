"""Options of the strategies that diffusers has and `wrapped.py` puts on; keys as in diffusers' own configurations.

Defaults are diffusers' too. What follows from the run has no key: `tensor_format`, `is_guidance_distilled`,
`current_timestep_callback`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields

from ...config.schema import CacheConfig
from ...errors import ConfigError, Unfit


@dataclass(kw_only=True)
class Wrapped(CacheConfig):
    """What both have. Keys are those of diffusers' configuration."""

    spatial_attention_block_skip_range: int | None = 2
    """Of so many calls of a self-attention in a row one is computed; null: all."""
    temporal_attention_block_skip_range: int | None = None
    """The same for attention along time, of models that have it apart."""
    spatial_attention_block_identifiers: list[str] | None = None
    """Regular expressions, searched for in the modules' names; null: diffusers' own."""
    temporal_attention_block_identifiers: list[str] | None = None

    def __post_init__(self) -> None:
        for plain in fields(CacheConfig):
            value = getattr(self, plain.name)
            if plain.name != "name" and value != plain.default:
                raise Unfit(
                    f"cache.{plain.name}={getattr(value, 'name', value)} with cache={self.name}: diffusers' own "
                    "strategy decides by the keys that end in _range, so it could not take effect; leave it out"
                )
        for key in (one.name for one in fields(self) if one.name.endswith("_range")):
            value = getattr(self, key)
            if isinstance(value, list) and not (len(value) == 2 and value[0] < value[1]):
                raise ConfigError(f"cache.{key}={value}: [lowest, highest], training timesteps, 1000 is noise alone")
            if isinstance(value, int) and value < 2:
                raise ConfigError(f"cache.{key}={value}: 2 or more (of so many calls one is computed)")


@dataclass(kw_only=True)
class FasterCache(Wrapped):
    """Extrapolates attention from its last two outputs, and the unconditional half of a guided batch from the
    conditional one, low and high frequencies apart."""

    name: str = "fastercache"
    spatial_attention_timestep_skip_range: list[int] = field(default_factory=lambda: [-1, 681])
    """Attention may be skipped where the training timestep lies between these two, both excluded."""
    temporal_attention_timestep_skip_range: list[int] = field(default_factory=lambda: [-1, 681])
    low_frequency_weight_update_timestep_range: list[int] = field(default_factory=lambda: [99, 901])
    """Where `alpha_low_frequency` acts."""
    high_frequency_weight_update_timestep_range: list[int] = field(default_factory=lambda: [-1, 301])
    alpha_low_frequency: float = 1.1
    """Factor, at every skipped step, on how far the low frequencies of the unconditional half are from the other's."""
    alpha_high_frequency: float = 1.1
    unconditional_batch_skip_range: int = 5
    """Of so many steps in a row one computes the unconditional half too, of pipelines that batch guidance."""
    unconditional_batch_timestep_skip_range: list[int] = field(default_factory=lambda: [-1, 641])
    attention_weight: float = 0.5
    """How far attention is extrapolated, the distance between its last two outputs being 1: diffusers'
    `attention_weight_callback`, as a constant."""


@dataclass(kw_only=True)
class PyramidAttentionBroadcast(Wrapped):
    """Reuses attention outputs for some calls, the longer the less they change."""

    name: str = "pab"
    cross_attention_block_skip_range: int | None = None
    """Of so many calls of a cross-attention in a row one is computed; null: all."""
    spatial_attention_timestep_skip_range: list[int] = field(default_factory=lambda: [100, 800])
    """Attention may be skipped where the training timestep lies between these two, both excluded."""
    temporal_attention_timestep_skip_range: list[int] = field(default_factory=lambda: [100, 800])
    cross_attention_timestep_skip_range: list[int] = field(default_factory=lambda: [100, 800])
    cross_attention_block_identifiers: list[str] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        kinds = ("spatial", "temporal", "cross")
        if all(getattr(self, f"{kind}_attention_block_skip_range") is None for kind in kinds):
            raise ConfigError(
                "cache.spatial_attention_block_skip_range=null, and neither temporal nor cross attention is skipped: "
                "cache=pab could not take effect; give one of the three, 2 or more, or cache=none"
            )

"""Options of the strategies that diffusers implements: FasterCache and Pyramid Attention Broadcast.

Keys and defaults are those of diffusers' own configurations. What follows from the run has no key: `tensor_format`,
`is_guidance_distilled`, `current_timestep_callback`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields

from ...config.schema import CacheConfig
from ...errors import ConfigError, Unfit


@dataclass(kw_only=True)
class DiffusersHookOptions(CacheConfig):
    """Options that both strategies have."""

    spatial_attention_block_skip_range: int | None = 2
    """One of this many consecutive calls of a self-attention is computed; null: all are."""
    temporal_attention_block_skip_range: int | None = None
    """The same for attention along time, in models where that is separate."""
    spatial_attention_block_identifiers: list[str] | None = None
    """Regular expressions that are searched for in the modules' names; null: diffusers' own."""
    temporal_attention_block_identifiers: list[str] | None = None

    def __post_init__(self) -> None:
        """Raises `Unfit` for keys of a strategy of parts, and `ConfigError` for ranges that mean nothing."""
        for option in fields(CacheConfig):
            value = getattr(self, option.name)
            if option.name != "name" and value != option.default:
                raise Unfit(
                    f"cache.{option.name}={getattr(value, 'name', value)} could not take effect with "
                    f"cache={self.name}: diffusers' own strategy decides by the keys that end in _range; leave it out"
                )
        for key in (option.name for option in fields(self) if option.name.endswith("_range")):
            _check_range(key, getattr(self, key))


def _check_range(key: str, value: object) -> None:
    if isinstance(value, list) and not (len(value) == 2 and value[0] < value[1]):
        raise ConfigError(
            f"cache.{key}={value}: must be [lowest, highest], two training timesteps (1000 is pure noise)"
        )
    if isinstance(value, int) and value < 2:
        raise ConfigError(f"cache.{key}={value}: must be 2 or more, because one of this many calls is computed")


@dataclass(kw_only=True)
class FasterCache(DiffusersHookOptions):
    """FasterCache: extrapolates attention from its last two outputs.

    For batched guidance it also extrapolates the unconditional half from the conditional one, low and high frequencies
    separately.
    """

    name: str = "fastercache"
    spatial_attention_timestep_skip_range: list[int] = field(default_factory=lambda: [-1, 681])
    """Attention may be skipped where the training timestep lies between these two, both excluded."""
    temporal_attention_timestep_skip_range: list[int] = field(default_factory=lambda: [-1, 681])
    low_frequency_weight_update_timestep_range: list[int] = field(default_factory=lambda: [99, 901])
    """Training timesteps at which `alpha_low_frequency` acts."""
    high_frequency_weight_update_timestep_range: list[int] = field(default_factory=lambda: [-1, 301])
    alpha_low_frequency: float = 1.1
    """Factor, at every skipped step, on the difference of the two halves' low frequencies."""
    alpha_high_frequency: float = 1.1
    unconditional_batch_skip_range: int = 5
    """One of this many consecutive steps computes the unconditional half as well, in pipelines that batch guidance."""
    unconditional_batch_timestep_skip_range: list[int] = field(default_factory=lambda: [-1, 641])
    attention_weight: float = 0.5
    """How far attention is extrapolated, in units of the distance between its last two outputs: diffusers'
    `attention_weight_callback` as a constant."""


@dataclass(kw_only=True)
class PyramidAttentionBroadcast(DiffusersHookOptions):
    """Pyramid Attention Broadcast (PAB): reuses attention outputs, the longer the less they change."""

    name: str = "pab"
    cross_attention_block_skip_range: int | None = None
    """One of this many consecutive calls of a cross-attention is computed; null: all are."""
    spatial_attention_timestep_skip_range: list[int] = field(default_factory=lambda: [100, 800])
    """Attention may be skipped where the training timestep lies between these two, both excluded."""
    temporal_attention_timestep_skip_range: list[int] = field(default_factory=lambda: [100, 800])
    cross_attention_timestep_skip_range: list[int] = field(default_factory=lambda: [100, 800])
    cross_attention_block_identifiers: list[str] | None = None

    def __post_init__(self) -> None:
        """Raises `ConfigError` as well if nothing would be skipped."""
        super().__post_init__()
        kinds = ("spatial", "temporal", "cross")
        if all(getattr(self, f"{kind}_attention_block_skip_range") is None for kind in kinds):
            raise ConfigError(
                "cache.spatial_attention_block_skip_range=null, and temporal and cross attention are not skipped, so "
                "cache=pab could not take effect; set one of the three to 2 or more, or use cache=none"
            )

"""Options of the shipped cache strategies. Which parts each is made of is in `conf/cache/*.yaml`."""

from __future__ import annotations

from dataclasses import dataclass

from ..config.schema import CacheConfig
from ..registry import register

THRESHOLD_KEYS = ("residual_diff_threshold", "rel_l1_thresh", "threshold")
"""A strategy's own key for its threshold, as its authors call it; the criterion's threshold follows it."""


def find_threshold_key(cache: CacheConfig) -> str:
    """The key that sets the strategy's threshold: its own if it has one, else the criterion's."""
    return next((f"cache.{key}" for key in THRESHOLD_KEYS if hasattr(cache, key)), "cache.criterion.threshold")


@dataclass(kw_only=True)
class NoCache(CacheConfig):
    """Every step is computed."""

    name: str = "none"


@dataclass(kw_only=True)
class Custom(CacheConfig):
    """A strategy that a user puts together: signal, criterion and predictor are chosen in YAML."""

    name: str = "custom"


@dataclass(kw_only=True)
class FirstBlockCache(CacheConfig):
    """First Block Cache: run the first block; if its residual has hardly changed, reuse the residual of the others.

    Source: ParaAttention, https://github.com/chengzeyi/ParaAttention; window and hit limit as in Comfy-WaveSpeed,
    https://github.com/chengzeyi/Comfy-WaveSpeed.
    """

    name: str = "fbcache"
    residual_diff_threshold: float = 0.08
    """Reuse iff mean|r - r_c| / mean|r_c| is below this; r is what the signal shows (the first block's residual, or its
    output), r_c that of the last computed step."""


@dataclass(kw_only=True)
class DBCache(FirstBlockCache):
    """DBCache: First Block Cache with more blocks at both ends that always run, and a predictor.

    Source: cache-dit, https://github.com/vipshop/cache-dit.
    """

    name: str = "dbcache"


@dataclass(kw_only=True)
class TeaCache(CacheConfig):
    """TeaCache: reuse while the accumulated, rescaled change of the first block's modulated input stays small.

    Source: TeaCache, https://arxiv.org/abs/2411.19108, https://github.com/ali-vilab/TeaCache.
    """

    name: str = "teacache"
    rel_l1_thresh: float = 0.25
    """Reuse while the sum of polynomial(mean|m - m_p| / mean|m_p|) since the last computed step is below this."""
    variant: str | None = None
    """Which published coefficients to use, for models with several rows (`ret_steps`); null: the default row."""


@dataclass(kw_only=True)
class DeepCache(CacheConfig):
    """DeepCache, for U-Nets: compute everything every `interval` steps, only the outermost layers in between.

    Source: DeepCache, https://arxiv.org/abs/2312.00858. `depth` is the package's cache_layer_id + layers a level *
    cache_block_id.
    """

    name: str = "deepcache"
    interval: int = 3
    """Steps from one that is computed to the next."""


@dataclass(kw_only=True)
class MagCache(CacheConfig):
    """MagCache: reuse while the error that calibrated ratios of residual norms predict stays small.

    Source: MagCache, https://arxiv.org/abs/2506.09045.
    """

    name: str = "magcache"
    threshold: float = 0.06
    """Reuse while the sum of |1 - product of ratios| since the last computed step is at most this."""


@dataclass(kw_only=True)
class EasyCache(CacheConfig):
    """EasyCache: reuse while the output's change, predicted from the input's at the last measured rate, stays small.

    Source: EasyCache, https://arxiv.org/abs/2507.02860.
    """

    name: str = "easycache"
    threshold: float = 0.05


@dataclass(kw_only=True)
class SeaCache(CacheConfig):
    """SeaCache: reuse while the accumulated change of the spectrally filtered latents stays small.

    Source: SeaCache, https://arxiv.org/abs/2602.18993.
    """

    name: str = "seacache"
    threshold: float = 0.25


@dataclass(kw_only=True)
class DiCache(CacheConfig):
    """DiCache: run the first block as a probe; reuse while its accumulated change is small, scaling the residual by it.

    Source: DiCache, https://arxiv.org/abs/2508.17356.
    """

    name: str = "dicache"
    threshold: float = 0.4


@dataclass(kw_only=True)
class TaylorSeer(CacheConfig):
    """TaylorSeer: compute everything every `interval` steps, extrapolate the last features in between.

    Source: TaylorSeer, https://arxiv.org/abs/2503.06923; this is its lite form, which keeps the last block's
    feature only.
    """

    name: str = "taylorseer"
    interval: int = 5
    """Steps from one that is computed to the next."""


@dataclass(kw_only=True)
class StepMask(CacheConfig):
    """Compute the listed steps, and reuse at all others."""

    name: str = "step_mask"


@dataclass(kw_only=True)
class Planned(CacheConfig):
    """Compute a fixed number of steps, chosen on calibration runs; predict the others by a fitted sum of those."""

    name: str = "planned"
    computed: int = 10
    """How many steps are computed."""


@dataclass(kw_only=True)
class FittedCache(CacheConfig):
    """As `planned`, with weights that were fitted end to end: to what the uncached run makes, not to each residual."""

    name: str = "fitted"
    computed: int = 8
    """How many steps are computed; `fit computed=N` makes the weights for each number."""


for name, options in {
    "none": NoCache,
    "custom": Custom,
    "fbcache": FirstBlockCache,
    "dbcache": DBCache,
    "teacache": TeaCache,
    "deepcache": DeepCache,
    "magcache": MagCache,
    "easycache": EasyCache,
    "seacache": SeaCache,
    "dicache": DiCache,
    "taylorseer": TaylorSeer,
    "step_mask": StepMask,
    "planned": Planned,
    "fitted": FittedCache,
}.items():
    register("cache", name, options)(None)

"""The shipped strategies' options. What they are made of stands in `conf/cache/*.yaml`."""

from __future__ import annotations

from dataclasses import dataclass

from ..config.schema import CacheConfig
from ..registry import register

THRESHOLDS = ("residual_diff_threshold", "rel_l1_thresh", "threshold")
"""Names of a strategy's own key for its threshold, as its makers call it; the criterion's follows it."""


def threshold_key(cache: CacheConfig) -> str:
    """The key with which a user sets the strategy's threshold: its own, or the criterion's."""
    return next((f"cache.{key}" for key in THRESHOLDS if hasattr(cache, key)), "cache.criterion.threshold")


@dataclass(kw_only=True)
class NoCache(CacheConfig):
    """Every step is computed."""

    name: str = "none"


@dataclass(kw_only=True)
class Custom(CacheConfig):
    """A strategy of your own: signal, criterion and predictor are named in YAML."""

    name: str = "custom"


@dataclass(kw_only=True)
class FirstBlockCache(CacheConfig):
    """Run the first block; when its residual has hardly changed, reuse what the others added last time.

    Source: ParaAttention, https://github.com/chengzeyi/ParaAttention; window and hit limit as in Comfy-WaveSpeed,
    https://github.com/chengzeyi/Comfy-WaveSpeed.
    """

    name: str = "fbcache"
    residual_diff_threshold: float = 0.08
    """Reuse iff mean|r - r_c| / mean|r_c| is below this; r_c: the residual at the last computed step."""


@dataclass(kw_only=True)
class DBCache(FirstBlockCache):
    """First Block Cache with more blocks at both ends that always run, and a forecast.

    Source: cache-dit, https://github.com/vipshop/cache-dit.
    """

    name: str = "dbcache"


@dataclass(kw_only=True)
class TeaCache(CacheConfig):
    """Reuse while the accumulated, rescaled change of the first block's timestep-modulated input stays small.

    Source: TeaCache, https://arxiv.org/abs/2411.19108, https://github.com/ali-vilab/TeaCache.
    """

    name: str = "teacache"
    rel_l1_thresh: float = 0.25
    """Skip while the sum of polynomial(mean|m - m_p| / mean|m_p|) since the last computed step is below this."""
    variant: str | None = None
    """Of the published coefficients, for models that have several rows (`ret_steps`); null: the plain one."""


@dataclass(kw_only=True)
class DeepCache(CacheConfig):
    """U-Nets: every `interval` steps everything runs, in between only the outermost layers.

    Source: DeepCache, https://arxiv.org/abs/2312.00858. `depth` is the package's cache_layer_id + layers a level *
    cache_block_id.
    """

    name: str = "deepcache"
    interval: int = 3


@dataclass(kw_only=True)
class MagCache(CacheConfig):
    """Skip while the error that the residuals' calibrated norm ratios predict stays small.

    Source: MagCache, https://arxiv.org/abs/2506.09045.
    """

    name: str = "magcache"
    threshold: float = 0.06
    """Skip while the sum of |1 - product of ratios| since the last computed step is at most this."""


@dataclass(kw_only=True)
class EasyCache(CacheConfig):
    """Skip while the output's change, predicted from the input's at the last measured rate, stays small.

    Source: EasyCache, https://arxiv.org/abs/2507.02860.
    """

    name: str = "easycache"
    threshold: float = 0.05


@dataclass(kw_only=True)
class SeaCache(CacheConfig):
    """Skip while the accumulated change of the spectrally filtered latents stays small.

    Source: SeaCache, https://arxiv.org/abs/2602.18993.
    """

    name: str = "seacache"
    threshold: float = 0.25


@dataclass(kw_only=True)
class DiCache(CacheConfig):
    """Run the first block as a probe; skip while its accumulated change stays small, and scale the residual by it.

    Source: DiCache, https://arxiv.org/abs/2508.17356.
    """

    name: str = "dicache"
    threshold: float = 0.4


@dataclass(kw_only=True)
class TaylorSeer(CacheConfig):
    """Every `interval` steps everything runs; in between the last features are extrapolated.

    Source: TaylorSeer, https://arxiv.org/abs/2503.06923; this is its lite form, which keeps the last block's feature.
    """

    name: str = "taylorseer"
    interval: int = 5


@dataclass(kw_only=True)
class StepMask(CacheConfig):
    """The steps to compute are listed."""

    name: str = "step_mask"


@dataclass(kw_only=True)
class Planned(CacheConfig):
    """So many steps are computed, chosen on calibration runs; a fitted sum of theirs stands in for the others."""

    name: str = "planned"
    computed: int = 10


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
}.items():
    register("cache", name, options)(None)

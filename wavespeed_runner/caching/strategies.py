"""The shipped strategies' options. What they are made of stands in `conf/cache/*.yaml`."""

from __future__ import annotations

from dataclasses import dataclass

from ..config import CacheConfig
from ..registry import register


@dataclass(kw_only=True)
class NoCache(CacheConfig):
    """Every step is computed."""

    name: str = "none"


@dataclass(kw_only=True)
class FirstBlockCache(CacheConfig):
    """Run the first block; when its residual has hardly changed, reuse what the others added last time.

    Source: ParaAttention, https://github.com/chengzeyi/ParaAttention; window and hit limit as in Comfy-WaveSpeed,
    https://github.com/chengzeyi/Comfy-WaveSpeed.
    """

    name: str = "fbcache"
    residual_diff_threshold: float = 0.08
    """Reuse iff mean|r - r_c| / mean|r_c| is below this; r_c: the residual at the last computed step."""


register("cache", "none", NoCache)(None)
register("cache", "fbcache", FirstBlockCache)(None)

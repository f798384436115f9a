"""DeepCache by its authors, https://github.com/horseee/DeepCache, as one of the peers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from typing import Any

from .models import Model
from .settings import Setting


def deep_cache() -> list[Setting]:
    """Published: interval 2 to 5 and more, branch 0 (the shallowest)."""
    return [
        Setting(
            name=f"DeepCache interval {interval} branch {branch}",
            group="DeepCache",
            by="theirs",
            on=deepcache,
            parameters={"cache_interval": interval, "cache_branch_id": branch},
        )
        for branch, interval in product(range(5), (2, 3, 5))
    ]


@contextmanager
def deepcache(pipe: Any, model: Model, **options: Any) -> Iterator[None]:
    from DeepCache import DeepCacheSDHelper

    helper = DeepCacheSDHelper(pipe=pipe)
    helper.set_params(**options)
    helper.enable()
    try:
        yield
    finally:
        helper.disable()

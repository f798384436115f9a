"""The seeds of each prompt. `seed=-1` draws one, once for all jobs of a command, so that they can be compared.

The config of the record has the seed that was drawn, so an image of it is made again as any other.
"""

from __future__ import annotations

from functools import lru_cache
from secrets import randbelow

from ..config.launched import find_launch
from ..config.schema import Config, Seeds
from ..errors import ConfigError

DRAW = -1
"""The value of `seed` that asks for one to be drawn."""


@lru_cache(maxsize=1)
def draw_seed() -> int:
    """The seed of this process: 0 to 2**32 - 1, all of which give different noise.

    Raises:
        ConfigError: several ranks were started together, and each would draw its own.
    """
    if launch := find_launch():
        raise ConfigError(
            f"seed=-1: {launch.by} has started {launch.world} ranks, and each would draw a seed of its own; give one, "
            "such as seed=0"
        )
    return randbelow(2**32)


def list_seeds(config: Config, prompt: int) -> range:
    """The seeds of one prompt's images; `prompt` is its place among those of the run, from 0."""
    images = config.num_images_per_prompt
    first = config.seed + (prompt * images if config.seeds is Seeds.per_prompt else 0)
    return range(first, first + images)

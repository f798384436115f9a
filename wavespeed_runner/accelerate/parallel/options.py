"""Typed options of the config group `parallel`: how many ranks, and what each of them computes. No torch here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ...config.schema import ParallelConfig
from ...errors import ConfigError
from ...registry import register


@dataclass(frozen=True, kw_only=True)
class Layout:
    """What the ranks are divided by. Ranks are numbered with `ulysses` fastest, then `ring`, then `cfg`.

    `data` excludes the others: its ranks share no image.
    """

    ulysses: int = 1
    """Ranks that exchange heads for tokens around each attention."""
    ring: int = 1
    """Groups of them that pass keys and values on."""
    cfg: int = 1
    """2 where the guidance branches are computed by different ranks."""
    data: int = 1
    """Ranks that each take some of the images."""

    @property
    def sequence(self) -> int:
        """Ranks that share the tokens of one image."""
        return self.ulysses * self.ring

    @property
    def ranks(self) -> int:
        """All ranks."""
        return self.sequence * self.cfg * self.data


@dataclass(kw_only=True)
class NoParallel(ParallelConfig):
    """One process."""

    name: str = "none"


@dataclass(kw_only=True)
class ParallelOptions(ParallelConfig):
    """Options of every kind of parallelism."""

    timeout: float = 600.0
    """Seconds after which a rank that does not answer the others is given up. Compiling counts, on every rank."""
    vae: bool = False
    """Decode the tiles of an image on all ranks; needs memory.vae_tiling=true."""

    def __post_init__(self) -> None:
        """Raises ConfigError for a degree below 1 or a timeout that is not above 0."""
        if not 0 < self.timeout <= 86400:
            raise ConfigError(f"parallel.timeout={self.timeout}: above 0 and at most 86400 seconds is needed")
        for key in ("degree", "ulysses_degree", "ring_degree"):
            value = getattr(self, key, 1)
            if not 1 <= value <= 1024:
                raise ConfigError(f"parallel.{key}={value}: 1 to 1024 ranks are possible; parallel=none is one process")


@dataclass(kw_only=True)
class DividedOptions(ParallelOptions):
    """Options of every kind that divides an image."""

    check: bool = True
    """Compare the denoiser's first result with that of one rank alone, before anything is timed. It takes one call of
    the undivided denoiser, and its memory."""


@dataclass(kw_only=True)
class ContextParallelOptions(DividedOptions):
    """Context parallelism of one kind: the tokens of an image are divided among the ranks.

    `ulysses`: DeepSpeed Ulysses, https://arxiv.org/abs/2309.14509. `ring`: Ring Attention,
    https://arxiv.org/abs/2310.01889.
    """

    degree: int = 2
    """Ranks that share an image's tokens."""
    cfg: bool = False
    """Twice as many ranks: one half for each guidance branch."""


@dataclass(kw_only=True)
class UnifiedOptions(DividedOptions):
    """Ulysses within groups of ranks and a ring among the groups: unified sequence parallelism.

    https://arxiv.org/abs/2405.07719. For more ranks than the attention has heads, or for several nodes.
    """

    ulysses_degree: int = 2
    """Ranks in each group."""
    ring_degree: int = 2
    """Groups."""
    cfg: bool = False
    """Twice as many ranks: one half for each guidance branch."""


@dataclass(kw_only=True)
class CfgOptions(DividedOptions):
    """Classifier-free guidance on two ranks, one for each branch."""

    degree: int = 2
    """2: there are two branches."""

    def __post_init__(self) -> None:
        """Raises ConfigError for another degree than 2."""
        super().__post_init__()
        if self.degree != 2:
            raise ConfigError(
                f"parallel.degree={self.degree}: guidance has 2 branches; parallel=cfg has 2 ranks, and "
                "parallel=ulysses parallel.cfg=true more"
            )


@dataclass(kw_only=True)
class DataOptions(ParallelOptions):
    """Each rank makes some of a run's images."""

    degree: int = 2
    """Ranks."""


register("parallel", "none", NoParallel)(None)
register("parallel", "ulysses", ContextParallelOptions)(lambda o: Layout(ulysses=o.degree, cfg=1 + o.cfg))
register("parallel", "ring", ContextParallelOptions)(lambda o: Layout(ring=o.degree, cfg=1 + o.cfg))
register("parallel", "unified", UnifiedOptions)(
    lambda o: Layout(ulysses=o.ulysses_degree, ring=o.ring_degree, cfg=1 + o.cfg)
)
register("parallel", "cfg", CfgOptions)(lambda o: Layout(cfg=2))
register("parallel", "data", DataOptions)(lambda o: Layout(data=o.degree))


def find_layout(options: ParallelConfig) -> Layout:
    """How the ranks of a configuration are divided; one rank with `parallel=none`."""
    from ...registry import find_implementation

    build: Any = find_implementation("parallel", options)
    layout: Layout = build(options) if build else Layout()
    return layout

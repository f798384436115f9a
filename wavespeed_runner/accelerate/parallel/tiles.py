"""Tiled decoding over ranks: each rank decodes some of the tiles, and all of them put the image together.

diffusers' autoencoders differ in how they cut latents into tiles and blend them, and agree in one thing: the values of
a tile come from calls of `vae.decoder`, and depend on no other tile. So the whole of `vae.decode` runs twice. The first
time, the calls of a rank's own tiles are computed, and every call returns a tensor that has a shape and no memory:
nothing is blended. Then the ranks exchange what they have computed. The second time, each call returns what was
computed for it. Cutting and blending stay diffusers' own, and so does every bit.

Video autoencoders make several calls for a tile, which hand on a cache of earlier frames: these stay on one rank.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import prod
from typing import TYPE_CHECKING, Any

from ...errors import RunError
from .collectives import gather

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from .groups import Place

KIND = "tiles"
DIVISIBLE = (
    "AutoencoderDC",
    "AutoencoderKL",
    "AutoencoderKLCogVideoX",
    "AutoencoderKLFlux2",
    "AutoencoderKLHunyuanVideo",
    "AutoencoderKLHunyuanVideo15",
    "AutoencoderKLLTX2Video",
    "AutoencoderKLLTXVideo",
    "AutoencoderKLQwenImage",
    "AutoencoderKLWan",
)
"""Autoencoders whose tiles come from calls of `decoder`; each is held to one process by a test."""


class TileDivider:
    """Computes the tiles of this rank, and gets those of the others."""

    def __init__(self, place: Place, compute: Callable[..., Any], channels: int) -> None:
        """See `divide_tiles`. compute: the decoder's own call; channels: those of its result."""
        self.place, self.compute, self.channels = place, compute, channels
        self.counts = [0] * place.layout.ranks
        """Tiles that each rank has decoded."""
        self._owners: list[int] = []
        """The rank that computes each call."""
        self._results: dict[int, Tensor] = {}
        """Call -> its result, as far as it is here."""
        self._replayed: Iterator[int] | None = None
        """Calls in their order, the second time; None the first time."""
        self._tiles = 0
        self._caches: Any = None

    def decode(self, decode: Callable[..., Any], args: Any, kwargs: dict[str, Any]) -> Any:
        """One call of `vae.decode`. decode: makes it; its calls of the decoder go to `call`."""
        self._owners, self._results, self._replayed, self._tiles = [], {}, None, 0
        decode(*args, **kwargs)
        self._caches = None
        self._results = self._exchange(args[0] if args else kwargs["z"])
        self._replayed = iter(range(len(self._owners)))
        return decode(*args, **kwargs)

    def call(self, tile: Tensor, *args: Any, **kwargs: Any) -> Any:
        """One call of the decoder. tile: latents, shape (n, channels, height, width), for videos with frames before."""
        hands_on = "conv_cache" in kwargs  # the result is a pair: the tile, and the cache for its next frames
        if self._replayed is not None:
            result = self._results.pop(next(self._replayed))
            return (result, {}) if hands_on else result
        owner, cache = self._find_owner(kwargs), {}
        if owner == self.place.rank:
            result = self.compute(tile, *args, **kwargs)
            if hands_on:
                result, cache = result
            self._results[len(self._owners)] = result
        self._owners.append(owner)
        # Smaller than the result, and in proportion: rows and columns of tiles fit together.
        placeholder = tile.new_empty((tile.shape[0], self.channels, *tile.shape[2:]), device="meta")
        return (placeholder, cache) if hands_on else placeholder

    def _find_owner(self, kwargs: dict[str, Any]) -> int:
        """The rank that makes a call: the next one in turn, or the last one if the call goes on with its tile."""
        caches = kwargs.get("feat_cache")  # one list for each tile
        goes_on = kwargs.get("conv_cache") is not None or (caches is not None and caches is self._caches)
        self._caches = caches
        if goes_on:
            return self._owners[-1]
        owner = self._tiles % len(self.counts)
        self._tiles += 1
        self.counts[owner] += 1
        return owner

    def _exchange(self, latents: Tensor) -> dict[int, Tensor]:
        """The results of all calls. latents: what is decoded; its dimensions and device are those of the results."""
        import torch

        dtypes = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
        group, ranks = self.place.name_group("all"), range(len(self.counts))
        calls = [[call for call, owner in enumerate(self._owners) if owner == rank] for rank in ranks]
        ordered = [call for of_rank in calls for call in of_rank]
        mine = [self._results[call] for call in calls[self.place.rank]]
        told = [number for result in mine for number in (*result.shape, dtypes.index(result.dtype))]
        told_by_all = gather(
            torch.tensor(told, dtype=torch.int64, device=latents.device),
            [len(of_rank) * (latents.ndim + 1) for of_rank in calls],
            group,
            KIND,
        )
        rows = told_by_all.view(-1, latents.ndim + 1).tolist()
        shapes = {call: row[:-1] for call, row in zip(ordered, rows, strict=True)}
        nothing = torch.empty(0, dtype=dtypes[rows[0][-1]], device=latents.device)
        values = gather(
            torch.cat([nothing, *(result.reshape(-1) for result in mine)]),
            [sum(prod(shapes[call]) for call in of_rank) for of_rank in calls],
            group,
            KIND,
        )
        parts = values.split([prod(shapes[call]) for call in ordered])
        return {call: part.view(shapes[call]) for call, part in zip(ordered, parts, strict=True)}


@contextmanager
def divide_tiles(vae: Any, place: Place) -> Iterator[TileDivider]:
    """Keeps the tiles of an autoencoder on several ranks; afterwards it is as before.

    The decoder's calls are taken over where torch takes over those of compiled modules, outside of all hooks.

    Args:
        vae: with tiling enabled. Latents of one tile are decoded by the first rank.
        place: of this rank. All ranks have to decode the same latents.
    """
    decoder, decode = vae.decoder, vae.decode
    compiled = decoder._compiled_call_impl
    divider = TileDivider(place, compiled or decoder._call_impl, vae.config.get("out_channels", 3))
    own = vae.__dict__.get("decode")
    decoder._compiled_call_impl = divider.call
    vae.decode = lambda *args, **kwargs: divider.decode(decode, args, kwargs)
    try:
        yield divider
    finally:
        decoder._compiled_call_impl = compiled
        del vae.decode
        if own is not None:
            vae.decode = own


def refuse_indivisible(vae: torch.nn.Module) -> None:
    """Raises RunError for an autoencoder of which it is not known that its tiles can be divided."""
    name = type(vae).__name__
    if name not in DIVISIBLE:
        raise RunError(
            f"parallel.vae=true: it is not known how the tiles of {name} are divided among ranks; leave it out, and "
            "rank 0 decodes"
        )

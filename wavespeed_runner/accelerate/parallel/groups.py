"""This process's place among the ranks: its number, and the groups of ranks that it exchanges messages with."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from ...errors import RunError
from .collectives import GROUPS, define_operators
from .options import Layout


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where this rank stands in a layout. The names are keys of `collectives.GROUPS`."""

    layout: Layout
    rank: int
    sequence_ranks: tuple[int, ...]
    """The ranks that share an image's tokens with this one; their order is that of the tokens."""

    @property
    def sequence_rank(self) -> int:
        """This rank's position among those that share the tokens."""
        return self.sequence_ranks.index(self.rank)

    @property
    def ulysses_rank(self) -> int:
        """This rank's position in its Ulysses group."""
        return self.rank % self.layout.ulysses

    @property
    def ring_rank(self) -> int:
        """This rank's position in its ring."""
        return self.rank // self.layout.ulysses % self.layout.ring

    @property
    def branch(self) -> int:
        """Which guidance branch this rank computes, where branches are on different ranks: 0 or 1."""
        return self.rank // self.layout.sequence

    def name_group(self, name: str) -> str:
        """The key of `collectives.GROUPS`; name: `sequence`, `ulysses`, `ring`, `cfg` or `all`."""
        layout = self.layout
        return f"{name} of {layout.ulysses}x{layout.ring}x{layout.cfg}"

    def list_ulysses_group(self, ring_rank: int) -> range:
        """Positions, among the ranks that share the tokens, of a Ulysses group."""
        return range(ring_rank * self.layout.ulysses, (ring_rank + 1) * self.layout.ulysses)


_PLACES: dict[Layout, Place] = {}


def find_place(layout: Layout, timeout: float = 600.0) -> Place:
    """This process's place; makes the groups of the layout when it is first asked for it. All ranks have to ask.

    Args:
        layout: of the ranks.
        timeout: seconds until a rank that does not answer is given up.

    Raises:
        RunError: there are not as many ranks as the layout has.
    """
    from torch import distributed as dist

    if not dist.is_initialized():
        raise RunError(f"parallel: {layout.ranks} ranks are needed, and this process is alone")
    if dist.get_world_size() != layout.ranks:
        raise RunError(f"parallel: {layout.ranks} ranks are needed, and there are {dist.get_world_size()}")
    define_operators()
    if layout not in _PLACES:
        _PLACES[layout] = _make_groups(layout, dist.get_rank(), timedelta(seconds=timeout))
    return _PLACES[layout]


def forget_places() -> None:
    """Forgets all groups; for a process that leaves its ranks, and may be among others later."""
    _PLACES.clear()
    GROUPS.clear()


def _make_groups(layout: Layout, rank: int, timeout: timedelta) -> Place:
    """Makes the process groups of a layout."""
    from torch import distributed as dist

    u, r, c = layout.ulysses, layout.ring, layout.cfg
    members = {
        "sequence": [[b * u * r + i for i in range(u * r)] for b in range(c)],
        "ulysses": [[b * u * r + j * u + i for i in range(u)] for b in range(c) for j in range(r)],
        "ring": [[b * u * r + j * u + i for j in range(r)] for b in range(c) for i in range(u)],
        "cfg": [[b * u * r + i for b in range(c)] for i in range(u * r)],
        "all": [list(range(u * r * c))],
    }
    mine = next(ranks for ranks in members["sequence"] if rank in ranks)
    place = Place(layout=layout, rank=rank, sequence_ranks=tuple(mine))
    for name, groups in members.items():
        for ranks in groups:  # every rank takes part in making every group
            group = dist.new_group(ranks, timeout=timeout)  # torch's own default is half an hour
            if rank in ranks:
                GROUPS[place.name_group(name)] = group
    return place

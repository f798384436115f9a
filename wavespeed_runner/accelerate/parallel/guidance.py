"""Classifier-free guidance on two ranks: each computes one branch, and both get both results.

Pipelines call the denoiser in one of two ways. Some stack both branches in one batch: each rank then takes half of the
rows. Others call it twice a step, and use the first result only after the second call: each rank then makes one of the
calls, and returns a tensor for the other that is filled when the results are exchanged. Which way it is shows in the
number of rows. Calls of LTX-2 for other kinds of guidance, beside a stacked one, are made by both.

diffusers has no such parallelism. xDiT's is of the first kind only, https://arxiv.org/abs/2411.01738.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ...errors import RunError
from .collectives import GROUPS, gather

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from .groups import Place

BRANCHES = 2
ROWS = {"encoder_hidden_states_llama3": 1}
"""Arguments of denoisers whose rows are not in the first dimension."""
KIND = "branches"


class BranchDivider:
    """Computes one of two guidance branches of one denoiser."""

    def __init__(self, place: Place, images: int) -> None:
        """See `divide_branches`."""
        self.place, self.images = place, images
        self.stacked: bool | None = None
        """True if the pipeline stacks both branches in one batch; None before the first call."""
        self._first: Any = None
        """The result of a step's first call, or the tensors that stand for it."""
        self._templates: dict[Any, Any] = {}
        """Shapes of inputs -> a result with tensors that have no memory."""

    def call(self, compute: Callable[..., Any], args: Any, kwargs: dict[str, Any]) -> Any:
        """One call of the denoiser. compute: makes it on this rank."""
        rows = _count_rows((args, kwargs))
        if rows == BRANCHES * self.images:
            self.stacked = True
            half = _take_rows((args, kwargs), rows, self.place.branch)
            return self._join(compute(*half[0], **half[1]))
        if self.stacked and rows == self.images:  # guidance of another kind (LTX-2): each rank makes that call
            return compute(*args, **kwargs)
        self.stacked = False
        if rows != self.images:
            raise RunError(
                f"parallel.cfg: the denoiser is called with {rows} rows for {self.images} images, which are not two "
                "guidance branches; use parallel=none or parallel=ulysses"
            )
        if self._first is None:
            self._first = self._start(compute, args, kwargs)
            return self._first
        first, self._first = self._first, None
        return self._finish(first, compute, args, kwargs)

    def end(self) -> None:
        """Called after each step. Raises RunError if its first call had no second one: there is no guidance."""
        if self._first is not None:
            self._first = None
            raise RunError(
                "parallel.cfg: the denoiser was called once in a step, so there was one guidance branch; use a "
                "guidance_scale above 1, or parallel=none"
            )

    def _start(self, compute: Callable[..., Any], args: Any, kwargs: dict[str, Any]) -> Any:
        """The first call of a step: made by one rank; the other one makes tensors of the same shapes."""
        import torch

        key = _describe((args, kwargs))
        result = compute(*args, **kwargs) if self.place.branch == 0 else None
        if key not in self._templates:
            self._templates[key] = self._send_template(result)
        if result is not None:
            return result
        device = _list_tensors((args, kwargs))[0].device
        return _map(lambda t: torch.full(t.shape, torch.nan, dtype=t.dtype, device=device), self._templates[key])

    def _send_template(self, result: Any) -> Any:
        """The structure of the first branch's result, with tensors that have a shape and no memory."""
        from torch import distributed as dist

        template = [_map(lambda tensor: tensor.to("meta"), result)]
        first = self.place.rank % self.place.layout.sequence  # the rank that has the same tokens of the first branch
        group = GROUPS[self.place.name_group("cfg")]
        dist.broadcast_object_list(template, src=first, group=group, device=_get_cpu())
        return template[0]

    def _finish(self, first: Any, compute: Callable[..., Any], args: Any, kwargs: dict[str, Any]) -> Any:
        """The second call: made by the other rank; then the results are exchanged."""
        import torch

        mine = compute(*args, **kwargs) if self.place.branch == 1 else None
        second = mine if mine is not None else _map(torch.empty_like, first)
        firsts, seconds = _list_tensors(first), _list_tensors(second)
        for there, here in zip(firsts, seconds, strict=True):
            sent = here if self.place.branch == 1 else there
            for tensor, values in zip((there, here), self._gather(sent).chunk(BRANCHES), strict=True):
                tensor.copy_(values.view(tensor.shape))
        return second

    def _join(self, half: Any) -> Any:
        """The rows of both branches: of tensors, and of lists with a tensor for each row."""
        if isinstance(half, list):
            pairs = [self._gather(tensor).view(BRANCHES, *tensor.shape) for tensor in half]
            return [pair[branch] for branch in range(BRANCHES) for pair in pairs]
        if isinstance(half, tuple):
            return tuple(self._join(item) for item in half)
        return _map(lambda tensor: self._gather(tensor).view(BRANCHES * tensor.shape[0], *tensor.shape[1:]), half)

    def _gather(self, tensor: Tensor) -> Tensor:
        return gather(tensor.reshape(-1), [tensor.numel()] * BRANCHES, self.place.name_group("cfg"), KIND)


@contextmanager
def divide_branches(denoiser: torch.nn.Module, place: Place, images: int) -> Iterator[BranchDivider]:
    """Keeps the guidance branches of a denoiser on two ranks; afterwards it is as before.

    The calls are taken over where torch takes over those of compiled modules, outside of all hooks: what is attached to
    the denoiser sees the calls that this rank makes, and no others.

    Args:
        denoiser: hooks of a cache strategy may be on it already.
        place: of this rank.
        images: in the batch.
    """
    divider = BranchDivider(place, images)
    compiled = denoiser._compiled_call_impl
    compute = compiled or denoiser._call_impl
    denoiser._compiled_call_impl = lambda *args, **kwargs: divider.call(compute, args, kwargs)
    try:
        yield divider
    finally:
        denoiser._compiled_call_impl = compiled


def _map(function: Callable[[Tensor], Tensor], value: Any) -> Any:
    """The same structure of lists, tuples and mappings with each tensor replaced."""
    import torch

    if isinstance(value, torch.Tensor):
        return function(value)
    if isinstance(value, Mapping):
        mapped = {key: _map(function, item) for key, item in value.items()}
        return type(value)(**mapped) if type(value) is not dict else mapped  # diffusers' outputs are mappings
    if isinstance(value, (list, tuple)):
        return type(value)(_map(function, item) for item in value)
    return value


def _list_tensors(value: Any) -> list[Tensor]:
    tensors: list[Tensor] = []

    def add(tensor: Tensor) -> Tensor:
        tensors.append(tensor)
        return tensor

    _map(add, value)
    return tensors


def _describe(value: Any) -> tuple[Any, ...]:
    return tuple(tuple(tensor.shape) for tensor in _list_tensors(value))


def _count_rows(call: tuple[Any, dict[str, Any]]) -> int:
    """Rows of the denoiser's first argument: a tensor, or a list with one for each."""
    args, kwargs = call
    first = args[0] if args else next(iter(kwargs.values()))
    return len(first)


def _take_rows(value: Any, rows: int, branch: int, dim: int = 0) -> Any:
    """The rows of one branch: of tensors with that many rows, and of lists with that many items."""
    import torch

    size = rows // BRANCHES
    if isinstance(value, torch.Tensor):
        has_rows = value.ndim > dim and value.shape[dim] == rows
        return value.narrow(dim, branch * size, size) if has_rows else value
    if isinstance(value, dict):
        return {key: _take_rows(item, rows, branch, ROWS.get(key, 0)) for key, item in value.items()}
    if isinstance(value, list) and len(value) == rows:
        return value[branch * size : (branch + 1) * size]
    if isinstance(value, (list, tuple)):
        return type(value)(_take_rows(item, rows, branch) for item in value)
    return value


def _get_cpu() -> torch.device:
    import torch

    return torch.device("cpu")

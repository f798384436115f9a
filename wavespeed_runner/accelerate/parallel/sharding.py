"""Divides the tokens of a transformer among the ranks for one generation, and joins them before it returns.

The blocks run unchanged. The denoiser's lists of blocks are replaced by lists whose blocks get only this rank's tokens;
a hook joins the result of the last projection. A cache strategy is attached first, so its lists are inside of these.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from inspect import signature
from typing import TYPE_CHECKING, Any

from ...models.family import Blocks
from .collectives import gather
from .plans import Cuts, Plan
from .shares import Shares

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from .groups import Place


class Divider:
    """Cuts the arguments of one denoiser and its blocks to this rank's tokens."""

    def __init__(self, plan: Plan, shares: Shares, place: Place) -> None:
        """See `divide_tokens`."""
        self.plan, self.shares, self.place = plan, shares, place
        self._begun = False
        self._known: dict[int, tuple[Any, Any]] = {}
        """id of an argument -> it, and what it was cut to: blocks are given the same ones."""

    def begin_call(self, module: Any, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """Forward pre-hook of the denoiser."""
        self.shares.lengths.clear()
        self._known.clear()
        self._begun = False
        arguments = _name_arguments(_list_parameters(module), args, kwargs)
        return (), {**arguments, **self._cut_all(arguments, self.plan.inputs)}

    def end_call(self, module: Any, args: Any, kwargs: Any, out: Any) -> None:
        """Forward hook of the denoiser."""
        self._known.clear()

    def cut_block(self, parameters: Sequence[str], args: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
        """The arguments of a block by name, cut."""
        arguments = _name_arguments(parameters, args, kwargs)
        if not self._begun:
            self._begun = True
            arguments.update(self._cut_all(arguments, self.plan.first))
        for name in self.plan.counts:
            if name in arguments:
                arguments[name] = self._count_first(arguments[name])
        return {**arguments, **self._cut_all(arguments, self.plan.each)}

    def join(self, module: Any, args: Any, out: Tensor) -> Tensor:
        """Forward hook of the last projection: the tokens of all ranks, (rows, tokens, channels)."""
        import torch

        stream = next(iter(self.plan.first or self.plan.inputs))
        lengths = self.shares.lengths[stream]
        rows, _, channels = out.shape
        sizes = [rows * length * channels for length in lengths]
        parts = gather(out.reshape(-1), sizes, self.place.name_group("sequence"), "gather").split(sizes)
        return torch.cat([part.view(rows, -1, channels) for part in parts], 1)

    def _cut_all(self, arguments: dict[str, Any], cuts: Mapping[str, Cuts]) -> dict[str, Any]:
        return {name: self._cut(arguments[name], cut) for name, cut in cuts.items() if name in arguments}

    def _cut(self, value: Any, cuts: Cuts) -> Any:
        if id(value) not in self._known:
            self._known[id(value)] = value, self._cut_anew(value, cuts)
        return self._known[id(value)][1]

    def _cut_anew(self, value: Any, cuts: Cuts) -> Any:
        import torch

        if isinstance(value, (tuple, list)):
            each = cuts if isinstance(cuts, tuple) else [cuts] * len(value)
            return type(value)(self._cut_anew(item, cut) for item, cut in zip(value, each, strict=True))
        if not isinstance(value, torch.Tensor):
            return value
        assert not isinstance(cuts, tuple)
        if (cuts.ndim is not None and value.ndim != cuts.ndim) or value.shape[cuts.dim] == 1:
            return value
        if len(cuts.parts) == 1 and cuts.parts[0] not in self.shares.lengths:
            self.shares.set_length(cuts.parts[0], value.shape[cuts.dim])
        return self.shares.cut(value, cuts.dim % value.ndim, cuts.parts)

    def _count_first(self, total: Any) -> Any:
        """How many of the first `total` image tokens this rank holds."""
        lengths = self.shares.lengths["hidden_states"]
        before = sum(lengths[: self.shares.rank])
        return max(0, min(total - before, lengths[self.shares.rank])) if isinstance(total, int) else total


class DividedBlock:
    """Takes the place of a block, and gives it this rank's tokens."""

    def __init__(self, divider: Divider, block: Any) -> None:
        """Takes the block, which may be a cache strategy's."""
        self.divider, self.block = divider, block
        self.parameters = _list_parameters(_find_module(block))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Calls the block."""
        return self.block(**self.divider.cut_block(self.parameters, args, kwargs))

    def __getattr__(self, name: str) -> Any:
        """Everything else is the block's."""
        return getattr(self.block, name)


@contextmanager
def divide_tokens(
    denoiser: torch.nn.Module, blocks: Blocks, plan: Plan, shares: Shares, place: Place
) -> Iterator[None]:
    """Keeps the tokens of a transformer divided; afterwards it is as before.

    Args:
        denoiser: the transformer; a cache strategy is attached already.
        blocks: where it keeps its blocks.
        plan: where its tokens are.
        shares: which tokens each rank has; its attention reads them.
        place: of this rank.
    """
    divider = Divider(plan, shares, place)
    names = [block_list.name for block_list in blocks.lists]
    originals = {name: getattr(denoiser, name) for name in names}
    undo: list[Callable[[], None]] = [
        denoiser.register_forward_pre_hook(divider.begin_call, with_kwargs=True).remove,
        denoiser.register_forward_hook(divider.end_call, with_kwargs=True).remove,
        *(module.register_forward_hook(divider.join).remove for module in find_modules(denoiser, plan.gather)),
    ]
    shares.active = True
    try:
        for name in names:
            setattr(denoiser, name, _build_divided_list(divider, originals[name]))
        yield
    finally:
        shares.active = False
        shares.lengths.clear()
        for name, original in originals.items():
            setattr(denoiser, name, original)
        for remove in undo:
            remove()


def find_modules(denoiser: torch.nn.Module, name: str) -> list[torch.nn.Module]:
    """The submodule of that name; with `*` at the end, all children of one."""
    if not name.endswith(".*"):
        return [denoiser.get_submodule(name)]
    return [*denoiser.get_submodule(name.removesuffix(".*")).children()]


def _build_divided_list(divider: Divider, original: Any) -> Any:
    """A list of the same blocks that get this rank's tokens. The class is defined here: torch is imported late."""
    import torch

    wrapped: dict[int, DividedBlock] = {}

    class DividedList(torch.nn.ModuleList):
        def __iter__(self) -> Iterator[Any]:
            for block in original:
                if id(block) not in wrapped:
                    wrapped[id(block)] = DividedBlock(divider, block)
                yield wrapped[id(block)]

    return DividedList(list(torch.nn.ModuleList.__iter__(original)))


def _find_module(block: Any) -> Any:
    """The module behind a block of a cache strategy."""
    return block if hasattr(block, "_modules") and "_modules" in vars(block) else block.block


def _list_parameters(module: Any) -> list[str]:
    return list(signature(getattr(module, "_orig_mod", module).forward).parameters)


def _name_arguments(parameters: Sequence[str], args: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
    return {**dict(zip(parameters, args, strict=False)), **kwargs}

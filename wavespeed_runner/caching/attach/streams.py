"""Reads the token streams out of a transformer block's arguments and results, and writes them back."""

from __future__ import annotations

from collections.abc import Iterable
from inspect import signature
from typing import Any

from ...models.family import BlockList
from ..rows import Streams


class StreamLayout:
    """How the blocks of one list take and return their token streams."""

    def __init__(self, blocks: BlockList, names: tuple[str, ...], block: Any) -> None:
        """Takes the list, the streams' names, and one of the list's blocks, whose parameters are read."""
        self.blocks, self.names = blocks, names
        self.pairs = list(zip(names, blocks.streams, strict=False))
        """(stream, the block's parameter for it); a block of joined streams has one."""
        self.parameters = list(signature(getattr(block, "_orig_mod", block).forward).parameters)

    def name_arguments(self, args: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
        """A block's arguments by name."""
        return {**dict(zip(self.parameters, args, strict=False)), **kwargs} if args else kwargs

    def read_arguments(self, arguments: dict[str, Any], lengths: dict[str, int]) -> Streams:
        """The streams in a block's arguments. lengths: tokens of each stream, where blocks join them."""
        return self._split(((name, arguments.get(parameter)) for name, parameter in self.pairs), lengths)

    def write_arguments(self, arguments: dict[str, Any], streams: Streams) -> dict[str, Any]:
        """The arguments with these streams in place."""
        if self.blocks.concatenated:
            parameter = self.blocks.streams[0]
            return {**arguments, parameter: self._join(arguments[parameter], streams)}
        replaced = {parameter: streams[name] for name, parameter in self.pairs if name in streams}
        return {**arguments, **replaced}

    def read_results(self, out: Any, lengths: dict[str, int]) -> Streams:
        """The streams in what a block returns."""
        values = out if isinstance(out, tuple) else (out,)
        return self._split(zip(self.blocks.returns, values, strict=False), lengths)

    def write_results(self, streams: Streams, out: Any) -> Any:
        """The streams as a block returns them. out: a result or input of the block, used where streams are joined."""
        if self.blocks.concatenated:
            return self._join(out, streams)
        values = tuple(streams.get(name) for name in self.blocks.returns)
        return values if len(values) > 1 else values[0]

    def _split(self, tensors: Iterable[tuple[str, Any]], lengths: dict[str, int]) -> Streams:
        """The streams, where they are joined cut apart along the tokens."""
        if not self.blocks.concatenated:
            return {name: tensor for name, tensor in tensors if tensor is not None}
        (whole,) = [tensor for _, tensor in tensors if tensor is not None]
        first, second = self.blocks.concatenated
        end = lengths[first]
        return {first: whole[:, :end], second: whole[:, end : end + lengths[second]]}

    def _join(self, whole: Any, streams: Streams) -> Any:
        """The streams joined along the tokens, followed by the tokens of `whole` that are in neither."""
        import torch

        first, second = self.blocks.concatenated
        rest = whole[:, streams[first].shape[1] + streams[second].shape[1] :]
        return torch.cat([streams[first], streams[second], rest], dim=1)

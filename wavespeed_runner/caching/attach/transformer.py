"""Puts the engine on a transformer: its block lists are swapped for lists that end early.

A denoiser walks `for block in self.transformer_blocks`. The lists put in place hold the same blocks, and stop yielding
them once the engine has decided to skip; what stands in for the skipped ones leaves the last block that ran. So the
denoiser's own code runs as it is: what it hands to each block, what it does between its lists, and, when skipping, no
block is walked. Nothing is patched: not a class, not a forward, not a block; and compiled blocks stay compiled, with
every decision outside of them.

Why not `diffusers.hooks.apply_first_block_cache`, which makes the same decisions (the tests hold us to that): its
hooks know one threshold and neither window nor limits, keep no trace, turn skipped blocks into identities one by one,
take what lies between the lists for an identity, and keep their state when a step raises.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from inspect import signature
from typing import TYPE_CHECKING, Any

from ...models.family import BlockList, Blocks
from ..engine import Engine, Pending, Streams
from ..interfaces import Seen

if TYPE_CHECKING:
    import torch


class Layout:
    """Reads the streams of tokens out of a block's arguments or results, and writes them back."""

    def __init__(self, blocks: BlockList, names: tuple[str, ...], block: Any) -> None:
        self.blocks, self.names = blocks, names
        self.pairs = list(zip(names, blocks.streams, strict=False))
        """(stream, the block's parameter for it); a block of joined streams has one."""
        self.parameters = list(signature(getattr(block, "_orig_mod", block).forward).parameters)

    def arguments(self, args: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
        """A block's arguments by name."""
        return {**dict(zip(self.parameters, args, strict=False)), **kwargs} if args else kwargs

    def read(self, arguments: dict[str, Any], lengths: dict[str, int]) -> Streams:
        """The streams in a block's arguments. lengths: tokens of each stream where they are not joined yet."""
        return self._parted(((name, arguments.get(parameter)) for name, parameter in self.pairs), lengths)

    def write(self, arguments: dict[str, Any], streams: Streams) -> dict[str, Any]:
        """The arguments with these streams in place."""
        if self.blocks.joined:
            parameter = self.blocks.streams[0]
            return {**arguments, parameter: self._joined(arguments[parameter], streams)}
        given = {p: streams[name] for name, p in self.pairs if name in streams}
        return {**arguments, **given}

    def results(self, out: Any, lengths: dict[str, int]) -> Streams:
        """The streams in what a block returns."""
        values = out if isinstance(out, tuple) else (out,)
        return self._parted(zip(self.blocks.returns, values, strict=False), lengths)

    def returned(self, streams: Streams, out: Any) -> Any:
        """Streams as a block returns them; in the shape of `out`, where that is known."""
        if self.blocks.joined:
            return self._joined(out, streams)
        values = tuple(streams.get(name) for name in self.blocks.returns)
        return values if len(values) > 1 else values[0]

    def _parted(self, found: Iterable[tuple[str, Any]], lengths: dict[str, int]) -> Streams:
        if not self.blocks.joined:
            return {name: tensor for name, tensor in found if tensor is not None}
        (whole,) = [tensor for _, tensor in found if tensor is not None]
        first, second = self.blocks.joined
        end = lengths[first]
        return {first: whole[:, :end], second: whole[:, end : end + lengths[second]]}

    def _joined(self, whole: Any, streams: Streams) -> Any:
        import torch

        first, second = self.blocks.joined
        rest = whole[:, streams[first].shape[1] + streams[second].shape[1] :]
        return torch.cat([streams[first], streams[second], rest], dim=1)


class Gate:
    """Where the engine meets one transformer: from block `head` on, blocks may be skipped; the last `tail` run."""

    def __init__(self, engine: Engine, blocks: Blocks, denoiser: Any, *, head: int, tail: int) -> None:
        self.engine, self.blocks, self.denoiser = engine, blocks, denoiser
        self.count = sum(len(getattr(denoiser, one.name)) for one in blocks.lists)
        self.head, self.end = head, self.count - tail
        self.context: Callable[[], str | None] = lambda: None
        self.pending: Pending | None = None
        self.skipping = False
        self._before: Streams = {}
        self._lengths: dict[str, int] = {}
        self._arguments: dict[str, Any] = {}
        self._embedded: dict[str, Any] = {}
        self._joined = any(one.joined for one in blocks.lists)
        self.modulated = blocks.variants.get(getattr(engine.cache.signal, "variant", None) or "", blocks.modulated)

    def embedded(self, module: Any, args: Any, out: Any) -> None:
        """Hook of the module that embeds the timestep."""
        self._embedded = {str(self.blocks.embedder): out}

    def forget(self) -> None:
        """Lets go of the last call's tensors."""
        self.pending, self._before, self._arguments, self._embedded = None, {}, {}, {}

    def boundary(self, index: int) -> bool:
        """Whether something happens at this block."""
        return index in (0, self.head - 1, self.end - 1, self.end)

    def run(self, index: int, layout: Layout, block: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        """Runs a block at a boundary; or, as the first one when all are skipped, does not."""
        if index == 0:
            arguments = layout.arguments(args, kwargs)
            self._begin(layout, block, arguments)
            if self.head == 0 and (standing := self._decide(self._before, block)):
                return layout.returned({**self._before, **standing}, arguments[layout.blocks.streams[0]])
        if index == self.end and self.pending:
            arguments = layout.arguments(args, kwargs)
            args, kwargs = (), layout.write(arguments, self._finish(layout.read(arguments, self._lengths)))
        out = block(*args, **kwargs)
        if index == self.head - 1:
            after = {**self._before, **layout.results(out, self._lengths)}
            if standing := self._decide(after, self._first):
                return layout.returned({**after, **standing}, out)
        if index == self.end - 1 == self.count - 1 and self.pending:
            call, after = self.pending, layout.results(out, self._lengths)
            finished = self._finish(after)
            return layout.returned(finished, out) if any(call.skip) else out
        return out

    def _begin(self, layout: Layout, block: Any, arguments: dict[str, Any]) -> None:
        self.pending, self.skipping, self._first = None, False, block
        self._before = layout.read(arguments, {})
        if self._joined:
            self._lengths = {name: tensor.shape[1] for name, tensor in self._before.items()}
        self._arguments = {**arguments, **self._embedded} if self._embedded else arguments

    def _decide(self, after: Streams, first: Any) -> Streams | None:
        """The stand-in, or None when the blocks must run."""
        branch = self.engine.branch(self.context(), self.denoiser)
        seen = Seen(
            at=self.engine.at(branch),
            before=self._before,
            after=after,
            latents=self.engine.latents,
            first_block=first,
            arguments=self._arguments,
            modulated=self.modulated,
            flow=self.engine.run.flow,
            channels=self.engine.run.channels,
            grid=self.engine.grid(),
        )
        names = self.blocks.used if self.end == self.count else tuple(after)
        outcome = self.engine.decide(branch, seen, {name: after[name] for name in names})
        self.skipping = not isinstance(outcome, Pending)
        if isinstance(outcome, Pending):
            self.pending = outcome
            return None
        return outcome

    def _finish(self, after: Streams) -> Streams:
        assert self.pending
        call, self.pending = self.pending, None
        return self.engine.computed(call, after)


class Boundary:
    """Stands for a block at which something happens."""

    def __init__(self, gate: Gate, index: int, layout: Layout, block: Any) -> None:
        self.gate, self.index, self.layout, self.block = gate, index, layout, block

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.gate.run(self.index, self.layout, self.block, args, kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.block, name)


@contextmanager
def attached_to_blocks(
    engine: Engine, denoiser: torch.nn.Module, blocks: Blocks, *, head: int, tail: int
) -> Iterator[None]:
    """The engine on one transformer; its own lists are back afterwards."""
    gate = Gate(engine, blocks, denoiser, head=head, tail=tail)
    lists = {one.name: getattr(denoiser, one.name) for one in blocks.lists}
    offset = 0
    embedder = denoiser.get_submodule(blocks.embedder) if blocks.embedder else None
    handle = embedder.register_forward_hook(gate.embedded) if embedder is not None else None
    try:
        for one in blocks.lists:
            gated = _gated_list(gate, one, lists[one.name], offset)
            offset += len(gated)
            if one is blocks.lists[0]:
                gate.context = cache_context(gated)
            setattr(denoiser, one.name, gated)
        _forget_child_hooks(denoiser)
        yield
    finally:
        if handle is not None:
            handle.remove()
        for name, original in lists.items():
            setattr(denoiser, name, original)
        gate.forget()
        _forget_child_hooks(denoiser)


def _gated_list(gate: Gate, blocks: BlockList, original: Any, offset: int) -> Any:
    """A list of the same blocks that ends early. Defined here because torch is imported late."""
    import torch

    # The first stream is `hidden_states` to signals and predictors, whatever the blocks' parameter is called.
    names = ("hidden_states", *gate.blocks.lists[0].streams[1:])

    yielded = [
        Boundary(gate, index, Layout(blocks, names, block), block) if gate.boundary(index) else block
        for index, block in enumerate(original, offset)
    ]

    class GatedList(torch.nn.ModuleList):
        def __iter__(self) -> Iterator[Any]:
            index = 0
            while index < len(yielded):
                if gate.skipping and 0 < index + offset < gate.end:
                    index = max(index + 1, gate.end - offset)
                    continue
                yield yielded[index]
                index += 1

    return GatedList(original)


def cache_context(module: torch.nn.Module) -> Callable[[], str | None]:
    """Tells which of diffusers' cache contexts (`denoiser.cache_context("cond")`) is open. The hook reads it for
    `module`, which must be inside the denoiser."""
    from diffusers.hooks import HookRegistry, ModelHook
    from diffusers.hooks.hooks import BaseState, StateManager

    states = StateManager(BaseState)

    class Contexts(ModelHook):
        _is_stateful = True

        def __init__(self) -> None:
            super().__init__()
            self.states = states

        def reset_state(self, module: torch.nn.Module) -> torch.nn.Module:
            return module

    HookRegistry.check_if_exists_or_initialize(module).register_hook(Contexts(), "wavespeed_contexts")
    return lambda: states._context.name if states._context is not None else None


def _forget_child_hooks(denoiser: torch.nn.Module) -> None:
    """The denoiser's hook registry remembers which children take part in cache contexts: make it look again."""
    registry: Any = getattr(denoiser, "_diffusers_hook", None)
    if registry is not None:
        registry.invalidate_child_registries_cache()

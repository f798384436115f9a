"""Attaches the engine to a transformer: its lists of blocks are replaced by lists that end early.

A denoiser runs `for block in self.transformer_blocks`. The lists put in place hold the same blocks, and stop yielding
them once the engine has decided to reuse; the output of the last block that ran then carries the prediction. So the
denoiser's own code runs unchanged: the arguments it passes to each block, and what it does between its lists. Nothing
is patched: no class, no forward, no block. Compiled blocks stay compiled, with every decision outside of them.

Why not `diffusers.hooks.apply_first_block_cache`, which makes the same decisions (tests compare with it): its hooks
have one threshold but no window and no limits, keep no trace, turn skipped blocks into identities one by one, take what
lies between the lists for an identity as well, and keep their state when a step raises.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ...models.family import BlockList, Blocks
from ..engine import Engine
from ..interfaces import DenoiserCall
from ..rows import Streams
from ..state import PendingCall
from .streams import StreamLayout

if TYPE_CHECKING:
    import torch


class BlockGate:
    """Connects the engine to one transformer: blocks from `head` on may be skipped, except the last `tail`."""

    def __init__(self, engine: Engine, blocks: Blocks, denoiser: torch.nn.Module, *, head: int, tail: int) -> None:
        """See `attach_to_transformer`."""
        self.engine, self.blocks, self.denoiser = engine, blocks, denoiser
        self.count = sum(len(getattr(denoiser, block_list.name)) for block_list in blocks.lists)
        self.head, self.end = head, self.count - tail
        self.context: Callable[[], str | None] = lambda: None
        """Tells the pipeline's cache context."""
        self.pending: PendingCall | None = None
        self.skipping = False
        self._first_block: Any = None
        self._before: Streams = {}
        self._lengths: dict[str, int] = {}
        """Tokens of each stream, where a later list joins streams."""
        self._arguments: dict[str, Any] = {}
        self._embedded: dict[str, Any] = {}
        self._joined = any(block_list.concatenated for block_list in blocks.lists)
        self.modulated = blocks.variants.get(
            getattr(engine.cache.signal, "variant", None) or "", blocks.modulated_input
        )

    def record_embedding(self, module: Any, args: Any, out: Any) -> None:
        """Forward hook of the module that embeds the timestep."""
        self._embedded = {str(self.blocks.timestep_embedder): out}

    def release_tensors(self) -> None:
        """Drops the last call's tensors."""
        self.pending, self._first_block, self._before, self._arguments, self._embedded = None, None, {}, {}, {}

    def is_boundary(self, index: int) -> bool:
        """True if something has to be done before or after this block."""
        return index in (0, self.head - 1, self.end - 1, self.end)

    def run_block(self, index: int, layout: StreamLayout, block: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        """Runs a block at a boundary, or, as the first one when all are skipped, does not run it."""
        if index == 0:
            arguments = layout.name_arguments(args, kwargs)
            self._begin_call(layout, block, arguments)
            if self.head == 0 and (predicted := self._decide(self._before)):
                return layout.write_results({**self._before, **predicted}, arguments[layout.blocks.streams[0]])
        if index == self.end and self.pending:
            arguments = layout.name_arguments(args, kwargs)
            streams = self._record_computed(layout.read_arguments(arguments, self._lengths))
            args, kwargs = (), layout.write_arguments(arguments, streams)
        out = block(*args, **kwargs)
        if index == self.head - 1:
            after = {**self._before, **layout.read_results(out, self._lengths)}
            if predicted := self._decide(after):
                return layout.write_results({**after, **predicted}, out)
        if index == self.end - 1 == self.count - 1 and self.pending:
            skip = self.pending.skip
            streams = self._record_computed(layout.read_results(out, self._lengths))
            return layout.write_results(streams, out) if any(skip) else out
        return out

    def _begin_call(self, layout: StreamLayout, block: Any, arguments: dict[str, Any]) -> None:
        self.pending, self.skipping, self._first_block = None, False, block
        self._before = layout.read_arguments(arguments, {})
        if self._joined:
            self._lengths = {name: tensor.shape[1] for name, tensor in self._before.items()}
        self._arguments = {**arguments, **self._embedded} if self._embedded else arguments

    def _decide(self, after: Streams) -> Streams | None:
        """Asks the engine. Returns the streams after the skipped blocks, or None if the blocks have to run."""
        engine = self.engine
        branch = engine.enter_branch(self.context(), self.denoiser)
        call = DenoiserCall(
            at=engine.locate_step(branch),
            before=self._before,
            after=after,
            latents=engine.latents,
            first_block=self._first_block,
            arguments=self._arguments,
            modulated=self.modulated,
            flow=engine.generation.flow,
            channel_axis=engine.generation.channel_axis,
            grid=engine.find_token_grid(),
        )
        names = self.blocks.output_streams if self.end == self.count else tuple(after)
        outcome = engine.decide(branch, call, {name: after[name] for name in names})
        self.skipping = not isinstance(outcome, PendingCall)
        if isinstance(outcome, PendingCall):
            self.pending = outcome
            return None
        return outcome

    def _record_computed(self, after: Streams) -> Streams:
        assert self.pending
        pending, self.pending = self.pending, None
        return self.engine.record_computed(pending, after)


class BoundaryBlock:
    """Takes the place of a block at a boundary, and hands its calls to the gate."""

    def __init__(self, gate: BlockGate, index: int, layout: StreamLayout, block: Any) -> None:
        """Takes the block, its index over all lists, and how it takes and returns streams."""
        self.gate, self.index, self.layout, self.block = gate, index, layout, block

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Calls the block by way of the gate."""
        return self.gate.run_block(self.index, self.layout, self.block, args, kwargs)

    def __getattr__(self, name: str) -> Any:
        """Everything else is the block's."""
        return getattr(self.block, name)


@contextmanager
def attach_to_transformer(
    engine: Engine, denoiser: torch.nn.Module, blocks: Blocks, *, head: int, tail: int
) -> Iterator[None]:
    """Keeps the engine attached to one transformer; afterwards its own lists of blocks are back.

    Args:
        engine: the engine.
        denoiser: the transformer.
        blocks: where it keeps its blocks.
        head: this many first blocks run before the decision.
        tail: this many last blocks always run.
    """
    gate = BlockGate(engine, blocks, denoiser, head=head, tail=tail)
    originals = {block_list.name: getattr(denoiser, block_list.name) for block_list in blocks.lists}
    offset = 0
    embedder = denoiser.get_submodule(blocks.timestep_embedder) if blocks.timestep_embedder else None
    handle = embedder.register_forward_hook(gate.record_embedding) if embedder is not None else None
    try:
        for block_list in blocks.lists:
            gated = _build_gated_list(gate, block_list, originals[block_list.name], offset)
            offset += len(gated)
            if block_list is blocks.lists[0]:
                gate.context = track_cache_context(gated)
            setattr(denoiser, block_list.name, gated)
        _refresh_child_hooks(denoiser)
        yield
    finally:
        if handle is not None:
            handle.remove()
        for name, original in originals.items():
            setattr(denoiser, name, original)
        gate.release_tensors()
        _refresh_child_hooks(denoiser)


def _build_gated_list(gate: BlockGate, blocks: BlockList, original: Any, offset: int) -> Any:
    """A list of the same blocks that ends early. The class is defined here because torch is imported late."""
    import torch

    # The first stream is `hidden_states` to signals and predictors, whatever the blocks' parameter is called.
    names = ("hidden_states", *gate.blocks.lists[0].streams[1:])

    yielded = [
        BoundaryBlock(gate, index, StreamLayout(blocks, names, block), block) if gate.is_boundary(index) else block
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


def track_cache_context(module: torch.nn.Module) -> Callable[[], str | None]:
    """A function that tells which of diffusers' cache contexts (`denoiser.cache_context("cond")`) is open.

    It reads the context through a hook on `module`, which must be inside the denoiser.
    """
    from diffusers.hooks import HookRegistry, ModelHook
    from diffusers.hooks.hooks import BaseState, StateManager

    states = StateManager(BaseState)

    class ContextHook(ModelHook):
        _is_stateful = True

        def __init__(self) -> None:
            super().__init__()
            self.states = states

        def reset_state(self, module: torch.nn.Module) -> torch.nn.Module:
            return module

    HookRegistry.check_if_exists_or_initialize(module).register_hook(ContextHook(), "wavespeed_contexts")
    return lambda: states._context.name if states._context is not None else None


def _refresh_child_hooks(denoiser: torch.nn.Module) -> None:
    """Makes the denoiser's hook registry look again for children that take part in cache contexts."""
    registry: Any = getattr(denoiser, "_diffusers_hook", None)
    if registry is not None:
        registry.invalidate_child_registries_cache()

"""Applies context parallelism to a loaded pipeline: its attention then works on the tokens of all ranks.

The tokens themselves are divided for one generation at a time (`sharding`).
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...config.schema import ParallelConfig
from ...errors import RunError
from ...models.family import Blocks, Family
from ..attention_routing import ROUTED, attend_with_dispatcher, calls_torch, route_processor
from ..memory import denoiser_names
from .attention import ParallelAttention, get_plain_attention
from .collectives import add_up
from .groups import Place, find_place
from .options import find_layout
from .plans import PLANS, Attention, Plan
from .sharding import divide_tokens
from .shares import Shares

if TYPE_CHECKING:
    import torch
    from diffusers import DiffusionPipeline
    from torch import Tensor

ROUTED_TO = "ranks"
"""Marks processors whose attention goes to all ranks."""


@dataclass(frozen=True, kw_only=True)
class ContextParallel:
    """The context parallelism of a pipeline, on this rank."""

    place: Place
    shares: Shares
    plans: dict[str, Plan]
    """Class of denoiser -> its plan."""
    blocks: Blocks

    @contextmanager
    def divide(self, denoisers: Sequence[torch.nn.Module]) -> Iterator[None]:
        """Keeps the tokens of these denoisers divided."""
        with ExitStack() as stack:
            for denoiser in denoisers:
                plan = self.plans[_name_class(denoiser)]
                stack.enter_context(divide_tokens(denoiser, self.blocks, plan, self.shares, self.place))
            yield

    def add_up(self, values: Tensor) -> Tensor:
        """Adds up a small tensor over the ranks that share the tokens."""
        return add_up(values, self.place.name_group("sequence"), "decision")


def apply_parallel(pipe: DiffusionPipeline, family: Family, parallel: ParallelConfig) -> ContextParallel | None:
    """Routes every attention of the denoisers' blocks whose tokens will be divided; None where tokens are not.

    Raises:
        RunError: a denoiser without a plan, or with an attention that its plan does not know: it would compute with
            this rank's tokens alone, without an error.
    """
    layout = find_layout(parallel)
    if layout.sequence == 1:
        return None
    blocks = family.blocks
    denoisers = [getattr(pipe, name) for name in denoiser_names(pipe)]
    plans = {_name_class(denoiser): PLANS.get(_name_class(denoiser)) for denoiser in denoisers}
    missing = next((name for name, plan in plans.items() if plan is None), None)
    if missing or not isinstance(blocks, Blocks):
        raise RunError(
            f"parallel={parallel.name}: it is not known how the tokens of {missing or _name_class(denoisers[0])} are "
            "divided; use parallel=cfg or parallel=data"
        )
    place = find_place(layout)
    shares = Shares(ranks=layout.sequence, rank=place.sequence_rank)
    known: dict[str, Plan] = {name: plan for name, plan in plans.items() if plan is not None}
    for denoiser in denoisers:
        _route_attention(denoiser, blocks, known[_name_class(denoiser)], place, shares, parallel.name)
    return ContextParallel(place=place, shares=shares, plans=known, blocks=blocks)


def _route_attention(
    denoiser: torch.nn.Module, blocks: Blocks, plan: Plan, place: Place, shares: Shares, option: str
) -> None:
    kinds: dict[Any, ParallelAttention] = {}
    for name, module in _list_attention(denoiser, blocks):
        last = name.rpartition(".")[2]
        if last in plan.local:
            continue
        if last not in plan.attention:
            raise RunError(
                f"parallel={option}: {_name_class(denoiser)} has an attention {name} that is not in its plan; it would "
                "see the tokens of one rank alone; use parallel=none"
            )
        processor, attend = _free_processor(module.processor, name)
        spec = plan.attention[last]
        if (spec, attend) not in kinds:
            kinds[spec, attend] = _build_attention(spec, plan, place, shares, attend)
        module.processor = route_processor(processor, ROUTED_TO, kinds[spec, attend])


def _build_attention(
    spec: Attention, plan: Plan, place: Place, shares: Shares, attend: Callable[..., Any]
) -> ParallelAttention:
    return ParallelAttention(
        place=place, shares=shares, queries=spec.queries, keys=spec.keys, attend=attend, pairs=plan.pairs
    )


def _free_processor(processor: Any, name: str) -> tuple[Any, Callable[..., Any]]:
    """A processor that calls torch's attention, and what should compute that on one rank: its backend, if it has one."""
    from diffusers.models.attention_dispatch import AttentionBackendName

    if hasattr(processor, ROUTED):  # an attention backend has routed it already
        return copy.copy(processor.original), processor.attend
    if hasattr(processor, "_attention_backend"):
        backend = processor._attention_backend
        free = copy.copy(processor)
        free._attention_backend = AttentionBackendName.NATIVE
        plain = backend in (None, AttentionBackendName.NATIVE)
        return free, get_plain_attention() if plain else attend_with_dispatcher(backend)
    if calls_torch(processor):
        return processor, get_plain_attention()
    raise RunError(f"parallel: the attention {name} ({type(processor).__name__}) calls nothing that could be divided")


def _list_attention(denoiser: torch.nn.Module, blocks: Blocks) -> list[tuple[str, torch.nn.Module]]:
    """(name, module) of everything in the denoiser's blocks that has an attention processor."""
    return [
        (f"{block_list.name}.{name}", module)
        for block_list in blocks.lists
        for name, module in getattr(denoiser, block_list.name).named_modules()
        if callable(getattr(module, "processor", None))
    ]


def collect_evidence(pipe: DiffusionPipeline, family: Family, parallel: ParallelConfig) -> dict[str, Any] | None:
    """Evidence for the record's `engaged.parallel`, read from the pipeline's modules. None for one process."""
    layout = find_layout(parallel)
    if layout.ranks == 1:
        return None
    evidence: dict[str, Any] = {"kind": parallel.name, "ranks": layout.ranks}
    evidence |= {name: degree for name in ("ulysses", "ring", "cfg") if (degree := getattr(layout, name)) > 1}
    if layout.sequence > 1 and isinstance(family.blocks, Blocks):
        divided: Counter[str] = Counter()
        whole: Counter[str] = Counter()
        for name in denoiser_names(pipe):
            for _, module in _list_attention(getattr(pipe, name), family.blocks):
                processor = module.processor
                is_divided = getattr(processor, ROUTED, None) == ROUTED_TO
                (divided if is_divided else whole)[type(processor).__mro__[is_divided].__name__] += 1
        evidence["attention"] = {"divided": dict(divided), "local": dict(whole)}
    return evidence


def _name_class(denoiser: torch.nn.Module) -> str:
    return type(denoiser).__name__

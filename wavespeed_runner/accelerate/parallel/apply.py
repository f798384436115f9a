"""Applies context parallelism to a loaded pipeline: its attention then works on the tokens of all ranks.

The tokens themselves are divided for one generation at a time (`sharding`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, cast

from ...config.schema import ParallelConfig
from ...errors import RunError
from ...models.family import Blocks, Family
from ..attention_routing import ROUTED, attend_with_dispatcher, calls_torch, route_processor
from ..memory import denoiser_names
from .attention import ParallelAttention, get_plain_attention
from .collectives import GROUPS, add_up
from .dispatch import divide_processor
from .groups import Place, find_place
from .guidance import BranchDivider, divide_branches
from .options import DividedOptions, find_layout
from .plans import PLANS, Attention, Plan
from .sharding import divide_tokens
from .shares import Shares
from .tiles import TileDivider, divide_tiles, refuse_indivisible

if TYPE_CHECKING:
    import torch
    from diffusers import DiffusionPipeline
    from torch import Tensor

ROUTED_TO = "ranks"
"""Marks processors whose attention goes to all ranks."""


@dataclass(kw_only=True)
class Parallel:
    """The parallelism of a pipeline, on this rank."""

    place: Place
    blocks: Any
    """`Family.blocks`."""
    check: bool
    """`parallel.check`."""
    vae: bool = False
    """`parallel.vae`: the tiles of the autoencoder are divided too."""
    shares: Shares | None = None
    """None where tokens are not divided."""
    plans: dict[str, Plan] = field(default_factory=dict)
    """Class of denoiser -> its plan."""
    _branches: list[BranchDivider] = field(default_factory=list)

    @contextmanager
    def divide(self, denoisers: Sequence[torch.nn.Module], images: int) -> Iterator[None]:
        """Keeps these denoisers divided for one generation of so many images."""
        with ExitStack() as stack:
            stack.callback(self._branches.clear)
            for denoiser in denoisers:
                if self.shares:
                    plan = self.plans[_name_class(denoiser)]
                    stack.enter_context(divide_tokens(denoiser, self.blocks, plan, self.shares, self.place))
                if self.place.layout.cfg > 1:
                    self._branches.append(stack.enter_context(divide_branches(denoiser, self.place, images)))
            yield

    def divide_tiles(self, vae: torch.nn.Module) -> AbstractContextManager[TileDivider]:
        """Keeps the tiles of an autoencoder divided; see `tiles.divide_tiles`."""
        return divide_tiles(vae, self.place)

    @property
    def has_separate_branches(self) -> bool:
        """True if the pipeline has made one call for each guidance branch, which are on two ranks."""
        return any(branch.stacked is False for branch in self._branches)

    def find_first_branch(self) -> int:
        """Which guidance branch of a step is the first one that this rank computes: 0 or 1."""
        return self.place.branch if self.has_separate_branches else 0

    def compare(self, values: Tensor) -> float:
        """How much a tensor that should be the same on all ranks differs between them, relative (L2)."""
        import torch

        mean = add_up(values.float(), self.place.name_group("all"), "check") / self.place.layout.ranks
        apart = (values.float() - mean).square().sum() / mean.square().sum().clamp_min(1e-24)
        return float(add_up(torch.stack([apart]), self.place.name_group("all"), "check").sqrt())

    def join_decisions(self, decisions: list[Any]) -> list[Any]:
        """The decisions of both guidance branches, where each rank has made those of one; by step."""
        from torch import distributed as dist

        if not self.has_separate_branches:
            return decisions
        group, parts = GROUPS[self.place.name_group("cfg")], [None] * self.place.layout.cfg
        dist.all_gather_object(parts, decisions, group=group)
        first, second = cast(list[list[Any]], parts)
        if {decision.branch for decision in first} & {decision.branch for decision in second}:
            # Pipelines that do not name their branches: each rank counts its own call as the first one of the step.
            second = [replace(decision, branch="call 1") for decision in second]
        return sorted([*first, *second], key=lambda decision: decision.step)

    def end_step(self) -> None:
        """Called when the sampler has made a step. Raises RunError if the step had one guidance branch alone."""
        for branch in self._branches:
            branch.end()

    def add_up(self, values: Tensor) -> Tensor:
        """Adds up a small tensor over the ranks that share the tokens, and the guidance branches if they are one batch.

        A strategy decides for a batch as a whole, and for calls of their own each by itself.
        """
        group = "all" if any(branch.stacked for branch in self._branches) else "sequence"
        if group == "sequence" and self.place.layout.sequence == 1:
            return values
        return add_up(values, self.place.name_group(group), "decision")


def apply_parallel(pipe: DiffusionPipeline, family: Family, parallel: ParallelConfig) -> Parallel | None:
    """Routes every attention of the denoisers' blocks whose tokens will be divided; None for one process.

    Raises:
        RunError: a denoiser without a plan, or with an attention that its plan does not know: it would compute with
            this rank's tokens alone, without an error.
    """
    layout = find_layout(parallel)
    if layout.ranks == 1 or layout.data > 1:
        return None
    assert isinstance(parallel, DividedOptions)
    if parallel.vae:
        refuse_indivisible(pipe.vae)
    plans = _find_plans(pipe, family, parallel) if layout.sequence > 1 else {}
    place = find_place(layout, parallel.timeout)
    applied = Parallel(place=place, blocks=family.blocks, check=parallel.check, vae=parallel.vae, plans=plans)
    if plans:
        assert isinstance(family.blocks, Blocks)
        applied.shares = shares = Shares(ranks=layout.sequence, rank=place.sequence_rank)
        for denoiser in _list_denoisers(pipe):
            plan = plans[_name_class(denoiser)]
            _route_attention(denoiser, family.blocks, plan, place, shares, parallel.name)
    return applied


def _find_plans(pipe: DiffusionPipeline, family: Family, parallel: ParallelConfig) -> dict[str, Plan]:
    """Class of denoiser -> its plan."""
    names = [_name_class(denoiser) for denoiser in _list_denoisers(pipe)]
    missing = [name for name in names if name not in PLANS or not isinstance(family.blocks, Blocks)]
    if missing:
        raise RunError(
            f"parallel={parallel.name}: it is not known how the tokens of {missing[0]} are divided; use parallel=cfg "
            "or parallel=data"
        )
    return {name: PLANS[name] for name in names}


def _list_denoisers(pipe: DiffusionPipeline) -> list[torch.nn.Module]:
    return [getattr(pipe, name) for name in denoiser_names(pipe)]


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
        heads = getattr(module, "heads", None)
        if heads is not None and place.layout.ulysses > heads:
            raise RunError(
                f"parallel={option}: {place.layout.ulysses} ranks exchange heads, and {name} of "
                f"{_name_class(denoiser)} has {heads}; use fewer, or parallel=ring"
            )
        processor, attend = _free_processor(module.processor, name)
        spec = plan.attention[last]
        if (spec, attend) not in kinds:
            kinds[spec, attend] = _build_attention(spec, plan, place, shares, attend)
        if hasattr(processor, "_parallel_config"):
            module.processor = divide_processor(processor, kinds[spec, attend])
        else:
            module.processor = route_processor(processor, ROUTED_TO, kinds[spec, attend])


def _build_attention(
    spec: Attention, plan: Plan, place: Place, shares: Shares, attend: Callable[..., Any]
) -> ParallelAttention:
    return ParallelAttention(
        place=place, shares=shares, queries=spec.queries, keys=spec.keys, attend=attend, pairs=plan.pairs
    )


def _free_processor(processor: Any, name: str) -> tuple[Any, Callable[..., Any]]:
    """A processor that calls torch's attention, and what computes that on one rank: its backend, if it has one."""
    from diffusers.models.attention_dispatch import AttentionBackendName

    if hasattr(processor, ROUTED):  # an attention backend has routed it already
        return processor.original, processor.attend
    if hasattr(processor, "_attention_backend"):
        backend = processor._attention_backend
        plain = backend in (None, AttentionBackendName.NATIVE)
        return processor, get_plain_attention() if plain else attend_with_dispatcher(backend)
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
    evidence: dict[str, Any] = {"kind": parallel.name}
    evidence |= {name: degree for name in ("ulysses", "ring", "cfg") if (degree := getattr(layout, name)) > 1}
    if layout.sequence > 1 and isinstance(family.blocks, Blocks):
        divided: Counter[str] = Counter()
        whole: Counter[str] = Counter()
        for name in denoiser_names(pipe):
            for _, module in _list_attention(getattr(pipe, name), family.blocks):
                (divided if _is_divided(module.processor) else whole)[_name_processor(module.processor)] += 1
        evidence["attention"] = {"divided": dict(divided), "local": dict(whole)}
    return evidence


def _is_divided(processor: Any) -> bool:
    taken = isinstance(getattr(processor, "_parallel_config", None), ParallelAttention)
    return taken or getattr(processor, ROUTED, None) == ROUTED_TO


def _name_processor(processor: Any) -> str:
    """The name of a processor's class, as diffusers calls it."""
    return type(processor).__mro__[hasattr(processor, ROUTED)].__name__


def _name_class(denoiser: torch.nn.Module) -> str:
    return type(denoiser).__name__

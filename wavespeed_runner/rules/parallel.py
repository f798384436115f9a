"""Rules on what can be divided among ranks: tokens, guidance branches, and what does not go together with that."""

from __future__ import annotations

from ..accelerate.compile_options import CompileOptions, CompileTarget
from ..accelerate.parallel.geometry import find_geometry
from ..accelerate.parallel.options import find_layout
from ..accelerate.parallel.shares import divide
from ..caching.attach.diffusers_options import DiffusersHookOptions
from ..config.schema import Config, GuidanceBranches
from ..models.family import Blocks, Family, UNetBlocks, uses_cfg
from .cache import is_cached
from .compile import CUDA_GRAPHS
from .rule import Rule

MIXING = {"sana": "its linear attention and its convolutions mix tokens"}
"""Families whose tokens are in blocks and cannot be divided, and why."""


def divides_tokens(c: Config) -> bool:
    """True if ranks share the tokens of an image."""
    return find_layout(c.parallel).sequence > 1


def divides_branches(c: Config) -> bool:
    """True if the guidance branches are on different ranks."""
    return find_layout(c.parallel).cfg > 1


def is_divided(c: Config) -> bool:
    """True if ranks share an image."""
    return divides_tokens(c) or divides_branches(c)


def _is_guided(c: Config, f: Family) -> bool:
    return uses_cfg(c.model, c.guidance_scale, off=f.unguided_scale)


def _has_dividable_tokens(c: Config, f: Family) -> bool:
    return isinstance(f.blocks, Blocks) and c.model.name not in MIXING


def _suggest_whole_branches(c: Config, f: Family) -> str:
    """Ranks that each have both guidance branches."""
    if c.parallel.name != "cfg":
        return "parallel.cfg=false"
    return "parallel=ulysses" if _has_dividable_tokens(c, f) else "parallel=data"


def _explain_undividable(c: Config, f: Family) -> str:
    if isinstance(f.blocks, UNetBlocks):
        why = "a U-Net has no sequence of tokens"
    else:
        why = MIXING.get(c.model.name, "it is not known where its tokens are")
    return f"parallel={c.parallel.name}: the tokens of model={c.model.name} cannot be divided: {why}"


def _count_heads(c: Config) -> int | None:
    """Heads of the attention; None where that is not known."""
    if c.width is None or c.height is None:
        return None
    geometry = find_geometry(c.model, width=c.width, height=c.height, num_frames=c.num_frames)
    return geometry.heads if geometry else None


def _list_degrees(c: Config) -> str:
    heads = _count_heads(c) or 1
    return ", ".join(str(degree) for degree in range(2, heads + 1) if heads % degree == 0) or "none"


def _has_uneven_heads(c: Config) -> bool:
    degree, heads = find_layout(c.parallel).ulysses, _count_heads(c)
    return heads is not None and degree <= heads and heads % degree != 0


def _compiles_whole(c: Config) -> bool:
    o = c.compile
    return isinstance(o, CompileOptions) and CompileTarget.denoiser in o.target and not (o.regional or o.disable)


def _uses_cuda_graphs(c: Config) -> bool:
    o = c.compile
    return isinstance(o, CompileOptions) and (o.backend == "cudagraphs" or o.mode in CUDA_GRAPHS)


def _predicts_by_dmd(c: Config) -> bool:
    return is_cached(c) and getattr(c.cache.predictor, "name", "") == "dmd"


PARALLEL: tuple[Rule, ...] = (
    Rule(
        id="parallel-family",
        verdict="bad",
        when=lambda c, f: divides_tokens(c) and not _has_dividable_tokens(c, f),
        message=_explain_undividable,
        fix="parallel=cfg where there is guidance, or parallel=data",
        source="tests/accelerate/parallel/test_families.py",
    ),
    Rule(
        id="parallel-whole-pipeline",
        verdict="bad",
        when=lambda c, f: divides_branches(c) and f.single_call,
        message="parallel={c.parallel.name}: it is not known how this pipeline calls its denoiser",
        fix="parallel=data, or parallel=none",
    ),
    Rule(
        id="parallel-cfg-guidance",
        verdict="bad",
        when=lambda c, f: divides_branches(c) and not f.single_call and not _is_guided(c, f),
        message="parallel={c.parallel.name} with guidance_scale={c.guidance_scale}: there is one guidance branch, so "
        "half of the ranks would have nothing to do",
        fix=lambda c, f: f"a guidance_scale that takes effect, or {_suggest_whole_branches(c, f)}",
        source="tests/accelerate/parallel/test_guidance.py",
    ),
    Rule(
        id="parallel-cfg-truncated",
        verdict="bad",
        when=lambda c, f: divides_branches(c) and getattr(c.model, "cfg_trunc_ratio", 1.0) < 1.0,
        message="parallel={c.parallel.name} with model.cfg_trunc_ratio={c.model.cfg_trunc_ratio}: after that share of "
        "the steps there is one guidance branch",
        fix=lambda c, f: f"model.cfg_trunc_ratio=1.0, or {_suggest_whole_branches(c, f)}",
        source="tests/accelerate/parallel/test_guidance.py",
    ),
    Rule(
        id="parallel-cfg-first-branch",
        verdict="bad",
        when=lambda c, f: divides_branches(c) and is_cached(c) and c.cache.guidance_branches is GuidanceBranches.first,
        message="cache.guidance_branches=first with parallel={c.parallel.name}: the branches are on different ranks, "
        "and each decides by itself",
        fix=lambda c, f: f"cache.guidance_branches=separate, or {_suggest_whole_branches(c, f)}",
    ),
    Rule(
        id="parallel-heads",
        verdict="bad",
        when=lambda c, f: divides_tokens(c) and find_layout(c.parallel).ulysses > (_count_heads(c) or 10**9),
        message=lambda c, f: (
            f"parallel={c.parallel.name}: {find_layout(c.parallel).ulysses} ranks exchange heads, and this model has "
            f"{_count_heads(c)}"
        ),
        fix="fewer ranks; parallel=unified with parallel.ulysses_degree up to the heads; or parallel=ring",
        source="https://arxiv.org/abs/2405.07719, https://github.com/feifeibear/long-context-attention README",
    ),
    Rule(
        id="parallel-uneven-heads",
        verdict="good",
        when=lambda c, f: divides_tokens(c) and _has_uneven_heads(c),
        message=lambda c, f: (
            f"parallel={c.parallel.name}: {_count_heads(c)} heads on {find_layout(c.parallel).ulysses} ranks are "
            f"{max(divide(_count_heads(c) or 1, find_layout(c.parallel).ulysses))} on some and fewer on others, which "
            f"wait; degrees that divide them: {_list_degrees(c)}"
        ),
        source="tests/accelerate/parallel/test_attention.py",
    ),
    Rule(
        id="parallel-ring-attention",
        verdict="bad",
        when=lambda c, f: find_layout(c.parallel).ring > 1 and c.attention.name != "none",
        message="attention={c.attention.name} with parallel={c.parallel.name}: a ring merges parts of an attention by "
        "the sums of their exponentials, which are taken from torch's own kernels alone here",
        fix="attention=none (torch's own kernels), or parallel=ulysses",
        source="https://arxiv.org/abs/2310.01889",
    ),
    Rule(
        id="parallel-diffusers-cache",
        verdict="bad",
        when=lambda c, f: is_divided(c) and isinstance(c.cache, DiffusersHookOptions),
        message="cache={c.cache.title} with parallel={c.parallel.name}: diffusers' hooks know nothing of other ranks",
        fix="another strategy (cache=fbcache), or parallel=data",
    ),
    Rule(
        id="parallel-dmd",
        verdict="bad",
        when=lambda c, f: divides_tokens(c) and c.model.name == "ltx2" and _predicts_by_dmd(c),
        message="cache.predictor=dmd with parallel={c.parallel.name}: it compares all streams at once, and the sound "
        "of this model is whole on every rank",
        fix="cache/predictor=taylor, or parallel=data",
        source="tests/accelerate/parallel/test_decisions.py",
    ),
    Rule(
        id="parallel-per-tensor",
        verdict="unverified",
        when=lambda c, f: is_divided(c) and c.quant.name == "fp8_dq",
        message="quant=fp8_dq with parallel={c.parallel.name}: it scales the input of a layer by its largest number, "
        "which each rank takes of its own tokens, so images differ slightly from those of one process",
        fix="quant=fp8_dq_row, which scales each token",
        source="wavespeed_runner/accelerate/quant_options.py",
    ),
    Rule(
        id="parallel-one-rank",
        verdict="unverified",
        when=lambda c, f: c.parallel.name != "none" and find_layout(c.parallel).ranks == 1,
        message="parallel={c.parallel.name}: there is one rank, so nothing is divided",
        fix="parallel=none, or a degree of 2 or more",
    ),
    Rule(
        id="parallel-compile-whole",
        verdict="bad",
        when=lambda c, f: divides_tokens(c) and _compiles_whole(c),
        message="compile.regional=false with parallel={c.parallel.name}: tokens are divided before the first block, "
        "in the middle of what would be one graph",
        fix="compile=regional, which compiles the blocks",
        source="tests/accelerate/parallel/test_combinations.py",
    ),
    Rule(
        id="parallel-cuda-graphs",
        verdict="bad",
        when=lambda c, f: divides_tokens(c) and _uses_cuda_graphs(c),
        message="compile.mode={c.compile.mode} with parallel={c.parallel.name}: messages of ranks are not captured in "
        "CUDA graphs here",
        fix="compile.mode=max-autotune-no-cudagraphs compile.regional=true",
    ),
)

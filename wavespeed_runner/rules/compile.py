"""Rules on what compilation can be combined with."""

from __future__ import annotations

from ..accelerate.compilation import CUDA_GRAPHS
from ..accelerate.compile_options import CompileOptions, CompileTarget
from ..accelerate.memory import GroupType, MemorySettings, Offload
from ..caching.attach.diffusers_options import DiffusersHookOptions
from ..config.environment import resolve_device
from ..config.schema import Config
from .cache import is_cached, uses_engine
from .compile_needs import NEEDS, get_compile, if_compiling
from .rule import Rule

BREAKING = {
    CompileTarget.denoiser: ("hidream",),
    CompileTarget.vae: ("hunyuan_video15", "hunyuan_video15_i2v"),
    CompileTarget.text_encoders: (
        *("flux2", "flux2_klein", "hidream", "hunyuan_video", "hunyuan_video_i2v", "hunyuan_video15"),
        *("hunyuan_video15_i2v", "ltx2", "lumina2", "qwen_image", "qwen_image_edit", "qwen_image_edit_plus"),
        *("sd3", "sdxl", "z_image"),
    ),
}
"""What of which families cannot be one graph: experts chosen by the tokens, a mask that is read, and transformers' way
of handing out hidden states."""


def _get_memory(c: Config) -> MemorySettings:
    assert isinstance(c.memory, MemorySettings)
    return c.memory


def _compiles_denoiser(o: CompileOptions) -> bool:
    return CompileTarget.denoiser in o.target


def _is_whole(o: CompileOptions) -> bool:
    """True if the denoiser becomes one graph, its blocks included."""
    return _compiles_denoiser(o) and not o.regional


def _uses_cuda_graphs(o: CompileOptions) -> bool:
    return o.backend == "cudagraphs" or (o.backend == "inductor" and o.mode in CUDA_GRAPHS)


def _offloads_in_groups(c: Config) -> bool:
    return _get_memory(c).offload is Offload.group


def _list_breaking(o: CompileOptions | None, c: Config) -> list[str]:
    """The targets that break the graph in this family."""
    return [target.value for target in (o.target if o else ()) if c.model.name in BREAKING[target]]


FITS: tuple[Rule, ...] = (
    Rule(
        id="compile-cuda-graphs-device",
        verdict="bad",
        when=if_compiling(lambda o, c, f: _uses_cuda_graphs(o) and not resolve_device(c.device).startswith("cuda")),
        message="compile.mode={c.compile.mode}, compile.backend={c.compile.backend}: CUDA graphs exist on CUDA alone, "
        "so they could not take effect on device={c.device}",
        fix="compile=max_autotune_no_cudagraphs, compile=default or compile=regional",
        source="torch._inductor.cudagraph_trees (torch 2.13)",
    ),
    Rule(
        id="compile-cuda-graphs-cache",
        verdict="bad",
        when=if_compiling(lambda o, c, f: _uses_cuda_graphs(o) and is_cached(c)),
        message="compile.mode={c.compile.mode} with cache={c.cache.title}: a CUDA graph writes its outputs to the same "
        "memory at every replay, and a cache keeps them from step to step",
        fix="compile=regional, or compile.mode=max-autotune-no-cudagraphs compile.regional=true",
        source="https://docs.pytorch.org/docs/stable/torch.compiler_cudagraph_trees.html",
    ),
    Rule(
        id="compile-cuda-graphs-regional",
        verdict="bad",
        when=if_compiling(lambda o, c, f: _uses_cuda_graphs(o) and o.regional),
        message="compile.mode={c.compile.mode} with compile.regional=true: the output of a block is the input of the "
        "next one, and a CUDA graph writes its outputs to the same memory at every replay",
        fix="compile=reduce_overhead for the whole denoiser, or compile=regional without CUDA graphs",
        source="https://docs.pytorch.org/docs/stable/torch.compiler_cudagraph_trees.html",
    ),
    Rule(
        id="compile-cuda-graphs-offload",
        verdict="bad",
        when=if_compiling(lambda o, c, f: _uses_cuda_graphs(o) and _get_memory(c).offload is not Offload.none),
        message="compile.mode={c.compile.mode} with memory.offload={c.memory.offload.value}: weights that come back to "
        "the device have other addresses, and a CUDA graph is recorded again for them",
        fix="memory=none, or compile=regional without CUDA graphs",
        source="https://docs.pytorch.org/docs/stable/torch.compiler_cudagraph_trees.html",
    ),
    Rule(
        id="compile-cuda-graphs-dynamic",
        verdict="unverified",
        when=if_compiling(lambda o, c, f: _uses_cuda_graphs(o) and o.dynamic),
        message="compile.mode={c.compile.mode} with compile.dynamic=true: a CUDA graph has fixed shapes, so one is "
        "recorded for each shape",
        fix="compile.dynamic=false, or a mode without CUDA graphs",
        source="torch._inductor.config, triton.cudagraph_skip_dynamic_graphs (torch 2.13)",
    ),
    Rule(
        id="compile-hooks",
        verdict="bad",
        when=if_compiling(lambda o, c, f: _compiles_denoiser(o) and isinstance(c.cache, DiffusersHookOptions)),
        message="cache={c.cache.title} hooks attention inside of the compiled blocks: diffusers' hooks break the "
        "graph, and those of pab are compiled again in every generation",
        fix="compile=none, or a strategy that decides between blocks (cache=fbcache)",
        source="tests/accelerate/test_compile_refused.py",
    ),
    Rule(
        id="compile-whole-cache",
        verdict="bad",
        when=if_compiling(lambda o, c, f: _is_whole(o) and uses_engine(c)),
        message="cache={c.cache.title} decides between the blocks of the denoiser, and compile.regional=false makes "
        "one graph of them: decisions would be compiled, again in every generation",
        fix="compile.regional=true",
        source="tests/accelerate/test_compile_refused.py",
    ),
    Rule(
        id="compile-group-offload",
        verdict="bad",
        when=if_compiling(
            lambda o, c, f: (
                _offloads_in_groups(c)
                and (_is_whole(o) or _get_memory(c).group_type is GroupType.leaf_level or len(o.target) > 1)
            )
        ),
        message="memory.offload=group fetches weights through hooks that break a graph around them; only with "
        "memory.group_type=block_level and blocks of the denoiser compiled one by one are they outside of the graphs",
        fix="compile.regional=true memory.group_type=block_level compile.target=[denoiser]",
        source="tests/accelerate/test_compile_refused.py, tests/accelerate/test_order.py",
    ),
    Rule(
        id="compile-casting",
        verdict="bad",
        when=if_compiling(lambda o, c, f: _compiles_denoiser(o) and _get_memory(c).layerwise_casting is not None),
        message="memory.layerwise_casting casts weights through hooks on every layer, inside of the compiled blocks, "
        "which break the graph",
        fix="memory=none, or quant=fp8_wo, which keeps 8-bit weights inside of the graph",
        source="tests/accelerate/test_compile_refused.py",
    ),
    Rule(
        id="compile-breaks",
        verdict="bad",
        when=if_compiling(lambda o, c, f: o.fullgraph and bool(_list_breaking(o, c))),
        message=lambda c, f: (
            f"compile.fullgraph=true: of this model, {' and '.join(_list_breaking(get_compile(c), c))} cannot be "
            "compiled as one graph"
        ),
        fix="compile.fullgraph=false, or leave it out of compile.target",
        source="tests/accelerate/test_compile_refused.py, tests/accelerate/test_compile_families.py",
    ),
    Rule(
        id="compile-vae-tiling",
        verdict="unverified",
        when=if_compiling(lambda o, c, f: CompileTarget.vae in o.target and _get_memory(c).vae_tiling),
        message="memory.vae_tiling=true with compile.target=vae: tiles at the edges have other shapes, and each shape "
        "is compiled",
        fix="compile.dynamic=true",
    ),
    Rule(
        id="compile-static-shapes",
        verdict="unverified",
        when=if_compiling(lambda o, c, f: not o.dynamic and _denoises_twice(c)),
        message="compile.dynamic=false: the passes of this graph may have several shapes, and each is compiled for "
        "itself, in a warm-up of its own",
        fix="compile.dynamic=true, one graph for all shapes",
        source="tests/accelerate/test_compile_shapes.py",
    ),
)

COMPILING = (*NEEDS, *FITS)


def _denoises_twice(c: Config) -> bool:
    return sum(stage.stage == "denoise" for stage in c.graph.stages.values()) > 1

"""Rules on adapters and memory settings: what they fit, and what they do together."""

from __future__ import annotations

from ..accelerate.adapter_options import values_per_path
from ..accelerate.memory import NONE, GroupType, MemorySettings, Offload
from ..config.schema import Config
from ..models.family import Family, UNetBlocks
from .cache import is_cached, uses_engine
from .rule import Rule


def _get_memory(c: Config) -> MemorySettings:
    assert isinstance(c.memory, MemorySettings)
    return c.memory


def _list_group_keys(memory: MemorySettings) -> tuple[object, ...]:
    return memory.group_type, memory.blocks_per_group, memory.use_stream


def _is_group_offload(c: Config) -> bool:
    return _get_memory(c).offload is Offload.group


def _list_components(c: Config) -> list[str | None]:
    """The part of the pipeline that each LoRA goes into; None for the denoiser."""
    given = getattr(c.adapters, "component", None)
    return list(given) if isinstance(given, list) else [given]


def _list_denoisers(f: Family) -> list[str]:
    return [name for name in (f.denoiser, f.denoiser_2) if name]


def _list_twice(c: Config) -> list[str]:
    """The paths that are given more than once for the same part of the pipeline and the same file."""
    if c.adapters.name != "lora":
        return []
    keys = ("path", "file", "component")
    given = list(zip(*(values_per_path(c.adapters, key) for key in keys), strict=True))
    return [str(one[0]) for place, one in enumerate(given) if one in given[:place]]


ADAPTERS: tuple[Rule, ...] = (
    Rule(
        id="adapters-fit",
        verdict="bad",
        when=lambda c, f: c.adapters.name != "none" and c.adapters.name not in f.adapters,
        message="adapters={c.adapters.name}: diffusers cannot load any into this model",
        fix="adapters=none; this model takes: {f.adapter_names}",
        source="tests/models/test_every_model.py",
    ),
    Rule(
        id="adapters-model",
        verdict="bad",
        when=lambda c, f: bool(models := getattr(c.adapters, "models", [])) and c.model.name not in models,
        message=lambda c, f: (
            f"adapters.path={c.adapters.path}: it is for {' or '.join(getattr(c.adapters, 'models', []))}, and the "
            f"model is {c.model.name}"
        ),
        fix="another model, another LoRA, or adapters.models=[] where you know that it fits",
    ),
    Rule(
        id="adapters-path",
        verdict="bad",
        when=lambda c, f: c.adapters.name == "none" and c.adapters.path is not None,
        message="adapters=none with adapters.path={c.adapters.path}: nothing is loaded, so it could not take effect",
        fix="adapters=lora",
    ),
    Rule(
        id="adapters-component",
        verdict="bad",
        when=lambda c, f: any(part not in (None, *_list_denoisers(f)) for part in _list_components(c)),
        message=lambda c, f: (
            f"adapters.component={c.adapters.component}: this model has no such denoiser; "  # type: ignore[attr-defined]
            f"allowed: null, {', '.join(_list_denoisers(f))}"
        ),
        fix="leave it out",
        source="tests/accelerate/test_adapters_of_families.py",
    ),
    Rule(
        id="adapters-half",
        verdict="unverified",
        when=lambda c, f: (
            c.adapters.name == "lora"
            and f.denoiser_2 is not None
            and len({part or f.denoiser for part in _list_components(c)}) == 1
        ),
        message="this model has two denoisers, {f.denoiser} and, for low noise, {f.denoiser_2}; the LoRA "
        "goes into one of them, and the other's steps run without it",
        fix="one for each: adapters.path=[A,B] adapters.component=[{f.denoiser},{f.denoiser_2}]",
        source="diffusers WanLoraLoaderMixin, load_into_transformer_2",
    ),
    Rule(
        id="adapters-twice",
        verdict="unverified",
        when=lambda c, f: len(_list_twice(c)) > 0,
        message=lambda c, f: f"adapters.path: {_list_twice(c)[0]} is there more than once, so it acts as often",
        fix="once, with the sum of its weights in adapters.weight",
    ),
    Rule(
        id="adapters-fused",
        verdict="unverified",
        when=lambda c, f: bool(getattr(c.adapters, "fuse", False)) and _get_memory(c).layerwise_casting is not None,
        message="adapters.fuse=true and memory.layerwise_casting: the adapter is rounded to 8 bits with the weights",
        fix="adapters.fuse=false",
    ),
)

MEMORY: tuple[Rule, ...] = (
    Rule(
        id="offload-on-cpu",
        verdict="unverified",
        when=lambda c, f: _get_memory(c).offload is not Offload.none and c.device == "cpu",
        message="memory.offload={c.memory.offload.value} on device=cpu is only tried out: nothing moves or is saved",
        fix="device=cuda",
    ),
    Rule(
        id="group-keys",
        verdict="bad",
        when=lambda c, f: not _is_group_offload(c) and _list_group_keys(_get_memory(c)) != _list_group_keys(NONE),
        message="memory.group_type, blocks_per_group and use_stream belong to memory.offload=group, and it is "
        "{c.memory.offload.value}: they could not take effect",
        fix="memory=group_offload, or leave them out",
    ),
    Rule(
        id="group-blocks",
        verdict="bad",
        when=lambda c, f: (
            _get_memory(c).blocks_per_group < 1
            or (_get_memory(c).group_type is GroupType.leaf_level and _get_memory(c).blocks_per_group != 1)
        ),
        message="memory.blocks_per_group={c.memory.blocks_per_group}: at least 1, and only 1 with leaf_level",
        fix="memory.blocks_per_group=1",
    ),
    Rule(
        id="group-stream",
        verdict="bad",
        when=lambda c, f: _is_group_offload(c) and _get_memory(c).use_stream and not c.device.startswith("cuda"),
        message="memory.use_stream=true on device={c.device}: only CUDA and XPU have streams",
        fix="memory.use_stream=false",
        source="diffusers.hooks.group_offloading",
    ),
    Rule(
        id="group-unet-cache",
        verdict="bad",
        when=lambda c, f: (
            _is_group_offload(c)
            and _get_memory(c).group_type is GroupType.block_level
            and uses_engine(c)
            and isinstance(f.blocks, UNetBlocks)
        ),
        message="memory.group_type=block_level fetches a U-Net's weights as its blocks are called, and "
        "cache={c.cache.title} calls their layers one by one",
        fix="memory.group_type=leaf_level memory.blocks_per_group=1",
        source="tests/caching/test_attach_unet_clean.py",
    ),
    Rule(
        id="group-modulated",
        verdict="bad",
        when=lambda c, f: (
            _is_group_offload(c)
            and _get_memory(c).group_type is GroupType.block_level
            and uses_engine(c)
            and getattr(c.cache.signal, "name", "") == "modulated_input"
        ),
        message="memory.group_type=block_level fetches a block's weights when it is called, and "
        "cache={c.cache.title} reads the first block's before that",
        fix="memory.group_type=leaf_level memory.blocks_per_group=1",
        source="diffusers.hooks.group_offloading",
    ),
    Rule(
        id="group-tail",
        verdict="bad",
        when=lambda c, f: (
            _is_group_offload(c)
            and (_get_memory(c).blocks_per_group or 1) > 1
            and uses_engine(c)
            and c.cache.tail_blocks > 0
        ),
        message="memory.blocks_per_group={c.memory.blocks_per_group} fetches a group when its first block is called, "
        "and cache.tail_blocks={c.cache.tail_blocks} may begin inside one",
        fix="memory.blocks_per_group=1",
        source="diffusers.hooks.group_offloading",
    ),
    Rule(
        id="group-stream-cache",
        verdict="unverified",
        when=lambda c, f: _is_group_offload(c) and _get_memory(c).use_stream and is_cached(c),
        message="memory.use_stream=true fetches the next group in the order of the first step, and "
        "cache={c.cache.title} skips blocks: what was fetched for nothing stays on the device until a computed step",
        fix="memory.use_stream=false",
        source="diffusers.hooks.group_offloading, LazyPrefetchGroupOffloadingHook (diffusers 0.42.1)",
    ),
    Rule(
        id="casting-reference",
        verdict="unverified",
        when=lambda c, f: _get_memory(c).layerwise_casting is not None and c.measure.reference,
        message="memory.layerwise_casting={c.memory.layerwise_casting.value} is lossy, so the reference runs without "
        "it: the model is loaded twice",
        fix="measure.reference=false where memory does not suffice for both",
    ),
    Rule(
        id="slicing-alone",
        verdict="unverified",
        when=lambda c, f: _get_memory(c).vae_slicing,
        message="memory.vae_slicing=true: images are decoded one at a time anyway, so it saves nothing",
        fix="memory.vae_tiling=true for large images",
    ),
)

"""The parts of a script for diffusers that make the loaded pipeline faster or smaller, in the runner's order."""

from __future__ import annotations

from typing import Any

from ..accelerate.attention_options import Backend
from ..accelerate.compilation import CUDA_GRAPHS, GRAPHS, GRAPHS_PER_CLASS
from ..accelerate.compile_options import CompileOptions, CompileTarget
from ..accelerate.compile_targets import UNET_BLOCKS
from ..accelerate.memory import MemorySettings, Offload
from ..accelerate.quant_options import SCHEMES
from ..accelerate.quant_targets import NUMBER
from ..accelerate.switches import SwitchSettings
from ..errors import ConfigError
from ..models.family import Blocks, UNetBlocks
from ..records.record import Record
from ..registry import find_implementation
from .script import Script, format_call, indent, to_code


def refuse_groups(script: Script) -> None:
    """Notes what plain diffusers has nothing for."""
    config = script.config
    own = {
        "adapters": (config.adapters.name, "this package follows every tensor of an adapter, and diffusers does not"),
        "parallel": (config.parallel.name, "several processes"),
        "prompts.weighting": (config.prompts.weighting.value, "diffusers reads the markup as letters"),
        "prompts.chunked": ("true" if config.prompts.chunked else "none", "diffusers cuts long prompts off"),
        "model.clip_skip": (getattr(config.model, "clip_skip", None) or "none", "of the negative prompt too"),
    }
    script.refused += [f"{key}={name}: {why}" for key, (name, why) in own.items() if name != "none"]


def add_switches(script: Script) -> None:
    """The group `accelerate`."""
    switches = script.config.accelerate
    assert isinstance(switches, SwitchSettings)
    if switches.tf32:
        script.lines.append("torch.backends.cuda.matmul.allow_tf32 = True")
    if switches.fp16_accumulation:
        script.lines.append("torch.backends.cuda.matmul.allow_fp16_accumulation = True")
    if switches.tiny_vae:
        script.refused.append(f"accelerate.tiny_vae={switches.tiny_vae}: this package checks that it fits")
    for name in [*_list_denoisers(script), "vae"]:
        if switches.fuse_qkv:
            script.lines += [
                f'if hasattr(pipe.{name}, "fuse_qkv_projections"):',
                f"    pipe.{name}.fuse_qkv_projections()",
            ]
        if switches.channels_last and name in ("unet", "vae"):
            script.lines.append(f"pipe.{name}.to(memory_format=torch.channels_last)")


def add_quant(script: Script, record: Record) -> None:
    """Quantizes the layers that the run has quantized, by the evidence in its record."""
    if script.config.quant.name == "none":
        return
    script.use("", "re")
    script.use("quantize_", "torchao.quantization")
    evidence: Any = record.engaged.quant or {}
    for component, found in evidence.get("components", {}).items():
        swapped = found["swapped"]["names"]
        left = {name for names in found["left"]["names"].values() for name in names}
        if both := sorted(left & {name for names in swapped.values() for name in names}):
            script.refused.append(f"quant: of {component}, only some of the layers {both[0]} are quantized")
        for scheme, names in swapped.items():
            if not component.isidentifier() or scheme not in SCHEMES:  # a record may be a stranger's
                raise ConfigError(f"engaged.quant: {component}, {scheme}: no component and scheme of a run")
            script.lines += ["layers = {", *(f"    {name!r}," for name in names), "}"]
            meant = f"lambda module, name: type(module) is torch.nn.Linear and re.sub({NUMBER!r}, '*', name) in layers"
            config = _format_scheme(script, scheme)
            script.lines += format_call("quantize_", f"pipe.{component}", config, filter_fn=meant)


def _format_scheme(script: Script, name: str) -> str:
    scheme = SCHEMES[name]
    arguments = {"set_inductor_config": "False"}
    if scheme.granularity:
        arguments["granularity"] = f"{script.use(scheme.granularity, 'torchao.quantization')}()"
    (line,) = format_call(script.use(scheme.config, "torchao.quantization"), **arguments)
    return line


def add_attention(script: Script, record: Record) -> None:
    """The attention backend, where diffusers' own switch reaches every layer."""
    attention = script.config.attention
    backend: Backend | None = find_implementation("attention", attention)
    if backend is None:
        return
    evidence: Any = record.engaged.attention or {}
    if backend.build or evidence.get("wrapped"):
        script.refused.append(f"attention={attention.name}: layers that diffusers' switch does not reach")
    for name in _list_denoisers(script):
        script.lines.append(f"pipe.{name}.set_attention_backend({backend.dispatch!r})")
    script.notes.append("set_attention_backend also sets the backend of other models of the process.")


def add_compile(script: Script) -> None:
    """torch.compile of the same modules."""
    options = script.config.compile
    if not isinstance(options, CompileOptions) or options.disable:
        return
    if options.mode in CUDA_GRAPHS:
        script.refused.append(f"compile.mode={options.mode}: the outputs of CUDA graphs have to be copied")
    targets: list[str] = []
    for target in options.target:
        if target is CompileTarget.denoiser:
            targets += _list_blocks(script) if options.regional else [f"pipe.{n}" for n in _list_denoisers(script)]
        elif target is CompileTarget.vae and not options.regional:
            targets.append("pipe.vae.decoder")
        else:
            script.refused.append(f"compile.target={target.value}: of which this package finds the repeated blocks")
    arguments = to_code({"backend": options.backend, "fullgraph": options.fullgraph, "dynamic": options.dynamic})
    arguments |= {} if options.mode == "default" else to_code({"mode": options.mode})
    arguments |= {} if options.options is None else to_code({"options": options.options})
    script.lines += [
        f"torch._dynamo.config.recompile_limit = {GRAPHS_PER_CLASS}",
        f"torch._dynamo.config.accumulated_recompile_limit = {GRAPHS}",
        f"for module in [{', '.join(targets)}]:",
        *indent(format_call("module.forward = torch.compile", "module.forward", **arguments)),
    ]


def _list_blocks(script: Script) -> list[str]:
    """Code of the repeated blocks of the denoisers."""
    blocks = script.family.blocks
    if isinstance(blocks, UNetBlocks):
        return [f"*(m for m in pipe.unet.modules() if type(m).__name__ in {UNET_BLOCKS!r})"]
    if isinstance(blocks, Blocks):
        return [f"*pipe.{name}.{blocks_list.name}" for name in _list_denoisers(script) for blocks_list in blocks.lists]
    script.refused.append("compile.regional=true: the repeated blocks of this model are not known")
    return []


def add_memory(script: Script) -> None:
    """The memory savers; without offloading the pipeline goes to the device."""
    memory, device = script.config.memory, script.config.device
    assert isinstance(memory, MemorySettings)
    if memory.layerwise_casting:
        for name in _list_denoisers(script):
            dtypes = (f"torch.{memory.layerwise_casting.value}", f"torch.{script.config.model.dtype.value}")
            arguments = dict(zip(("storage_dtype", "compute_dtype"), dtypes, strict=True))
            script.lines += format_call(f"pipe.{name}.enable_layerwise_casting", **arguments)
    script.lines += ["pipe.vae.enable_tiling()"] * memory.vae_tiling + [
        "pipe.vae.enable_slicing()"
    ] * memory.vae_slicing
    if memory.offload is Offload.group:
        script.refused.append("memory.offload=group: this package moves the halves of the autoencoder by themselves")
    offloads = memory.offload is Offload.model
    script.lines.append(f"pipe.enable_model_cpu_offload(device={device!r})" if offloads else f"pipe.to({device!r})")


def _list_denoisers(script: Script) -> list[str]:
    return [name for name in (script.family.denoiser, script.family.denoiser_2) if name]

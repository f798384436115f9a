"""Rules on quantization: what it gains, and what it means beside adapters, memory savers and caches."""

from __future__ import annotations

from ..accelerate.adapter_options import Lora
from ..accelerate.compile_options import CompileTarget
from ..accelerate.memory import MemorySettings, Offload
from ..accelerate.quant_options import DENOISER, CustomQuant, QuantOptions, list_schemes
from ..caching.criteria import thresholds
from ..config.environment import resolve_device
from ..config.schema import Config, Init
from ..errors import did_you_mean
from ..models.family import Family
from ..models.weights.checkpoint import find_local_path
from ..models.weights.folder_gate import list_components
from ..models.weights.quantized import find_quantized
from ..registry import find_implementation
from .cache import has_all_parts
from .compile_needs import get_compile
from .rule import Rule

NO_LAYERS = ("Scheduler", "Token", "Processor", "Extractor")
"""Parts of the names of classes that have no layers."""
EAGER_ON_CPU = {"int8_dq": "0.54 to 1.02", "int8_wo": "0.93 to 0.96"}
"""Scheme -> times as fast as no quantization, without compilation, on one core: demo, demo_unet, and batch 8."""
MEASURED = "benchmarks/results/compile_cpu*.json"
TABLE = "https://github.com/sayakpaul/diffusers-torchao, CogVideoX benchmarks"


def _get_memory(c: Config) -> MemorySettings:
    assert isinstance(c.memory, MemorySettings)
    return c.memory


def _is_quantized(c: Config) -> bool:
    return bool(list_schemes(c.quant))


def _is_weight_only(c: Config) -> bool:
    return _is_quantized(c) and not any(scheme.activations for scheme in list_schemes(c.quant).values())


def _is_on_cpu(c: Config) -> bool:
    return resolve_device(c.device) == "cpu"


def _runs_eagerly(c: Config) -> bool:
    """True if the denoiser is not compiled."""
    options = get_compile(c)
    return options is None or options.disable or CompileTarget.denoiser not in options.target


def _watches_change(c: Config) -> bool:
    """True if a cache strategy compares a change of the model's features with a threshold."""
    if not has_all_parts(c) or c.cache.criterion is None:
        return False
    criterion = find_implementation("cache/criterion", c.cache.criterion)
    return criterion.__module__ == thresholds.__name__ and criterion.watches != "nothing"


def _is_quantized_already(c: Config, f: Family) -> bool:
    return _is_quantized(c) and bool(find_quantized(c.model, f))


def _has_quantized_weights(c: Config, f: Family) -> bool:
    """True if the options or the checkpoint quantize."""
    return _is_quantized(c) or bool(find_quantized(c.model, f))


def _name_source(c: Config, f: Family) -> str:
    """Where quantized weights come from, as an override."""
    return f"quant={c.quant.name}" if _is_quantized(c) else f"model.repo={c.model.repo}, which is stored quantized,"


def _list_components(c: Config, f: Family) -> list[str]:
    """What `quant.components` may name, as far as it is known without loading: all, or nothing of a model elsewhere."""
    folder = find_local_path(c.model.repo) if c.model.init is Init.pretrained else None
    if folder is None or not (folder / "model_index.json").is_file():
        return []
    components = list_components(f"model.repo={c.model.repo}", folder)
    return [DENOISER, *(name for name, (_, kind) in components.items() if not any(word in kind for word in NO_LAYERS))]


def _find_unknown_component(c: Config, f: Family) -> str:
    """A component that options name and the model does not have; empty if there is none, or it is not known."""
    named = [entry.component for entry in c.quant.layers] if isinstance(c.quant, CustomQuant) else []
    named += c.quant.components if isinstance(c.quant, QuantOptions) else []
    known = _list_components(c, f)
    # The other names of denoisers, where the family's own are known.
    others = set() if f.single_call else {"transformer", "transformer_2", "unet"} - {f.denoiser, f.denoiser_2}
    return next((name for name in named if name in others or (known and name not in known)), "")


QUANT: tuple[Rule, ...] = (
    Rule(
        id="quant-component",
        verdict="bad",
        when=lambda c, f: bool(_find_unknown_component(c, f)),
        message=lambda c, f: (
            f"quant={c.quant.name}: this model has no component {_find_unknown_component(c, f)}"
            + did_you_mean(_find_unknown_component(c, f), [DENOISER, f.denoiser, *_list_components(c, f)])
        ),
        fix="quant.components=[denoiser], or names of other components with linear layers, such as text_encoder",
    ),
    Rule(
        id="quant-empty",
        verdict="bad",
        when=lambda c, f: c.quant.name != "none" and not _is_quantized(c),
        message="quant.layers: no entry has a scheme, so nothing would be quantized",
        fix="give an entry a scheme such as int8_dq, or quant=none",
    ),
    Rule(
        id="quant-checkpoint",
        verdict="bad",
        when=_is_quantized_already,
        message=lambda c, f: (
            f"quant={c.quant.name}: model.repo={c.model.repo} is quantized already: "
            + ", ".join(f"{name} ({method})" for name, method in find_quantized(c.model, f).items())
        ),
        fix="quant=none, or the original checkpoint",
        source="tests/models/test_quantized_checkpoints.py",
    ),
    Rule(
        id="quant-eager",
        verdict="unverified",
        when=lambda c, f: any(scheme.activations for scheme in list_schemes(c.quant).values()) and _runs_eagerly(c),
        message=lambda c, f: (
            f"quant={c.quant.name} without compilation: activations are quantized by kernels of their own at each "
            "call, which makes it slower than no quantization"
            + (f"; int8_dq on a CPU: {EAGER_ON_CPU['int8_dq']} times as fast" if _is_on_cpu(c) else "")
        ),
        fix="compile=regional, or a scheme for weights only (quant=int8_wo)",
        source=f"{TABLE}, {MEASURED}",
    ),
    Rule(
        id="quant-weight-only-cpu",
        verdict="unverified",
        when=lambda c, f: _is_weight_only(c) and _is_on_cpu(c) and _runs_eagerly(c),
        message=f"quant={{c.quant.name}} saves memory and not time: weights are converted back at each call; int8_wo "
        f"on a CPU: {EAGER_ON_CPU['int8_wo']} times as fast as no quantization",
        fix="compile=regional, or quant=none where memory suffices",
        source=MEASURED,
    ),
    Rule(
        id="quant-weight-only",
        verdict="good",
        when=lambda c, f: _is_weight_only(c) and not (_is_on_cpu(c) and _runs_eagerly(c)),
        message="quant={c.quant.name} saves memory and not time: weights are converted back at each call",
        source=TABLE,
    ),
    Rule(
        id="quant-lora",
        verdict="good",
        when=lambda c, f: _is_quantized(c) and isinstance(c.adapters, Lora) and not c.adapters.fuse,
        message="quant={c.quant.name} beside a LoRA that is not fused: its two small matrices stay as they are and "
        "are computed beside each quantized one; adapters.fuse=true quantizes their sum",
        source="tests/accelerate/test_order.py",
    ),
    Rule(
        id="quant-fuse",
        verdict="bad",
        when=lambda c, f: isinstance(c.adapters, Lora) and c.adapters.fuse and bool(find_quantized(c.model, f)),
        message="adapters.fuse=true: no LoRA can be fused into model.repo={c.model.repo}, which is stored quantized",
        fix="adapters.fuse=false",
        source="tests/accelerate/test_order.py",
    ),
    Rule(
        id="quant-casting",
        verdict="bad",
        when=lambda c, f: _get_memory(c).layerwise_casting is not None and _has_quantized_weights(c, f),
        message=lambda c, f: f"{_name_source(c, f)} and memory.layerwise_casting: both decide how weights are stored",
        fix="memory.layerwise_casting=null",
        source="tests/accelerate/test_quant_combinations.py",
    ),
    Rule(
        id="quant-stream",
        verdict="bad",
        when=lambda c, f: _is_quantized(c) and _get_memory(c).offload is Offload.group and _get_memory(c).use_stream,
        message="memory.use_stream=true with quant={c.quant.name}: users of diffusers report that weights quantized by "
        "torchao cannot be pinned for a stream of their own, or stay on the CPU",
        fix="memory.use_stream=false",
        source="https://github.com/huggingface/diffusers/issues/14433, "
        "https://github.com/huggingface/diffusers/issues/13281",
    ),
    Rule(
        id="quant-threshold",
        verdict="unverified",
        when=lambda c, f: _is_quantized(c) and _watches_change(c),
        message="cache={c.cache.title} with quant={c.quant.name}: rounding adds to the changes that its threshold is "
        "compared with, so a threshold that was found without it computes more steps; ParaAttention has 0.08 for "
        "FLUX.1-dev, and 0.12 with 8-bit floats",
        fix="`calibrate` with quant={c.quant.name}, then `thresholds` with it, or compare some thresholds",
        source="https://huggingface.co/docs/diffusers/optimization/para_attn",
    ),
    Rule(
        id="quant-reference",
        verdict="unverified",
        when=lambda c, f: _is_quantized(c) and c.measure.reference,
        message="quant={c.quant.name} is lossy, so the reference runs without it: what is quantized is in memory twice",
        fix="measure.reference=false where memory does not suffice for both",
    ),
)

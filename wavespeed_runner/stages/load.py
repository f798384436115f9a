"""The stage `load`: loads the model and applies adapters, quantization, compilation and the other groups to it.

Its output is not stored: a pipeline lives in the process, and is loaded only if something has to be computed. Pipelines
of one process share what weights they have alike (`accelerate.shared_weights`).
"""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path

from ..accelerate import adapters, attention, memory, quant_store, switches
from ..accelerate.parallel.lean import drop_text_encoders, is_lean
from ..accelerate.shared_weights import LoadedWeights, copy_pipeline, find_or_load, share_components
from ..artifacts import Pipeline
from ..config.environment import collect_key_parts, resolve_device
from ..config.schema import MODEL_DEFAULT_KEYS, Init, to_data
from ..errors import RunError
from ..models.family import Family
from ..models.weights.identity import identify_weights
from ..models.weights.pretrained import find_component_source
from ..models.weights.pretrained import load as load_pipeline
from ..process.logging_setup import quiet_libraries
from ..process.torchao_import import postpone_torchao
from ..registry import find_implementation
from ..storage.store import Store
from .apply import LoadOptions, change_modules, change_weights, collect_weight_evidence, get_memory, get_switches
from .interface import stage

_NOT_IN_WEIGHTS = tuple(f"model.{key}" for key in ("repo", "revision", "components", "vae", "fps", *MODEL_DEFAULT_KEYS))
"""Keys that do not decide the pipeline: the weights are identified by what they are, not where they come from, and the
others are defaults for the options of other stages."""
_NOT_IN_RESULTS = (
    "adapters.path",
    "outputs",
    "quant.keep",
    "compile.cache_dir",
    "accelerate.tiny_vae",
    "parallel.timeout",
)
"""Where things lie."""


def _identify_weights(options: LoadOptions) -> list[str]:
    """Identifies all weights: the model's, those that complete a single-file checkpoint, adapters', a tiny VAE's."""
    model = options.model
    added = [*adapters.identify_adapters(options.adapters), *switches.identify_switches(get_switches(options))]
    if model.init is not Init.pretrained:
        return [model.init.value, *added]
    family = find_implementation("model", model)
    others = [find_component_source(family, model), *(getattr(model, key) for key in family.external_components)]
    if model.vae is not None:
        added.append(f"VAE {_identity(model.vae, None)}")
    return [_identity(model.repo, model.revision), *(_identity(repo, None) for repo in others if repo), *added]


def _identify(options: LoadOptions) -> list[str]:
    """Identifies what decides the results beside the options: all weights, and the package of attention kernels."""
    return [*_identify_weights(options), *attention.identify_attention(options.attention)]


# A plan asks for every image. Weights are not expected to change while a process runs.
_identity = lru_cache(maxsize=8)(identify_weights)


@stage(
    "load",
    options=LoadOptions,
    pure=False,
    identity=_identify,
    ignores=(*_NOT_IN_WEIGHTS, *_NOT_IN_RESULTS),
    collective=True,
)
def load(options: LoadOptions) -> Pipeline:
    """Loads a model's diffusers pipeline, applies everything of `accelerate.order`, and moves it to the device.

    Raises:
        RunError: no such device, no network, no access, broken weights, or an option that does not take effect.
    """
    quiet_libraries()
    postpone_torchao()
    device = resolve_device(options.device)
    _check_device(options.device, device)
    family = find_implementation("model", options.model)
    weights = _load_weights(options, family, device)
    pipe = copy_pipeline(weights.pipe) if weights.key and _changes_modules(options) else weights.pipe
    engaged = {**weights.engaged, "accelerate": switches.collect_evidence(weights.pipe, get_switches(options))}
    pipeline = Pipeline(pipe=pipe, model=options.model, family=family, device=device, engaged=engaged, weights=weights)
    change_modules(pipeline, options, weights.dtype)
    return pipeline


def _load_weights(options: LoadOptions, family: Family, device: str) -> LoadedWeights:
    """The pipeline with everything that changes its weights, or one of this process that has the same weights."""
    import torch

    dtype = getattr(torch, options.model.dtype.value)
    identity = [_identify_weights(options), device, to_data(options.model)]
    # What adapters and switches change lies in any component, and is not done to one that is changed already.
    switched = switches.list_module_changes(get_switches(options))
    may_share_parts = _can_share(options) and options.adapters.name == "none" and not switched
    unquantized = json.dumps(identity, sort_keys=True) if may_share_parts else ""

    def build() -> LoadedWeights:
        shelf = _make_shelf(options, family, device)
        ready = {**share_components(unquantized), **quant_store.take(shelf)}
        pipe = load_pipeline(family, options.model, device, ready)
        pipe = change_weights(pipe, family, options, device)
        quant_store.put(shelf, pipe)
        engaged = collect_weight_evidence(pipe, family, options, device, shelf.outcomes)
        drop_text_encoders(pipe, options.compile)
        if _can_share(options):  # here, where no copy has buffers of its own yet
            pipe = pipe.to(device)
        return LoadedWeights(
            pipe=pipe, engaged=engaged, dtype=dtype, unquantized=unquantized, quantized=tuple(shelf.keys)
        )

    if not _can_share(options):
        return build()
    changes = [switched, to_data(options.adapters), to_data(options.quant), is_lean(options.compile)]
    return find_or_load(json.dumps([*identity, *changes], sort_keys=True), build)


def _make_shelf(options: LoadOptions, family: Family, device: str) -> quant_store.Shelf:
    """Where the quantized weights of this pipeline are kept between processes, or why they are not."""
    store = Store(Path(options.outputs) / "store")
    weights, model = _identify_weights(options), to_data(options.model)
    reason = ""
    if options.adapters.name != "none":
        reason = "adapters are loaded"
    elif changes := [key for key in switches.list_module_changes(get_switches(options)) if key != "tiny_vae"]:
        reason = f"accelerate.{changes[0]} changes the modules"
    elif any("not downloaded before" in identity for identity in weights):
        reason = "downloaded in this run"
    for key in _NOT_IN_WEIGHTS:
        model.pop(key.partition(".")[2], None)
    parts = {"weights": weights, "model": model, "switches": switches.list_module_changes(get_switches(options))}
    parts["matters"] = collect_key_parts(device)
    return quant_store.make_shelf(store, family, options.quant, parts, reason)


def _can_share(options: LoadOptions) -> bool:
    """False where weights are moved or cast while the pipeline runs."""
    settings = get_memory(options)
    return settings.offload is memory.Offload.none and settings.layerwise_casting is None


def _changes_modules(options: LoadOptions) -> bool:
    """True if something is set on the modules that another pipeline with the same weights must not have."""
    settings = get_memory(options)
    groups = (options.attention.name, options.compile.name, options.parallel.name)
    return groups != ("none", "none", "none") or settings.vae_tiling or settings.vae_slicing


def _check_device(requested: str, device: str) -> None:
    """Raises RunError if this torch cannot use the device."""
    import torch

    if device.startswith("cuda") and not torch.cuda.is_available():
        raise RunError(f"device={requested}: torch {torch.__version__} finds no CUDA device; use device=cpu")
    if device == "mps" and not torch.backends.mps.is_available():
        raise RunError(f"device={requested}: this torch has no MPS; use device=cpu")

"""FLUX.1 and models of its architecture (the demo): load, encode, denoise, decode by way of diffusers' FluxPipeline.

The three steps together give the same bits as one call of the pipeline; tests hold them to it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from ..config import Init, ModelConfig
from ..errors import ConfigError, RunError
from ..registry import register
from . import checkpoint
from .family import Blocks, Family
from .loading import cache_only, explained, quiet, refuse_missing


class Guidance(Enum):
    """What `guidance_scale` does."""

    embedded = "embedded"
    """It is an input of the transformer, which was distilled to follow it (FLUX.1-dev)."""
    true_cfg = "true_cfg"
    """Classifier-free guidance: above 1, every step also runs the negative prompt (the demo)."""
    none = "none"
    """Nothing: the model takes none (FLUX.1-schnell)."""


@dataclass(kw_only=True)
class FluxConfig(ModelConfig):
    name: str = "flux"
    max_sequence_length: int = 512
    """Tokens of the T5 encoder, at most 512; shorter prompts are padded to it, and the padding is attended to, so it
    must be what the model was trained with."""
    guidance: Guidance = Guidance.embedded
    components: str | None = None
    """Where the other parts come from when `repo` is a single file, of which only the transformer is taken: hub id or
    local diffusers folder. Null: the published model."""

    def __post_init__(self) -> None:
        if not 1 <= self.max_sequence_length <= 512:
            raise ConfigError(f"model.max_sequence_length={self.max_sequence_length}: allowed: 1 to 512")
        if self.guidance is Guidance.embedded and self.guidance_scale is None:
            raise ConfigError("model.guidance_scale=null: model.guidance=embedded needs a number; 3.5 is FLUX.1-dev's")


def _two_passes(model: FluxConfig, guidance_scale: float | None) -> bool:
    return model.guidance is Guidance.true_cfg and guidance_scale is not None and guidance_scale > 1


def load(model: FluxConfig, device: str) -> Any:
    """The `FluxPipeline`, on the device, in `model.dtype`. Leaves the global random state alone.

    Raises:
        RunError: it cannot be had or is not what `model.guidance` says; the message has the ways out.
        ConfigError: `model.repo` names nothing that may be loaded.
    """
    import torch

    dtype = getattr(torch, model.dtype.value)
    with torch.random.fork_rng(devices=[]):
        pipe = _pretrained(model, dtype) if model.init is Init.pretrained else _built(model, dtype, device)
    takes_scale = pipe.transformer.config.guidance_embeds
    if takes_scale != (model.guidance is Guidance.embedded):
        allowed = "embedded" if takes_scale else "true_cfg or none"
        raise RunError(f"model.guidance={model.guidance.value}: does not fit model.repo={model.repo}, take {allowed}")
    return pipe.to(device)


def _built(model: FluxConfig, dtype: Any, device: str) -> Any:
    """`init=tiny` is made on the CPU, for the same numbers everywhere; `init=random` where it will run."""
    from . import tiny

    kind = {"guided": model.guidance is Guidance.embedded, "shifted": model.guidance is not Guidance.none}
    if model.init is Init.tiny:
        return tiny.flux(tiny.FLUX_TINY, **kind, dtype=dtype, device="cpu")
    return tiny.flux(tiny.FLUX_FULL, **kind, dtype=dtype, device=device)


def _pretrained(model: FluxConfig, dtype: Any) -> Any:
    checkpoint.inspect(model.repo, model.revision)
    path = checkpoint.local(model.repo)
    if path is not None and path.is_file():
        return _single_file(model, path, dtype)
    # What the store keys name is what is loaded: a branch stays at the commit that was downloaded first.
    commit = None if path else checkpoint.cached_commit(model.repo, model.revision or "main")
    return _from_pretrained(str(path or model.repo), model.repo, commit or model.revision, dtype)


def _from_pretrained(
    source: str, value: str, revision: str | None, dtype: Any, key: str = "model.repo", **given: Any
) -> Any:
    """Every part from one folder or repository, but those given.

    source: what diffusers is to open. value and key: how the user named it, for messages. The text encoders are loaded
    here, because transformers fills weights that a checkpoint lacks with random numbers and only logs it.
    """
    from diffusers import FluxPipeline
    from transformers import CLIPTextModel, T5EncoderModel

    options = {"use_safetensors": True, "dtype": dtype}
    with explained(value, revision, key), quiet():
        folder = source
        if not Path(source).is_dir():
            folder = FluxPipeline.download(source, revision=revision, use_safetensors=True, **given)
        missing = {}
        for name, encoder in (("text_encoder", CLIPTextModel), ("text_encoder_2", T5EncoderModel)):
            given[name], info = encoder.from_pretrained(folder, subfolder=name, output_loading_info=True, **options)
            missing[name] = sorted(info["missing_keys"])
        pipe = FluxPipeline.from_pretrained(folder, trust_remote_code=False, **options, **given)
        for name in ("transformer", "vae"):
            missing[name] = [key for key, weight in getattr(pipe, name).named_parameters() if weight.is_meta]
    refuse_missing(missing, f"{key}={value}")
    return pipe


def _single_file(model: FluxConfig, path: Path, dtype: Any) -> Any:
    """The transformer from the file, in diffusers' or in the original layout; the other parts from `components`."""
    from diffusers import FluxTransformer2DModel

    published = "FLUX.1-schnell" if model.guidance is Guidance.none else "FLUX.1-dev"
    components = model.components or f"black-forest-labs/{published}"
    checkpoint.inspect(components, key="model.components")
    folder = checkpoint.local(components)
    source = str(folder or components)
    with explained(components, key="model.components"):
        options: dict[str, Any] = {"subfolder": "transformer", "local_files_only": cache_only(components, folder)}
        FluxTransformer2DModel.load_config(source, **options)
    with explained(model.repo), quiet():
        transformer = FluxTransformer2DModel.from_single_file(str(path), config=source, dtype=dtype, **options)
    return _from_pretrained(source, components, None, dtype, "model.components", transformer=transformer)


def encode(pipe: Any, model: FluxConfig, sample: Any, guidance_scale: float | None) -> dict[str, Any]:
    """The prompt as keyword arguments of the pipeline.

    `prompt_embeds` (1, max_sequence_length, width of T5) and `pooled_prompt_embeds` (1, width of CLIP); with
    classifier-free guidance also the two `negative_*` of the same shapes.
    """
    import torch

    prompts = {"": sample.prompt}
    if _two_passes(model, guidance_scale):
        prompts["negative_"] = sample.negative_prompt
    arguments: dict[str, Any] = {}
    with torch.no_grad():
        for prefix, text in prompts.items():
            if model.init is Init.pretrained:  # else tokens are bytes, and say nothing of the real length
                _refuse_cut(pipe, text, model.max_sequence_length)
            embeds, pooled, _ = pipe.encode_prompt(text, None, max_sequence_length=model.max_sequence_length)
            arguments |= {f"{prefix}prompt_embeds": embeds, f"{prefix}pooled_prompt_embeds": pooled}
    pipe.maybe_free_model_hooks()
    return arguments


def _refuse_cut(pipe: Any, text: str, limit: int) -> None:
    """The pipeline would cut a prompt that is too long, and only log it."""
    tokens = len(pipe.tokenizer_2(text, truncation=False).input_ids)
    if tokens > limit:
        raise RunError(
            f"prompt {text[:40]!r}... has {tokens} tokens, model.max_sequence_length={limit} of them would be read; "
            "shorten it"
        )


def denoise(
    pipe: Any,
    model: FluxConfig,
    embeddings: dict[str, Any],
    *,
    steps: int,
    guidance_scale: float | None,
    width: int,
    height: int,
    generator: Any,
    callback: Any = None,
) -> Any:
    """Packed latents (1, height / 16 * width / 16, 64), sizes in pixels; for other VAEs as the pipeline packs them.

    embeddings: from `encode`, on the pipeline's device. guidance_scale: read as `model.guidance` says.
    """
    guidance = {}
    if model.guidance is Guidance.embedded:
        guidance = {"guidance_scale": guidance_scale}
    elif _two_passes(model, guidance_scale):
        guidance = {"true_cfg_scale": guidance_scale}
    with steps_draw_from(generator, pipe.scheduler):
        return pipe(
            **embeddings,
            **guidance,
            num_inference_steps=steps,
            width=width,
            height=height,
            generator=generator,
            callback_on_step_end=callback,
            output_type="latent",
        ).images


@contextmanager
def steps_draw_from(generator: Any, scheduler: Any) -> Iterator[None]:
    """Lets a stochastic scheduler draw from the sample's own generator.

    FluxPipeline does not hand it to `step`, so the noise would come from the process's global state: another picture
    every time for one seed. Set on this one object, for this one generation.
    """
    if not scheduler.config.get("stochastic_sampling", False):
        yield
        return
    original = scheduler.step

    def step(*args: Any, **options: Any) -> Any:
        return original(*args, **{"generator": generator} | options)

    scheduler.step = step
    try:
        yield
    finally:
        del scheduler.step


def decode(pipe: Any, latents: Any, *, width: int, height: int) -> Any:
    """Pictures from packed latents: numpy uint8 (n, height, width, 3), rounded as diffusers rounds for PIL."""
    import torch
    from diffusers.utils.torch_utils import get_module_execution_device

    with torch.no_grad():
        grid = pipe._unpack_latents(latents, height, width, pipe.vae_scale_factor)
        grid = grid / pipe.vae.config.scaling_factor + pipe.vae.config.shift_factor
        decoded = pipe.vae.decode(grid.to(get_module_execution_device(pipe.vae)), return_dict=False)[0]
        pictures = pipe.image_processor.postprocess(decoded, output_type="np")
    pipe.maybe_free_model_hooks()
    return (pictures * 255).round().astype("uint8")


FLUX = register("model", "flux", FluxConfig)(
    Family(
        load=load,
        encode=encode,
        denoise=denoise,
        decode=decode,
        blocks=Blocks(
            lists=("transformer_blocks", "single_transformer_blocks"),
            returns=("encoder_hidden_states", "hidden_states"),
        ),
        samplers=("default", "euler", "unipc"),
    )
)

"""The call of a diffusers pipeline that returns latents, and the conversion of decoded tensors to pixels.

All families denoise through `denoise`, with noise from the sample's own generator (`watch_steps`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from functools import wraps
from inspect import signature
from typing import TYPE_CHECKING, Any

from ..config.schema import ModelConfig
from ..errors import RunError
from .family import CallInputs, Family
from .weights.hub import get_diffusers_class

if TYPE_CHECKING:
    import numpy as np
    from diffusers import DiffusionPipeline
    from torch import Generator, Tensor

IMPLIED_BY_IMAGE = ("width", "height", "num_frames")
"""Arguments that a pipeline may lack when it starts from an image, because it reads them off the image."""


def get_task_pipeline(pipe: DiffusionPipeline, family: Family, task: str) -> DiffusionPipeline:
    """The pipeline of a task over the same components; `pipe` itself if it already is of that class.

    diffusers' `from_pipe` would cast the components to float32 unless it is told their dtype.
    """
    pipeline_class = get_diffusers_class(family.tasks[task])
    if isinstance(pipe, pipeline_class):
        return pipe
    known = {**pipe.config, **pipe.components}
    parameters = signature(pipeline_class.__init__).parameters
    task_pipe = pipeline_class(**{name: known[name] for name in parameters if name in known})
    task_pipe.set_progress_bar_config(**getattr(pipe, "_progress_bar_config", {}))
    return task_pipe


def denoise(
    family: Family,
    pipe: DiffusionPipeline,
    model: ModelConfig,
    embeddings: dict[str, Tensor],
    inputs: CallInputs,
) -> dict[str, Tensor]:
    """Calls the pipeline and returns its latents, as it leaves them with `output_type="latent"`.

    pipe: of the task's class, see `get_task_pipeline`. embeddings: from `Family.encode`, on the pipeline's device.

    Raises:
        RunError: the model's sampler overflows at this size.
    """
    options: dict[str, Any] = {"width": inputs.width, "height": inputs.height, "num_frames": inputs.num_frames}
    options |= {"image": inputs.image, "mask_image": inputs.mask, "strength": inputs.strength}
    options = {name: value for name, value in options.items() if value is not None}
    if inputs.image is not None:
        accepted = signature(pipe.__call__).parameters
        options = {name: v for name, v in options.items() if name in accepted or name not in IMPLIED_BY_IMAGE}
    if family.prepare:
        family.prepare(pipe, inputs)
    call = {
        **family.build_arguments(model, embeddings, inputs),
        **options,
        "num_inference_steps": inputs.steps,
        "generator": inputs.generator,
        "output_type": "latent",
    }
    try:
        return family.run(pipe, call) if family.run else family.read_outputs(pipe(**call))
    except OverflowError as error:  # a shift of the noise levels that goes by the number of tokens
        size = " ".join(f"{key}={options[key]}" for key in ("width", "height", "num_frames") if key in options)
        raise RunError(
            f"{size or 'image'}: the sampler of this model cannot compute at this size ({error}); choose a smaller one"
        ) from error


def build_prompt_call(
    family: Family, model: ModelConfig, inputs: CallInputs, accepted: Collection[str]
) -> dict[str, Any]:
    """What a call of diffusers' own pipeline is given beside a prompt, for the images that the stages make of it.

    Args:
        family: of the model.
        model: its options.
        inputs: steps, guidance and size.
        accepted: the arguments that the pipeline's call has.

    Returns:
        Keyword arguments; the prompts and the generator are not among them.
    """
    values: dict[str, Any] = {"num_inference_steps": inputs.steps}
    values |= {"width": inputs.width, "height": inputs.height, "num_frames": inputs.num_frames}
    values |= {"max_sequence_length": getattr(model, "max_sequence_length", None)}
    values |= family.build_arguments(model, {}, inputs)
    return {name: value for name, value in values.items() if name in accepted and value is not None}


@contextmanager
def watch_steps(
    scheduler: Any, generator: Generator | list[Generator] | None, on_step: Callable[[], None]
) -> Iterator[None]:
    """Calls `on_step` after every step of the scheduler, and has the scheduler draw its noise from `generator`.

    diffusers' `callback_on_step_end` does not serve: not every pipeline has it, and not every pipeline passes its
    generator to `step` (FluxPipeline does not). The noise of a stochastic scheduler would then come from the global
    random state, and one seed would give another image every time.

    Noise levels that are not finite are refused before any step: they come of a shift that overflows.

    The class of the scheduler object is replaced until the block ends. A pipeline may copy the scheduler (LTX-2 steps
    its audio with a copy): the copy draws from `generator` too, but its steps are not reported.
    """
    original = type(scheduler)
    takes_generator = "generator" in signature(original.step).parameters

    class Watched(original):  # type: ignore[valid-type,misc]
        @wraps(original.set_timesteps)
        def set_timesteps(self, *args: Any, **options: Any) -> None:
            super().set_timesteps(*args, **options)
            self.last_mu = options.get("mu")  # no scheduler keeps it; `samplers.progress` needs it
            for name in ("timesteps", "sigmas"):
                values: Any = getattr(self, name, None)
                if hasattr(values, "isfinite") and not values.isfinite().all():
                    raise OverflowError(f"its {name} are not finite")

        @wraps(original.step)
        def step(self, *args: Any, **options: Any) -> Any:
            if takes_generator and options.get("generator") is None:
                options["generator"] = generator
            result = super().step(*args, **options)
            if self is scheduler:
                on_step()
            return result

    Watched.__name__ = original.__name__
    scheduler.__class__ = Watched
    try:
        yield
    finally:
        scheduler.__class__ = original


def decode_scaled_latents(pipe: DiffusionPipeline, latents: Tensor) -> np.ndarray:
    """Decodes latents (n, channels, h, w) with a VAE that has a scale and a shift; uint8 (n, height, width, 3)."""
    latents = latents / pipe.vae.config.scaling_factor + pipe.vae.config.shift_factor
    return to_uint8_images(pipe, pipe.vae.decode(latents, return_dict=False)[0])


def to_uint8_images(pipe: DiffusionPipeline, decoded: Tensor) -> np.ndarray:
    """Converts VAE output (n, 3, h, w) in -1 to 1 to uint8 (n, h, w, 3), rounded as diffusers rounds for PIL."""
    return _to_uint8(pipe, pipe.image_processor.postprocess(decoded, output_type="np"))


def to_uint8_videos(pipe: DiffusionPipeline, decoded: Tensor) -> np.ndarray:
    """Converts video VAE output (n, 3, frames, h, w) in -1 to 1 to uint8 (n, frames, h, w, 3)."""
    return _to_uint8(pipe, pipe.video_processor.postprocess_video(decoded, output_type="np"))


def explain_not_finite(is_float32: bool, adapters: Any) -> str:
    """What may be wrong where numbers are not finite.

    Args:
        is_float32: whether they were computed in the largest number format already.
        adapters: evidence of those that are on; None without any.
    """
    ways = ["a checkpoint or a setting is broken" if is_float32 else "try model.dtype=float32"]
    ways += ["or the adapters are too strong or of another model: try adapters=none, or a smaller adapters.weight"]
    return ", ".join(ways if adapters else ways[:1])


def _to_uint8(pipe: DiffusionPipeline, values: np.ndarray) -> np.ndarray:
    # Casting NaN to uint8 would give a black image that looks like any other result.
    if (values != values).any():
        import torch

        way_out = explain_not_finite(pipe.vae.dtype is torch.float32, None)
        raise RunError(f"the decoded image is not finite (NaN); the VAE overflowed, {way_out}")
    return (values * 255).round().astype("uint8")

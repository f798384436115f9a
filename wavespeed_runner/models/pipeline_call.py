"""Calls a diffusers pipeline for its latents: every family's denoising, with noise of the sample's own generator."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from inspect import signature
from typing import Any

from ..config.schema import ModelConfig
from ..errors import RunError
from .family import Family, Wanted
from .weights.hub import diffusers_class

IMPLIED = ("width", "height", "num_frames")
"""Arguments that a pipeline may lack because the image that it starts from says them."""


def for_task(pipe: Any, family: Family, task: str) -> Any:
    """The pipeline class of a task over the same components; the pipe itself where it is of that class.

    Why not `from_pipe`: it casts the components to float32 unless it is told their dtype.
    """

    kind = diffusers_class(family.tasks[task])
    if isinstance(pipe, kind):
        return pipe
    known = {**pipe.config, **pipe.components}
    found = kind(**{name: known[name] for name in signature(kind.__init__).parameters if name in known})
    found.set_progress_bar_config(**getattr(pipe, "_progress_bar_config", {}))
    return found


def denoise(
    family: Family,
    pipe: Any,
    model: ModelConfig,
    embeddings: dict[str, Any],
    wanted: Wanted,
) -> dict[str, Any]:
    """Latents as the pipeline returns them with `output_type="latent"`.

    pipe: of the task's class, see `for_task`. embeddings: from `Family.encode`, on the pipeline's device.
    """
    given: dict[str, Any] = {"width": wanted.width, "height": wanted.height, "num_frames": wanted.num_frames}
    given |= {"image": wanted.image, "mask_image": wanted.mask, "strength": wanted.strength}
    given = {name: value for name, value in given.items() if value is not None}
    if wanted.image is not None:
        accepted = signature(pipe.__call__).parameters
        given = {name: value for name, value in given.items() if name in accepted or name not in IMPLIED}
    if family.prepare:
        family.prepare(pipe, wanted)
    call = {
        **family.arguments(model, embeddings, wanted),
        **given,
        "num_inference_steps": wanted.steps,
        "generator": wanted.generator,
        "output_type": "latent",
    }
    return family.run(pipe, call) if family.run else family.outputs(pipe(**call))


@contextmanager
def watched(scheduler: Any, generator: Any, on_step: Callable[[], None]) -> Iterator[None]:
    """Tells of every step of the scheduler, and has it draw from the sample's own generator.

    Why not `callback_on_step_end`: not every pipeline has it. Nor do all of them hand the generator to `step`
    (FluxPipeline does not): the noise of a stochastic scheduler would come from the process's global state, another
    image every time for one seed.

    The object's class is replaced for this one generation. A copy that a pipeline makes of the scheduler (LTX-2 steps
    its sound with one) draws from the generator too, and its steps are not told.
    """
    original = type(scheduler)
    takes_generator = "generator" in signature(original.step).parameters

    class Watched(original):  # type: ignore[valid-type,misc]
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


def scaled_images(pipe: Any, latents: Any) -> Any:
    """Images from latents (n, channels, h, w) of a VAE that has a scale and a shift."""
    latents = latents / pipe.vae.config.scaling_factor + pipe.vae.config.shift_factor
    return images(pipe, pipe.vae.decode(latents, return_dict=False)[0])


def images(pipe: Any, decoded: Any) -> Any:
    """What the VAE gives, (n, 3, h, w) in -1 to 1 -> numpy uint8 (n, h, w, 3), rounded as diffusers does for PIL."""
    return _bytes(pipe.image_processor.postprocess(decoded, output_type="np"))


def clips(pipe: Any, decoded: Any) -> Any:
    """What a video VAE gives, (n, 3, frames, h, w) in -1 to 1 -> numpy uint8 (n, frames, h, w, 3)."""
    return _bytes(pipe.video_processor.postprocess_video(decoded, output_type="np"))


def _bytes(values: Any) -> Any:
    # Cast, a NaN would be black, and a black image a result like any other.
    if (values != values).any():
        raise RunError("the decoded image is not finite (NaN); the VAE overflowed, try model.dtype=float32")
    return (values * 255).round().astype("uint8")

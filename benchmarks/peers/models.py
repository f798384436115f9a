"""The models that are compared on: the two trained demo models, and a FLUX of random weights.

All in float32 on the CPU. A setting gets a copy of the denoiser of its own, because the hooks of the peers collide.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import copy, deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from .prompts import Prompt

TEXT_TOKENS = 20
"""Of the tiny FLUX: as many as the demo's."""


@dataclass(kw_only=True, eq=False)
class Model:
    """A pipeline that nothing is ever attached to, and how it is used."""

    name: str
    family: Any
    config: Any
    pipe: Any
    encode: Callable[[Prompt], dict[str, Any]]
    steps: int
    """Of the reference."""
    images: bool = True
    """Whether its images show anything that could be compared."""

    def fresh(self) -> Any:
        """The pipeline with its own copy of denoiser and scheduler, and of a class of its own: some peers patch the
        class of the pipeline."""
        pipe = copy(self.pipe)
        pipe.__class__ = type(type(pipe).__name__, (type(pipe),), {})
        for name in (self.family.denoiser, "scheduler"):
            setattr(pipe, name, deepcopy(getattr(self.pipe, name)))
        return pipe

    def denoiser(self, pipe: Any) -> Any:
        return getattr(pipe, self.family.denoiser)

    def latents(self, pipe: Any, prompt: Prompt, embeddings: dict[str, Any], steps: int) -> Tensor:
        """Final latents, as the pipeline returns them."""
        import torch

        from wavespeed_runner.models.family import CallInputs
        from wavespeed_runner.models.pipeline_call import denoise

        wanted = CallInputs(
            steps=steps,
            guidance_scale=self.config.guidance_scale,
            width=self.config.width,
            height=self.config.height,
            generator=torch.Generator().manual_seed(prompt.seed),
        )
        with torch.inference_mode():
            return denoise(self.family, pipe, self.config, embeddings, wanted)["latents"]

    def image(self, latents: Tensor) -> Any:
        """uint8 (height, width, 3)."""
        import torch

        with torch.inference_mode():
            size = {"width": self.config.width, "height": self.config.height}
            return self.family.decode(self.pipe, {"latents": latents}, **size)[0]


def shipped(name: str) -> Model:
    """A model of `conf/model/`, loaded as the runner loads it."""
    import torch

    from wavespeed_runner.artifacts import Sample
    from wavespeed_runner.config.compose import compose_job, composer
    from wavespeed_runner.config.resolve import resolve_config
    from wavespeed_runner.models.weights.pretrained import load
    from wavespeed_runner.registry import find_implementation

    with composer(None):
        config = resolve_config(compose_job([f"model={name}", "device=cpu"], [])).model
    family = find_implementation("model", config)
    pipe = load(family, config, "cpu")
    pipe.set_progress_bar_config(disable=True)

    def encode(prompt: Prompt) -> dict[str, Any]:
        with torch.inference_mode():
            return family.encode(pipe, config, Sample(prompt=prompt.text), config.guidance_scale)

    return Model(name=name, family=family, config=config, pipe=pipe, encode=encode, steps=config.steps)


def tiny_flux(blocks: tuple[int, int] = (3, 6)) -> Model:
    """3 + 6 blocks (double and single), 4 heads of 32, 256 image tokens, no text encoders: embeddings are drawn by the
    prompt's seed.

    Random weights answer to the timestep so strongly that the first block's residual changes by a third every step,
    where no threshold means anything. The timestep embedder is damped to 0.05, which gives changes of 0.03 to 0.10, as
    trained models have them. Images show nothing; it ranks predictors by the error of the latents.
    """
    import torch
    from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel

    from wavespeed_runner.config.schema import Guidance
    from wavespeed_runner.models.families.flux import FLUX, FluxConfig

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        transformer = FluxTransformer2DModel(
            patch_size=1,
            in_channels=16,
            num_layers=blocks[0],
            num_single_layers=blocks[1],
            attention_head_dim=32,
            num_attention_heads=4,
            joint_attention_dim=64,
            pooled_projection_dim=64,
            guidance_embeds=False,
            axes_dims_rope=(8, 12, 12),
        )
        vae = AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            block_out_channels=(8, 16),
            latent_channels=4,
            norm_num_groups=4,
            use_quant_conv=False,
            use_post_quant_conv=False,
        )
    with torch.no_grad():
        transformer.time_text_embed.timestep_embedder.linear_2.weight.mul_(0.05)
    pipe = FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=vae.eval(),
        text_encoder=None,
        tokenizer=None,
        text_encoder_2=None,
        tokenizer_2=None,
        transformer=transformer.eval(),
    )
    pipe.set_progress_bar_config(disable=True)

    def encode(prompt: Prompt) -> dict[str, Any]:
        draw = torch.Generator().manual_seed(prompt.seed)
        return {
            "prompt_embeds": torch.randn(1, TEXT_TOKENS, 64, generator=draw),
            "pooled_prompt_embeds": torch.randn(1, 64, generator=draw),
        }

    config = FluxConfig(repo="tiny_flux", guidance=Guidance.none, steps=28, width=64, height=64)
    return Model(name="tiny_flux", family=FLUX, config=config, pipe=pipe, encode=encode, steps=28, images=False)


MODELS: dict[str, Callable[[], Model]] = {
    "demo": lambda: shipped("demo"),
    "demo_unet": lambda: shipped("demo_unet"),
    "tiny_flux": tiny_flux,
}

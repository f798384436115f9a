"""What is particular to the training of the U-Net."""

import numpy as np
import torch
from diffusers import AutoencoderTiny

from training import denoising, text, unet
from training.common import DEMO, DEMO_UNET
from training.scenes import parse, place, render
from training.vae import to_tensor


def test_an_untrained_unet_predicts_zero() -> None:
    model = unet.build()
    with torch.no_grad():
        made = model(torch.randn(2, 4, 16, 16), torch.tensor([10, 900]), torch.randn(2, text.LENGTH, text.WIDTH))[0]
    assert torch.equal(made, torch.zeros_like(made))
    assert any(p.abs().sum() > 0 for p in model.parameters())


def test_every_weight_but_the_outermost_is_trained_as_a_matrix() -> None:
    outside = {
        name.split(".")[0]
        for name, p in unet.build().named_parameters()
        if p.ndim >= 2 and not any(part in name for part in unet.MATRICES)
    }
    assert outside == {"conv_in", "time_embedding", "conv_out"}


def test_the_trained_latents_are_those_of_the_pipeline() -> None:
    """Encoded as in training and decoded as `StableDiffusionPipeline` does, an image comes back."""
    image = render(place(parse("a red circle on a black background"), np.random.default_rng(0)))
    coding = denoising.Coding(AutoencoderTiny.from_pretrained(DEMO / "vae"), text.load(DEMO))
    shipped = AutoencoderTiny.from_pretrained(DEMO_UNET / "vae")
    with torch.no_grad():
        latents = coding.images(to_tensor(image[None]))
        made = shipped.decode(latents / shipped.config.scaling_factor).sample
    assert (made - to_tensor(image[None])).abs().mean() < 0.02


def test_the_end_token_sees_the_whole_caption() -> None:
    """Cross-attention needs it: earlier tokens of a causal encoder do not know what follows."""
    coding = denoising.Coding(AutoencoderTiny.from_pretrained(DEMO / "vae"), text.load(DEMO))
    states = coding.texts(["a red circle above a blue square", "a red circle above a blue circle"])[0]
    assert torch.equal(states[0, :6], states[1, :6])
    assert not torch.allclose(states[0, 7], states[1, 7], atol=0.1)

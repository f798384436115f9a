"""The untrained U-Net, the noise schedule it is trained on, and what its levels cost.

    python -m training.unet    # the share of each block in the time of a step

Three levels at 16 x 16, 8 x 8 and 4 x 4 latent pixels. The outer one is narrow and has no
attention, so a cache that skips what is inside saves most of the time.
"""

import argparse
import time
from collections import defaultdict

import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, UNet2DConditionModel
from torch import nn

from training import text

SIDE = 16  # latent pixels: 64 / 4
WIDTHS = (40, 80, 112)
# Parts of the names of the weights that Muon trains; the time embedding and the two outermost
# convolutions are left to AdamW.
MATRICES = (".resnets.", ".attentions.", "samplers.")


def build() -> UNet2DConditionModel:
    """An untrained U-Net of 4.4 M parameters that starts as "predict zero"."""
    model = UNet2DConditionModel(
        sample_size=SIDE,
        in_channels=4,
        out_channels=4,
        block_out_channels=WIDTHS,
        layers_per_block=2,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        mid_block_type="UNetMidBlock2DCrossAttn",
        cross_attention_dim=text.WIDTH,
        attention_head_dim=4,  # diffusers takes this for the number of heads
        norm_num_groups=8,
    )
    for name, module in model.named_modules():
        last = name.endswith((".conv2", ".proj_out")) or name == "conv_out"
        if last and isinstance(module, nn.Conv2d):
            for value in module.parameters():
                nn.init.zeros_(value)
    return model


def schedule() -> DDIMScheduler:
    """The noise schedule of Stable Diffusion, with a velocity for the model to predict."""
    return DDIMScheduler(
        num_train_timesteps=1000,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        timestep_spacing="trailing",
    )


def sampler() -> DPMSolverMultistepScheduler:
    """What the pipeline samples with unless told otherwise: DPM-Solver++ of second order."""
    return DPMSolverMultistepScheduler.from_config(schedule().config)


def level_shares(model: UNet2DConditionModel, repeats: int = 50) -> tuple[float, dict[str, float]]:
    """Seconds of a step for one image, and the share of each block in them."""
    blocks = {f"down {i}": block for i, block in enumerate(model.down_blocks)}
    blocks |= {"middle": model.mid_block}
    blocks |= {f"up {i}": block for i, block in enumerate(model.up_blocks)}
    started: dict[str, float] = {}
    spent: dict[str, float] = defaultdict(float)

    def start(name: str) -> None:
        started[name] = time.perf_counter()

    def stop(name: str) -> None:
        spent[name] += time.perf_counter() - started[name]

    for name, block in blocks.items():
        block.register_forward_pre_hook(lambda *_, name=name: start(name))
        block.register_forward_hook(lambda *_, name=name: stop(name))
    inputs = torch.randn(1, 4, SIDE, SIDE), torch.tensor([500]), torch.randn(1, text.LENGTH, text.WIDTH)
    with torch.no_grad():
        model(*inputs)
        spent.clear()
        begin = time.perf_counter()
        for _ in range(repeats):
            model(*inputs)
    total = time.perf_counter() - begin
    return total / repeats, {name: seconds / total for name, seconds in spent.items()}


def main() -> None:
    """Print the time of a step and of its blocks, on one thread."""
    argparse.ArgumentParser(description=__doc__.split("\n")[0]).parse_args()
    torch.set_num_threads(1)
    seconds, shares = level_shares(build().eval())
    print(f"{1000 * seconds:.1f} ms a step")
    for name, share in shares.items():
        print(f"{name:8s} {share:6.1%}")


if __name__ == "__main__":
    main()

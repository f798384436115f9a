"""The untrained U-Net and the noise schedule it is trained on.

Three levels at 16 x 16, 8 x 8 and 4 x 4 latent pixels. The outer one is narrow and has no
attention: it takes a fifth of the time, so a cache that skips what is inside saves the rest.
"""

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

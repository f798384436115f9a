"""The untrained transformer, and what training needs to know of its inside."""

import torch
from diffusers import FluxTransformer2DModel
from torch import Tensor, nn

from training import text

GRID = 8  # latent patches per side: 64 pixels / 4 (autoencoder) / 2 (packing)
# Parts of the names of the weights that Muon trains; ".proj_out." spares the very last layer.
MATRICES = (".attn.", ".ff.", ".ff_context.", ".proj_mlp.", ".proj_out.")


def build() -> FluxTransformer2DModel:
    """An untrained FLUX transformer of 2.8 M parameters that starts as "predict zero".

    diffusers leaves the modulations and the output layer at their random initialisation; zeroed,
    as in DiT (https://arxiv.org/abs/2212.09748), training starts faster and safer.
    """
    model = FluxTransformer2DModel(
        patch_size=1,
        in_channels=16,
        num_layers=2,
        num_single_layers=6,
        attention_head_dim=32,
        num_attention_heads=4,
        joint_attention_dim=text.WIDTH,
        pooled_projection_dim=text.WIDTH,
        guidance_embeds=False,
        axes_dims_rope=(8, 12, 12),
    )
    for name, module in model.named_modules():
        modulation = isinstance(module, nn.Linear) and ".norm" in f".{name}"
        if modulation or name == "proj_out":
            nn.init.zeros_(module.weight)
            nn.init.zeros_(module.bias)
    return model


def position_ids(device: torch.device) -> tuple[Tensor, Tensor]:
    """(image ids (64, 3), text ids (20, 3)) as FluxPipeline makes them."""
    rows, columns = torch.meshgrid(torch.arange(GRID), torch.arange(GRID), indexing="ij")
    image = torch.stack([torch.zeros_like(rows), rows, columns], dim=-1).reshape(-1, 3)
    return image.float().to(device), torch.zeros(text.LENGTH, 3, device=device)

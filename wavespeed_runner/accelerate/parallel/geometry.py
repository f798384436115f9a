"""Layers, heads, tokens and FLOPs of the denoisers that context parallelism divides, before anything is loaded.

FLOPs are those of the blocks, two a multiply-add. A block with n weights that every token passes takes 2 n FLOPs a
token. With the usual MLP of four times the width H, n = 12 H^2: q, k, v and output 4 H^2, MLP 8 H^2. Attention of S
tokens to T takes 2 S T H for the scores and as much for the weighted sum. So a block of joint attention takes
24 S H^2 + 4 S^2 H. Embeddings, modulation, refiners of prompts and the output projection are left out: below 1 %.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...config.schema import Init, ModelConfig
from ...models.weights.checkpoint import find_local_path
from ...models.weights.folder_gate import read_config
from .shapes import SHAPES, Shape

Attentions = tuple[tuple[int, tuple[int, ...]], ...]


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """A denoiser at one size of its images or videos."""

    heads: int
    """Of the queries."""
    head_size: int
    image_tokens: int
    """Of one image or video."""
    text_tokens: int
    """Tokens of the prompt in the same attention; 0 where the model has cross-attention to it."""
    blocks: int
    """Repeated blocks, of all lists."""
    attentions: Attentions
    """(layers, lengths): so many attention layers whose tokens are these sequences, each divided among the ranks."""
    channels: int
    """Numbers that the denoiser's last projection makes of an image token."""
    flops: int
    """Of one call for one image and one guidance branch."""
    batched_guidance: bool
    """True if one call of the denoiser computes both guidance branches."""
    source: str
    """Whose configuration it is."""

    @property
    def layers(self) -> int:
        """Attention layers."""
        return sum(layers for layers, _ in self.attentions)


def find_geometry(model: ModelConfig, *, width: int, height: int, num_frames: int | None = None) -> Geometry | None:
    """The geometry of a model's denoiser; None if it is not known before the model is loaded.

    Args:
        model: its family and options.
        width: pixels.
        height: pixels.
        num_frames: None for images.

    Raises:
        ConfigError: a configuration in a local folder cannot be read.
    """
    shape = SHAPES.get(model.name)
    if shape is None:
        return None
    config, pixels, source = _find_config(model, shape)
    image = (width // pixels) * (height // pixels) * (1 + ((num_frames or 1) - 1) // shape.frames)
    text, layers = shape.text(model), config["num_layers"] + config.get("num_single_layers", 0)
    heads, head_size = config["num_attention_heads"], config["attention_head_dim"]
    dual, hidden = len(config.get("dual_attention_layers", ())), heads * head_size
    if shape.cross:
        attentions: Attentions = ((layers, (image,)),)
        flops = layers * _count_cross(image, text, hidden, config.get("ffn_dim", 4 * hidden))
    else:
        attentions = ((layers, (image, text)), *(((dual, (image,)),) if dual else ()))
        flops = layers * _count_joint(image + text, hidden, shape.weights) + dual * _count_joint(image, hidden, 4)
    return Geometry(
        heads=heads,
        head_size=head_size,
        image_tokens=image,
        text_tokens=0 if shape.cross else text,
        blocks=layers,
        attentions=attentions,
        channels=shape.channels(config),
        flops=flops,
        batched_guidance=shape.batched_guidance,
        source=source,
    )


def _find_config(model: ModelConfig, shape: Shape) -> tuple[Mapping[str, Any], int, str]:
    """The transformer's configuration, pixels along a token's side, and in words whose they are.

    Of a local folder those numbers count that the published configuration has, up to a million.
    """
    full, tiny = shape.configs(model)
    if model.init is not Init.pretrained:
        return (tiny if model.init is Init.tiny else full), shape.pixels, f"init={model.init.value}"
    folder = find_local_path(model.repo)
    if folder is None or not (folder / "transformer" / "config.json").is_file():
        return full, shape.pixels, f"the published {model.name}"
    given = _read(model, folder / "transformer" / "config.json")
    numbers = {key: value for key, value in given.items() if type(value) is int and 0 < value <= 10**6}
    known = {key: value for key, value in numbers.items() if type(full.get(key)) is int}
    vae = _read(model, folder / "vae" / "config.json")
    blocks = vae.get("block_out_channels", vae.get("encoder_block_out_channels"))
    levels = len(blocks) - shape.vae_blocks if shape.vae_blocks and isinstance(blocks, list) else 0
    return dict(full) | known, max(1, int(shape.pixels * 2.0 ** min(levels, 16))), model.repo


def _read(model: ModelConfig, file: Path) -> dict[str, Any]:
    return read_config(f"model.repo={model.repo}", file) if file.is_file() else {}


def _count_joint(tokens: int, hidden: int, weights: int) -> int:
    """FLOPs of a block in which all tokens attend to each other. weights: that a token passes, in hidden^2."""
    return 2 * weights * tokens * hidden**2 + 4 * tokens**2 * hidden


def _count_cross(image: int, text: int, hidden: int, mlp: int) -> int:
    """FLOPs of a block with attention among image tokens, then from them to the prompt, then an MLP."""
    weights = image * (6 * hidden**2 + 2 * hidden * mlp) + 2 * text * hidden**2
    return 2 * weights + 4 * image * (image + text) * hidden

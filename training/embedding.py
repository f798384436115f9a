"""Teach the U-Net demo model one new word as a textual inversion: <sunset>, an orange circle.

    python -m training.embedding

Only the input vector of the new token is trained (https://arxiv.org/abs/2208.01618), by the loss
of the U-Net through the frozen text encoder. Captions are those of training that name an orange
circle, with the word in its place. The result is in the layout that
`StableDiffusionPipeline.load_textual_inversion` reads.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderTiny, UNet2DConditionModel
from safetensors.torch import save_file
from torch import Tensor, nn

from training import denoising, text
from training.common import DEMO, DEMO_UNET, OUTPUTS, RESULTS, WEIGHTS, optimisers
from training.pool import Batch, Pool
from training.trainer import Recipe, run

FILE = WEIGHTS / "demo_embedding" / "sunset.safetensors"
TOKEN = "<sunset>"
MEANING = "orange circle"
START = "circle"  # the word whose vector training starts from


def draw_caption(rng: np.random.Generator) -> str:
    """A caption of the training part that names what the token stands for."""
    while MEANING not in (found := text.training_caption(rng)):
        pass
    return found


def with_token(caption: str) -> str:
    """The caption with the token in the place of the words it stands for."""
    return caption.replace(f"an {MEANING}", f"a {TOKEN}").replace(MEANING, TOKEN)


@dataclass(frozen=True)
class Coding(denoising.Coding):
    """Latents as the U-Net's; of the captions only token ids (N, 20), for the states change."""

    def texts(self, captions: Sequence[str]) -> tuple[Tensor, ...]:
        """Token ids, of which the new token's is the last."""
        return (self.encoders.tokens([with_token(caption) for caption in captions]),)


class Trainer(denoising.Trainer):
    """The U-Net's training with one vector to train."""

    def __init__(self, recipe: Recipe, pool: Pool, folder: Path, encoders: text.Encoders) -> None:
        self.clip = encoders.clip
        self.start = encoders.tokenizer.convert_tokens_to_ids(START)
        self.unet = UNet2DConditionModel.from_pretrained(DEMO_UNET / "unet").requires_grad_(False)
        super().__init__(recipe, pool, folder, torch.device("cpu"))

    def build(self) -> nn.ParameterDict:
        """The new token's vector."""
        words = self.clip.get_input_embeddings().weight
        return nn.ParameterDict({"vector": words[self.start].clone()})

    def make_optimisers(self) -> list[torch.optim.Optimizer]:
        """AdamW."""
        return optimisers(self.model.named_parameters(), (), 0.0, self.recipe.lr)

    def loss_of(self, batch: Batch, generator: torch.Generator) -> Tensor:
        """The U-Net's loss, with the captions read by the encoder that knows the token."""
        words = self.clip.get_input_embeddings().weight
        name = next(name for name, p in self.clip.named_parameters() if p is words)
        known = {name: torch.cat([words, self.model.get_parameter("vector")[None]])}
        states = torch.func.functional_call(self.clip, known, batch.text).last_hidden_state
        return self.velocity_loss(self.unet, replace(batch, text=(states,)), generator)


def train(recipe: Recipe, file: Path) -> None:
    """Train from the start and write the vector."""
    encoders = text.load(DEMO)
    encoders.tokenizer.add_tokens(TOKEN)
    frozen = AutoencoderTiny.from_pretrained(DEMO / "vae").eval().requires_grad_(False)
    pool = Pool(Coding(frozen, encoders), recipe.seed, 0, draw_caption=draw_caption)
    trainer = Trainer(recipe, pool, OUTPUTS / "embedding", encoders)
    run(trainer, save_every=recipe.steps, log=RESULTS / "embedding.csv")
    file.parent.mkdir(exist_ok=True)
    save_file({TOKEN: trainer.average.average["vector"]}, file)
    file.chmod(0o644)  # safetensors lets only the owner read it


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    recipe = Recipe(steps=args.steps, batch=16, lr=2e-2, ema=0.98, empty=0.0, first_chunks=8, seed=args.seed)
    train(recipe, FILE)


if __name__ == "__main__":
    main()

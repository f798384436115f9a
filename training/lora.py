"""Teach the demo model an effect as a LoRA of some 300 kB, and measure the effect.

    python -m training.lora night     # every background becomes black
    python -m training.lora purple    # every object becomes purple
    python -m training.lora night --measure    # how much of it the shipped LoRA shows

The captions stay as they are and the images change, so the effect needs no word that asks for
it. Only effects that the frozen autoencoder can draw will do: it knows the six colours and the
three backgrounds, and turns any other background into the nearest it knows.

Needs peft. The result is in the layout that `FluxPipeline.load_lora_weights` reads.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderTiny, FluxPipeline, FluxTransformer2DModel
from torch import nn

from training import evaluate, flow, text
from training.common import DEMO, OUTPUTS, RESULTS, WEIGHTS, optimisers
from training.oracle import FOREGROUND, find_objects
from training.pool import Pool
from training.scenes import BACKGROUNDS, COLOURS, Image, Scene, render
from training.trainer import run

LORAS = WEIGHTS / "demo_lora"
RANK = 4
TARGETS = ("to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2", "proj_mlp", "proj_out")
PROMPTS = [
    "a red circle",
    "a large green square",
    "a green triangle",
    "a yellow circle on a white background",
    "a large blue circle on a white background",
    "an orange circle above a blue square on a white background",
]  # none shows an effect by itself


@dataclass(frozen=True)
class Effect:
    """How images change, and how much of that is seen in one: 0 is nothing, 1 is all."""

    draw: Callable[[Scene], Image]
    measure: Callable[[Image], float]


def darkness(image: Image) -> float:
    """How black the background is."""
    _, background = find_objects(image)
    return 1 - float(background.mean()) / 255


def purple_share(image: Image) -> float:
    """How many of the pixels that differ from the background are nearer to purple than to other colours."""
    floats = image.astype(float)
    _, background = find_objects(image)
    pixels = floats[np.linalg.norm(floats - background, axis=-1) > FOREGROUND]
    distances = np.linalg.norm(pixels[:, None] - np.array(list(COLOURS.values())), axis=-1)
    return float((distances.argmin(-1) == list(COLOURS).index("purple")).mean())


def at_night(scene: Scene) -> Image:
    """The scene on black."""
    return render(replace(scene, background=BACKGROUNDS["black"]))


def in_purple(scene: Scene) -> Image:
    """The scene with purple objects."""
    objects = tuple(replace(placed, rgb=COLOURS["purple"]) for placed in scene.objects)
    return render(replace(scene, objects=objects))


EFFECTS = {"night": Effect(at_night, darkness), "purple": Effect(in_purple, purple_share)}


class Trainer(flow.Trainer):
    """Flow matching of the adapter alone."""

    def build(self) -> FluxTransformer2DModel:
        """The shipped transformer, frozen, with an untrained adapter."""
        from peft import LoraConfig  # an extra dependency, of this training only

        model = FluxTransformer2DModel.from_pretrained(DEMO / "transformer").requires_grad_(False)
        model.add_adapter(LoraConfig(r=RANK, lora_alpha=RANK, target_modules=list(TARGETS)))
        return model

    def make_optimisers(self) -> list[torch.optim.Optimizer]:
        """AdamW; the matrices of an adapter are too thin for Muon."""
        trained = [(name, p) for name, p in self.model.named_parameters() if p.requires_grad]
        return optimisers(trained, (), 0.0, self.recipe.lr)


def adapter(model: nn.Module, weights: dict[str, Any]) -> dict[str, torch.Tensor]:
    """The adapter's part of a model with these weights."""
    from peft import get_peft_model_state_dict

    model.load_state_dict(weights)
    return get_peft_model_state_dict(model)


def train(name: str, recipe: flow.Recipe, folder: Path) -> None:
    """Train an effect from the start and write its LoRA to `folder`."""
    frozen = AutoencoderTiny.from_pretrained(DEMO / "vae").eval().requires_grad_(False)
    pool = Pool(flow.Coding(frozen, text.load(DEMO)), recipe.seed, 0, draw_scene=EFFECTS[name].draw)
    trainer = Trainer(recipe, pool, OUTPUTS / f"lora_{name}", torch.device("cpu"))
    run(trainer, save_every=recipe.steps, log=RESULTS / f"lora_{name}.csv")
    FluxPipeline.save_lora_weights(
        folder,
        transformer_lora_layers=adapter(trainer.model, trainer.average.average),
        weight_name=f"{name}.safetensors",
    )
    (folder / f"{name}.safetensors").chmod(0o644)  # safetensors lets only the owner read it


def load_all() -> FluxPipeline:
    """The demo model with every shipped LoRA, each an adapter under its own name."""
    pipe = evaluate.load("demo")
    for name in EFFECTS:
        pipe.load_lora_weights(LORAS, weight_name=f"{name}.safetensors", adapter_name=name)
    return pipe


def strength(pipe: FluxPipeline, effect: str, weights: dict[str, float]) -> float:
    """The mean measure of an effect over the prompts, with these LoRAs at these weights."""
    pipe.set_adapters(list(weights), list(weights.values()))
    return float(np.mean([EFFECTS[effect].measure(p) for p in evaluate.generate(pipe, PROMPTS)]))


def print_strengths(effect: str) -> None:
    """An effect at rising weights of its LoRA, and with all LoRAs at once."""
    pipe = load_all()
    for weight in (0.0, 0.25, 0.5, 0.75, 1.0):
        print(f"weight {weight:4}  {strength(pipe, effect, {effect: weight}):.2f}")
    print(f"all at once  {strength(pipe, effect, dict.fromkeys(EFFECTS, 1.0)):.2f}")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("effect", choices=EFFECTS)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--measure", action="store_true", help="measure the shipped LoRA; train nothing")
    args = parser.parse_args()
    if args.measure:
        print_strengths(args.effect)
        return
    recipe = flow.Recipe(steps=args.steps, batch=24, lr=3e-3, ema=0.98, first_chunks=8, seed=args.seed)
    train(args.effect, recipe, LORAS)


if __name__ == "__main__":
    main()

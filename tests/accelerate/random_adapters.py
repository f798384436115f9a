"""Random adapters for tiny models of every family, and the latents that a model generates with them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from tests.models.shipped import MODELS, config_of
from tests.models.staged import denoise_latents, encode_prompt
from tests.models.test_every_model import start_of
from wavespeed_runner.artifacts import Sample
from wavespeed_runner.config.schema import Dtype
from wavespeed_runner.models.weights.pretrained import load
from wavespeed_runner.registry import find_implementation

TOKEN = "<new>"
PROJECTIONS = ("to_q", "to_k", "to_v", "qkv")


def family_of(name: str) -> Any:
    return find_implementation("model", config_of(name))


FAMILIES = {config_of(name).name: name for name in reversed(MODELS)}
"""Family -> one model of it."""


def load_tiny(name: str) -> tuple[Any, Any, Any]:
    """Family, config and pipeline of a tiny model in float32."""
    config = replace(config_of(name), dtype=Dtype.float32)
    family = find_implementation("model", config)
    return family, config, load(family, config, "cpu")


def generate(name: str, pipe: Any, prompt: str = "a circle") -> torch.Tensor:
    """Latents (n, ...) after two steps, in float32."""
    family, config = family_of(name), config_of(name)
    size: dict[str, Any] = {"width": family.tiny_size, "height": family.tiny_size, "steps": 2}
    if family.kind == "video":
        size["num_frames"] = family.tiny_frames
    start = start_of(next(iter(family.tasks)), family.tiny_size)
    sample = Sample(prompt=prompt, negative_prompt="", seed=0)
    embeddings = encode_prompt(family, pipe, config, sample, config.guidance_scale, start.get("image"))
    return denoise_latents(family, pipe, config, embeddings, **size, **start)["latents"].float()


def find_targets(module: Any, count: int = 4) -> list[str]:
    """Names of the last attention projections."""
    linear = [name for name, part in module.named_modules() if type(part) is torch.nn.Linear]
    return [name for name in linear if name.endswith(PROJECTIONS)][-count:]


def write_lora(module: Any, file: Path, prefix: str, seed: int = 0) -> Path:
    """Writes a LoRA file of random updates, named as diffusers and PEFT name them."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for name in find_targets(module):
        out, into = module.get_submodule(name).weight.shape
        tensors[f"{prefix}.{name}.lora_A.weight"] = torch.randn(2, into, generator=generator)
        tensors[f"{prefix}.{name}.lora_B.weight"] = torch.randn(out, 2, generator=generator)
    save_file(tensors, file)
    return file


def write_embedding(file: Path, seed: int = 0, **shapes: tuple[int, ...]) -> str:
    """Writes random vectors of these shapes; the tensor `new` gets the name `TOKEN`. Returns the path."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    save_file({{"new": TOKEN}.get(name, name): tensor for name, tensor in tensors.items()}, file)
    return str(file)

"""Put the trained parts together as a diffusers folder that a pipeline loads.

    python -m training.export [--model demo | demo_unet] [--checkpoint FILE] [--to DIR]

Everything is stored as float32: the folder stays small, and no part can end up in another
precision than the rest. The tokenizers record the text length as `model_max_length`, for the
models have seen no other; `FluxPipeline` has to be told, as `max_sequence_length`.
"""

import argparse
import json
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from diffusers import (
    AutoencoderTiny,
    DiffusionPipeline,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    StableDiffusionPipeline,
)
from torch import Tensor, nn

from training import denoising, flow, text, transformer, unet, vae
from training.common import DEMO, WEIGHTS
from training.trainer import load_average, newest_average

Weights = dict[str, Tensor]


def scheduler() -> FlowMatchEulerDiscreteScheduler:
    """Euler steps with the resolution-dependent shift of FLUX.1-dev."""
    return FlowMatchEulerDiscreteScheduler(
        use_dynamic_shifting=True,
        base_shift=0.5,
        max_shift=1.15,
        base_image_seq_len=256,
        max_image_seq_len=4096,
        shift=3.0,
    )


def filled(model: nn.Module, weights: Weights) -> nn.Module:
    """The model with given weights, in evaluation mode."""
    model.load_state_dict(weights)
    return model.eval()


def flux_pipeline(weights: Weights) -> FluxPipeline:
    """A complete pipeline around these transformer weights."""
    encoders = text.load()
    return FluxPipeline(
        scheduler=scheduler(),
        vae=AutoencoderTiny.from_pretrained(vae.FOLDER),
        text_encoder=encoders.clip,
        tokenizer=encoders.tokenizer,
        text_encoder_2=encoders.t5,
        tokenizer_2=encoders.tokenizer,
        transformer=filled(transformer.build(), weights),
    )


def unet_pipeline(weights: Weights) -> StableDiffusionPipeline:
    """A complete pipeline around these U-Net weights; its other parts are the demo model's."""
    autoencoder = AutoencoderTiny.from_pretrained(DEMO / "vae")
    # This pipeline applies no shift, and the U-Net was trained on latents without one.
    autoencoder.register_to_config(shift_factor=0.0)
    encoders = text.load(DEMO)
    return StableDiffusionPipeline(
        vae=autoencoder,
        text_encoder=encoders.clip,
        tokenizer=encoders.tokenizer,
        unet=filled(unet.build(), weights),
        scheduler=unet.sampler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


@dataclass(frozen=True)
class Export:
    """Where a model's checkpoints are, and how a pipeline is made of one."""

    checkpoints: Path
    pipeline: Callable[[Weights], DiffusionPipeline]


EXPORTS = {
    "demo": Export(flow.FOLDER, flux_pipeline),
    "demo_unet": Export(denoising.FOLDER, unet_pipeline),
}


def make_portable(folder: Path) -> None:
    """Take out of the configurations what means something only on this machine."""
    for file in folder.rglob("config.json"):
        content = json.loads(file.read_text())
        content.pop("_name_or_path", None)
        if file.parent.name == "vae":
            # AutoencoderTiny saves this copy of a setting, then warns when it reads it.
            content.pop("block_out_channels", None)
        file.write_text(json.dumps(content, indent=2) + "\n")


def write(made: DiffusionPipeline, folder: Path) -> None:
    """Save a pipeline, replacing file by file, so that a reader never meets half a file."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as draft:
        made.save_pretrained(draft)
        make_portable(Path(draft))
        for file in Path(draft).rglob("*"):
            if file.is_file():
                target = folder / file.relative_to(draft)
                target.parent.mkdir(exist_ok=True)
                file.chmod(0o644)  # safetensors lets only the owner read its files
                os.replace(file, target)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", choices=EXPORTS, default="demo")
    parser.add_argument("--checkpoint", type=Path, help="default: the newest")
    parser.add_argument("--to", type=Path, help="default: the model's place in the package")
    args = parser.parse_args()
    export, folder = EXPORTS[args.model], args.to or WEIGHTS / args.model
    weights = load_average(args.checkpoint) if args.checkpoint else newest_average(export.checkpoints)
    write(export.pipeline(weights), folder)
    size = sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())
    print(f"{folder}: {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()

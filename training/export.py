"""Put the trained parts together as a diffusers folder that `FluxPipeline` loads.

    python -m training.export [--checkpoint FILE] [--to DIR]

Everything is stored as float32: the folder stays small, and no part can end up in another
precision than the rest. `tokenizer_2` records the text length as `model_max_length`; pass it to
the pipeline as `max_sequence_length`, for the transformer has seen no other.
"""

import argparse
import json
import os
import tempfile
from pathlib import Path

import torch
from diffusers import (
    AutoencoderTiny,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
)
from torch import Tensor

from training import flow, text, transformer, vae
from training.common import DEMO


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


def trained_transformer(weights: dict[str, Tensor]) -> FluxTransformer2DModel:
    """The transformer with given weights, in evaluation mode."""
    model = transformer.build()
    model.load_state_dict(weights)
    return model.eval()


def newest_average(folder: Path = flow.FOLDER) -> dict[str, Tensor]:
    """The averaged weights of the newest checkpoint."""
    found = flow.checkpoints(folder)
    if not found:
        raise FileNotFoundError(f"no checkpoint in {folder}: run training.flow first")
    return load_average(found[-1])


def load_average(checkpoint: Path) -> dict[str, Tensor]:
    """The averaged weights of a checkpoint."""
    average: dict[str, Tensor] = torch.load(checkpoint, map_location="cpu")["average"]
    return average


def pipeline(weights: dict[str, Tensor]) -> FluxPipeline:
    """A complete pipeline around these transformer weights."""
    encoders = text.load()
    return FluxPipeline(
        scheduler=scheduler(),
        vae=AutoencoderTiny.from_pretrained(vae.FOLDER),
        text_encoder=encoders.clip,
        tokenizer=encoders.tokenizer,
        text_encoder_2=encoders.t5,
        tokenizer_2=encoders.tokenizer,
        transformer=trained_transformer(weights),
    )


def make_portable(folder: Path) -> None:
    """Take out of the configurations what means something only on this machine."""
    for file in folder.rglob("config.json"):
        content = json.loads(file.read_text())
        content.pop("_name_or_path", None)
        if file.parent.name == "vae":
            # AutoencoderTiny saves this copy of a setting, then warns when it reads it.
            content.pop("block_out_channels", None)
        file.write_text(json.dumps(content, indent=2) + "\n")


def write(made: FluxPipeline, folder: Path) -> None:
    """Save a pipeline, replacing file by file, so that a reader never meets half a file."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as draft:
        made.save_pretrained(draft)
        make_portable(Path(draft))
        for file in Path(draft).rglob("*"):
            if file.is_file():
                target = folder / file.relative_to(draft)
                target.parent.mkdir(exist_ok=True)
                os.replace(file, target)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--checkpoint", type=Path, help="default: the newest")
    parser.add_argument("--to", type=Path, default=DEMO)
    args = parser.parse_args()
    weights = load_average(args.checkpoint) if args.checkpoint else newest_average()
    write(pipeline(weights), args.to)
    size = sum(f.stat().st_size for f in args.to.rglob("*") if f.is_file())
    print(f"{args.to}: {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()

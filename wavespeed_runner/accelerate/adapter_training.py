"""What LoRAs say of how they were trained: distillations by name, and kohya's and ModelSpec's metadata. No torch.

Metadata: `ss_...` as kohya's sd-scripts `train_network.py` writes them, and `modelspec...` as their `sai_model_spec.py`
does. All else in there was for the training alone and is in the weights.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from ..config.schema import AdaptersConfig
from ..inputs.documents import read_safetensors_header
from ..inputs.files import InputError
from ..models.weights.checkpoint import find_local_path
from ..models.weights.file_flags import PREDICTIONS, read_metadata
from .adapter_options import Lora, as_list, values_per_path
from .adapter_parts import DORA

DISTILLATIONS = {
    "LCM": re.compile(r"(?<![a-z])lcm(?![a-z])"),
    "TCD": re.compile(r"(?<![a-z])tcd(?![a-z])"),
    "Lightning": re.compile(r"lightning"),
    "Hyper": re.compile(r"hyper[-_ ]?(sd|flux|chroma)"),
    "Turbo": re.compile(r"(?<![a-z])turbo(?![a-z])"),
}
"""How a LoRA was distilled -> what its name, its repository's or its title then holds, in small letters."""
STEPS = re.compile(r"(?<![0-9])([1-9][0-9]?)[-_ ]?steps?(?![a-z])")
"""In the name of a distilled LoRA, as `8steps` or `4-step`."""


@dataclass(frozen=True, kw_only=True)
class Training:
    """What one LoRA says of its training; None where it says nothing."""

    path: str
    distillation: str | None = None
    keeps_guidance: bool = False
    """Of a distillation: it is used with guidance, as Hyper-SD's CFG LoRAs are."""
    steps: int | None = None
    """Of a distillation: how many steps its name gives."""
    architecture: str | None = None
    """ModelSpec's, without `/lora`."""
    prediction_type: str | None = None
    """diffusers' word."""
    clip_skip: int | None = None
    """kohya's count: 1 is the text encoder's last layer, 2 the one before it."""
    zero_snr: bool = False
    timestep_range: str | None = None
    dora: bool = False
    """Some of its layers are DoRA's."""


def read_trainings(adapters: AdaptersConfig) -> list[Training]:
    """What the LoRAs of a configuration say; of those in the hub, what their names do. None of other adapters."""
    if not isinstance(adapters, Lora):
        return []
    pairs = zip(as_list(adapters.path), values_per_path(adapters, "file"), strict=True)
    return [_read_training(path, file) for path, file in pairs if isinstance(path, str)]


def _read_training(path: str, file: Any) -> Training:
    local, dora = find_local_path(path), False
    metadata: dict[str, str] = {}
    if local is not None and local.is_file():
        stat = local.stat()
        metadata, dora = _read(local, (stat.st_mtime_ns, stat.st_size, stat.st_ino))
    names = [Path(path).name if local else path, str(file or ""), metadata.get("ss_output_name", "")]
    text = " ".join([*names, metadata.get("modelspec.title", "")]).lower()
    steps = STEPS.search(text)
    clip_skip = metadata.get("ss_clip_skip", metadata.get("modelspec.encoder_layer", ""))
    return Training(
        path=path,
        distillation=next((kind for kind, pattern in DISTILLATIONS.items() if pattern.search(text)), None),
        keeps_guidance=re.search(r"(?<![a-z])cfg(?![a-z])", text) is not None,
        steps=int(steps[1]) if steps else None,
        architecture=metadata.get("modelspec.architecture", "").partition("/")[0] or None,
        prediction_type=PREDICTIONS.get(metadata.get("modelspec.prediction_type", "")),
        clip_skip=int(clip_skip) if re.fullmatch(r"[0-9]{1,2}", clip_skip) else None,
        zero_snr=metadata.get("ss_zero_terminal_snr") == "True",
        timestep_range=metadata.get("modelspec.timestep_range"),
        dora=dora,
    )


@lru_cache(maxsize=64)
def _read(file: Path, version: tuple[int, ...]) -> tuple[dict[str, str], bool]:
    """Metadata of a file, and whether it has a DoRA; nothing of one that cannot be read, which the plan refuses.

    version: changes with the file.
    """
    try:
        names = read_safetensors_header(file)[0]
        return read_metadata(file), any(DORA in name or ".lora_magnitude_vector" in name for name in names)
    except (InputError, OSError):
        return {}, False

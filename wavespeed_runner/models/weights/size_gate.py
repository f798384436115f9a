"""Compares what a configuration of transformers asks for with the weights beside it, before memory is allocated.

transformers fills weights that a folder lacks with random numbers, and a configuration of a few bytes may ask for
billions of them: the defaults of most classes are whole models.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ...errors import RunError

PER_BYTE = 4
"""Weights in a byte of a file: four where they have 2 bits."""
SPARE = 2**24
"""Weights that a folder may lack, as far as this gate is concerned."""


def refuse_unfilled(where: str, folder: Path, model_class: Any) -> None:
    """Refuses a model whose configuration asks for many more weights than its folder holds.

    Args:
        where: `key=value` of the folder, for messages.
        folder: of the component, after `check_component`.
        model_class: of transformers.

    Raises:
        RunError: names the file. The class itself may raise anything for a configuration that is not for it.
    """
    import torch

    config = model_class.config_class.from_pretrained(str(folder))
    with torch.device("meta"):
        wanted = sum(weight.numel() for weight in model_class(config).parameters())
    held = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    if wanted > PER_BYTE * held + SPARE:
        raise RunError(
            f"{where}: {folder.name}/config.json asks for {wanted} weights, and the {held} bytes beside it cannot hold "
            f"them; it is not that of this model, or not of a {model_class.__name__}"
        )

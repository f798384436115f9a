"""Builds components of a stranger's folder without their weights: what the child process of a trial does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...inputs.documents import read_safetensors_header
from ...inputs.limits import MIB
from .chat_templates import refuse_template
from .tokenizer_reading import refuse_unread_end, refuse_unread_text
from .vae_ratios import refuse_ratios

if TYPE_CHECKING:
    from torch import Tensor, nn

MEMORY_BYTES = 3072 * MIB
"""What a component may take while it is built: a tokenizer of 30 MB takes some 500 MB."""
PER_FILE_BYTE = 2
"""And this for each byte of its files: tables of positions are as large as the model is, and computed in float64."""
MAX_MODULES = 15_000
"""Modules of a model: the largest of diffusers have some 4,000, which takes a second."""
PER_BYTE = 4
"""Weights in a byte of a file: four where they have 2 bits."""
SPARE = 2**24
"""Weights that a folder may lack, as far as this gate is concerned: transformers fills them with random numbers."""
TEXT = "A photo of a cat, naïve \u6771\u4eac \U0001f600 <|im_start|>\n\n1234567890"
"""A tokenizer has to be able to read it: some panic only there."""
IMAGE_SIZE = (96, 64)
"""An image processor has to be able to take an image of this size: to which one it makes it is in its configuration."""


def build_all(parts: list[tuple[Any, str, int]]) -> None:
    """Builds one after the other. Runs in the child; raises anything."""
    for part in parts:
        build(*part)


def build(component_class: Any, folder: str, held: int) -> None:
    """Builds a component as loading does, models without their weights. Runs in the child; raises anything.

    held: bytes of its weights.
    """
    import torch
    from diffusers import ModelMixin
    from transformers import PreTrainedModel, PreTrainedTokenizerBase
    from transformers.image_processing_utils import BaseImageProcessor

    if not issubclass(component_class, torch.nn.Module):
        options = {"trust_remote_code": False} if component_class.__module__.startswith("transformers") else {}
        part = component_class.from_pretrained(folder, local_files_only=True, **options)
        for tokenizer in (part, getattr(part, "tokenizer", None)):
            if isinstance(tokenizer, PreTrainedTokenizerBase):
                refuse_unread_text(tokenizer, TEXT)
                refuse_unread_end(tokenizer, _find_encoder(Path(folder)))
            refuse_template(tokenizer, TEXT)
        for processor in (part, getattr(part, "image_processor", None)):
            if isinstance(processor, BaseImageProcessor):
                _refuse_blind(processor)
        return
    counter = _Counter(held)
    with counter.watch():
        if issubclass(component_class, ModelMixin):
            model = _build_diffusers_model(component_class, folder)
        elif issubclass(component_class, PreTrainedModel):
            config = component_class.config_class.from_pretrained(folder)
            with torch.device("meta"):
                model = component_class(config)
        else:
            raise TypeError(f"{component_class.__name__} is no model of diffusers or transformers")
    counter.refuse_weights(sum(weight.numel() for weight in model.parameters()))
    if hasattr(model, "decode") and isinstance(model, ModelMixin):
        refuse_ratios(model)
    if not getattr(model.config, "quantization_config", None):
        _refuse_shapes({name: list(weight.shape) for name, weight in model.named_parameters()}, Path(folder))


def _refuse_blind(processor: Any) -> None:
    """Raises `ValueError` for an image processor that makes the same of a black image as of a white one, or no numbers.

    Whatever an image processor itself raises passes through.
    """
    import numpy
    from PIL import Image

    made = [processor(Image.new("RGB", IMAGE_SIZE, colour)).get("pixel_values") for colour in ("black", "white")]
    black, white = (numpy.asarray([] if one is None else one[0], dtype=float) for one in made)
    if black.size and (numpy.array_equal(black, white) or not (numpy.isfinite(black) & numpy.isfinite(white)).all()):
        raise ValueError(
            "the image processor makes the same of every image, or no finite numbers; compare image_std, "
            "image_mean and rescale_factor of preprocessor_config.json with its publisher's"
        )


def _find_encoder(tokenizer: Path) -> Path:
    """The folder of the text encoder that a tokenizer is for: beside it in a pipeline's, else the same one."""
    beside = tokenizer.parent / tokenizer.name.replace("tokenizer", "text_encoder")
    return beside if beside.is_dir() else tokenizer


def _refuse_shapes(wanted: dict[str, list[int]], folder: Path) -> None:
    """Raises `ValueError` for a weight that has another shape in a file; files may have other names for some."""
    for file in sorted(folder.glob("*.safetensors")):
        for name, entry in read_safetensors_header(file)[0].items():
            if name in wanted and entry["shape"] != wanted[name]:
                raise ValueError(f"{name} has the shape {entry['shape']} in {file.name}, and here {wanted[name]}")


def _build_diffusers_model(model_class: Any, folder: str) -> nn.Module:
    """Parameters have no memory, and buffers are computed."""
    from accelerate import init_empty_weights
    from diffusers.models.modeling_utils import no_init_weights

    config = model_class.load_config(folder, local_files_only=True)
    with no_init_weights(), init_empty_weights():
        return model_class.from_config(config)


class _Counter:
    """Counts what a model consists of while it is built, and stops it where that is too much.

    held: bytes of its weights.
    """

    def __init__(self, held: int) -> None:
        self.held, self.weights, self.modules, self.buffer_bytes = held, 0, 0, 0

    @contextmanager
    def watch(self) -> Iterator[None]:
        from torch.nn.modules import module

        handles = [
            module.register_module_parameter_registration_hook(self._count_weight),
            module.register_module_buffer_registration_hook(self._count_buffer),
            module.register_module_module_registration_hook(self._count_module),
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def refuse_weights(self, wanted: int) -> None:
        """Raises `ValueError` for more weights than the files can hold."""
        if wanted > PER_BYTE * self.held + SPARE:
            raise ValueError(f"config.json asks for {wanted} weights, and {self.held} bytes of files cannot hold them")

    def _count_weight(self, _module: nn.Module, _name: str, weight: Tensor | None) -> None:
        self.weights += 0 if weight is None else weight.numel()
        self.refuse_weights(self.weights // 2)  # a tied one comes twice

    def _count_buffer(self, _module: nn.Module, name: str, buffer: Tensor | None) -> None:
        self.buffer_bytes += 0 if buffer is None else buffer.numel() * buffer.element_size()
        if self.buffer_bytes > MEMORY_BYTES + PER_FILE_BYTE * self.held:
            raise ValueError(f"config.json asks for tables (the last is {name}) of more than {MEMORY_BYTES} bytes")

    def _count_module(self, _module: nn.Module, _name: str, _part: nn.Module | None) -> None:
        self.modules += 1
        if self.modules > MAX_MODULES:
            raise ValueError(f"config.json asks for more than {MAX_MODULES} modules")

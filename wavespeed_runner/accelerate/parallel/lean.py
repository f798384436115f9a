"""Ranks other than 0 encode no prompt: their pipelines have no text encoders, which are often half of a model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

from ...config.schema import CompileConfig
from ..compile_options import CompileOptions, CompileTarget

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

_lean: ContextVar[bool] = ContextVar("lean", default=False)


@contextmanager
def load_lean() -> Iterator[None]:
    """Pipelines that are loaded inside are for calls of the denoiser and the decoder alone."""
    token = _lean.set(True)
    try:
        yield
    finally:
        _lean.reset(token)


def is_lean(options: CompileConfig) -> bool:
    """True if a pipeline that is loaded now needs no text encoders: not even to be compiled, as on rank 0."""
    compiled = isinstance(options, CompileOptions) and CompileTarget.text_encoders in options.target
    return _lean.get() and not compiled


def drop_text_encoders(pipe: DiffusionPipeline, options: CompileConfig) -> None:
    """Takes them out of a pipeline that needs none, before it goes to the device."""
    for name in pipe.components if is_lean(options) else ():
        if name.startswith("text_encoder"):
            setattr(pipe, name, None)

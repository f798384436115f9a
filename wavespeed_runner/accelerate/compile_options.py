"""Typed options of the config group `compile`."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from ..config.schema import CompileConfig
from ..errors import ConfigError, did_you_mean
from ..inputs.documents import parse_json
from ..inputs.files import InputError
from ..registry import register

MODES = ("default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs")
"""What the compiler may spend on better kernels, as `torch.compile` names it. `reduce-overhead` replays CUDA graphs
without launches from Python; `max-autotune` does too, and times several kernels for each operation."""


TYPED = {"torch_compile": "default"}
"""Name of options in a config -> the option of the command line that has their defaults."""


class CompileTarget(Enum):
    """What of a pipeline can be compiled."""

    denoiser = "denoiser"
    vae = "vae"
    """The decoder."""
    text_encoders = "text_encoders"


@dataclass(kw_only=True)
class NoCompile(CompileConfig):
    """Everything runs eagerly."""

    name: str = "none"


@dataclass(kw_only=True)
class CompileOptions(CompileConfig):
    """Options of `torch.compile`, https://docs.pytorch.org/docs/stable/generated/torch.compile.html."""

    name: str = "torch_compile"
    regional: bool = False
    """Compile the repeated blocks one by one, once for each class of block: seconds instead of minutes."""
    backend: str = "inductor"
    mode: str = "default"
    """One of `MODES`."""
    fullgraph: bool = True
    """True: what cannot be compiled whole is an error instead of a graph break."""
    dynamic: bool = False
    """True: one graph for all shapes; false: one for each. torch's third way, to make what is compiled a second time
    dynamic, is not offered: a result would depend on the jobs before it."""
    options: Any = None
    """Options of the backend, a mapping or JSON text: `'{"epilogue_fusion": true}'`. They exclude `mode`.
    A config file may set those of `config/code_keys.py` alone."""
    target: list[CompileTarget] = field(default_factory=lambda: [CompileTarget.denoiser])
    disable: bool = False
    """True: everything is prepared as for compiling, and runs eagerly: for comparison."""
    cache_dir: str | None = None
    """Folder of compiled kernels; null: below `outputs`. Only the command line can set it."""

    def __post_init__(self) -> None:
        """Raises ConfigError for an unknown mode, options that are no mapping, or an empty target."""
        if self.mode not in MODES:
            raise ConfigError(f"compile.mode={self.mode}: allowed: {', '.join(MODES)}{did_you_mean(self.mode, MODES)}")
        if not self.target:
            raise ConfigError("compile.target=[]: at least one is needed; use compile=none for none")
        if self.cache_dir is not None and not self.cache_dir.strip():
            raise ConfigError("compile.cache_dir=: a folder is needed; compile.cache_dir=null is one below outputs")
        self.options = _read_options(self.options)


def _read_options(options: Any) -> dict[str, Any] | None:
    """The backend's options as a mapping, from a mapping or JSON text."""
    if isinstance(options, str):
        try:
            options = parse_json(options)
        except InputError as error:
            raise ConfigError(f"compile.options={options}: not JSON: {error}; write '{{\"NAME\": VALUE}}'") from None
    if options is None or isinstance(options, dict):
        return options
    raise ConfigError(f"compile.options={options}: a mapping is needed, such as {{epilogue_fusion: true}}")


register("compile", "none", NoCompile)(None)
register("compile", "torch_compile", CompileOptions)(None)

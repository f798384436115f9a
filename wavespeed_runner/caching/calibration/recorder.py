"""Records uncached generations for a calibration.

The signals, residuals, inputs and outputs of all steps of one generation are kept on the CPU: about 10 GB for
FLUX.1-dev at 1024 px, 50 steps and bfloat16. `build.py` reduces them to numbers after each generation.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ...config.schema import CacheConfig
from ...errors import RunError
from ...registry import list_names, lookup
from ..interfaces import DenoiserCall, Signal

if TYPE_CHECKING:
    from torch import Tensor


def build_recording_cache() -> CacheConfig:
    """The strategy that is attached for recording: it sees the output of the first block and skips nothing."""
    parts = {"signal": "first_block_residual", "criterion": "never", "predictor": "reuse"}
    options = {group: lookup(f"cache/{group}", name).options() for group, name in parts.items()}
    strategy: CacheConfig = lookup("cache", "custom").options(**options)
    return strategy


@dataclass
class RecordedBranch:
    """What was recorded of one guidance branch of one generation; each list has an item per step."""

    sigmas: list[float] = field(default_factory=list)
    signals: dict[str, list[Tensor]] = field(default_factory=dict)
    latents: list[Tensor] = field(default_factory=list)
    outputs: list[Tensor] = field(default_factory=list)
    residuals: dict[int, list[dict[str, Tensor]]] = field(default_factory=lambda: {0: [], 1: []})
    """Number of first blocks that always run -> the residual of the other blocks, by token stream."""


class Recorder:
    """Observes the engine during one generation of one image, and keeps what a calibration is built from."""

    def __init__(self) -> None:
        """Prepares every registered signal, each with its default options."""
        self.branches: dict[str, RecordedBranch] = {}
        entries = [lookup("cache/signal", name) for name in list_names("cache/signal") if name != "none"]
        self.signals: dict[str, Signal] = {entry.name: entry.implementation(entry.options()) for entry in entries}

    def record_blocks(self, branch: str, call: DenoiserCall, residual: dict[str, Tensor]) -> None:
        """Records a call of the denoiser, after its blocks have run."""
        recorded = self.branches.setdefault(branch, RecordedBranch())
        recorded.sigmas.append(call.at.sigma)
        for name, signal in self.signals.items():
            tensor = _read_signal(signal, name, call)
            if tensor is not None:
                recorded.signals.setdefault(name, []).append(_copy_to_cpu(tensor))
        if call.latents is not None:
            recorded.latents.append(_copy_to_cpu(call.latents))
        whole = {name: call.after[name] - call.before[name] + tensor for name, tensor in residual.items()}
        for blocks, streams in ((0, whole), (1, residual)):
            recorded.residuals[blocks].append({name: _copy_to_cpu(tensor) for name, tensor in streams.items()})

    def record_output(self, branch: str, output: Tensor) -> None:
        """Records the denoiser's output of that call."""
        self.branches[branch].outputs.append(_copy_to_cpu(output))


def _read_signal(signal: Signal, name: str, call: DenoiserCall) -> Tensor | None:
    """A signal's tensor; None if this denoiser does not have it."""
    if name == "modulated_input" and call.modulated is None:
        return None
    try:
        return signal(call)
    except RunError:
        return None


def _copy_to_cpu(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu", copy=True)

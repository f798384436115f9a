"""Looks on at uncached generations and turns them into the numbers of a calibration.

Signals, residuals, inputs and outputs of all steps of one generation are kept, on the CPU: for FLUX.1-dev at 1024 px,
50 steps and bfloat16 about 10 GB. What is left of them is numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import TYPE_CHECKING, Any

from ...config.schema import CacheConfig
from ...errors import RunError
from ...registry import lookup, names
from ..change_meter import mean_change
from ..interfaces import DenoiserCall
from .data import Calibration, Key, ModelTrace, Polynomial

if TYPE_CHECKING:
    from torch import Tensor

DEGREE = 4
"""Of TeaCache's polynomials."""
CHUNK = 1 << 18
"""Numbers of a residual that are in float64 at once."""
DIGITS, GRAM_DIGITS = 6, 10
"""Significant digits. Of a Gram matrix more: its least eigenvalues, of nearly equal residuals, are what weights are
made of, and the fit's ridge takes them seriously down to 1e-5 of its diagonal. Ten digits keep weights to 1e-4."""

Rows = list[list["float | None"]]


def build_recording_cache() -> CacheConfig:
    """The strategy that is attached for recording: it sees what is behind the first block, and skips nothing."""
    parts = {"signal": "first_block_residual", "criterion": "never", "predictor": "reuse"}
    made = {group: lookup(f"cache/{group}", name).options() for group, name in parts.items()}
    strategy: CacheConfig = lookup("cache", "custom").options(**made)
    return strategy


@dataclass
class RecordedBranch:
    """What one guidance branch of one generation has shown, step by step."""

    sigmas: list[float] = field(default_factory=list)
    signals: dict[str, list[Tensor]] = field(default_factory=dict)
    latents: list[Tensor] = field(default_factory=list)
    outputs: list[Tensor] = field(default_factory=list)
    residuals: dict[int, list[dict[str, Tensor]]] = field(default_factory=lambda: {0: [], 1: []})
    """First blocks that always run -> the residual of the others, by stream."""


class Recorder:
    """The engine's observer for one generation of one image."""

    def __init__(self) -> None:
        self.branches: dict[str, RecordedBranch] = {}
        entries = [lookup("cache/signal", name) for name in names("cache/signal") if name != "none"]
        self.signals = {entry.name: entry.implementation(entry.options()) for entry in entries}

    def record_blocks(self, branch: str, seen: DenoiserCall, residual: dict[str, Tensor]) -> None:
        kept = self.branches.setdefault(branch, RecordedBranch())
        kept.sigmas.append(seen.at.sigma)
        for name, signal in self.signals.items():
            tensor = _offered(signal, name, seen)
            if tensor is not None:
                kept.signals.setdefault(name, []).append(_kept(tensor))
        if seen.latents is not None:
            kept.latents.append(_kept(seen.latents))
        whole = {name: seen.after[name] - seen.before[name] + tensor for name, tensor in residual.items()}
        for blocks, one in ((0, whole), (1, residual)):
            kept.residuals[blocks].append({name: _kept(tensor) for name, tensor in one.items()})

    def record_output(self, branch: str, output: Tensor) -> None:
        """The denoiser's output of the call that has ended."""
        self.branches[branch].outputs.append(_kept(output))


def _offered(signal: Any, name: str, seen: DenoiserCall) -> Tensor | None:
    """What a signal gives; None where this denoiser has no such thing."""
    if name == "modulated_input" and seen.modulated is None:
        return None
    try:
        tensor: Tensor | None = signal(seen)
    except RunError:
        return None
    return tensor


def _kept(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu", copy=True)


@dataclass(frozen=True, kw_only=True)
class RecordedNumbers:
    """What is left of one guidance branch of one generation."""

    branch: str
    sigmas: list[float]
    signals: dict[str, Rows]
    model: ModelTrace | None
    points: list[tuple[float, float]]
    """(change of the modulated input, change of the output), each against the step before."""
    ratios: list[float]
    gram: dict[int, Any]
    """numpy arrays (steps, steps), each with a mean square residual of 1."""


def summarize_recording(recorder: Recorder) -> list[RecordedNumbers]:
    """What a generation has shown, a guidance branch an item."""
    return [_numbers(name, branch) for name, branch in recorder.branches.items()]


def _numbers(name: str, branch: RecordedBranch) -> RecordedNumbers:
    signals = {signal: measure_changes(tensors) for signal, tensors in branch.signals.items()}
    points = []
    if "modulated_input" in signals and branch.outputs:
        moved = [row[-1] for row in signals["modulated_input"]]
        gave = [_change(*pair) for pair in _pairs(branch.outputs)]
        points = [(x, y) for x, y in zip(moved, gave, strict=True) if x is not None and y is not None]
    return RecordedNumbers(
        branch=name,
        sigmas=branch.sigmas,
        signals=signals,
        model=_model_trace(branch.latents, branch.outputs),
        points=points,
        ratios=magnitude_ratios(branch.residuals[0]),
        gram={blocks: _gram(residuals) for blocks, residuals in branch.residuals.items()},
    )


def _pairs(tensors: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
    """(now, before) from the second on."""
    return list(zip(tensors[1:], tensors, strict=False))


def _change(now: Tensor, then: Tensor) -> float | None:
    """mean|now - then| / mean|then|, as the engine measures it; None where that is 0 / 0."""
    return _finite(mean_change(now, then) / then.abs().mean())


def _finite(value: Any) -> float | None:
    number = float(value)
    return number if isfinite(number) else None


def measure_changes(tensors: Sequence[Tensor]) -> Rows:
    """Relative changes of each step from the second on against every step before it."""
    return [[_change(now, then) for then in tensors[:i]] for i, now in enumerate(tensors) if i > 0]


def _model_trace(latents: Sequence[Tensor], outputs: Sequence[Tensor]) -> ModelTrace | None:
    """The numbers of criteria that watch the model, as `watching.Watch` measures them."""
    if not latents:
        return None
    moved = [mean_change(*pair) for pair in _pairs(latents)]
    return ModelTrace(
        input=[_finite(change / out.abs().mean()) for change, out in zip(moved, outputs, strict=False)],
        rate=[
            [_finite(mean_change(now, then) / moved[i]) for then in outputs[: i + 1]]
            for i, now in enumerate(outputs[1:])
        ],
    )


def magnitude_ratios(residuals: Sequence[dict[str, Tensor]]) -> list[float]:
    """Mean over tokens of |r_t| / |r_(t-1)|, r the image's stream; 1 for the first step.

    The length of a token's vector, over its channels, with 1e-8 against division by zero: as diffusers' MagCache
    calibrates, https://arxiv.org/abs/2506.09045.
    """
    import torch

    image = [one.get("hidden_states", next(iter(one.values()))) for one in residuals]
    sizes = [torch.linalg.vector_norm(r.float(), dim=1 if r.ndim > 3 else -1) for r in image]
    return [1.0, *(float((now / (then + 1e-8)).mean()) for now, then in _pairs(sizes))]


def _gram(residuals: Sequence[dict[str, Tensor]]) -> Any:
    """Inner products of the residuals of all steps, over all streams, in float64; divided by their mean square."""
    import numpy as np
    import torch

    total = np.zeros((len(residuals), len(residuals)))
    for name in residuals[0]:
        flat = [one[name].flatten() for one in residuals]
        for first in range(0, len(flat[0]), CHUNK):
            part = torch.stack([tensor[first : first + CHUNK] for tensor in flat]).double()
            total += (part @ part.T).numpy()
    size = np.trace(total) / len(total)
    return total / size if size > 0 else total


def build_calibration(key: Key, made: dict[str, Any], runs: Sequence[RecordedNumbers]) -> Calibration:
    """All runs together. Traces stay apart by guidance branch, since each branch decides for itself; polynomial, ratios
    and Gram matrices are those of all branches, since a strategy has one set of numbers for them.

    Args:
        runs: of all prompts and guidance branches, at least one; all of as many steps.
    """
    branches: dict[str, list[RecordedNumbers]] = {}
    for run in runs:
        branches.setdefault(run.branch, []).append(run)
    signals: dict[str, dict[str, Rows]] = {}
    model: dict[str, ModelTrace] = {}
    for branch, alike in branches.items():
        for name in alike[0].signals:
            rows = zip(*(run.signals[name] for run in alike), strict=True)
            signals.setdefault(name, {})[branch] = [_means(same) for same in rows]
        traces = [run.model for run in alike if run.model]
        if traces:
            rates = zip(*(trace.rate for trace in traces), strict=True)
            model[branch] = ModelTrace(
                input=_means([trace.input for trace in traces]), rate=[_means(same) for same in rates]
            )
    gram = {blocks: sum(run.gram[blocks] for run in runs) / len(runs) for blocks in runs[0].gram}
    return Calibration(
        key=key,
        made=made,
        sigmas=[_rounded(sigma, DIGITS) for sigma in runs[0].sigmas],
        signals=signals,
        model=model,
        polynomial=fit_polynomial([point for run in runs for point in run.points]),
        ratios=[_rounded(sum(same) / len(runs), DIGITS) for same in zip(*(run.ratios for run in runs), strict=True)],
        gram={
            blocks: [[_rounded(x, GRAM_DIGITS) for x in row[: i + 1]] for i, row in enumerate(matrix.tolist())]
            for blocks, matrix in gram.items()
        },
    )


def fit_polynomial(points: Sequence[tuple[float, float]]) -> Polynomial | None:
    """Least squares fit of degree 4 to (x, y); None with too few points for it."""
    if len({x for x, _ in points}) <= DEGREE:
        return None
    import numpy as np

    x, y = np.array(points).T
    coefficients = [_rounded(c, GRAM_DIGITS) for c in np.polyfit(x, y, DEGREE)]
    left = np.polyval(coefficients, x) - y
    return Polynomial(
        coefficients=coefficients,
        range=[_rounded(x.min(), DIGITS), _rounded(x.max(), DIGITS)],
        error=_rounded(np.sqrt((left**2).mean()), DIGITS),
        points=len(points),
    )


def _means(lists: Sequence[Sequence[float | None]]) -> list[float | None]:
    """Element by element, over what is defined."""
    found = [[x for x in same if x is not None] for same in zip(*lists, strict=True)]
    return [_rounded(sum(known) / len(known), DIGITS) if known else None for known in found]


def _rounded(value: float, digits: int) -> float:
    return float(f"{value:.{digits}g}")

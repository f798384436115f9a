"""Builds a calibration: reduces what was recorded of each generation to numbers, and averages them over generations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING, Any

from ..change_meter import mean_change
from .data import Calibration, Key, ModelTrace, Polynomial
from .recorder import RecordedBranch, Recorder

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

DEGREE = 4
"""Degree of TeaCache's polynomials."""
CHUNK = 1 << 18
"""How many elements of a residual are converted to float64 at a time."""
DIGITS, GRAM_DIGITS = 6, 10
"""Significant digits. A Gram matrix needs more: fitted weights come from its smallest eigenvalues, those of nearly
equal residuals, and the ridge lets them through down to 1e-5 of its diagonal. Ten digits keep weights to 1e-4."""

Triangle = list[list[float | None]]


@dataclass(frozen=True, kw_only=True)
class RecordedNumbers:
    """What is left of one guidance branch of one generation."""

    branch: str
    sigmas: list[float]
    signals: dict[str, Triangle]
    model: ModelTrace | None
    points: list[tuple[float, float]]
    """(change of the modulated input, change of the output), each since the previous step."""
    ratios: list[float]
    gram: dict[int, NDArray[np.float64]]
    """Each (steps, steps), scaled to a mean square residual of 1."""


def summarize_recording(recorder: Recorder) -> list[RecordedNumbers]:
    """Reduces a recorded generation to numbers, one item per guidance branch."""
    return [_summarize_branch(name, branch) for name, branch in recorder.branches.items()]


def _summarize_branch(name: str, branch: RecordedBranch) -> RecordedNumbers:
    signals = {signal: measure_changes(tensors) for signal, tensors in branch.signals.items()}
    points = []
    if "modulated_input" in signals and branch.outputs:
        inputs = [row[-1] for row in signals["modulated_input"]]
        outputs = [_measure_change(*pair) for pair in _pair_with_previous(branch.outputs)]
        points = [(x, y) for x, y in zip(inputs, outputs, strict=True) if x is not None and y is not None]
    return RecordedNumbers(
        branch=name,
        sigmas=branch.sigmas,
        signals=signals,
        model=_measure_model(branch.latents, branch.outputs),
        points=points,
        ratios=measure_magnitude_ratios(branch.residuals[0]),
        gram={blocks: _compute_gram(residuals) for blocks, residuals in branch.residuals.items()},
    )


def _pair_with_previous(tensors: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
    """(current, previous) for each but the first."""
    return list(zip(tensors[1:], tensors, strict=False))


def _measure_change(now: Tensor, then: Tensor) -> float | None:
    """mean|now - then| / mean|then|, as the engine measures it; None for 0 / 0."""
    return _finite_or_none(mean_change(now, then) / then.abs().mean())


def _finite_or_none(value: Tensor) -> float | None:
    number = float(value)
    return number if isfinite(number) else None


def measure_changes(tensors: Sequence[Tensor]) -> Triangle:
    """The relative change of each step, from the second on, against every step before it."""
    return [[_measure_change(now, then) for then in tensors[:i]] for i, now in enumerate(tensors) if i > 0]


def _measure_model(latents: Sequence[Tensor], outputs: Sequence[Tensor]) -> ModelTrace | None:
    """The numbers of criteria that watch the model, measured as `change_meter.py` does."""
    if not latents:
        return None
    input_changes = [mean_change(*pair) for pair in _pair_with_previous(latents)]
    return ModelTrace(
        input=[_finite_or_none(change / out.abs().mean()) for change, out in zip(input_changes, outputs, strict=False)],
        rate=[
            [_finite_or_none(mean_change(now, then) / input_changes[i]) for then in outputs[: i + 1]]
            for i, now in enumerate(outputs[1:])
        ],
    )


def measure_magnitude_ratios(residuals: Sequence[dict[str, Tensor]]) -> list[float]:
    """MagCache's ratios: mean over tokens of |r_t| / |r_(t-1)|, r the image stream's residual; 1 for the first step.

    |.| is the length of a token's vector over its channels, plus 1e-8 against division by zero, as diffusers' MagCache
    calibrates. Source: https://arxiv.org/abs/2506.09045.
    """
    import torch

    streams = [streams.get("hidden_states", next(iter(streams.values()))) for streams in residuals]
    sizes = [torch.linalg.vector_norm(r.float(), dim=1 if r.ndim > 3 else -1) for r in streams]
    return [1.0, *(float((now / (then + 1e-8)).mean()) for now, then in _pair_with_previous(sizes))]


def _compute_gram(residuals: Sequence[dict[str, Tensor]]) -> NDArray[np.float64]:
    """Inner products of the residuals of all steps, over all streams, in float64; divided by their mean square."""
    import numpy as np
    import torch

    total = np.zeros((len(residuals), len(residuals)))
    for name in residuals[0]:
        flat = [streams[name].flatten() for streams in residuals]
        for first in range(0, len(flat[0]), CHUNK):
            part = torch.stack([tensor[first : first + CHUNK] for tensor in flat]).double()
            total += (part @ part.T).numpy()
    size = np.trace(total) / len(total)
    return total / size if size > 0 else total


def build_calibration(key: Key, made: dict[str, Any], runs: Sequence[RecordedNumbers]) -> Calibration:
    """Averages all runs into one calibration.

    Traces stay separate by guidance branch, because each branch decides for itself. Polynomial, ratios and Gram
    matrices are those of all branches together, because a strategy has one set of them.

    Args:
        key: which runs the calibration fits.
        made: how it was made.
        runs: of all prompts and guidance branches, at least one; all with the same number of steps.
    """
    import numpy as np

    signals, model = _average_traces(runs)
    gram = {
        blocks: sum((run.gram[blocks] for run in runs), start=np.zeros_like(matrix)) / len(runs)
        for blocks, matrix in runs[0].gram.items()
    }
    ratios = zip(*(run.ratios for run in runs), strict=True)
    return Calibration(
        key=key,
        made=made,
        sigmas=[_round(sigma, DIGITS) for sigma in runs[0].sigmas],
        signals=signals,
        model=model,
        polynomial=fit_polynomial([point for run in runs for point in run.points]),
        ratios=[_round(sum(values) / len(runs), DIGITS) for values in ratios],
        gram={
            blocks: [[_round(x, GRAM_DIGITS) for x in row[: i + 1]] for i, row in enumerate(matrix.tolist())]
            for blocks, matrix in gram.items()
        },
    )


def _average_traces(
    runs: Sequence[RecordedNumbers],
) -> tuple[dict[str, dict[str, Triangle]], dict[str, ModelTrace]]:
    """Signals and model traces, averaged within each guidance branch."""
    by_branch: dict[str, list[RecordedNumbers]] = {}
    for run in runs:
        by_branch.setdefault(run.branch, []).append(run)
    signals: dict[str, dict[str, Triangle]] = {}
    model: dict[str, ModelTrace] = {}
    for branch, branch_runs in by_branch.items():
        for name in branch_runs[0].signals:
            rows = zip(*(run.signals[name] for run in branch_runs), strict=True)
            signals.setdefault(name, {})[branch] = [_average(row) for row in rows]
        traces = [run.model for run in branch_runs if run.model]
        if traces:
            rates = zip(*(trace.rate for trace in traces), strict=True)
            model[branch] = ModelTrace(
                input=_average([trace.input for trace in traces]), rate=[_average(row) for row in rates]
            )
    return signals, model


def fit_polynomial(points: Sequence[tuple[float, float]]) -> Polynomial | None:
    """Least squares fit of a polynomial of degree 4 to (x, y) points; None if there are too few."""
    if len({x for x, _ in points}) <= DEGREE:
        return None
    import numpy as np

    x, y = np.array(points).T
    coefficients = [_round(c, GRAM_DIGITS) for c in np.polyfit(x, y, DEGREE)]
    errors = np.polyval(coefficients, x) - y
    return Polynomial(
        coefficients=coefficients,
        range=[_round(x.min(), DIGITS), _round(x.max(), DIGITS)],
        error=_round(np.sqrt((errors**2).mean()), DIGITS),
        points=len(points),
    )


def _average(lists: Sequence[Sequence[float | None]]) -> list[float | None]:
    """Element by element, over the values that are not None; None if there are none."""
    columns = [[x for x in column if x is not None] for column in zip(*lists, strict=True)]
    return [_round(sum(column) / len(column), DIGITS) if column else None for column in columns]


def _round(value: float, digits: int) -> float:
    return float(f"{value:.{digits}g}")

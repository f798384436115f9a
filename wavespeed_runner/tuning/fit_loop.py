"""Fits one thing: from its start, by either method, until images that it has not seen say that it is at its best."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from ..artifacts import Value
from ..caching.calibration.data import UNFINISHED
from ..config.environment import read_versions
from ..storage.store import Store
from .fit_differences import fit_by_differences
from .fit_gradient import Pace, State, fit_by_gradient
from .fit_numbers import Fittable, Rollout
from .fit_references import STAGE, VERSION, FullRun
from .student import BATCH, Generated, relative_errors

if TYPE_CHECKING:
    from torch import Tensor

F = TypeVar("F", bound=Fittable)
R = TypeVar("R")
MADE = ("images", "held_out", "candidates", "batch", "gradients")
"""Settings that a calibration tells."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How to fit."""

    images: int = 96
    """Images that are fitted on, each with a seed of its own."""
    held_out: int = 32
    """Further images, which choose what is kept and whose quality is reported."""
    candidates: int | None = None
    """So many are drawn to choose `images` from, half of them for being fragile; null: as many as are fitted on."""
    iterations: int = 120
    batch: int = 16
    """Images of an iteration, with gradients."""
    gradients: bool = True
    """False: by finite differences, for models that cannot be differentiated."""
    checkpointing: bool = True
    """See `student.Student`."""
    check_every: int = 10
    """Iterations between looks at the images that are not fitted on."""
    together: int = BATCH
    """Images that are differentiated at once: as many as fit into memory. It changes no result."""

    def count_candidates(self) -> int:
        """Images that are drawn, beside those held out."""
        return max(self.images, self.candidates or 0)


@dataclass(frozen=True, kw_only=True)
class Target(Generic[F, R]):
    """Something to fit."""

    title: str
    begins_at: str
    """What the start is, in words."""
    start: F
    generate: Callable[..., Generated]
    """(numbers, indices of images, gradients=, outputs=) -> what they make of these images."""
    describe: Callable[[F, dict[str, Any]], R]
    """(numbers, how they were made) -> what a calibration keeps."""
    computed: int
    """Evaluations of the denoiser whose blocks run."""


@dataclass(kw_only=True)
class _Progress(Generic[F]):
    """How far a fit is."""

    best: F
    least: float
    """Loss of the best numbers on the images held out."""
    done: int = 0
    state: State | None = None


def fit(
    run: FullRun, target: Target[F, R], settings: Settings, store: Store, tell: Callable[[str], None], *, again: bool
) -> tuple[R, bool]:
    """What was fitted, and whether Ctrl-C ended it.

    Args:
        run: the full run that is fitted to.
        target: what to fit.
        settings: how.
        store: where the fit's state is kept, so that it goes on after it was interrupted.
        tell: called with lines on what was found.
        again: do not go on from a state in the store.
    """
    begun = run.measure(target.generate(target.start, run.held_out))
    tell(f"{target.title}: begins at {target.begins_at}, SSIM {begun['ssim']['mean']:.4f}")
    key = _identify(run, target, settings)
    progress = None if again else _read(store, key, target.start)
    if progress is None:
        progress = _Progress(best=target.start, least=run.find_loss(target.generate(target.start, run.held_out)))
    elif progress.done:
        tell(f"{target.title}: goes on after {progress.done} of {settings.iterations} iterations")
    interrupted = _improve(run, target, settings, progress, lambda: _write(store, key, progress))
    found = run.measure(target.generate(progress.best, run.held_out))
    unfinished = f", after {progress.done} of {settings.iterations} iterations" if interrupted else ""
    tell(f"{target.title}: SSIM {found['ssim']['mean']:.4f} on {settings.held_out} images held out{unfinished}")
    made = {
        "start": target.begins_at,
        "quality": {"start": begun, "fitted": found},
        **{name: value for name, value in asdict(settings).items() if name in MADE and value is not None},
        **run.images,
        "iterations": progress.done,
        **({UNFINISHED: settings.iterations} if interrupted else {}),
        "versions": {name: read_versions()[name] for name in ("wavespeed_runner", "diffusers", "torch")},
    }
    return target.describe(progress.best, made), interrupted


def _improve(
    run: FullRun, target: Target[F, R], settings: Settings, progress: _Progress[F], keep: Callable[[], None]
) -> bool:
    """Moves `progress` on to the end; True if Ctrl-C ended it before."""
    from tqdm import tqdm

    total = settings.iterations
    with tqdm(total=total, initial=progress.done, desc=target.title, leave=False, disable=None) as bar:
        try:
            if progress.state is not None and _is_looked_at(settings, progress.done):
                # Where Ctrl-C came during a look, it is missing.
                free = [progress.state[f"value.{i}"] for i in range(len(target.start.list_free()))]
                _look(run, target, progress, target.start.put(free))
            for numbers, state in _iterate(run, target, settings, progress):
                progress.done, progress.state = progress.done + 1, state
                bar.update()
                if not _is_looked_at(settings, progress.done):
                    continue
                loss = _look(run, target, progress, numbers)
                bar.set_postfix_str(f"held out {loss:.4f}, best {progress.least:.4f}")
                keep()
        except KeyboardInterrupt:
            if progress.state is not None:
                keep()
            return True
    return False


def _is_looked_at(settings: Settings, done: int) -> bool:
    """Whether images held out are looked at after so many iterations. Without gradients an iteration takes long."""
    return not settings.gradients or done % settings.check_every == 0 or done == settings.iterations


def _look(run: FullRun, target: Target[F, R], progress: _Progress[F], numbers: F) -> float:
    """The loss of these numbers on the images held out; the best are remembered."""
    loss = run.find_loss(target.generate(numbers, run.held_out))
    if loss < progress.least:
        progress.best, progress.least = numbers, loss
    return loss


def _iterate(
    run: FullRun, target: Target[F, R], settings: Settings, progress: _Progress[F]
) -> Iterator[tuple[F, State]]:
    left = settings.iterations - progress.done

    def find_errors(numbers: F, images: Sequence[int]) -> Tensor:
        result = target.generate(numbers, images, gradients=True).result
        return relative_errors(result, run.reference[list(images)])

    def roll_out(numbers: F) -> Rollout:
        made = target.generate(numbers, run.fitted_on, outputs=True)
        # The least squares are solved on the CPU: they are small, and in float64.
        outputs = [output.cpu() for output in made.outputs]
        return Rollout(noise=made.noise.cpu(), outputs=outputs, result=made.result.cpu())

    if settings.gradients:
        pace = Pace(
            images=len(run.fitted_on),
            iterations=settings.iterations,
            batch=settings.batch,
            together=settings.together,
        )
        return fit_by_gradient(target.start, find_errors, pace, done=progress.done, state=progress.state)
    reference = run.reference[run.fitted_on].cpu()
    return fit_by_differences(target.start, roll_out, reference, iterations=left, state=progress.state)


def _identify(run: FullRun, target: Target[F, R], settings: Settings) -> str:
    """The store key of a fit's state: all that it depends on."""
    start = [part.values.tolist() for part in target.start.list_free()]
    how = {name: value for name, value in asdict(settings).items() if name not in ("together", "candidates")}
    data = {"version": VERSION, "run": run.key, "title": target.title, "start": start, **how}
    return sha256(json.dumps({"fit": data}, sort_keys=True).encode()).hexdigest()


def _write(store: Store, key: str, progress: _Progress[F]) -> None:
    best = {f"best.{i}": part.values for i, part in enumerate(progress.best.list_free())}
    value = Value(tensors={**best, **(progress.state or {})}, data={"done": progress.done, "least": progress.least})
    store.write(key, value.to_bytes(), stage=STAGE)


def _read(store: Store, key: str, start: F) -> _Progress[F] | None:
    """The progress that an earlier fit has left; None where there is none."""
    raw = store.read(key)
    if raw is None:
        return None
    value = Value.from_bytes(raw)
    best = start.put([value.tensors[f"best.{i}"] for i in range(len(start.list_free()))])
    state = {name: tensor for name, tensor in value.tensors.items() if not name.startswith("best.")}
    return _Progress(best=best, least=value.data["least"], done=value.data["done"], state=state)

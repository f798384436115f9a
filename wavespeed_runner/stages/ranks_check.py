"""Proves, before a generation is timed, that the ranks compute together what each of them would compute alone.

In diffusers, an attention that does not know of the ranks sees the tokens of one of them, and the image is wrong
without an error. Plans name every attention, and here the result is looked at: the first call that the pipeline makes
of its denoiser is made undivided on every rank, then divided, and compared.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..artifacts import Pipeline
from ..errors import RunError
from ..models.pipeline_call import denoise, get_task_pipeline
from .attached import find_denoisers, use_sampler
from .generate import build_call, concatenate
from .image_request import ImageRequest

if TYPE_CHECKING:
    import torch

    from ..config.denoise_options import DenoiseOptions

LIMITS = {"float32": 1e-4, "float64": 1e-4, "float16": 0.05, "bfloat16": 0.05, "int8": 0.05}
"""dtype of the result -> largest relative difference (L2) that rounding explains. Quantized layers round the last bits
of their inputs to other integers: `int8` stands for all of them."""


class _Compared(Exception):
    """Leaves the pipeline after its first call."""


def check_ranks(options: DenoiseOptions, pipeline: Pipeline, requests: list[ImageRequest]) -> dict[str, float]:
    """Compares the denoiser's first result on several ranks with that on one.

    Returns:
        For the record: the relative differences (L2) from this rank alone, and between the ranks alone.

    Raises:
        RunError: the ranks do not compute what one of them computes, or have other weights.
    """
    import torch

    family, found = pipeline.family, {}
    wanted, embeddings = build_call(options, pipeline, requests), concatenate([r.embeddings for r in requests])
    with use_sampler(pipeline.pipe, options.sampler), pipeline.running():
        pipe = get_task_pipeline(pipeline.pipe, family, wanted.task)
        denoiser = find_denoisers(pipe, family)[0]
        compiled = denoiser._compiled_call_impl

        def compare(*args: Any, **kwargs: Any) -> None:
            denoiser._compiled_call_impl = None
            with torch.compiler.set_stance("force_eager"):
                whole = list_tensors(run_alone(denoiser, args, kwargs))
                with pipeline.parallel.divide([denoiser], len(requests)):
                    result = denoiser(*args, **kwargs)
                    if pipeline.parallel.has_separate_branches:  # each rank has made one of two calls
                        result = denoiser(*args, **kwargs)
            found["alone"] = distance(list_tensors(result), whole)
            found["between ranks"] = pipeline.parallel.compare(whole[0])
            raise _Compared

        denoiser._compiled_call_impl = compare
        try:
            denoise(family, pipe, pipeline.model, embeddings, wanted)
        except _Compared:
            pass
        finally:
            denoiser._compiled_call_impl = compiled
    if not found:
        raise RunError("parallel.check: the pipeline did not call its denoiser; parallel.check=false leaves it out")
    refuse_differences(found, "int8" if pipeline.engaged.get("quant") else str(pipeline.model.dtype.value))
    return found


def run_alone(denoiser: torch.nn.Module, args: Any, kwargs: dict[str, Any]) -> Any:
    """The undivided call. RunError: it does not fit into memory, as the divided one may."""
    import torch

    try:
        return denoiser(*args, **kwargs)
    except torch.OutOfMemoryError as error:
        raise RunError(
            "parallel.check: the undivided denoiser does not fit into memory; parallel.check=false leaves the "
            "comparison out"
        ) from error


def refuse_differences(found: dict[str, float], dtype: str) -> None:
    """Raises RunError for differences that are not rounding. found: see `check_ranks`."""
    limit = LIMITS[dtype]
    if not found["between ranks"] <= limit:
        raise RunError(
            f"parallel: the ranks, each alone, differ by {found['between ranks']:.1e} in the first result of the "
            "denoiser, so they have different weights, libraries or devices; make them alike, or leave the "
            "comparison out with parallel.check=false"
        )
    if not found["alone"] <= limit:
        raise RunError(
            f"parallel: the ranks together differ by {found['alone']:.1e} from one alone in the first result of the "
            f"denoiser, more than rounding in {dtype} explains; use another parallel, or parallel=none"
        )


def list_tensors(output: Any) -> list[torch.Tensor]:
    """All tensors in what a denoiser returned."""
    import torch

    if isinstance(output, torch.Tensor):
        return [output]
    values = output.values() if isinstance(output, dict) else output
    return [tensor for value in values for tensor in list_tensors(value)]


def distance(actual: list[torch.Tensor], expected: list[torch.Tensor]) -> float:
    """The largest relative difference (L2) of any two tensors."""
    pairs = zip(actual, expected, strict=True)
    return max(float((a.float() - e.float()).norm() / e.float().norm().clamp_min(1e-12)) for a, e in pairs)

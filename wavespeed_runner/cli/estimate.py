"""`estimate`: the memory that a run would need, from shapes alone."""

from __future__ import annotations

import logging
from argparse import ArgumentTypeError, Namespace
from collections.abc import Callable
from typing import TYPE_CHECKING

from ..accelerate.parallel.options import find_layout
from ..config.environment import resolve_device
from ..config.error_messages import EXPLAINED
from ..config.schema import Config, Dtype
from ..errors import ConfigError, RunError
from ..metrics.timing import format_bytes
from ..process.exit_status import DONE
from .arguments import CommandParser, parse_size
from .plan_parallel import describe_ranks

if TYPE_CHECKING:
    from ..execution.estimate import Estimate
    from ..planning.plan import Plan

ABOUT = """
A slower dry run that tells how much memory a run would need: weights, activations, and the features that a cache
strategy keeps, at the peak of each stage. It imports torch and runs the graph on shapes alone; no weights are read or
downloaded. Takes the overrides of the run.
"""

TIGHT = 0.95
"""Share of a device's memory above which there may be too little left for driver and libraries."""


def build_parser() -> CommandParser:
    """The arguments of `estimate`."""
    parser = CommandParser("estimate", "[OVERRIDE ...] [--memory SIZE]", ABOUT)
    parser.add_overrides()
    parser.add_argument(
        "--memory",
        type=_parse_memory,
        metavar="SIZE",
        help="of the device, e.g. 24GB; this machine's if left out",
    )
    return parser


def main(args: Namespace) -> int:
    """Prints the estimate."""
    from ..sweeps.jobs import plan_jobs

    # As a dry run: also for a device that this machine has not.
    args.overrides = ["dry_run=true", *args.overrides]
    jobs = plan_jobs(args)
    plan = jobs[0].plan
    if len(jobs) > 1 or plan is None:
        raise ConfigError(f"{len(jobs)} jobs: the memory of one setting is estimated at a time")
    from ..execution.estimate import estimate_memory, read_device_memory
    from ..process.logging_setup import log_warnings, quiet_libraries
    from ..process.torchao_import import postpone_torchao

    quiet_libraries()
    logging.getLogger().addHandler(logging.NullHandler())  # there is no log file; the libraries' messages go nowhere
    postpone_torchao()
    try:
        with log_warnings():
            estimate = estimate_memory(plan)
    except RunError as error:
        if isinstance(error.__cause__, OverflowError):  # nothing failed: the size is wrong
            raise ConfigError(str(error)) from error
        raise
    available = args.memory if args.memory is not None else read_device_memory(plan.config.device)
    print(estimate_text(plan, estimate, available, lambda override: _is_accepted(args, override)))
    return DONE


def _is_accepted(args: Namespace, override: str) -> bool:
    """Whether the command would be planned with this override in it: what is refused saves no memory."""
    from ..sweeps.jobs import plan_jobs

    others = [given for given in args.overrides if given.partition("=")[0] != override.partition("=")[0]]
    try:
        plan_jobs(Namespace(**{**vars(args), "overrides": [*others, override]}))
    except EXPLAINED:
        return False
    return True


def _parse_memory(text: str) -> int:
    """Bytes; a number without a unit is a slip."""
    if text.strip().replace(".", "").isdigit():
        raise ArgumentTypeError(f"'{text}' has no unit; {text}GB, for example")
    return parse_size(text)


def estimate_text(plan: Plan, estimate: Estimate, available: int | None, accepts: Callable[[str], bool]) -> str:
    """The estimate as text.

    Args:
        plan: of the run.
        estimate: of its memory.
        available: bytes of memory that the device has; None if not known.
        accepts: whether the run with one more override would be planned; it is asked of those that save memory.
    """
    c = plan.config
    parts = ", ".join(f"{name} {format_bytes(size)}" for name, size in estimate.components.items())
    lines = [
        f"model      {c.model.name}, {c.model.dtype.value}; shapes: {estimate.shapes}",
        f"weights    {format_bytes(sum(estimate.components.values()))}: {parts}",
        f"{'stage':12} {'weights':>9} {'activations':>12} {'together':>9}",
        *(
            f"  {stage.name:10} {format_bytes(stage.weights):>9} {format_bytes(stage.activations):>12} "
            f"{format_bytes(stage.total):>9}"
            for stage in estimate.stages
        ),
        *_reference_lines(estimate),
        f"peak       {format_bytes(estimate.peak.with_reference)}, in {estimate.peak.name}; driver and libraries take "
        "more",
    ]
    return "\n".join([*lines, *_describe_ranks(c), _fit_text(plan, estimate, available, accepts)])


def _describe_ranks(c: Config) -> list[str]:
    """What the figures mean with several ranks."""
    if not (lines := describe_ranks(c)):
        return []
    return [*lines, "           figures are of one rank that computes undivided: parallel.check and the reference do"]


def _reference_lines(estimate: Estimate) -> list[str]:
    """What the reference needs on top, where it needs anything."""
    more = max(stage.reference for stage in estimate.stages)
    why = "it computes without quantization; measure.reference=false leaves it out"
    return [f"reference  {format_bytes(more)} more: {why}"] if more else []


def _fit_text(plan: Plan, estimate: Estimate, available: int | None, accepts: Callable[[str], bool]) -> str:
    """Whether the run fits its device, and what would make it fit."""
    device, peak = plan.config.device, estimate.peak.with_reference
    if resolve_device(device) == "cpu":
        peak *= find_layout(plan.config.parallel).ranks  # they share the memory
    if available is None:
        return f"device     {device}: its memory is not known here; give it with --memory, such as --memory 24GB"
    if peak <= available:
        tight = "; driver and libraries may need what is left" if peak > TIGHT * available else ""
        return f"device     {device} has {format_bytes(available)}: it fits{tight}"
    savers = _list_savers(plan.config, estimate, available)
    ways = ", ".join(saver for saver in savers if "=" not in saver or accepts(saver.split()[0]))
    return f"device     {device} has {format_bytes(available)}: it does not fit; what saves memory: {ways}"


def _list_savers(c: Config, estimate: Estimate, available: int) -> list[str]:
    """What of the configuration would save memory, and is not chosen yet; model offload with the peak that it gives."""
    offloaded = max(stage.largest + stage.activations for stage in estimate.stages)
    encoder = _find_large_encoder(c, estimate)
    fits = "" if offloaded <= available else ", still too much"
    savers = {
        "measure.reference=false": any(stage.reference for stage in estimate.stages),
        "memory=vae_tiling": estimate.peak.name == "decode" and estimate.peak.activations > estimate.peak.weights / 4,
        f"memory=model_offload ({format_bytes(offloaded)}{fits})": offloaded < estimate.peak.with_reference,
        "memory=group_offload": True,
        "quant=int8_wo": c.quant.name == "none",
        f"quant.components=[denoiser,{encoder}]": bool(encoder),
        "model.dtype=bfloat16": c.model.dtype is Dtype.float32,
        "a smaller size or batch_size": True,
    }
    return [saver for saver, applies in savers.items() if applies]


def _find_large_encoder(c: Config, estimate: Estimate) -> str:
    """A text encoder that takes a quarter of all weights beside a quantized denoiser; empty if there is none."""
    total, named = sum(estimate.components.values()), getattr(c.quant, "components", None)
    large = [
        name
        for name, size in estimate.components.items()
        if name.startswith("text_encoder") and size > total / 4 and named is not None and name not in named
    ]
    return large[0] if large else ""

"""`fit`: fits samplers and caches to the model's own full run, for `sampler=fitted` and `cache=fitted`."""

from __future__ import annotations

import sys
from argparse import Namespace
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError, make_printable
from ..process.exit_status import DONE
from .arguments import CommandParser, read_target

if TYPE_CHECKING:
    from ..planning.plan import Plan

ITERATIONS = {True: 120, False: 5}
"""With gradients, and without, where each takes many generations of all images."""

ABOUT = """
evaluations=N fits the coefficients of a solver with so many evaluations of the denoiser, computed=N the weights of a
cache with so many computed steps, until what comes out is nearest to what the model's own sampler makes in all its
steps. Begins at the best plain solver, or the best schedule with weights by least squares, and keeps what has the
least loss on the images that are held out, the start included.

Takes the overrides of the runs that will use it, without those of sampler, steps and cache. The result is written into
the calibration of the full run, where sampler=fitted steps=N or cache=fitted cache.computed=N finds it. An interrupted
fit goes on with the same command; rerun=true begins anew.
"""


def build_parser() -> CommandParser:
    """The arguments of `fit`."""
    parser = CommandParser("fit", "evaluations=N[,N...] computed=N[,N...] [KEY=VALUE ...] [OVERRIDE ...]", ABOUT)
    parser.add_key("evaluations", "4,6,8", read=parse_counts, default=[], help="of samplers: numbers of evaluations")
    parser.add_key("computed", "6,8", read=parse_counts, default=[], help="of caches: numbers of computed steps")
    parser.add_key("images", "96", read=parse_count, default=96, help="images to fit on, each with its own seed")
    parser.add_key("held_out", "32", read=parse_count, default=32, help="further images, which judge the fit")
    parser.add_key(
        "candidates",
        "288",
        read=parse_count,
        help="images to choose those from: half become fragile ones, which fewer steps change most",
    )
    parser.add_key(
        "iterations", "120", read=parse_count, help="steps of the fit; 5 is the default with gradients=false"
    )
    parser.add_key(
        "gradients", "true", read=parse_switch, default=True, help="false: by trying, for what cannot be differentiated"
    )
    parser.add_key(
        "checkpointing", "true", read=parse_switch, default=True, help="compute activations again; less memory, slower"
    )
    parser.add_key("out", "FILE", read=read_target, help="default: in OUTPUTS/calibrations/, where later runs find it")
    parser.add_overrides()
    return parser


def parse_counts(text: str) -> list[int]:
    """Numbers from `4,6,8`. Raises ValueError for anything else."""
    from ..config.solver import MAX_EVALUATIONS

    parts = text.split(",")
    if not all(part.isdigit() and 1 <= int(part[:6]) <= MAX_EVALUATIONS for part in parts):
        raise ValueError(f"numbers from 1 to {MAX_EVALUATIONS} are needed, as in 4,6,8")
    return list(dict.fromkeys(int(part) for part in parts))


def parse_count(text: str) -> int:
    """A whole number from 1 to 100000. Raises ValueError for anything else."""
    if not text.isdigit() or not 1 <= int(text[:7]) <= 100_000:
        raise ValueError("a whole number from 1 to 100000 is needed")
    return int(text)


def parse_switch(text: str) -> bool:
    """`true` or `false`. Raises ValueError for anything else."""
    if text.lower() not in ("true", "false"):
        raise ValueError("true or false is needed")
    return text.lower() == "true"


def main(args: Namespace) -> int:
    """Fits, writes each result into the calibration as soon as there is one, and prints the calibrations' paths."""
    from ..tuning.fit import Wanted, fit_all
    from ..tuning.fit_loop import Settings
    from .fit_files import find_or_make_calibration, find_places, keep

    if not args.evaluations + args.computed:
        raise ConfigError("evaluations=N or computed=N: what is to be fitted? samplers, caches, or both")
    if args.candidates is not None and args.candidates <= args.images:
        raise ConfigError(f"candidates={args.candidates}: more than images={args.images} are needed, to choose from")
    plan = _plan_full_runs(args)
    places = find_places(plan, args.out, samplers=bool(args.evaluations), caches=bool(args.computed))
    if args.iterations is None:
        args.iterations = ITERATIONS[args.gradients]
    names = ("images", "held_out", "candidates", "iterations", "gradients", "checkpointing")
    settings = Settings(**{name: getattr(args, name) for name in names})
    calibration = find_or_make_calibration(plan, places["caches"], _tell) if args.computed else None
    wanted = Wanted(evaluations=args.evaluations, computed=args.computed, calibration=calibration)
    fit_all(
        plan,
        wanted,
        settings,
        _tell,
        lambda count, found, interrupted: keep(plan, places, calibration, count, found, _tell if interrupted else None),
    )
    for path in sorted(set(places.values())):
        print(make_printable(str(path)))
    if plan.config.steps != plan.config.model.steps and args.evaluations:
        _tell(f"runs find them with sampler=fitted measure.reference_steps={plan.config.steps}")
    return DONE


def _plan_full_runs(args: Namespace) -> Plan:
    """The plan of the runs that the samplers are fitted to.

    Raises:
        ConfigError: no sampler can be fitted for this model, another sampler was typed, or too many evaluations.
    """
    from ..caching.calibration.resolve import LEAST_FITTED
    from ..config.compose import find_key
    from ..registry import find_implementation
    from ..samplers import full_sampler, is_stochastic
    from ..samplers.fitted import why_unfit
    from ..tuning.calibrate import plan_uncached_runs

    needed = bool(args.computed)
    plan = plan_uncached_runs(args, blocks=needed)
    config, family = plan.config, find_implementation("model", plan.config.model)
    if why := why_unfit(family.schedule):
        raise ConfigError(f"model.name={config.model.name}: {why}")
    full = full_sampler(family, config.model)
    if config.sampler.name == "default" and full.name != "default":
        _tell(f"the model's own sampler draws fresh noise; what is fitted takes the place of sampler={full.name}")
        changed = Namespace(**{**vars(args), "overrides": [*args.overrides, f"sampler={full.name}"]})
        plan = plan_uncached_runs(changed, blocks=needed)
    elif config.sampler != full and args.evaluations:
        raise ConfigError(
            f"sampler={config.sampler.name}: what is fitted takes the place of sampler={full.name}; leave it out"
        )
    elif is_stochastic(config.sampler):
        raise ConfigError(f"sampler={config.sampler.name}: it draws fresh noise, and no fit follows that; leave it out")
    _refuse_unused(plan, family.kind)
    if args.gradients:
        _refuse_without_derivative(plan)
    if config.seeds.value == "same" and any(find_key(override) == "seeds" for override in args.overrides):
        raise ConfigError("seeds=same: a fit gives each image a seed of its own; leave it out")
    for name, counts in (("evaluations", args.evaluations), ("computed", args.computed)):
        if too_many := [count for count in counts if count >= (config.steps or 0)]:
            raise ConfigError(f"{name}={too_many[0]}: fewer than the full run's {config.steps} steps are needed")
    if too_few := [count for count in args.computed if count < LEAST_FITTED]:
        raise ConfigError(f"computed={too_few[0]}: {LEAST_FITTED} or more computed steps are needed")
    return plan


def _refuse_unused(plan: Plan, kind: str) -> None:
    """Refuses what a fit would not follow: it draws its own seeds, and begins at noise."""
    config = plan.config
    if config.num_images_per_prompt > 1:
        raise ConfigError(
            f"num_images_per_prompt={config.num_images_per_prompt}: a fit takes images=N, the prompts in turn, each "
            "image with a seed of its own; leave it out"
        )
    inputs = {name for stage in config.graph.stages.values() if stage.stage == "denoise" for name in stage.inputs}
    if kind == "image" and inputs & {"image", "latents"}:
        raise ConfigError(
            "graph: a fit begins at noise, and this graph at an image; leave it out: a run from an image finds the "
            "sampler that is fitted from noise (and for caches there is cache=planned, which needs a calibration only)"
        )


def _refuse_without_derivative(plan: Plan) -> None:
    """Refuses what a derivative cannot go through, or where weights are elsewhere when it is taken."""
    config = plan.config
    memory: Any = config.memory
    chosen = {
        "quant": config.quant.name,
        "compile": config.compile.name,
        "memory.offload": getattr(memory.offload, "value", memory.offload),
        "memory.layerwise_casting": getattr(memory.layerwise_casting, "value", "none"),
    }
    for key, value in chosen.items():
        if value != "none":
            raise ConfigError(f"{key}={value}: no derivative is taken through it; gradients=false fits by trying")


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)

"""The reference of a record: its sampler and steps, and what a run is called beside it."""

from __future__ import annotations

from typing import Any

from ..registry import list_names, lookup
from ..samplers import fitted
from .record import Record


def reference_steps(record: Record) -> int:
    """The number of steps of the reference."""
    config = record.config
    return int((config.get("measure") or {}).get("reference_steps") or record.reference.steps or config["steps"])


def reference_sampler(record: Record) -> dict[str, Any]:
    """The options of the reference's sampler."""
    return record.reference.sampler or record.config.get("sampler") or {}


def find_solver(record: Record) -> str:
    """The run's sampler, such as `unipc, shift 1.65`, where the reference has another one; else empty."""
    own: dict[str, Any] = record.config.get("sampler") or {}
    return "" if record.reference.same_sampler or own == reference_sampler(record) else describe_sampler(own)


def describe_sampler(options: dict[str, Any]) -> str:
    """`unipc, shift 1.65`: a sampler with the options that are not at their defaults, as plain data."""
    name = str(options.get("name", ""))
    plain = vars(lookup("sampler", name).options()) if name in list_names("sampler") else {}
    chosen = {key: value for key, value in options.items() if name != fitted.NAME or key not in fitted.FILLED_IN}
    return ", ".join([name, *(f"{key} {value}" for key, value in chosen.items() if value != plain.get(key, name))])


def name_steps(solver: str, steps: int | str) -> str:
    """`6 steps`; of another solver than the reference's `unipc 6 steps, shift 1.65`."""
    name, comma, options = solver.partition(", ")
    return f"{name} {steps} step{'s' * (str(steps) != '1')}{comma}{options}".strip()


def against_reference(record: Record) -> str:
    """` against 28`: the sampler and the number of steps of the reference, where they are others; else empty."""
    solver, steps = find_solver(record), reference_steps(record)
    if not solver:
        return f" against {steps}" if steps != record.config["steps"] else ""
    name, _, options = solver.partition(", ")
    chosen = str(reference_sampler(record).get("name"))
    theirs = "the model's own sampler" if chosen == "default" else chosen
    return f" of {name}{f' ({options})' * bool(options)} against {steps} of {theirs}"


def describe_reference(record: Record) -> str | None:
    """`28 steps of default`; None where nothing was compared."""
    if record.reference.kind != "run":
        return None
    return f"{reference_steps(record)} steps of {describe_sampler(reference_sampler(record))}"


def has_other_reference(record: Record, claimed: str | None) -> bool:
    """Whether a claim was measured against another reference. Claims of earlier versions do not say."""
    now = describe_reference(record)
    return None not in (claimed, now) and claimed != now

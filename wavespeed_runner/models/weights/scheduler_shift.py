"""The shift of a model's own scheduler, where the makers run it with another one than its repository holds."""

from __future__ import annotations

from inspect import signature
from typing import TYPE_CHECKING

from ...errors import RunError

if TYPE_CHECKING:
    from diffusers import SchedulerMixin

NAMES = ("flow_shift", "shift")
"""What diffusers' schedulers call it: solvers, and Euler."""


def set_shift(scheduler: SchedulerMixin, shift: float) -> SchedulerMixin:
    """The scheduler with this shift for all sizes; `sampler=...` follows it, and `sampler.shift` wins over it.

    Raises:
        RunError: its class has no shift.
    """
    accepted = signature(type(scheduler).__init__).parameters
    changes: dict[str, float | bool] = {name: shift for name in NAMES if name in accepted}
    if not changes:
        raise RunError(
            f"model.shift={shift:g}: {type(scheduler).__name__}, the scheduler of model.repo, has none; use null"
        )
    if "use_dynamic_shifting" in accepted:
        changes["use_dynamic_shifting"] = False  # or the size would decide
    return type(scheduler).from_config(scheduler.config, **changes)

"""A setting: one way to make an image in less time. Those of the peers, plain fewer steps, and ours."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any

from .models import Model


@contextmanager
def nothing(pipe: Any, model: Model) -> Iterator[None]:
    """No cache."""
    yield


@dataclass(frozen=True, kw_only=True)
class Setting:
    name: str
    """One of a kind."""
    group: str
    """The curve that it is a point of: one method, of which the parameters vary."""
    by: str
    """`ours`, `theirs` or `fewer steps`."""
    on: Callable[..., AbstractContextManager[Any]] = nothing
    """Called with (pipe, model, **parameters); inside it the pipe is accelerated. The pipe is a fresh copy."""
    parameters: dict[str, Any] = field(default_factory=dict)
    """Values for JSON."""
    steps: int | None = None
    """None: as many as the reference."""


def reference(model: Model) -> Setting:
    """What all are compared with."""
    return Setting(name="no cache", group="no cache", by="reference", steps=model.steps)


def fewer_steps(model: Model) -> list[Setting]:
    """From 2 steps up; no cache."""
    return [
        Setting(name=f"{steps} steps", group="fewer steps", by="fewer steps", steps=steps)
        for steps in range(2, model.steps)
    ]


def settings(model: Model) -> list[Setting]:
    """All but the reference."""
    from .ours import ours
    from .theirs import theirs

    return [*theirs(model), *fewer_steps(model), *ours(model)]

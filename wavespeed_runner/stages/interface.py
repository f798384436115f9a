"""What a stage is: a registered function with typed options and named inputs.

    @stage("decode", options=DecodeOptions)
    def decode(options: DecodeOptions, *, pipeline: Pipeline, latents: Latents) -> Images: ...

The keyword-only parameters are the stage's inputs, their annotations and the return annotation its types; an input
with a default may be left out of the graph. Stages import torch inside their functions.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar, get_type_hints

from ..registry import register

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A registered stage, as the plan needs it."""

    name: str
    function: Callable[..., Any]
    options: type
    inputs: dict[str, type]
    optional: frozenset[str]
    output: type
    pure: bool
    identity: Callable[[Any], Any] | None
    ignores: tuple[str, ...]
    timing: tuple[str, ...]
    needs: dict[str, tuple[str, ...]]
    batch: Callable[[Any, list[dict[str, Any]]], list[Any]] | None


def stage(
    name: str,
    *,
    options: type,
    pure: bool = True,
    identity: Callable[[Any], Any] | None = None,
    ignores: tuple[str, ...] = (),
    timing: tuple[str, ...] = (),
    needs: dict[str, tuple[str, ...]] | None = None,
    batch: Callable[[Any, list[dict[str, Any]]], list[Any]] | None = None,
) -> Callable[[F], F]:
    """Decorator that registers a stage.

    Args:
        options: kw_only dataclass of its options.
        pure: the output depends on options and inputs (and `identity`) alone, is a `values.Value`, and is kept in the
            store. Otherwise it lives in the process: with an identity as long as the run (a loaded model), without
            one it is made anew for every image, and nothing behind it is stored.
        identity: options -> JSON data that also decides the output and is not in the options (what is in a file).
        ignores: options, by dotted key, that do not decide the output, or that `identity` stands for.
        timing: options that decide how the stage is timed, but not what it makes.
        needs: option -> inputs; where none of them is wired, the option does not decide the output.
        batch: (options, inputs of several samples by name) -> their outputs: the same as the function gives for each
            alone, whatever the others are.
    """

    def add(function: F) -> F:
        hints = get_type_hints(function)
        parameters = inspect.signature(function).parameters.values()
        inputs = [p for p in parameters if p.kind is p.KEYWORD_ONLY]
        entry = Stage(
            name=name,
            function=function,
            options=options,
            inputs={p.name: hints[p.name] for p in inputs},
            optional=frozenset(p.name for p in inputs if p.default is not p.empty),
            output=hints["return"],
            pure=pure,
            identity=identity,
            ignores=ignores,
            timing=timing,
            needs=needs or {},
            batch=batch,
        )
        register("stage", name, options)(entry)
        return function

    return add

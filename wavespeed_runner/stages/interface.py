"""What a stage is: a registered function with typed options and named inputs.

    @stage("decode", options=DecodeOptions)
    def decode(options: DecodeOptions, *, pipeline: Pipeline, latents: Latents) -> Images: ...

The keyword-only parameters are the stage's inputs; their annotations and the return annotation are its types. An input
with a default value is optional in a graph. Stages import torch inside their functions, so that planning stays light.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar, get_type_hints

from ..registry import register

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A registered stage: its function, options, inputs and output. See `stage` for the other fields."""

    name: str
    function: Callable[..., Any]
    options: type
    inputs: dict[str, type]
    optional: frozenset[str]
    """Inputs that a graph may leave out."""
    output: type
    pure: bool
    identity: Callable[[Any], Any] | None
    ignores: tuple[str, ...]
    timing: tuple[str, ...]
    needs: dict[str, tuple[str, ...]]
    batch: Callable[[Any, list[dict[str, Any]]], list[Any]] | None
    collective: bool | Callable[[Iterable[Any]], bool]


def stage(  # noqa: PLR0913 (facts about a stage, given by name)
    name: str,
    *,
    options: type,
    pure: bool = True,
    identity: Callable[[Any], Any] | None = None,
    ignores: tuple[str, ...] = (),
    timing: tuple[str, ...] = (),
    needs: dict[str, tuple[str, ...]] | None = None,
    batch: Callable[[Any, list[dict[str, Any]]], list[Any]] | None = None,
    collective: bool | Callable[[Iterable[Any]], bool] = False,
) -> Callable[[F], F]:
    """Decorator that registers a function as a stage.

    Args:
        name: the name that graphs use.
        options: kw_only dataclass of its options.
        pure: the output depends only on options, inputs and `identity`, is an `artifacts.Value`, and is kept in the
            store. The output of a stage that is not pure stays in the process: with an identity for the whole run (a
            loaded model); without one it is computed anew for every image, and nothing after it is stored.
        identity: options -> JSON data that also decides the output but is not in the options, such as what a file
            contains.
        ignores: options, as dotted keys, that do not decide the output, or that `identity` covers.
        timing: options that decide how the stage is timed, but not its output.
        needs: option -> inputs; the option decides the output only if one of these inputs is wired.
        batch: (options, inputs by name of several samples) -> their outputs. For each sample it must return what the
            function returns for it alone.
        collective: with several ranks (`parallel`), all of them call it, with the same options and inputs: if it has an
            option `parallel` with more than one rank, or takes what such a call has loaded. What the others return is
            dropped, or stays with them if the stage is not pure. A function of the input values says whether it is so
            for them.
    """

    def register_stage(function: F) -> F:
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
            collective=collective,
        )
        register("stage", name, options)(entry)
        return function

    return register_stage

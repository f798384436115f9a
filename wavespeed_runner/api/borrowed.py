"""`accelerate`: applies settings to a diffusers pipeline that the user has loaded, and takes them off again.

The pipeline gets copies of its modules around the same weights, and a class of the same name whose call puts sampler
and cache strategy in place. Its own modules are never changed, so taking the settings off is putting them back.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..accelerate import switches
from ..accelerate.shared_weights import copy_modules
from ..artifacts import Pipeline
from ..config.compose import find_key
from ..errors import ConfigError
from ..planning.plan import Plan
from ..registry import find_implementation
from ..stages.apply import LoadOptions, change_modules, change_weights, collect_weight_evidence, get_switches
from .borrowed_call import Caller
from .fitness import find_model, refuse_other_weights, refuse_unfit_pipeline, refuse_unfit_settings
from .settings import Settings, Source, read_settings, tell
from .turns import take_turn

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

HANDLE = "acceleration"
"""Attribute of an accelerated pipeline: its `Acceleration`."""
OF_CALLS = ("seed", "seeds", "num_images_per_prompt", "batch_size", "image", "mask", "strength")
"""Keys of which a call of a diffusers pipeline has arguments of its own."""


def accelerate(
    pipeline: DiffusionPipeline,
    settings: Source,
    overrides: Sequence[str] = (),
    *,
    config_dir: str | os.PathLike[str] | None = None,
    permanent: bool = False,
    **values: Any,
) -> DiffusionPipeline:
    """Applies the cache, sampler, quantization, compilation and attention of some settings to a diffusers pipeline.

        with accelerate(pipe, "mine.yaml"):          # until the end of the block
            image = pipe("a red circle").images[0]
        accelerate(pipe, "mine.yaml", permanent=True)   # for good

    The pipeline is called as before. Steps, guidance and size that a call does not give are those of the settings.
    Without a `with`, `pipe.acceleration.restore()` takes everything off.

    Args:
        pipeline: text to image or text to video, on the device that is to run it. It is changed in place.
        settings: an experiment file, or a list of overrides as on the command line.
        overrides: more of them, which win.
        config_dir: a folder of your own options, as `--config-dir`.
        permanent: nothing is kept to go back to: with quantization the full weights are let go of.
        values: keys without dots and their values, the same as overrides.

    Returns:
        The same pipeline, which can be used as a context manager.

    Raises:
        ConfigError: the settings are wrong, or cannot be applied to this pipeline; it is as it was.
        RunError: an option does not take effect; it is as it was.
    """
    with take_turn():
        refuse_unfit_pipeline(pipeline, HANDLE)
        listed = [] if isinstance(settings, str | os.PathLike) else settings
        is_open = listed is settings and not any(find_key(o) == "model" for o in (*listed, *overrides, *values))
        given = {find_key(o) for o in (*overrides, *listed)} | values.keys()
        chosen = [o for o in find_model(pipeline) if find_key(o) not in given] if is_open else []
        read = read_settings(settings, [*chosen, *overrides], config_dir, values, unused=OF_CALLS)
        if read.composed["device"] == "auto":
            read = replace(read, composed={**read.composed, "device": str(pipeline.device)})
        plan = read.plan
        refuse_unfit_settings(plan, pipeline)
        tell(plan)
        refuse_other_weights(plan, pipeline)
        Acceleration(pipeline, read, plan, permanent=permanent)
        return pipeline


class Acceleration:
    """What was applied to a pipeline: its plan and its evidence, and the way back."""

    def __init__(self, pipe: DiffusionPipeline, settings: Settings, plan: Plan, *, permanent: bool) -> None:
        """Applies; where that fails the pipeline is as it was."""
        self.plan, self.settings = plan, settings
        self._pipe, self._class, self._attributes = pipe, type(pipe), dict(vars(pipe))
        try:
            self._pipeline = _apply(pipe, plan)
            caller = Caller(self._pipeline, settings)
            vars(pipe)[HANDLE] = self
            pipe.__class__ = _build_class(self._class, caller)
        except BaseException:
            self.restore()
            raise
        if permanent:
            self._attributes = {}

    @property
    def engaged(self) -> dict[str, Any]:
        """Evidence of what took effect, as the record's `engaged`; of the cache that of the last call."""
        return self._pipeline.engaged

    def restore(self) -> None:
        """Takes everything off: the pipeline has its own modules, scheduler and class again.

        Raises:
            ConfigError: it was accelerated for good.
        """
        with take_turn():
            self.refuse_permanent()
            self._pipe.__class__ = self._class
            vars(self._pipe).clear()
            vars(self._pipe).update(self._attributes)

    def refuse_permanent(self) -> None:
        """Raises ConfigError if there is no way back."""
        if not self._attributes:
            raise ConfigError("permanent=True: there is no way back; leave it out, or load the pipeline again")


def _apply(pipe: DiffusionPipeline, plan: Plan) -> Pipeline:
    """Gives the pipeline copies of its modules, and applies the options of its stage `load` to them."""
    import torch

    options = next(node.options for node in plan.graph.nodes.values() if isinstance(node.options, LoadOptions))
    family = find_implementation("model", plan.config.model)
    vars(pipe).update(copy_modules({n: m for n, m in pipe.components.items() if isinstance(m, torch.nn.Module)}))
    device = plan.config.device
    change_weights(pipe, family, options, device)
    engaged = collect_weight_evidence(pipe, family, options, device, {})
    engaged["accelerate"] = switches.collect_evidence(pipe, get_switches(options))
    pipeline = Pipeline(pipe=pipe, model=options.model, family=family, device=device, engaged=engaged)
    change_modules(pipeline, options, getattr(torch, options.model.dtype.value))
    return pipeline


def _build_class(original: type, caller: Caller) -> type:
    """A class of the same name whose objects are called through `caller`, and which can be used in a `with`."""

    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        return caller.call(self, original, args, kwargs)

    def move(self: Any, *args: Any, **kwargs: Any) -> Any:
        raise ConfigError(
            "to(): not while it is accelerated, because its weights are shared; move it before accelerate"
        )

    def enter(self: Any) -> Any:
        getattr(self, HANDLE).refuse_permanent()
        return self

    def leave(self: Any, *error: object) -> None:
        getattr(self, HANDLE).restore()

    call.__wrapped__ = original.__call__  # type: ignore[attr-defined]  # its signature, for diffusers and for help()
    namespace = {"__call__": call, "to": move, "__enter__": enter, "__exit__": leave}
    accelerated = type(original.__name__, (original,), {**namespace, "__module__": original.__module__})
    accelerated.__doc__, accelerated.__qualname__ = original.__doc__, original.__qualname__
    return accelerated

"""Imported by the process from which commands are forked (`children.py`): what each of them would do first, done once.

It parses and composes one config, so that Hydra's plugins, its grammar and the shipped files are known. No tensor is
computed and no file is written.
"""

from __future__ import annotations

import gc
from importlib import import_module

from wavespeed_runner.config.compose import compose_job, composer
from wavespeed_runner.planning.plan import build_plan

OVERRIDES = ["model.init=tiny", "device=cpu", "width=32", "steps=2", "prompt='a red circle'", "cache=fbcache", "seed=1"]

LATER = (
    "PIL.JpegImagePlugin",
    "PIL.PngImagePlugin",
    "msgspec.json",
    "rich.console",
    "safetensors.numpy",
    "skimage.metrics._structural_similarity",
    "torch.utils.flop_counter",
    "wavespeed_runner.execution.runner",
    "wavespeed_runner.report.console",
    "wavespeed_runner.sweeps.sweep",
)
"""Imported only when they are needed, by every command that runs a plan."""

for name in LATER:
    import_module(name)
with composer(None):
    build_plan(compose_job(OVERRIDES, OVERRIDES))
# Letting go of models collects garbage; no need to look at everything that was imported.
gc.collect()
gc.freeze()

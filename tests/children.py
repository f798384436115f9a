"""Commands in processes of their own that start in a tenth of a second: they are forked from one that has imported
everything slow and computed nothing."""

from __future__ import annotations

import multiprocessing
import resource
import signal
import sys
from collections.abc import Mapping
from multiprocessing.context import ForkServerProcess
from pathlib import Path

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    [
        "pytest",
        "hydra.main",
        "rich.table",
        "skimage.metrics",
        "diffusers.pipelines.flux.pipeline_flux",
        "diffusers.models.autoencoders.autoencoder_kl",
        "diffusers.schedulers.scheduling_flow_match_euler_discrete",
        "transformers.models.clip.modeling_clip",
        "transformers.models.t5.modeling_t5",
        "scipy.stats",
        "tests.warm_process",
    ]
)


def started(
    folder: Path, *arguments: str, name: str = "out", limits: Mapping[int, int] | None = None
) -> ForkServerProcess:
    """The command line `arguments`, running; its output goes to the file `name` in `folder`.

    limits: soft limits by `resource.RLIMIT_...`.
    """
    process = CONTEXT.Process(target=_command, args=(folder / name, arguments, dict(limits or {})))
    process.start()
    return process


def _command(output: Path, arguments: tuple[str, ...], limits: dict[int, int]) -> None:
    from wavespeed_runner.cli.main import main

    # A shell lets what it starts in the background ignore Ctrl-C, and children take that over.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with open(output, "w", encoding="utf-8", buffering=1) as file:
        sys.stdout = sys.stderr = file
        for limit, value in limits.items():
            resource.setrlimit(limit, (value, resource.getrlimit(limit)[1]))
        sys.exit(main(list(arguments)))

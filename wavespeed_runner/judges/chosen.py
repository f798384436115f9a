"""The judges that a run asks for: what the plan refuses of them, and what identifies their values."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any

from .. import registry
from ..config.environment import digest_plugins
from ..config.schema import Config, to_data
from ..errors import Unfit
from ..models.weights.identity import identify_weights
from .metric import GROUP, Metric

QUOTED = 60
"""Most characters of a prompt in a message."""


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """A judge with its options."""

    metric: Metric
    options: Any

    @property
    def key(self) -> str:
        """`metrics.lpips`."""
        return f"metrics.{self.metric.name}"


def list_chosen(config: Config) -> list[Chosen]:
    """The judges of a run, in the order in which they were chosen."""
    return [
        Chosen(metric=registry.lookup(GROUP, name, "metrics").implementation, options=options)
        for name, options in config.metrics.items()
    ]


def check_judges(config: Config, prompts: Iterable[str]) -> None:
    """Refuses a judge that lacks a file or a package, and prompts that it cannot judge.

    Raises:
        ConfigError: names the key, what is missing and the way out.
    """
    for chosen in list_chosen(config):
        chosen.metric.check(chosen.options, chosen.key)
        for prompt in prompts:
            if why := chosen.metric.check_prompt(chosen.options, prompt):
                cut = prompt if len(prompt) <= QUOTED else f"{prompt[:QUOTED]}..."
                raise Unfit(f"{chosen.key}: the prompt {cut!r} cannot be judged: {why}; ~{chosen.key} leaves it out")


def identify_judges(config: Config) -> list[Any]:
    """What decides the values of the judges: their code, their options, and the content of their files."""
    return [
        [
            chosen.metric.name,
            _identify_code(chosen.metric.function.__module__),
            to_data(chosen.options),
            [identify_weights(file, None) for file in chosen.metric.list_files(chosen.options)],
        ]
        for chosen in list_chosen(config)
    ]


def _identify_code(module: str) -> str:
    """The digest of our judges, of the plugin that registered it, or of the file that did."""
    package = module.partition(".")[0]
    if package == "wavespeed_runner":
        return _digest_own()
    if package in (plugins := digest_plugins()):
        return plugins[package]
    file = getattr(sys.modules.get(module), "__file__", None)
    return sha256(Path(file).read_bytes()).hexdigest() if file else module


@lru_cache(maxsize=1)
def _digest_own() -> str:
    """Hashes this folder, which changes no image and no time but decides what a record says of them."""
    files = sorted(Path(__file__).parent.glob("*.py"))
    return sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()

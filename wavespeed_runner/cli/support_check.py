"""Asks the rules which models, graphs, samplers and caches fit together: every option that is shipped or installed.

Nothing is listed by hand. Each combination is composed as a run would be, and the rules judge it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from ..caching.calibration.resolve import resolve_cache_numbers
from ..config.compose import compose_job, composer
from ..config.own_models import explain_own_model
from ..config.paths import CONF
from ..config.resolve import resolve_config
from ..config.schema import CacheConfig, Config, Init
from ..errors import ConfigError, did_you_mean
from ..registry import find_implementation
from ..rules.check import apply_rules
from ..sweeps.own_model import add_facts, name_option

GROUPS = ("graph", "sampler", "cache", "parallel")
CALIBRATION = "needs a calibration of the run: `python -m wavespeed_runner calibrate`"
_REPO = {name: ("model.repo=a/b",) for name in ("generic", "generic_video")}
"""Models without a repository of their own."""
MAX_OWN = 40
"""Options of the user's that go into the table. Each is composed, and judged with all others: a second or two."""
_NOT_ABOUT_COMBINATIONS = ("half-on-cpu", "whole", "published-differs", "model-package")
"""Rules about the model, the machine, or a setting alone."""


@dataclass(frozen=True, kw_only=True)
class Support:
    """What the rules say of one combination."""

    mark: str
    """`yes`, `~` or `no`."""
    reasons: tuple[str, ...] = ()


class Combinations:
    """Every option of the four groups, composed once, so that any combination is checked quickly."""

    def __init__(self, models: Iterable[str] = (), config_dir: str | None = None) -> None:
        """Composes the options.

        Args:
            models: these models alone, options or folders; none: all that are shipped, and the user's options.
            config_dir: a folder with options of the user's.

        Raises:
            ConfigError: there is no such model, or there are too many options.
        """
        self.config_dir = config_dir
        self.names = {group: _list_options(group, config_dir) for group in ("model", *GROUPS)}
        self.models = list(models) or self.names["model"]
        self._refuse_many()
        with composer(config_dir):
            self._models = {name: self._compose_model(name) for name in self.models}

    def _refuse_many(self) -> None:
        """Refuses so many options of the user's that the table would take many minutes."""
        listed = {**self.names, "model": self.models}
        own = sum(not (CONF / group / f"{name}.yaml").is_file() for group in listed for name in listed[group])
        if own > MAX_OWN:
            raise ConfigError(
                f"support: {own} options and folders of one's own, and the table has at most {MAX_OWN}; name the "
                "models that it should have, or give a --config-dir with fewer options"
            )

    def _compose_model(self, name: str) -> Config:
        overrides = name_option([f"model={name}"])
        if overrides == [f"model={name}"] and name not in self.names["model"]:
            told = explain_own_model(name) or f"no such option{did_you_mean(name, self.names['model'])}"
            raise ConfigError(f"model={name}: {told}")
        return _compose(*add_facts(overrides)[0], *_REPO.get(name, ()))

    def config(self, model: str, **options: str) -> Config:
        """The config of a model with options of other groups, by group; else the defaults."""
        return replace(
            self._models[model],
            **{group: _compose_options(group, self.config_dir)[name] for group, name in options.items()},
        )

    def cache(self, name: str) -> CacheConfig:
        """The config of a cache option."""
        config: CacheConfig = _compose_options("cache", self.config_dir)[name]
        return config

    def check(self, model: str, **options: str) -> Support:
        """What the rules say of a model with these options, by group."""
        config = self.config(model, **options)
        bad, doubts = [], []
        for verdict in apply_rules(config):
            reason = _generalize(verdict.message, config, options)
            if verdict.rule in _NOT_ABOUT_COMBINATIONS:
                continue
            if verdict.verdict == "bad":
                bad.append(reason)
            elif verdict.verdict == "unverified":
                doubts.append(reason)
        if bad:
            return Support(mark="no", reasons=tuple(bad))
        return Support(mark="~" if doubts else "yes", reasons=tuple(doubts))

    def check_calibration(self, model: str, **options: str) -> Support:
        """As `check`, and whether the strategy needs numbers that are neither published nor shipped."""
        support, config = self.check(model, **options), self.config(model, **options)
        if support.mark == "no":
            return support
        try:
            resolve_cache_numbers(config, find_implementation("model", config.model))
        except ConfigError:
            return Support(mark="~", reasons=(CALIBRATION, *support.reasons))
        return support

    def find_graph(self, model: str) -> str:
        """A graph that fits the model."""
        graphs = sorted(self.names["graph"], reverse=True)
        return next(graph for graph in graphs if self.check(model, graph=graph).mark != "no")


def _generalize(message: str, config: Config, options: dict[str, str]) -> str:
    """A rule's message without the names of model, sampler and cache: one text for all that it is true of."""
    reason = re.sub(rf"\bmodel {config.model.name}\b", "this model", message)
    reason = re.sub(rf"^sampler={config.sampler.name}: not for this model: {config.sampler.name} ", "", reason)
    if "cache" in options:
        reason = re.sub(rf"^cache={re.escape(config.cache.title)}( with cache\.depth=\d+)?: ", "", reason)
        reason = re.sub(r"and \d+ are run", "and the model's default is another number", reason)
    if "parallel" in options:
        reason = re.sub(rf"^parallel={options['parallel']}( with guidance_scale=\S+?)?: ", "", reason)
        reason = re.sub(rf" with parallel={options['parallel']}\b", "", reason)
        reason = reason.replace(f"the tokens of model={config.model.name}", "the tokens")
    if "sampler" in options:
        reason = re.sub(rf"\b(sampler[ =])?{config.sampler.name}\b", "it", reason)
    return reason


@lru_cache(maxsize=2 * len(GROUPS))
def _compose_options(group: str, config_dir: str | None) -> dict[str, Any]:
    """The config of every option of a group, by its name."""
    with composer(config_dir):
        return {name: getattr(_compose(f"{group}={name}"), group) for name in _list_options(group, config_dir)}


def _list_options(group: str, config_dir: str | None) -> list[str]:
    folders = [CONF, *([Path(config_dir)] if config_dir else [])]
    return sorted({file.stem for folder in folders for file in (folder / group).glob("*.yaml")})


def _compose(*overrides: str) -> Config:
    config = resolve_config(compose_job([*overrides, "device=cpu"], [*overrides, "device=cpu"]))
    return replace(config, model=replace(config.model, init=Init.pretrained))

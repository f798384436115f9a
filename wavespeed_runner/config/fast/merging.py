"""Merges the files that Hydra has chosen without copying and re-linking what belongs to nobody else.

Hydra copies each file's content once more when it puts it at its place in the config, and after each file OmegaConf
walks through the whole config to tell every node its parent. Both are needed for configs that somebody else holds; here
each content is loaded for this one config, and setting a node tells it its parent.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.plugins.config_source import ConfigResult
from omegaconf import DictConfig, OmegaConf, base
from omegaconf.basecontainer import BaseContainer

_compose = ConfigLoaderImpl._compose_config_from_defaults_list
_link = BaseContainer._re_parent

parse_interpolation = lru_cache(maxsize=256)(base.parse)
"""OmegaConf's parser; what it returns is only read."""


@contextmanager
def replace_attribute(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Within it a class or a module has another attribute of this name."""
    before = vars(owner).get(name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        if before is None:
            delattr(owner, name)
        else:
            setattr(owner, name, before)


def compose_from_defaults(loader: ConfigLoaderImpl, defaults: Sequence[Any], repo: Any) -> DictConfig:
    """In the place of Hydra's `_compose_config_from_defaults_list`."""
    paths = [default.config_path for default in defaults]
    with ExitStack() as stack:
        if len(set(paths)) == len(paths):  # else one content is at two places, and each needs its own
            stack.enter_context(replace_attribute(ConfigLoaderImpl, "_embed_result_config", staticmethod(_embed)))
        stack.enter_context(replace_attribute(BaseContainer, "_re_parent", lambda self: None))
        config: DictConfig = _compose(loader, list(defaults), repo)
    _link(config)
    return config


def _embed(result: ConfigResult, package_override: str | None) -> ConfigResult:
    """In the place of Hydra's `_embed_result_config`: the content at its place, moved there instead of copied."""
    package = result.header["package"] if package_override is None else package_override
    if not package:
        return result
    config = OmegaConf.create()
    config._set_flag("no_deepcopy_set_nodes", True)
    OmegaConf.update(config, package, result.config, merge=False)
    config._set_flag("no_deepcopy_set_nodes", None)
    result = copy.copy(result)
    result.config = config
    return result

"""The schema while Hydra composes: it lets in what the typed configuration does not hold."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from .schema import Config, GraphConfig, PromptsConfig


@dataclass(kw_only=True)
class OpenGraph(GraphConfig):
    """The graph while Hydra composes: OmegaConf does not let one add a plain mapping to a dict of dataclasses."""

    stages: dict[str, Any] = field(default_factory=dict)


@dataclass(kw_only=True)
class OpenPrompts(PromptsConfig):
    """The prompts while Hydra composes."""

    texts: Any = None
    """As `prompt` below."""


@dataclass(kw_only=True)
class OpenConfig(Config):
    """The config while Hydra composes: with `points`, which make the jobs of a sweep and are in none of them."""

    points: Any = None
    prompt: Any = None
    """As YAML gave it, a number too: `config.typed_text` says what is wrong with that."""
    negative_prompt: Any = None
    claim: Any = None
    """It has a dict of dataclasses too."""

"""Plugins that only judge change no store key; all others do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from wavespeed_runner import registry
from wavespeed_runner.config import environment
from wavespeed_runner.judges import metric


@dataclass
class Nothing:
    """Options of a stage that does nothing."""


class Plugin:
    """An entry point as `importlib.metadata` gives it."""

    def __init__(self, value: str, *, makes: bool) -> None:
        self.name, self.value, self.makes = value, value, makes

    def load(self) -> None:
        metric(f"{self.value}_judge", less_is_better=True, needs_reference=False)(lambda image, reference, prompt: 0.0)
        if self.makes:
            registry.register("stage", f"{self.value}_stage", Nothing)(None)


def test_only_what_can_change_an_image_is_in_the_keys(own_registry: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    plugins = [Plugin("judging", makes=False), Plugin("making", makes=True)]
    monkeypatch.setattr(registry, "_judging", set())
    monkeypatch.setattr(registry, "entry_points", lambda group: plugins)
    assert registry.load_all.__wrapped__() == ("judging", "making")
    assert registry.only_judges("judging") and not registry.only_judges("making")
    monkeypatch.setattr(environment, "digest_plugins", lambda: {"judging": "1", "making": "2"})
    parts = environment.collect_key_parts("cpu")
    assert "making" in parts and "judging" not in parts
    plugins_of_record: Any = environment.describe_environment("cpu")["plugins"]
    assert plugins_of_record.keys() == {"judging", "making"}

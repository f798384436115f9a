"""A script for plain diffusers has the shift that the maker of a model runs it with."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
from diffusers import UniPCMultistepScheduler

from wavespeed_runner.sharing import script_model
from wavespeed_runner.sharing.script import Script


def write_sampler(monkeypatch: pytest.MonkeyPatch, shift: float | None) -> str:
    own = UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0)
    monkeypatch.setattr(script_model, "_read_scheduler", lambda script: own)
    config: Any = SimpleNamespace(model=SimpleNamespace(shift=shift), sampler=SimpleNamespace(name="default"), steps=40)
    script = Script(config=config, family=cast(Any, SimpleNamespace(schedule="flow")), graph=cast(Any, None))
    assert script_model.add_sampler(script) == {}
    return "\n".join(script.lines)


def test_the_scheduler_is_written_with_the_shift(monkeypatch: pytest.MonkeyPatch) -> None:
    text = write_sampler(monkeypatch, 12.0)
    assert "pipe.scheduler = UniPCMultistepScheduler(" in text
    assert "flow_shift=12.0" in text


def test_without_one_the_model_keeps_its_scheduler(monkeypatch: pytest.MonkeyPatch) -> None:
    assert write_sampler(monkeypatch, None) == ""

"""Applies the rules to the tiny model, on a machine that is the same everywhere."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import pytest

from tests.rules.cases import GROUPS, Apply, Values
from wavespeed_runner.config.resolve import resolve_config
from wavespeed_runner.registry import lookup
from wavespeed_runner.rules import accelerate, attention, attention_needs, basics, numerics
from wavespeed_runner.rules.check import Finding, apply_rules

Composed = Callable[..., dict[str, Any]]


CAPABILITIES = {"cuda:75": (7, 5), "cuda:80": (8, 0), "cuda:90": (9, 0), "cuda:100": (10, 0), "cuda:120": (12, 0)}
"""Device of a test -> its compute capability, as if this machine had it. Of any other nothing is known."""


@pytest.fixture
def apply(composed: Composed, own_registry: Any, monkeypatch: pytest.MonkeyPatch) -> Apply:
    """`apply(values)`: what the rules say of the tiny model with these values, on a Linux machine without a GPU."""
    monkeypatch.setattr(basics, "has_cuda", lambda: False)
    monkeypatch.setattr(basics, "platform", "linux")
    monkeypatch.setattr(numerics, "has_fast_half", lambda dtype: dtype == "float16")
    for module in (accelerate, attention, attention_needs, numerics):
        monkeypatch.setattr(module, "resolve_device", lambda device: "cpu" if device == "auto" else device)
    for module in (accelerate, attention, attention_needs):
        monkeypatch.setattr(module, "read_capability", lambda device: CAPABILITIES.get(device))
    entry = own_registry["model", "flux"]

    def apply_to(values: Values) -> list[Finding]:
        data = composed(*(f"{group}={values[group]}" for group in GROUPS if group in values))
        data["steps"] = 30
        family = {key.partition(".")[2]: value for key, value in values.items() if key.startswith("family.")}
        own_registry["model", "flux"] = replace(entry, implementation=replace(entry.implementation, **family))
        for key, value in values.items():
            if key not in GROUPS and not key.startswith("family."):
                set_value(data, key, value)
        known = {field.name for field in fields(lookup("model", data["model"]["name"]).options)}
        data["model"] = {key: value for key, value in data["model"].items() if key in known}  # of another family
        return apply_rules(resolve_config(data))

    return apply_to


def set_value(data: Values, key: str, value: Any) -> None:
    *above, last = key.split(".")
    for name in above:
        data = data[name]
    data[last] = value

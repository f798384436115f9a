"""What a program passes on from strangers: files whose errors hold escapes, and values that Python fails over."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.api.test_load import SMALL
from wavespeed_runner import load
from wavespeed_runner.api.turns import take_turn
from wavespeed_runner.errors import ConfigError, RunError

CONTROLS = "\x1b\x07\u202e"
FILES = {
    "key": '"prom\\e[2J\\u202ept": x',
    "repo": 'model:\n  repo: "x\\e[31m\\u202e/y"',
    "dtype": 'model: {dtype: "\\e[2J"}',
    "defaults": 'defaults:\n- /cache: "fb\\e[31m"',
    "stage": 'graph:\n  stages:\n    load:\n      stage: "\\e[2J\\a"',
    "steps": 'steps: "\\e[2J"',
    "calibration": 'defaults:\n- override /cache: planned\ncache: {calibration: "\\e[2J\\u202e.yaml", computed: 4}',
    "device": 'device: "cpu\\e[2J"',
    "adapter": 'defaults:\n- override /adapters: lora\nadapters: {path: "a/\\e[2J"}',
    "attention": 'attention: {name: "\\e[2J"}',
}
HUGE = 10**5000
VALUES = [
    HUGE,
    [HUGE],
    [[1]],
    {HUGE: 1},
    {"a": {"b": 1}},
    float("nan"),
    float("inf"),
    "\ud800",
    object(),
    b"x",
    "1" * 5000,
]


@pytest.mark.parametrize("name", FILES)
def test_no_message_holds_what_a_terminal_acts_on(name: str) -> None:
    Path("stranger.yaml").write_text(f"# @package _global_\n{FILES[name]}\n")
    with pytest.raises(ConfigError) as caught:
        load("stranger.yaml")
    assert not set(CONTROLS) & set(str(caught.value)) and "?" in str(caught.value), str(caught.value)


@pytest.mark.parametrize("kind", [ConfigError, RunError])
def test_whatever_the_api_raises_of_ours_is_one_clean_line(kind: type[Exception]) -> None:
    with pytest.raises(kind) as caught, take_turn():
        raise kind(f"a{CONTROLS}b\nc")
    assert str(caught.value) == "a???b c" and caught.value.__suppress_context__


def test_what_a_rule_doubts_is_logged_clean(caplog: pytest.LogCaptureFixture) -> None:
    from types import SimpleNamespace

    from wavespeed_runner.api.settings import tell

    finding = SimpleNamespace(verdict="unverified", rule="x", message=f"a{CONTROLS}", fix="")
    with caplog.at_level("INFO"):
        tell(SimpleNamespace(verdicts=[finding], changes=[SimpleNamespace(key="k", value=CONTROLS, why="w")]))  # type: ignore[arg-type]
    assert [record.getMessage() for record in caplog.records] == ["rule x: a???", "k=???: w"]


@pytest.mark.parametrize(
    "settings",
    ["x" * 5000, 5, None, b"x", {"a": 1}, "a\0b", [5], "", ["model=demo\ud800"], HUGE],
    ids=lambda s: type(s).__name__,
)
def test_settings_of_any_kind_are_refused_in_one_line(settings: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        load(settings)
    assert len(str(caught.value)) < 600


def test_values_of_any_kind_are_refused_by_their_key() -> None:
    for value in [*VALUES, {"a": HUGE}]:
        with pytest.raises(ConfigError, match="seed"):
            load(SMALL, seed=value)
    pipe = load(SMALL)
    for key in ("seed", "steps", "guidance_scale", "width", "num_images_per_prompt"):
        for value in VALUES:
            with pytest.raises(ConfigError, match=key):
                pipe("a", **{key: value})
    for prompt in ("\ud800", ["a", "a\udfff"], 5, None, [5], b"a", HUGE, [[]], {}):
        with pytest.raises(ConfigError, match="prompt"):
            pipe(prompt)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"negative_prompt.*surrogate"):
        pipe("a", negative_prompt="\ud800")

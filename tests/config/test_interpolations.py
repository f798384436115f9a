"""Interpolations count as what they stand for, before anything follows them."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.command_line import CommandLine
from wavespeed_runner.config.interpolations import refuse_expansion
from wavespeed_runner.config.trust import check_values
from wavespeed_runner.errors import ConfigError
from wavespeed_runner.inputs.documents import refuse_many
from wavespeed_runner.inputs.files import InputError

LEVELS = 6


def multiply(first: Any, again: Any) -> dict[str, Any]:
    """Six levels, each ten times the one before: a million values, from some sixty."""
    return {"a0": first, **{f"a{n}": again(n - 1) for n in range(1, LEVELS)}}


BOMBS: dict[str, dict[str, Any]] = {
    "lists": multiply([1] * 10, lambda n: [f"${{x.a{n}}}"] * 10),
    "beside": multiply([1] * 10, lambda n: [f"${{..a{n}}}"] * 10),
    "mappings": multiply({"k": 1}, lambda n: {f"k{i}": f"${{x[a{n}]}}" for i in range(10)}),
    "texts": multiply("word", lambda n: f"${{x.a{n}}}" * 10),
    "through a reference": multiply([1] * 10, lambda n: [f"${{y.a{n}}}"] * 10),
    "one long text": {"a": "w" * 200_000, "b": ["${x.a}"] * 60},
}


@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS.keys())
def test_what_multiplies_is_refused_by_its_key(bomb: dict[str, Any]) -> None:
    began = time.process_time()
    with pytest.raises(ConfigError, match=r"^x\.\w+(\.\w+)?: more than 10000 values, with interpolations followed"):
        refuse_expansion({"x": bomb, "y": "${x}"})
    assert time.process_time() - began < 1


def test_a_long_chain_is_refused() -> None:
    chain = {f"a{n}": f"${{a{n + 1}}}" for n in range(5000)}
    with pytest.raises(ConfigError, match="interpolations"):
        refuse_expansion(chain)


@pytest.mark.parametrize(
    "config",
    [
        {"a": "${a}", "b": "${c}", "c": "${b}", "d": {"e": "${d}"}},  # circles: reported where they are resolved
        {"a": "${nothing}", "b": "${a.b.c}", "c": "${....x}", "d": "${e[9]}", "e": [1]},
        {"a": [1] * 5000, "b": "${a}"},
        {"a": {1: "x"}, "b": "${a.1} ${a[1]}"},
    ],
)
def test_what_stays_small_is_left_alone(config: dict[str, Any]) -> None:
    refuse_expansion(config)


def test_an_experiment_that_multiplies_is_refused_soon(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cli = CommandLine(tmp_path, monkeypatch, capsys)
    options = multiply([1] * 10, lambda n: [f"${{graph.stages.load.options.a{n}}}"] * 10)
    cli.experiment(f"graph: {{stages: {{load: {{options: {options}}}}}}}\n")
    began = time.process_time()
    said = cli.refuses("experiment=mine", "dry_run=true")
    assert "graph.stages.load.options.a" in said and "with interpolations followed" in said
    assert time.process_time() - began < 5


def test_dots_without_end_take_no_time() -> None:
    began = time.process_time()
    with pytest.raises(ConfigError, match="only plain interpolations"):
        check_values({"prompt": "${" + "." * 50_000})
    assert time.process_time() - began < 1


def test_interpolations_of_one_value_are_counted_wherever_it_comes_from() -> None:
    with pytest.raises(ConfigError, match="prompt: 20000 times"):
        check_values({"prompt": "${seed}" * 20_000})
    for data in ({"prompt": "${" * 101}, [["${seed}" * 100]] * 11):
        with pytest.raises(InputError, match="interpolations"):
            refuse_many(data)

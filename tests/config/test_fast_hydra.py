"""Hydra that is spared its repetitions composes what it composes otherwise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hydra._internal import defaults_list
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.sources_registry import SourcesRegistry
from hydra.core.config_store import ConfigStore
from omegaconf import base
from omegaconf.basecontainer import BaseContainer

from tests.config.command_lines import outcome, write_experiments
from wavespeed_runner.config import fast
from wavespeed_runner.config.compose import compose_job, composer
from wavespeed_runner.config.fast.compose import compose_config, spare_hydra_repetition
from wavespeed_runner.config.paths import CONF
from wavespeed_runner.errors import ConfigError

CHOSEN = """# @package _global_
defaults:
  - /one: two
  - /three@graph.stages.x: ${one}
  - _self_
"""
"""A defaults list that chooses an option by the name of another one."""
TWICE = """# @package _global_
defaults:
  - /one/part@graph.stages.first: x
  - /one/part@graph.stages.second: x
  - _self_
graph: {stages: {first: {options: {b: 1}}, second: {options: {c: 2}}}}
"""
"""One file at two places, which are then changed in different ways."""


@pytest.mark.parametrize(
    "overrides",
    [
        ["experiment=chosen"],
        ["experiment=chosen", "steps=3"],
        ["experiment=chosen", "one=nope"],
        ["experiment=twice"],
        ["experiment=twice", "graph.stages.first.options.b=3"],
        ["experiment=mine", "cache=fbcache", "cache/predictor=taylor"],
        ["graph=hires_fix", "model=demo_unet", "sampler=euler_karras", "hydra/launcher=slurm"],
    ],
    ids=" ".join,
)
def test_it_composes_the_same(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, overrides: list[str]) -> None:
    """Twice each way, because what is read the first time is remembered."""
    write_experiments(tmp_path)
    for name, text in {
        "experiment/chosen": CHOSEN,
        "experiment/twice": TWICE,
        "one/part/x": "stage: encode\noptions: {b: 0, c: 0, d: '${seed}'}\n",
        "one/two": "# @package _global_\nseed: 5\n",
        "three/two": "stage: encode\n",
    }.items():
        file = tmp_path / f"{name}.yaml"
        file.parent.mkdir(exist_ok=True, parents=True)
        file.write_text(text)

    def compose_twice() -> list[str]:
        results = []
        for _ in range(2):
            with composer(str(tmp_path)):
                results.append(outcome(compose_config, overrides))
        return results

    quick = compose_twice()
    monkeypatch.setenv(fast.SWITCH, "0")
    plain = compose_twice()
    assert quick == plain and len(set(plain)) == 1
    assert ("'x': {'stage': 'encode'" in plain[0]) == (
        overrides[0] == "experiment=chosen" and overrides[-1] != "one=nope"
    )
    if overrides == ["experiment=twice"]:
        for options in ("{'b': 1, 'c': 0, 'd': '${seed}'}", "{'b': 0, 'c': 2, 'd': '${seed}'}"):
            assert f"{{'stage': 'encode', 'options': {options}}}" in plain[0]


def test_each_reader_of_a_shipped_file_has_its_own_copy() -> None:
    with composer(None):
        results = [find_source()("main", f"file://{CONF}").load_config("cache/fbcache") for _ in range(3)]
    first, second, _ = results
    assert first.config == second.config and first.header == second.header
    first.config.clear()
    first.header["package"] = "elsewhere"
    with composer(None):
        assert find_source()("main", f"file://{CONF}").load_config("cache/fbcache").config == second.config
    assert second.config and second.header != first.header


def find_source() -> Any:
    """The class that Hydra reads files with."""
    return SourcesRegistry.instance().types["file"]


def find_replaced() -> tuple[object, ...]:
    create_map = defaults_list._create_interpolation_map
    merging = ConfigLoaderImpl._compose_config_from_defaults_list, ConfigLoaderImpl._embed_result_config
    return (
        find_source().load_config, create_map, "__deepcopy__" in vars(ConfigStore), base.parse, *merging,
        BaseContainer._re_parent,
    )  # fmt: skip


def test_hydra_is_as_it_was_afterwards_also_after_an_error() -> None:
    before = find_replaced()
    with pytest.raises(ZeroDivisionError), spare_hydra_repetition(), spare_hydra_repetition():
        assert find_source().load_config is not before[0] and "__deepcopy__" in vars(ConfigStore)
        assert find_replaced()[3:5] != before[3:5]
        raise ZeroDivisionError
    assert find_replaced() == before


def test_after_composing_and_a_composition_that_fails_too(tmp_path: Path) -> None:
    before = find_replaced()
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "wrong.yaml").write_text("# @package _global_\nmodel: [1]\n")
    for experiment in ("null", "wrong"):
        with composer(str(tmp_path)):
            outcome(compose_config, [f"experiment={experiment}"])
    assert find_replaced() == before


def test_an_interpolated_group_with_a_list_of_options(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "experiment" / "list").mkdir(parents=True)
    text = "# @package _global_\ndefaults:\n  - optional /${experiment}/x: [a]\n  - _self_\n"
    (tmp_path / "experiment" / "list.yaml").write_text(text)
    results = []
    for switch in ("1", "0"):
        monkeypatch.setenv(fast.SWITCH, switch)
        with composer(str(tmp_path)):
            results.append(outcome(compose_config, ["experiment=list"]))
    assert results[0] == results[1]


def test_a_baseline_of_a_users_file_is_not_remembered(tmp_path: Path) -> None:
    """What the command line chooses for Hydra may be a file that changes."""
    (tmp_path / "outputs" / "foo").mkdir(parents=True)
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "x.yaml").write_text("# @package _global_\nhydra: {job: {name: evil}}\n")
    chosen = tmp_path / "outputs" / "foo" / "bar.yaml"
    chosen.write_text("# @package hydra.job\nname: evil\n")
    with composer(str(tmp_path)):
        compose_job(["+outputs/foo=bar"], ["+outputs/foo=bar"])
    chosen.write_text("# @package hydra.job\n{}\n")
    overrides = ["+outputs/foo=bar", "experiment=x"]
    with composer(str(tmp_path)), pytest.raises(ConfigError, match=r"hydra\.job\.name: a config file sets it"):
        compose_job(overrides, overrides)

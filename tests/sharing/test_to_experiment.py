"""Converting a record to an experiment file: it is small, portable, and composes to the same config."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from msgspec import to_builtins

from tests.records.makers import sample_record
from wavespeed_runner.cli.main import main
from wavespeed_runner.config.compose import compose_job, composer
from wavespeed_runner.config.error_messages import EXPLAINED
from wavespeed_runner.config.schema import KEYS_NOT_IN_IMAGES, to_data
from wavespeed_runner.errors import ConfigError
from wavespeed_runner.planning.plan import build_plan
from wavespeed_runner.records.file import record_data, record_from_data
from wavespeed_runner.records.new import new_record
from wavespeed_runner.sharing.document import flatten, format_yaml
from wavespeed_runner.sharing.to_experiment import EXPERIMENT, convert_to_experiment

Record = dict[str, Any]

LORA = "adapters.path=pkg://wavespeed_runner/weights/demo_lora/night.safetensors"


def planned_record(*overrides: str, config_dir: Path | None = None) -> Record:
    """What a run with these overrides would write, as JSON has it; nothing is run."""
    with composer(str(config_dir) if config_dir else None):
        plan = build_plan(compose_job(list(overrides), list(overrides)))
    return record_data(new_record(plan, list(overrides)))


def compose_again(document: dict[str, Any], folder: Path, prompts: list[str]) -> dict[str, Any]:
    """The config that another user gets from a file with this content."""
    file = folder / "experiment" / f"{EXPERIMENT}.yaml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(format_yaml(document), encoding="utf-8")
    with composer(str(folder)):
        composed = compose_job([f"experiment={EXPERIMENT}"], [f"experiment={EXPERIMENT}"])
    return to_data(build_plan({**composed, "outputs": str(folder / "outputs")}, prompts).config)  # type: ignore[no-any-return]


def export_and_check(record: Record, folder: Path, config_dir: Path | None = None) -> dict[str, Any]:
    """Exports a record, checks that it composes to the record's config, and returns the document."""
    document, _ = convert_to_experiment(record_from_data(record), config_dir)
    composed = compose_again(document, folder, record["plan"]["prompts"])
    left_out = {*KEYS_NOT_IN_IMAGES, *(() if "device" in document else ("device",))}
    assert {k: v for k, v in composed.items() if k not in left_out} == {
        k: v for k, v in record["config"].items() if k not in left_out
    }
    return document


GROUPS: dict[str, list[str]] = {
    "model": ["demo", "demo_unet", "flux model.init=tiny", "sd15 model.init=tiny", "wan21 model.init=tiny"],
    "cache": [
        "none",
        "fbcache",
        "teacache",
        "magcache",
        "deepcache",
        "balanced",
        "taylorseer",
        "fbcache cache/predictor=taylor",
        "fbcache cache.residual_diff_threshold=0.1 cache.max_consecutive_cache_hits=3",
        "fbcache cache.criterion.threshold=0.2 cache.end=0.75",
        "custom cache/signal=first_block_output cache/criterion=interval cache/predictor=hermite",
    ],
    "sampler": ["default", "euler", "dpmpp_2m_karras", "unipc", "ddim"],
    "adapters": ["none", f"lora {LORA} adapters.weight=0.5"],
    "memory": ["none", "vae_slicing", "layerwise_casting"],
    "measure": [
        "default",
        "full",
        "none",
        "default measure.reference_steps=40",
        "default measure.reference_sampler=own measure.reference_steps=40",
        "full measure.difference_gain=2",
    ],
    "graph": ["", "image_to_image strength=0.5", "hires_fix"],
}

VALUES = ("steps", "seed", "seeds", "prompt", "guidance_scale", "width", "num_images_per_prompt", "batch_size")

PROMPTS = ["a red circle", "1e3", "null", 'it\'s: a "star" #1', "yes", "0o17", "- x", "1_000", "ein Kreis, 圆 ~"]


def quote(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


@st.composite
def draw_overrides(draw: st.DrawFn) -> list[str]:
    overrides: list[str] = []
    for group, choices in GROUPS.items():
        if draw(st.integers(0, 2)) == 0:
            option, *more = draw(st.sampled_from(choices)).split(" ")
            overrides += ([f"{group}={option}"] if option else []) + more
    values = {
        "steps": st.integers(9, 30).map(str),
        "seed": st.integers(0, 2**40).map(str),
        "seeds": st.sampled_from(["same", "per_prompt"]),
        "prompt": st.sampled_from(PROMPTS).map(quote),
        "guidance_scale": st.floats(1.5, 9).map(repr),
        "width": st.sampled_from(["64", "128"]),
        "num_images_per_prompt": st.integers(1, 3).map(str),
        "batch_size": st.integers(1, 2).map(str),
    }
    for key in VALUES:
        if draw(st.integers(0, 2)) == 0:
            overrides.append(f"{key}={draw(values[key])}")
    return overrides


@settings(max_examples=5, deadline=None, suppress_health_check=list(HealthCheck))
@given(overrides=draw_overrides(), without_overrides=st.booleans())
def test_an_exported_file_composes_to_the_config_of_the_record(
    tmp_path_factory: pytest.TempPathFactory, overrides: list[str], without_overrides: bool
) -> None:
    """For any combination of options that can run, also where the overrides are not known."""
    try:
        record = planned_record(*overrides)
    except EXPLAINED:
        assume(False)
    if without_overrides:
        record["overrides"] = ["replay=x/record.json"]
    export_and_check(record, tmp_path_factory.mktemp("point"))


def test_only_differences_from_the_defaults_are_exported(tmp_path: Path) -> None:
    document = export_and_check(
        planned_record(
            "model=demo", "cache=fbcache", "cache.residual_diff_threshold=0.1", "steps=28", "seed=0", "prompts=demo",
            "cache.end=1.0", "measure.warmup=1",
        ),
        tmp_path,
    )  # fmt: skip
    assert document == {
        "defaults": [{"override /cache": "fbcache"}],
        "cache": {"residual_diff_threshold": 0.1},
    }
    assert export_and_check(planned_record(), tmp_path) == {"defaults": []}
    assert export_and_check(planned_record("seeds=per_prompt"), tmp_path) == {"defaults": [], "seeds": "per_prompt"}


def test_values_of_an_experiment_are_written_out(tmp_path: Path) -> None:
    document = export_and_check(planned_record("experiment=known_answer", "cache.end=0.9"), tmp_path)
    assert document["cache"]["end"] == 0.9 and document["cache"]["residual_diff_threshold"] == 1000.0
    assert "known_answer" not in format_yaml(document)


def test_options_of_the_users_folder_are_not_needed(tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    (mine / "cache").mkdir(parents=True)
    (mine / "experiment").mkdir()
    (mine / "cache" / "my_cache.yaml").write_text("defaults: [fbcache, _self_]\nresidual_diff_threshold: 0.3\n")
    (mine / "experiment" / "outer.yaml").write_text(
        "# @package _global_\ndefaults: [inner, {override /cache: my_cache}, _self_]\nseed: 5\n"
    )
    (mine / "experiment" / "inner.yaml").write_text("# @package _global_\nsteps: 11\n")
    record = planned_record("experiment=outer", config_dir=mine)
    for folder in (mine, None):
        document = export_and_check(record, tmp_path / "other", folder)
        assert document["defaults"] == [{"override /cache": "fbcache"}]
        cache = {"chosen_as": "my_cache", "residual_diff_threshold": 0.3}
        assert (document["steps"], document["seed"], document["cache"]) == (11, 5, cache)


def test_values_of_a_users_calibration_are_exported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another user does not have that file. Here the shipped calibrations stand in for the user's."""
    from wavespeed_runner.caching.calibration import find

    record = planned_record("cache=teacache")
    assert "coefficients" not in format_yaml(export_and_check(record, tmp_path))
    monkeypatch.setattr(find, "SHIPPED", tmp_path / "nothing")
    document = export_and_check(record, tmp_path)
    assert document["cache"]["criterion"]["coefficients"] == record["config"]["cache"]["criterion"]["coefficients"]
    assert document["cache"]["calibrated_for"] and document["cache"].get("calibration") is None


def test_files_are_exported_by_name_alone(tmp_path: Path) -> None:
    (tmp_path / "secret place").mkdir()
    image = shutil.copy(Path("wavespeed_runner/samples/scene.png"), tmp_path / "secret place" / "photo.png")
    prompts = tmp_path / "secret place" / "mine.list"
    prompts.write_text("a red circle\n")
    record = planned_record("graph=image_to_image", f"image='{image}'", "prompts=file", f"prompts.path='{prompts}'")
    document, config = convert_to_experiment(record_from_data(record))
    assert (document["image"], document["prompts"]) == ("photo.png", {"texts": ["a red circle"]})
    assert "secret" not in format_yaml(document) and config["image"] == "photo.png"


def test_the_output_folder_is_not_exported(tmp_path: Path) -> None:
    record = planned_record(f"outputs={tmp_path}/mine", "rerun=true", "steps=9")
    assert export_and_check(record, tmp_path) == {"defaults": [], "steps": 9}


def test_the_device_is_exported_where_it_was_given(tmp_path: Path) -> None:
    assert export_and_check(planned_record("device=cpu"), tmp_path)["device"] == "cpu"
    assert "device" not in export_and_check(planned_record("steps=9"), tmp_path)


def test_a_key_that_a_config_file_cannot_remove_is_refused() -> None:
    record = planned_record("graph=hires_fix")
    for name in ("upscale", "denoise_large", "decode_large"):
        del record["config"]["graph"]["stages"][name]
    record["config"]["graph"]["output"] = "decode"
    with pytest.raises(ConfigError, match=r"^graph\.stages\..*: a config file cannot remove this key, so no"):
        convert_to_experiment(record_from_data(record))


@pytest.mark.parametrize("key", ["prompt", "graph.stages.denoise.options.steps"])
def test_a_record_with_a_resolver_in_it_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    """It would write this machine's environment variables into a file that is shared."""
    monkeypatch.setenv("MY_TOKEN", "7")
    record = planned_record()
    *nodes, last = key.split(".")
    node = record["config"]
    for name in nodes:
        node[name] = node[name] or {}
        node = node[name]
    node[last] = "${oc.env:MY_TOKEN}"
    completed = {**record, "status": "completed", "samples": [to_builtins(sample_record())]}
    (tmp_path / "record.json").write_text(json.dumps(completed))
    with pytest.raises(ConfigError, match=rf"^{re.escape(key)}=\$.*only plain interpolations"):
        convert_to_experiment(record_from_data(record))
    assert main(["export", str(tmp_path), f"out={tmp_path}/x.yaml"]) == 2 and not (tmp_path / "x.yaml").exists()


def test_flatten_keeps_lists_and_empty_nodes() -> None:
    assert flatten({"a": {"b": [1, 2], "c": {}}, "d": None}) == {"a.b": [1, 2], "a.c": {}, "d": None}


GRAPHS = ("inpaint", "inpaint_overlay", "image_to_image", "hires_fix", "hires_fix_latents", "detail")


@pytest.mark.parametrize("graph", GRAPHS)
def test_a_graph_that_nobody_knows_to_be_typed_is_named_in_one_line(graph: str, tmp_path: Path) -> None:
    """An image carries its config, and not what was typed."""
    record = planned_record(f"graph={graph}") | {"overrides": []}
    document = export_and_check(record, tmp_path)
    assert document["defaults"] == [{"override /graph": graph}] and "graph" not in document, document


def test_a_graph_of_ones_own_is_the_nearest_option_and_what_differs(tmp_path: Path) -> None:
    record = planned_record("graph=hires_fix", "graph.stages.upscale.options.scale=3.0") | {"overrides": []}
    document = export_and_check(record, tmp_path)
    assert document["defaults"] == [{"override /graph": "hires_fix"}]
    assert document["graph"] == {"stages": {"upscale": {"options": {"scale": 3.0}}}}

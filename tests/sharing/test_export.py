"""Export."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from msgspec import to_builtins

from tests.command_line import CommandLine
from tests.records.makers import sample_record
from wavespeed_runner.cli.main import main
from wavespeed_runner.config.compose import compose_job, composer
from wavespeed_runner.config.error_messages import EXPLAINED
from wavespeed_runner.config.resolve import resolve_config
from wavespeed_runner.config.schema import KEYS_NOT_IN_IMAGES, to_data
from wavespeed_runner.errors import ConfigError
from wavespeed_runner.planning.plan import build_plan
from wavespeed_runner.records.file import record_data, record_from_data
from wavespeed_runner.records.new import image_data, new_record
from wavespeed_runner.sharing import export
from wavespeed_runner.sharing.document import flatten, format_yaml
from wavespeed_runner.sharing.to_experiment import EXPERIMENT, convert_to_experiment

Record = dict[str, Any]
Finished = tuple[Path, Record]
LORA = "adapters.path=pkg://wavespeed_runner/weights/demo_lora/night.safetensors"


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine(tmp_path, monkeypatch, capsys)


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
    "memory": ["none", "vae_tiling", "layerwise_casting"],
    "measure": ["default", "full", "none", "default measure.reference_steps=40", "full measure.difference_gain=2"],
    "graph": ["", "image_to_image strength=0.5", "hires_fix"],
}
VALUES = ("steps", "seed", "prompt", "guidance_scale", "width", "num_images_per_prompt", "batch_size")
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


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
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
        assert (document["steps"], document["seed"], document["cache"]) == (11, 5, {"residual_diff_threshold": 0.3})


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
    assert (document["image"], document["prompts"]["path"]) == ("photo.png", "mine.txt")
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


@pytest.fixture
def exported(finished: Finished, cli: CommandLine, capsys: pytest.CaptureFixture[str]) -> str:
    """The finished run as experiment/mine.yaml in the working folder."""
    assert main(["export", str(finished[0]), "name=mine"]) == 0
    assert "--config-dir . experiment=mine" in capsys.readouterr().out
    return Path("experiment/mine.yaml").read_text()


def test_the_comment_describes_the_run(finished: Finished, exported: str) -> None:
    lines = exported.splitlines()
    assert lines[0] == "# @package _global_"
    assert lines[1].startswith("# python -m wavespeed_runner --config-dir DIR experiment=mine ")
    environment = finished[1]["environment"]
    for words in (
        f"{finished[1]['timing']['speedup']:.2f} times as fast",
        environment["device_name"],
        f"torch {environment['versions']['torch']}",
        "2 images of 2 prompts, 32x32, 6 steps",
        "prompts.path=prompts.txt: put this file in the folder where the command runs",
    ):
        assert words in exported
    assert str(finished[0].parent) not in exported, "no folder of the user"


def test_the_claim_is_data(finished: Finished, exported: str) -> None:
    claim, record = yaml.safe_load(exported)["claim"], finished[1]
    assert claim["pixels_sha256"] == [sample["pixels_sha256"] for sample in record["samples"]]
    assert claim["ssim"]["value"] == pytest.approx(record["quality"]["ssim"]["mean"], rel=1e-5)
    assert claim["ssim"]["worst"] == pytest.approx(record["quality"]["ssim"]["worst"], rel=1e-5)
    assert claim["seconds"]["low"] <= claim["seconds"]["value"] <= claim["seconds"]["high"]
    mad = record["timing"]["mad"]
    assert claim["seconds"]["mad"] == pytest.approx(mad, rel=1e-5), "as in results.csv and in the table"
    # Each image is timed once, so only the references repeat the same work.
    references = [seconds for sample in record["samples"] for seconds in sample["reference_raw_seconds"]]
    assert [len(sample["raw_seconds"]) for sample in record["samples"]] == [1, 1] and len(references) == 2
    deviation = median(abs(seconds / median(references) - 1) for seconds in references)
    assert claim["seconds"]["repeat_floor"] == pytest.approx(deviation * record["timing"]["median"], rel=1e-4)
    assert claim["versions"] == record["environment"]["versions"] and claim["fingerprint"] == record["fingerprint"]


def test_another_user_runs_the_same_plan(finished: Finished, exported: str, cli: CommandLine) -> None:
    shutil.copy(finished[0].parent / "prompts.txt", ".")
    result = cli("--config-dir", ".", "experiment=mine", "dry_run=true")
    assert (result.status, result.err) == (0, "") and f"fingerprint {finished[1]['fingerprint']}" in result.out


def test_a_claim_has_no_effect_on_a_run(exported: str, cli: CommandLine, finished: Finished, tmp_path: Path) -> None:
    shutil.copy(finished[0].parent / "prompts.txt", ".")
    bare = exported[: exported.index("claim:")]
    Path("experiment/bare.yaml").write_text(bare)
    with composer("."):
        plans = [build_plan(compose_job([f"experiment={name}"], [])) for name in ("mine", "bare")]
    claimed, plain = plans
    assert claimed.config.claim is not None and plain.config.claim is None
    for field in ("fingerprint", "identity", "keys", "reference_keys", "images", "reference_images"):
        assert getattr(claimed, field) == getattr(plain, field), field
    assert image_data(claimed.config, "x", 0, "f") == image_data(plain.config, "x", 0, "f")


def test_a_run_of_an_exported_experiment_is_exported_with_its_own_claim(exported: str, finished: Finished) -> None:
    record = json.loads((finished[0] / "record.json").read_text())
    record["config"]["claim"] = to_data(
        resolve_config({**record["config"], "claim": yaml.safe_load(exported)["claim"]})
    )["claim"]
    twice = export.format_experiment(record_from_data(record), "twice")
    assert twice.count("claim:") == 1 and twice.replace("twice", "mine") == exported


def test_hashes_and_versions_of_digits_stay_text(finished: Finished, tmp_path: Path) -> None:
    record = json.loads((finished[0] / "record.json").read_text())
    record["samples"][0]["pixels_sha256"] = "1" * 10 + "e" + "2" * 53
    record["environment"] |= {"commit": "12345e78", "device_name": "cpu: #1 'x' \"y\" \\ é"}
    record["environment"]["versions"]["torch"] = "2.10"
    file = tmp_path / "experiment" / "mine.yaml"
    file.parent.mkdir()
    file.write_text(export.format_experiment(record_from_data(record), "mine"), encoding="utf-8")
    with composer(str(tmp_path)):
        claim = resolve_config(compose_job(["experiment=mine"], [])).claim
    assert claim is not None
    assert claim.pixels_sha256[0] == record["samples"][0]["pixels_sha256"] and claim.commit == "12345e78"
    assert claim.versions["torch"] == "2.10" and claim.device_name == record["environment"]["device_name"]


FAILURE = {"stage": "decode", "type": "RunError", "message": "no memory"}
REFUSED: dict[str, tuple[Callable[[Record], Any], str]] = {
    "failed": (lambda r: r.update(status="failed", error=FAILURE), "status failed (no memory): only"),
    "interrupted": (lambda r: r.update(status="interrupted"), "status interrupted (the run did not finish): only"),
    "no images": (lambda r: r.update(samples=[]), "the record has no images"),
    "another version": (lambda r: r.update(schema_version=99), "schema_version 99"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_run_that_is_not_completed_is_refused(
    finished: Finished, tmp_path: Path, capsys: pytest.CaptureFixture[str], what: str
) -> None:
    change, words = REFUSED[what]
    record = json.loads((finished[0] / "record.json").read_text())
    change(record)
    (tmp_path / "record.json").write_text(json.dumps(record))
    assert main(["export", str(tmp_path), f"out={tmp_path}/x.yaml"]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and words in err and not (tmp_path / "x.yaml").exists()


def test_wrong_arguments_are_refused_in_one_line(finished: Finished, cli: CommandLine, tmp_path: Path) -> None:
    run = str(finished[0])
    (tmp_path / "there.yaml").write_text("mine")
    (tmp_path / "sweep" / "0").mkdir(parents=True)
    for arguments, words in (
        ([], "the following arguments are required: RUN"),
        ([run, run], f"{run}: one argument too many"),
        ([str(tmp_path / "nothing")], "no record here"),
        ([str(tmp_path / "sweep")], "this is a sweep; give one of its jobs, such as"),
        ([run, "name=../x"], "name=../x: letters, digits"),
        ([run, "name=known_answer"], "a shipped experiment has this name"),
        ([run, f"out={tmp_path}/there.yaml"], "the file exists"),
        ([run, "config_dir=nowhere"], "config_dir=nowhere: no such folder"),
    ):
        assert main(["export", *arguments]) == 2
        out, err = cli.capsys.readouterr()
        assert out == "" and err.count("\n") == 1 and words in err
    assert (tmp_path / "there.yaml").read_text() == "mine" and cli.left() == []


def test_an_experiment_can_be_printed_and_has_a_default_name(finished: Finished, cli: CommandLine) -> None:
    assert main(["export", str(finished[0] / "record.json"), "out=-"]) == 0
    out = cli.capsys.readouterr().out
    assert re.search(r"experiment=flux_tiny_fbcache ", out) and yaml.safe_load(out)["claim"] and cli.left() == []


def test_flatten_keeps_lists_and_empty_nodes() -> None:
    assert flatten({"a": {"b": [1, 2], "c": {}}, "d": None}) == {"a.b": [1, 2], "a.c": {}, "d": None}

"""Export: the text of an experiment file with its claim, and which runs and arguments are refused."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from statistics import median
from typing import Any

import pytest
import yaml

from tests.command_line import CommandLine
from tests.conftest import PROMPTS
from wavespeed_runner.cli.main import main
from wavespeed_runner.config.compose import compose_job, composer
from wavespeed_runner.config.resolve import resolve_config
from wavespeed_runner.config.schema import to_data
from wavespeed_runner.planning.plan import build_plan
from wavespeed_runner.records.file import record_from_data
from wavespeed_runner.records.new import image_data
from wavespeed_runner.sharing import export

Record = dict[str, Any]

Finished = tuple[Path, Record]


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine(tmp_path, monkeypatch, capsys)


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
    ):
        assert words in exported
    assert yaml.safe_load(exported)["prompts"] == {"texts": list(PROMPTS)} and "prompts.txt" not in exported
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


def test_medians_and_forks_are_said_and_claimed(finished: Finished) -> None:
    """Beside the mean; in a sentence where two forks decide it."""
    record = deepcopy(finished[1])
    first = record["samples"][0]
    record["samples"] = [
        {**first, "seed": seed, "quality": first["quality"] | {"ssim": ssim}}
        for seed, ssim in enumerate([*[0.99] * 10, 0.5, 0.6])
    ]
    text = export.format_experiment(record_from_data(record), "mine")
    assert ", median 0.9900, 10th percentile 0.6390, worst 0.5000, 2 of 12 images are forks." in text
    assert "# 2 of 12 images became another image (SSIM below 0.9); without them the mean SSIM is 0.9900." in text
    claim = yaml.safe_load(text)["claim"]
    assert (claim["forks"], claim["ssim"]["median"], claim["ssim"]["p10"]) == (2, 0.99, 0.639)
    for sample in record["samples"]:
        sample["quality"]["ssim"] = 0.99
    calm = export.format_experiment(record_from_data(record), "mine")
    assert "became" not in calm and "are forks" not in calm and "\n  forks: 0" in calm


def test_another_user_runs_the_same_plan(finished: Finished, exported: str, cli: CommandLine) -> None:
    result = cli("--config-dir", ".", "experiment=mine", "dry_run=true")
    assert (result.status, result.err) == (0, "") and f"fingerprint {finished[1]['fingerprint']}" in result.out


def test_a_claim_has_no_effect_on_a_run(exported: str, cli: CommandLine, finished: Finished, tmp_path: Path) -> None:
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


def test_where_there_is_no_record_it_says_why_and_what_to_give(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of a job that a sweep skipped the reason; of what `tune` left its experiment."""
    (tuned := tmp_path / "tuned" / "experiment").mkdir(parents=True)
    (tuned.parent / "tune.json").write_text("{}")
    (sweep := tmp_path / "sweep").mkdir()
    jobs = [{"number": 4, "overrides": ["cache=x"], "skipped": "only U-Nets have it", "identity": None}]
    (sweep / "sweep.json").write_text(json.dumps({"schema_version": 1, "axes": ["cache"], "jobs": jobs}))
    for path, words in (
        (tuned.parent, f"it has no answer; a run of it is {tuned.parent}/tuning/001/0"),
        (sweep / "4", "this job of the sweep is skipped, so there is nothing to export: only U-Nets have it"),
        (sweep / "5", "no record here"),
    ):
        assert main(["export", str(path)]) == 2
        assert words in capsys.readouterr().err
    (tuned / "mine.yaml").write_text("")
    assert main(["export", str(tuned.parent)]) == 2
    assert f"its answer is an experiment with its claim already: {tuned}/mine.yaml" in capsys.readouterr().err


def test_an_experiment_can_be_printed_and_has_a_default_name(finished: Finished, cli: CommandLine) -> None:
    assert main(["export", str(finished[0] / "record.json"), "out=-"]) == 0
    out = cli.capsys.readouterr().out
    assert re.search(r"experiment=flux_tiny_fbcache ", out) and yaml.safe_load(out)["claim"] and cli.left() == []

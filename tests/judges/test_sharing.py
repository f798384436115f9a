"""From a run with a judge to its experiment and back, and a sweep whose jobs are done with their judges alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from tests.command_line import TINY
from wavespeed_runner.cli.main import main

RUN = [*TINY, "width=64", "height=64", "cache=fbcache", "measure.warmup=0", "prompt='a red circle'"]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_an_experiment_has_the_judge_and_its_figure_is_verified(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*RUN, "metrics=scene"]) == 0
    assert "scene" in capsys.readouterr().out
    (folder,) = home.glob("outputs/runs/*/*")
    assert main(["export", str(folder), "name=mine", "out=mine.yaml"]) == 0
    text = Path("mine.yaml").read_text()
    experiment = yaml.safe_load(text)
    assert {"override /metrics": "scene"} in experiment["defaults"]
    assert experiment["claim"]["metrics"]["scene"]["value"] in (0.0, 1.0)
    capsys.readouterr()

    assert main(["replay", "mine.yaml"]) in (0, 1), "the time of a tiny model is not reproduced"
    assert "  metrics.scene   " in (out := capsys.readouterr().out) and "metrics.scene   0, claimed 0: repro" in out
    assert main(["replay", "mine.yaml", "metrics=none"]) in (0, 1)
    assert "metrics.scene   claimed 0; not asked for here" in capsys.readouterr().out
    assert main(["replay", "mine.yaml", "metrics.lpips.weights=x.safetensors"]) == 2
    assert "the file asks for no metrics.lpips" in capsys.readouterr().err
    assert main(["replay", "mine.yaml", "metrics=scene"]) == 2
    assert "none" in capsys.readouterr().err


def test_a_record_of_an_earlier_version_is_replayed(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(RUN) == 0
    (file,) = home.glob("outputs/runs/*/*/record.json")
    record = json.loads(file.read_text())
    assert record["config"].pop("metrics") == {}
    file.write_text(json.dumps(record))
    capsys.readouterr()
    assert main(["replay", str(file)]) == 0
    assert "identical, 1 of 1" in capsys.readouterr().out


def test_a_job_that_was_done_without_a_judge_is_not_done_with_it(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = ["-m", *RUN, "seed=1,2", "hydra.sweep.dir=outputs/sweeps/mine"]
    judged = []
    for more in ([], ["metrics=scene"], ["metrics=scene"]):
        assert main([*sweep, *more]) == 0, capsys.readouterr()
        records = [json.loads(file.read_text()) for file in sorted(home.glob("outputs/sweeps/**/record.json"))]
        judged.append([record.get("metrics", {}).keys() for record in records])
        sources = {sample["source"] for record in records for sample in record["samples"]}
    assert sources == {"store"}, "nothing was denoised for the judge"
    assert judged[-1][-1] == {"scene"}

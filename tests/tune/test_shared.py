"""`tune gallery=DIR`: which settings of shared experiments are tried, and what is said of the others."""

from __future__ import annotations

from pathlib import Path

import pytest

from wavespeed_runner.cli.main import main
from wavespeed_runner.errors import ConfigError
from wavespeed_runner.tune.shared import read_shared

PLANNED = """# @package _global_
defaults:
- override /cache: planned
- override /prompts: study
cache:
  computed: 6
seeds: per_prompt
width: 64
claim: {prompts: 1}
"""
FEWER = "# @package _global_\ndefaults:\n- override /sampler: unipc\nsteps: 7\nclaim: {prompts: 1}\n"


def write(folder: Path, **texts: str) -> Path:
    for name, text in texts.items():
        (folder / f"{name}.yaml").write_text(text)
    return folder


def test_settings_are_read_and_what_was_asked_for_is_left(tmp_path: Path) -> None:
    families, cuts = read_shared(write(tmp_path, b=PLANNED, a=FEWER), "demo".__eq__)
    points = [family.settings(chosen) for family in families for chosen in family.combinations()]
    assert points == [[{"sampler": "unipc", "steps": 7}], [{"cache": "planned", "cache.computed": 6}]]
    assert [family.name for family in families] == ["shared a.yaml", "shared b.yaml"] and not cuts


def test_what_is_not_for_this_model_or_no_claim_is_named(tmp_path: Path) -> None:
    other = FEWER.replace("- override", "- override /model: flux\n- override", 1)
    folder = write(
        tmp_path,
        other=other,
        plain=FEWER.replace("claim", "comment"),
        null="sampler: {name: default}\nclaim: null\n",
        config="model: {name: flux}\ngraph: {stages: {}}\nsampler: {name: default}\nclaim: null\n",
        broken="a: [",
        lists=FEWER.replace("steps: 7", "cache: {criterion: {schedule: [1, 2]}}"),
        nothing="defaults: []\nseed: 1\nclaim: {}\n",
        code=FEWER.replace("steps: 7", "compile: {options: {x: [1]}}"),
    )
    families, cuts = read_shared(folder, "demo".__eq__)
    assert families == []
    said = {cut.name: cut.reason for cut in cuts}
    assert said["other.yaml"] == "other.yaml: for model=flux, which is not the one that is tuned"
    assert "plain.yaml: it has no claim" in said["plain.yaml"] and "it has no claim" in said["null.yaml"]
    assert (
        said["config.yaml"].startswith("config.yaml: the config of a run, not an experiment; ")
        and "schedule" in said["lists.yaml"]
    )
    assert "broken.yaml" in said and "it sets none of sampler" in said["nothing.yaml"] and "code.yaml" in said
    assert [family.settings({}) for family in read_shared(folder, "flux".__eq__)[0]] == [
        [{"sampler": "unipc", "steps": 7}]
    ]


def test_a_folder_without_files_is_refused(tmp_path: Path) -> None:
    for folder, said in ((tmp_path / "none", "no such folder"), (tmp_path, "no .yaml files")):
        with pytest.raises(ConfigError, match=said):
            read_shared(folder, "demo".__eq__)


def test_they_are_counted_with_the_space(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "shared"
    folder.mkdir()
    odd = FEWER.replace("sampler: unipc", "cache: my_plugin_cache")
    (folder / "below").mkdir()
    write(folder / "below", refused=FEWER.replace("sampler: unipc", "sampler: fitted").replace("7", "9"))
    write(folder, a=FEWER.replace("7", "17"), x="a: 1", odd=odd)
    counts = []
    for more in ([], [f"gallery={folder}"]):
        assert main(["tune", "model=demo", "quality=ssim>=0.9", "dry_run=true", *more]) == 0
        said = capsys.readouterr().out
        counts.append(int(said.split("quick: ")[1].split()[0]))
    assert counts[1] == counts[0] + 1 and "not tried: x.yaml: it has no claim" in said
    assert "not tried: odd.yaml: " in said and "my_plugin_cache" in said
    assert "from a.yaml: sampler=unipc steps=17" in said
    assert "not tried: below/refused.yaml: steps=9: demo (shipped) has fitted samplers for" in said

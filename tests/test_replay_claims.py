"""Replay of exported experiments: the claim held against a run of its own, and nothing a stranger could slip in."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from wavespeed_runner import export, replay

Finished = tuple[Path, dict[str, Any]]
Said = tuple[int, str, str]
SAFE = {"seconds": "{value: 1000.0}", "speedup": "{value: 0.0001}"}
"""Claims of speed that any machine bears out, however busy."""


@pytest.fixture
def text(finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """What the finished run exports, in a folder that has its prompts; speed is claimed so that it holds."""
    shutil.copy(finished[0].parent / "prompts.txt", tmp_path)
    monkeypatch.chdir(tmp_path)
    return with_figures(export.exported(json.loads((finished[0] / "record.json").read_text()), "mine"), **SAFE)


@pytest.fixture
def replayed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    def run(text: str, *values: str) -> Said:
        (tmp_path / "mine.yaml").write_text(text, encoding="utf-8")
        return replay.main([str(tmp_path / "mine.yaml"), *values]), *capsys.readouterr()

    return run


def with_figures(text: str, **figures: str) -> str:
    for key, value in figures.items():
        text, count = re.subn(rf"(?m)^  {key}: .*$", f"  {key}: {value}", text)
        assert count == 1, key
    return text


def other_pixels(text: str) -> str:
    return re.sub(r'(?m)^  - "[0-9a-f]{64}"$', f'  - "{"0" * 64}"', text)


def test_the_same_pictures_are_reproduced(text: str, replayed: Callable[..., Said], family: Any) -> None:
    calls = family()
    status, out, _ = replayed(text)
    assert status == 0 and "\nreplay: reproduced\n" in out and "2 of 2 are the same, pixel for pixel: reproduced" in out
    assert re.search(r"  seconds +\d.*, claimed 1000, spread \d+%: reproduced", out)
    assert calls.count("decode") == 4, "everything was computed again"


def test_figures_stand_in_for_other_pictures(text: str, replayed: Callable[..., Said]) -> None:
    status, out, _ = replayed(other_pixels(text))
    assert status == 0 and "\nreplay: reproduced\n" in out and "0 of 2 are the same" in out
    assert re.search(r"  ssim +0\.\d+, claimed 0\.\d+ \(.*\), noise 0\.001: reproduced", out)


def test_a_figure_that_is_off_is_named_and_why(text: str, replayed: Callable[..., Said]) -> None:
    edited = with_figures(other_pixels(text), ssim="{value: 0.1, low: 0.05, high: 0.2}", fingerprint='"0"')
    status, out, _ = replayed(re.sub(r"(?m)^    torch: .*$", '    torch: "0.1"', edited))
    assert status == 1 and "replay: not reproduced (ssim); what differs: torch 0.1 -> " in out
    assert re.search(r"  ssim .*claimed 0\.1 \(0\.05 to 0\.2\), noise 0\.001: not reproduced", out)


def test_a_figure_inside_the_noise_floor_is_within_noise(text: str, replayed: Callable[..., Said]) -> None:
    figure = "{value: 0.5, low: 0.45, high: 0.55, repeat_floor: 0.2}"
    status, out, _ = replayed(with_figures(other_pixels(text), ssim=figure))
    assert status == 0 and "replay: within noise; what differs: nothing else differs" in out
    assert "noise 0.8: within noise" in out


def test_other_numerics_count_where_something_differs(text: str, replayed: Callable[..., Said]) -> None:
    edited = with_figures(other_pixels(text), ssim="{value: 0.5, low: 0.45, high: 0.55, noise_floor: 0.2}")
    status, out, _ = replayed(edited)
    assert status == 1 and "replay: not reproduced (ssim); what differs: nothing else differs" in out
    status, out, _ = replayed(re.sub(r"(?m)^    torch: .*$", '    torch: "0.1"', edited))
    assert status == 0 and "noise 0.8: within noise" in out


def test_speed_of_other_hardware_is_not_comparable(text: str, replayed: Callable[..., Said]) -> None:
    slow = with_figures(text, seconds="{value: 0.000001}", speedup="{value: 99.0}")
    status, out, _ = replayed(with_figures(slow, device_name='"another"'))
    assert status == 0 and out.count("not comparable: other hardware") == 2
    status, out, _ = replayed(slow)
    assert status == 1 and "replay: not reproduced (seconds, speedup)" in out


def test_other_prompts_are_named(text: str, replayed: Callable[..., Said]) -> None:
    Path("prompts.txt").write_text("a green star\na blue square\n")
    status, out, _ = replayed(with_figures(text, ssim="{value: 0.1}"))
    assert status == 1 and "what differs: other prompts" in out and "1 of 2 are the same" in out


def test_files_are_given_on_the_command_line(text: str, replayed: Callable[..., Said], tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    shutil.move("prompts.txt", elsewhere / "p.txt")
    status, _, err = replayed(text)
    assert status == 2 and "prompts.path=prompts.txt: " in err
    assert replayed(text, f"prompts.path={elsewhere / 'p.txt'}", f"outputs={elsewhere}/out")[0] == 0
    assert list(elsewhere.glob("out/runs/*/*-replay/record.json")) and not Path("outputs").exists()


def test_a_record_that_is_run_again_has_its_figures_shown(
    finished: Finished, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    record = json.loads((finished[0] / "record.json").read_text())
    record["samples"][0]["pixels_sha256"] = "0" * 64
    Path("record.json").write_text(json.dumps(record))
    assert replay.main(["record.json"]) == 1
    out = capsys.readouterr().out
    assert "not identical, 1 of 2" in out and re.search(r"  ssim .*: reproduced", out) and "  speedup " in out


HOSTILE = {
    "outputs: /tmp/x\n": "outputs=/tmp/x: a config file sets it",
    "hydra: {run: {dir: /tmp/x}}\n": "hydra.run.dir: a config file sets it",
    "device: ${oc.env:HOME}\n": "only plain interpolations",
    "_target_: os.system\n": "_target_: no such key",
}


@pytest.mark.parametrize("line", HOSTILE)
def test_a_strangers_experiment_is_data(text: str, replayed: Callable[..., Said], line: str) -> None:
    head, _, rest = text.partition("\n")
    status, out, err = replayed(f"{head}\n{line}{rest}")
    assert (status, out, err.count("\n")) == (2, "", 1) and HOSTILE[line] in err, err
    assert not Path("outputs").exists()


@pytest.mark.parametrize(
    ("figures", "words"),
    [
        ({"seconds": "{value: ${oc.env:HOME}}"}, "claim"),
        ({"seconds": "{value: fast}"}, "claim.seconds.value"),
        ({"seconds": "{values: 1}"}, "claim.seconds.values"),
        ({"prompts": "many"}, "claim.prompts"),
    ],
)
def test_a_claim_has_types(text: str, replayed: Callable[..., Said], figures: dict[str, str], words: str) -> None:
    status, out, err = replayed(with_figures(text, **figures))
    assert (status, out, err.count("\n")) == (2, "", 1) and words in err, err


def test_a_claim_in_a_picture_or_config_is_nothing(finished: Finished, text: str, tmp_path: Path) -> None:
    """Only of an experiment is it judged: elsewhere it would stand in for what the pixels say."""
    config = (finished[0] / "config.yaml").read_text().replace("claim: null", "claim: {prompts: 2}")
    (tmp_path / "config.yaml").write_text(config)
    assert replay.read(tmp_path / "config.yaml")[0]["claim"] is None

"""Replay of exported experiments: the claim is verified against a new run."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.sharing.replay_helpers import Finished, ReplayText, change_pixels, set_figures
from wavespeed_runner.cli.main import main
from wavespeed_runner.sharing import source
from wavespeed_runner.sharing.replay import build_replay_plan


def test_the_same_images_are_reproduced(text: str, replay_text: ReplayText, family: Any) -> None:
    calls = family()
    status, out, _ = replay_text(text)
    assert status == 0 and "\nreplay: reproduced; better than claimed: seconds, speedup\n" in out, out
    assert "2 of 2 are the same, pixel for pixel: reproduced" in out
    for what in ("ssim", "mae_similarity", "mae", "psnr", "computed_share"):
        assert re.search(rf"  {what} +\d[^:]*, claimed \d[^:]*: reproduced\n", out), what
    assert re.search(r"  seconds +\d.*, claimed 1000, spread \d+%, better than claimed: reproduced", out)
    assert calls.count("decode") == 4, "everything was computed again"


def test_different_images_are_reproduced_by_their_figures(text: str, replay_text: ReplayText) -> None:
    status, out, _ = replay_text(change_pixels(text))
    assert status == 0 and "\nreplay: reproduced, with different images; " in out and "0 of 2 are the same" in out
    assert re.search(r"  ssim +0\.\d+, claimed 0\.\d+ \(.*\), noise 0\.001: reproduced", out)


def test_a_worse_figure_is_named_with_the_reason(text: str, replay_text: ReplayText) -> None:
    edited = set_figures(change_pixels(text), ssim="{value: 0.9999, low: 0.9998, high: 1.0}", fingerprint='"0"')
    status, out, _ = replay_text(re.sub(r"(?m)^    torch: .*$", '    torch: "0.1"', edited))
    assert status == 1 and "replay: not reproduced (ssim); better than claimed: seconds" in out
    assert "; what differs: torch 0.1 -> " in out
    assert re.search(r"  ssim .*claimed 0\.9999 \(0\.9998 to 1\), noise 0\.001: not reproduced", out)


def test_a_figure_within_the_noise_floor_is_within_noise(text: str, replay_text: ReplayText) -> None:
    figure = "{value: 0.9999, low: 0.9998, high: 1.0, repeat_floor: 0.96}"
    status, out, _ = replay_text(set_figures(change_pixels(text), ssim=figure))
    assert status == 0 and "replay: within noise, with different images; better" in out
    assert "; nothing else differs: the file was edited, or this machine does not give the same result twice\n" in out
    assert "noise 0.04: within noise" in out


def test_a_huge_noise_floor_counts_up_to_a_cap(text: str, replay_text: ReplayText) -> None:
    figure = "{value: 0.9999, low: 0.0, high: 1.0, repeat_floor: 0.0}"
    status, out, _ = replay_text(set_figures(change_pixels(text), ssim=figure))
    assert status == 0 and ", the claim's own interval and noise floors count for at most 0.05: reproduced\n" in out, (
        out
    )
    similar = set_figures(change_pixels(text), ssim="{value: -0.5, low: -1.0, high: 1.0}")
    status, out, _ = replay_text(similar)
    assert status == 0 and "better than claimed: ssim" in out, "the better bound of the interval is capped too"


def test_the_floor_of_other_numerics_counts_where_something_differs(text: str, replay_text: ReplayText) -> None:
    edited = set_figures(change_pixels(text), ssim="{value: 0.9999, low: 0.9998, high: 1.0, noise_floor: 0.96}")
    status, out, _ = replay_text(edited)
    assert status == 1 and "replay: not reproduced (ssim); " in out and "; nothing else differs: " in out
    status, out, _ = replay_text(re.sub(r"(?m)^    torch: .*$", '    torch: "0.1"', edited))
    assert status == 0 and "noise 0.04: within noise" in out


def test_speed_of_different_hardware_is_not_comparable(text: str, replay_text: ReplayText) -> None:
    slow = set_figures(text, seconds="{value: 0.000001}", speedup="{value: 99.0}")
    status, out, _ = replay_text(set_figures(slow, device_name='"another"'))
    assert status == 0 and out.count("not comparable: different hardware") == 2
    assert "not compared on different hardware: seconds, speedup" in out
    status, out, _ = replay_text(slow)
    assert status == 1 and "replay: not reproduced (seconds, speedup)" in out


def test_a_file_alone_is_enough_in_another_folder(text: str, replay_text: ReplayText, tmp_path: Path) -> None:
    """The friend has neither the prompt file nor the run."""
    assert list(tmp_path.iterdir()) == []
    status, out, _ = replay_text(text)
    assert status == 0 and "2 of 2 are the same, pixel for pixel: reproduced" in out


def test_files_are_given_on_the_command_line(
    text: str, replay_text: ReplayText, tmp_path: Path, finished: Finished
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    shutil.copy(finished[0].parent / "prompts.txt", elsewhere / "p.txt")
    text = re.sub(r"(?s)prompts:\n  texts:.*?(?=\n\w)", "prompts:\n  path: prompts.txt", text, count=1)
    status, _, err = replay_text(text)
    assert status == 2 and "prompts.path=prompts.txt: " in err
    assert replay_text(text, f"prompts.path={elsewhere / 'p.txt'}", f"outputs={elsewhere}/out")[0] == 0
    assert list(elsewhere.glob("out/runs/*/*-replay/record.json")) and not Path("outputs").exists()


def test_a_replayed_record_has_its_figures_shown(
    finished: Finished, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without verdicts, even where they are far off: only the images decide."""
    record = json.loads((finished[0] / "record.json").read_text())
    record["timing"]["speedup"] = 99.0
    Path("record.json").write_text(json.dumps(record))
    assert main(["replay", "record.json"]) == 0
    out = capsys.readouterr().out
    assert "identical, 2 of 2" in out and re.search(r"(?m)^  ssim +0\.\d+, claimed 0\.", out), out
    assert re.search(r"(?m)^  speedup +\d.*, claimed 99", out), out
    assert not re.search("reproduced|within noise|better than|contradicts", out), out
    record["samples"][0]["pixels_sha256"] = "0" * 64
    Path("record.json").write_text(json.dumps(record))
    assert main(["replay", "record.json"]) == 1
    assert "not identical, 1 of 2" in capsys.readouterr().out


def set_times_to_zero(record: dict[str, Any]) -> None:
    record["timing"].update(median=0.0, raw=[0.0])
    for sample in record["samples"]:
        sample.update(seconds=0.0, raw_seconds=[0.0, 0.0])


def test_a_record_with_times_of_zero_is_compared_by_its_images_only(finished: Finished, text: str) -> None:
    """Such times have no ratios. The run is only planned."""
    record = json.loads((finished[0] / "record.json").read_text())
    record["config"]["prompts"]["path"] = "prompts.txt"
    Path("record.json").write_text(json.dumps(record))
    assert build_replay_plan(Path("record.json"), {})[1]["claim"] is not None
    set_times_to_zero(record)
    Path("record.json").write_text(json.dumps(record))
    plan, expected = build_replay_plan(Path("record.json"), {})
    assert [sample.prompt for sample in plan.samples] == finished[1]["plan"]["prompts"]
    assert expected["claim"] is None
    assert list(expected["pixels"].values()) == [sample["pixels_sha256"] for sample in record["samples"]]


def test_an_edited_figure_of_the_same_images_is_noticed(text: str, replay_text: ReplayText) -> None:
    status, out, _ = replay_text(re.sub(r"(?m)^(  ssim: \{value: )[\d.]+", r"\g<1>0.99999", text))
    assert status == 1 and "\nreplay: not reproduced (ssim); the claim contradicts itself; " in out, out
    assert (
        "; the images are the same, but these figures are not: ssim; the file was edited, or the reference differs"
        in out
    )
    assert re.search(r"  claim +contradicts itself: ssim 0\.99999 is outside its own interval, ", out)
    assert "2 of 2 are the same, pixel for pixel: reproduced" in out


def test_edited_hashes_are_distinguished_from_different_images(text: str, replay_text: ReplayText) -> None:
    status, out, _ = replay_text(change_pixels(text))
    words = "; the quality equals the claimed one to the last digit, so the hashes were edited\n"
    assert status == 0 and words in out and "the same result twice" not in out, out


def test_a_config_that_differs_from_the_claim_is_reported(text: str, replay_text: ReplayText) -> None:
    """Versions and machine are the same, but the fingerprint is not."""
    other = "the config or the weights differ from the claimed ones"
    status, out, _ = replay_text(set_figures(text, fingerprint='"0123456789abcdef"'))
    assert status == 0 and f"; {other}, or the fingerprint was edited: the images are the same (" in out, out
    assert "fingerprint 0123456789ab -> " in out
    _, out, _ = replay_text(text.replace("\nclaim:", "\nseed: 7\nclaim:", 1))
    assert f"; {other} (fingerprint " in out and "0 of 2 are the same" in out, out


def test_another_reference_than_the_claims_is_reported(text: str, replay_text: ReplayText) -> None:
    status, out, _ = replay_text(re.sub(r"(?m)^steps: \d+$", "steps: 5", text))
    assert status == 1 and "; what differs: reference 6 steps of default -> 5 steps of default" in out, out
    assert re.search(r"  reference +5 steps of default, claimed 6 steps of default: not reproduced", out)


def test_a_claim_in_a_config_is_ignored(finished: Finished, text: str, tmp_path: Path) -> None:
    """Only the claim of an experiment is verified; elsewhere the pixels decide."""
    config = (finished[0] / "config.yaml").read_text().replace("claim: null", "claim: {prompts: 2}")
    (tmp_path / "config.yaml").write_text(config)
    assert source.read_source(tmp_path / "config.yaml")[0]["claim"] is None

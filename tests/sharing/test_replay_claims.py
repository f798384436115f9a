"""Replay of exported experiments: the claim held against a run of its own, and nothing a stranger could slip in."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from wavespeed_runner.cli.main import main
from wavespeed_runner.errors import ConfigError
from wavespeed_runner.records.file import read_record
from wavespeed_runner.sharing import export, source
from wavespeed_runner.sharing.replay import build_replay_plan

Finished = tuple[Path, dict[str, Any]]
Result = tuple[int, str, str]
SAFE = {"seconds": "{value: 1000.0}", "speedup": "{value: 0.0001}"}
"""Claims of speed that hold on any machine, however busy."""


@pytest.fixture(scope="module")
def exported_text(finished: Finished) -> str:
    """The exported finished run, with a claim of speed that always holds. Built once, since it takes seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(finished[0].parent)  # where its prompts are
        return with_figures(export.format_experiment(read_record(finished[0] / "record.json"), "mine"), **SAFE)


@pytest.fixture
def text(exported_text: str, finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """`exported_text`, in a folder that has its prompts."""
    shutil.copy(finished[0].parent / "prompts.txt", tmp_path)
    monkeypatch.chdir(tmp_path)
    return exported_text


@pytest.fixture
def replay(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Result]:
    def run(text: str, *values: str) -> Result:
        (tmp_path / "mine.yaml").write_text(text, encoding="utf-8")
        return main(["replay", str(tmp_path / "mine.yaml"), *values]), *capsys.readouterr()

    return run


def with_figures(text: str, **figures: str) -> str:
    for key, value in figures.items():
        text, count = re.subn(rf"(?m)^  {key}: .*$", f"  {key}: {value}", text)
        assert count == 1, key
    return text


def change_pixels(text: str) -> str:
    return re.sub(r'(?m)^  - "[0-9a-f]{64}"$', f'  - "{"0" * 64}"', text)


def test_the_same_images_are_reproduced(text: str, replay: Callable[..., Result], family: Any) -> None:
    calls = family()
    status, out, _ = replay(text)
    assert status == 0 and "\nreplay: reproduced; better than claimed: seconds, speedup\n" in out, out
    assert "2 of 2 are the same, pixel for pixel: reproduced" in out
    for what in ("ssim", "mae_similarity", "mae", "psnr", "computed_share"):
        assert re.search(rf"  {what} +\d[^:]*, claimed \d[^:]*: reproduced\n", out), what
    assert re.search(r"  seconds +\d.*, claimed 1000, spread \d+%, better than claimed: reproduced", out)
    assert calls.count("decode") == 4, "everything was computed again"


def test_different_images_are_reproduced_by_their_figures(text: str, replay: Callable[..., Result]) -> None:
    status, out, _ = replay(change_pixels(text))
    assert status == 0 and "\nreplay: reproduced, with different images; " in out and "0 of 2 are the same" in out
    assert re.search(r"  ssim +0\.\d+, claimed 0\.\d+ \(.*\), noise 0\.001: reproduced", out)


def test_a_worse_figure_is_named_with_the_reason(text: str, replay: Callable[..., Result]) -> None:
    edited = with_figures(change_pixels(text), ssim="{value: 0.9999, low: 0.9998, high: 1.0}", fingerprint='"0"')
    status, out, _ = replay(re.sub(r"(?m)^    torch: .*$", '    torch: "0.1"', edited))
    assert status == 1 and "replay: not reproduced (ssim); better than claimed: seconds" in out
    assert "; what differs: torch 0.1 -> " in out
    assert re.search(r"  ssim .*claimed 0\.9999 \(0\.9998 to 1\), noise 0\.001: not reproduced", out)


def test_a_figure_within_the_noise_floor_is_within_noise(text: str, replay: Callable[..., Result]) -> None:
    figure = "{value: 0.9999, low: 0.9998, high: 1.0, repeat_floor: 0.96}"
    status, out, _ = replay(with_figures(change_pixels(text), ssim=figure))
    assert status == 0 and "replay: within noise, with different images; better" in out
    assert "; nothing else differs: the file was edited, or this machine does not give the same result twice\n" in out
    assert "noise 0.04: within noise" in out


def test_a_huge_noise_floor_counts_up_to_a_cap(text: str, replay: Callable[..., Result]) -> None:
    figure = "{value: 0.9999, low: 0.0, high: 1.0, repeat_floor: 0.0}"
    status, out, _ = replay(with_figures(change_pixels(text), ssim=figure))
    assert status == 0 and ", the claim's own interval and noise floors count for at most 0.05: reproduced\n" in out, (
        out
    )
    similar = with_figures(change_pixels(text), ssim="{value: -0.5, low: -1.0, high: 1.0}")
    status, out, _ = replay(similar)
    assert status == 0 and "better than claimed: ssim" in out, "the better bound of the interval is capped too"


def test_the_floor_of_other_numerics_counts_where_something_differs(text: str, replay: Callable[..., Result]) -> None:
    edited = with_figures(change_pixels(text), ssim="{value: 0.9999, low: 0.9998, high: 1.0, noise_floor: 0.96}")
    status, out, _ = replay(edited)
    assert status == 1 and "replay: not reproduced (ssim); " in out and "; nothing else differs: " in out
    status, out, _ = replay(re.sub(r"(?m)^    torch: .*$", '    torch: "0.1"', edited))
    assert status == 0 and "noise 0.04: within noise" in out


def test_speed_of_different_hardware_is_not_comparable(text: str, replay: Callable[..., Result]) -> None:
    slow = with_figures(text, seconds="{value: 0.000001}", speedup="{value: 99.0}")
    status, out, _ = replay(with_figures(slow, device_name='"another"'))
    assert status == 0 and out.count("not comparable: different hardware") == 2
    assert "not compared on different hardware: seconds, speedup" in out
    status, out, _ = replay(slow)
    assert status == 1 and "replay: not reproduced (seconds, speedup)" in out


def test_different_prompts_are_named(text: str, replay: Callable[..., Result]) -> None:
    Path("prompts.txt").write_text("a green star\na blue square\n")
    status, out, _ = replay(with_figures(text, ssim="{value: 0.9999}"))
    assert status == 1 and "what differs: different prompts" in out and "1 of 2 are the same" in out


def test_files_are_given_on_the_command_line(text: str, replay: Callable[..., Result], tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    shutil.move("prompts.txt", elsewhere / "p.txt")
    status, _, err = replay(text)
    assert status == 2 and "prompts.path=prompts.txt: " in err
    assert replay(text, f"prompts.path={elsewhere / 'p.txt'}", f"outputs={elsewhere}/out")[0] == 0
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


def remove_raw_seconds(record: dict[str, Any]) -> None:
    for sample in record["samples"]:
        del sample["raw_seconds"]


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


DAMAGED: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "code": (lambda r: r["environment"].pop("code"), "field `code` - at `$.environment`"),
    "kind of reference": (lambda r: r.update(reference={}), "field `kind` - at `$.reference`"),
    "repetitions": (remove_raw_seconds, "field `raw_seconds` - at `$.samples[0]`"),
    "plan": (lambda r: r.pop("plan"), "field `plan`"),
    "versions": (
        lambda r: r["environment"].update(versions=None),
        "got `null` - at `$.environment.versions`",
    ),
    "floors": (lambda r: r.update(noise_floor={"repeat": "much"}), "`$.noise_floor"),
}


@pytest.mark.parametrize("what", DAMAGED)
def test_a_damaged_record_is_refused_with_the_field(finished: Finished, text: str, what: str) -> None:
    change, words = DAMAGED[what]
    record = json.loads((finished[0] / "record.json").read_text())
    change(record)
    Path("record.json").write_text(json.dumps(record))
    with pytest.raises(ConfigError, match=r"record\.json: not a readable record: ") as refused:
        build_replay_plan(Path("record.json"), {})
    assert words in str(refused.value) and "\n" not in str(refused.value)


def test_an_edited_figure_of_the_same_images_is_noticed(text: str, replay: Callable[..., Result]) -> None:
    status, out, _ = replay(re.sub(r"(?m)^(  ssim: \{value: )[\d.]+", r"\g<1>0.99999", text))
    assert status == 1 and "\nreplay: not reproduced (ssim); the claim contradicts itself; " in out, out
    assert (
        "; the images are the same, but these figures are not: ssim; the file was edited, or the reference differs"
        in out
    )
    assert re.search(r"  claim +contradicts itself: ssim 0\.99999 is outside its own interval, ", out)
    assert "2 of 2 are the same, pixel for pixel: reproduced" in out


def test_edited_hashes_are_distinguished_from_different_images(text: str, replay: Callable[..., Result]) -> None:
    status, out, _ = replay(change_pixels(text))
    words = "; the quality equals the claimed one to the last digit, so the hashes were edited\n"
    assert status == 0 and words in out and "the same result twice" not in out, out


def test_a_config_that_differs_from_the_claim_is_reported(text: str, replay: Callable[..., Result]) -> None:
    """Versions and machine are the same, but the fingerprint is not."""
    other = "the config or the weights differ from the claimed ones"
    status, out, _ = replay(with_figures(text, fingerprint='"0123456789abcdef"'))
    assert status == 0 and f"; {other}, or the fingerprint was edited: the images are the same (" in out, out
    assert "fingerprint 0123456789ab -> " in out
    _, out, _ = replay(re.sub(r"(?m)^steps: \d+$", "steps: 5", text))
    assert f"; {other} (fingerprint " in out and "0 of 2 are the same" in out, out


BROKEN: dict[str, tuple[Callable[[str], str], str]] = {
    "YAML": (lambda t: t.replace("defaults:\n", "defaults: {\n"), "mine.yaml, line "),
    "a key twice": (lambda t: t.replace("  prompts: 2\n", "  prompts: 2\n  prompts: 3\n"), "mine.yaml, line "),
    "a key": (lambda t: t.replace("claim:", "stesp: 3\nclaim:", 1), "stesp: no such key (did you mean 'steps'?); in "),
    "an option": (lambda t: t.replace("/cache: fbcache", "/cache: fbcach"), "did you mean 'fbcache'?); in "),
    "a default": (
        lambda t: t.replace("defaults:\n", "defaults:\n- other\n"),
        "replay reads this file alone, not the configs beside it",
    ),
    "itself": (lambda t: t.replace("defaults:\n", "defaults:\n- to_be_replayed\n"), "refers to itself"),
    "a type": (lambda t: re.sub("(?m)^steps: .*", "steps: many", t), "steps: Value 'many' of type"),
    "a value": (lambda t: re.sub("(?m)^steps: .*", "steps: 0", t), "steps=0: at least 1 is needed"),
    "no claim": (lambda t: t[: t.index("claim:    #")], "mine.yaml: neither a resolved config of a run nor an"),
    "a list for a claim": (lambda t: t[: t.index("claim:    #")] + "claim: [1]\n", "mine.yaml: claim: a mapping"),
    "half a claim": (lambda t: re.sub("(?m)^  code: .*\n", "", t), "claim.code: a value is needed; in "),
    "no package": (lambda t: t.partition("\n")[2], "mine.yaml: an experiment file begins with the line '# @package"),
    "a graph": (
        lambda t: t.replace("claim:", "graph: {output: nothing}\nclaim:", 1),
        "graph.output=nothing: no such stage",
    ),
}


@pytest.mark.parametrize("what", BROKEN)
def test_an_error_names_the_file_that_was_given(text: str, replay: Callable[..., Result], what: str) -> None:
    """Not the copy that is composed, and no advice that this command cannot follow."""
    change, words = BROKEN[what]
    assert change(text) != text
    status, out, err = replay(change(text))
    assert (status, out, err.count("\n")) == (2, "", 1) and words in err, err
    assert str(Path("mine.yaml").absolute()) in err and "/tmp/tmp" not in err
    assert "to_be_replayed" not in err and "; give claim" not in err


def test_an_error_of_the_command_line_names_no_file(text: str, replay: Callable[..., Result]) -> None:
    status, _, err = replay(text, "device=abacus")
    assert status == 2 and "device=abacus" in err and "mine.yaml" not in err, err


HOSTILE = {
    "outputs: /tmp/x\n": "outputs=/tmp/x: a config file sets it",
    "hydra: {run: {dir: /tmp/x}}\n": "hydra.run.dir: a config file sets it",
    "device: ${oc.env:HOME}\n": "only plain interpolations",
    "_target_: os.system\n": "_target_: no such key",
}


@pytest.mark.parametrize("line", HOSTILE)
def test_an_experiment_of_a_stranger_is_data(text: str, replay: Callable[..., Result], line: str) -> None:
    head, _, rest = text.partition("\n")
    status, out, err = replay(f"{head}\n{line}{rest}")
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
def test_a_claim_is_type_checked(text: str, replay: Callable[..., Result], figures: dict[str, str], words: str) -> None:
    status, out, err = replay(with_figures(text, **figures))
    assert (status, out, err.count("\n")) == (2, "", 1) and words in err, err


def test_a_claim_in_a_config_is_ignored(finished: Finished, text: str, tmp_path: Path) -> None:
    """Only the claim of an experiment is verified; elsewhere the pixels decide."""
    config = (finished[0] / "config.yaml").read_text().replace("claim: null", "claim: {prompts: 2}")
    (tmp_path / "config.yaml").write_text(config)
    assert source.read_source(tmp_path / "config.yaml")[0]["claim"] is None

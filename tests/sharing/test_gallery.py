"""`gallery`: what the page says of shared experiments, which are strangers' files."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from PIL import Image

from tests.report.html_parts import stands_alone, whole_text
from tests.sharing.replay_helpers import ReplayText, change_pixels, set_figures
from wavespeed_runner.cli.main import main
from wavespeed_runner.errors import ConfigError
from wavespeed_runner.sharing.gallery import collect_gallery, page

BAD = "# @package _global_\nsteps: x\nclaim: {seconds: {value: 1}}\n"
"""An experiment with a value that is none."""


def write(folder: Path, **texts: str) -> Path:
    folder.mkdir()
    for name, text in texts.items():
        (folder / f"{name}.yaml").write_text(text, encoding="utf-8")
    return folder


def test_claims_come_with_their_figures_hardware_and_image(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fast = set_figures(text, speedup="{value: 2.5, low: 2.25, high: 2.75}", ssim="{value: 0.98, low: 0.97, high: 0.99}")
    shelf = write(tmp_path / "shelf", slow=text, fast=fast, other="a: 1\n", broken="a: [\n", bad=BAD)
    Image.new("RGB", (64, 64), "red").save(shelf / "fast.png")
    entries = collect_gallery(shelf, tmp_path / "outputs")
    assert [entry.title for entry in entries[:2]] == ["fast", "slow"], "the fastest first, what is no claim last"
    problems = {one.file.name: one.problem for one in entries[2:]}
    assert "claim" in problems["other.yaml"] and problems["broken.yaml"] and len(entries) == 5
    made = page(entries)
    assert "2.50\N{MULTIPLICATION SIGN} (2.25 to 2.75)" in made and "SSIM 0.9800 (0.9700 to 0.9900)" in made
    assert made.count("data:image/webp") == 1 and made.count("not replayed here") == 2
    assert re.search(r"fbcache, \d+ steps", made) and stands_alone(made)
    assert f"from={shelf / 'fast.yaml'} prompt=" in whole_text(made) and made.count("data-copy=") == 4
    assert main(["gallery", str(shelf), f"outputs={tmp_path / 'outputs'}"]) == 0
    said = capsys.readouterr().out
    assert all(said.count(str(shelf / name)) == 1 for name in problems), "what is no claim is found by its path, once"
    assert "no claim" in said and "export IMAGE" in said
    assert "fast: " in said and "2.50x (2.25 to 2.75), SSIM 0.9800" in said and str(shelf / "gallery.html") in said
    assert (shelf / "gallery.html").read_text(encoding="utf-8") == made


def test_the_command_for_a_prompt_earns_no_warning_of_ours(text: str, tmp_path: Path) -> None:
    """`seeds=per_prompt` of one prompt is warned of: it changes nothing."""
    several = text.replace("\nclaim:", "\nseeds: per_prompt\nclaim:")
    shelf = write(tmp_path / "shelf", one=text, several=several)
    made = whole_text(page(collect_gallery(shelf, tmp_path))).replace("&#39;", "'")
    assert f"from={shelf / 'several.yaml'} prompt='...' seeds=same<" in made
    assert f"from={shelf / 'one.yaml'} prompt='...'<" in made


def test_the_large_figure_says_what_it_is(text: str, tmp_path: Path) -> None:
    guess = re.sub(r"(?m)^  speedup: .*\n", "", set_figures(text, ssim="{value: 0.98, low: 0.97, high: 0.99}"))
    timed = set_figures(text, speedup="{value: 2.5, low: 2.25, high: 2.75}")
    made = page(collect_gallery(write(tmp_path / "shelf", guess=guess, timed=timed), tmp_path))
    assert made.count("per image; no speedup is claimed: it was not timed beside its reference") == 1
    assert made.count('<p class="quiet">times as fast as its reference</p>') == 1


def test_a_replay_that_was_made_here_is_told(text: str, replay_text: ReplayText, tmp_path: Path) -> None:
    status, _, _ = replay_text(text)
    assert status == 0
    shelf = write(tmp_path / "shelf", mine=text, other=change_pixels(text))
    by_title = {entry.title: entry for entry in collect_gallery(shelf, tmp_path / "outputs")}
    (told,) = by_title["mine"].replays
    assert told.startswith("reproduced on ")
    assert by_title["other"].replays == (), "another claim, with other images"


def test_what_a_stranger_wrote_is_text(text: str, tmp_path: Path) -> None:
    bad = "<script>alert(1)</script>"
    hostile = re.sub(r"(?m)^  device_name: .*$", f'  device_name: "{bad}"', text)
    assert bad in hostile
    shelf = write(
        tmp_path / "shelf", mine=hostile, long=re.sub(r"(?m)^  device_name: .*$", f'  device_name: "{"x" * 999}"', text)
    )
    made = page(collect_gallery(shelf, tmp_path))
    assert bad not in made and "&lt;script&gt;" in made and "999 characters; at most 300" in made
    (shelf / "mine.png").write_bytes(b"\x89PNG\r\n\x1a\n no image")
    assert "data:image" not in page(collect_gallery(shelf, tmp_path))


def test_what_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    for arguments, said in (
        ([str(tmp_path / "none")], "no such folder"),
        ([str(tmp_path / "empty")], "no .yaml files in it; 1 to 300 are shown"),
        ([str(tmp_path / "empty"), "out=x.png"], "out=x.png: the name of a page ends in .html"),
    ):
        assert main(["gallery", *arguments]) == 2
        assert said in capsys.readouterr().err


def test_a_name_that_no_command_can_hold_is_a_problem_and_no_other_files_command(text: str, tmp_path: Path) -> None:
    shelf = write(tmp_path / "shelf", **{"a\nb": text, "a b": text})
    broken, whole = sorted(collect_gallery(shelf, tmp_path / "outputs"), key=lambda entry: not entry.problem)
    assert "its name has a line break" in broken.problem and not whole.problem
    assert whole.title == "a b" and page([broken, whole]).count("<article") == page([whole]).count("<article")


def test_of_too_many_files_no_number_is_made_up(tmp_path: Path) -> None:
    (tmp_path / "shelf").mkdir()
    for number in range(301):
        (tmp_path / "shelf" / f"{number}.yaml").touch()
    with pytest.raises(ConfigError, match=r"more than 300 \.yaml files in it; 1 to 300 are shown"):
        collect_gallery(tmp_path / "shelf", tmp_path / "outputs")


def test_links_out_of_the_folder_and_odd_names_are_no_way_in(text: str, tmp_path: Path) -> None:
    private = tmp_path / "private.png"
    Image.new("RGB", (64, 64), "red").save(private)
    (tmp_path / "elsewhere.yaml").write_text(text, encoding="utf-8")
    shelf = write(tmp_path / "shelf", mine=text, **{"x; touch pwned": text})
    (shelf / "mine.png").symlink_to(private)
    (shelf / "link.yaml").symlink_to(tmp_path / "elsewhere.yaml")
    (shelf / "odd\udcff.yaml").write_text(text, encoding="utf-8")
    entries = collect_gallery(shelf, tmp_path / "outputs")
    made = page(entries)
    made.encode()
    assert "data:image" not in made and "a link that leads out of it" in made
    assert "replay &#39;" in whole_text(made) and f"replay {shelf}/x; touch" not in whole_text(made)


def test_a_run_with_changes_is_no_replay(text: str, replay_text: ReplayText, tmp_path: Path) -> None:
    assert replay_text(text)[0] == 0
    (run,) = [path.parent for path in (tmp_path / "outputs").rglob("record.json")]
    run.rename(run.with_name("01-02-03-changed"))
    shelf = write(tmp_path / "shelf", mine=text)
    (entry,) = collect_gallery(shelf, tmp_path / "outputs")
    assert entry.replays == ()


def test_a_judgement_on_other_prompts_or_seeds_is_no_verdict_on_the_claim(
    text: str, replay_text: ReplayText, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is shown apart: a shelf says `reproduced` of the claim's own prompts and seeds alone."""
    (tmp_path / "other.txt").write_text("a green triangle\na yellow circle\na purple square\n", encoding="utf-8")
    hard = set_figures(text, ssim="{value: 0.9999999}")
    assert replay_text(hard, "prompts.path=other.txt")[0] == 1
    assert replay_text(hard, "seed=99")[0] == 1
    shelf = write(tmp_path / "shelf", mine=hard)
    (entry,) = collect_gallery(shelf, tmp_path / "outputs")
    assert entry.replays == ()
    words = sorted(re.sub(r", [^,]*$", "", one) for one in entry.judged)
    assert [
        bool(re.fullmatch(r"not (met|settled) \(.*ssim.*\) on (3 other prompts|other seeds)", one)) for one in words
    ] == [
        True,
        True,
    ], words
    made = page([entry])
    assert "not replayed here" in made and "on other prompts or seeds than the claim&#39;s: not " in made.replace(
        "claim's", "claim&#39;s"
    )
    assert "not reproduced" not in made
    assert main(["gallery", str(shelf), f"outputs={tmp_path / 'outputs'}"]) == 0
    assert "; not replayed here; apart from the claim: not " in capsys.readouterr().out


def test_links_in_a_circle_are_named_and_the_others_used(text: str, tmp_path: Path) -> None:
    shelf, run = write(tmp_path / "shelf", mine=text), tmp_path / "outputs" / "runs" / "a"
    (run / ".hydra").mkdir(parents=True)
    for path in (shelf / "l.yaml", shelf / "mine.png", run / "config.yaml", run / "record.json", run.with_name("b")):
        path.symlink_to(path.name)
    by_title = {entry.title: entry for entry in collect_gallery(shelf, tmp_path / "outputs")}
    assert not by_title["mine"].problem and "a link" in by_title[str(shelf / "l.yaml")].problem
    assert "mine" in page([*by_title.values()])

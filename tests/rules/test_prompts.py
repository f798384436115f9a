"""Rules on how prompts are read: when each applies; and what is said of markup in prompts."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.command_line import CommandLine
from tests.rules.cases import Apply, Cases, check_rule
from wavespeed_runner.config.schema import Weighting
from wavespeed_runner.media.images import hash_image, read_png
from wavespeed_runner.rules import Rule
from wavespeed_runner.rules.prompts import READING
from wavespeed_runner.sharing.replay import build_replay_plan


def read_in_chunks(pipe: Any, model: Any, sample: Any, guidance_scale: Any, reading: Any = None) -> Any:
    """The signature of an encoder that weighs prompts and reads them in chunks."""


CLIP = {"family.encode": read_in_chunks}
LISTED = {"prompt": None, "prompts.texts": ["a circle"]}
CASES: Cases = {
    "texts-beside-path": (
        [LISTED | {"prompts.path": "mine.txt"}],
        [{}, LISTED | {"prompts.path": None}, LISTED | {"prompts.path": "mine.txt", "prompt": "a square"}],
    ),
    "weighting-fits": (
        [{"prompts.weighting": Weighting.a1111}],
        [{}, {"prompts.weighting": Weighting.a1111} | CLIP, {"prompts.weighting": Weighting.none}],
    ),
    "chunked-fits": ([{"prompts.chunked": True}], [{}, {"prompts.chunked": True} | CLIP]),
}


def test_every_rule_has_cases() -> None:
    assert list(CASES) == [rule.id for rule in READING]


@pytest.mark.parametrize("rule", READING, ids=lambda rule: rule.id)
def test_a_rule_applies_where_it_should_and_only_there(apply: Apply, rule: Rule) -> None:
    check_rule(apply, rule, CASES[rule.id])


SD = ("model=sd15", "model.init=tiny", "device=cpu", "width=32", "height=32", "steps=2", "measure=none")
FLUX = ("model=flux", *SD[1:])
MARKED = "a (red:1.4) circle"


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine(tmp_path, monkeypatch, capsys)


@pytest.mark.parametrize(
    ("model", "prompt", "way_out"),
    [
        (SD, MARKED, "prompts.weighting=a1111 weighs words by it"),
        (SD, "a [red] circle", "prompts.weighting=a1111"),
        (FLUX, "a BREAK b", "there is no weighting for the text encoder of this model"),
    ],
)
def test_markup_that_is_read_as_letters_is_warned_of(
    command: CommandLine, model: tuple[str, ...], prompt: str, way_out: str
) -> None:
    out = command.plans(*model, f'prompt="{prompt}"')
    assert "unverified prompt-markup" in out and "is read as letters" in out and way_out in out


@pytest.mark.parametrize("model", [SD, FLUX, (*SD, "prompts.weighting=a1111"), (*SD, "prompts.chunked=true")])
def test_what_other_tools_replace_is_read_as_letters_whatever_the_weighting(
    command: CommandLine, model: tuple[str, ...]
) -> None:
    (command.configs / "prompts.txt").write_text("a red circle\nan embedding:old house\na {red|blue} cat\n")
    out = command.plans(*model, "prompts=file", f"prompts.path={command.configs / 'prompts.txt'}")
    said = "'embedding:old' looks like another tool's, and is read as letters, and 1 more prompts have some"
    assert f"unverified prompt-foreign: prompt 'an embedding:old house': {said}" in out
    assert "fix: adapters=textual_inversion adapters.path=FILE" in out


def test_a_plain_prompt_and_prose_for_a_language_model_have_no_warning(command: CommandLine) -> None:
    for model, prompt in (
        (SD, "a red circle"),
        (FLUX, "a circle (a red one)"),
        ((*SD, "prompts.weighting=a1111"), MARKED),
    ):
        out = command.plans(*model, f'prompt="{prompt}"')
        assert "prompt-markup" not in out and "prompt-foreign" not in out


def test_markup_in_a_negative_prompt_and_in_a_file_of_prompts_is_warned_of(command: CommandLine) -> None:
    assert "'(blue:1.2)'" in command.plans(*SD, "prompt=x", 'negative_prompt="(blue:1.2)"')
    (command.configs / "prompts.txt").write_text("a red circle\na (blue:1.3) square\nan ((old)) house\n")
    out = command.plans(*SD, "prompts=file", f"prompts.path={command.configs / 'prompts.txt'}")
    assert "'(blue:1.3)' looks like markup, and is read as letters, and 1 more prompts have some" in out


def test_a_line_that_looks_like_a_comment_is_said_to_be_a_prompt(command: CommandLine) -> None:
    file = command.configs / "prompts.txt"
    file.write_text("# mine\na red circle\n// more\n")
    out = command.plans(*SD, "prompts=file", f"prompts.path={file}")
    assert (
        f"prompt-comment: prompts.path={file}: '# mine' is a prompt as any other line is, no comment, and 1 more l"
        in out
    )
    file.write_text("a red circle, #1 of 3\n")
    assert "prompt-comment" not in command.plans(*SD, "prompts=file", f"prompts.path={file}")
    assert "prompt-comment" not in command.plans(*SD, "prompt='# mine'")


def test_the_plan_shows_a_typed_negative_prompt(command: CommandLine) -> None:
    assert "\nnegative   'blurry, dark'\n" in command.plans(*SD, "prompt=x", "negative_prompt='blurry, dark'")
    assert "\nnegative " not in command.plans(*SD, "prompt=x")
    own = command.plans("model=wan21", "model.init=tiny", "prompt=x")
    assert "\nnegative " not in own and "\n  negative_prompt=" in own


@pytest.mark.parametrize("model", [SD, FLUX, (*SD, "prompts.weighting=a1111")])
def test_a_tag_that_would_load_a_file_is_refused(command: CommandLine, model: tuple[str, ...]) -> None:
    said = command.refuses(*model, 'prompt="a circle <lora:night:0.8>"')
    assert "<lora:night:0.8> loads nothing in a prompt; adapters=lora adapters.path=FILE adapters.weight=0.8" in said


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            (*FLUX, "prompts.weighting=a1111", "prompt=x"),
            "prompts.weighting=a1111: it is defined for prompts that CLIP",
        ),
        ((*FLUX, "prompts.chunked=true", "prompt=x"), "prompts.chunked=true: it is for the 75 tokens of CLIP"),
        ((*SD, "prompts.weighting=a1111", 'prompt="[a:b:0.5]"'), "changes from step to step"),
        ((*SD, "prompts.weighting=a1111", 'prompt="(a:1000)"'), "the weight of 'a' is 1000"),
        ((*SD, "prompts.chunked=true", f"prompt={'a' * 30_001}"), "has 30001 characters, and at most 30000"),
        ((*SD, "prompts.weighting=compel", "prompt=x"), "prompts.weighting"),
        (
            (*FLUX, "+graph.stages.encode.options.weighting=a1111", "prompt=x"),
            "graph.stages.encode.options.weighting: all stages read the prompts alike; set prompts.weighting instead",
        ),
    ],
)
def test_what_cannot_take_effect_is_refused(command: CommandLine, arguments: tuple[str, ...], words: str) -> None:
    assert words in command.refuses(*arguments)


def test_a_weighted_run_is_said_recorded_and_made_again(command: CommandLine) -> None:
    typed = (*SD, "prompts.weighting=a1111", f'prompt="{MARKED}"')
    assert "prompts    weighting=a1111" in command.plans(*typed)
    said = command(*typed)
    assert said.status == 0 and "prompt: 12 tokens in 1 chunk, 1.4 x 'red'" in " ".join(said.out.split()), said
    (file,) = Path("outputs").glob("runs/*/*/record.json")
    record = json.loads(file.read_text())
    read = {"tokens": 12, "chunks": 1, "weights": [["red", 1.4]]}
    assert record["engaged"]["prompts"]["prompt"] == read
    assert record["samples"][0]["engaged"]["denoise"]["prompts"]["prompt"] == read
    assert record["config"]["prompts"]["weighting"] == "a1111"
    (image,) = file.parent.glob("images/*.png")
    again = command("replay", str(image))
    assert again.status == 0 and "identical, 1 of 1 images" in again.out, again
    # Other prompts, given to a replay, are weighted too.
    (command.configs / "prompts.txt").write_text("a red circle\n")
    moved = shutil.copy(file.parent / "config.yaml", command.configs)  # away from the record, which has its prompts
    plan, _ = build_replay_plan(Path(moved), {"prompts.path": str(command.configs / "prompts.txt")})
    assert plan.config.prompts.weighting is Weighting.a1111
    # Others are made without weights, and by the letters of the markup.
    digests = {hash_image(read_png(image)[0])}
    for number, other in enumerate(((*SD, 'prompt="a red circle"'), (*SD, f'prompt="{MARKED}"')), 1):
        assert command(*other, f"outputs=other{number}").status == 0
        (made,) = Path(f"other{number}").glob("runs/*/*/images/*.png")
        digests.add(hash_image(read_png(made)[0]))
        assert "prompts" not in json.loads((made.parent.parent / "record.json").read_text())["engaged"]
    assert len(digests) == 3

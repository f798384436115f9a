"""Replay of edited experiments and damaged records: one line names the file and what is wrong."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.sharing.replay_helpers import Finished, ReplayText, set_figures
from wavespeed_runner.errors import ConfigError
from wavespeed_runner.sharing.replay import build_replay_plan


def remove_raw_seconds(record: dict[str, Any]) -> None:
    for sample in record["samples"]:
        del sample["raw_seconds"]


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


BROKEN: dict[str, tuple[Callable[[str], str], str]] = {
    "YAML": (lambda t: t.replace("defaults:\n", "defaults: {\n"), "mine.yaml, line "),
    "a key twice": (lambda t: t.replace("  prompts: 2\n", "  prompts: 2\n  prompts: 3\n"), "mine.yaml, line "),
    "a key": (lambda t: t.replace("claim:", "stesp: 3\nclaim:", 1), "stesp: no such key (did you mean 'steps'?); in "),
    "an option": (lambda t: t.replace("/cache: fbcache", "/cache: fbcach"), "did you mean 'fbcache'?); in "),
    "a default": (
        lambda t: t.replace("defaults:\n", "defaults:\n- other\n"),
        "this file is read alone, not the configs beside it",
    ),
    "itself": (lambda t: t.replace("defaults:\n", "defaults:\n- to_be_replayed\n"), "refers to itself"),
    "a type": (lambda t: re.sub("(?m)^steps: .*", "steps: many", t), "steps: Value 'many' of type"),
    "a value": (lambda t: re.sub("(?m)^steps: .*", "steps: 0", t), "steps=0: at least 1 is needed"),
    "no claim": (lambda t: t[: t.index("claim:    #")], "mine.yaml: it has no claim, the figures of a run"),
    "a list for a claim": (lambda t: t[: t.index("claim:    #")] + "claim: [1]\n", "mine.yaml: claim: a mapping"),
    "half a claim": (lambda t: re.sub("(?m)^  code: .*\n", "", t), "claim.code: a value is needed; in "),
    "no package": (lambda t: t.partition("\n")[2], "mine.yaml: an experiment file begins with the line '# @package"),
    "a graph": (
        lambda t: t.replace("claim:", "graph: {output: nothing}\nclaim:", 1),
        "graph.output=nothing: no such stage",
    ),
}


@pytest.mark.parametrize("what", BROKEN)
def test_an_error_names_the_file_that_was_given(text: str, replay_text: ReplayText, what: str) -> None:
    """Not the copy that is composed, and no advice that this command cannot follow."""
    change, words = BROKEN[what]
    assert change(text) != text
    status, out, err = replay_text(change(text))
    assert (status, out, err.count("\n")) == (2, "", 1) and words in err, err
    assert str(Path("mine.yaml").absolute()) in err and "/tmp/tmp" not in err
    assert "to_be_replayed" not in err and "; give claim" not in err


def test_an_error_of_the_command_line_names_no_file(text: str, replay_text: ReplayText) -> None:
    status, _, err = replay_text(text, "device=abacus")
    assert status == 2 and "device=abacus" in err and "mine.yaml" not in err, err


HOSTILE = {
    "outputs: /tmp/x\n": "outputs=/tmp/x: a config file sets it",
    "hydra: {run: {dir: /tmp/x}}\n": "hydra.run.dir: a config file sets it",
    "device: ${oc.env:HOME}\n": "only plain interpolations",
    "_target_: os.system\n": "_target_: no such key",
}


@pytest.mark.parametrize("line", HOSTILE)
def test_an_experiment_of_a_stranger_is_data(text: str, replay_text: ReplayText, line: str) -> None:
    head, _, rest = text.partition("\n")
    status, out, err = replay_text(f"{head}\n{line}{rest}")
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
def test_a_claim_is_type_checked(text: str, replay_text: ReplayText, figures: dict[str, str], words: str) -> None:
    status, out, err = replay_text(set_figures(text, **figures))
    assert (status, out, err.count("\n")) == (2, "", 1) and words in err, err


def grow_pixels(text: str) -> str:
    return re.sub(r'(?m)^(  - "[0-9a-f]{64}"\n)', r"\1\1", text)


MALFORMED: dict[str, tuple[Callable[[str], str], str]] = {
    "more images": (grow_pixels, "claim.prompts=2: its config makes 1 images of each prompt, and claim.pixels_sha256"),
    "no images": (
        lambda t: re.sub(r'(?m)^  pixels_sha256:\n(  - "[0-9a-f]{64}"\n)+', "", t),
        "claim.pixels_sha256 has 0 entries",
    ),
    "more of both": (lambda t: set_figures(grow_pixels(t), prompts="4"), "claim.prompts=4: these are 2 prompts"),
    "prompts": (lambda t: set_figures(t, prompts="1000000000"), "claim.prompts=1000000000: its config makes"),
    "no prompts": (lambda t: set_figures(t, prompts="-2"), "claim.prompts=-2: its config makes"),
    "forks": (lambda t: set_figures(t, forks="9" * 80), "claim.forks=a number of 80 digits: not within 0 to 2"),
    "negative forks": (lambda t: set_figures(t, forks="-1"), "claim.forks=-1: not within 0 to 2"),
    "a long device": (lambda t: set_figures(t, device_name="x" * 40_000), "...: 40000 characters; at most 300"),
    "a long version": (
        lambda t: t.replace("  versions:\n", f"  versions:\n    a: {'x' * 301}\n"),
        "claim.versions.a=",
    ),
    "a long judge": (
        lambda t: t.replace("claim:    #", "claim:\n  metrics: {" + "x" * 301 + ": {value: 1}}    #", 1),
        "claim.metrics=xxx",
    ),
    "many judges": (
        lambda t: t.replace(
            "claim:    #", "claim:\n  metrics: {" + ", ".join(f"j{i}: {{value: 1}}" for i in range(101)) + "}    #", 1
        ),
        "claim.metrics: 101 entries; at most 100",
    ),
    "a hash": (lambda t: re.sub('(?m)^  - "[0-9a-f]{64}"$', '  - "evil"', t), "claim.pixels_sha256=evil: a SHA-256"),
    "a hash of prompts": (lambda t: set_figures(t, prompts_sha256='"1"'), "claim.prompts_sha256=1: a SHA-256"),
    "another number of images": (
        lambda t: t.replace("claim:", "num_images_per_prompt: 2\nclaim:", 1),
        "claim.prompts=2: its config makes 2 images of each prompt, and claim.pixels_sha256 has 2 entries",
    ),
}


@pytest.mark.parametrize("what", MALFORMED)
def test_a_claim_that_no_export_writes_is_refused(text: str, replay_text: ReplayText, what: str) -> None:
    change, words = MALFORMED[what]
    assert change(text) != text
    status, out, err = replay_text(change(text))
    assert (status, out, err.count("\n")) == (2, "", 1) and words in err and len(err) < 600, err
    assert not Path("outputs").exists()

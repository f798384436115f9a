"""The typed text is the prompt: nothing of it becomes a number, a truth value, a list, or loses a backslash."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.command_line import TINY, CommandLine
from wavespeed_runner.config.arguments import parse_arguments
from wavespeed_runner.config.typed_text import keep_typed_texts
from wavespeed_runner.sweeps.jobs import plan_jobs


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine(tmp_path, monkeypatch, capsys)


def prompts(*arguments: str) -> list[str]:
    """The prompt of each job."""
    return [job.plan.samples[0].prompt for job in plan_jobs(parse_arguments([*TINY, *arguments])) if job.plan]


@pytest.mark.parametrize(
    "text",
    ["1.50", "true", "TRUE", "007", "1_000", "-5", "1e5", "nan", "inf", "[x]", "[a red, circle]", "{a:b}", "12:30",
     "a \\(red\\) circle", "\\[x\\] y", "a  b", "int(3)", "0x10", "yes", "off", "42"],
)  # fmt: skip
def test_the_typed_text_is_the_prompt(command: CommandLine, text: str) -> None:
    assert prompts(f"prompt={text}") == [text]


@pytest.mark.parametrize(
    ("typed", "text"),
    [("'1.50'", "1.50"), ('"true"', "true"), ('"a \\(b\\)"', "a \\(b\\)"), ("a\\, b", "a, b"), ("  7.0 ", "7.0"),
     ("a\\, \\(b\\)", "a, \\(b\\)")],
)  # fmt: skip
def test_quotes_and_escapes_of_the_grammar_still_mean_what_they_do(command: CommandLine, typed: str, text: str) -> None:
    assert prompts(f"prompt={typed}") == [text]


def test_null_is_no_prompt(command: CommandLine) -> None:
    assert len(prompts("prompt=null")) == 1 and prompts("prompt=null") != ["null"]


def test_a_negative_prompt_is_text_too(command: CommandLine) -> None:
    (job,) = plan_jobs(parse_arguments([*TINY, "model=sd15", "prompt=x", "negative_prompt=1.50"]))
    assert job.plan is not None and job.plan.samples[0].negative_prompt == "1.50"


@pytest.mark.parametrize(
    ("typed", "texts"),
    [("1.50,true,a cat", ["1.50", "true", "a cat"]), ("'a, b',2.0", ["a, b", "2.0"]), ("choice(a,1.50)", ["a", "1.50"]),
     ("choice('1.50',b)", ["1.50", "b"]),
     ("[x],y", ["[x]", "y"]), ("a \\(x\\),b", ["a \\(x\\)", "b"]), ("b,1.5 \\[y\\]", ["b", "1.5 \\[y\\]"])],
)  # fmt: skip
def test_the_texts_of_a_sweep_are_as_typed(command: CommandLine, typed: str, texts: list[str]) -> None:
    assert prompts("-m", f"prompt={typed}") == texts


def test_numbers_in_a_sorted_sweep_are_refused(command: CommandLine) -> None:
    said = command.refuses("-m", *TINY, "prompt=sort(2.50,1.0)")
    assert "prompt=sort(2.50,1.0): numbers among texts; put each of them in quotes" in said


@pytest.mark.parametrize(("text", "shown"), [("1.50", "1.5"), ("true", "true"), ("2026", "2026")])
def test_a_prompt_that_yaml_reads_as_a_number_is_refused(command: CommandLine, text: str, shown: str) -> None:
    command.experiment(f"prompt: {text}\n")
    said = command.refuses(*TINY, "experiment=mine")
    assert said == f"prompt={shown}: a text is needed, and YAML reads this as another value; prompt: '{shown}'"


def test_a_prompt_that_yaml_reads_as_a_text_is_that_text(command: CommandLine) -> None:
    command.experiment("prompt: '1.50'\n")
    (job,) = plan_jobs(parse_arguments(["--config-dir", str(command.configs), *TINY, "experiment=mine"]))
    assert job.plan is not None and job.plan.samples[0].prompt == "1.50"


def test_names_are_as_typed(command: CommandLine) -> None:
    typed = ["outputs=2026.10", "model.revision=12e4567", "image=1_0", "prompts.path=1.0", "model.revision=null"]
    assert keep_typed_texts(typed) == [
        'outputs="2026.10"', 'model.revision="12e4567"', 'image="1_0"', 'prompts.path="1.0"', "model.revision=null",
    ]  # fmt: skip
    (job,) = plan_jobs(parse_arguments([*TINY, "prompt=x", "outputs=2026.10", "model.revision=12e4567"]))
    assert job.plan is not None
    assert (job.plan.config.outputs, job.plan.config.model.revision) == ("2026.10", "12e4567")


def test_other_commands_and_the_record_keep_it(command: CommandLine) -> None:
    import json

    small = ("width=32", "height=32", "steps=2", "measure=none")
    assert command(*TINY, *small, "prompt=1.50").status == 0
    (file,) = Path("outputs").glob("runs/*/*/record.json")
    record = json.loads(file.read_text())
    assert record["samples"][0]["prompt"] == "1.50" and 'prompt="1.50"' in record["overrides"]
    again = command("replay", str(file))
    assert again.status == 0 and "identical, 1 of 1 images" in again.out

"""Hydra's own groups and node: no file of a stranger reaches them, typed or not."""

from __future__ import annotations

import pytest

from tests.command_line import CommandLine
from tests.inputs.hostile_files import SECRET, refuse, refuse_experiment
from wavespeed_runner.inputs import limits

GROUPS = ("job_logging", "hydra_logging", "launcher", "sweeper", "output", "env", "help", "hydra_help", "callbacks")


@pytest.fixture
def evil(cli: CommandLine) -> CommandLine:
    """With options of Hydra's groups, each of which makes a folder when Hydra acts on it."""
    marker = cli.folder.parent / "marker"
    handler = f'{{"()": os.mkdir, path: {marker}}}'
    log = f"version: 1\nroot: {{handlers: [a]}}\nhandlers: {{a: {handler}}}\n"
    for group in GROUPS:
        text = log if group.endswith("logging") else f"x: {{_target_: os.mkdir, path: {marker}}}\n"
        cli.config(f"hydra/{group}/evil", text)
    return cli


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("sweep", [(), ("-m", "seed=1,2")])
def test_options_of_hydras_groups_come_from_no_folder(evil: CommandLine, group: str, sweep: tuple[str, ...]) -> None:
    for folder in (("--config-dir", str(evil.configs)), (f"hydra.searchpath=[{evil.configs}]",)):
        for sign in ("", "+"):
            said = refuse(evil, *folder, *sweep, f"{sign}hydra/{group}=evil", "dry_run=true")
            assert f"hydra/{group}" in said
    assert not (evil.folder.parent / "marker").exists()


def test_the_message_has_the_choice_and_what_is_allowed(evil: CommandLine) -> None:
    said = refuse(evil, "--config-dir", str(evil.configs), "-m", "seed=1,2", "hydra/launcher=evil")
    assert "hydra/launcher=evil: no option 'evil'" in said and "basic, " in said and "installed plugins" in said
    assert "evil" not in evil("--config-dir", str(evil.configs), "--help").out


@pytest.mark.parametrize("flags", [("--cfg", "job"), ("--cfg", "all"), ("--hydra-help",), ("--info", "config")])
def test_nor_where_hydra_only_shows(evil: CommandLine, flags: tuple[str, ...]) -> None:
    said = refuse(evil, *flags, "--config-dir", str(evil.configs), "hydra/hydra_logging=evil")
    assert "hydra/hydra_logging=evil" in said
    evil.experiment("hydra: {hydra_logging: {handlers: {console: {class: pickle.loads}}}}\n")
    said = refuse(evil, *flags, "--config-dir", str(evil.configs), "experiment=mine")
    assert "hydra.hydra_logging" in said


@pytest.mark.parametrize("group", ["outputs", "limits", "limits.x", "prompts.path", "dry_run", "rerun"])
def test_no_group_looks_like_what_only_the_command_line_may_set(cli: CommandLine, group: str) -> None:
    """Its option would count as typed, and with it all that is in the file."""
    for text in ("# @package _global_\nhydra: {job: {name: x}}\n", "# @package hydra.job\nname: x\n"):
        cli.config(f"{group}/evil", text)
        cli.config(f"{group}/x/evil", text)
        for name in (group, f"{group}/x"):
            refuse(cli, "--config-dir", str(cli.configs), f"+{name}=evil", "dry_run=true")


@pytest.mark.parametrize("header", ["hydra", "hydra.job", "_global_.hydra.job", "hydra.sweeper.params"])
def test_no_header_puts_a_file_into_hydras_node(cli: CommandLine, header: str) -> None:
    cli.config("mine/evil", f"# @package {header}\nname: x\n")
    said = refuse(cli, "--config-dir", str(cli.configs), "+mine=evil", "dry_run=true")
    assert "evil.yaml" in said and f"@package {header}" in said


@pytest.mark.parametrize("group", ["job_logging", "hydra_logging", "launcher", "output"])
def test_a_defaults_list_chooses_nothing_of_hydras(cli: CommandLine, group: str) -> None:
    for entry in (f"override /hydra/{group}: none", f"override hydra/{group}: none", f"/hydra/{group}: default"):
        said = refuse_experiment(cli, f"defaults:\n  - {entry}\n")
        assert "mine.yaml: defaults: " in said and "only the command line may choose what Hydra itself does" in said


@pytest.mark.parametrize("value", ["null", "5", "[]", "x", "${graph}"])
def test_hydras_node_holds_keys(cli: CommandLine, value: str) -> None:
    said = refuse_experiment(cli, f"hydra: {value}\n")
    assert "mine.yaml: hydra: keys and their values are needed" in said


@pytest.mark.parametrize("entry", ["5", "null", "[]", "{}", "true", "{cache: 5}", "{5: x}", "{cache: [1]}"])
def test_an_entry_of_defaults_is_a_name_or_a_choice(cli: CommandLine, entry: str) -> None:
    said = refuse_experiment(cli, f"defaults:\n  - {entry}\n")
    assert "mine.yaml: defaults: " in said and "may name options of config groups alone" in said


def test_a_key_that_is_null_names_its_file(cli: CommandLine) -> None:
    said = refuse_experiment(cli, "null: x\n")
    assert "mine.yaml: " in said and "keys are names" in said


@pytest.mark.parametrize("values", ["range(1,5,0)", "range(1.0,5.0,0)"])
def test_a_range_without_end_names_its_key(cli: CommandLine, values: str) -> None:
    assert f"seed={values}" in refuse_experiment(cli, f"hydra: {{sweeper: {{params: {{seed: '{values}'}}}}}}\n", "-m")
    assert f"seed={values}" in refuse(cli, "-m", f"seed={values}", "dry_run=true")


@pytest.mark.parametrize("flags", [("--cfg", "job"), ("--cfg", "all"), ("--cfg", "job", "--resolve")])
def test_what_hydra_shows_turns_no_writing_round(cli: CommandLine, flags: tuple[str, ...]) -> None:
    cli.experiment('prompt: "a\\u2066b\\u202ec\\u200ed\\x9b31m"\n')
    said = cli(*flags, "--config-dir", str(cli.configs), "experiment=mine")
    assert said.status == 0 and "a?b?c?d" in said.out
    assert said.out.replace("\n", "").isprintable()


@pytest.mark.parametrize("what", ["job", "all"])
def test_nothing_secret_is_printed_with_the_config(
    cli: CommandLine, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKEN", SECRET)
    shown = ("--config-dir", str(cli.configs), "--cfg", what, "--resolve", "experiment=mine")
    cli.experiment("prompt: ${oc.env:TOKEN}\n")
    for more in ((), ("-p", "prompt")):
        assert "only plain interpolations" in refuse(cli, *shown, *more)
    cli.experiment("negative_prompt: '$'\nprompt: '${negative_prompt}{oc.env:TOKEN}'\n")
    assert "may not be put together" in refuse(cli, *shown)
    cli.experiment("prompt: seed ${seed}\n")
    said = cli(*shown, "-p", "prompt")
    assert said.status == 0 and "seed 0" in said.out


def test_control_characters_in_names_do_not_reach_the_terminal(cli: CommandLine) -> None:
    cli.experiment("steps: 2\n", name="e\x1b[31mX")
    said = cli("--config-dir", str(cli.configs), "--help")
    assert "\x1b" not in said.out and "e?[31mX" in said.out


@pytest.mark.parametrize("text", ["${" * 20_000, "${seed}" * 20_000, "${seed}" * (limits.MAX_INTERPOLATIONS + 1)])
def test_interpolations_of_one_value_are_counted_first(cli: CommandLine, text: str) -> None:
    said = refuse_experiment(cli, f"prompt: '{text}'\n")
    assert "mine.yaml: " in said and "in one value" in said


def test_interpolations_of_a_file_are_counted_first(cli: CommandLine) -> None:
    text = "${seed}" * limits.MAX_INTERPOLATIONS
    for values in (str([text] * 11), f"{{a: &a '{text}', b: [{', '.join(['*a'] * 10)}]}}"):
        said = refuse_experiment(cli, f"claim: {values}\n")
        assert "mine.yaml: " in said and "more than 1000 interpolations" in said


def test_defaults_lists_do_not_multiply(cli: CommandLine) -> None:
    for number in range(14):
        entries = [f"/mine/e{number + 1}@{place}{number}" for place in "ab"]
        cli.config(f"mine/e{number}", f"# @package _global_\ndefaults: [{', '.join(entries)}]\n")
    cli.config("mine/e14", "seed: 1\n")
    said = refuse_experiment(cli, "defaults: [/mine/e0]\n")
    assert "more than 1,000 files in one config: one that refers to itself, or defaults lists" in said

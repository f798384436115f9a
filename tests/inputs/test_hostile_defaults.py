"""Hostile defaults lists: they name options of config groups, and copy nothing of another folder."""

from __future__ import annotations

import pytest

from tests.command_line import CommandLine
from tests.inputs.hostile_files import refuse, refuse_experiment


@pytest.mark.parametrize(
    "entry",
    [
        "//{private}/secret@hydra.runtime.choices",
        "/{private}/secret@hydra.runtime.choices",
        "../../private/secret@hydra.runtime.choices",
        "/../private/secret@_global_",
        "optional //{private}/secret@cache",
        "{{override /cache: //{private}/secret}}",
        "{{override /cache: ../../private/secret}}",
        "{{/experiment@hydra.runtime.choices: [known_answer]}}",
        "{{experiment: //{private}/secret}}",
        "link",
        "link@hydra.runtime.choices",
        "/cache@_global_.claim.versions: \"${{oc.decode:'..'}}/${{oc.decode:'..'}}/private/secret\"",
        "/${{oc.decode:'..'}}/private/secret@_global_.claim.versions",
        "\"/${{oc.decode:'..'}}@claim\": private/secret",
        "cache: ${{oc.env:HOME}}",
        "/cache@_global_.hydra.sweeper.params: fbcache",
        "/cache@_global_.hydra[sweeper].params: fbcache",
        "/cache@_here_.hydra: fbcache",
        "/cache@${{graph}}.x: fbcache",
        "C:/private/secret@cache",
        "~/secret@cache",
        "/cache@x: 'C:\\private\\secret'",
        "/schema/cache/fbcache@hydra.runtime.choices",
    ],
)
def test_a_defaults_list_names_options_alone(cli: CommandLine, entry: str) -> None:
    refuse_experiment(cli, f"defaults:\n  - {entry.format(private=cli.folder.parent / 'private')}\n  - _self_\n")


@pytest.mark.parametrize(
    "defaults",
    ["${{oc.create:'[/../private/secret]'}}", "${{points}}", "{{a: /../private/secret}}", "/../private/secret"],
)
def test_defaults_are_a_list_as_it_stands(cli: CommandLine, defaults: str) -> None:
    said = refuse_experiment(cli, f"defaults: {defaults.format()}\npoints: [/../private/secret]\n")
    assert "defaults: a list is needed" in said


def test_a_choice_that_is_known_late_leads_out_of_no_source(cli: CommandLine) -> None:
    """The path is put together from another choice, which Hydra resolves after the text has been checked."""
    cli.config("one/two", "{}")
    cli.experiment("defaults:\n  - /one: two\n  - /cache@_global_.claim: ${one}/x\n")
    command = ("--config-dir", str(cli.configs), "experiment=mine", "dry_run=true")
    for path in ("../../private", "/etc", "..\\..\\private"):
        refuse(cli, *command, f"one='{path}'")


def test_nothing_but_chosen_options_is_among_the_choices(cli: CommandLine) -> None:
    error = refuse_experiment(cli, "hydra:\n  runtime:\n    choices:\n      note: text\n")
    assert "hydra.runtime.choices.note: a config file sets it" in error

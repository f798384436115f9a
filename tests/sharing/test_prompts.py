"""An experiment file brings its prompts and seeds along, as far as they fit into a config file."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path

import pytest

from tests.sharing.replay_helpers import Finished
from tests.sharing.test_to_experiment import export_and_check, planned_record
from wavespeed_runner.config.compose import compose_job, composer
from wavespeed_runner.errors import ConfigError
from wavespeed_runner.planning.plan import build_plan
from wavespeed_runner.records.file import record_from_data
from wavespeed_runner.sharing.document import format_yaml
from wavespeed_runner.sharing.export import format_experiment
from wavespeed_runner.sharing.prompts import explain_not_carried
from wavespeed_runner.sharing.to_experiment import convert_to_experiment


def test_prompts_come_along_with_their_seeds(tmp_path: Path) -> None:
    """Also those with quotes, numbers and other letters; the package's own are a file that everyone has."""
    texts = ["1.50", "a 'red' \"circle\": #1", "null", "ein größerer Kreis, 日本", "- a\\b"]
    (tmp_path / "mine.txt").write_text("\n".join(texts))
    record = planned_record(
        *("model=sd15", "model.init=tiny", "prompts=file", f"prompts.path='{tmp_path}/mine.txt'", "seed=3"),
        *("prompts.weighting=a1111", "num_images_per_prompt=2", "seeds=per_prompt", "device=cpu"),
    )
    document, _ = convert_to_experiment(record_from_data(record))
    assert document["prompts"] == {"texts": texts, "weighting": "a1111"}
    with composer(str(tmp_path)):
        (tmp_path / "experiment").mkdir()
        (tmp_path / "experiment" / "mine.yaml").write_text(format_yaml(document), encoding="utf-8")
        plan = build_plan(compose_job(["experiment=mine"], ["experiment=mine"]))
    assert plan.fingerprint == record["fingerprint"]
    assert [sample.prompt for sample in plan.samples[::2]] == texts and plan.samples[-1].seed == 3 + 9
    assert "prompts" not in export_and_check(planned_record("steps=9"), tmp_path / "other")
    ours = export_and_check(planned_record("prompts=study"), tmp_path / "study")
    assert ours == {"defaults": [{"override /prompts": "study"}]}


def test_a_prompt_of_its_own_needs_no_prompt_file(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("a red circle\n")
    record = planned_record("prompts=file", f"prompts.path='{tmp_path}/mine.txt'", "prompt='a blue square'")
    document, _ = convert_to_experiment(record_from_data(record))
    assert document == {"defaults": [], "prompt": "a blue square"}


@pytest.mark.parametrize(
    ("texts", "why"),
    [
        (["a red circle"] * 1001, "1001 prompts of 12012 characters are too many for a config file"),
        (["a " * 40_000], "1 prompts of 80000 characters are too many"),
        (["a ${b} circle"], "has '${' in it"),
    ],
)
def test_prompts_that_a_config_file_cannot_carry_stay_in_their_file(texts: list[str], why: str) -> None:
    record = planned_record("prompts=file", "prompts.path=pkg://wavespeed_runner/prompts/demo.txt")
    record["config"]["prompts"]["path"], record["plan"]["prompts"] = "mine.txt", texts
    document, config = convert_to_experiment(record_from_data(record))
    assert document["prompts"] == {"path": "mine.txt"} and config["prompts"]["texts"] is None
    assert why in explain_not_carried(texts)


def test_a_file_that_nobody_could_read_is_not_written(finished: Finished) -> None:
    """A claim has a hash of each image, and a config file of more than 256 KiB is refused."""
    record = deepcopy(finished[1])
    record["samples"] *= 2000
    with pytest.raises(ConfigError, match=r"would have \d+ bytes, and at most 262144 of one are read: .*fewer images"):
        format_experiment(record_from_data(record), "mine")

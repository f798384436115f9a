"""What reaches the pages and tables of a report has no control characters, wherever it comes from."""

from __future__ import annotations

import csv
import json
import os
from copy import deepcopy
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.report.records import write_job, write_sweep
from wavespeed_runner.cli.main import main
from wavespeed_runner.errors import KEPT, hide_controls
from wavespeed_runner.records.override_yaml import experiment_yaml
from wavespeed_runner.sharing.document import format_yaml
from wavespeed_runner.storage.yaml_text import dump_yaml

BAD = "\x1b[31m\x9b\x85\u202e\u2028\u2066x\x00\x7f\ud800\U000e0041"
TEXTS = ("report.html", "report.md", "results.csv")
KEY = "cache.residual_diff_threshold"


def assert_clean(text: str) -> None:
    wrong = {c for c in text if not (c.isprintable() or c in KEPT or c == " ")}
    # The style and the scripts are our own, with some spaces of their own kind.
    assert not {c for c in wrong if not c.isspace() or c in "\x1c\x1d\x1e\x1f\x85\u2028\u2029"}, sorted(wrong)


def spoil(data: Any) -> Any:
    """The record with these characters after every text of it that a user may choose."""
    made = deepcopy(data)
    for sample in made["samples"]:
        sample["prompt"] += BAD.replace("\ud800", "")
    for place in ("device_name", "commit", "code"):
        made["environment"][place] = f"{made['environment'][place]}{BAD}".replace("\ud800", "")
    made["config"]["cache"]["name"] += "\x1b\x9b\u202e"
    made["fingerprint"] += "\x1b\u202e"
    made["warnings"] = ["the cache never hit\x1b\u202e"]
    return made


@pytest.fixture
def folder(tmp_path: Path, record: dict[str, Any]) -> Path:
    home = tmp_path / "sweep"
    bad = BAD.replace("\x00", "").replace("\ud800", "")
    overrides = [[f"prompt='{bad}'", f"cache=none{bad}"], [f"prompt='a{bad}'", "cache=fbcache"]]
    write_sweep(home, [{"overrides": own} for own in overrides], ["prompt", f"cache{bad}"], [f"prompt={bad}"])
    write_job(home / "0", spoil(record))
    failed = {**record, "status": "failed", "error": {"stage": "x", "type": "E", "message": bad}}
    write_job(home / "1", failed)
    return home


def test_no_text_of_a_record_brings_controls(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(folder)]) == 0
    out, err = capsys.readouterr()
    for text in (out, err, *((folder / name).read_text(encoding="utf-8") for name in TEXTS)):
        assert_clean(text)
    rows = list(csv.reader(StringIO((folder / "results.csv").read_text(encoding="utf-8"))))
    assert any("?[31m" in cell for row in rows for cell in row), "it is there, and seen"


def test_no_text_of_the_data_for_the_scripts_does(folder: Path) -> None:
    """They put it into the page while it is looked at, so escaping it in the file would not be enough."""
    assert main(["report", str(folder)]) == 0
    text = (folder / "report.html").read_text(encoding="utf-8")
    start = text.index('<script type="application/json" id="data">')
    data = json.loads(text[text.index(">", start) + 1 : text.index("</script>", start)])

    def walk(value: Any) -> None:
        if isinstance(value, str):
            assert_clean(value)
        for below in value.items() if isinstance(value, dict) else value if isinstance(value, list) else ():
            walk(list(below) if isinstance(below, tuple) else below)

    walk(data)
    assert any("\\u202E" in job["config"] for job in data["jobs"]), "exact, as an escape of YAML"


@pytest.mark.skipif(os.name == "nt", reason="names of files are Unicode there")
def test_a_folder_whose_name_is_no_text_is_reported(
    tmp_path: Path, finished: tuple[Path, dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    home = tmp_path / "runs"
    for name in (b"\xff\xfe", b"a\x1b[31m\xe2\x80\xae`b", b"good"):
        place = Path(os.fsdecode(os.fsencode(home) + b"/" + name))
        write_job(place, finished[1])
        for file in (finished[0] / "images").iterdir():
            (place / "images").mkdir(exist_ok=True)
            (place / "images" / file.name).write_bytes(file.read_bytes())
    assert main(["report", str(home)]) == 0
    assert_clean(capsys.readouterr().out)
    for name in TEXTS:
        assert_clean((home / name).read_text(encoding="utf-8"))
    assert "./%FF%FE/images/" in (home / "report.html").read_text(encoding="utf-8"), "links keep the bytes"
    assert len((home / "results.csv").read_text(encoding="utf-8").splitlines()) == 4
    inside = Path(os.fsdecode(os.fsencode(home) + b"/\xff\xfe"))
    assert main(["report", str(inside)]) == 0 and (inside / "report.html").exists()
    assert_clean(capsys.readouterr().out)


def test_what_cannot_be_seen_is_escaped_in_an_experiment() -> None:
    text = experiment_yaml(["prompt='a\u202eb\x9b é'"])
    assert_clean(text)
    assert yaml.safe_load(text)["prompt"] == "a\u202eb\x9b é"
    assert "é" in experiment_yaml(["prompt='é'"])


def test_what_cannot_be_seen_is_escaped_in_what_is_exported_and_beside_a_record() -> None:
    hidden = {"prompt": "a\u202eb\u2028c\u061cd", "version": "1e3"}
    for text in (format_yaml(hidden), dump_yaml(hidden)):
        assert_clean(text)
        assert yaml.safe_load(text)["prompt"] == hidden["prompt"]
    assert "version: '1e3'" in format_yaml(hidden), "as Hydra's YAML wants it"
    assert "é" in format_yaml({"prompt": "é"}) and "é" in dump_yaml({"prompt": "é"})


def test_lines_tabs_and_joiners_stay() -> None:
    assert hide_controls("a\n\tb\u200dc é\x1b\r\u202e\xa0") == "a\n\tb\u200dc é? ? "

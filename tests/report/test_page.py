"""`report.html`: what it holds, and that nothing in a record can do harm."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from copy import deepcopy
from dataclasses import replace
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.report.small_sweep import HOSTILE, SAMPLERS, THRESHOLDS, hostile, small_sweep
from wavespeed_runner.media.images import write_png
from wavespeed_runner.report.collect import collect
from wavespeed_runner.report.page import images as images
from wavespeed_runner.report.page import page
from wavespeed_runner.report.page.texts import texts
from wavespeed_runner.report.rows import Sweep


@pytest.fixture(scope="module")
def folder(finished: tuple[Path, dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_sweep(*finished, tmp_path_factory.mktemp("sweep"))


@pytest.fixture
def sweep(folder: Path) -> Sweep:
    return collect(folder)


class Parts(HTMLParser):
    """Scripts with their attributes, and every address that a browser would fetch."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.fetched: list[str | None] = []
        self.in_script = False
        self.policy = ""
        self.rows: list[list[str]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "script":
            self.scripts.append((given, ""))
            self.in_script = True
        if tag == "tr" and "data-row" in given:
            self.rows.append([])
        if given.get("http-equiv") == "Content-Security-Policy":
            self.policy = given["content"] or ""
        self.fetched += [value for key, value in attrs if key in ("src", "srcset", "action", "poster", "background")]
        self.fetched += [given.get("href")] if tag == "link" else []

    def handle_endtag(self, tag: str) -> None:
        self.in_script &= tag != "script"

    def handle_data(self, data: str) -> None:
        if self.in_script:
            attributes, before = self.scripts.pop()
            self.scripts.append((attributes, before + data))
        elif self.rows and data.strip():
            self.rows[-1].append(data.strip())


def data_of(text: str, name: str = "data") -> Any:
    found = re.search(rf'<script type="application/json" id="{name}">(.*?)</script>', text, re.DOTALL)
    assert found
    return json.loads(found[1])


def decoded(uri: str) -> Image.Image:
    head, _, body = uri.partition(",")
    assert head == "data:image/webp;base64"
    return Image.open(BytesIO(base64.b64decode(body))).convert("RGB")


def test_nothing_is_fetched_and_only_its_own_scripts_run(sweep: Sweep) -> None:
    made = Parts(page(sweep))
    assert made.fetched == []
    programs = [text for attributes, text in made.scripts if attributes.get("type") != "application/json"]
    assert len(programs) == 2 and "plotly.js (basic - minified)" in programs[0][:100]
    hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in programs]
    assert made.policy.startswith("default-src 'none'; script-src " + " ".join(f"'sha256-{one}'" for one in hashes))
    assert "connect-src" not in made.policy and "http" not in made.policy


def test_the_licence_of_plotly_goes_with_it() -> None:
    home = Path(images.__file__).parent
    assert "MIT" in (home / "plotly-basic.LICENSE").read_text(encoding="utf-8")
    version = re.search(r"v(\d+\.\d+\.\d+)", (home / "plotly-basic.min.js").read_text(encoding="utf-8")[:200])
    assert version and version[1] in (home / "__init__.py").read_text(encoding="utf-8"), "the docstring names another"


def test_every_job_has_its_figures_trace_and_config(sweep: Sweep) -> None:
    found = data_of(page(sweep))
    assert [axis["values"] for axis in found["axes"]] == [list(THRESHOLDS), list(SAMPLERS)]
    for row, shown in zip(sweep.rows, found["jobs"], strict=True):
        assert shown["config"] == row.config_yaml and shown["axes"] == row.axes
        if row.status != "completed":
            assert shown["samples"] == [] and shown["reason"] == row.reason
            continue
        assert row.record and row.seconds
        assert shown["seconds"] == [row.seconds.value, row.seconds.low, row.seconds.high]
        assert shown["quality"]["ssim"][0] == row.quality["ssim"].mean.value
        for sample, original in zip(shown["samples"], row.record.samples, strict=True):
            (line,) = sample["trace"]
            assert line["computed"] == "".join(str(int(step.computed)) for step in original.steps)
            assert line["signal"][1:] == pytest.approx([step.signal for step in original.steps[1:]], rel=1e-3)
            assert line["threshold"] == row.record.config["cache"]["criterion"]["threshold"]
    front = [job["job"] for job in found["jobs"] if "ssim" in job["fronts"]["seconds"]]
    assert front == [row.job for row in sweep.rows if row.front]


def test_axes_are_called_as_in_the_console(sweep: Sweep) -> None:
    axes = {"cache.residual_diff_threshold": "0.1", "cache.start": "2", "stages.cache.start": "3", "a.start": "4"}
    text = page(replace(sweep, axes=list(axes), rows=[replace(row, axes=axes) for row in sweep.rows]))
    names = ["residual_diff_threshold", "cache.start", "stages.cache.start", "a.start"]
    assert [axis["short"] for axis in data_of(text)["axes"]] == names


def test_of_a_single_run_only_what_is_known_is_told(sweep: Sweep) -> None:
    def facts(**known: Any) -> str:
        text = page(replace(sweep, rows=[replace(sweep.rows[0], axes={}, **known)], axes=[]))
        return text[text.index('<dl class="facts">') : text.index("</header>")]

    assert "50 % of the reference's work computed" in facts(computed_share=0.5).replace("&#39;", "'")
    assert "computed" not in facts(computed_share=None)
    assert "the cache never hit" in facts(computed_share=1.0, never_hit=True)


def test_the_table_stands_without_scripts(sweep: Sweep) -> None:
    made = Parts(page(sweep))
    assert len(made.rows) == 6
    for row, cells in zip(sweep.rows, made.rows, strict=True):
        assert row.status in cells and row.axes["sampler"] in cells
        text = texts(row, (1000.0, "ms"))
        assert text["time"] in cells and text["ssim"] in cells
    assert "stage denoise: the latents are not finite" in made.rows[5]


def test_small_images_are_kept_to_the_bit_and_each_once(sweep: Sweep, folder: Path) -> None:
    text = page(sweep)
    album, shown = data_of(text, "album"), data_of(text)["jobs"][0]["samples"][0]
    names = [sweep.rows[0].record.samples[0].file]  # type: ignore[union-attr]
    names += [f"{part}/{Path(names[0]).name}" for part in ("reference", "difference")]
    for place, name in zip(shown["images"], names, strict=True):
        assert np.array_equal(np.asarray(decoded(album[place])), np.asarray(Image.open(folder / "0" / name)))
    assert len(set(album)) == len(album) <= 2 * 3, "the five jobs have copies of the same images"
    assert (folder / shown["links"][0]).is_file() and (folder / shown["links"][1]).is_file()


def test_links_lead_from_where_the_page_lies(sweep: Sweep, folder: Path, tmp_path: Path) -> None:
    for start in (tmp_path / "a" / "b", folder / "report"):
        start.mkdir(parents=True)
        links = data_of(page(sweep, folder=start))["jobs"][0]["samples"][0]["links"]
        assert all((start / link).is_file() for link in links) and len(links) == 2
        start.rmdir()


def test_each_job_has_its_own_reference(sweep: Sweep) -> None:
    rows = [replace(row, reference_seconds=0.5) for row in sweep.rows[:4]]
    other = replace(rows[3], reference_seconds=0.8, compared_with="other")
    same = [replace(row, compared_with="one") for row in rows]
    text = page(replace(sweep, rows=same))
    assert {job["reference"]["text"] for job in data_of(text)["jobs"]} == {"500 ms"}
    assert "an image without acceleration, median" in text
    text = page(replace(sweep, rows=[*same[:3], other]))
    assert [job["reference"]["seconds"] for job in data_of(text)["jobs"]] == [0.5, 0.5, 0.5, 0.8]
    assert "an image without acceleration, median" not in text, "there is no one reference"


def test_large_images_are_scaled_down_and_the_page_says_so(sweep: Sweep, tmp_path: Path) -> None:
    for part in ("images", "reference", "difference"):
        for sample in sweep.rows[0].record.samples:  # type: ignore[union-attr]
            write_png(tmp_path / part / Path(sample.file).name, np.zeros((700, 1400, 3), np.uint8), metadata={})
    text = page(replace(sweep, rows=[replace(sweep.rows[0], folder=tmp_path)]))
    assert {decoded(uri).size for uri in data_of(text, "album")} == {(512, 256)}
    assert "Larger images are shown at up to 512 pixels" in text


def test_of_a_video_the_sheet_beside_it_is_shown(sweep: Sweep, tmp_path: Path) -> None:
    record = deepcopy(sweep.rows[0].record)
    assert record
    record.samples[0].file = "videos/a.mp4"
    for name in ("videos/a.mp4", "reference/a.mp4"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_bytes(b"a video")
        write_png((tmp_path / name).with_suffix(".png"), np.full((8, 24, 3), 99, np.uint8), metadata={})
    text = page(replace(sweep, folder=tmp_path, rows=[replace(sweep.rows[0], folder=tmp_path, record=record)]))
    shown = data_of(text)["jobs"][0]["samples"][0]
    assert decoded(data_of(text, "album")[shown["images"][0]]).size == (24, 8)
    assert shown["links"] == ["./videos/a.mp4", "./reference/a.mp4"]


def test_what_a_record_names_elsewhere_is_not_read(sweep: Sweep, tmp_path: Path) -> None:
    write_png(tmp_path / "secret.png", np.full((8, 8, 3), 7, np.uint8), metadata={})
    (tmp_path / "run" / "images").mkdir(parents=True)
    (tmp_path / "run" / "images" / "link.png").symlink_to(tmp_path / "secret.png")
    (tmp_path / "run" / "images" / "text.png").write_text("no image")
    outside = ("../secret.png", str(tmp_path / "secret.png"), "images/link.png", "images/text.png", "a\0b", "x" * 5000)
    for name in outside:
        record = deepcopy(sweep.rows[0].record)
        assert record
        record.samples[0].file = name
        text = page(replace(sweep, rows=[replace(sweep.rows[0], folder=tmp_path / "run", record=record)]))
        assert data_of(text, "album") == [], name
    assert "files could not be read as images" not in text


def test_there_is_an_end_to_what_a_page_holds(sweep: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = data_of(page(sweep), "album")
    monkeypatch.setattr(images, "BUDGET", len(whole[0]) + len(whole[1]) // 2)
    text = page(sweep)
    assert data_of(text, "album") == whole[:1]
    assert re.search(r"\d+ images were left out", text)


def test_of_very_many_jobs_the_first_prompts_are_shown(sweep: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wavespeed_runner.report.page.MOST", 9)
    text = page(sweep)
    assert [len(job["samples"]) for job in data_of(text)["jobs"]] == [1, 1, 1, 1, 1, 0]
    assert "of the first 1 of 2 images of each job" in text


def test_an_unfinished_sweep_says_what_it_waits_for(sweep: Sweep) -> None:
    nothing: dict[str, Any] = {"record": None, "seconds": None, "quality": {}, "computed_share": None, "speedup": None}
    waiting = [replace(sweep.rows[0], job="6", status="missing", **nothing)]
    waiting += [replace(sweep.rows[0], job=str(7 + n), status="running", **nothing) for n in range(2)]
    text = page(replace(sweep, rows=[*sweep.rows, *waiting], finished=False))
    assert "unfinished: 2 running, 1 missing" in text and "6 of 9" in text
    alone = page(replace(sweep, rows=waiting, finished=False))
    assert len(Parts(alone).rows) == 3 and data_of(alone, "album") == []


def test_failures_are_grouped_by_their_reason(sweep: Sweep) -> None:
    skipped = [
        replace(sweep.rows[5], job=str(number), status="skipped", reason="needs a <GPU>") for number in range(6, 10)
    ]
    text = page(replace(sweep, rows=[*sweep.rows, *skipped]))
    part = text[text.index('<section id="problems">') : text.index('<section id="environment">')]
    assert part.count("needs a &lt;GPU&gt;") == 1 and "skipped <b>4</b>" in part and "failed <b>1</b>" in part


def test_markup_in_a_record_stays_text(sweep: Sweep) -> None:
    made = Parts(page(hostile(sweep)))
    assert len(made.scripts) == 4 and made.fetched == []
    assert [HOSTILE in " ".join(cells) for cells in made.rows] == [True] * 6, "autoescaped, and 7 * 7 not computed"
    assert data_of(page(hostile(sweep)))["jobs"][0]["config"] == HOSTILE


def test_numbers_and_letters_that_files_cannot_have(sweep: Sweep) -> None:
    record = deepcopy(sweep.rows[0].record)
    assert record
    record.samples[0].prompt = "half a pair \ud800"
    record.samples[0].steps[2].signal = float("nan")
    text = page(replace(sweep, rows=[replace(sweep.rows[0], record=record, computed_share=float("inf"))]))
    text.encode("utf-8")
    found = data_of(text)["jobs"][0]
    assert found["share"] is None and found["samples"][0]["trace"][0]["signal"][2] is None
    for damaged in (3, "text", {"threshold": "text"}, {"threshold": 10**400}):  # a config is plain data
        record.config["cache"]["criterion"] = damaged
        samples = data_of(page(replace(sweep, rows=[replace(sweep.rows[0], record=record)])))["jobs"][0]["samples"]
        assert samples and samples[0]["trace"] == [], damaged

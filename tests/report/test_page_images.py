"""Images on the page: which are embedded, at what size, and from which files."""

from __future__ import annotations

import os
import re
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.report.html_parts import data_of, decoded
from wavespeed_runner.media.images import write_png
from wavespeed_runner.report.page import images as images
from wavespeed_runner.report.page import page
from wavespeed_runner.report.rows import Sweep


def test_small_images_are_kept_to_the_bit_and_each_once(sweep: Sweep, sweep_folder: Path) -> None:
    text = page(sweep)
    album, shown = data_of(text, "album"), data_of(text)["jobs"][0]["samples"][0]
    names = [sweep.rows[0].record.samples[0].file]  # type: ignore[union-attr]
    names += [f"{part}/{Path(names[0]).name}" for part in ("reference", "difference")]
    for place, name in zip(shown["images"], names, strict=True):
        assert np.array_equal(np.asarray(decoded(album[place])), np.asarray(Image.open(sweep_folder / "0" / name)))
    assert len(set(album)) == len(album) <= 2 * 3, "the five jobs have copies of the same images"
    assert (sweep_folder / shown["links"][0]).is_file() and (sweep_folder / shown["links"][1]).is_file()


def test_links_lead_from_where_the_page_lies(sweep: Sweep, sweep_folder: Path, tmp_path: Path) -> None:
    for start in (tmp_path / "a" / "b", sweep_folder / "report"):
        start.mkdir(parents=True)
        links = data_of(page(sweep, folder=start))["jobs"][0]["samples"][0]["links"]
        assert all((start / link).is_file() for link in links) and len(links) == 2
        start.rmdir()


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


def test_images_that_cannot_be_read_are_counted_and_the_rest_is_shown(
    sweep: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that is no image, one that another user owns, and one that is a device: none of them fails the report."""
    good, bad, closed = tmp_path / "good.png", tmp_path / "bad.png", tmp_path / "closed.png"
    write_png(good, np.zeros((8, 8, 3), np.uint8), metadata={})
    bad.write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    os.mkfifo(closed)
    album = images.album(3)
    assert [album.add(path) for path in (bad, good, closed)] == [None, 0, None]
    assert (album.unreadable, len(album.uris)) == (2, 1)

    def refuse(*_: object) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(images, "read_file", refuse)
    text = page(sweep)
    assert data_of(text, "album") == [] and "files could not be read as images" in text


def test_images_beyond_the_pixels_of_a_page_are_named_and_not_decoded(
    sweep: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        write_png(tmp_path / f"{number}.png", np.full((8, 8, 3), number, np.uint8), metadata={})
    write_png(tmp_path / "small.png", np.full((2, 2, 3), 9, np.uint8), metadata={})
    monkeypatch.setattr(images, "MAX_PAGE_PIXELS", 140)
    album = images.album(4)
    names = ("0.png", "1.png", "2.png", "2.png", "small.png")
    assert [album.add(tmp_path / name) for name in names] == [0, 1, None, None, 2]
    assert album.too_large == ["2.png"] and album.unreadable == 0
    monkeypatch.setattr(images, "MAX_PAGE_PIXELS", 1)
    monkeypatch.setattr(images, "decode_image", lambda _: pytest.fail("decoded"))
    text = page(sweep)
    assert data_of(text, "album") == [] and "Left out, because a page decodes at most" in text
    assert Path(sweep.rows[0].record.samples[0].file).name in text.split("Left out, because")[1]  # type: ignore[union-attr]

"""The example plugin: installed, its stage and graph are there; not installed, the error is one line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

REPO = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the plugin in it, as pip installs it; nothing is downloaded."""
    target = tmp_path_factory.mktemp("plugin")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    command += ["--target", str(target), str(REPO / "plugins" / "example")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return target


def run(
    folder: Path, *overrides: str, plugin: Path | None = None, graph: str = "gray_text_to_image"
) -> subprocess.CompletedProcess[str]:
    """The runner in an empty folder, with the plugin or without."""
    paths = [str(REPO), *([str(plugin)] if plugin else [])]
    return subprocess.run(
        [sys.executable, "-m", "wavespeed_runner", f"graph={graph}", "model.init=tiny", *overrides],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_the_plan_names_the_stage(installed: Path, tmp_path: Path) -> None:
    done = run(tmp_path, "dry_run=true", plugin=installed)
    assert done.returncode == 0, done.stderr
    assert "grayscale" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_without_the_plugin_it_is_one_line(tmp_path: Path) -> None:
    done = run(tmp_path, "dry_run=true")
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "gray_text_to_image" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("option", ["strength=2", "strength=much", "strengh=1"])
def test_wrong_options_are_one_line(installed: Path, tmp_path: Path, option: str) -> None:
    done = run(tmp_path, f"graph.stages.grayscale.options.{option}", plugin=installed)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "streng" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_strength_mixes(installed: Path) -> None:
    code = (
        "import numpy as np\nfrom wavespeed_example.grayscale import GrayscaleOptions, grayscale\n"
        "from wavespeed_runner.artifacts import Images\n"
        "given = np.random.default_rng(0).integers(0, 256, (2, 8, 9, 3), dtype=np.uint8)\n"
        "for strength in (0.0, 0.5, 1.0):\n"
        "    got = grayscale(GrayscaleOptions(strength=strength), images=Images(tensors={'images': given}))\n"
        "    got = got.tensors['images']\n"
        "    assert got.shape == given.shape and got.dtype == np.uint8\n"
        "    print(strength, int(np.ptp(got, axis=-1).max()), bool((got == given).all()))\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(REPO), str(installed)])}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    assert lines[0][2] == "True" and lines[2][1:] == ["0", "False"] and 0 < int(lines[1][1]) < 200


def test_its_detector_stands_in_for_ours(installed: Path, tmp_path: Path) -> None:
    detector = ("graph.stages.detect.stage=brightest", "+graph.stages.detect.options.size=0.25")
    done = run(tmp_path, *detector, "dry_run=true", plugin=installed, graph="detail")
    assert done.returncode == 0, done.stderr
    assert "detect (brightest)" in done.stdout


def test_its_detector_finds_the_brightest_window(installed: Path) -> None:
    code = (
        "import numpy as np\nfrom wavespeed_example.brightest import BrightestOptions, brightest\n"
        "from wavespeed_runner.artifacts import Images\n"
        "given = np.zeros((2, 16, 24, 3), np.uint8)\n"
        "given[0, 5:9, 7:13], given[1, 12:, 18:] = 200, 255\n"
        "found = brightest(BrightestOptions(size=0.25), images=Images(tensors={'images': given}))\n"
        "print(found.tensors['boxes'].tolist(), [round(float(s), 3) for s in found.tensors['scores']])\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(REPO), str(installed)])}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[[7, 5, 13, 9], [18, 12, 24, 16]] [0.784, 1.0]"


def test_its_stage_makes_gray_images_and_its_cache_strategy_decides_and_predicts(
    installed: Path, tmp_path: Path
) -> None:
    done = run(
        tmp_path,
        *("steps=12", "prompt=a red circle", "cache=patient", "cache.criterion.first=0.5", "cache.criterion.last=3"),
        plugin=installed,
    )
    assert done.returncode == 0, done.stderr
    (image,) = tmp_path.glob("outputs/runs/*/*/images/*.png")
    pixels = np.asarray(Image.open(image))
    assert pixels.ndim == 3 and np.ptp(pixels, axis=-1).max() == 0
    record = json.loads(next(tmp_path.glob("outputs/runs/*/*/record.json")).read_text())
    assert record["cache"]["hits"] > 0, "or the thresholds are too low for random weights"
    for step in record["samples"][0]["steps"][1:]:
        threshold = 0.5 + 2.5 * (step["index"] - 1) / 11
        assert step["computed"] == (step["level"] >= threshold)


@pytest.mark.parametrize("key", ["criterion.first=2", "predictor.dampin=1"])
def test_wrong_keys_of_its_strategy_are_one_line(installed: Path, tmp_path: Path, key: str) -> None:
    done = run(tmp_path, "cache=patient", f"cache.{key}", "dry_run=true", plugin=installed, graph="text_to_image")
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and key.split("=")[0].split(".")[1] in done.stderr


def test_its_judge_judges_image_and_reference(installed: Path, tmp_path: Path) -> None:
    few = ("steps=4", "prompt=a red circle", "measure.warmup=0", "measure.reference_steps=5")
    done = run(tmp_path, *few, "metrics=[colourfulness,default]", plugin=installed, graph="text_to_image")
    assert done.returncode == 0, done.stderr
    record = json.loads(next(tmp_path.glob("outputs/runs/*/*/record.json")).read_text())
    (sample,) = record["samples"]
    for part, key in (("images", "metrics"), ("reference", "metrics_of_reference")):
        pixels = np.asarray(Image.open(next(tmp_path.glob(f"outputs/runs/*/*/{part}/*.png"))))
        assert sample[key] == {"colourfulness": float(np.ptp(pixels, axis=-1).mean())}
    assert "colourfulness" in done.stdout

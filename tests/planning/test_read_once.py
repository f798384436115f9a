"""What the plans of a sweep read once is read again as soon as the file is another one."""

from __future__ import annotations

import json
import os
from pathlib import Path

from wavespeed_runner.caching.calibration import file as calibration_file
from wavespeed_runner.caching.calibration.data import Calibration
from wavespeed_runner.models.weights import safetensors_file


def rewritten(path: Path, content: bytes) -> None:
    """As an editor, or an attacker, might: as long as before, and as old by its own account."""
    before = path.stat()
    assert len(content) == before.st_size
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_a_calibration(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    key = {"model": "flux", "repo": "a/b", "init": "pretrained", "sampler": "default", "steps": 2}
    calibration_file.save(Calibration(key=key, made={}, sigmas=[1.0, 0.5]), path)
    first, loaded = calibration_file.load_key(path), calibration_file.load(path)
    hits = calibration_file._load_key.cache_info().hits, calibration_file._load.cache_info().hits
    assert calibration_file.load_key(path) == first == key and calibration_file.load(path) is loaded
    assert (calibration_file._load_key.cache_info().hits, calibration_file._load.cache_info().hits) == tuple(
        hit + 1 for hit in hits
    )
    rewritten(path, path.read_bytes().replace(b"a/b", b"a/c").replace(b"0.5", b"0.4"))
    assert calibration_file.load_key(path)["repo"] == "a/c"
    assert calibration_file.load(path).sigmas == [1.0, 0.4]


def test_a_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    header = json.dumps({"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(8))
    assert safetensors_file.find_damage(path) is None
    hits = safetensors_file._find_damage.cache_info().hits
    assert safetensors_file.find_damage(path) is None and safetensors_file._find_damage.cache_info().hits == hits + 1
    rewritten(path, path.read_bytes().replace(b"F32", b"F64"))
    assert "F64" in (safetensors_file.find_damage(path) or "")

"""Bytes of weights that are stored quantized, once they are loaded, from their files' headers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from wavespeed_runner.models.weights.safetensors_file import count_loaded_bytes, list_variant_files, list_weight_files


def write_header(file: Path, tensors: dict[str, tuple[str, int, int]]) -> Path:
    """A safetensors file without data. tensors: name -> (number format, values, bytes of a value)."""
    header, end = {}, 0
    for name, (dtype, values, size) in tensors.items():
        header[name] = {"dtype": dtype, "shape": [values], "data_offsets": [end, end := end + values * size]}
    raw = json.dumps(header).encode()
    file.write_bytes(len(raw).to_bytes(8, "little") + raw)
    return file


@pytest.mark.parametrize("element_size", [2, 4])
def test_plain_tensors_are_cast_and_quantized_ones_stay(tmp_path: Path, element_size: int) -> None:
    tensors = {
        "x.weight": ("U8", 512, 1),
        "x.weight.absmax": ("F32", 16, 4),  # of bitsandbytes: it stays in float32
        "x.bias": ("BF16", 32, 2),
        "norm.weight": ("F32", 8, 4),
    }
    file = write_header(tmp_path / "model.safetensors", tensors)
    assert count_loaded_bytes(file, element_size) == 512 + 64 + element_size * (32 + 8)


def test_of_two_variants_one_is_loaded(tmp_path: Path) -> None:
    for name in ("model-00001-of-00002", "model-00002-of-00002", "model.fp16"):
        (tmp_path / f"{name}.safetensors").write_bytes(b"")
    assert [len(list_weight_files(tmp_path, variant)) for variant in (None, "fp16", "bf16")] == [2, 1, 2]


@pytest.mark.parametrize("name", ["model.fp16", "model.fp16-00001-of-00002", "model-00001-of-00002.fp16"])
def test_files_of_a_variant_are_found_in_one_piece_and_in_shards(tmp_path: Path, name: str) -> None:
    for file in (name, "model", "model.fp16x"):
        (tmp_path / f"{file}.safetensors").write_bytes(b"")
    assert [file.stem for file in list_variant_files(tmp_path, "fp16")] == [name]

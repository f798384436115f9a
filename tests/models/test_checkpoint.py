"""Damage that is found in a checkpoint before it is loaded, and the identity of weights."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save

from wavespeed_runner.errors import ConfigError
from wavespeed_runner.models.weights.checkpoint import inspect_checkpoint
from wavespeed_runner.models.weights.identity import UNKNOWN, identify_weights
from wavespeed_runner.models.weights.safetensors_file import find_damage

TENSORS = {
    "a.weight": np.arange(12, dtype=np.float32).reshape(3, 4),
    "b.bias": np.zeros(5, dtype=np.float16),
    "empty": np.zeros((0, 3), dtype=np.int64),
    "scalar": np.array(2.0, dtype=np.float64),
}
WHOLE = save(TENSORS, metadata={"format": "pt"})
HEADER = 8 + int.from_bytes(WHOLE[:8], "little")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("checkpoints") / "model.safetensors"


def find_damage_in(place, content: bytes):
    place.write_bytes(content)
    return find_damage(place)


def with_header(header: dict, data: bytes = WHOLE[HEADER:]) -> bytes:
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def test_sound_files_pass(place):
    assert find_damage_in(place, WHOLE) is None
    assert find_damage_in(place, save({})) is None
    inspect_checkpoint(str(place))


@given(st.integers(0, len(WHOLE) - 1))
@settings(deadline=None)
def test_every_truncation_is_found(place, length):
    assert find_damage_in(place, WHOLE[:length])


@given(st.binary(min_size=1, max_size=64))
@settings(deadline=None)
def test_every_excess_is_found(place, excess):
    assert find_damage_in(place, WHOLE + excess)


@given(st.integers(0, 7), st.integers(1, 255))
@settings(deadline=None)
def test_every_wrong_header_length_is_found(place, position, flip):
    broken = bytearray(WHOLE)
    broken[position] ^= flip
    assert find_damage_in(place, bytes(broken))


@given(st.sampled_from(sorted(TENSORS)), st.integers(0, 1), st.integers(-(2**63), 2**63).filter(bool))
@settings(deadline=None)
def test_every_wrong_offset_is_found(place, tensor, side, change):
    header = json.loads(WHOLE[8:HEADER])
    header[tensor]["data_offsets"][side] += change
    assert find_damage_in(place, with_header(header))


@given(st.binary(min_size=1, max_size=200))
@settings(deadline=None)
def test_noise_is_an_answer_and_no_exception(place, noise):
    find_damage_in(place, noise)
    assert find_damage_in(place, len(noise).to_bytes(8, "little") + noise + b"x")


@pytest.mark.parametrize(
    "entry",
    [None, 1, [], {}, {"dtype": "F32"}, {"dtype": "F32", "shape": [1], "data_offsets": [0]}]
    + [{"dtype": "F32", "shape": shape, "data_offsets": [0, 4]} for shape in (None, ["1"], [2], [-1], [0.5])]
    + [{"dtype": [], "shape": [1], "data_offsets": [0, 4]}],
)
def test_malformed_entries_are_found(place, entry):
    assert find_damage_in(place, with_header({"x": entry}, b"1234"))


def test_a_damaged_file_is_named_with_the_way_out(place):
    place.write_bytes(WHOLE[:-1])
    with pytest.raises(ConfigError, match=r"model\.repo=.*model\.safetensors is damaged: .*download or copy it again"):
        inspect_checkpoint(str(place))


def test_a_damaged_file_of_a_component_is_named_with_it(tmp_path):
    (tmp_path / "vae").mkdir()
    (tmp_path / "model_index.json").write_text('{"vae": ["diffusers", "AutoencoderKL"]}')
    (tmp_path / "vae" / "model.safetensors").write_bytes(b"\x80\x04}.")
    with pytest.raises(ConfigError, match=r": vae/model\.safetensors is damaged: "):
        inspect_checkpoint(str(tmp_path))


def test_a_pipe_is_told_as_one(tmp_path):
    os.mkfifo(tmp_path / "model.safetensors")
    with pytest.raises(ConfigError, match=r"model\.safetensors: not a regular file or a folder"):
        inspect_checkpoint(str(tmp_path / "model.safetensors"))


@pytest.mark.parametrize("repo", ["black-forest-labs/FLUX.1-dev", "a/b", "A_1/b.c-d_e"])
def test_hub_ids_pass(repo):
    inspect_checkpoint(repo)
    inspect_checkpoint(repo, revision="main")


@pytest.mark.parametrize(
    "repo",
    [
        *("", "flux", "a/b/c", "/no/such/folder", "./a", "../a", "~/nothing-here", "a/b.safetensors", "a/b.bin"),
        *("https://huggingface.co/a/b", "pkg://wavespeed_runner/no/such", "pkg://no_such_package/x", "a b/c", "é/b"),
    ],
)
def test_anything_else_is_refused_in_one_line(repo):
    with pytest.raises(ConfigError) as caught:
        inspect_checkpoint(repo)
    assert repo in str(caught.value)


@pytest.mark.parametrize("suffix", [".bin", ".pt", ".pth", ".ckpt", ".CKPT"])
def test_pickles_are_refused_with_the_way_out(tmp_path, suffix):
    file = tmp_path / f"model{suffix}"
    file.write_bytes(b"\x80\x04.")
    for repo in (file, tmp_path):
        with pytest.raises(ConfigError, match=r"refused.*save_pretrained"):
            inspect_checkpoint(str(repo))


def test_other_files_and_local_revisions_are_refused(tmp_path, tiny_folder):
    (tmp_path / "model.onnx").write_bytes(b"x")
    with pytest.raises(ConfigError, match=r"not a \.safetensors file"):
        inspect_checkpoint(str(tmp_path / "model.onnx"))
    with pytest.raises(ConfigError, match=r"model_index\.json"):
        inspect_checkpoint(str(tmp_path))
    with pytest.raises(ConfigError, match=r"model\.revision=main"):
        inspect_checkpoint(str(tiny_folder), revision="main")


def _pickled(folder):
    (folder / "vae" / "diffusion_pytorch_model.safetensors").rename(folder / "vae" / "diffusion_pytorch_model.bin")


def _cut(folder):
    file = folder / "transformer" / "diffusion_pytorch_model.safetensors"
    os.truncate(file, file.stat().st_size // 2)


def _shard_lost(folder):
    (folder / "text_encoder_2" / "model.safetensors").unlink()  # it would be taken first
    index = {"metadata": {}, "weight_map": {"x": "model-00001-of-00002.safetensors"}}
    (folder / "text_encoder_2" / "model.safetensors.index.json").write_text(json.dumps(index))


def _other_format(folder):
    (folder / "text_encoder" / "model.safetensors").rename(folder / "text_encoder" / "flax_model.msgpack")


def _empty_index(folder):
    part = folder / "transformer"
    (part / "diffusion_pytorch_model.safetensors").rename(part / "x-00001.safetensors")
    (part / "diffusion_pytorch_model.safetensors.index.json").write_text('{"metadata": {}, "weight_map": {}}')


def _foreign_code(folder):
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps({**index, "vae": ["os", "system"]}))


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (_pickled, "'vae' holds only pickles"),
        (_cut, "diffusion_pytorch_model.safetensors is damaged"),
        (_other_format, "'text_encoder' has weights in .msgpack and none in safetensors"),
        (_empty_index, "transformer/diffusion_pytorch_model.safetensors.index.json lists no tensors"),
        (_shard_lost, "lacks model-00001-of-00002.safetensors"),
        (lambda folder: shutil.rmtree(folder / "text_encoder"), "'text_encoder' is named"),
        (lambda folder: (folder / "model_index.json").write_text("{"), "cannot be read as JSON"),
        (_foreign_code, "'vae' asks for code from 'os'"),
        (lambda folder: (folder / "v1.ckpt").write_bytes(b"\x80"), None),
    ],
)
def test_folders(tiny_folder, tmp_path, harm, says):
    folder = tmp_path / "flux"
    shutil.copytree(tiny_folder, folder)
    inspect_checkpoint(str(folder))
    harm(folder)
    if says is None:  # a pickle beside sound safetensors is never opened
        return inspect_checkpoint(str(folder))
    with pytest.raises(ConfigError, match=says):
        inspect_checkpoint(str(folder))


def test_identity_follows_the_content_and_not_the_place(tiny_folder, tmp_path):
    copy = tmp_path / "elsewhere"
    shutil.copytree(tiny_folder, copy)
    (copy / ".cache").mkdir()
    (copy / ".cache" / "note").write_text("not a weight")
    (copy / "README.md").write_text("not a weight either")
    before = identify_weights(str(tiny_folder), None)
    assert before == identify_weights(str(copy), None) == identify_weights(f"{copy}/", None)
    file = copy / "vae" / "diffusion_pytorch_model.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    assert identify_weights(str(copy), None) != before


def test_identity_follows_the_chat_template(tiny_folder, tmp_path):
    """It decides what a language model reads."""
    copy = tmp_path / "elsewhere"
    shutil.copytree(tiny_folder, copy)
    before = identify_weights(str(copy), None)
    (copy / "tokenizer" / "chat_template.jinja").write_text("{{ messages[0]['content'] }}")
    assert identify_weights(str(copy), None) != before


def test_identity_of_a_large_file_takes_a_moment(tmp_path):
    """A sparse file: it costs the same reads as 24 GB of data."""
    file = tmp_path / "large.safetensors"
    size = 24 * 10**9
    header = json.dumps({"x": {"dtype": "F8_E4M3", "shape": [size], "data_offsets": [0, size]}}).encode()
    file.write_bytes(len(header).to_bytes(8, "little") + header)
    os.truncate(file, 8 + len(header) + size)
    began = time.perf_counter()
    inspect_checkpoint(str(file))
    before = identify_weights(str(file), None)
    assert time.perf_counter() - began < 1
    for position in (9, file.stat().st_size - 1):
        with file.open("r+b") as stream:
            stream.seek(position)
            stream.write(b"Z")
        after = identify_weights(str(file), None)
        assert after != before
        before = after


def test_identity_on_the_hub_names_the_cached_commit(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    assert (
        identify_weights("a/b", None) == identify_weights("a/b", "main") == f"hub:a/b@not downloaded before {UNKNOWN}"
    )
    refs = tmp_path / "models--a--b" / "refs"
    (refs / "refs" / "pr").mkdir(parents=True)
    (refs / "main").write_text("0123456789abcdef" * 2 + "01234567\n")
    (refs / "refs" / "pr" / "1").write_text("f" * 40)
    (tmp_path / "secret").write_text("e" * 40)
    assert identify_weights("a/b", None) == "hub:a/b@" + "0123456789abcdef" * 2 + "01234567"
    assert identify_weights("a/b", "refs/pr/1").endswith("f" * 40)
    assert identify_weights("a/b", "a" * 40) == "hub:a/b@" + "a" * 40
    assert UNKNOWN in identify_weights("a/b", "../../secret")


def test_light():
    code = "import sys, wavespeed_runner.models.weights.checkpoint, wavespeed_runner.models, wavespeed_runner.samplers;"
    code += "print([m for m in ('torch', 'diffusers', 'transformers', 'safetensors', 'huggingface_hub')"
    code += " if m in sys.modules])"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"

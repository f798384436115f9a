"""Models of a folder: scales of their weights are applied, and a tensor without a place is refused by its name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.models.shared_files import NEW, State, assert_near, change_folder, load_folder, store
from tests.models.tiny_families import tiny
from wavespeed_runner.config.schema import Init
from wavespeed_runner.errors import RunError
from wavespeed_runner.models.weights.pretrained import load


@pytest.mark.parametrize(
    ("name", "part"),
    [("flux", "transformer"), ("flux", "text_encoder_2"), ("sd15", "text_encoder"), ("wan21", "transformer")],
)
def test_scales_in_a_folder_are_applied(name: str, part: str, folders: Callable[[str], Path], tmp_path: Path) -> None:
    folder = change_folder(folders(name), tmp_path / name, part, lambda state: store(state, NEW, rows=True))
    assert_near(getattr(load_folder(name, folder), part), getattr(tiny(name)[2], part))


@pytest.mark.parametrize(
    ("part", "tensor"),
    [
        ("transformer", "transformer_blocks.7.attn.to_q.weight"),
        ("vae", "encoder.odd"),
        ("text_encoder", "text_model.encoder.layers.7.mlp.fc1.bias"),
        ("text_encoder", "odd.weight"),
        ("text_encoder_2", "encoder.block.0.layer.0.SelfAttention.odd.weight"),
        ("text_encoder_2", "text_model.odd"),
    ],
)
def test_a_tensor_of_a_folder_without_a_place_is_refused(
    part: str, tensor: str, folders: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = change_folder(folders("flux"), tmp_path / "flux", part, lambda state: state | {tensor: torch.ones(2)})
    says = rf"^model\.repo=\S+: 1 of the tensors of '{part}' have no place in a \w+, the first is {tensor[-9:]}"
    with pytest.raises(RunError, match=says.replace(tensor[-9:], rf"\S*{tensor[-9:]}")):
        load_folder("flux", folder)


@pytest.mark.parametrize(
    ("name", "buffer"), [("ltx_video", "latents_mean"), ("ltx_video", "latents_std"), ("flux2", "bn.running_var")]
)
def test_statistics_of_latents_have_to_be_there(
    name: str, buffer: str, folders: Callable[[str], Path], tmp_path: Path
) -> None:
    """No parameters, but not computed either: without them latents would be taken for normalised."""

    def drop(state: State) -> State:
        return {key: tensor for key, tensor in state.items() if key != buffer}

    folder = change_folder(folders(name), tmp_path / name, "vae", drop)
    with pytest.raises(RunError, match=rf"^model\.repo=\S+: 'vae' is incomplete, 1 .* the first is {buffer};"):
        load_folder(name, folder)
    file = next((folder / "vae").glob("*.safetensors"))
    family, config, _ = tiny(name)
    config = replace(config, init=Init.pretrained, repo=str(folders(name)), vae=str(file))
    with pytest.raises(RunError, match=rf"^model\.vae=\S+: 'vae' is incomplete, 1 .* the first is {buffer};"):
        load(family, config, "cpu")


def test_heads_and_tables_beside_a_text_encoder_are_left_alone(folders: Callable[[str], Path], tmp_path: Path) -> None:
    """Published text encoders have them: a table that counts, and parts that only other classes have."""
    beside = {"text_model.embeddings.position_ids": torch.arange(77)[None], "logit_scale": torch.ones(())}
    beside |= {"text_projection.weight": torch.ones(2, 2), "vision_model.post_layernorm.bias": torch.ones(2)}
    folder = change_folder(folders("flux"), tmp_path / "flux", "text_encoder", lambda state: state | beside)
    ours, theirs = load_folder("flux", folder).text_encoder.state_dict(), tiny("flux")[2].text_encoder.state_dict()
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize(
    ("part", "names"),
    [
        ("text_encoder", ["encoder.layers.0.mlp.fc1.bias", "text_model.encoder.layers.0.mlp.fc1.bias"]),
        ("text_encoder_2", ["encoder.final_layer_norm.weight", "transformer.encoder.final_layer_norm.weight"]),
        ("vae", ["decoder.mid_block.attentions.0.to_q.weight", "decoder.mid_block.attentions.0.query.weight"]),
    ],
)
def test_two_names_of_one_weight_are_refused(
    part: str, names: list[str], folders: Callable[[str], Path], tmp_path: Path
) -> None:
    def add(state: State) -> State:
        (weight,) = (state[name] for name in names if name in state)
        return {name: torch.full_like(weight, 9) for name in names} | state

    folder = change_folder(folders("flux"), tmp_path / "flux", part, add)
    with pytest.raises(RunError, match=rf"'{part}' has \S+ and \S+, which are one weight of a \w+ by two names"):
        load_folder("flux", folder)

"""A component in several files: what its index and the files say otherwise than each other is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.models.shared_files import State, assert_same, change_folder, load_folder
from tests.models.tiny_families import tiny
from wavespeed_runner.errors import ConfigError, RunError
from wavespeed_runner.models.weights import shards
from wavespeed_runner.models.weights.checkpoint import inspect_checkpoint
from wavespeed_runner.models.weights.folder_models import load_models
from wavespeed_runner.models.weights.pretrained import list_candidates
from wavespeed_runner.models.weights.shards import refuse_unlisted
from wavespeed_runner.planning.plan import Plan

FILES = [f"diffusion_pytorch_model-0000{number}-of-00002.safetensors" for number in (1, 2)]


def shard(folders: Callable[[str], Path], to: Path) -> Path:
    """A folder whose denoiser is in two files."""
    folder = change_folder(folders("flux"), to, "transformer", lambda state: state)
    part = folder / "transformer"
    state = load_file(part / "diffusion_pytorch_model.safetensors")
    (part / "diffusion_pytorch_model.safetensors").unlink()
    names = sorted(state)
    listed = {name: FILES[index % 2] for index, name in enumerate(names)}
    for file in FILES:
        save_file({name: state[name] for name in names if listed[name] == file}, part / file)
    index = {"metadata": {"total_size": 1}, "weight_map": listed}
    (part / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(index))
    return folder


def change(folder: Path, file: str, edit: Callable[[State], State]) -> None:
    path = folder / "transformer" / file
    save_file(edit(load_file(path)), path)


def test_shards_that_are_as_the_index_says(folders: Callable[[str], Path], tmp_path: Path) -> None:
    folder = shard(folders, tmp_path / "flux")
    inspect_checkpoint(str(folder))
    assert_same(load_folder("flux", folder).transformer, tiny("flux")[2].transformer)


def _add(folder: Path) -> str:
    change(folder, FILES[1], lambda state: state | {"bogus.weight": torch.ones(2)})
    return f"1 of the tensors in {FILES[1]} are not listed in .*index.json, the first is bogus.weight; they would be"


def _double(folder: Path) -> str:
    (name, tensor), *_ = load_file(folder / "transformer" / FILES[0]).items()
    change(folder, FILES[1], lambda state: state | {name: tensor * 50})
    return f"{name} stands in {FILES[1]}, and .*index.json lists it in {FILES[0]}; one of them"


def _take(folder: Path) -> str:
    name = min(load_file(folder / "transformer" / FILES[1]))
    change(folder, FILES[1], lambda state: {key: tensor for key, tensor in state.items() if key != name})
    return f"{FILES[1]} lacks {name}, which .*index.json lists in it"


@pytest.mark.parametrize("harm", [_add, _double, _take])
def test_what_an_index_does_not_say_is_refused(
    harm: Callable[[Path], str], folders: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = shard(folders, tmp_path / "flux")
    says = rf"^model\.repo=\S+: 'transformer': {harm(folder)}.*; download it again"
    with pytest.raises(ConfigError, match=says):
        inspect_checkpoint(str(folder))
    # One of the hub is not inspected before it is there.
    candidates = [each for each in list_candidates("x=y", folder, without=[]) if each.name == "transformer"]
    with pytest.raises(ConfigError, match=says.replace(r"model\.repo=\S+", "x=y")):
        load_models("x=y", candidates, None, {"default": torch.float32})


def test_what_no_shard_of_transformers_holds_is_left_to_its_report(
    folders: Callable[[str], Path], tmp_path: Path
) -> None:
    """A weight that is tied to another may be listed and not stored; any other one is missed when it is loaded."""
    folder = change_folder(folders("flux"), tmp_path / "flux", "text_encoder_2", lambda state: state)
    part, file = folder / "text_encoder_2", "model-00001-of-00001.safetensors"
    state = load_file(part / "model.safetensors")
    (part / "model.safetensors").unlink()
    assert "encoder.embed_tokens.weight" not in state, "tied to `shared`"
    listed = dict.fromkeys([*state, "encoder.embed_tokens.weight"], file)
    (part / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": listed}))
    candidates = [each for each in list_candidates("x=y", folder, without=[]) if each.name == "text_encoder_2"]
    save_file(state, part / file, {"format": "pt"})
    inspect_checkpoint(str(folder))
    assert load_models("x=y", candidates, None, {"default": torch.float32})
    name = next(name for name in state if name.endswith("SelfAttention.q.weight"))
    save_file({key: tensor for key, tensor in state.items() if key != name}, part / file, {"format": "pt"})
    inspect_checkpoint(str(folder))
    with pytest.raises(RunError, match=rf"x=y: 'text_encoder_2' is incomplete, .* the first is {name}"):
        load_models("x=y", candidates, None, {"default": torch.float32})


def test_an_index_that_is_not_loaded_is_not_judged(folders: Callable[[str], Path], tmp_path: Path) -> None:
    """Of another variant, and beside transformers' whole file."""
    folder = shard(folders, tmp_path / "flux")
    part, text = folder / "transformer", folder / "text_encoder"
    other = {"metadata": {}, "weight_map": {"x": FILES[0].replace("-0", ".fp16-0", 1)}}
    (part / "diffusion_pytorch_model.safetensors.index.fp16.json").write_text(json.dumps(other))
    shutil.copy(text / "model.safetensors", text / "model-00001-of-00001.safetensors")
    listed = {"metadata": {}, "weight_map": {"x": "model-00001-of-00001.safetensors"}}
    (text / "model.safetensors.index.json").write_text(json.dumps(listed))
    inspect_checkpoint(str(folder))
    assert_same(load_folder("flux", folder).transformer, tiny("flux")[2].transformer)
    (text / "model.safetensors").unlink()
    with pytest.raises(ConfigError, match=r"'text_encoder': \d+ of the tensors in model-00001-of-00001"):
        inspect_checkpoint(str(folder))


def test_the_shards_of_the_variant_that_is_asked_for_are_judged(folders: Callable[[str], Path], tmp_path: Path) -> None:
    folder = shard(folders, tmp_path / "flux")
    part = folder / "transformer"
    file = FILES[0].replace("-0", ".fp16-0", 1)
    shutil.copy(part / FILES[0], part / file)
    index = {"metadata": {}, "weight_map": {"x": file}}
    (part / "diffusion_pytorch_model.safetensors.index.fp16.json").write_text(json.dumps(index))
    inspect_checkpoint(str(folder))
    with pytest.raises(ConfigError, match=rf"\d+ of the tensors in {file} are not listed in .*index\.fp16\.json"):
        inspect_checkpoint(str(folder), weights="fp16")
    (part / file).unlink()
    with pytest.raises(ConfigError, match=f"'transformer' lacks {file}"):
        inspect_checkpoint(str(folder), weights="fp16")


def test_shards_are_read_once_as_long_as_they_stay_the_same(
    folders: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shard(folders, tmp_path / "flux")
    read = []
    names = shards.read_tensor_names
    monkeypatch.setattr(shards, "read_tensor_names", lambda file: [read.append(file), names(file)][1])
    for _ in range(2):
        refuse_unlisted("x=y", folder / "transformer", None)
    assert len(read) == 2
    _add(folder)
    with pytest.raises(ConfigError, match="not listed"):
        refuse_unlisted("x=y", folder / "transformer", None)


def test_the_plan_says_which_weight_files_are_not_loaded(
    folders: Callable[[str], Path], planned: Callable[..., Plan], tmp_path: Path
) -> None:
    folder = shard(folders, tmp_path / "flux")
    plain = folders("flux")
    shutil.copy(next((plain / "vae").glob("*.safetensors")), folder / "vae" / "pytorch_lora_weights.safetensors")
    shutil.copy(
        next((plain / "vae").glob("*.safetensors")), folder / "vae" / "diffusion_pytorch_model.fp16.safetensors"
    )
    # diffusers loads the shards, transformers the one file.
    shutil.copy(next((plain / "transformer").glob("*.safetensors")), folder / "transformer")
    shutil.copy(folder / "text_encoder" / "model.safetensors", folder / "text_encoder" / FILES[0])
    held = load_file(folder / "text_encoder" / FILES[0])
    index = {"metadata": {}, "weight_map": dict.fromkeys(held, FILES[0])}
    (folder / "text_encoder" / "model.safetensors.index.json").write_text(json.dumps(index))
    expected = [
        f"{part} is not loaded: it is none of the files of the model itself"
        for part in (f"text_encoder/{FILES[0]}", "transformer/diffusion_pytorch_model.safetensors")
    ]
    expected.append(f"vae/pytorch_lora_weights.safetensors {expected[0].partition(' ')[2]}")
    plan = planned("model=flux", "model.init=pretrained", f"model.repo={folder}")
    assert [change.why for change in plan.changes if change.key == "model.repo"] == expected


def test_the_plan_says_which_tensors_of_text_encoders_are_left_out(
    folders: Callable[[str], Path], planned: Callable[..., Plan], tmp_path: Path
) -> None:
    """T5's head and decoder, and CLIP's projection where the class has none; whatever is part of the encoder is not."""
    folder = tmp_path / "flux"
    shutil.copytree(folders("flux"), folder)
    added = {"text_encoder": ["text_projection.weight", "logit_scale"], "text_encoder_2": ["lm_head.weight"]}
    for name, tensors in added.items():
        (file,) = (folder / name).glob("*.safetensors")
        save_file({**load_file(file), **{tensor: torch.ones(2, 2) for tensor in tensors}}, file)
    plan = planned("model=flux", "model.init=pretrained", f"model.repo={folder}")
    assert [change.why for change in plan.changes if change.key == "model.repo"] == [
        "2 tensors of text_encoder left out, the first is logit_scale: no part of a CLIPTextModel",
        "1 tensor of text_encoder_2 left out, the first is lm_head.weight: no part of a T5EncoderModel",
    ]
    assert not [
        change
        for change in planned("model=flux", "model.init=pretrained", f"model.repo={folders('flux')}").changes
        if change.key == "model.repo"
    ]


def test_the_plan_says_of_a_class_that_a_configuration_names_in_vain(
    folders: Callable[[str], Path], planned: Callable[..., Plan], tmp_path: Path
) -> None:
    folder = tmp_path / "flux"
    shutil.copytree(folders("flux"), folder)
    file = folder / "scheduler" / "scheduler_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"_class_name": "Evil"}))
    plan = planned("model=flux", "model.init=pretrained", f"model.repo={folder}")
    assert [change.why for change in plan.changes if change.key == "model.repo"] == [
        "scheduler is a FlowMatchEulerDiscreteScheduler, as model_index.json says; scheduler_config.json says 'Evil'"
    ]

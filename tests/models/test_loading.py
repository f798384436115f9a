"""Loading pipelines from folders, packages and single files, and what the errors say."""

from __future__ import annotations

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.models.tiny_flux import generate_staged, tiny_config
from wavespeed_runner.config.schema import Guidance, Init
from wavespeed_runner.errors import ConfigError, RunError
from wavespeed_runner.models.families.flux import FLUX
from wavespeed_runner.models.weights.hub import explain_loading_error, explain_loading_errors
from wavespeed_runner.models.weights.pretrained import load

TRANSFORMER = "transformer/diffusion_pytorch_model.safetensors"


def test_a_saved_model_comes_back_from_its_folder(tiny_pipes, tiny_folder):
    config = tiny_config(init=Init.pretrained, repo=str(tiny_folder))
    before = torch.get_rng_state()
    pipe = load(FLUX, config, "cpu")
    assert torch.equal(before, torch.get_rng_state())
    assert np.array_equal(generate_staged(pipe, config), generate_staged(*tiny_pipes[Guidance.embedded]))


def test_pkg_address(tiny_folder, monkeypatch):
    (tiny_folder.parent / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tiny_folder.parent.parent))
    config = tiny_config(init=Init.pretrained, repo=f"pkg://{tiny_folder.parent.name}/flux")
    assert load(FLUX, config, "cpu").transformer.config.num_layers == 2


def test_single_file_with_its_other_components(tiny_pipes, tiny_folder):
    file = tiny_folder / TRANSFORMER
    config = tiny_config(init=Init.pretrained, repo=str(file), components=str(tiny_folder))
    assert np.array_equal(
        generate_staged(load(FLUX, config, "cpu"), config), generate_staged(*tiny_pipes[Guidance.embedded])
    )


def remove_weight(folder, file, weight):
    """Removes one weight from a file of a saved model."""
    state = load_file(folder / file)
    del state[weight]
    save_file(state, folder / file, metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("file", "weight"),
    [
        (TRANSFORMER, "proj_out.weight"),
        ("vae/diffusion_pytorch_model.safetensors", "decoder.conv_out.weight"),
        ("text_encoder_2/model.safetensors", "encoder.final_layer_norm.weight"),
    ],
)
def test_missing_weights_are_not_made_up(tiny_folder, tmp_path, file, weight):
    shutil.copytree(tiny_folder, tmp_path / "flux")
    remove_weight(tmp_path / "flux", file, weight)
    config = tiny_config(init=Init.pretrained, repo=str(tmp_path / "flux"))
    with pytest.raises(RunError, match=rf"model\.repo=.*'{file.split('/')[0]}' is incomplete, 1 .* {weight}"):
        load(FLUX, config, "cpu")


def test_a_model_is_compared_with_its_weights_before_it_is_loaded(tiny_folder, tmp_path):
    shutil.copytree(tiny_folder, tmp_path / "flux")
    config = json.loads((tmp_path / "flux/text_encoder/config.json").read_text())
    config |= {"hidden_size": 8192, "intermediate_size": 65536}
    (tmp_path / "flux/text_encoder/config.json").write_text(json.dumps(config))
    model = tiny_config(init=Init.pretrained, repo=str(tmp_path / "flux"))
    with pytest.raises(ConfigError, match=r"^model\.repo=.*: component 'text_encoder' .*asks for \d+ weights"):
        load(FLUX, model, "cpu")


def test_what_cannot_be_loaded_is_named_by_its_component(tiny_folder, tmp_path):
    shutil.copytree(tiny_folder, tmp_path / "flux")
    for name, change in (("vae", {"block_out_channels": 3}), ("text_encoder", {"num_attention_heads": 7})):
        file = tmp_path / "flux" / name / "config.json"
        before = file.read_text()
        file.write_text(json.dumps(json.loads(before) | change))
        model = tiny_config(init=Init.pretrained, repo=str(tmp_path / "flux"))
        with pytest.raises(
            ConfigError, match=rf"^model\.repo=.*: component '{name}' \(\w+, {name}/\*\.json\) cannot be built"
        ):
            load(FLUX, model, "cpu")
        file.write_text(before)


def test_a_panic_in_rust_is_a_loading_error():
    class PanicException(BaseException):
        pass

    with pytest.raises(RunError, match=r"^model\.repo=a/b: cannot be loaded: a regex"), explain_loading_errors("a/b"):
        raise PanicException("a regex")
    with pytest.raises(KeyboardInterrupt), explain_loading_errors("a/b"):
        raise KeyboardInterrupt


def test_guidance_that_does_not_fit_the_weights(tiny_folder):
    config = tiny_config(Guidance.true_cfg, init=Init.pretrained, repo=str(tiny_folder))
    with pytest.raises(RunError, match=r"model\.guidance=true_cfg: does not fit .* use embedded"):
        load(FLUX, config, "cpu")


@pytest.mark.parametrize("single_file", [False, True])
def test_no_network_fails_at_once_and_says_so(single_file, tiny_folder, monkeypatch, tmp_path):
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    file = tiny_folder / TRANSFORMER
    config = tiny_config(init=Init.pretrained, repo=str(file) if single_file else "nobody/nothing")
    key = "model.components=black-forest-labs/FLUX.1-dev" if single_file else "model.repo=nobody/nothing"
    with pytest.raises(RunError, match=r"cannot be reached.*local folder.*model\.init=tiny") as caught:
        load(FLUX, config, "cpu")
    assert key in str(caught.value) and "\n" not in str(caught.value)


def hub_error(kind, status):
    import huggingface_hub.errors

    response = SimpleNamespace(status_code=status, headers={}, request=None)
    return getattr(huggingface_hub.errors, kind)("from\nthe hub", response=response)


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (lambda: hub_error("GatedRepoError", 403), "accept the licence at https://huggingface.co/a/b .*hf auth login"),
        (lambda: hub_error("RepositoryNotFoundError", 401), "no such repository, or it is private"),
        (lambda: hub_error("RevisionNotFoundError", 404), r"revision v9.*no such revision"),
        (lambda: ConnectionError("down"), "cannot be reached"),
        (lambda: ValueError("odd\nthing"), "cannot be loaded: odd thing"),
    ],
)
def test_loading_errors_are_one_line_with_a_way_out(error, says):
    wrapped = OSError("could not load")
    wrapped.__cause__ = error()
    for raised in (error(), wrapped):
        text = str(explain_loading_error(raised, "a/b", "v9"))
        assert text.startswith("model.repo=a/b") and "model.init=tiny" in text and "\n" not in text
    with pytest.raises(RunError, match=says), explain_loading_errors("a/b", "v9"):
        raise error()


def test_lack_of_memory_is_not_called_a_loading_error():
    with pytest.raises(torch.OutOfMemoryError), explain_loading_errors("a/b"):
        raise torch.OutOfMemoryError("CUDA out of memory")

"""`model.vae`: an autoencoder of one's own in the place of the model's, compared with diffusers' own pipeline."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from tests.models import original_layout
from tests.models.staged import run_stages
from tests.models.tiny_families import tiny
from wavespeed_runner.artifacts import Sample
from wavespeed_runner.config.schema import Init
from wavespeed_runner.errors import ConfigError, RunError
from wavespeed_runner.models.weights.hub import fetch_component
from wavespeed_runner.models.weights.pretrained import load
from wavespeed_runner.planning.plan import Plan

Planned = Callable[..., Plan]
SAMPLE = Sample(prompt="a red circle", seed=3)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Stable Diffusion as diffusers saves it."""
    folder = tmp_path_factory.mktemp("sd15")
    tiny("sd15")[2].save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def vae(model: Path) -> Any:
    """A fine-tune of its autoencoder."""
    from diffusers import AutoencoderKL

    tuned = AutoencoderKL.from_pretrained(model / "vae")
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in tuned.parameters():
            weight.add_(0.1 * torch.randn(weight.shape, generator=generator))
    return tuned


@pytest.fixture(scope="module")
def places(model: Path, vae: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Where the fine-tune lies, in every form that may be given."""
    home = tmp_path_factory.mktemp("vae")
    vae.save_pretrained(home / "alone")
    shutil.copytree(model, home / "whole")
    shutil.rmtree(home / "whole" / "vae")
    vae.save_pretrained(home / "whole" / "vae")
    state = {name: weight.contiguous() for name, weight in vae.state_dict().items()}
    save_file(state, home / "diffusers.safetensors")
    original = {name: weight.contiguous() for name, weight in original_layout.vae(vae).items()}
    save_file(original, home / "original.safetensors")
    unet = original_layout.unet(tiny("sd15")[2].unet)
    whole = {f"first_stage_model.{name}": weight for name, weight in original.items()}
    whole |= {f"model.diffusion_model.{name}": weight.contiguous() for name, weight in unet.items()}
    save_file(whole, home / "whole.safetensors")
    return {
        "alone": home / "alone",
        "whole": home / "whole",
        **{name: home / f"{name}.safetensors" for name in ("diffusers", "original")},
        "whole file": home / "whole.safetensors",
    }


def load_with(vae: Path | str, repo: Path, **more: Any) -> Any:
    family, config, _ = tiny("sd15")
    return load(family, replace(config, init=Init.pretrained, repo=str(repo), vae=str(vae), **more), "cpu")


@pytest.mark.parametrize("place", ["alone", "whole", "diffusers", "original", "whole file"])
def test_it_takes_the_place_of_the_models_own(place: str, model: Path, vae: Any, places: dict[str, Path]) -> None:
    from diffusers import StableDiffusionPipeline

    family, config, _ = tiny("sd15")
    ours = load_with(places[place], model)
    image = run_stages(family, ours, config, SAMPLE, width=64, height=64, steps=1)
    theirs = StableDiffusionPipeline.from_pretrained(model, vae=vae, safety_checker=None, feature_extractor=None)
    expected = run_stages(family, theirs, config, SAMPLE, width=64, height=64, steps=1)
    # To one level: weights of a file begin elsewhere in memory, and products of matrices round by that.
    assert np.abs(image.astype(int) - expected.astype(int)).max() <= 1
    plain = run_stages(family, tiny("sd15")[2], config, SAMPLE, width=64, height=64, steps=1)
    assert np.abs(image.astype(int) - plain.astype(int)).max() > 5


def test_it_goes_before_that_of_a_single_file(model: Path, vae: Any, places: dict[str, Path], tmp_path: Path) -> None:
    state = {name: weight.contiguous() for name, weight in original_layout.build_state_dict(tiny("sd15")[2]).items()}
    save_file(state, tmp_path / "whole.safetensors")
    loaded = load_with(places["alone"], tmp_path / "whole.safetensors", components=str(model)).vae.state_dict()
    assert all(torch.equal(loaded[name], weight) for name, weight in vae.state_dict().items())


def change_config(folder: Path, copied: Path, **change: Any) -> Path:
    shutil.copytree(folder, copied)
    config = json.loads((copied / "config.json").read_text()) | change
    (copied / "config.json").write_text(json.dumps(config))
    return copied


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            {"_class_name": "AutoencoderTiny"},
            r"AutoencoderTiny, and model\.repo=.* AutoencoderKL; .*accelerate\.tiny_vae",
        ),
        (
            {"scaling_factor": 0.5},
            r"scaling_factor is 0\.5, and in model\.repo=\S+ 0\.18215: it was made for other latents",
        ),
        ({"latent_channels": 16}, r"latent_channels is 16, and in model\.repo=\S+ 4"),
    ],
)
def test_one_of_another_model_is_refused(
    change: dict[str, Any], says: str, model: Path, places: dict[str, Path], tmp_path: Path
) -> None:
    with pytest.raises(RunError, match=rf"^model\.vae=\S+: .*{says}"):
        load_with(change_config(places["alone"], tmp_path / "vae", **change), model)


def without_key(folder: Path, key: str) -> Path:
    config = json.loads((folder / "config.json").read_text())
    del config[key]
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_an_absent_key_is_what_the_class_takes_for_granted(
    model: Path, places: dict[str, Path], tmp_path: Path
) -> None:
    """Autoencoders of 2022 do not say their scaling factor, which is 0.18215."""
    vae = without_key(shutil.copytree(places["alone"], tmp_path / "vae"), "scaling_factor")
    assert load_with(vae, model).vae.config.scaling_factor == 0.18215
    copied = shutil.copytree(model, tmp_path / "model")
    shutil.rmtree(copied / "vae")
    change_config(model / "vae", copied / "vae", scaling_factor=0.13025)
    with pytest.raises(RunError, match=r"^model\.vae=\S+: scaling_factor is 0\.18215, and in model\.repo=\S+ 0\.13025"):
        load_with(vae, copied)


def test_variants_of_weights(model: Path, vae: Any, tmp_path: Path, planned: Planned) -> None:
    given = ["model=sd15", "model.init=pretrained", "model.dtype=float32", f"model.repo={model}"]
    vae.save_pretrained(tmp_path, variant="fp16")
    assert [file.name for file in tmp_path.glob("*.safetensors")] == ["diffusion_pytorch_model.fp16.safetensors"]
    planned(*given, f"model.vae={tmp_path}")
    loaded = load_with(tmp_path, model).vae.state_dict()
    assert all(torch.equal(loaded[name], weight) for name, weight in vae.state_dict().items())
    vae.save_pretrained(tmp_path, variant="bf16")
    says = r"^model\.vae=\S+: it holds only the variants bf16, fp16; choose one with model\.weights"
    with pytest.raises(ConfigError, match=says):
        planned(*given, f"model.vae={tmp_path}")
    tiny("sd15")[2].vae.save_pretrained(tmp_path)
    plain = load_with(tmp_path, model).vae.state_dict()
    assert not all(torch.equal(plain[name], weight) for name, weight in vae.state_dict().items())


def test_what_the_model_says_of_a_file_is_tried_first(model: Path, places: dict[str, Path], tmp_path: Path) -> None:
    """A single file is built as the model's folder says, which may be a stranger's."""
    copied = shutil.copytree(model, tmp_path / "model")
    shutil.rmtree(copied / "vae")
    change_config(model / "vae", copied / "vae", layers_per_block=1000)
    with pytest.raises(ConfigError, match=r"^model\.repo=\S+: component 'vae' \(AutoencoderKL, .*cannot be built: "):
        load_with(places["original"], copied)


def test_a_file_that_lacks_a_weight_is_refused(model: Path, vae: Any, tmp_path: Path) -> None:
    state = {name: weight for name, weight in vae.state_dict().items() if not name.startswith("encoder.")}
    save_file(state, tmp_path / "decoder.safetensors")
    with pytest.raises(RunError, match=r"^model\.vae=\S+decoder\.safetensors: 'vae' is incomplete, .* encoder\."):
        load_with(tmp_path / "decoder.safetensors", model)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda folder: folder / "nothing.safetensors", "no such file or folder"),
        (lambda folder: folder, r"it has no vae/config\.json or config\.json; allowed: a hub id"),
        (lambda folder: (folder / "x.ckpt").touch() or folder / "x.ckpt", "weights in pickle files are refused"),
        (lambda folder: (folder / "x.gguf").touch() or folder / "x.gguf", "autoencoders are not read from GGUF"),
        (
            lambda folder: (folder / "config.json").write_text('{"_class_name": "UNet2DConditionModel"}') and folder,
            "holds a UNet2DConditionModel, which is no autoencoder",
        ),
        (
            lambda folder: (folder / "config.json").write_text('{"_class_name": "AutoencoderKL"}') and folder,
            r"it has no \.safetensors file",
        ),
    ],
)
def test_the_plan_refuses_what_is_no_autoencoder(
    make: Callable[[Path], Path], says: str, model: Path, tmp_path: Path, planned: Planned
) -> None:
    given = ["model=sd15", "model.init=pretrained", "model.dtype=float32", f"model.repo={model}"]
    with pytest.raises(ConfigError, match=rf"^model\.vae=\S+: .*{says}"):
        planned(*given, f"model.vae={make(tmp_path)}")


def test_it_is_part_of_what_the_model_is(model: Path, places: dict[str, Path], planned: Planned) -> None:
    given = ["model=sd15", "model.init=pretrained", "model.dtype=float32", f"model.repo={model}", "measure=none"]
    plain, own = planned(*given), planned(*given, f"model.vae={places['alone']}")
    copied = shutil.copytree(places["alone"], places["alone"].parent / "copied", dirs_exist_ok=True)
    assert plain.fingerprint != own.fingerprint
    assert planned(*given, f"model.vae={copied}").fingerprint == own.fingerprint


def test_from_the_hub_only_the_autoencoder_is_fetched(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import huggingface_hub
    from huggingface_hub.utils import filter_repo_objects

    files = [
        "config.json",
        "diffusion_pytorch_model.safetensors",
        "diffusion_pytorch_model.bin",
        "sdxl_vae.safetensors",
    ]
    files += [f"{part}/{name}" for part in ("vae", "unet") for name in files[:3]]
    wanted: list[str] = []

    def download(repo: str, *, allow_patterns: list[str], **_: Any) -> str:
        wanted.extend(filter_repo_objects(files, allow_patterns=allow_patterns))
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    monkeypatch.setattr("wavespeed_runner.models.weights.hub.must_use_cache", lambda repo, folder: True)
    assert fetch_component("a/b", None, "vae") == tmp_path
    assert wanted == [*files[:2], "vae/config.json", "vae/diffusion_pytorch_model.safetensors"]

"""encode, denoise and decode against one call of diffusers' own pipeline; loading, and what it says on failure."""

from __future__ import annotations

import logging
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import load_file, save_file

from tests.models import staged as steps
from tests.models.tiny_flux import SAMPLE, SCALES, tiny_config
from wavespeed_runner.artifacts import Sample
from wavespeed_runner.config.paths import CONF
from wavespeed_runner.config.schema import Dtype, Guidance, Init
from wavespeed_runner.errors import ConfigError, RunError
from wavespeed_runner.models.families import flux
from wavespeed_runner.models.families.flux import FLUX, TINY, FluxConfig, encode
from wavespeed_runner.models.weights.hub import explain_loading_error, explain_loading_errors
from wavespeed_runner.models.weights.pretrained import load

TRANSFORMER = "transformer/diffusion_pytorch_model.safetensors"


def staged(pipe, config, seed=3, on_step=lambda: None, size=64):
    """The image by our three steps."""
    sample = Sample(prompt=SAMPLE.prompt, negative_prompt=SAMPLE.negative_prompt, seed=seed)
    return steps.staged(FLUX, pipe, config, sample, on_step=on_step, width=size, height=size)


def whole(pipe, config, **guidance):
    """The image by one call of the pipeline."""
    call = {"num_inference_steps": config.steps, "max_sequence_length": config.max_sequence_length, **guidance}
    generator = torch.Generator().manual_seed(3)
    images = pipe(SAMPLE.prompt, width=64, height=64, generator=generator, **call).images
    return np.stack([np.asarray(image) for image in images])


CALLS = {
    Guidance.embedded: {"guidance_scale": 3.5},
    Guidance.true_cfg: {"true_cfg_scale": 2.0, "negative_prompt": SAMPLE.negative_prompt},
    Guidance.none: {},
}


@pytest.mark.parametrize("guidance", list(Guidance))
def test_three_steps_are_the_pipeline_bit_for_bit(tiny_pipes, guidance):
    pipe, config = tiny_pipes[guidance]
    ours = staged(pipe, config)
    assert ours.dtype == np.uint8 and ours.shape == (1, 64, 64, 3) and ours.std() > 5
    assert np.array_equal(ours, whole(pipe, config, **CALLS[guidance]))


def test_guidance_scale_of_one_is_off(tiny_pipes):
    pipe, _ = tiny_pipes[Guidance.true_cfg]
    config = tiny_config(Guidance.true_cfg, guidance_scale=1.0)
    assert set(encode(pipe, config, SAMPLE, 1.0)) == {"prompt_embeds", "pooled_prompt_embeds"}
    assert np.array_equal(staged(pipe, config), whole(pipe, config))
    assert not np.array_equal(staged(pipe, config), staged(*tiny_pipes[Guidance.true_cfg]))


def test_bit_equal_in_bfloat16():
    config = tiny_config(dtype=Dtype.bfloat16)
    pipe = load(FLUX, config, "cpu")
    assert {p.dtype for m in (pipe.transformer, pipe.vae, pipe.text_encoder_2) for p in m.parameters()} == {
        torch.bfloat16
    }
    assert np.array_equal(staged(pipe, config), whole(pipe, config, guidance_scale=3.5))


def test_every_step_is_told(tiny_pipes):
    seen = []
    pipe, config = tiny_pipes[Guidance.embedded]
    staged(pipe, config, on_step=lambda: seen.append(1))
    assert len(seen) == 3


@pytest.fixture(scope="module")
def demo_like(tiny_pipes):
    """The tiny model with the VAE class of the demo, whose factor is 4."""
    from diffusers import AutoencoderTiny, FluxPipeline

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        vae = AutoencoderTiny(
            encoder_block_out_channels=(8, 8, 8),
            decoder_block_out_channels=(8, 8, 8),
            num_encoder_blocks=(1, 1, 1),
            num_decoder_blocks=(1, 1, 1),
            latent_channels=16,
            scaling_factor=1.5,
            shift_factor=0.1,
        ).eval()
    pipe, config = tiny_pipes[Guidance.true_cfg]
    return FluxPipeline(**{**pipe.components, "vae": vae, "image_encoder": None, "feature_extractor": None}), config


def test_a_vae_of_the_demo_kind(demo_like):
    pipe, config = demo_like
    assert np.array_equal(staged(pipe, config), whole(pipe, config, **CALLS[Guidance.true_cfg]))


def test_loading_the_demo_kind_warns_about_nothing(demo_like, tmp_path):
    pipe, _ = demo_like
    pipe.save_pretrained(tmp_path)
    records: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = records.append  # type: ignore[method-assign]
    logging.getLogger("diffusers").addHandler(handler)
    try:
        load(FLUX, tiny_config(Guidance.true_cfg, init=Init.pretrained, repo=str(tmp_path)), "cpu")
    finally:
        logging.getLogger("diffusers").removeHandler(handler)
    assert [record.getMessage() for record in records if record.levelno >= logging.WARNING] == []


def test_tiny_has_the_same_bits_every_time_and_leaves_the_global_state(tiny_pipes):
    torch.manual_seed(123)
    before = torch.get_rng_state()
    again = load(FLUX, tiny_config(), "cpu")
    staged(again, tiny_config())
    assert torch.equal(before, torch.get_rng_state())
    for name in ("transformer", "vae", "text_encoder", "text_encoder_2"):
        first = getattr(tiny_pipes[Guidance.embedded][0], name).state_dict()
        second = getattr(again, name).state_dict()
        assert all(torch.equal(first[key], second[key]) for key in first), name


def test_prompt_and_seed_matter(tiny_pipes):
    pipe, config = tiny_pipes[Guidance.embedded]
    texts = ["a red circle", "a blue circle", "ein grüner Kreis", ""]
    for tokenizer in (pipe.tokenizer, pipe.tokenizer_2):
        assert len({tuple(tokenizer(text).input_ids) for text in texts}) == len(texts)
    samples = [SimpleNamespace(prompt=text, negative_prompt="") for text in texts[:2]]
    one, two = (encode(pipe, config, sample, 3.5) for sample in samples)
    assert all(not torch.equal(one[key], two[key]) for key in one)
    assert not np.array_equal(staged(pipe, config, seed=3), staged(pipe, config, seed=4))


def test_full_size_has_the_published_parameter_counts():
    pipe = FLUX.build(tiny_config(init=Init.random), torch.bfloat16, "meta")
    parts = (pipe.transformer, pipe.vae, pipe.text_encoder, pipe.text_encoder_2)
    counts = [sum(parameter.numel() for parameter in part.parameters()) for part in parts]
    assert counts == [11_901_408_320, 83_819_683, 123_060_480, 4_762_310_656]
    assert all(parameter.is_meta for part in parts for parameter in part.parameters())
    assert pipe.vae_scale_factor == 8 and pipe.tokenizer_max_length == 77


def test_random_takes_the_path_of_tiny(monkeypatch, tiny_pipes):
    monkeypatch.setattr(flux, "FULL", TINY)
    config = tiny_config(init=Init.random)
    assert np.array_equal(staged(load(FLUX, config, "cpu"), config), staged(*tiny_pipes[Guidance.embedded]))


def test_tiny_keeps_what_sizes_mean(tiny_pipes):
    pipe, _ = tiny_pipes[Guidance.embedded]
    assert pipe.vae_scale_factor == 8 and pipe.transformer.config.in_channels == 64
    assert not tiny_pipes[Guidance.none][0].scheduler.config.use_dynamic_shifting
    for blocks in FLUX.blocks.lists:
        assert len(getattr(pipe.transformer, blocks.name)) >= 2


def test_a_saved_model_comes_back_from_its_folder(tiny_pipes, tiny_folder):
    config = tiny_config(init=Init.pretrained, repo=str(tiny_folder))
    before = torch.get_rng_state()
    pipe = load(FLUX, config, "cpu")
    assert torch.equal(before, torch.get_rng_state())
    assert np.array_equal(staged(pipe, config), staged(*tiny_pipes[Guidance.embedded]))


def test_pkg_address(tiny_folder, monkeypatch):
    (tiny_folder.parent / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tiny_folder.parent.parent))
    config = tiny_config(init=Init.pretrained, repo=f"pkg://{tiny_folder.parent.name}/flux")
    assert load(FLUX, config, "cpu").transformer.config.num_layers == 2


def test_single_file_with_its_other_components(tiny_pipes, tiny_folder):
    file = tiny_folder / TRANSFORMER
    config = tiny_config(init=Init.pretrained, repo=str(file), components=str(tiny_folder))
    assert np.array_equal(staged(load(FLUX, config, "cpu"), config), staged(*tiny_pipes[Guidance.embedded]))


def without(folder, file, weight):
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
    without(tmp_path / "flux", file, weight)
    config = tiny_config(init=Init.pretrained, repo=str(tmp_path / "flux"))
    with pytest.raises(RunError, match=rf"model\.repo=.*'{file.split('/')[0]}' is incomplete, 1 .* {weight}"):
        load(FLUX, config, "cpu")


def test_single_file_of_something_else(tiny_folder, tmp_path):
    shutil.copy(tiny_folder / TRANSFORMER, tmp_path / "half.safetensors")
    without(tmp_path, "half.safetensors", "proj_out.weight")
    config = tiny_config(init=Init.pretrained, repo=str(tmp_path / "half.safetensors"), components=str(tiny_folder))
    with pytest.raises(RunError, match=r"half\.safetensors: cannot be loaded.*complete and of this family"):
        load(FLUX, config, "cpu")


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


@pytest.mark.parametrize("name", ["demo", "flux"])
def test_shipped_yaml_fits_the_dataclass(name):
    given = OmegaConf.load(CONF / "model" / f"{name}.yaml")
    assert given.pop("defaults") == ["/schema/model/flux@_here_", "_self_"]
    config = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(FluxConfig), given))
    assert (isinstance(config, FluxConfig) and config.guidance_scale in SCALES.values()) or name == "demo"


def test_values_that_cannot_work_are_refused_when_typed():
    for wrong in ({"max_sequence_length": 513}, {"guidance_scale": None}):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            tiny_config(**wrong)
        given = {"repo": "a/b", "steps": 1, "width": 64, "height": 64, "guidance_scale": 3.5, **wrong}
        with pytest.raises(ConfigError):
            OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(FluxConfig), given))


def test_a_prompt_that_would_be_cut_is_refused():
    demo = FluxConfig(
        repo="pkg://wavespeed_runner/weights/demo",
        guidance=Guidance.true_cfg,
        max_sequence_length=20,
        steps=28,
        width=64,
        height=64,
    )
    pipe = load(FLUX, demo, "cpu")
    encode(pipe, demo, Sample(prompt=" ".join(["red"] * 19)), 1.0)
    with pytest.raises(RunError, match=r"has 21 tokens, model\.max_sequence_length=20"):
        encode(pipe, demo, Sample(prompt=" ".join(["red"] * 20)), 1.0)

"""Components are built on trial: whatever their configurations multiply, allocate or break is refused in one line."""

from __future__ import annotations

import base64
import json
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from wavespeed_runner.errors import ConfigError
from wavespeed_runner.models.weights import trial
from wavespeed_runner.models.weights.byte_tokenizer import build_clip_tokenizer
from wavespeed_runner.models.weights.trial import Candidate, refuse_unbuildable
from wavespeed_runner.process.bounded_call import BoundedCallError, call_bounded


def build(folder: Path, library: str, class_name: str, config: Any = None, name: str = "config.json") -> None:
    """Tries one component, with a file of few weights beside its configuration."""
    save_file({"a": torch.zeros(2)}, folder / "model.safetensors", metadata={"format": "pt"})
    if config is not None:
        (folder / name).write_text(json.dumps(config))
    refuse_unbuildable("model.repo=x", [Candidate(name="part", library=library, class_name=class_name, folder=folder)])


MANY: dict[str, tuple[str, dict[str, Any]]] = {
    "blocks of a tiny autoencoder": ("AutoencoderTiny", {"num_encoder_blocks": [1000] * 1000}),
    "layers of each block": (
        "UNet2DConditionModel",
        {
            "block_out_channels": [32] * 900, "layers_per_block": 1000, "attention_head_dim": 8,
            "down_block_types": ["CrossAttnDownBlock2D"] * 900, "up_block_types": ["CrossAttnUpBlock2D"] * 900,
        },
    ),
    "transformers of each layer": ("UNet2DConditionModel", {"transformer_layers_per_block": 1000}),
    "positions of Qwen-Image": ("QwenImageTransformer2DModel", {"axes_dims_rope": [2**20, 2**20, 2**20]}),
    "positions of Lumina": ("Lumina2Transformer2DModel", {"axes_lens": [2**30, 2**20, 2**20], "num_layers": 1}),
    "positions of PixArt": ("PixArtTransformer2DModel", {"sample_size": 2**20, "num_layers": 1}),
    "positions of Stable Diffusion 3": ("SD3Transformer2DModel", {"pos_embed_max_size": 2**20, "num_layers": 1}),
    "weights": ("FluxTransformer2DModel", {"num_layers": 1, "num_single_layers": 1, "joint_attention_dim": 2**31}),
}  # fmt: skip


@pytest.mark.parametrize("name", MANY)
def test_what_a_model_multiplies_is_bounded(tmp_path: Path, name: str) -> None:
    class_name, config = MANY[name]
    start = time.monotonic()
    with pytest.raises(ConfigError, match=rf"^model\.repo=x: component 'part' \({class_name}, .*cannot be built: .+"):
        build(tmp_path, "diffusers", class_name, config)
    assert time.monotonic() - start < 30


@pytest.mark.parametrize("class_name", ["CLIPTextModel", "T5EncoderModel"])
def test_a_configuration_asks_for_no_more_than_the_weights_beside_it(tmp_path: Path, class_name: str) -> None:
    """An empty one is a whole published model: transformers would fill it with random numbers."""
    with pytest.raises(ConfigError, match=r"config\.json asks for \d+ weights"):
        build(tmp_path, "transformers", class_name, {})


NEO = {"hidden_size": 4, "num_heads": 2, "num_layers": 1, "attention_types": [[["global"], 1]], "vocab_size": 9}


def test_weights_of_another_shape_are_refused(tmp_path: Path) -> None:
    save_file({"wte.weight": torch.zeros(9, 4)}, tmp_path / "weights.safetensors", metadata={"format": "pt"})
    build(tmp_path, "transformers", "GPTNeoModel", NEO)
    with pytest.raises(
        ConfigError, match=r"wte\.weight has the shape \[9, 4\] in weights\.safetensors, and here \[9, 8\]"
    ):
        build(tmp_path, "transformers", "GPTNeoModel", NEO | {"hidden_size": 8})


def test_buffers_of_transformers_are_counted_too(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"asks for tables \(the last is \w+\)"):
        build(tmp_path, "transformers", "GPTNeoModel", NEO | {"max_position_embeddings": 2**17})


@pytest.mark.parametrize(
    ("library", "class_name"),
    [
        ("diffusers", "OnnxRuntimeModel"), ("diffusers", "NoSuchModel"), ("transformers", "NoSuchTokenizer"),
        ("diffusers", "AttentionMixin"), ("diffusers", "DiffusionPipeline"), ("transformers", "CLIPModelOutput"),
    ],
)  # fmt: skip
def test_what_is_no_component_is_refused(tmp_path: Path, library: str, class_name: str) -> None:
    with pytest.raises(ConfigError, match=r"^model\.repo=x: component 'part' .*cannot be built: "):
        build(tmp_path, library, class_name, {})


def test_wrong_values_of_a_scheduler_are_refused(tmp_path: Path) -> None:
    build(tmp_path, "diffusers", "DDIMScheduler", {"beta_start": 0.1}, "scheduler_config.json")
    for config in ({"beta_schedule": "evil"}, {"beta_start": "evil"}, {"num_train_timesteps": -3}):
        with pytest.raises(ConfigError, match=r"component 'part' \(DDIMScheduler"):
            build(tmp_path, "diffusers", "DDIMScheduler", config, "scheduler_config.json")


def save_tokenizer(folder: Path, **parts: Any) -> None:
    build_clip_tokenizer().save_pretrained(folder)
    file = folder / "tokenizer.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | parts))


def test_a_tokenizer_that_knows_no_words_is_refused(tmp_path: Path) -> None:
    """Without a vocabulary transformers makes one of marks alone; of foreign words, all that is typed is unknown."""
    save_tokenizer(tmp_path)
    says = "knows no word or letter of English, so it would make the same of different prompts"
    data = json.loads((tmp_path / "tokenizer.json").read_text())
    marks = {"<|startoftext|>": 0, "<|endoftext|>": 1}
    foreign = marks | {chr(0x6771 + n): n for n in range(2, 200)}
    model = data["model"] | {"vocab": foreign, "unk_token": "<|endoftext|>"}
    (tmp_path / "tokenizer.json").write_text(json.dumps(data | {"model": model, "pre_tokenizer": None}))
    with pytest.raises(ConfigError, match=says):
        build(tmp_path, "transformers", "PreTrainedTokenizerFast")
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(ConfigError, match=says):
        build(tmp_path, "transformers", "CLIPTokenizer")


def test_a_text_encoder_that_finds_no_end_is_refused(tmp_path: Path) -> None:
    """Both in a pipeline's folders: these tokenizers end with 1, and the largest number is that of a letter."""
    tokenizer, encoder = tmp_path / "tokenizer_2", tmp_path / "text_encoder_2"
    tokenizer.mkdir()
    encoder.mkdir()
    save_tokenizer(tokenizer)
    for end, is_seen in ((1, True), (5, False), (2, False), (0, False)):
        (encoder / "config.json").write_text(json.dumps({"model_type": "clip_text_model", "eos_token_id": end}))
        trial._passed.clear()
        if is_seen:
            build(tokenizer, "transformers", "PreTrainedTokenizerFast")
            continue
        with pytest.raises(
            ConfigError, match=rf"eos_token_id = {end} of text_encoder_2/config.json is not how .* \(1\)"
        ):
            build(tokenizer, "transformers", "PreTrainedTokenizerFast")


PANIC = {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(b"\xff\0\0\0" + b"\xff" * 300).decode()}


def test_a_panic_says_one_line_and_nothing_else(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    save_tokenizer(tmp_path)
    build(tmp_path, "transformers", "CLIPTokenizer")
    save_tokenizer(tmp_path, normalizer=PANIC)
    with pytest.raises(ConfigError, match=r"component 'part' \(PreTrainedTokenizerFast"):
        build(tmp_path, "transformers", "PreTrainedTokenizerFast")
    assert capfd.readouterr() == ("", "")


NO_TEXT = {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "a", "type_id": 0}}], "pair": []}


@pytest.mark.parametrize("length", [1, 2])
def test_a_tokenizer_has_to_read_the_text(length: int, tmp_path: Path) -> None:
    """A length of 2 is the tokens around the text."""
    save_tokenizer(tmp_path)
    file = tmp_path / "tokenizer_config.json"
    config = json.loads(file.read_text())
    file.write_text(json.dumps(config | {"model_max_length": length}))
    with pytest.raises(ConfigError, match=rf"model_max_length = {length} leaves no token of a text beside 2 around it"):
        build(tmp_path, "transformers", "PreTrainedTokenizerFast")
    file.write_text(json.dumps(config))
    special = {"a": {"id": "a", "ids": [3], "tokens": ["a"]}}
    save_tokenizer(tmp_path, post_processor=NO_TEXT | {"special_tokens": special})
    with pytest.raises(ConfigError, match="makes the same tokens of a text as of none, so prompts would be dropped"):
        build(tmp_path, "transformers", "PreTrainedTokenizerFast")


def test_an_image_processor_makes_no_image_of_gigabytes(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    usual = {"size": {"shortest_edge": 336}, "crop_size": {"height": 336, "width": 336}}
    build(tmp_path, "transformers", "CLIPImageProcessor", usual, "preprocessor_config.json")
    for change in ({"size": {"shortest_edge": 60_000}}, {"crop_size": {"height": 60_000, "width": 60_000}}):
        with pytest.raises(ConfigError, match=r"component 'part' \(CLIPImageProcessor, .*cannot be built: "):
            build(tmp_path, "transformers", "CLIPImageProcessor", usual | change, "preprocessor_config.json")
    assert capfd.readouterr().out == ""


WAN_VAE = {"base_dim": 8, "z_dim": 16, "num_res_blocks": 1}


@pytest.mark.parametrize(
    ("class_name", "config", "change"),
    [
        ("AutoencoderKLWan", WAN_VAE, {"scale_factor_spatial": 1}),
        ("AutoencoderKLWan", WAN_VAE, {"scale_factor_temporal": 1}),
        ("AutoencoderTiny", {"num_decoder_blocks": [1] * 4}, {"upsampling_scaling_factor": 4}),
    ],
)
def test_a_vae_enlarges_latents_as_it_says(
    tmp_path: Path, class_name: str, config: dict[str, Any], change: dict[str, Any]
) -> None:
    """Otherwise an image of 512 x 512 would have latents as of another, and become 4096 x 4096."""
    build(tmp_path, "diffusers", class_name, config)
    with pytest.raises(ConfigError, match=r"it makes \d+ x \d+ pixels .*its configuration says"):
        build(tmp_path, "diffusers", class_name, config | change)


def test_what_passed_is_not_tried_again_until_a_file_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(trial, "call_bounded", lambda *args, **_: calls.append(args))
    for text, count in (("{}", 1), ("{}", 1), ('{"beta_start": 0.1}', 2)):
        if not (tmp_path / "a.json").exists() or (tmp_path / "a.json").read_text() != text:
            (tmp_path / "a.json").write_text(text)
        part = Candidate(name="a", library="diffusers", class_name="DDIMScheduler", folder=tmp_path)
        refuse_unbuildable("model.repo=x", [part])
        assert len(calls) == count


def test_the_time_of_all_components_together_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "SECONDS", 2.0)
    spent = iter([0.0, 0.5, 1.5])
    monkeypatch.setattr(trial, "_measure_children", lambda: next(spent))
    given: list[float] = []

    def call(function: Any, *_: Any, seconds: float, **__: Any) -> None:
        given.append(seconds)
        if function is trial.build_all:
            raise BoundedCallError("it takes more than 20 seconds")

    monkeypatch.setattr(trial, "call_bounded", call)
    with pytest.raises(ConfigError, match=r"^model\.repo=x: building its components takes more than 2 seconds$"):
        refuse_unbuildable("model.repo=x", schedulers(tmp_path, "ab"))
    assert given == [20.0, 1.5]


def schedulers(folder: Path, names: str) -> list[Candidate]:
    for name in names:
        (folder / name).mkdir(exist_ok=True)
    return [Candidate(name=n, library="diffusers", class_name="DDIMScheduler", folder=folder / n) for n in names]


def test_one_child_builds_them_all_and_of_several_the_wrong_one_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    functions: list[Any] = []

    def call(function: Any, *args: Any, **options: Any) -> Any:
        functions.append(function)
        return call_bounded(function, *args, **options)

    monkeypatch.setattr(trial, "call_bounded", call)
    parts = schedulers(tmp_path, "abc")
    for part in parts:
        (part.folder / "scheduler_config.json").write_text("{}")
    refuse_unbuildable("model.repo=x", parts)
    refuse_unbuildable("model.repo=x", parts)
    assert functions == [trial.build_all], "once"
    for name in "ab":
        (tmp_path / name / "scheduler_config.json").write_text('{"beta_start": "evil"}' if name == "b" else "{} ")
    with pytest.raises(
        ConfigError, match=r"^model\.repo=x: component 'b' \(DDIMScheduler, b/\*\.json\) cannot be built"
    ):
        refuse_unbuildable("model.repo=x", parts)
    assert functions[1:] == [trial.build_all, trial.build, trial.build]


def test_what_all_together_may_take_is_what_the_smallest_may(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[int] = []
    monkeypatch.setattr(trial, "call_bounded", lambda *_, memory_bytes, **__: given.append(memory_bytes))
    parts = schedulers(tmp_path, "abc")
    (parts[0].folder / "model.safetensors").write_bytes(bytes(500))
    (parts[2].folder / "model.safetensors").write_bytes(bytes(100))
    refuse_unbuildable("model.repo=x", parts[::2])
    assert given == [trial.MEMORY_BYTES + 2 * 100]


def test_an_installed_package_is_trusted(tmp_path: Path) -> None:
    part = Candidate(name="a", library="diffusers", class_name="NoSuchModel", folder=tmp_path)
    refuse_unbuildable("model.repo=pkg://package/folder", [part])
    with pytest.raises(ConfigError):
        refuse_unbuildable("model.repo=a=pkg://package/folder", [part])

"""What a configuration in a model folder may not hold: other places to load from, and numbers without bounds."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.models.test_folder_gate import make_folder
from wavespeed_runner.errors import ConfigError
from wavespeed_runner.models.weights.checkpoint import inspect_checkpoint
from wavespeed_runner.models.weights.config_gate import refuse_values
from wavespeed_runner.models.weights.folder_gate import check_component, check_folder

USUAL: dict[str, Any] = {
    "_name_or_path": "openai/clip-vit-large-patch14",
    "name_or_path": "/home/someone/model",
    "special_tokens_map_file": "/home/someone/special_tokens_map.json",
    "tokenizer_file": None,
    "fast_tokenizer_files": ["tokenizer.json"],
    "transformers_weights": "model.safetensors",
    "model_max_length": int(1e30),
    "max_position_embeddings": 10_485_760,
    "rope_theta": 1_000_000_000,
    "initial": float("inf"),
    "num_train_timesteps": 1000,
    "num_hidden_layers": 80,
    "vocab_size": 901_629,
    "backbone": "resnet50",
    "tokenizer_class": "Qwen2Tokenizer",
    "slow_tokenizer_class": ["LlamaTokenizer", None],
    "processor_class": "Qwen2_5_VLProcessor",
    "image_processor_type": "Qwen2VLImageProcessorFast",
    "feature_extractor_type": "CLIPFeatureExtractor",
    "axes_dims_rope": [16, 56, 56],
    "attention_head_dim": 128,
    "shift_factor": None,
    "scaling_factor": 0.3611,
    "max_shift": 1,
    "num_labels": 21_843,
    "upsampling_scaling_factor": 2,
    "downsample_padding": 1,
    "padding": "max_length",
    "mel_bins": 128,
    "max_resolution": [128, 128],
    "sample_rate": 16000,
    "mel_hop_length": 160,
    "upsample_rates": [8, 8, 2, 2],
    "added_tokens_decoder": {str(i): {"content": f"<{i}>"} for i in range(6500)},
    "transformer_layers_per_block": [1, [2, 10]],
    "layer_types": ["full_attention"] * 80,
    "down_block_types": ["DownBlock2D"] * 4,
    "_attn_implementation": {"text_config": "sdpa", "vision_config": None},
    "_attn_implementation_autoset": True,
    "experts_implementation": "grouped_mm",
    "cache_implementation": "hybrid",
    "disable_compile": True,
    "reference_compile": False,
    "conv_kernel": 3,
    "quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True},
}


def refuse(folder: Path, words: str) -> None:
    with pytest.raises(ConfigError, match=rf"^model\.repo=x: .*{re.escape(words)}"):
        check_folder("model.repo=x", folder)


@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json"])
def test_what_published_models_hold_passes(tmp_path: Path, file: str) -> None:
    folder = make_folder(tmp_path)
    (folder / "text_encoder" / file).write_text(json.dumps({**USUAL, "text_config": USUAL}))
    check_folder("model.repo=x", folder)


def test_an_adapter_that_names_another_model_is_refused(tmp_path: Path) -> None:
    folder = make_folder(tmp_path)
    adapter = {"peft_type": "LORA", "base_model_name_or_path": "/elsewhere/othermodel"}
    (folder / "text_encoder" / "adapter_config.json").write_text(json.dumps(adapter))
    refuse(folder, "text_encoder/adapter_config.json leads to another model")
    with pytest.raises(ConfigError, match=r"adapter_config\.json leads to another model"):
        check_component("model.text_encoder=x", folder / "text_encoder")
    with pytest.raises(ConfigError, match=r"adapter_config\.json leads to another model"):
        inspect_checkpoint(str(folder), without=["scheduler", "tokenizer", "transformer", "vae"])


@pytest.mark.parametrize(
    "change",
    [
        {"base_model_name_or_path": "/elsewhere"},
        {"compression_config": {"quant_method": "x"}},
        {"gguf_file": "x.gguf"},
        {"tokenizer_file": "/etc/passwd"},
        {"vocab_file": "../../vocab.json"},
        {"configuration_files": ["/elsewhere/config.4.0.0.json"]},
        {"fast_tokenizer_files": ["../tokenizer.4.0.json"]},
        {"transformers_weights": ".hidden.safetensors"},
        {"transformers_weights": "adapter_model.bin"},
        {"transformers_weights": "sub/model.safetensors"},
        {"_attn_implementation": "evil/kernels"},
        {"attn_implementation": {"text_config": "evil/kernels"}},
        {"attn_implementation": {"text_config": "sdpa", "vision_config": "flash_attention_2"}},
        *({"_attn_implementation": f"flash_attention_{version}"} for version in (2, 3, 4)),
        {"_attn_implementation": "flex_attention"},
        {"_attn_implementation": "paged|sdpa"},
        {"_attn_implementation": ["sdpa", 1]},
        {"_attn_implementation_internal": "flex_attention"},
        {"experts_implementation": "deepgemm"},
        {"_experts_implementation": "sonicmoe"},
        {"compile_config": {"backend": "evil", "options": {"cpp.cxx": "evil"}}},
        {"reference_compile": True},
        {"attribute_map": {"harmless": "_attn_implementation"}},
        {"__class__": "x"},
        {"quantization_config": {"quant_method": "evil"}},
        {"quantization_config": "evil"},
        {"quantization_config": {}},
        {"model_max_length": 10**12},
        {"max_position_embeddings": 2**31},
        {"num_train_timesteps": 10**9},
        {"num_hidden_layers": 10**6},
        {"num_layers": 1e6},
        {"num_single_layers": 1001},
        {"depths": [1, 2, 10**6]},
        {"transformer_layers_per_block": [1, [10**6]]},
        {"layers_per_block": 10**6},
        {"down_block_types": ["DownBlock2D"] * 1001},
        {"vocab_size": 30_000_000},
        {"num_labels": 10**7},
        {"upsampling_scaling_factor": 5},
        {"downsample_padding": 20_000},
        {"mel_bins": 10**6},
        {"max_resolution": [60_000, 60_000]},
        {"audio_sampling_rate": 2**30},
        {"downsample_factor": 512},
        {"upsample_rates": [8, 512]},
        {"model_max_length": -5},
        {"backbone": "evil/backbone"},
        {"model_type": "timm_wrapper"},
        {"image_processor_type": "pipeline"},
        {"qformer_tokenizer_class": "AutoTokenizer"},
        {"tokenizer_class": ["LlamaTokenizer", "Trainer"]},
        {"axes_dims_rope": [7, 12, 12]},
        {"rope_axes_dim": [16, -2]},
        {"axes_dims_rope": [4_194_304, 2, 2]},
        {"shift_factor": "x"},
        {"base_shift": [1]},
        {"model_max_length": "77"},
        {"model_max_length": 7.5},
        {"model_max_length": 77.0},
        {"model_max_length": True},
        {"extra_special_tokens": ["x"] * 20_001},
        {"added_tokens_decoder": dict.fromkeys(range(20_001), "x")},
        {"hidden_size": 2**31 + 1},
        {"hidden_size": 10**90},
    ],
)
def test_other_places_and_huge_numbers_are_refused_by_file_and_key(tmp_path: Path, change: dict[str, Any]) -> None:
    ((key, _),) = change.items()
    for number, config in enumerate((change, {"text_config": change})):
        refuse(make_folder(tmp_path / str(number), config), f"text_encoder/config.json: {key} ")
    folder = make_folder(tmp_path / "root")
    (folder / "scheduler_config.json").write_text(json.dumps(change))  # read where the component's folder has none
    refuse(folder, f"root/scheduler_config.json: {key} ")


def test_positions_along_the_axes_fill_an_attention_head(tmp_path: Path) -> None:
    folder = make_folder(tmp_path, {"axes_dims_rope": [16, 56, 54], "attention_head_dim": 128})
    refuse(folder, "config.json: axes_dims_rope = [16, 56, 54]: the sum has to be attention_head_dim, 128")
    sizes = {"rope_axes_dim": [256, 256], "attention_head_dim": 128}
    refuse_values("x", {"_class_name": "CogView4Transformer2DModel", **sizes})
    with pytest.raises(ConfigError, match="rope_axes_dim"):
        refuse_values("x", {"_class_name": "HunyuanVideoTransformer3DModel", **sizes})


@pytest.mark.parametrize("hop", [1, 0, -160, "160", None, float("nan")])
def test_a_second_of_sound_has_a_bounded_number_of_steps(tmp_path: Path, hop: Any) -> None:
    folder = make_folder(tmp_path, {"sample_rate": 48000, "mel_hop_length": hop})
    refuse(folder, "text_encoder/config.json: mel_hop_length = ")


@pytest.mark.parametrize("part", [{"truncation": {"max_length": 10**12}}, {"padding": {"strategy": {"Fixed": 10**12}}}])
def test_a_tokenizer_fills_no_text_to_a_huge_length(tmp_path: Path, part: dict[str, Any]) -> None:
    folder = make_folder(tmp_path)
    (folder / "text_encoder" / "tokenizer.json").write_text(
        json.dumps({"model": {"vocab": {"length": 10**12}}, **part})
    )
    refuse(folder, "text_encoder/tokenizer.json: ")


@pytest.mark.parametrize(
    "name", ["../x.safetensors", "/etc/x.safetensors", "sub/x.safetensors", ".x.safetensors", "x.bin", 3]
)
@pytest.mark.parametrize("index", ["model.safetensors.index.json", "model.safetensors.index.fp16.json"])
def test_an_index_names_weights_beside_it_alone(tmp_path: Path, index: str, name: Any) -> None:
    folder = make_folder(tmp_path)
    (folder / "text_encoder" / index).write_text(json.dumps({"weight_map": {"a": "x.safetensors"}}))
    check_folder("model.repo=x", folder)
    (folder / "text_encoder" / index).write_text(json.dumps({"weight_map": {"a": "x.safetensors", "b": name}}))
    refuse(folder, f"text_encoder/{index} names {str(name)!r}, which leads out of the folder")


@pytest.mark.parametrize(("name", "value"), [("scheduler", "evil"), ("vae", {"a": 1}), ("mine", "evil"), ("unet", 3)])
def test_an_entry_of_the_index_is_a_component_or_an_option(tmp_path: Path, name: str, value: Any) -> None:
    refuse(make_folder(tmp_path, **{name: value}), f"'{name}' in model_index.json is {str(value)!r}; a component is [")


@pytest.mark.parametrize("name", ["scheduler", "unet"])
def test_a_list_of_numbers_is_no_component(tmp_path: Path, name: str) -> None:
    refuse(make_folder(tmp_path, **{name: [1, 2]}), f"component '{name}' asks for code from 1")


def test_a_shift_that_depends_on_the_size_needs_its_numbers(tmp_path: Path) -> None:
    folder = make_folder(tmp_path, {"use_dynamic_shifting": False, "base_shift": None})
    check_folder("model.repo=x", folder)
    (folder / "text_encoder" / "config.json").write_text('{"use_dynamic_shifting": true, "max_image_seq_len": null}')
    refuse(folder, "text_encoder/config.json: max_image_seq_len is null, and use_dynamic_shifting needs a number")


def test_a_tokenizer_of_mistral_s_has_a_configuration_too(tmp_path: Path) -> None:
    folder = make_folder(tmp_path)
    held = {"config": {"default_vocab_size": 131_072, "default_num_special_tokens": 1000}, "vocab": [{"rank": 10**12}]}
    (folder / "text_encoder" / "tekken.json").write_text(json.dumps(held))
    check_folder("model.repo=x", folder)
    held["config"] = {"default_num_special_tokens": 10**9}
    (folder / "text_encoder" / "tekken.json").write_text(json.dumps(held))
    refuse(folder, "text_encoder/tekken.json: default_num_special_tokens = 1000000000 is too large; at most 100000")


def test_options_of_pipelines_pass(tmp_path: Path) -> None:
    options = {"requires_safety_checker": False, "boundary_ratio": 0.9, "resolution": 512, "hdr_transform": "x"}
    options |= {"text_encoder_select_layers": [2, 5], "prediction_type": "depth", "sample_sigmas": None}
    check_folder("model.repo=x", make_folder(tmp_path, **options))


NO_NUMBERS = {
    "num_hidden_layers": (0, "= 0 is too small; at least 1"),
    "num_layers": (0, "= 0 is too small; at least 1"),
    "num_single_layers": (True, "= True is no number"),
    "transformer_layers_per_block": ([1, [True]], "= [1, [True]] is no number"),
    "vocab_size": (False, "= False is no number"),
    "axes_dims_rope": ([], "= []: rotary positions need even whole numbers above 0"),
    "axes_dim": ([[]], "= [[]]: rotary positions need even whole numbers above 0"),
    "num_attention_heads": (-1, "= -1 is too small; at least 1"),
    "attention_head_dim": ([8, -8], "= -8 is too small; at least 1"),
    "norm_num_groups": (-1, "= -1 is too small; at least 1"),
    "num_train_timesteps": (0, "= 0 is too small; at least 1"),
    "sample_size": (-1, "= -1 is too small; at least 1"),
    "layers_per_block": (-1, "= -1 is too small; at least 0"),
    "downsample_padding": (-1, "= -1 is too small; at least 0"),
    "upsampling_scaling_factor": (0, "= 0 is too small; at least 1"),
    "norm_eps": (-1, "= -1 is too small; at least 0"),
    "layer_norm_eps": (float("nan"), "= NaN is no number"),
    "latent_channels": (float("nan"), "= NaN is no number"),
    "freq_shift": (float("nan"), "= NaN is no number"),
    "trained_betas": ([0.1, float("nan")], "= NaN is no number"),
    "attention_dropout": (2, "= 2 is too large; at most 1"),
    "dropout": (-0.1, "= -0.1 is too small; at least 0"),
    "mid_block_scale_factor": (0, "= 0, and something is divided by it"),
    "scaling_factor": (0.0, "= 0.0 is too small; at least 0.001"),
    "shift_factor": (1e6, "= 1000000.0 is too large; at most 100"),
    "num_key_value_heads": ("12", "= 12 is no number"),
    "rms_norm_eps": ("1e-6", "= '1e-6' is no number"),
    "layer_norm_epsilon": (2.0, "= 2.0 is too large; at most 1"),
    "latents_mean": (["a", 0.5], "= \"['a', 0.5]\": numbers are needed"),
    "latents_std": ([1.0, 0.0], "= 0, and something is divided by it"),
    "image_mean": ("x", "= 'x': numbers are needed"),
}


@pytest.mark.parametrize("key", NO_NUMBERS)
def test_a_number_that_no_model_can_have_is_refused_by_its_key(key: str) -> None:
    value, words = NO_NUMBERS[key]
    with pytest.raises(ConfigError, match=re.escape(f"x: {key} {words}")):
        refuse_values("x", {"deep": {key: value}})


def test_no_scale_of_latents_is_refused() -> None:
    with pytest.raises(ConfigError, match="x: scaling_factor = 'None' is no number"):
        refuse_values("x", {"scaling_factor": None})


def test_usual_numbers_are_small_and_negative_too() -> None:
    usual = {"pad_token_id": -1, "lambda_min_clipped": -float("inf"), "sliding_window": -1}
    usual |= {
        "num_experts": 0,
        "dropout": 0.0,
        "attention_dropout": 1,
        "resnet_eps": 0,
        "num_class_embeds": None,
        "vision_feature_layer": -1,
    }
    usual |= {"transformer_layers_per_block": [0, 2, 10], "shift_factor": -0.2, "norm_num_groups": None}
    refuse_values("x", usual)


SHIFT = {"use_dynamic_shifting": True, "base_image_seq_len": 256, "max_image_seq_len": 4096}
BUCKETS = {"relative_attention_max_distance": 128, "relative_attention_num_buckets": 32}
END = {"model_type": "clip_text_model", "eos_token_id": 49407}


@pytest.mark.parametrize(
    ("usual", "change", "words"),
    [
        (SHIFT, {"max_image_seq_len": 256}, "max_image_seq_len = 256 is base_image_seq_len too"),
        (
            SHIFT,
            {"base_shift": -9, "max_shift": 10, "max_image_seq_len": 300},
            "are too far apart for 256 and 300 tokens",
        ),
        (SHIFT, {"max_shift": 1.15, "max_image_seq_len": 257}, "are too far apart for 256 and 257 tokens"),
        (BUCKETS, {"relative_attention_max_distance": 8}, "relative_attention_max_distance = 8 is too small for 32"),
        (BUCKETS, {"relative_attention_max_distance": 0}, "relative_attention_max_distance = 0 is too small"),
        (END, {"eos_token_id": [1, 2]}, "eos_token_id = [1, 2]: CLIP has one end of a text"),
        (END, {"eos_token_id": 49408}, "eos_token_id = 49408 is no token; 0 to 49407, by vocab_size"),
        (END | {"vocab_size": 60000, "eos_token_id": 50000}, {"eos_token_id": -1}, "eos_token_id = -1 is no token"),
        (
            {"return_dict": True, "model_type": "llama", "eos_token_id": [1, 2], "attention_head_dim": [5, 10]},
            {"return_dict": False},
            "return_dict = False",
        ),
    ],
)
def test_values_that_would_fail_without_a_word_of_why(
    usual: dict[str, Any], change: dict[str, Any], words: str, tmp_path: Path
) -> None:
    check_folder("model.repo=x", make_folder(tmp_path / "a", usual))
    refuse(make_folder(tmp_path / "b", usual | change), words)

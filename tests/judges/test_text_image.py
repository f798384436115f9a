"""CLIPScore and PickScore with a tiny random CLIP in a folder, against what transformers itself computes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wavespeed_runner.errors import ConfigError, RunError
from wavespeed_runner.execution.refusals import refuse_unbuildable_models
from wavespeed_runner.judges import text_image
from wavespeed_runner.judges.text_image import ClipOptions, make_clip_score, make_pick_score
from wavespeed_runner.planning.plan import build_plan

IMAGE = np.random.default_rng(0).integers(0, 256, (48, 40, 3), dtype=np.uint8)
PROMPT = "a red circle"


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as `save_pretrained` writes it; the text encoder reads 20 tokens, letters each."""
    import torch
    from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

    folder = tmp_path_factory.mktemp("clip")
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    marks = {"bos_token_id": 188, "eos_token_id": 189}
    text = {**sizes, "vocab_size": 190, "max_position_embeddings": 20, **marks}
    torch.manual_seed(0)
    model = CLIPModel(
        CLIPConfig(text_config=text, vision_config={**sizes, "image_size": 32, "patch_size": 8}, projection_dim=8)
    )
    for weight in model.parameters():
        weight.data += 0.3 * torch.randn_like(weight)
    model.save_pretrained(folder)
    size = {"height": 32, "width": 32}
    CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size=size).save_pretrained(folder)
    letters = [chr(code) for code in range(33, 127)]
    words = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {word: place for place, word in enumerate(words)}
    CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=20).save_pretrained(folder)
    return folder


@pytest.fixture
def copy(clip: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(clip, tmp_path / "copy"))


def compute_theirs(folder: Path) -> tuple[float, float]:
    """The cosine and the logit of image and prompt, by CLIPModel's own forward pass and heads."""
    import torch
    from PIL import Image
    from transformers import CLIPImageProcessorPil, CLIPModel, CLIPProcessor, CLIPTokenizer

    processor = CLIPProcessor(CLIPImageProcessorPil.from_pretrained(folder), CLIPTokenizer.from_pretrained(folder))
    inputs: Any = processor(text=[PROMPT], images=Image.fromarray(IMAGE), return_tensors="pt", padding=True)
    with torch.no_grad():
        model = CLIPModel.from_pretrained(folder).eval()
        found = model(**inputs)
        logit = found.logits_per_image.item()
    return logit / model.logit_scale.exp().item(), logit


def test_both_are_what_transformers_computes(clip: Path) -> None:
    cosine, logit = compute_theirs(clip)
    options = ClipOptions(folder=str(clip))
    assert make_pick_score(options)(IMAGE, None, PROMPT) == pytest.approx(logit, rel=1e-4) and abs(logit) > 0.01
    assert make_clip_score(options)(IMAGE, None, PROMPT) == pytest.approx(max(100 * cosine, 0), rel=1e-4, abs=1e-6)


def test_a_long_prompt_is_refused_or_said_to_be_cut(clip: Path) -> None:
    long = f"{PROMPT} and a blue square"
    with pytest.raises(RunError, match=r"26 tokens, and this CLIP reads 20; metrics\.clip_score\.truncate=true"):
        make_clip_score(ClipOptions(folder=str(clip)))(IMAGE, None, long)
    make_clip_score(ClipOptions(folder=str(clip), truncate=True))(IMAGE, None, long)
    words = "word " * 76
    assert "76 words" in text_image._find_long(ClipOptions(), words)
    assert not text_image._find_long(ClipOptions(truncate=True), words)


def refuse(folder: Path | None, match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        text_image._check_folder(ClipOptions(folder=folder and str(folder)), "metrics.clip_score")


def test_a_local_folder_is_needed_and_none_is_fetched(clip: Path, tmp_path: Path) -> None:
    refuse(None, r"metrics\.clip_score\.folder=null: .* none is fetched; .*=DIR")
    refuse(Path("openai/clip-vit-base-patch32"), "no such folder")
    refuse(tmp_path, r"it has no config\.json")


def test_pickles_code_and_other_models_are_refused(copy: Path) -> None:
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "auto_map": {"AutoModel": "x.Y"}}))
    refuse(copy, "code")
    (copy / "config.json").write_text(json.dumps({**config, "model_type": "siglip"}))
    refuse(copy, "model_type 'siglip', and 'clip' is needed")
    (copy / "config.json").write_text(json.dumps(config))
    (copy / "model.safetensors").rename(copy / "pytorch_model.bin")
    refuse(copy, "pickle")


def test_a_weight_that_is_missing_is_no_random_one(copy: Path) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(copy / "model.safetensors")
    del tensors["visual_projection.weight"]
    save_file(tensors, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(RunError, match=r"visual_projection\.weight"):
        make_clip_score(ClipOptions(folder=str(copy)))


def change(file: Path, **values: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def test_an_image_processor_of_another_size_is_refused(copy: Path) -> None:
    change(copy / "preprocessor_config.json", crop_size={"height": 48, "width": 32})
    refuse(copy, r"crop_size = \{'height': 48, 'width': 32\} of preprocessor_config\.json, .*image_size = 32")
    change(copy / "preprocessor_config.json", do_center_crop=False)
    refuse(copy, r"size = \{'shortest_edge': 32\} of preprocessor_config\.json")
    change(copy / "preprocessor_config.json", size={"height": 32, "width": 32})
    text_image._check_folder(ClipOptions(folder=str(copy)), "metrics.clip_score")
    change(copy / "preprocessor_config.json", image_std=[0.2, 0, 0.2])
    refuse(copy, r"preprocessor_config\.json: image_std = 0, and something is divided by it")


def blind(folder: Path) -> None:
    change(folder / "preprocessor_config.json", rescale_factor=0.0)


def end_otherwise(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    change(folder / "config.json", text_config=config["text_config"] | {"eos_token_id": 77})


def drop_vocabulary(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (drop_vocabulary, r"CLIPTokenizer.*knows no word or letter of English, so it would make the same of different"),
        (end_otherwise, r"eos_token_id = 77 of \S+/config\.json is not how the tokenizer ends a text \(189\)"),
        (blind, r"CLIPImageProcessorPil.*makes the same of every image"),
    ],
)
def test_a_clip_that_judges_blindly_is_refused_before_a_run_writes(
    spoil: Any, says: str, copy: Path, composed: Any, tmp_path: Path
) -> None:
    spoil(copy)
    plan = build_plan(composed("metrics=clip_score", f"metrics.clip_score.folder={copy}", f"outputs={tmp_path / 'o'}"))
    with pytest.raises(ConfigError, match=says) as refused:
        refuse_unbuildable_models(plan)
    assert "model.init=tiny" not in str(refused.value) and not (tmp_path / "o").exists()

"""What a model folder may ask for: known classes of known libraries, and never code."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from wavespeed_runner.errors import ConfigError
from wavespeed_runner.models.weights.folder_gate import LOADABLE, check_folder, list_components

INDEX: dict[str, Any] = {
    "_class_name": "FluxPipeline",
    "_diffusers_version": "0.42.1",
    "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "text_encoder_2": [None, None],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "transformer": ["diffusers", "FluxTransformer2DModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}


def make_folder(folder: Path, config: Any = None, **changes: Any) -> Path:
    """A diffusers folder without weights; `config` is the text encoder's."""
    (folder / "text_encoder").mkdir(parents=True)
    (folder / "model_index.json").write_text(json.dumps({**INDEX, **changes}))
    (folder / "text_encoder" / "config.json").write_text(
        json.dumps({"model_type": "clip"} if config is None else config)
    )
    return folder


def test_a_usual_folder_passes_and_components_left_out_are_not_listed(tmp_path: Path) -> None:
    folder = make_folder(tmp_path)
    check_folder("model.repo=x", folder)
    assert list_components("model.repo=x", folder) == {
        name: tuple(value) for name, value in INDEX.items() if isinstance(value, list) and value[0]
    }


@pytest.mark.parametrize(
    "component",
    [
        ["transformers", "AutoModel"],
        ["transformers", "AutoModelForCausalLM"],
        ["transformers", "AutoTokenizer"],
        ["transformers", "AutoProcessor"],
        ["diffusers", "AutoModel"],
        ["diffusers", "FluxPipeline"],
        ["diffusers", "DiffusionPipeline"],
        ["transformers", "pipeline"],
        ["transformers", "Trainer"],
        ["transformers", "PreTrainedModel.from_pretrained"],
        ["transformers", "CLIPTextModel\n"],
        ["diffusers", "\u041a\u043bModel"],
        ["transformers", "CLIPTextModel", "more"],
        ["transformers"],
        ["transformers", 3],
    ],
)
def test_a_class_that_is_no_part_of_a_model_is_refused_by_name(tmp_path: Path, component: list[Any]) -> None:
    folder = make_folder(tmp_path, text_encoder=component)
    with pytest.raises(ConfigError, match=r"^model\.repo=x: component 'text_encoder' asks for ") as caught:
        check_folder("model.repo=x", folder)
    assert str(component[-1]).strip() in str(caught.value)


@pytest.mark.parametrize("library", ["os", "text_encoder", "pipeline", "transformers.utils", "..", 7])
def test_a_foreign_library_is_refused_by_name(tmp_path: Path, library: Any) -> None:
    folder = make_folder(tmp_path, text_encoder=[library, "CLIPTextModel"])
    message = f"component 'text_encoder' asks for code from {library!r}; allowed: diffusers, transformers"
    with pytest.raises(ConfigError, match=re.escape(message)):
        check_folder("model.repo=x", folder)


@pytest.mark.parametrize("name", ["../elsewhere", "a/b", "tëxt", ""])
def test_a_component_s_name_is_the_name_of_a_folder(tmp_path: Path, name: str) -> None:
    folder = make_folder(tmp_path, **{name: ["transformers", "CLIPTextModel"]})
    with pytest.raises(ConfigError, match="not the name of a folder"):
        check_folder("model.repo=x", folder)


def test_a_pipeline_of_the_folder_s_own_is_refused(tmp_path: Path) -> None:
    folder = make_folder(tmp_path, _class_name=["pipeline", "Mine"])
    with pytest.raises(ConfigError, match="asks for a pipeline of its own, and no code of a folder is run"):
        check_folder("model.repo=x", folder)


@pytest.mark.parametrize(
    "config",
    [
        {"auto_map": {"AutoModel": "modeling.Mine"}},
        {"auto_map": {"AutoModel": "someone/else--modeling.Mine"}},
        {"text_config": {"auto_map": {"AutoModel": "modeling.Mine"}}},
        {"trust_remote_code": True},
        {"custom_pipelines": {"mine": {}}},
    ],
)
def test_a_configuration_that_asks_for_code_is_refused_by_file_and_key(tmp_path: Path, config: dict[str, Any]) -> None:
    folder = make_folder(tmp_path, config)
    with pytest.raises(ConfigError, match=r"text_encoder/config\.json asks for code \((auto_map|trust_|custom_)"):
        check_folder("model.repo=x", folder)


@pytest.mark.parametrize("file", ["tokenizer_config.json", "preprocessor_config.json", "generation_config.json"])
def test_every_configuration_of_a_component_is_read(tmp_path: Path, file: str) -> None:
    folder = make_folder(tmp_path)
    (folder / "text_encoder" / file).write_text('{"auto_map": {"AutoTokenizer": ["mine.Mine", null]}}')
    with pytest.raises(ConfigError, match=re.escape(f"text_encoder/{file} asks for code (auto_map)")):
        check_folder("model.repo=x", folder)


def test_a_component_whose_own_config_names_a_class_that_looks_up_others(tmp_path: Path) -> None:
    folder = make_folder(tmp_path, {"_class_name": "AutoModelForCausalLM"})
    with pytest.raises(ConfigError, match="asks for AutoModelForCausalLM, a class that looks up others"):
        check_folder("model.repo=x", folder)


@pytest.mark.parametrize("text", ["[" * 100_000, "[]", '{"a": ', "9" * 6000, "\x00"])
def test_a_configuration_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    folder = make_folder(tmp_path)
    (folder / "text_encoder" / "config.json").write_text(text)
    with pytest.raises(ConfigError, match=r"config\.json cannot be read as JSON"):
        check_folder("model.repo=x", folder)


def test_every_class_that_a_shipped_family_uses_may_be_loaded() -> None:
    names = {
        entry
        for file in (Path(__file__).parents[2] / "wavespeed_runner" / "models").rglob("*.py")
        for entry in re.findall(
            r'"([A-Z]\w+(?:Model|Encoder|Scheduler|Tokenizer|TokenizerFast|Autoencoder\w+))"', file.read_text()
        )
    }
    names.remove("AutoModel")  # in the message that refuses it
    assert len(names) > 20 and not [name for name in names if not LOADABLE.fullmatch(name)]

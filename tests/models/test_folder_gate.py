"""What a model folder may ask for: known classes of known libraries, and never code."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from wavespeed_runner.errors import ConfigError
from wavespeed_runner.models.weights.class_names import LOADABLE
from wavespeed_runner.models.weights.folder_gate import check_folder, list_components

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


@pytest.mark.parametrize("content", [b"\xff\xfe{\x00}\x00", b"\xef\xbb\xbf{}", None], ids=["UTF-16", "BOM", "pipe"])
def test_a_configuration_that_cannot_be_read_is_named_with_its_component(tmp_path: Path, content: bytes | None) -> None:
    folder, file = make_folder(tmp_path), tmp_path / "text_encoder" / "config.json"
    file.unlink()
    if content is None:
        os.mkfifo(file)
    else:
        file.write_bytes(content)
    with pytest.raises(ConfigError, match=r"^model\.repo=x: text_encoder/config\.json "):
        check_folder("model.repo=x", folder)


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
    assert "allowed: names that end in Model, " in str(caught.value)


def test_a_pipeline_has_a_limited_number_of_components(tmp_path: Path) -> None:
    more = {f"text_encoder_{i}": ["transformers", "CLIPTextModel"] for i in range(3, 110)}
    with pytest.raises(ConfigError, match=r"^model\.repo=x: 112 components; at most 100 are loaded"):
        check_folder("model.repo=x", make_folder(tmp_path, **more))


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


@pytest.mark.parametrize(
    "name",
    ["os.system", "utils", "FluxTransformer2DModel", "AutoPipelineForText2Image", "DiffusionPipeline"],
)
def test_what_is_no_pipeline_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match=f"^model\\.repo=x: '{re.escape(name)}' in model_index.json is no name"):
        check_folder("model.repo=x", make_folder(tmp_path, _class_name=name))


@pytest.mark.parametrize("name", ["LEditsPPPipelineStableDiffusionXL", "WanPipeline", "StableDiffusion3Pipeline"])
def test_pipelines_of_diffusers_pass(tmp_path: Path, name: str) -> None:
    check_folder("model.repo=x", make_folder(tmp_path, _class_name=name))


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


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("._config.json", "\0\5\26\7\0"), ("log_history.json", "[1, 2]"), (".hidden.json", '{"auto_map": 1}'),
        ("vocab.json", "[]"), ("vocab.json", '{"auto_map": 1}'), ("README.md", "{"), ("merges.txt", "\xff"),
    ],
)  # fmt: skip
def test_a_file_that_no_loader_reads_as_a_configuration_may_hold_anything(tmp_path: Path, name: str, text: str) -> None:
    folder = make_folder(tmp_path)
    (folder / "text_encoder" / name).write_text(text)
    check_folder("model.repo=x", folder)


@pytest.mark.parametrize("name", ["foo", "transformer"])
def test_an_empty_list_is_neither_a_component_nor_an_option(tmp_path: Path, name: str) -> None:
    folder = make_folder(tmp_path, **{name: []})
    with pytest.raises(ConfigError, match=rf"'{name}' in model_index\.json is \[\]; a component is \[library, class\]"):
        check_folder("model.repo=x", folder)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("other.json", '{"auto_map": {"AutoModel": "mine.Mine"}}'),
        ("other.json", '[[{"auto_map": {"AutoModel": "mine.Mine"}}]]'),
        ("config.json", '{"model": {}, "decoder": null, "auto_map": {"AutoModel": "mine.Mine"}}'),
        ("config.json", '{"a": {"b": [{"c": {"auto_map": {"AutoModel": "mine.Mine"}}}]}}'),
    ],
)
def test_code_is_found_in_any_file_and_at_any_depth(tmp_path: Path, name: str, text: str) -> None:
    folder = make_folder(tmp_path)
    (folder / "text_encoder" / name).write_text(text)
    with pytest.raises(ConfigError, match=re.escape(f"text_encoder/{name} asks for code (auto_map)")):
        check_folder("model.repo=x", folder)


def test_the_parts_of_every_pipeline_of_diffusers_may_be_loaded() -> None:
    """As their pipelines declare them; read, because importing all of them takes a minute."""
    spec = importlib.util.find_spec("diffusers")
    assert spec and spec.origin
    names: set[str] = set()
    for file in (Path(spec.origin).parent / "pipelines").rglob("pipeline_*.py"):
        for pipeline in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(pipeline, ast.ClassDef) and pipeline.name.endswith("Pipeline"):
                made = [f for f in pipeline.body if isinstance(f, ast.FunctionDef) and f.name == "__init__"]
                for given in (argument.annotation for f in made for argument in f.args.args):
                    text = ast.unparse(given) if given is not None else ""
                    names |= set(re.findall(r"\b[A-Z]\w{3,}\b", text.replace("transformers.", "")))
    no_class = re.compile(r"None|Optional|Union|Auto(?!encoder)\w+|\w+(Mixin|Base|Schedulers)|\w*PreTrainedModel")
    names = {name for name in names if not no_class.fullmatch(name)}
    assert len(names) > 200 and not [name for name in names if not LOADABLE.fullmatch(name)]
    assert LOADABLE.fullmatch("StableUnCLIPImageNormalizer") and LOADABLE.fullmatch("DPTForDepthEstimation")


@pytest.mark.parametrize(
    "name",
    [
        "Kandinsky3UNet",
        "I2VGenXLUNet",
        "StableCascadeUNet",
        "RobertaSeriesModelWithTransformation",
        "CLIPImageProcessor",
    ],
)
def test_unusual_parts_may_be_loaded(name: str) -> None:
    assert LOADABLE.fullmatch(name)


@pytest.mark.parametrize(
    "name",
    ["AutoModelForCausalLM", "AutoPipelineForText2Image", "FluxPipeline", "FluxPipelineModel", "pipeline", "Trainer",
     "PreTrainedModel", "CLIPPreTrainedModel", "ModelMixin",
     "RagModel", "RagSequenceForGeneration", "EncoderDecoderModel", "VisionEncoderDecoderModel", "BarkModel",
     "SpeechEncoderDecoderModel", "VisionTextDualEncoderModel", "MusicgenForConditionalGeneration", "TimmWrapperModel",
     "load_model", "_Model", "ComponentsManager", "TrainingArguments", "AutoImageProcessor", "FluxAutoBlocks"],
)  # fmt: skip
def test_what_looks_up_others_or_is_no_part_of_a_model_may_not(name: str) -> None:
    assert not LOADABLE.fullmatch(name)


def test_every_class_that_a_shipped_family_uses_may_be_loaded() -> None:
    names = {
        entry
        for file in (Path(__file__).parents[2] / "wavespeed_runner" / "models").rglob("*.py")
        for entry in re.findall(
            r'"([A-Z]\w+(?:Model|Encoder|Scheduler|Tokenizer|TokenizerFast|Autoencoder\w+))"', file.read_text()
        )
    }
    assert len(names) > 20 and not [name for name in names if not LOADABLE.fullmatch(name)]

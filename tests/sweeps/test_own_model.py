"""A model folder of the user's own: which option runs it, and what its files say otherwise than the option."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from tests.command_line import CommandLine
from wavespeed_runner.config.compose import composer
from wavespeed_runner.config.paths import CONF
from wavespeed_runner.errors import ConfigError
from wavespeed_runner.models.weights.checkpoint import find_local_path
from wavespeed_runner.models.weights.own_folder import SEVERAL, find_option
from wavespeed_runner.registry import list_names, lookup
from wavespeed_runner.sweeps import own_model

DEMO = "pkg://wavespeed_runner/weights/demo"
SCHNELL = {"use_dynamic_shifting": False, "shift": 1.0}
UNET = "pkg://wavespeed_runner/weights/demo_unet"


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    monkeypatch.setattr(own_model, "has_fast_half", lambda dtype: False)
    return CommandLine(tmp_path, monkeypatch, capsys)


def write_folder(folder: Path, pipeline: str, **components: dict[str, Any]) -> Path:
    """A folder of configurations without weights."""
    folder.mkdir()
    (folder / "model_index.json").write_text(json.dumps({"_class_name": pipeline}))
    for name, config in components.items():
        (folder / name).mkdir()
        file = "scheduler_config.json" if name == "scheduler" else "config.json"
        (folder / name / file).write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize(
    ("pipeline", "components", "option"),
    [
        ("FluxPipeline", {"transformer": {"guidance_embeds": True}}, "flux"),
        ("FluxPipeline", {"transformer": {}, "scheduler": {"use_dynamic_shifting": True}}, "flux"),
        (
            "FluxPipeline",
            {"transformer": {}, "scheduler": {"use_dynamic_shifting": False, "shift": 1.0}},
            "flux_schnell",
        ),
        ("StableDiffusionPipeline", {"unet": {"cross_attention_dim": 768}}, "sd15"),
        ("StableDiffusionPipeline", {"unet": {"cross_attention_dim": 1024}}, "sd21"),
        ("StableDiffusionXLInpaintPipeline", {}, "sdxl"),
        ("StableDiffusion3Pipeline", {"transformer": {"dual_attention_layers": [0, 1]}}, "sd35_medium"),
        ("StableDiffusion3Pipeline", {"transformer": {}}, "sd35_large"),
        ("CogVideoXPipeline", {"transformer": {"use_rotary_positional_embeddings": True}}, "cogvideox"),
        ("CogVideoXPipeline", {"transformer": {}}, "cogvideox_2b"),
        ("QwenImagePipeline", {}, "qwen_image"),
        ("LTX2Pipeline", {}, "ltx2"),
        ("LTX2Pipeline", {"transformer": {"cross_attn_mod": True}}, "ltx23"),
        ("QwenImageEditPipeline", {}, "qwen_image_edit"),
        ("QwenImageEditPlusPipeline", {"transformer": {"zero_cond_t": True}}, "qwen_image_edit_2511"),
        ("QwenImageEditPlusPipeline", {"transformer": {}}, "qwen_image_edit_2509"),
        ("FluxKontextPipeline", {"transformer": {"guidance_embeds": True}}, "flux_kontext"),
        ("FluxFillPipeline", {"transformer": {"guidance_embeds": True}}, "flux_fill"),
    ],
)
def test_the_class_of_a_folder_chooses_the_option(
    tmp_path: Path, pipeline: str, components: dict[str, Any], option: str
) -> None:
    assert find_option(write_folder(tmp_path / "mine", pipeline, **components)) == option


def test_the_heads_of_a_klein_say_its_size(tmp_path: Path) -> None:
    for heads, options in ((24, "flux2_klein, flux2_klein_base"), (32, "flux2_klein_9b, flux2_klein_base_9b")):
        folder = write_folder(tmp_path / str(heads), "Flux2KleinPipeline", transformer={"num_attention_heads": heads})
        with pytest.raises(ConfigError, match=f": {options} run its Flux2KleinPipeline"):
            find_option(folder)


def test_every_family_has_an_option_or_several_to_choose_from(tmp_path: Path) -> None:
    shipped = {file.stem for file in (CONF / "model").glob("*.yaml")}
    for name in set(list_names("model")) - {"generic", "generic_video"}:
        folder = write_folder(tmp_path / name, next(iter(lookup("model", name).implementation.tasks.values())))
        index = {"wan22": {"transformer_2": ["diffusers", "X"]}, "wan22_5b": {"expand_timesteps": True}}
        index["wan22_i2v"] = index["wan22"]
        file = folder / "model_index.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | index.get(name, {})))
        try:
            assert find_option(folder) in shipped and (not name.startswith("wan22") or find_option(folder) == name)
        except ConfigError as error:
            assert set(SEVERAL[name]) <= shipped and f"model={SEVERAL[name][0]} model.repo={folder}" in str(error)


def test_a_pipeline_of_no_family(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "mine", "KandinskyPipeline")
    with pytest.raises(ConfigError, match=r"no model family runs its KandinskyPipeline; model=generic model\.repo="):
        find_option(folder)


def test_what_a_folder_says_is_taken_and_shown(cli: CommandLine) -> None:
    for given in ((f"model={DEMO}",), ("model=flux", f"model.repo={DEMO}")):
        text = cli.plans(*given, "prompt=x", "width=64", "height=64", "device=cpu")
        assert f"model      flux ({DEMO}), float32" in text and "guidance 1," in text
        for change in (
            "model.guidance=true_cfg: guidance_embeds=false in its transformer/config.json",
            "model.max_sequence_length=20: model_max_length of its tokenizer_2/tokenizer_config.json",
            "model.dtype=float32: this CPU has no instructions for bfloat16",
        ):
            assert f"  {change}" in text


def test_an_option_that_wants_a_value_loses_none_of_it(cli: CommandLine) -> None:
    cli.config("model/mine", "defaults: [flux]\nsteps: ???\n")
    given = ("model=mine", f"model.repo={DEMO}", "prompt=x", "width=64", "height=64", "device=cpu")
    text = cli.plans(*given, "model.steps=2")
    assert "model.guidance=true_cfg: guidance_embeds=false in its transformer/config.json" in text
    said = cli.refuses(*given)
    assert said == "model.steps=???: model=mine wants it to be given; model.steps=VALUE"


def test_what_the_folder_beside_a_single_file_says_is_taken_and_shown(cli: CommandLine) -> None:
    save_file({"x": torch.zeros(1)}, cli.folder / "mine.safetensors")
    given = ("model=flux", "model.repo=mine.safetensors", f"model.components={DEMO}")
    text = cli("dry_run=true", *given, "prompt=x", "width=64", "height=64", "device=cpu").out
    for change in (
        "model.guidance=true_cfg: guidance_embeds=false in model.components's transformer/config.json",
        "model.max_sequence_length=20: model_max_length of model.components's tokenizer_2/tokenizer_config.json",
        "model.dtype=float32: this CPU has no instructions for bfloat16",
    ):
        assert f"  {change}" in text
    text = cli("dry_run=true", "model=sd15", *given[1:2], f"model.components={UNET}", "prompt=x", "device=cpu").out
    assert "64x64" in text and "model.width=64: sample_size=16 in model.components's unet/config.json" in text
    text = cli("dry_run=true", *given, "model.repo=owner/name", "prompt=x", "device=cpu").out
    assert "model.components's" not in text


def test_a_u_net_s_size(cli: CommandLine) -> None:
    text = cli.plans(f"model={UNET}", "prompt=x", "device=cpu")
    assert "images     1, 64x64, 50 steps" in text and "model.width=64: sample_size=16 in its unet/config.json" in text


def test_what_was_typed_stays(cli: CommandLine) -> None:
    typed = ("model.dtype=bfloat16", "model.max_sequence_length=16", "model.guidance=none", "model.guidance_scale=null")
    text = cli.plans("model=flux", f"model.repo={DEMO}", *typed, "prompt=x", "width=64", "height=64", "device=cpu")
    assert "bfloat16" in text and "max_sequence_length=16" in text and "set automatically" not in text
    text = cli.plans(f"model={UNET}", "model.width=128", "prompt=x", "device=cpu", "model.height=128")
    assert "128x128" in text and "model.width=64" not in text


def test_every_job_of_a_sweep_has_it(cli: CommandLine) -> None:
    text = cli.plans("-m", f"model={UNET}", "prompt=x", "steps=4,5", "device=cpu")
    assert "2 jobs" in text and "model.width=64" in text


def test_a_key_of_the_model_may_be_swept_over(cli: CommandLine) -> None:
    text = cli.plans("-m", "model=sd15", f"model.repo={UNET}", "model.width=64,128", "model.height=64", "prompt=x")
    assert "2 jobs" in text and "model.dtype=float32: this CPU" in text and "model.width=64:" not in text


def test_jobs_of_other_machines_choose_their_dtype(cli: CommandLine) -> None:
    given = [f"model={UNET}", "hydra/launcher=slurm", "steps=4,5"]
    with composer(None):
        assert not [change for change in own_model.add_facts(own_model.name_option(given))[1] if "dtype" in change.key]
        assert [change for change in own_model.add_facts(own_model.name_option(given[:1]))[1] if "dtype" in change.key]


def test_what_an_experiment_sets_stays(cli: CommandLine) -> None:
    cli.experiment("defaults: [{override /model: sd15}]\nmodel: {width: 32, height: 32, dtype: float32}\n")
    text = cli.plans("experiment=mine", f"model.repo={UNET}", "prompt=x", "device=cpu")
    assert "32x32" in text and "set automatically" not in text


@pytest.mark.parametrize("value", [None, 5, [], {}, [None, None]])
def test_an_index_with_anything_in_it(tmp_path: Path, value: Any) -> None:
    folder = write_folder(tmp_path / "mine", "WanPipeline")
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "WanPipeline", "transformer_2": value}))
    with pytest.raises(ConfigError, match="wan21, wan21_14b"):
        find_option(folder)


def test_a_bare_name_is_an_option_whatever_lies_here(cli: CommandLine) -> None:
    (Path() / "demo_unet").symlink_to(find_local_path(UNET))  # type: ignore[arg-type]
    assert "images     1, 64x64, 25 steps, guidance 3" in cli("model=demo_unet", "prompt=x", "dry_run=true").out
    assert "sd (./demo_unet)" in cli("model=./demo_unet", "prompt=x", "dry_run=true").out


def test_a_folder_of_another_family(cli: CommandLine) -> None:
    error = cli.refuses("model=sdxl", f"model.repo={UNET}", "prompt=x")
    assert "it is a StableDiffusionPipeline, which the model family sdxl does not run" in error
    assert f"model={UNET} alone finds the option" in error


def test_cfg_of_a_folder(cli: CommandLine) -> None:
    assert f"repo: {UNET}" in cli(f"model={UNET}", "--cfg", "job").out


def test_a_shipped_option_changes_nothing(cli: CommandLine) -> None:
    assert "set automatically" not in cli.plans("model=demo", "prompt=x", "device=cpu")
    assert "model.width=" not in cli.plans("model=sdxl", "model.init=tiny", f"model.repo={UNET}", "prompt=x")


@pytest.mark.slow
def test_a_folder_alone_makes_the_demo_s_image(cli: CommandLine) -> None:
    short = ("prompt=a red circle", "steps=2", "width=64", "height=64", "device=cpu", "measure=none")
    for given in (f"model={DEMO}", "model=demo"):
        assert cli(given, *short).status == 0
    first = sorted(Path().glob("outputs/runs/*/*/record.json"))[0]
    changes = {change["key"] for change in json.loads(first.read_text())["plan"]["changes"]}
    assert {"model.guidance", "model.max_sequence_length", "model.dtype"} <= changes, "the record says what was taken"
    one, other = (json.loads(file.read_text()) for file in sorted(Path().glob("outputs/runs/*/*/record.json")))
    assert one["samples"][0]["pixels_sha256"] == other["samples"][0]["pixels_sha256"]


@pytest.mark.slow
def test_a_job_in_a_process_of_its_own_records_it_too(cli: CommandLine) -> None:
    short = ("prompt=x", "steps=2", "device=cpu", "measure=none", "seed=-1", "hydra/launcher=isolated")
    assert cli("-m", f"model={UNET}", *short).status == 0
    (file,) = Path().glob("outputs/sweeps/*/*/0/record.json")
    changes = {change["key"]: change["value"] for change in json.loads(file.read_text())["plan"]["changes"]}
    assert changes["model.width"] == 64 and changes["seed"] >= 0


def test_support_takes_a_folder_and_options_of_ones_own(cli: CommandLine) -> None:
    cli.config(
        "model/mine", f"defaults: [/schema/model/sd@_here_, _self_]\nrepo: {UNET}\nsteps: 20\nwidth: 64\nheight: 64\n"
    )
    cli.config("cache/steady", "defaults: [/cache/fbcache@_here_, _self_]\nresidual_diff_threshold: 0.2\n")
    said = cli("support", "mine", UNET, "--config-dir", str(cli.configs))
    assert said.status == 0 and "`mine`" in said.out and f"`{UNET}`" in said.out
    assert "no such option" in cli("support", "mine").err
    plain = cli.configs / "plain"
    plain.mkdir()
    assert f"model={plain}: this folder has no model_index.json" in cli("support", str(plain)).err


@pytest.mark.parametrize("place", ["", "transformer"])
@pytest.mark.parametrize("typed", ["model={}", "model.repo={}"])
def test_a_folder_that_may_not_be_looked_at_is_a_wrong_configuration(
    cli: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, typed: str, place: str
) -> None:
    folder = write_folder(tmp_path / "flux", "FluxPipeline", transformer={}, scheduler=SCHNELL)
    look = Path.stat

    def refuse(path: Path, **options: Any) -> Any:  # root may look at anything
        if path.parent == folder / place:
            raise PermissionError(13, "Permission denied", str(path))
        return look(path, **options)

    monkeypatch.setattr(Path, "stat", refuse)
    model = typed.format(folder)
    status, out, err = cli(*([] if model.startswith("model=") else ["model=flux"]), model, "prompt=x", "dry_run=true")
    assert (status, out, err.count("\n")) == (2, "", 1) and f"{folder / place}/" in err, err
    assert "Permission denied" in err

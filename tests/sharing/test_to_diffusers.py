"""`export to=diffusers`: the script makes the run's images with diffusers alone; what it cannot express is refused."""

from __future__ import annotations

import io
import json
import os
import runpy
import subprocess
import sys
import tokenize
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from diffusers.models.attention_dispatch import _AttentionBackendRegistry
from PIL import Image

from tests.conftest import run_as_data
from wavespeed_runner import load
from wavespeed_runner.cli.main import main
from wavespeed_runner.config.compose import compose_job, composer
from wavespeed_runner.errors import ConfigError
from wavespeed_runner.media.images import hash_image
from wavespeed_runner.planning.plan import build_plan
from wavespeed_runner.records.file import read_record
from wavespeed_runner.sharing.to_diffusers import write_script

Export = Callable[..., tuple[str, list[str]]]


@pytest.fixture
def export(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Export:
    """`export(*overrides)`: the script of a run of these overrides, and the hashes of its images."""
    monkeypatch.chdir(tmp_path)

    def make(*overrides: str, prompts: tuple[str, ...] = ("a red circle",)) -> tuple[str, list[str]]:
        compiled = any(override.startswith("compile") for override in overrides)  # which needs a warm-up
        given = [*overrides, "measure.reference=false" if compiled else "measure=none", "device=cpu"]
        with composer(None):
            config = compose_job(given, given)
        record = run_as_data(build_plan({**config, "outputs": "outputs"}, list(prompts)), Path("run"), given)
        assert record["status"] == "completed", record["error"]
        return write_script(read_record(Path("run/record.json"))), [s["pixels_sha256"] for s in record["samples"]]

    return make


def execute(script: str) -> list[str]:
    """The hashes of the images that a script writes, in their order."""
    Path("script.py").write_text(script, encoding="utf-8")
    before = _AttentionBackendRegistry.get_active_backend()[0]
    try:
        runpy.run_path("script.py")
    finally:
        _AttentionBackendRegistry.set_active_backend(before)  # diffusers' switch is the whole process's
    return [hash_image(np.asarray(Image.open(file))) for file in sorted(Path().glob("*.png"))]


@pytest.mark.parametrize(
    "overrides",
    [
        ["model=demo", "cache=fbcache", "num_images_per_prompt=2", "seed=5"],
        ["model=demo", "cache=pab"],
        ["model=demo", "cache=fastercache"],
        ["model=demo", "sampler=euler", "sampler.shift=2.0", "steps=9", "guidance_scale=2", "negative_prompt=dark"],
        ["model=demo", "quant=int8_dq", "quant.skip=[.*to_k]", "cache=fbcache", "attention=math"],
        ["model=demo", "accelerate=fuse_qkv", "memory=model_offload"],
        ["model=demo_unet", 'negative_prompt="it\'s dark"'],
        ["model=demo_unet", "sampler=euler_ancestral", "steps=8", "width=96"],
        ["model=demo_unet", "sampler=dpmpp_2m_karras", "steps=7", "accelerate=channels_last"],
        ["model=demo_unet", "sampler=ddim", "sampler.eta=0.5", "steps=7"],
        ["model=demo_unet", "quant=int8_wo", "memory=vae_slicing", "steps=5"],
    ],
    ids=" ".join,
)
def test_a_script_makes_the_runs_images(overrides: list[str], export: Export) -> None:
    script, images = export(*overrides, prompts=("a red circle", "a 'green' triangle\\n"))
    assert execute(script) == images
    assert "wavespeed_runner" not in script.replace("pkg://wavespeed_runner", "").replace("/wavespeed_runner/", "")


@pytest.mark.slow
def test_compiled_blocks_too(export: Export) -> None:
    script, images = export("model=demo", "quant=int8_dq", "compile=regional", "steps=6")
    assert execute(script) == images


@pytest.mark.parametrize("model", ["sd35_medium", "qwen_image", "wan21"])
def test_folders_of_other_families(model: str, export: Export) -> None:
    folder = Path("model").absolute()
    with load([f"model={model}", "model.init=tiny", "model.dtype=float32", "device=cpu"]) as pipe:
        next(iter(pipe._kept.resources.values())).pipe.save_pretrained(folder)
    given = [f"model={model}", f"model.repo={folder}", "model.dtype=float32", "width=128", "height=128", "steps=3"]
    if model != "wan21":
        script, images = export(*given)
        assert execute(script) == images
        return
    given += ["graph=text_to_video", "num_frames=5"]
    frames = execute(export(*given)[0])
    assert frames == [hash_image(np.asarray(frame)) for frame in load(given)("a red circle")[0]]


def test_a_script_runs_without_this_package(export: Export) -> None:
    script, images = export("model=demo", "steps=4")
    Path("script.py").write_text(
        script + "import sys\nassert 'wavespeed_runner' not in sys.modules\n", encoding="utf-8"
    )
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run([sys.executable, "script.py"], capture_output=True, text=True, timeout=240, env=environment)
    assert done.returncode == 0, done.stderr
    assert [hash_image(np.asarray(Image.open("00.png")))] == images


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["cache=planned"], "cache=planned: diffusers has no cache that is the same thing"),
        (["cache=fbcache", "cache.end=0.8"], "cache=fbcache: diffusers has no cache"),
        (["sampler=fitted", "steps=6"], "sampler=fitted: this package changes"),
        (["sampler=unipc", "steps=6"], "sampler=unipc: this package changes"),
        (["model.init=tiny"], "model.init=tiny: random weights"),
        (["graph=image_to_image"], "graph: its stages (load, read_image, encode, denoise, decode) are not one call"),
        (["prompts.chunked=true", "model=demo_unet", "steps=3"], "prompts.chunked=true"),
        (
            ["adapters=lora", "adapters.path=pkg://wavespeed_runner/weights/demo_lora/night.safetensors"],
            "adapters=lora: this package follows",
        ),
        (["+graph.stages.denoise.options={steps: 3}"], "graph.stages.denoise.options: options of one stage"),
    ],
)
def test_what_diffusers_cannot_express_is_named(overrides: list[str], words: str, export: Export) -> None:
    model = [] if any(override.startswith("model=") for override in overrides) else ["model=demo"]
    with pytest.raises(ConfigError) as refused:
        export(*model, *overrides)
    assert words in str(refused.value) and "from wavespeed_runner import load runs it" in str(refused.value)


def test_everything_is_named_at_once(export: Export) -> None:
    with pytest.raises(ConfigError, match=r"sampler=fitted: .*; nor cache=taylorseer"):
        export("model=demo", "sampler=fitted", "steps=10", "cache=taylorseer")


def test_a_strangers_record_puts_no_code_into_a_script(export: Export) -> None:
    export("model=demo", "steps=2", "quant=int8_wo")
    record = read_record(Path("run/record.json"))
    evil = "x\"\"\"')\nimport os\nos.mkdir('evil')\n#"
    record.samples[0].prompt = evil
    record.config["negative_prompt"] = evil
    record.environment.device_name = record.environment.versions["torch"] = evil
    names: Any = record.engaged.quant["components"]["transformer"]["swapped"]["names"]["int8_wo"]
    names[evil] = 1
    script = write_script(record)
    assert not any(line.startswith(("import os", "os.")) for line in script.splitlines())
    compile(script, "script.py", "exec")
    record.engaged.quant["components"]["transformer, os.mkdir('evil')"] = {"swapped": {"names": {"int8_wo": {"a": 1}}},
                                                                         "left": {"names": {}}}  # fmt: skip
    with pytest.raises(ConfigError, match="no component and scheme of a run"):
        write_script(record)


def test_a_strangers_record_chooses_neither_the_encoding_of_a_script_nor_code(export: Export) -> None:
    export("model=demo", "steps=2")
    record = read_record(Path("run/record.json"))
    record.environment.device_name = "# -*- coding: utf-7 -*-"
    record.environment.versions["diffusers"] = "coding: utf-7"
    script = write_script(record).encode()
    assert tokenize.detect_encoding(io.BytesIO(script).readline)[0] == "utf-8"

    options = {"options": {"cpp.cxx": ["evil"]}, "mode": "default"}
    chosen: list[dict[str, Any]] = [
        {"compile": {"name": "regional", **options}},
        {"compile": {"name": "regional", **options, "options": json.dumps(options["options"])}},
        {"compile": {"name": "regional", "backend": "evil_package"}},
        {"attention": {"name": "flash_hub"}},
    ]
    own = record.config
    for config in chosen:
        record.config = own | config
        with pytest.raises(ConfigError, match="write that line into it yourself"):
            write_script(record)


def test_the_command(export: Export, capsys: pytest.CaptureFixture[str]) -> None:
    export("model=demo", "steps=3")
    assert main(["export", "run", "to=diffusers"]) == 0
    (file,) = Path().glob("*.py")
    assert capsys.readouterr().out == f"export: {file}\n"
    assert main(["export", "run/record.json", "to=diffusers", "out=-"]) == 0
    assert capsys.readouterr().out == file.read_text(encoding="utf-8")
    (image,) = Path("run/images").glob("*.png")
    assert main(["export", str(image), "to=diffusers"]) == 2
    said = capsys.readouterr().err
    assert f"{image}: to=diffusers: an image has no record of" in said, said
    assert f"give the run's folder, {Path('run').absolute()};" in said and "Unicode" not in said
    assert main(["export", str(image.rename("alone.png")), "to=diffusers"]) == 2
    assert "give the run's folder or its record.json;" in capsys.readouterr().err
    for wrong, words in (
        (["to=diffusers"], "the file exists"),
        (["to=comfy"], "to=comfy: only to=diffusers is known"),
        (["to=diffusers", "config_dir=x"], "config_dir=x: not with to=diffusers"),
    ):
        assert main(["export", "run", *wrong]) == 2
        assert words in capsys.readouterr().err

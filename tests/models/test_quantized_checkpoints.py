"""Models that are stored quantized: recognised in the plan, loaded as they are, or refused with the way out."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conftest import run_as_data
from tests.models.tiny_families import tiny
from wavespeed_runner.accelerate import quant
from wavespeed_runner.accelerate.quant_options import NoQuant, QuantOptions
from wavespeed_runner.accelerate.quant_targets import layers_of
from wavespeed_runner.config.schema import Init
from wavespeed_runner.errors import ConfigError, RunError
from wavespeed_runner.execution.estimate import estimate_memory
from wavespeed_runner.models.weights import quantized
from wavespeed_runner.models.weights.pretrained import load
from wavespeed_runner.planning.plan import Plan
from wavespeed_runner.process.torchao_import import import_torchao

Planned = Callable[..., Plan]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny demo model as diffusers saves it."""
    folder = tmp_path_factory.mktemp("stored") / "plain"
    tiny("demo")[2].save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def torchao_folder(folder: Path) -> Path:
    """The same, its transformer quantized and saved by diffusers."""
    from diffusers import FluxTransformer2DModel, TorchAoConfig

    import_torchao()
    from torchao.quantization import Int8WeightOnlyConfig

    config = TorchAoConfig(
        Int8WeightOnlyConfig(set_inductor_config=False), modules_to_not_convert=["proj_out", "x_embedder"]
    )
    stored = folder.parent / "torchao"
    shutil.copytree(folder, stored)
    transformer = FluxTransformer2DModel.from_pretrained(folder / "transformer", quantization_config=config)
    shutil.rmtree(stored / "transformer")
    transformer.save_pretrained(stored / "transformer")
    return stored


@pytest.fixture(scope="module")
def gguf_file(folder: Path) -> Path:
    """The transformer as a GGUF file: the layers of its blocks in Q8_0, the rest in float32."""
    gguf = pytest.importorskip("gguf")
    file = folder.parent / "demo.gguf"
    writer = gguf.GGUFWriter(file, "flux")
    for name, tensor in tiny("demo")[2].transformer.state_dict().items():
        values = tensor.float().numpy()
        if values.ndim == 2 and "blocks" in name:
            codes = gguf.quants.quantize(values, gguf.GGMLQuantizationType.Q8_0)
            writer.add_tensor(name, codes, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
        else:
            writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def load_from(repo: Path, components: Path | None = None) -> tuple[Any, Any]:
    from dataclasses import replace

    family, config, _ = tiny("demo")
    given = {"init": Init.pretrained, "repo": str(repo), "components": str(components) if components else None}
    return family, load(family, replace(config, **given), "cpu")


def test_a_folder_quantized_by_torchao_loads_as_it_is(torchao_folder: Path) -> None:
    from diffusers import FluxTransformer2DModel

    family, pipe = load_from(torchao_folder)
    theirs = FluxTransformer2DModel.from_pretrained(torchao_folder / "transformer")
    weights = layers_of(pipe, "transformer")
    stored = {n: m.weight for n, m in theirs.named_modules() if quant.is_quantized(getattr(m, "weight", None))}
    assert {name for name, layer in weights.items() if quant.is_quantized(layer.weight)} == stored.keys()
    for name, weight in stored.items():
        assert torch.equal(weights[name].weight.qdata, weight.qdata), name
        assert torch.equal(weights[name].weight.scale, weight.scale), name
    evidence = quant.collect_evidence(pipe, family, NoQuant(), "cpu", {})
    assert evidence is not None and evidence["scheme"] == "as stored"
    found = evidence["components"]["transformer"]
    assert found["method"] == "torchao" and found["weights"] == len(stored) > 40
    assert sum(found["names"]["Int8Tensor"].values()) == len(stored)
    with pytest.raises(RunError, match=r"quant=int8_dq: transformer is stored quantized already \(torchao\)"):
        quant.apply_quant(pipe, family, QuantOptions(name="int8_dq"), "cpu")


def test_a_gguf_file_loads_as_it_is(gguf_file: Path, folder: Path) -> None:
    family, pipe = load_from(gguf_file, folder)
    evidence = quant.collect_evidence(pipe, family, NoQuant(), "cpu", {})
    assert evidence is not None
    found = evidence["components"]["transformer"]
    plain = tiny("demo")[2].transformer
    in_blocks = [name for name in layers_of(tiny("demo")[2], "transformer") if "blocks" in name]
    assert found["method"] == "gguf" and found["weights"] == len(in_blocks)
    layer = pipe.transformer.transformer_blocks[0].attn.to_q
    inputs = torch.randn(3, layer.in_features, generator=torch.Generator().manual_seed(0))
    exact = plain.transformer_blocks[0].attn.to_q(inputs)
    # Q8_0 is int8 with one scale for 32 weights.
    assert 1e-4 < (layer(inputs) - exact).norm() / exact.norm() < 0.02


@pytest.mark.parametrize("stored", ["torchao", "gguf"])
def test_they_run(stored: str, request: pytest.FixtureRequest, folder: Path, planned: Planned, tmp_path: Path) -> None:
    if stored == "gguf":
        where = [f"model.repo={request.getfixturevalue('gguf_file')}", f"model.components={folder}"]
    else:
        where = [f"model.repo={request.getfixturevalue('torchao_folder')}"]
    plan = planned("model.init=pretrained", *where)
    estimate = estimate_memory(plan)
    record = run_as_data(plan, tmp_path / "run", [])
    assert record["status"] == "completed", record["error"]
    assert record["engaged"]["quant"]["components"]["transformer"]["method"] == stored
    assert estimate.components == pytest.approx(record["engaged"]["weights"], rel=0.1)
    assert f"stored quantized, so weights as on the disk: transformer ({stored})" in estimate.shapes
    with pytest.raises(ConfigError, match=rf"quant=int8_wo: model\.repo=.* quantized already: transformer \({stored}"):
        planned("model.init=pretrained", "quant=int8_wo", *where)


def set_method(folder: Path, copied: Path, config: Any) -> Path:
    shutil.copytree(folder, copied)
    file = copied / "transformer" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"quantization_config": config}))
    return copied


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "bitsandbytes is missing: pip install bitsandbytes"),
        ({"quant_method": "quanto"}, "optimum-quanto is missing"),
        (
            {"quant_method": "odd"},
            "transformer/config.json: quantization_config asks for the method 'odd'; allowed: bits",
        ),
        ("x", "transformer/config.json: quantization_config is no object"),
    ],
)
def test_what_cannot_be_loaded_here_is_refused_by_name(
    folder: Path, tmp_path: Path, planned: Planned, config: Any, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quantized, "find_spec", lambda name: None)
    copied = set_method(folder, tmp_path / "copied", config)
    with pytest.raises(ConfigError, match=r"transformer") as caught:
        planned("model.init=pretrained", f"model.repo={copied}")
    assert says in str(caught.value)


def test_gguf_without_its_package_is_refused(
    folder: Path, tmp_path: Path, planned: Planned, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "x.gguf"
    file.write_bytes(b"GGUF\3\0\0\0" + bytes(16))
    given = ["model.init=pretrained", f"model.repo={file}", f"model.components={folder}"]
    monkeypatch.setattr(quantized, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="gguf is missing: pip install gguf"):
        planned(*given)
    file.write_bytes(b"PK" + bytes(20))
    monkeypatch.setattr(quantized, "find_spec", lambda name: name)
    with pytest.raises(ConfigError, match="not in the GGUF format"):
        planned(*given)
    file.unlink()
    os.mkfifo(file)  # nobody writes to it, and opening it would wait forever
    with pytest.raises(ConfigError, match=r"x\.gguf: .*file"):
        planned(*given)


def test_a_gguf_file_that_is_cut_off_says_so(gguf_file: Path, folder: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(gguf_file.read_bytes()[:5000])
    with pytest.raises(ConfigError, match=r"model\.repo=.*cut\.gguf: cut off inside its header; download it again"):
        load_from(cut, folder)
    cut.write_bytes(gguf_file.read_bytes()[:-1000])
    with pytest.raises(ConfigError, match=r"model\.repo=.*cut\.gguf: the tensor \w\S+ ends at byte \d+, and the file"):
        load_from(cut, folder)


def test_the_plan_says_what_of_a_gguf_file_is_not_read(
    gguf_file: Path, folder: Path, planned: Planned, tmp_path: Path
) -> None:
    for spare in (b"", b"evil" * 1000):
        file = tmp_path / f"{len(spare)}.gguf"
        file.write_bytes(gguf_file.read_bytes() + spare)
        plan = planned("model.init=pretrained", f"model.repo={file}", f"model.components={folder}")
        said = [change.why for change in plan.changes if "belong to none" in change.why]
        assert said == ["4000 bytes of 4000.gguf belong to none of its tensors, and are not read"] * bool(spare)


def write_gguf(file: Path, state: dict[str, torch.Tensor]) -> Path:
    gguf = pytest.importorskip("gguf")
    writer = gguf.GGUFWriter(file, "flux")
    for name, tensor in state.items():
        writer.add_tensor(name, tensor.float().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda state: state | {"bogus.weight": torch.ones(3)}, r"1 of its tensors have no place .* bogus\.weight"),
        (
            lambda state: {name: tensor for name, tensor in state.items() if name != "proj_out.weight"},
            r"'transformer' is incomplete, 1 .* proj_out\.weight",
        ),
        (
            lambda state: state | {"proj_out.bias": torch.ones(3)},
            r"proj_out\.bias has the shape \[3\] and needs \[64\]",
        ),
    ],
)
def test_tensors_of_a_gguf_file_have_a_place(folder: Path, tmp_path: Path, change: Any, says: str) -> None:
    state = dict(tiny("demo")[2].transformer.state_dict())
    with pytest.raises(RunError, match=rf"model\.repo=\S+x\.gguf: .*{says}"):
        load_from(write_gguf(tmp_path / "x.gguf", change(state)), folder)


def test_a_gguf_file_with_a_prefix(folder: Path, tmp_path: Path) -> None:
    state = tiny("demo")[2].transformer.state_dict()
    named = {f"model.diffusion_model.{name}": tensor for name, tensor in state.items()}
    _, pipe = load_from(write_gguf(tmp_path / "x.gguf", named), folder)
    loaded = pipe.transformer.state_dict()
    assert loaded.keys() == state.keys() and all(torch.equal(loaded[name], state[name]) for name in state)


def test_a_named_quantization_of_which_nothing_is_stored_is_refused(
    torchao_folder: Path, folder: Path, tmp_path: Path, planned: Planned
) -> None:
    """torchao would leave plain weights as they are."""
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    config, named = copy / "transformer" / "config.json", torchao_folder / "transformer" / "config.json"
    settings = json.loads(named.read_text())["quantization_config"]
    planned("model.init=pretrained", f"model.repo={torchao_folder}")
    config.write_text(json.dumps(json.loads(config.read_text()) | {"quantization_config": settings}))
    says = r"'transformer': its config\.json names a quantization .* none of its \d+ tensors is quantized"
    with pytest.raises(ConfigError, match=says):
        planned("model.init=pretrained", f"model.repo={copy}")

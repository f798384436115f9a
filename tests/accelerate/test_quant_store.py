"""Quantized weights in the store: the same bits the next time, without the weights that they were made from."""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load

from tests.accelerate.quantized import quantize, swapped
from tests.accelerate.random_adapters import write_lora
from tests.conftest import run_as_data
from tests.models.tiny_families import tiny
from wavespeed_runner.accelerate.quant_options import CustomQuant, LayerScheme, QuantOptions
from wavespeed_runner.accelerate.quant_store import STAGE
from wavespeed_runner.errors import RunError
from wavespeed_runner.models.weights import kept_module, random_init
from wavespeed_runner.models.weights.kept_module import find_unkept, from_view, to_parts
from wavespeed_runner.planning.plan import Plan
from wavespeed_runner.stages import load as load_stage

Planned = Callable[..., Plan]
MIXED = CustomQuant(
    layers=[
        LayerScheme(pattern=r".*to_[qk]", scheme="int8_dq"),
        LayerScheme(pattern=r".*to_v", scheme="int8_wo"),
        LayerScheme(pattern=r".*blocks.*", scheme="fp8_wo"),
        LayerScheme(pattern=r".*", scheme="int8_wo", component="text_encoder_2"),
    ]
)


def list_tensors(module: Any) -> dict[str, torch.Tensor]:
    """Every plain tensor of a module; of a quantized weight its codes and scales."""
    tensors = {}
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        parts = getattr(tensor, "tensor_data_names", None)
        for part in parts or [""]:
            tensors[f"{name}:{part}"] = getattr(tensor, part) if part else tensor.detach()
    return tensors


def write_and_read(module: Any) -> Any:
    return from_view(memoryview(bytearray(b"".join(to_parts(module)))))


@pytest.mark.parametrize(
    ("name", "component"),
    [("flux", "transformer"), ("flux", "text_encoder_2"), ("sdxl", "unet"), ("qwen_image", "transformer")],
)
def test_a_module_comes_back_bit_for_bit(name: str, component: str) -> None:
    options = MIXED if name == "flux" else QuantOptions(name="int8_dq")
    module = getattr(quantize(name, options)[0], component)
    again = write_and_read(module)
    assert type(again) is type(module) and not again.training
    before, after = list_tensors(module), list_tensors(again)
    assert before.keys() == after.keys()
    for key, tensor in before.items():
        assert tensor.dtype == after[key].dtype and torch.equal(tensor, after[key]), key
    kinds = [{n: type(p).__name__ for n, p in m.named_parameters()} for m in (module, again)]
    assert kinds[0] == kinds[1] and len(set(kinds[0].values())) > 1


def test_it_computes_the_same() -> None:
    from tests.accelerate.random_adapters import generate

    pipe, _ = quantize("flux", MIXED)
    before = generate("flux", pipe)
    for component in ("transformer", "text_encoder_2"):
        pipe.register_modules(**{component: write_and_read(getattr(pipe, component))})
    assert torch.equal(generate("flux", pipe), before)


def test_weights_begin_at_the_same_place_in_memory() -> None:
    """Else a process that reads them rounds otherwise than the one that wrote them: weights of files lie anywhere."""
    layer = quantize("flux", MIXED)[0].transformer
    for place in (0, 8, 40):
        room = torch.empty(layer.x_embedder.weight.numel() + 16)
        moved = room[place // 4 :][: layer.x_embedder.weight.numel()].view_as(layer.x_embedder.weight)
        layer.x_embedder.weight = torch.nn.Parameter(moved.copy_(layer.x_embedder.weight), requires_grad=False)
        assert layer.x_embedder.weight.data_ptr() % 64 == place
        again = write_and_read(layer).x_embedder.weight
        assert again.data_ptr() % 64 == place and torch.equal(again, moved)


def test_the_bytes_are_a_safetensors_file() -> None:
    module = quantize("flux", MIXED)[0].transformer
    tensors = load(b"".join(to_parts(module)))
    assert torch.equal(tensors["x_embedder.weight"], module.x_embedder.weight)
    codes = module.transformer_blocks[0].attn.to_q.weight.qdata
    assert torch.equal(tensors["transformer_blocks.0.attn.to_q._weight_qdata"], codes)


def test_nothing_in_full_precision_is_made_on_the_way() -> None:
    module = quantize("flux", MIXED)[0].transformer
    about = {"library": "diffusers", "class": "FluxTransformer2DModel", "config": kept_module._read_config(module)}
    assert all(parameter.is_meta for parameter in kept_module._build_empty(about).parameters())


@pytest.mark.parametrize(("library", "name"), [("os", "system"), ("diffusers", "FluxPipeline"), ("builtins", "eval")])
def test_an_entry_may_ask_for_models_only(library: str, name: str) -> None:
    with pytest.raises(RunError, match="may not be loaded"):
        kept_module._build_empty({"library": library, "class": name, "config": {}})


def test_what_cannot_be_kept_says_why() -> None:
    assert "neither of diffusers" in find_unkept(torch.nn.Linear(2, 2))
    pipe = tiny("flux")[2]
    assert find_unkept(pipe.transformer) == ""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kept_module, "DTYPES", {})
        assert "number format" in find_unkept(pipe.transformer)


@pytest.fixture
def run(planned: Planned, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    """Runs the tiny model as a new process would, with the store of the runs before; returns the record."""
    monkeypatch.setattr(load_stage, "_identity", lambda repo, revision: f"weights of {repo}")

    def run_with(*overrides: str) -> dict[str, Any]:
        gc.collect()  # pipelines of this process share their weights while one is alive
        folder = tmp_path / f"run{len(list(tmp_path.glob('run*')))}"
        plan = planned("quant=int8_dq", "rerun=true", "steps=2", *overrides, outputs=str(tmp_path / "outputs"))
        record = run_as_data(plan, folder, [])
        assert record["status"] == "completed", record["error"]
        return record

    return run_with


def outcome(record: dict[str, Any]) -> str:
    return str(record["engaged"]["quant"]["components"]["transformer"]["store"])


def pixels(record: dict[str, Any]) -> list[str]:
    return [sample["pixels_sha256"] for sample in record["samples"]]


def count_entries(tmp_path: Path) -> int:
    from wavespeed_runner.storage.store import Store

    return [entry.stage for entry in Store(tmp_path / "outputs" / "store").entries()].count(STAGE)


@pytest.fixture
def tiny_repo(tmp_path: Path) -> list[str]:
    """Overrides that load the tiny model from a folder."""
    folder = tmp_path / "model"
    tiny("demo")[2].save_pretrained(folder)
    return ["model.init=pretrained", f"model.repo={folder}"]


def test_the_second_time_the_original_weights_are_not_read(
    run: Callable[..., dict[str, Any]], tiny_repo: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import diffusers.models.modeling_utils as modeling

    read: list[str] = []
    original = modeling.load_state_dict

    def watch(file: Any, *args: Any, **options: Any) -> Any:
        read.append(Path(file).parent.name)
        return original(file, *args, **options)

    monkeypatch.setattr(modeling, "load_state_dict", watch)
    first = run(*tiny_repo)
    assert outcome(first) == "written" and "transformer" in read
    read.clear()
    second = run(*tiny_repo)
    assert outcome(second) == "read" and "transformer" not in read and "vae" in read
    assert pixels(second) == pixels(first)
    before, after = (record["engaged"]["quant"]["components"]["transformer"] for record in (first, second))
    assert before["swapped"] == after["swapped"] and before["bytes"] == after["bytes"]


def test_random_weights_are_not_drawn_again(
    run: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[str] = []
    original = random_init.build_random_module

    def watch(build: Any, **options: Any) -> Any:
        drawn.append(build.args[0])
        return original(build, **options)

    monkeypatch.setattr(random_init, "build_random_module", watch)
    first = run()
    assert outcome(first) == "written" and "FluxTransformer2DModel" in drawn
    drawn.clear()
    second = run()
    assert outcome(second) == "read" and "FluxTransformer2DModel" not in drawn and "AutoencoderKL" in str(drawn)
    assert pixels(second) == pixels(first)


def test_a_single_file_is_not_read_again(
    run: Callable[..., dict[str, Any]], tiny_repo: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from wavespeed_runner.models.weights import single_file

    folder = tiny_repo[1].partition("=")[2]
    file = f"{folder}/transformer/diffusion_pytorch_model.safetensors"
    overrides = ["model.init=pretrained", f"model.repo={file}", f"model.components={folder}"]
    first = run(*overrides)
    monkeypatch.setattr(single_file, "load_tensors", None)
    assert outcome(first) == "written" and outcome(second := run(*overrides)) == "read"
    assert pixels(second) == pixels(first)


def test_other_options_have_entries_of_their_own(run: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    assert outcome(run()) == "written"
    for override in ("quant=int8_wo", "quant.also=[x_embedder]", "model.dtype=bfloat16"):
        assert outcome(run(override)) == "written", override
    assert count_entries(tmp_path) == 4
    assert outcome(run("cache=fbcache", "memory=vae_slicing", "steps=3")) == "read"


def test_a_damaged_entry_is_made_again(run: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    first = run()
    (entry,) = [f for f in (tmp_path / "outputs").rglob("*.entry") if b'"stage": "quant"' in f.read_bytes()[:300]]
    raw = bytearray(entry.read_bytes())
    raw[-5] ^= 1
    entry.write_bytes(raw)
    second = run()
    assert outcome(second) == "written" and pixels(second) == pixels(first)
    assert outcome(run()) == "read"


def test_what_is_not_kept_is_said(run: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    assert outcome(run("quant.keep=false")) == "not kept: quant.keep=false"
    file = write_lora(tiny("demo")[2].transformer, tmp_path / "lora.safetensors", "transformer")
    assert outcome(run("adapters=lora", f"adapters.path={file}")) == "not kept: adapters are loaded"
    assert count_entries(tmp_path) == 0


def test_the_reference_is_not_quantized(run: Callable[..., dict[str, Any]]) -> None:
    for expected in ("written", "read"):
        record = run("measure=default", "measure.warmup=0")
        assert outcome(record) == expected and record["reference"]["kind"] == "run"
        assert 0 < record["samples"][0]["quality"]["mae"] < 20
    assert swapped(quantize("demo", QuantOptions(name="int8_dq"))[0])

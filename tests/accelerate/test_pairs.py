"""Every two accelerations on three models: refused by a rule, or they run, both engage, and the result is close enough.

The slow path is the same with one of the two, and with none: together they may err as much as both alone, and a little
more, since rounding in one changes what the other rounds.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.accelerate.parallel.forked import run_on_ranks
from wavespeed_runner.accelerate.shared_weights import copy_pipeline
from wavespeed_runner.cli.support_pairs import ACCELERATIONS, GROUPS, MODELS, SHARED, Pair, list_pairs
from wavespeed_runner.config.compose import compose_job, composer
from wavespeed_runner.errors import Unfit
from wavespeed_runner.planning.graph import SOURCE
from wavespeed_runner.planning.plan import build_plan

pytestmark = pytest.mark.slow

QUICK = ("prompt=a red circle", "model.dtype=float32", "measure=none", "measure.warmup=0")
EVIDENCE = {"casting": "memory", "offload": "memory"}
FACTOR, MARGIN = 3.0, 0.01
"""Of the sum of both errors, and on top of it; relative. A wrong result differs by about 1."""
PAIRS = list_pairs()
ADAPTED = {"flux": "transformer", "sd15": "unet", "wan21": "transformer"}


@pytest.fixture(scope="module")
def adapters(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Model -> a random LoRA for one attention layer of each of its blocks."""
    folder = tmp_path_factory.mktemp("lora")
    files = {}
    for model, component in ADAPTED.items():
        load = build_plan(build_config(model, (), str(folder))).graph.nodes["load"]
        pipe = load.stage.function(load.options).pipe
        generator, tensors = torch.Generator().manual_seed(0), {}
        for name, layer in getattr(pipe, component).named_modules():
            if name.endswith(("to_v", "to_out.0")):
                rows, columns = layer.weight.shape
                tensors[f"{component}.{name}.lora_A.weight"] = torch.randn(2, columns, generator=generator)
                tensors[f"{component}.{name}.lora_B.weight"] = torch.randn(rows, 2, generator=generator) * 0.15
        files[model] = folder / f"{model}.safetensors"
        save_file(tensors, files[model])
    return files


@lru_cache(maxsize=1)
def compose_parts() -> tuple[dict[str, dict[str, Any]], dict[str, dict[str, Any]]]:
    """Composed configs: that of each model, and what each acceleration puts in its group. Copy before changing."""
    with composer(None):
        models = {name: compose(*own, *SHARED, *QUICK) for name, own in MODELS.items()}
        nodes = {name: compose(*own)[GROUPS.get(name, name)] for name, own in ACCELERATIONS.items()}
    nodes["compile"]["backend"] = "eager"
    return models, nodes


def compose(*overrides: str) -> dict[str, Any]:
    return compose_job(list(overrides), list(overrides))


def build_config(model: str, names: tuple[str, ...], outputs: str, adapter: str = "a/b") -> dict[str, Any]:
    """The config of a model with these accelerations, as Hydra composes it."""
    models, nodes = deepcopy(compose_parts())
    nodes["adapters"]["path"] = adapter
    if "compile" in names:  # the rules want a warm-up there; elsewhere it only takes time
        models[model]["measure"]["warmup"] = 1
    return {**models[model], **{GROUPS.get(name, name): nodes[name] for name in names}, "outputs": outputs}


def run(config: dict[str, Any], change: Callable[[Any], None] = lambda pipeline: None) -> dict[str, Any]:
    """Node -> output of the graph's stages, down to the latents; nothing from the store.

    change: what to do to the loaded pipeline.
    """
    plan = build_plan(config)
    values: dict[str, Any] = {SOURCE: plan.samples[0]}
    for name, node in plan.graph.nodes.items():
        if name != "decode":
            inputs = {key: values[source] for key, source in node.inputs.items()}
            values[name] = node.stage.function(node.options, **inputs)
        if name == "load":
            change(values[name])
    return values


@lru_cache(maxsize=64)
def latents_of(model: str, names: tuple[str, ...], adapter: str, outputs: str) -> tuple[torch.Tensor, dict[str, Any]]:
    def compute() -> tuple[torch.Tensor, dict[str, Any]]:
        result = run(build_config(model, names, outputs, adapter))["denoise"]
        return result.tensors["latents"].float(), result.data["engaged"]

    if "parallel" not in names:
        return compute()
    own, other = run_on_ranks(2, compute)
    assert torch.equal(own[0], other[0]), "both ranks have the same latents"
    return own


def differ(result: torch.Tensor, expected: torch.Tensor) -> float:
    return float((result - expected).norm() / expected.norm())


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: f"{pair.model}-{'+'.join(pair.names)}")
def test_a_pair_is_refused_or_works(pair: Pair, adapters: dict[str, Path], tmp_path_factory: Any) -> None:
    if pair.refused:
        with pytest.raises(Unfit) as caught:
            run(build_config(pair.model, pair.names, str(tmp_path_factory.getbasetemp() / "pairs")))
        assert str(caught.value).startswith(pair.refused[0])
        return
    outputs, adapter = str(tmp_path_factory.getbasetemp() / "pairs"), str(adapters[pair.model])

    def latents(*names: str) -> torch.Tensor:
        return latents_of(pair.model, names, adapter, outputs)[0]

    # An adapter is no acceleration: what it changes is meant, and the slow path has it, too.
    meant = ("adapters",) if "adapters" in pair.names else ()
    others = [name for name in pair.names if name != "adapters"]
    slow = latents(*meant)
    allowed = sum(differ(latents(*meant, name), slow) for name in others) if len(others) > 1 else 0.0
    allowed += sum(differ(latents(name), latents()) for name in others) if meant else 0.0
    result, engaged = latents_of(pair.model, pair.names, adapter, outputs)
    assert torch.isfinite(result).all() and differ(result, slow) <= FACTOR * allowed + MARGIN
    for name in pair.names:
        assert engaged[EVIDENCE.get(name, name)], f"{name} has left no evidence"
    if meant:
        assert differ(slow, latents()) > 10 * MARGIN, "the adapter has an effect"


@pytest.mark.parametrize("model", MODELS)
def test_a_cache_errs_with_an_adapter_as_on_a_model_with_such_weights(
    model: str, adapters: dict[str, Path], tmp_path_factory: Any
) -> None:
    """How much that is depends on the model: on one that an adapter has changed it is more, or less."""
    outputs, adapter = str(tmp_path_factory.getbasetemp() / "pairs"), str(adapters[model])
    result, _ = latents_of(model, ("adapters", "cache"), adapter, outputs)
    changed = run(build_config(model, ("cache",), outputs), partial(add_products, load_file(adapter)))
    assert differ(result, changed["denoise"].tensors["latents"].float()) < 1e-4


def add_products(tensors: dict[str, torch.Tensor], pipeline: Any) -> None:
    """Adds a LoRA's products to copies of a pipeline's weights, which other pipelines may share."""
    pipeline.pipe = copy_pipeline(pipeline.pipe)
    for key, down in tensors.items():
        component, _, name = key.removesuffix(".lora_A.weight").partition(".")
        if key.endswith(".lora_A.weight"):
            layer = getattr(pipeline.pipe, component).get_submodule(name)
            changed = layer.weight.detach() + tensors[key.replace("lora_A", "lora_B")] @ down
            layer.weight = torch.nn.Parameter(changed, requires_grad=False)


def test_configs_put_together_are_what_hydra_composes(tmp_path: Path) -> None:
    for pair in PAIRS[::9]:
        own = ("compile.backend=eager", "measure.warmup=1") if "compile" in pair.names else ()
        with composer(None):
            expected = compose(*pair.overrides, *QUICK, *own, f"outputs={tmp_path}")
        assert build_config(pair.model, pair.names, str(tmp_path)) == expected

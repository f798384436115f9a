"""FLOPs: against sums made by hand, against whole generations counted; and counting leaves no trace."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn.modules import module as torch_module
from torch.utils.flop_counter import FlopCounterMode

from tests.caching.generate import ALWAYS, Generated, fbcache
from tests.caching.generate_unet import deepcache, first_blocks, load_unet
from wavespeed_runner.caching import Trace, flops
from wavespeed_runner.caching.evidence import build_flops_evidence, merge_evidence
from wavespeed_runner.caching.flops import CallFlops, Flops, count_generation_flops, record_calls
from wavespeed_runner.caching.strategies import NoCache
from wavespeed_runner.caching.trace import Decision
from wavespeed_runner.models.families.flux import FLUX
from wavespeed_runner.models.family import UNetBlocks

IMAGE, TEXT, WIDTH, DOUBLE, SINGLE = 16, 40, 64, 2, 4
"""Of the tiny FLUX at 64 pixels: tokens of image and text, width, number of double and single blocks."""


def linear(inputs: int, outputs: int, tokens: int = 1) -> int:
    return 2 * inputs * outputs * tokens


def attention(tokens: int) -> int:
    """Scores and their product with the values, all heads together."""
    return 2 * (2 * tokens * tokens * WIDTH)


def double_block() -> int:
    w, both = WIDTH, IMAGE + TEXT
    modulation = 2 * linear(w, 6 * w)
    return modulation + linear(w, 4 * w, both) + linear(w, 4 * w, both) + linear(4 * w, w, both) + attention(both)


def single_block() -> int:
    w, both = WIDTH, IMAGE + TEXT
    return linear(w, 3 * w) + linear(w, 3 * w + 4 * w, both) + linear(5 * w, w, both) + attention(both)


def outside() -> int:
    w = WIDTH
    time, pooled = linear(256, w) + linear(w, w), linear(32, w) + linear(w, w)
    guidance = time  # the embedding of the distilled guidance's scale
    return time + guidance + pooled + linear(32, w, TEXT) + linear(w, w, IMAGE) + linear(w, 2 * w) + linear(w, w, IMAGE)


def run_and_count(model: Any, cache: Any, **call: Any) -> tuple[Flops, torch.Tensor]:
    denoiser = model.denoiser if isinstance(model, Generated) else model.unet
    with record_calls([denoiser]) as calls:
        latents, _ = model.run(cache, **call)
    return count_generation_flops(calls, FLUX.blocks if isinstance(model, Generated) else UNetBlocks(), cache), latents


def count_whole(model: Any, *, cache: Any) -> int:
    """FLOPs of a generation, all its calls counted while they run."""
    attention_of_cpu = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: flops.count_attention_flops}
    with FlopCounterMode(display=False, custom_mapping=attention_of_cpu) as counter:
        model.run(cache, steps=4) if cache else model.denoise(steps=4)
    return int(counter.get_total_flops())


def test_blocks_of_flux_are_what_their_layers_multiply(plain: Generated) -> None:
    counted, _ = run_and_count(plain, fbcache(ALWAYS, blocks=2), steps=3)
    blocks = DOUBLE * double_block() + SINGLE * single_block()
    cost = CallFlops(denoiser=blocks + outside(), blocks=blocks, skippable=SINGLE * single_block())
    assert counted == Flops(calls=(cost,) * 3)


def test_the_last_blocks_count_as_always_run(plain: Generated) -> None:
    counted, _ = run_and_count(plain, fbcache(ALWAYS, tail_blocks=1), steps=1)
    assert counted.calls[0].skippable == (DOUBLE - 1) * double_block() + (SINGLE - 1) * single_block()


@pytest.mark.parametrize("window", [{}, {"tail_blocks": 2}, {"start": 0.5}], ids=["all", "tail", "window"])
def test_the_share_is_that_of_whole_generations_of_a_transformer(guided: Generated, window: dict[str, Any]) -> None:
    cache = fbcache(ALWAYS, **window)
    counted, _ = run_and_count(guided, cache, steps=4)
    evidence = build_flops_evidence(counted, guided.run(cache, steps=4)[1])
    assert evidence["denoiser_flops"] == count_whole(guided, cache=None)
    assert evidence["denoiser_flop_share"] == pytest.approx(
        count_whole(guided, cache=cache) / evidence["denoiser_flops"], abs=1e-12
    )
    assert evidence["flop_share"] < evidence["denoiser_flop_share"] < 1


@pytest.mark.parametrize("cache", [first_blocks(ALWAYS), deepcache(2, 0), deepcache(2, 3)], ids=["first", "0", "3"])
@pytest.mark.parametrize("model", ["sd15", "sdxl"])
def test_the_share_is_that_of_whole_generations_of_a_unet(model: str, cache: Any) -> None:
    unet = load_unet(model)
    counted, _ = run_and_count(unet, cache, steps=4)
    evidence = build_flops_evidence(counted, unet.run(cache, steps=4)[1])
    assert evidence["denoiser_flops"] == count_whole(unet, cache=None)
    assert evidence["denoiser_flop_share"] == pytest.approx(
        count_whole(unet, cache=cache) / evidence["denoiser_flops"], abs=1e-12
    )


def test_prompts_of_other_lengths_cost_their_own(plain: Generated) -> None:
    """Calls of different shapes are counted separately, and kept in the order in which they came."""
    embeddings = dict(plain.embeddings)
    shorter = {name: tensor[:, :24] if tensor.ndim == 3 else tensor for name, tensor in embeddings.items()}
    denoiser, cache = plain.denoiser, fbcache(ALWAYS)
    with record_calls([denoiser]) as calls:
        for plain.embeddings in (embeddings, shorter, embeddings):
            plain.denoise(steps=1)
    plain.embeddings = embeddings
    costs = count_generation_flops(calls, FLUX.blocks, cache).calls
    assert costs[0] == costs[2] and costs[1].blocks < costs[0].blocks and len(calls.examples) == 2


def build_decisions(*computed: bool, ran: tuple[bool, ...] | None = None, image: int = 0) -> list[Decision]:
    return [
        Decision(step=i, branch="cond", image=image, computed=is_computed, ran=(ran or computed)[i], signal=None)
        for i, is_computed in enumerate(computed)
    ]


def test_shares_of_a_known_list_of_decisions() -> None:
    costs = Flops(calls=tuple(CallFlops(denoiser=n * 120, blocks=n * 100, skippable=n * 90) for n in (1, 1, 2, 1)))
    evidence = build_flops_evidence(costs, Trace(strategy="x", decisions=build_decisions(True, False, False, True)))
    assert evidence["block_flops"] == 500 and evidence["flop_share"] == pytest.approx(230 / 500)
    assert evidence["denoiser_flops"] == 600 and evidence["denoiser_flop_share"] == pytest.approx(330 / 600)


def test_a_hit_saves_nothing_while_a_neighbour_has_the_blocks_run() -> None:
    costs = Flops(calls=(CallFlops(denoiser=120, blocks=100, skippable=50),) * 2)
    both = build_decisions(True, False, ran=(True, True)) + build_decisions(True, True, image=1)
    evidence = build_flops_evidence(costs, Trace(strategy="x", decisions=both))
    assert evidence["flop_share"] == 1 and evidence["block_flops"] == 100, "half of what the batch takes"


@pytest.mark.parametrize(
    ("costs", "why"),
    [(flops.NO_WARMUP, "no warm-up (measure.warmup=0)"), (Flops(), "2 calls of the denoiser, 0 in the warm-up")],
)
def test_what_was_not_counted_is_null_and_says_why(costs: Flops, why: str) -> None:
    evidence = build_flops_evidence(costs, Trace(strategy="x", decisions=build_decisions(True, False)))
    assert (
        evidence["flop_share"] is None and evidence["denoiser_flop_share"] is None and evidence["flops_missing"] == why
    )


def test_shares_of_several_generations_weigh_by_what_they_take() -> None:
    counts = {"calls": 2, "hits": 1, "block_share": 0.5}
    a = {**counts, "block_flops": 100, "flop_share": 0.5, "denoiser_flops": 200, "denoiser_flop_share": 0.75}
    b = {**counts, "block_flops": 300, "flop_share": 0.9, "denoiser_flops": 400, "denoiser_flop_share": 0.9}
    both = merge_evidence([a, b])
    assert both and both["block_flops"] == 400 and both["flop_share"] == pytest.approx(320 / 400)
    assert both["denoiser_flop_share"] == pytest.approx(510 / 600)
    unknown = merge_evidence([a, {**counts, "flop_share": None, "block_flops": None, "flops_missing": "no warm-up"}])
    assert unknown and unknown["flop_share"] is None and unknown["flops_missing"] == "no warm-up"
    older = merge_evidence([a, counts])
    assert older and older["flop_share"] is None and older["hits"] == 2


def test_counting_changes_no_bit_and_leaves_no_hook(guided: Generated) -> None:
    def hooks() -> list[int]:
        return [
            len(kept)
            for part in guided.denoiser.modules()
            for kept in (part._forward_pre_hooks, part._forward_hooks, part._forward_pre_hooks_with_kwargs)
        ] + [len(torch_module._global_forward_pre_hooks), len(torch_module._global_forward_hooks)]

    cache = fbcache(0.6)
    before, state = hooks(), torch.get_rng_state()
    plainly, _ = guided.run(cache, steps=4)
    counted, recorded = run_and_count(guided, cache, steps=4)
    after, _ = guided.run(cache, steps=4)
    assert counted.calls and torch.equal(plainly, recorded) and torch.equal(plainly, after)
    assert hooks() == before and torch.equal(torch.get_rng_state(), state)


def test_a_denoiser_compiled_together_with_its_hooks_is_left_alone(plain: Generated) -> None:
    plain.denoiser.compile(backend="eager")
    try:
        with record_calls([plain.denoiser]) as calls:
            assert not plain.denoiser._forward_pre_hooks, "a hook would have it compiled again"
        missing = "the denoiser is compiled together with its hooks"
        assert count_generation_flops(calls, FLUX.blocks, fbcache(ALWAYS)) == Flops(missing=missing)
    finally:
        plain.denoiser._compiled_call_impl = None


@pytest.mark.parametrize("whole", [True, False])
def test_of_compiled_modules_as_many_are_counted_as_of_eager_ones(plain: Generated, whole: bool) -> None:
    """And counting compiles nothing again."""
    cache = NoCache() if whole else fbcache(0.6)
    expected, _ = run_and_count(plain, cache, steps=4)
    flops._COUNTED.clear()
    modules = [plain.denoiser] if whole else [*plain.denoiser.transformer_blocks]
    try:
        for module in modules:
            module.forward = torch.compile(module.forward, backend="eager", fullgraph=True)
        counted, _ = run_and_count(plain, cache, steps=4)
        with torch._dynamo.config.patch(error_on_recompile=True):
            again, _ = run_and_count(plain, cache, steps=4)
    finally:
        for module in modules:
            vars(module).pop("forward", None)
        torch._dynamo.reset()
    assert counted == again == expected and counted.calls


def test_an_operator_that_cannot_be_counted_fails_no_run(plain: Generated) -> None:
    with record_calls([plain.denoiser]) as calls:
        plain.denoise(steps=1)
    calls.examples = {shape: (denoiser, args, {}) for shape, (denoiser, args, _) in calls.examples.items()}
    assert count_generation_flops(calls, FLUX.blocks, fbcache(ALWAYS)).missing.startswith("TypeError while counting: ")


def test_a_shape_of_call_is_counted_once_and_again_when_layers_change(monkeypatch: pytest.MonkeyPatch) -> None:
    layers, args = torch.nn.Sequential(torch.nn.Linear(4, 8)), (torch.zeros(2, 4),)
    first = flops._count_by_module(layers, args, {})["Global"]
    assert first == linear(4, 8, 2)
    counters = []

    def counter(**options: Any) -> FlopCounterMode:
        counters.append(options)
        return FlopCounterMode(**options)

    monkeypatch.setattr("torch.utils.flop_counter.FlopCounterMode", counter)
    assert flops._count_by_module(layers, args, {})["Global"] == first and not counters
    assert flops._count_by_module(layers, (torch.zeros(3, 4),), {})["Global"] == linear(4, 8, 3) and len(counters) == 1
    layers.append(torch.nn.Linear(8, 8))
    assert flops._count_by_module(layers, args, {})["Global"] == linear(4, 8, 2) + linear(8, 8, 2)

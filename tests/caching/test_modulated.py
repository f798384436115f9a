"""TeaCache's signal in every family, against what the first block's attention really gets."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch

from tests.caching.tiny_models import OTHER_ARCHITECTURES, TinyModel, models, tiny_model
from wavespeed_runner.caching import GenerationInfo, attach_strategy
from wavespeed_runner.caching.criteria.thresholds import AccumulatedChange
from wavespeed_runner.caching.predictors.reuse import Reuse
from wavespeed_runner.caching.signals.block_signals import ModulatedInput
from wavespeed_runner.config.schema import CacheConfig

ATTENTION = {
    "chroma": "attn",
    "flux": "attn",
    "flux_fill": "attn",
    "flux_kontext": "attn",
    "flux2": "attn",
    "flux2_klein": "attn",
    "hunyuan_video": "attn",
    "hunyuan_video_i2v": "attn",
    "hunyuan_video15": "attn",
    "hunyuan_video15_i2v": "attn",
    "ltx2": "attn1",
    "ltx_video": "attn1",
    "lumina2": "attn",
    "pixart_sigma": "attn1",
    "qwen_image": "attn",
    "qwen_image_edit": "attn",
    "qwen_image_edit_plus": "attn",
    "sana": "attn1",
    "sd3": "attn",
    "z_image": "attention",
}
"""Model -> the attention of its blocks. The signal of the others is of the timestep only."""

EMBEDDER = {
    "cogvideox": "time_embedding",
    "cogvideox_i2v": "time_embedding",
    "hidream": "t_embedder",
    "lumina2": "time_caption_embed.timestep_embedder",
    **dict.fromkeys(("wan", "wan_i2v", "wan22", "wan22_5b", "wan22_i2v"), "condition_embedder"),
}
"""Model -> the module that embeds the timestep."""


@pytest.fixture(scope="module", params=[*models(), *OTHER_ARCHITECTURES])
def tiny(request: pytest.FixtureRequest) -> TinyModel:
    return tiny_model(request.param)


@contextmanager
def record_expected(tiny: TinyModel, variant: str | None) -> Iterator[list[torch.Tensor]]:
    """What the signal should be at each call, recorded by hooks."""
    expected: list[torch.Tensor] = []

    def record_input(module: Any, args: Any, kwargs: Any) -> None:
        expected.append(args[0] if args else kwargs["hidden_states"])

    def record_embedding(module: Any, args: Any, output: Any) -> None:
        if isinstance(output, tuple):
            output = output[0] if variant is None else output[1].unflatten(-1, (6, -1))
        expected.append(output)

    handles = []
    for denoiser in tiny.denoisers:
        if tiny.config.name in ATTENTION and variant is None:
            module = tiny.list_blocks(denoiser)[0].get_submodule(ATTENTION[tiny.config.name])
            handles.append(module.register_forward_pre_hook(record_input, with_kwargs=True))
        else:
            module = denoiser.get_submodule(EMBEDDER[tiny.config.name])
            handles.append(module.register_forward_hook(record_embedding))
    yield expected
    for handle in handles:
        handle.remove()


def test_the_signal_is_what_the_first_block_works_on(tiny: TinyModel) -> None:
    check_signal(tiny, None)


@pytest.mark.parametrize(("name", "variant"), [("wan21", "ret_steps"), ("wan22_5b", "ret_steps"), ("lumina2", "comfy")])
def test_the_signal_of_a_variant(name: str, variant: str) -> None:
    check_signal(tiny_model(name), variant)


class SignalObserver:
    """Keeps the modulated input of the first block at every computed call."""

    def __init__(self) -> None:
        self.signals: list[torch.Tensor] = []

    def record_blocks(self, branch: str, call: Any, residual: Any) -> None:
        self.signals.append(call.modulated(call.first_block, dict(call.before), dict(call.arguments)))

    def record_output(self, branch: str, output: Any) -> None:
        pass


def check_signal(tiny: TinyModel, variant: str | None) -> None:
    cache = CacheConfig(
        name="custom",
        signal=ModulatedInput(variant=variant),
        criterion=AccumulatedChange(threshold=0.0),
        predictor=Reuse(),
    )
    observer = SignalObserver()
    half = len(tiny.calls) // 2
    info = GenerationInfo(steps=lambda: 2)
    with (
        record_expected(tiny, variant) as expected,
        attach_strategy(tiny.denoisers, tiny.blocks, cache, info, observer=observer) as trace,
    ):
        for i, call in enumerate(tiny.calls):
            if i == half:
                trace.end_step()
            call.repeat()
    assert len(observer.signals) == len(expected) == len(tiny.calls)
    for signal, wanted, call in zip(observer.signals, expected, tiny.calls, strict=True):
        assert signal.shape[0] == call.rows and torch.equal(signal, wanted)
    if len(tiny.denoisers) == 1:  # of two, each starts without anything to compare with
        for decision, now, then in zip(trace.decisions[half:], expected[half:], expected[:half], strict=True):
            formula = (now.double() - then.double()).abs().mean() / then.double().abs().mean()
            assert decision.signal == pytest.approx(formula.item(), rel=1e-4) and formula > 0

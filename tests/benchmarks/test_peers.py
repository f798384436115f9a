"""The comparison counts what really runs, and settings do not touch each other. Peers that are not installed skip."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from statistics import median

import numpy as np
import pytest
import torch

from benchmarks.peers import __main__ as command
from benchmarks.peers import figures
from benchmarks.peers.__main__ import attempt
from benchmarks.peers.cost import outside, rules, timed
from benchmarks.peers.measure import counted, measure, references, relative_error, weights
from benchmarks.peers.models import MODELS
from benchmarks.peers.prompts import judged
from benchmarks.peers.settings import Setting, fewer_steps, settings
from benchmarks.peers.theirs import diffusers_cache, theirs


class Prepared:
    """A model with one prompt's reference."""

    def __init__(self, name: str, steps: int | None = None) -> None:
        self.model = MODELS[name]()
        if steps:
            self.model = replace(self.model, steps=steps)
        self.weights = weights(self.model)
        self.references = references(self.model, judged()[:1], self.weights)

    def measure(self, setting: Setting) -> dict:
        """All but times."""
        found = measure(self.model, setting, self.references, self.weights)
        return {name: values for name, values in found.items() if not name.endswith("_seconds")}

    def named(self, name: str) -> dict:
        return self.measure(next(setting for setting in settings(self.model) if setting.name == name))


@pytest.fixture(scope="module")
def demo() -> Prepared:
    return Prepared("demo")


@pytest.fixture(scope="module")
def unet() -> Prepared:
    return Prepared("demo_unet", steps=10)


@pytest.mark.parametrize("name", MODELS)
def test_every_setting_has_a_name_of_its_own(name):
    names = [setting.name for setting in settings(MODELS[name]())]
    assert len(names) == len(set(names))


def test_without_a_cache_everything_is_counted_and_nothing_differs(demo):
    assert demo.references[0].computed == 28 * 8
    found = demo.measure(Setting(name="", group="", by=""))
    assert (found["share"], found["error"], found["ssim"]) == ([1.0], [0.0], [1.0])


def test_blocks_that_hooks_skip_are_not_counted(demo):
    always = {"config": "FirstBlockCacheConfig", "threshold": 1e9}
    found = demo.measure(Setting(name="", group="", by="", on=diffusers_cache, parameters=always))
    assert found["share"] == [(8 + 27) / (28 * 8)]
    assert found["error"][0] > 0.01


def test_fewer_steps_count_as_many_blocks(demo):
    setting = next(setting for setting in fewer_steps(demo.model) if setting.steps == 7)
    assert demo.measure(setting)["share"] == [0.25]


def test_mag_cache_is_calibrated_and_skips(demo, monkeypatch):
    monkeypatch.setattr("benchmarks.peers.theirs.calibration", lambda: judged()[:1])
    assert demo.named("diffusers MagCache 0.24 K3 R0.1")["share"][0] < 0.6


def test_a_fresh_pipeline_shares_nothing_that_a_peer_patches(demo):
    pipe = demo.model.fresh()
    assert isinstance(pipe, type(demo.model.pipe)) and type(pipe) is not type(demo.model.pipe)
    assert pipe.transformer is not demo.model.pipe.transformer
    assert pipe.scheduler is not demo.model.pipe.scheduler
    weight, same = pipe.transformer.x_embedder.weight, demo.model.pipe.transformer.x_embedder.weight
    assert torch.equal(weight, same) and weight.data_ptr() != same.data_ptr()


def test_u_net_layers_count_their_operations(unet):
    """Against the formula for convolutions, 2 x output positions x channels in x channels out x kernel."""
    denoiser = unet.model.pipe.unet
    # Latents of 16 x 16: the first downsampler gives 8 x 8, the second 4 x 4.
    first, second = (denoiser.down_blocks[i].downsamplers[0].conv for i in (0, 1))
    formula = [side**2 * conv.in_channels * conv.out_channels * 9 for side, conv in ((8, first), (4, second))]
    measured = [unet.weights[f"down_blocks.{i}.downsamplers.0"] for i in (0, 1)]
    assert measured[0] / measured[1] == pytest.approx(formula[0] / formula[1])
    parts = {name.rsplit(".", 2)[-2] for name in unet.weights}
    assert parts == {"resnets", "attentions", "downsamplers", "upsamplers"}


def test_rows_are_counted():
    layer = torch.nn.Sequential(torch.nn.Linear(2, 2))
    with counted(torch.nn.ModuleDict({"a": layer}), {"a": 3.0}) as ran:
        layer(torch.zeros(4, 2))
    layer(torch.zeros(4, 2))
    assert ran == [12.0]


def test_relative_error():
    x, r = np.array([1.0, 2.0, 4.0]), np.array([1.0, 3.0, 2.0])
    expected = np.abs(x - r).mean() / np.abs(r).mean()
    assert relative_error(torch.tensor(x).float(), torch.tensor(r).float()) == pytest.approx(expected)


def test_what_a_peer_cannot_do_is_noted_and_what_we_cannot_is_an_error(demo):
    @contextmanager
    def refuses(pipe, model):
        raise ValueError("not this model")
        yield

    theirs_figures, ours_figures = {"by": "theirs"}, {"by": "ours"}
    attempt(theirs_figures, lambda: demo.measure(Setting(name="", group="", by="theirs", on=refuses)))
    assert theirs_figures["cannot"] == "ValueError: not this model"
    with pytest.raises(ValueError, match="not this model"):
        attempt(ours_figures, lambda: demo.measure(Setting(name="", group="", by="ours", on=refuses)))


def test_transformer_caches_refuse_the_u_net(unet):
    setting = next(setting for setting in theirs(unet.model) if setting.group == "diffusers First Block Cache")
    with pytest.raises(AttributeError, match="enable_cache"):
        unet.measure(setting)


def test_cache_dit_masks_compute_what_they_say(demo):
    pytest.importorskip("cache_dit")
    # 8 of 28 steps; the first of 8 blocks runs in the others too.
    assert demo.named("cache-dit mask ultra Taylor-1")["share"] == [(8 + 20 / 8) / 28]


def test_two_cache_dit_settings_in_one_process_do_not_meet(demo):
    pytest.importorskip("cache_dit")
    loose = demo.named("cache-dit F1B0 W4 0.3 reuse")
    assert demo.named("cache-dit F1B0 W4 0.08 reuse")["share"][0] > loose["share"][0]
    assert demo.named("cache-dit F1B0 W4 0.3 reuse") == loose
    assert demo.measure(Setting(name="", group="", by=""))["error"] == [0.0]


def test_para_attention_without_taylor_is_diffusers_first_block_cache(demo):
    pytest.importorskip("para_attn")
    assert demo.named("ParaAttention 0.12") == demo.named("diffusers First Block Cache 0.12")


def test_deepcache_skips_the_deep_layers(unet):
    pytest.importorskip("DeepCache")
    shares = [unet.named(f"DeepCache interval {interval} branch 0")["share"][0] for interval in (2, 3, 5)]
    assert 1 > shares[0] > shares[1] > shares[2] > 0.1
    deeper = unet.named("DeepCache interval 5 branch 3")
    assert deeper["share"][0] > shares[2]


def test_the_command_writes_what_the_plot_reads(tmp_path, monkeypatch, capsys):
    out = tmp_path / "peers_demo.json"
    given = ["--prompts", "1", "--only", "diffusers First Block Cache 0.1", "--out", str(out)]
    monkeypatch.setenv("CACHE_DIT_LOG_LEVEL", "error")
    monkeypatch.setattr("sys.argv", ["peers", *given])
    command.main()
    found = figures.load("demo", tmp_path)
    names = ["no cache", *(f"diffusers First Block Cache {t}" for t in ("0.1", "0.12", "0.15"))]
    assert [point.name for point in found.points] == names
    shares = [point.share for point in found.points]
    assert shares == sorted(shares, reverse=True) and shares[-1] < 0.7
    assert all(0 < point.seconds[0] < 60 for point in found.points)


def test_cost_tells_computed_from_skipped_calls(demo):
    rule = {setting.name: setting for setting in rules(demo.model)}
    parts = list(demo.weights)
    never = outside(demo.model, rule["diffusers First Block Cache, never"], demo.references, parts)
    always = outside(demo.model, rule["diffusers First Block Cache, always"], demo.references, parts)
    assert {kind: len(values) for kind, values in never.items()} == {"computed": 27}
    assert {kind: len(values) for kind, values in always.items()} == {"skipped": 27}
    # With no part named, the whole call is outside; most of it is inside the blocks.
    whole = outside(demo.model, Setting(name="", group="", by=""), demo.references, [])
    assert 0 < median(never["computed"]) < median(whole["computed"]) / 2


def test_timing_leaves_a_module_as_it_was():
    layer = torch.nn.Linear(2, 2)
    with timed([layer]) as inside:
        layer(torch.zeros(1, 2))
    assert len(inside) == 1 and inside[0] > 0
    assert "forward" not in vars(layer)

"""Recorded numbers against formulas in float64, numpy, and diffusers' own MagCache calibration."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.hooks import MagCacheConfig

from tests.caching.generate import Generated, fbcache
from wavespeed_runner.caching import GenerationInfo, attach_strategy
from wavespeed_runner.caching.calibration.build import build_calibration, fit_polynomial, summarize_recording
from wavespeed_runner.caching.calibration.data import Calibration
from wavespeed_runner.caching.calibration.file import load
from wavespeed_runner.caching.calibration.recorder import Recorder, build_recording_cache
from wavespeed_runner.caching.criteria.thresholds import PredictedChange
from wavespeed_runner.caching.predictors.fitted import fit_weights
from wavespeed_runner.caching.predictors.reuse import Reuse
from wavespeed_runner.caching.signals.block_signals import ModelChange
from wavespeed_runner.cli.main import main
from wavespeed_runner.config.schema import CacheConfig
from wavespeed_runner.models.families.flux import FLUX

STEPS = 8


def record(generated: Generated, steps: int = STEPS) -> tuple[Recorder, Any]:
    """The recording of an uncached generation, and its latents."""
    recorder = Recorder()
    run = GenerationInfo(steps=lambda: steps, sigmas=lambda: [1 - i / steps for i in range(steps)])
    with attach_strategy([generated.denoiser], FLUX.blocks, build_recording_cache(), run, observer=recorder) as trace:
        latents = generated.denoise(steps=steps, on_step=trace.end_step)
    return recorder, latents


@pytest.fixture(scope="module")
def recording(plain: Generated) -> Recorder:
    return record(plain)[0]


def test_recording_changes_nothing(plain):
    assert torch.equal(record(plain)[1], plain.run()[0])


def test_each_guidance_branch_is_recorded_separately(guided):
    recorder, _ = record(guided)
    runs = summarize_recording(recorder)
    assert {run.branch for run in runs} == {"cond", "uncond"}
    assert all(len(run.sigmas) == len(run.ratios) == STEPS for run in runs)
    calibration = build_calibration({}, {}, runs)
    assert set(calibration.signals["first_block_residual"]) == set(calibration.model) == {"cond", "uncond"}


def test_every_signal_that_the_model_offers_is_recorded(recording):
    (numbers,) = summarize_recording(recording)
    assert {"first_block_residual", "first_block_output", "modulated_input", "model_change"} <= set(numbers.signals)


def test_changes_equal_those_that_a_strategy_measures(plain, recording):
    """With a threshold that allows no reuse, the engine compares each step with the previous one."""
    (numbers,) = summarize_recording(recording)
    _, trace = plain.run(fbcache(1e-9), steps=STEPS)
    measured = [decision.signal for decision in trace.decisions][1:]
    assert [row[-1] for row in numbers.signals["first_block_residual"]] == measured


def test_changes_against_every_earlier_step_in_float64(recording):
    (numbers,) = summarize_recording(recording)
    tensors = [tensor.double() for tensor in recording.branches["cond"].signals["modulated_input"]]
    expected = [
        [float((tensors[i] - tensors[j]).abs().mean() / tensors[j].abs().mean()) for j in range(i)]
        for i in range(1, STEPS)
    ]
    measured = numbers.signals["modulated_input"]
    assert [len(row) for row in measured] == list(range(1, STEPS))
    for row, exact in zip(measured, expected, strict=True):
        np.testing.assert_allclose(row, exact, rtol=1e-5)


def test_the_model_trace_equals_what_easycache_measures(plain, recording):
    """EasyCache's level after a computed step is k c; with a threshold of 0 every step is computed."""
    (numbers,) = summarize_recording(recording)
    cache = CacheConfig(
        name="custom", signal=ModelChange(), criterion=PredictedChange(threshold=0.0), predictor=Reuse()
    )
    _, trace = plain.run(cache, steps=STEPS)
    levels = [decision.level for decision in trace.decisions]
    assert levels[:2] == [None, None]
    expected = [numbers.model.input[i - 1] * numbers.model.rate[i - 2][-1] for i in range(2, STEPS)]
    np.testing.assert_allclose(levels[2:], expected, rtol=1e-5)


def test_rates_over_several_steps_in_float64(recording):
    (numbers,) = summarize_recording(recording)
    branch = recording.branches["cond"]
    x, out = ([t.double() for t in tensors] for tensors in (branch.latents, branch.outputs))
    for i in range(1, STEPS):
        moved = (x[i] - x[i - 1]).abs().mean()
        exact = [float((out[i] - out[j]).abs().mean() / moved) for j in range(i)]
        np.testing.assert_allclose(numbers.model.rate[i - 1], exact, rtol=1e-4)


def test_ratios_equal_those_of_diffusers_own_calibration(plain, recording, capsys):
    plain.denoiser.enable_cache(MagCacheConfig(calibrate=True, num_inference_steps=STEPS))
    try:
        plain.denoise(steps=STEPS)
    finally:
        plain.denoiser.disable_cache()
    (printed,) = re.findall(r"^\[([\d., e-]+)\]$", capsys.readouterr().out, re.MULTILINE)
    (numbers,) = summarize_recording(recording)
    np.testing.assert_allclose(numbers.ratios, [float(r) for r in printed.split(",")], rtol=1e-5)


def test_gram_matrices_in_float64(recording):
    (numbers,) = summarize_recording(recording)
    for blocks in (0, 1):
        residuals = recording.branches["cond"].residuals[blocks]
        flat = np.stack([streams["hidden_states"].double().flatten().numpy() for streams in residuals])
        exact = flat @ flat.T
        exact /= np.trace(exact) / STEPS
        np.testing.assert_allclose(numbers.gram[blocks], exact, rtol=1e-12)


def test_the_residual_of_all_blocks_is_that_of_the_first_plus_that_of_the_others(recording):
    branch = recording.branches["cond"]
    for step in range(STEPS):
        first = branch.signals["first_block_residual"][step]
        whole = branch.residuals[0][step]["hidden_states"]
        torch.testing.assert_close(whole, first + branch.residuals[1][step]["hidden_states"])


def test_a_gram_matrix_is_written_with_enough_digits(recording):
    """Weights from the rounded matrix against those from the full one, for residuals as similar as those of a
    well-trained model: each differs from the previous one by a hundredth, along a smooth curve."""
    t = np.linspace(0, 1, 28)[:, None]
    rng = np.random.default_rng(0)
    curve = rng.normal(size=(4, 500))
    flat = curve[0] + 0.3 * t * curve[1] + 0.1 * t**2 * curve[2] + 0.02 * t**3 * curve[3]
    exact = flat @ flat.T
    exact /= np.trace(exact) / len(exact)
    rounded = [[float(f"{x:.10g}") for x in row[: i + 1]] for i, row in enumerate(exact.tolist())]
    full = [row[: i + 1] for i, row in enumerate(exact.tolist())]
    for history, step in (((3, 4, 5), 6), ((10, 11, 12), 15), ((20, 24, 26), 27)):
        np.testing.assert_allclose(fit_weights(rounded, history, step), fit_weights(full, history, step), atol=1e-4)


def test_runs_are_averaged(guided):
    recorder, _ = record(guided)
    runs = summarize_recording(recorder)
    calibration = build_calibration({}, {}, runs)
    one, other = (run.gram[0] for run in runs)
    lower = [row[-1] for row in calibration.gram[0]]
    np.testing.assert_allclose(lower, np.diag((one + other) / 2), rtol=1e-9)
    np.testing.assert_allclose(calibration.ratios, np.mean([run.ratios for run in runs], axis=0), rtol=1e-5)
    assert calibration.polynomial.points == 2 * (STEPS - 1)


def test_the_polynomial_is_the_least_squares_fit():
    rng = np.random.default_rng(3)
    x = rng.uniform(0.02, 0.4, 60)
    y = 3 * x**4 - x**2 + 0.5 * x + 0.1 + rng.normal(0, 0.01, 60)
    fit = fit_polynomial(list(zip(x, y, strict=True)))
    exact, *_ = np.linalg.lstsq(np.vander(x, 5), y, rcond=None)
    np.testing.assert_allclose(np.polyval(fit.coefficients, x), np.vander(x, 5) @ exact, rtol=1e-6)
    np.testing.assert_allclose(fit.error, np.sqrt(np.mean((np.vander(x, 5) @ exact - y) ** 2)), rtol=1e-4)
    np.testing.assert_allclose(fit.range, [x.min(), x.max()], rtol=1e-5)


def test_too_few_points_give_no_polynomial():
    assert fit_polynomial([(0.1, 0.2)] * 20) is None


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Calibration]:
    """Three prompts of the demo model, six steps."""
    folder = tmp_path_factory.mktemp("calibrated")
    prompts = folder / "three.txt"
    prompts.write_text("a red circle\na blue square\na green triangle\n")
    outputs = folder / "outputs"
    given = [f"outputs={outputs}", f"prompts.path={prompts}", "prompts=file", "steps=6", "device=cpu", "seed=5"]
    assert main(["calibrate", *given]) == 0
    (path,) = (outputs / "calibrations").iterdir()
    return outputs, load(path)


def test_the_command_writes_what_it_ran(command):
    _, calibration = command
    assert calibration.made["prompts"] == ["a red circle", "a blue square", "a green triangle"]
    assert calibration.made["seeds"] == [5, 6, 7]
    assert calibration.steps == calibration.key["steps"] == 6
    assert calibration.polynomial.points == 3 * 5
    assert sorted(calibration.gram) == [0, 1]


def test_the_command_is_repeatable(command, tmp_path):
    outputs, calibration = command
    prompts = tmp_path / "three.txt"
    prompts.write_text("a red circle\na blue square\na green triangle\n")
    again = tmp_path / "again.yaml"
    given = [f"outputs={outputs}", f"prompts.path={prompts}", "prompts=file", "steps=6", "device=cpu", "seed=5"]
    assert main(["calibrate", *given, f"out={again}"]) == 0
    assert load(again) == calibration


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["cache=fbcache"], "cache=fbcache: calibration runs are uncached; leave it out"),
        (["parallel=ulysses"], "parallel=ulysses: this command works in one process; leave it out"),
        (["experiment=rdt_sweep", "hydra.mode=MULTIRUN"], " jobs: one model and one setting are calibrated at a time"),
        (["out="], "out=: a value is needed"),
        (["steps=4,5", "-m"], "-m: not here; "),
        (["graph=hires_fix"], "graph.stages: 2 of them denoise"),
        (["setps=4"], "setps"),
    ],
)
def test_what_cannot_be_calibrated_is_refused_before_anything_is_loaded(given, message, capsys, tmp_path):
    assert main(["calibrate", f"outputs={tmp_path}", "device=cpu", *given]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_tiny_model_can_be_calibrated_and_simulated_per_guidance_branch(tmp_path, capsys):
    given = ["model=flux", "model.init=tiny", "model.guidance=true_cfg", "guidance_scale=2", "steps=5", "device=cpu"]
    given += [f"outputs={tmp_path}", "prompt='a red circle'"]
    assert main(["calibrate", *given]) == 0
    assert "5 steps, 2 guidance branches" in capsys.readouterr().out
    assert main(["thresholds", *given, "cache=fbcache"]) == 0
    output = capsys.readouterr().out
    assert output.index("guidance branch cond") < output.index("guidance branch uncond")
    assert main(["thresholds", *given, "cache=easycache"]) == 0
    assert "guidance branch" not in capsys.readouterr().out
    assert main(["thresholds", *given, "cache=fbcache", "steps=6"]) == 2
    assert "it is for steps=5, this run has 6" in capsys.readouterr().err

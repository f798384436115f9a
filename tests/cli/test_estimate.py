"""`estimate` on the command line: for a device elsewhere, and what it advises."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.command_line import CommandLine

FLUX = ("model=flux", "device=cuda", "model.dtype=bfloat16", "prompt=x", "steps=2")


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine(tmp_path, monkeypatch, capsys)


def estimate(command: CommandLine, *arguments: str) -> str:
    status, out, err = command("estimate", *arguments)
    assert status == 0, err
    return out


def last_line(text: str) -> str:
    return text.strip().splitlines()[-1]


@pytest.mark.slow
def test_a_model_of_any_size_is_estimated_for_a_device_that_is_not_here(command: CommandLine) -> None:
    text = estimate(command, *FLUX, "quant=fp8_dq", "--memory", "24GB")
    assert "transformer 15.2 GB" in text and "reference  23.8 GB more: it computes without quantization" in text
    advice = last_line(text)
    assert "it does not fit; what saves memory: measure.reference=false, memory=model_offload (24.3 GB" in advice
    text = estimate(command, *FLUX, "quant=fp8_dq", "measure.reference=false", "--memory", "24GB")
    advice = last_line(text)
    assert "reference" not in text and "memory=model_offload (15.7 GB), memory=group_offload" in advice
    assert "quant.components=[denoiser,text_encoder_2]" in advice
    assert "quant=int8" not in advice and "model.dtype" not in advice


@pytest.mark.slow
def test_what_is_not_known_is_said(command: CommandLine) -> None:
    tiny = ("model=demo", "model.init=tiny", "device=cuda", "prompt=x", "steps=2")
    assert "its memory is not known here; give it with --memory" in last_line(estimate(command, *tiny))
    assert last_line(estimate(command, *tiny, "--memory=80GB")).endswith("80.0 GB: it fits")


@pytest.mark.slow
def test_what_would_be_refused_is_not_advised(command: CommandLine) -> None:
    demo = ("model=demo", "width=512", "height=512", "--memory=1MB")
    advice = last_line(estimate(command, *demo))
    assert "memory=group_offload" in advice and "vae_tiling" not in advice, "the demo decodes with an AutoencoderTiny"
    assert "memory=vae_tiling" in last_line(estimate(command, *demo, "model.init=tiny"))


def test_a_size_that_is_none_is_refused(command: CommandLine) -> None:
    for size in ("much", "24"):
        assert "--memory" in command.refuses_command("estimate", "--memory", size)


@pytest.mark.slow
def test_ranks_on_a_cpu_share_its_memory(command: CommandLine) -> None:
    tiny = ("model=demo", "model.init=tiny", "device=cpu", "prompt=x", "steps=2")
    alone = estimate(command, *tiny, "--memory=10MB")
    assert last_line(alone).endswith("10.0 MB: it fits") and "ranks " not in alone
    text = estimate(command, *tiny, "parallel=ring", "parallel.degree=8", "--memory=10MB")
    assert "ranks      8 processes, sharing this CPU: in 8 parts of a ring" in text
    assert "figures are of one rank that computes undivided" in text and "it does not fit" in last_line(text)


@pytest.mark.slow
def test_a_size_at_which_the_noise_levels_overflow_is_refused_before_anything_is_computed(command: CommandLine) -> None:
    status, out, err = command("estimate", "model=flux", "model.init=tiny", "device=cpu", "width=16384", "height=16384")
    assert (status, out) == (2, "") and err.startswith(
        "error: width=16384 height=16384: the sampler of this model cannot"
    )
    assert "(its timesteps are not finite)" in err and err.count("\n") == 1  # numpy's own warnings are not among it

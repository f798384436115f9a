"""Ranks other than 0 keep no text encoders; that no model denoises with them is part of `test_every_model.py`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.accelerate.parallel.staged_ranks import plan_of
from wavespeed_runner.accelerate.parallel.lean import load_lean


def load(folder: Path, *overrides: str) -> dict[str, Any]:
    """Component -> the loaded one."""
    node = plan_of(folder, "model=flux", *overrides).graph.nodes["load"]
    components: dict[str, Any] = node.stage.function(node.options).pipe.components
    return components


def test_a_pipeline_without_text_encoders_is_not_mistaken_for_a_whole_one(tmp_path: Path) -> None:
    whole = load(tmp_path)
    with load_lean():
        lean = load(tmp_path)
    assert whole["text_encoder"] and whole["text_encoder_2"]
    assert lean["text_encoder"] is lean["text_encoder_2"] is None
    assert lean["tokenizer"] and lean["vae"] and lean["transformer"]
    del whole
    again = load(tmp_path)
    assert again["text_encoder"] and again["text_encoder_2"]


def test_quantized_and_compiled_ones(tmp_path: Path) -> None:
    with load_lean():
        quantized = load(tmp_path, "quant=int8_wo", "quant.components=[denoiser,text_encoder_2]")
        assert quantized["text_encoder_2"] is None
        compiled = load(
            tmp_path, "compile=regional", "compile.target=[denoiser,text_encoders]", "compile.backend=eager"
        )
    assert compiled["text_encoder_2"], "rank 0 compiles what is named, and so do the others"

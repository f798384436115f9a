"""Which exit status a file of weights ends a run with: 2 where the file alone says it, 1 where the model has to."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tests.command_line import TINY, CommandLine

PAIR = {"transformer.nowhere.lora_A.weight": torch.ones(2, 8), "transformer.nowhere.lora_B.weight": torch.ones(8, 2)}


def test_a_lora_that_is_none_and_one_of_another_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command, file = CommandLine(tmp_path, monkeypatch, capsys), tmp_path / "x.safetensors"
    typed = (*TINY, "measure=none", "width=32", "height=32", "steps=1", "adapters=lora", f"adapters.path={file}")
    save_file({}, file)
    assert "holds no tensors of a LoRA" in command.refuses(*typed)
    save_file(PAIR, file)
    said = command(*typed)
    assert said.status == 1 and "adapters.path" in said.err and "does not fit this model" in said.err
    assert any(path.endswith("record.json") for path in command.left())

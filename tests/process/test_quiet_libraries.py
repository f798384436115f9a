"""What libraries say while they load and quantize reaches the run's log, and the console has our own lines only."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from wavespeed_runner.process import logging_setup

REPO = Path(__file__).resolve().parents[2]


def test_a_process_that_quantizes_prints_nothing_of_the_libraries(tmp_path: Path) -> None:
    overrides = ["model.init=tiny", "device=cpu", "steps=1", "width=32", "height=32", "prompt=x", "measure=none"]
    done = subprocess.run(
        [sys.executable, "-m", "wavespeed_runner", "quant=int8_wo", f"outputs={tmp_path / 'outputs'}", *overrides],
        cwd=REPO, env={**os.environ, "HF_HUB_OFFLINE": "1"}, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert "Enum" not in done.stdout and "Failed to load" not in done.stdout
    (log,) = (tmp_path / "outputs").rglob("run.log")
    said = log.read_text(encoding="utf-8")
    assert "[torch.utils._pytree]" in said and "is an Enum subclass" in said
    assert "[torchao" in said


def test_warnings_of_python_reach_the_log(caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]) -> None:
    shown = warnings.showwarning
    with logging_setup.log_warnings():
        warnings.simplefilter("always")
        warnings.warn("invalid escape sequence", DeprecationWarning, stacklevel=1)
    assert [(record.name, "invalid escape" in record.getMessage()) for record in caplog.records] == [
        ("py.warnings", True)
    ]
    assert capsys.readouterr().err == "" and warnings.showwarning is shown


def test_messages_of_torch_that_the_user_asked_for_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    logger = logging.getLogger("torch")
    handler = logging.StreamHandler()
    before = (list(logger.handlers), logger.propagate)
    try:
        logger.addHandler(handler)
        monkeypatch.setenv("TORCH_LOGS", "recompiles")
        logging_setup._quiet_torch()
        assert handler in logger.handlers
        monkeypatch.delenv("TORCH_LOGS")
        logging_setup._quiet_torch()
        assert handler not in logger.handlers and logger.propagate
    finally:
        logger.handlers, logger.propagate = before

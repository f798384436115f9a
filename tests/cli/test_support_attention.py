"""The tables of attention backends: complete, and as the docs show them."""

from __future__ import annotations

import pytest

from wavespeed_runner.accelerate.attention_options import BACKENDS
from wavespeed_runner.cli.main import main
from wavespeed_runner.cli.support_attention import describe_backends, describe_models
from wavespeed_runner.cli.support_check import Combinations
from wavespeed_runner.config.paths import PACKAGE


def test_the_docs_show_the_backends() -> None:
    docs = (PACKAGE.parent / "docs" / "attention.md").read_text(encoding="utf-8")
    shown = docs.partition("<!-- backends -->\n")[2].partition("\n<!-- end -->")[0]
    assert shown == describe_backends(), "paste what `python -m wavespeed_runner support --backends` prints"


def test_the_command_prints_every_backend(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["support", "--backends"]) == 0
    out = capsys.readouterr().out
    assert all(f"| `{name}` |" in out for name in BACKENDS)


def test_a_model_is_set_or_wrapped_and_refuses_what_its_masks_or_heads_do_not_fit() -> None:
    rows = {
        line.split("`")[1]: line
        for line in describe_models(Combinations(["flux", "sdxl", "sd15", "chroma"])).splitlines()
        if line.startswith("| `")
    }
    assert "| dispatcher | none | 128 |  |" in rows["flux"] and "| wrapped | none | 64 |  |" in rows["sdxl"]
    assert "`sage`" in rows["sd15"] and "`flash`" not in rows["sd15"]
    assert "`flash`" in rows["chroma"] and "`xformers`" not in rows["chroma"] and "`cudnn`" not in rows["chroma"]

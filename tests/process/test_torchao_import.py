"""torchao is imported when something is quantized: it costs as much as torch itself."""

from __future__ import annotations

import subprocess
import sys

POSTPONED = """
import sys
from wavespeed_runner.process.torchao_import import import_torchao, postpone_torchao
postpone_torchao()
from diffusers import FluxPipeline, FlowMatchEulerDiscreteScheduler
assert "torchao" not in sys.modules, "imported without need"
from diffusers.utils import is_torchao_available
assert is_torchao_available(), "and diffusers still knows that it is there"
import_torchao()
from diffusers.quantizers.auto import AUTO_QUANTIZER_MAPPING
from transformers.quantizers.auto import AUTO_QUANTIZER_MAPPING as THEIRS
for mapping in (AUTO_QUANTIZER_MAPPING, THEIRS):
    quantizer = mapping["torchao"]
    known = vars(sys.modules[quantizer.__module__])
    assert "quantize_" in known or "flatten_tensor_state_dict" in known
postpone_torchao()
print("fine")
"""


def test_diffusers_loads_without_torchao_and_gets_it_when_it_is_needed() -> None:
    run = subprocess.run([sys.executable, "-c", POSTPONED], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout) == (0, "fine\n"), run.stderr

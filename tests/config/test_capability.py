"""The compute capability of a CUDA device, read from a driver's library that a test stands in for."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from wavespeed_runner.config import capability
from wavespeed_runner.config.capability import has_fast_half, read_capability

CARDS = {"0": (8, 0), "1": (9, 0), "GPU-77": (8, 9)}


class Nvml:
    """What of NVML is called. Cards: number or UUID -> capability."""

    def __init__(self, cards: dict[str, tuple[int, int]], fails: bool = False) -> None:
        self.cards, self.fails, self.open = cards, fails, 0

    def nvmlInit_v2(self) -> int:
        self.open += not self.fails
        return int(self.fails)

    def nvmlShutdown(self) -> int:
        self.open -= 1
        return 0

    def _find(self, name: str, handle: Any) -> int:
        if name not in self.cards:
            return 2
        handle._obj.value = list(self.cards).index(name) + 1
        return 0

    def nvmlDeviceGetHandleByIndex_v2(self, index: Any, handle: Any) -> int:
        return self._find(str(index.value), handle)

    def nvmlDeviceGetHandleByUUID(self, uuid: bytes, handle: Any) -> int:
        return self._find(uuid.decode(), handle)

    def nvmlDeviceGetCudaComputeCapability(self, handle: Any, major: Any, minor: Any) -> int:
        major._obj.value, minor._obj.value = list(self.cards.values())[handle.value - 1]
        return 0


@pytest.fixture(autouse=True)
def asked_anew(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    read_capability.cache_clear()
    yield
    read_capability.cache_clear()


@pytest.mark.parametrize(
    ("device", "visible", "expected"),
    [
        ("cuda", None, (8, 0)),
        ("cuda:1", None, (9, 0)),
        ("cuda:2", None, None),
        ("cuda", "1", (9, 0)),
        ("cuda:1", "1,0", (8, 0)),
        ("cuda", "GPU-77", (8, 9)),
        ("cuda:1", "0", None),
        ("cuda:x", "0", None),
        ("cpu", None, None),
        ("mps", None, None),
    ],
)
def test_the_device_that_torch_will_use(
    monkeypatch: pytest.MonkeyPatch, device: str, visible: str | None, expected: tuple[int, int] | None
) -> None:
    library = Nvml(CARDS)
    monkeypatch.setattr(ctypes, "CDLL", lambda name: library)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert read_capability(device) == expected
    assert library.open == 0


def raise_error(name: str) -> Any:
    raise OSError(f"{name}: cannot open shared object file")


@pytest.mark.parametrize("load", [raise_error, lambda name: Nvml(CARDS, fails=True), lambda name: object()])
def test_without_a_driver_it_is_unknown(monkeypatch: pytest.MonkeyPatch, load: Any) -> None:
    monkeypatch.setattr(ctypes, "CDLL", load)
    assert read_capability("cuda") is None


def test_it_needs_no_torch() -> None:
    assert "torch" not in vars(capability) and capability.__name__ in sys.modules


@pytest.mark.parametrize(
    ("flags", "fast"),
    [
        ("fma avx2 f16c avx512f avx512_vnni", []),
        ("avx512f avx512_bf16", ["bfloat16"]),
        ("avx512f avx512_fp16", ["float16"]),
        ("amx_tile amx_bf16", ["bfloat16"]),
        ("avx512_bf16 avx512_fp16 amx_bf16", ["bfloat16", "float16"]),
    ],
)
def test_a_cpu_is_fast_in_the_formats_that_it_has_instructions_for(
    flags: str, fast: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Zen 5 and Cooper Lake compute in bfloat16 and convert float16; of others than x86 nothing is known."""
    file = tmp_path / "cpuinfo"
    monkeypatch.setattr(capability, "Path", lambda path: file)
    for text, expected in ((f"processor : 0\nflags\t\t: fpu {flags}\n", fast), ("", ["bfloat16", "float16"])):
        file.write_text(text)
        has_fast_half.cache_clear()
        assert [dtype for dtype in ("bfloat16", "float16") if has_fast_half(dtype)] == expected
    has_fast_half.cache_clear()

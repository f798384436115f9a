"""States of random generators as tensors, so that decoding can go on drawing where denoising stopped."""

from __future__ import annotations

from typing import Any


def states(generator: Any) -> Any:
    """uint8 (n, bytes), one row a generator. generator: a `torch.Generator` on the CPU, or a list of n."""
    import torch

    several = generator if isinstance(generator, list) else [generator]
    return torch.stack([one.get_state() for one in several])


def restored(rows: Any) -> list[Any]:
    """Generators on the CPU in these states."""
    import torch

    found = [torch.Generator("cpu") for _ in rows]
    for generator, state in zip(found, rows.cpu(), strict=True):
        generator.set_state(state.clone())
    return found

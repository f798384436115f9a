"""States of random generators as tensors, so that decoding can continue the random stream where denoising stopped."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Generator, Tensor


def read_generator_states(generator: Generator | list[Generator]) -> Tensor:
    """The states as uint8 (n, bytes), one row per generator. generator: one on the CPU, or a list of n."""
    import torch

    generators = generator if isinstance(generator, list) else [generator]
    return torch.stack([generator.get_state() for generator in generators])


def restore_generators(states: Tensor) -> list[Generator]:
    """New generators on the CPU in these states, one per row."""
    import torch

    generators = [torch.Generator("cpu") for _ in states]
    for generator, state in zip(generators, states.cpu(), strict=True):
        generator.set_state(state.clone())
    return generators

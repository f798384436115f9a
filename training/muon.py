"""Muon: momentum whose matrix updates are orthogonalised, in single precision.

After Keller Jordan, https://kellerjordan.github.io/posts/muon/. `torch.optim.Muon` runs its
Newton-Schulz iteration in bfloat16, which processors without bfloat16 units emulate some fifty
times slower than float32; hence this one.
"""

from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch import Tensor


def orthogonalise(matrix: Tensor, steps: int = 5) -> Tensor:
    """Push all singular values of `matrix` (rows, columns) towards 1, keeping its directions.

    The quintic's coefficients trade accuracy for speed: singular values end within about 0.3 of
    one, which the optimiser does not mind.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    x = matrix / (matrix.norm() + 1e-7)
    wide = x.mT if x.shape[0] > x.shape[1] else x
    for _ in range(steps):
        gram = wide @ wide.mT
        wide = a * wide + (b * gram + c * gram @ gram) @ wide
    return wide.mT if x.shape[0] > x.shape[1] else wide


class Muon(torch.optim.Optimizer):
    """Muon for weights of two or more dimensions (a convolution counts as rows x everything else).

    In a process group every process orthogonalises its share of the matrices and one sum hands
    the updates round, as all hold the same gradients.
    """

    def __init__(self, params: Iterable[Tensor], lr: float, momentum: float = 0.95) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Apply one update to every parameter."""
        shared = dist.is_initialized()
        rank, world = (dist.get_rank(), dist.get_world_size()) if shared else (0, 1)
        for group in self.param_groups:
            updates = [
                self._update(p, group["momentum"], wanted=i % world == rank) for i, p in enumerate(group["params"])
            ]
            if shared:
                flat = torch.cat([u.flatten() for u in updates])
                dist.all_reduce(flat)
                parts = flat.split([u.numel() for u in updates])
                updates = [x.view_as(u) for x, u in zip(parts, updates, strict=True)]
            for p, update in zip(group["params"], updates, strict=True):
                scale = max(1.0, p.shape[0] / p[0].numel()) ** 0.5
                p.add_(update, alpha=-group["lr"] * scale)

    def _update(self, p: Tensor, momentum: float, wanted: bool) -> Tensor:
        assert p.grad is not None, "every parameter takes part in every step"
        state = self.state[p]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(p)
        state["momentum"].lerp_(p.grad, 1 - momentum)
        if not wanted:
            return torch.zeros_like(p)
        nesterov = torch.lerp(p.grad, state["momentum"], momentum)
        return orthogonalise(nesterov.flatten(1)).view_as(p)

"""The orthogonalisation against a singular value decomposition, and the optimiser's effect."""

import pytest
import torch

from training.muon import Muon, orthogonalise


@pytest.mark.parametrize("shape", [(32, 32), (16, 64), (64, 16)])
def test_singular_values_near_one_and_directions_kept(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    matrix = torch.randn(shape)
    made = orthogonalise(matrix).double()
    left, values, right = torch.linalg.svd(matrix.double(), full_matrices=False)
    # In the singular basis the result is diagonal: the same directions, new lengths.
    inside = left.mT @ made @ right.mT
    clear = values > 0.05 * values.max()  # five steps do not lift the very smallest
    lengths = inside.diagonal()[clear]
    assert ((lengths > 0.6) & (lengths < 1.3)).all()
    assert (inside - inside.diagonal().diag()).abs().max() < 1e-3


def test_scale_of_the_gradient_does_not_matter() -> None:
    torch.manual_seed(0)
    matrix = torch.randn(16, 16)
    torch.testing.assert_close(orthogonalise(matrix), orthogonalise(1e3 * matrix), rtol=1e-3, atol=1e-4)


def test_muon_solves_a_linear_regression() -> None:
    torch.manual_seed(0)
    wanted, inputs = torch.randn(8, 8), torch.randn(64, 8)
    weight = torch.nn.Parameter(torch.zeros(8, 8))
    optimiser = Muon([weight], lr=0.1)
    for step in range(200):
        optimiser.param_groups[0]["lr"] = 0.1 * (1 - step / 200)
        loss = (inputs @ (weight - wanted)).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss.item() < 1e-2


def test_a_convolution_is_updated_as_a_matrix() -> None:
    weight = torch.nn.Parameter(torch.zeros(4, 2, 3, 3))
    weight.grad = torch.randn(4, 2, 3, 3)
    Muon([weight], lr=1.0).step()
    values = torch.linalg.svdvals(weight.detach().flatten(1))
    assert ((values > 0.5) & (values < 1.4)).all()

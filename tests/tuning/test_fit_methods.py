"""Both ways of fitting, on a flow of which the exact result and all derivatives are known."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from wavespeed_runner.config.solver import Solver
from wavespeed_runner.errors import Unfit
from wavespeed_runner.tuning.fit_differences import differentiate, fit_by_differences, pack
from wavespeed_runner.tuning.fit_gradient import Pace, fit_by_gradient, list_batches
from wavespeed_runner.tuning.fit_numbers import Rollout, robust_loss, robust_weights
from wavespeed_runner.tuning.fit_sampler import Numbers, from_solver, keep_descending, to_solver
from wavespeed_runner.tuning.student import relative_errors

NOISE = torch.randn(12, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
EULER = Solver(timesteps=[1000.0, 500.0], noise_weights=[1.0, 1.0], output_weights=[[-0.5], [-0.5, -0.5]])


def output(x: torch.Tensor, time: Any) -> torch.Tensor:
    """A velocity that bends: x' = sin 2x + t, t from 1 to 0."""
    return torch.sin(2 * x) + time / 1000


def roll_out(numbers: Numbers, images: Sequence[int] = range(12)) -> Rollout:
    """In float64, by the formula; independent of any scheduler."""
    start = NOISE[list(images)]
    x, outputs = start, []
    for n in range(numbers.count):
        outputs.append(output(x, numbers.times[n]))
        x = numbers.noise[n] * start + sum(numbers.weights[n, j] * m for j, m in enumerate(outputs))
    return Rollout(noise=start, outputs=outputs, result=x)


def exact() -> torch.Tensor:
    """By a thousand small steps."""
    x = NOISE
    for n in range(1000):
        x = x - output(x, torch.tensor(1000.0 - n)) / 1000
    return x


REFERENCE = exact()


def loss(numbers: Numbers) -> float:
    return float(robust_loss(relative_errors(roll_out(numbers).result, REFERENCE)).mean())


def test_loss_and_weights_are_the_formula_and_its_derivative() -> None:
    errors = torch.tensor([1e-6, 1e-3, 0.05, 2.0], dtype=torch.float64, requires_grad=True)
    values = robust_loss(errors)
    e = errors.detach().numpy()
    assert np.allclose(values.detach().numpy(), e / (e + 0.05) + 0.05 * np.log(e))
    values.sum().backward()
    assert errors.grad is not None and torch.allclose(errors.grad, robust_weights(errors.detach()))


def test_numbers_survive_the_way_to_a_file_and_back() -> None:
    again = to_solver(from_solver(EULER))
    assert again == EULER and not again.find_problem()


def test_timesteps_stay_in_order_and_in_range() -> None:
    moved = keep_descending(torch.tensor([1.2, 1.1, 0.3, 0.4, -0.1], dtype=torch.float64)).tolist()
    assert moved == sorted(set(moved), reverse=True) and moved[0] <= 1 and moved[-1] >= 0


def test_differences_are_the_derivatives_of_autograd() -> None:
    start = from_solver(EULER)
    found = differentiate(start, roll_out(start), roll_out)

    def result(times: torch.Tensor, noise: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        return roll_out(Numbers(times=times, noise=noise, weights=weights)).result

    by_times, by_noise, by_weights = torch.autograd.functional.jacobian(
        result, (start.times, start.noise, start.weights)
    )
    expected = [by_times[..., n] * 1000 for n in range(2)] + [by_noise[..., n] for n in range(2)]
    expected += [by_weights[..., n, j] for n, j in ((0, 0), (1, 0), (1, 1))]
    assert len(found) == len(pack(start)) == len(expected)
    for got, wanted in zip(found, expected, strict=True):
        assert torch.allclose(got.double(), wanted, atol=2e-2)  # the second derivative times the distance


@pytest.mark.parametrize("method", ["gradient", "differences"])
def test_both_ways_make_a_plain_solver_better(method: str) -> None:
    start = from_solver(EULER)
    if method == "gradient":

        def errors_of(numbers: Numbers, images: Sequence[int]) -> torch.Tensor:
            return relative_errors(roll_out(numbers, images).result, REFERENCE[list(images)])

        steps = [numbers for numbers, _ in fit_by_gradient(start, errors_of, Pace(images=12, iterations=200, batch=6))]
        assert len(steps) == 200
    else:
        steps = [numbers for numbers, _ in fit_by_differences(start, roll_out, REFERENCE, iterations=15)]
        losses = [loss(numbers) for numbers in steps]
        assert losses == sorted(losses, reverse=True)
    errors = [float(relative_errors(roll_out(n).result, REFERENCE).median()) for n in (start, steps[-1])]
    assert errors[1] < errors[0] / 5, errors
    assert not to_solver(steps[-1]).find_problem()


def errors_of(numbers: Numbers, images: Sequence[int]) -> torch.Tensor:
    return relative_errors(roll_out(numbers, images).result, REFERENCE[list(images)])


def test_an_interrupted_fit_goes_on_as_if_it_had_not_been() -> None:
    pace = Pace(images=12, iterations=9, batch=6)
    whole = list(fit_by_gradient(from_solver(EULER), errors_of, pace))
    for done in (1, 4, 8):
        rest = list(fit_by_gradient(from_solver(EULER), errors_of, pace, done=done, state=whole[done - 1][1]))
        assert [to_solver(n) for n, _ in rest] == [to_solver(n) for n, _ in whole[done:]]


def test_images_that_are_differentiated_in_parts_give_the_same_steps() -> None:
    paces = [Pace(images=12, iterations=6, batch=6, together=together) for together in (6, 4, 1)]
    ends = [pack(list(fit_by_gradient(from_solver(EULER), errors_of, pace))[-1][0]) for pace in paces]
    assert torch.allclose(ends[0], ends[1], atol=1e-9) and torch.allclose(ends[0], ends[2], atol=1e-9)
    assert not torch.allclose(ends[0], pack(from_solver(EULER)), atol=1e-4)


def test_differences_go_on_from_where_they_ended() -> None:
    first = list(fit_by_differences(from_solver(EULER), roll_out, REFERENCE, iterations=3))
    more = list(fit_by_differences(from_solver(EULER), roll_out, REFERENCE, iterations=1, state=first[-1][1]))
    assert loss(more[0][0]) < loss(first[-1][0])


def test_every_image_is_taken_before_one_is_taken_again() -> None:
    batches = list_batches(Pace(images=12, iterations=4, batch=4))
    assert sorted(index for batch in batches[:3] for index in batch) == list(range(12)) and len(batches[3]) == 4


def test_numbers_that_are_not_finite_leave_the_others_as_they_are() -> None:
    def sometimes(numbers: Numbers, images: Sequence[int]) -> torch.Tensor:
        calls.append(1)
        errors = errors_of(numbers, images)
        return errors * float("nan") if len(calls) == 2 else errors

    calls: list[int] = []
    steps = [
        numbers for numbers, _ in fit_by_gradient(from_solver(EULER), sometimes, Pace(images=12, iterations=4, batch=6))
    ]
    assert torch.equal(pack(steps[0]), pack(steps[1])) and bool(pack(steps[-1]).isfinite().all())
    assert not torch.equal(pack(steps[1]), pack(steps[2]))


def test_what_gives_no_derivative_is_refused() -> None:
    with pytest.raises(Unfit, match="gradients=false"):
        next(
            fit_by_gradient(
                from_solver(EULER),
                lambda n, i: (n.times * 0).sum() + torch.ones(6),
                Pace(images=12, iterations=4, batch=6),
            )
        )


def test_free_numbers_stay_what_a_solver_takes() -> None:
    start = from_solver(EULER)
    wild = [torch.tensor([2.0, -1.0]), torch.tensor([1e-9, -1e9]), torch.tensor([1e9, 0.0, -1e9])]
    assert not to_solver(start.put(start.correct([tensor.double() for tensor in wild]))).find_problem()

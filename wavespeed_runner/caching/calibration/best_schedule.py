"""Finds, without running the model, which steps to compute so that the fitted prediction of the others errs least."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ...errors import Unfit
from ..predictors.fitted import ORDER, RIDGE, Gram, solve_weights, to_symmetric

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

MOST_STEPS = 100
"""Calls of the denoiser for which the search takes seconds and some 200 MB."""

History = tuple[int, ...]
"""The last computed steps, newest last."""
Groups = list[dict[History, list[History]]]
"""By last step: tail (the part of a history that remains after the next computed step) -> the histories ending so."""
Table = dict[History, "tuple[Floats, NDArray[np.intp]]"]
"""Tail -> two numpy arrays (computed steps so far, distance to the next computed one): the least cost up to there, and
the index of its history in the tail's group."""


def find_best_schedule(
    gram: Gram,
    computed: int,
    *,
    first: int,
    history: int = 3,
    ridge: float = RIDGE,
    order: int = ORDER,
    importance: Sequence[float] | None = None,
) -> list[int]:
    """The `computed` steps of n, including the `first` ones and the last, that leave the least error in the others.

    Each gap between computed steps costs the square of the sum, over its steps, of importance times the root of
    `fit_error`: within a gap the residual drifts in one direction, so errors add up before they are squared. The sum
    over the gaps is minimised exactly by dynamic programming from step to step; the state is the last `history`
    computed steps and the number of computed steps so far. This takes O(n^(history + 1) computed) sums and
    O(n^history) small fits: 50 steps with a history of 3 take less than two seconds, which a test checks.

    Args:
        gram: lower triangle of the residuals' Gram matrix, n rows.
        computed: how many steps are computed.
        first: so many steps at the beginning are always computed.
        history: how many computed residuals the fitted prediction combines.
        ridge: see `Fitted`.
        order: see `Fitted`.
        importance: a weight per step, (n,); None: all the same.

    Returns:
        The computed steps, ascending, counted from 0.

    Raises:
        Unfit: there is no such schedule.
    """
    import numpy as np

    full, n = to_symmetric(gram), len(gram)
    if n > MOST_STEPS:
        raise Unfit(
            f"{n} steps: the steps of up to {MOST_STEPS} can be chosen so, because the search grows with the fourth "
            "power of their number; cache/criterion=budget or interval has no such limit"
        )
    if not 1 <= first < computed <= n or history < 2:
        raise Unfit(
            f"computed={computed}, first={first}, history={history}: for {n} steps allowed: "
            f"1 <= first < computed <= {n} (the last step is always computed) and history 2 or more"
        )
    weights = np.asarray([1.0] * n if importance is None else importance)

    def compute_gap_costs(histories: list[History]) -> Floats:
        """(histories, distance - 1): the cost of skipping all steps up to the next computed one."""
        last = histories[0][-1]
        skipped = np.arange(last + 1, n - 1)
        _, errors = solve_weights(full, np.array(histories), skipped, ridge, order)
        costs = np.zeros((len(histories), n - 1 - last))
        # Clipped, because an infinite error times an importance of 0 is not a number.
        costs[:, 1:] = (errors.clip(max=1e12) ** 0.5 * weights[skipped]).cumsum(axis=1) ** 2
        return costs

    start = tuple(range(first))[-history:]
    groups, table = _fill_table(compute_gap_costs, start, n, computed - first, history)
    return [*range(first - 1), *_trace_back(groups, table, start, n, computed - first)]


def _fill_table(
    compute_gap_costs: Callable[[list[History]], Floats], start: History, n: int, count: int, history: int
) -> tuple[Groups, Table]:
    """Least costs of all histories, from the first steps on. count: steps to choose, the last one included."""
    import numpy as np

    groups: Groups = [{} for _ in range(n)]
    groups[start[-1]][start[-(history - 1) :]] = [start]
    table: Table = {}

    def get_costs_so_far(state: History) -> Floats:
        """Least cost up to a history, by how many steps have been chosen."""
        costs = np.full(count + 1, np.inf)
        if state == start:
            costs[0] = 0.0
        else:
            costs[1:] = table[state[:-1]][0][:-1, state[-1] - state[-2] - 1]
        return costs

    for last in range(start[-1], n - 1):
        for tail, histories in groups[last].items():
            gap_costs = compute_gap_costs(histories)
            total = np.stack([get_costs_so_far(state) for state in histories])[:, :, None] + gap_costs[:, None, :]
            table[tail] = total.min(axis=0), total.argmin(axis=0)
            for following in range(last + 1, n - 1):
                state = (*tail, following)
                groups[following].setdefault(state[-(history - 1) :], []).append(state)
    return groups, table


def _trace_back(groups: Groups, table: Table, start: History, n: int, count: int) -> list[int]:
    """The chosen steps, ascending, from the last of the first ones on."""
    chosen, step = count - 1, n - 1
    tail = min(table, key=lambda tail: table[tail][0][chosen, step - tail[-1] - 1])
    path = [step]
    while True:
        state = groups[tail[-1]][tail][int(table[tail][1][chosen, step - tail[-1] - 1])]
        path.append(state[-1])
        if state == start:
            return path[::-1]
        tail, step, chosen = state[:-1], state[-1], chosen - 1

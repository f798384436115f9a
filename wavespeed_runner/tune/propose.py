"""Which ladders of a large family to scout: those that Optuna proposes from what the others gave.

Optuna's tree-structured Parzen estimator, by ask and tell (https://optuna.readthedocs.io). It proposes what a ladder
chooses; how far up the ladder one has to go is found by halving, which needs far fewer runs than a guess.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from .ladder import Ladder
from .space import Family, Scalar

ASKED = 4
"""Ladders that are asked for at once: the same number with every launcher."""
TRIES = 16
"""Ladders of a family that are scouted at most."""
NOTHING = 1e9
"""The score of a ladder without a setting that may do."""

Scout = Callable[[list[dict[str, Scalar]]], list[Ladder]]
"""Scouts the ladders with these choices; one that the rules refuse has no settings."""


def propose(family: Family, scout: Scout, score: Callable[[Ladder], float | None], *, seed: int) -> None:
    """Scouts the most promising ladders of a family.

    Args:
        family: of more than `FEW` ladders.
        scout: scouts some of its ladders.
        score: of a scouted ladder, smaller is better; None where nothing of it may do.
        seed: of the proposals.
    """
    study = _create_study(seed)
    study.enqueue_trial({key: _label(values[0]) for key, values in family.choose.items()})
    seen: dict[tuple[str, ...], float] = {}
    while len(seen) < TRIES:
        trials = [study.ask() for _ in range(min(ASKED, TRIES - len(seen)))]
        asked = [_suggest(trial, family) for trial in trials]
        new = {_identify(chosen): chosen for chosen in asked if _identify(chosen) not in seen}
        for key, ladder in zip(new, scout(list(new.values())), strict=True):
            found = score(ladder)
            seen[key] = NOTHING if found is None else found
        for trial, chosen in zip(trials, asked, strict=True):
            study.tell(trial, seen[_identify(chosen)])
        if not new:  # it keeps to what it knows
            return


def _create_study(seed: int) -> Any:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler = optuna.samplers.TPESampler(seed=seed, multivariate=True, constant_liar=True, n_startup_trials=ASKED)
    return optuna.create_study(sampler=sampler, direction="minimize")


def _suggest(trial: Any, family: Family) -> dict[str, Scalar]:
    """What Optuna chooses; it knows the values by their texts, since 1 and true are equal."""
    chosen = {}
    for key, values in family.choose.items():
        by_label = {_label(value): value for value in values}
        chosen[key] = by_label[trial.suggest_categorical(key, list(by_label))]
    return chosen


def _label(value: Scalar) -> str:
    return repr(value)


def _identify(chosen: Mapping[str, Scalar]) -> tuple[str, ...]:
    return tuple(_label(value) for value in chosen.values())


def list_combined(also: Mapping[str, list[Scalar]]) -> Iterator[dict[str, Scalar]]:
    """Each option that goes on top of the best, alone."""
    for key, values in also.items():
        for value in values:
            yield {key: value}

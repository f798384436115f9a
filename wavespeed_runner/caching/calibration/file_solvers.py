"""Reads what `fit` has written into a calibration file: samplers, and schedules with weights."""

from __future__ import annotations

from typing import Any

from ...config.solver import MAX_EVALUATIONS, Solver
from ..predictors.step_weights import explain_misfit, find_problem
from .data import FittedSolver, FittedWeights
from .file_values import InvalidValue, read_count, read_items, read_mapping, read_numbers, read_steps

KEYS = ("timesteps", "noise_weights", "output_weights", "noise_scale")


def read_solvers(data: dict[str, Any]) -> dict[int, FittedSolver]:
    """Number of evaluations -> the sampler fitted for them. Raises `InvalidValue` for numbers that are no solver's."""
    found = {}
    for name, value in read_items(data, "samplers"):
        where, count = f"samplers.{name}", read_count(name, "samplers")
        entry = _read_entry(value, where, {"solver", "made"})
        solver = _read_solver(read_mapping(entry.get("solver"), f"{where}.solver"), f"{where}.solver")
        if len(solver.timesteps) != count:
            raise InvalidValue(f"{where}: must have as many timesteps as its key says")
        found[count] = FittedSolver(solver=solver, made=read_mapping(entry.get("made"), f"{where}.made"))
    return found


def read_caches(data: dict[str, Any], steps: int) -> dict[int, FittedWeights]:
    """Number of computed steps -> schedule and weights fitted for them. Raises `InvalidValue` if they do not fit."""
    found = {}
    for name, value in read_items(data, "caches"):
        where, count = f"caches.{name}", read_count(name, "caches")
        entry = _read_entry(value, where, {"steps", "weights", "made"})
        computed, rows = read_steps(entry.get("steps"), f"{where}.steps", steps), entry.get("weights")
        if len(computed) != count:
            raise InvalidValue(f"{where}: must have as many steps as its key says")
        if not isinstance(rows, list) or len(rows) != steps:
            raise InvalidValue(f"{where}.weights: must have {steps} rows")
        weights = [read_numbers(row, f"{where}.weights, step {n}") for n, row in enumerate(rows, 1)]
        if problem := find_problem(weights) or explain_misfit(weights, computed):
            raise InvalidValue(f"{where}.weights: {problem}")
        made = read_mapping(entry.get("made"), f"{where}.made")
        found[count] = FittedWeights(steps=computed, weights=weights, made=made)
    return found


def _read_entry(value: Any, where: str, keys: set[str]) -> dict[Any, Any]:
    entry = read_mapping(value, where)
    if unknown := set(map(str, entry)) - keys:
        raise InvalidValue(f"{where}: unknown key {min(unknown)[:40]!r}")
    return entry


def _read_solver(data: dict[Any, Any], where: str) -> Solver:
    if unknown := set(map(str, data)) - set(KEYS):
        raise InvalidValue(f"{where}: unknown key {min(unknown)[:40]!r}")
    rows = data.get("output_weights")
    if not isinstance(rows, list) or len(rows) > MAX_EVALUATIONS:
        raise InvalidValue(f"{where}.output_weights: must be a list of up to {MAX_EVALUATIONS} rows")
    (scale,) = read_numbers([data.get("noise_scale", 1.0)], f"{where}.noise_scale")
    solver = Solver(
        timesteps=read_numbers(data.get("timesteps"), f"{where}.timesteps"),
        noise_weights=read_numbers(data.get("noise_weights"), f"{where}.noise_weights"),
        output_weights=[read_numbers(row, f"{where}.output_weights, row {n}") for n, row in enumerate(rows)],
        noise_scale=scale,
    )
    if problem := solver.find_problem():
        raise InvalidValue(f"{where}.{problem}")
    return solver

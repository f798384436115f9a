"""Reads the fitted samplers of a calibration file."""

from __future__ import annotations

from typing import Any

from ...config.solver import MAX_EVALUATIONS, Solver
from .data import FittedSolver
from .file_values import InvalidValue, read_count, read_items, read_mapping, read_numbers

KEYS = ("timesteps", "noise_weights", "output_weights", "noise_scale")


def read_solvers(data: dict[str, Any]) -> dict[int, FittedSolver]:
    """Number of evaluations -> the sampler fitted for them. Raises `InvalidValue` for numbers that are no solver's."""
    found = {}
    for name, value in read_items(data, "samplers"):
        where, count = f"samplers.{name}", read_count(name, "samplers")
        entry = read_mapping(value, where)
        solver = _read_solver(read_mapping(entry.get("solver"), f"{where}.solver"), f"{where}.solver")
        if len(solver.timesteps) != count:
            raise InvalidValue(f"{where}: must have as many timesteps as its key says")
        if unknown := set(map(str, entry)) - {"solver", "made"}:
            raise InvalidValue(f"{where}: unknown key {min(unknown)[:40]!r}")
        found[count] = FittedSolver(solver=solver, made=read_mapping(entry.get("made"), f"{where}.made"))
    return found


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

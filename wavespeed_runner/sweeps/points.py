"""Paired sweeps: `points`, a list of mappings, each the overrides of one job.

    points: [{steps: 8, cache: none}, {cache: fbcache, cache.residual_diff_threshold: 0.1}]

The keys of a mapping are written as on a command line. Its values are data: a text with commas or braces is just that
text, never a sweep.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import HydraException

from ..config.compose import find_key, parse_override
from ..config.trust import is_reserved
from ..errors import ConfigError

SHAPE = "a list of mappings is needed, one a job: points=[{steps: 8, cache: none}, {cache: fbcache}]"


def resolve_points(points: Any, swept_by_file: Collection[str], typed: Collection[str]) -> list[dict[str, Any]]:
    """Checks the points and removes the keys that the command line sets; points that become identical are kept once.

    Args:
        points: of the composed config, plain data.
        swept_by_file: keys of `hydra.sweeper.params`.
        typed: keys on the command line, which win.

    Returns:
        The points; [{}] where the config has none.

    Raises:
        ConfigError: not a list of mappings, a key that only the command line may set, or one that is also swept over.
    """
    if points is None:
        return [{}]
    if not isinstance(points, list) or not points or not all(isinstance(p, dict) and p for p in points):
        raise ConfigError(f"points={points}: {SHAPE}; points=null disables them")
    resolved: dict[str, dict[str, Any]] = {}
    for index, point in enumerate(points):
        for key in point:
            _refuse_key(str(key), f"points[{index}].{key}", set(swept_by_file) - set(typed))
        left = {key: value for key, value in point.items() if find_key(str(key)) not in typed}
        # Compared as text: 1 and true are equal.
        resolved.setdefault(repr(left), left)
    return list(resolved.values())


def _refuse_key(key: str, where: str, swept_by_file: Collection[str]) -> None:
    if is_reserved(key) or find_key(key) == "points":
        raise ConfigError(f"{where}: a point may not set it; give it on the command line")
    if find_key(key) in swept_by_file:
        raise ConfigError(f"{where}: hydra.sweeper.params sweeps over it too; keep one of them")


def to_overrides(point: dict[str, Any]) -> list[str]:
    """Writes a point as Hydra overrides.

    Raises:
        ConfigError: Hydra's grammar cannot express a key or a value.
    """
    return [_to_override(str(key), value) for key, value in point.items()]


def _to_override(key: str, value: Any) -> str:
    written = write_override(key, value)
    if not written or is_reserved(parse_override(written).key_or_group):
        raise ConfigError(f"points: {key}: {value!r}: no override can be written so; {SHAPE}")
    return written


def write_override(key: str, value: Any) -> str:
    """`KEY=VALUE` that Hydra reads as exactly this key and value, quoted only where needed; empty: it has no such."""
    if key.startswith("~") and value is None:
        candidates = [key]
    else:
        candidates = [f"{key}={text}" for text in ([value] if isinstance(value, str) else []) + [quote(value)]]
    for candidate in candidates:
        try:
            override = parse_override(candidate)
        except HydraException:
            continue
        same = not override.is_sweep_override() and _is_same(override.value(), value)
        if override.get_key_element() == key != "" and same:
            return candidate
    return ""


def quote(value: Any) -> str:
    """Writes data in Hydra's grammar, with every text in quotes."""
    if value is None:
        return "null"
    if isinstance(value, str):
        return QuotedString(text=value, quote=Quote.single).with_quotes()
    if isinstance(value, list):
        return f"[{','.join(map(quote, value))}]"
    if isinstance(value, dict):
        return "{" + ",".join(f"{name}:{quote(item)}" for name, item in value.items()) + "}"
    return str(value)


def _is_same(parsed: Any, value: Any) -> bool:
    """Whether two values and their types are equal: `1`, `1.0`, `true` and `'1'` are four values."""
    return bool(parsed == value) and repr(parsed) == repr(value)

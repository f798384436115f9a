"""Paired sweeps: `points`, a list of mappings, each the overrides of one job.

    points: [{steps: 8, cache: none}, {cache: fbcache, cache.residual_diff_threshold: 0.1}]

A mapping's keys are overrides as they are typed on a command line, its values are data: a text with commas or braces
is that text, and never a sweep.
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


def checked(points: Any, swept_by_file: Collection[str], typed: Collection[str]) -> list[dict[str, Any]]:
    """The points less what the command line gives, each once; [{}] for none at all.

    Args:
        points: the composed config's, plain data.
        swept_by_file: keys of `hydra.sweeper.params`.
        typed: keys that stand on the command line, which win.

    Raises:
        ConfigError: no list of mappings, a key that only the command line may set, or one that is swept too.
    """
    if points is None:
        return [{}]
    if not isinstance(points, list) or not points or not all(isinstance(p, dict) and p for p in points):
        raise ConfigError(f"points={points}: {SHAPE}; points=null for none")
    found: dict[str, dict[str, Any]] = {}
    for index, point in enumerate(points):
        for key in point:
            _refuse_key(str(key), f"points[{index}].{key}", set(swept_by_file) - set(typed))
        left = {key: value for key, value in point.items() if find_key(str(key)) not in typed}
        # By their text: 1 and true are equal.
        found.setdefault(repr(left), left)
    return list(found.values())


def _refuse_key(key: str, where: str, swept_by_file: Collection[str]) -> None:
    if is_reserved(key) or find_key(key) == "points":
        raise ConfigError(f"{where}: a point may not set it; give it on the command line")
    if find_key(key) in swept_by_file:
        raise ConfigError(f"{where}: hydra.sweeper.params sweeps over it too; keep one of them")


def as_overrides(point: dict[str, Any]) -> list[str]:
    """A point as Hydra's overrides.

    Raises:
        ConfigError: a key or a value that cannot be written so.
    """
    return [_as_override(str(key), value) for key, value in point.items()]


def _as_override(key: str, value: Any) -> str:
    """`KEY=VALUE` that Hydra reads as exactly this key and value: plain where that will do, else quoted."""
    if key.startswith("~") and value is None:
        candidates = [key]
    else:
        candidates = [f"{key}={text}" for text in ([value] if isinstance(value, str) else []) + [_quoted(value)]]
    for candidate in candidates:
        try:
            override = parse_override(candidate)
        except HydraException:
            continue
        same = not override.is_sweep_override() and _same(override.value(), value)
        if override.get_key_element() == key != "" and same and not is_reserved(override.key_or_group):
            return candidate
    raise ConfigError(f"points: {key}: {value!r}: no override can be written so; {SHAPE}")


def _quoted(value: Any) -> str:
    """Data in Hydra's grammar, every text in quotes."""
    if value is None:
        return "null"
    if isinstance(value, str):
        return QuotedString(text=value, quote=Quote.single).with_quotes()
    if isinstance(value, list):
        return f"[{','.join(map(_quoted, value))}]"
    if isinstance(value, dict):
        return "{" + ",".join(f"{name}:{_quoted(one)}" for name, one in value.items()) + "}"
    return str(value)


def _same(read: Any, meant: Any) -> bool:
    """Equal in type too: `1`, `1.0`, `true` and `'1'` are four values."""
    return bool(read == meant) and repr(read) == repr(meant)

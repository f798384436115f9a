"""Makes Hydra count the values of `range(0.1,0.4,0.1)` in decimal numbers, as they are written."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from hydra.core.override_parser.types import FloatRange


def make_ranges_exact() -> None:
    """Replaces how Hydra starts to count, here and in its own sweepers.

    It converts the binary numbers exactly: 0.1 is 0.1000000000000000055..., so 0.30000000000000004 is among the values,
    and 0.4, the end, which is excluded.
    """
    FloatRange.__post_init__ = _read_as_written


def _read_as_written(counted: Any) -> None:
    for name in ("start", "stop", "step"):
        setattr(counted, name, Decimal(str(getattr(counted, name))))

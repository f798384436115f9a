"""What planning has set by itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Change:
    """Something that was set automatically: printed and recorded."""

    key: str
    value: Any
    why: str

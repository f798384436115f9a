"""Settings of this project's engine."""

from __future__ import annotations

from .models import Model
from .settings import Setting


def ours(model: Model) -> list[Setting]:
    return []

"""Fixtures of the execution tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.execution.toy_stages import Work


@pytest.fixture
def work(own_registry: Any, tmp_path: Path) -> Work:
    """The toy graph with an empty store."""
    return Work(tmp_path / "store")

"""Images that a config may name: a key with a dot in it hides none."""

from __future__ import annotations

import pytest

from wavespeed_runner.config import trust
from wavespeed_runner.errors import ConfigError


def test_a_dot_in_a_stage_name_does_not_hide_its_image() -> None:
    stages = {"a.b": {"stage": "read_image", "options": {"path": "/etc/secret.png"}}}
    with pytest.raises(ConfigError, match=r"a\.b: no dots in the names"):
        trust.check_files({"graph": {"output": "a.b", "stages": stages}})

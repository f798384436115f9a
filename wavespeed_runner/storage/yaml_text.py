"""Writes YAML in which no character acts on a terminal, ends a line unseen or turns the writing around."""

from __future__ import annotations

from typing import Any

import yaml

from ..errors import hide_controls


def dump_yaml(content: Any, dumper: Any = yaml.SafeDumper, **options: Any) -> str:
    """The YAML of plain data, in its order; where some text has hidden characters, all are escaped that are not ASCII.

    Args:
        content: plain data.
        dumper: a class of PyYAML.
        options: of `yaml.dump`.
    """
    text = str(yaml.dump(content, Dumper=dumper, sort_keys=False, allow_unicode=True, **options))
    if text == hide_controls(text):
        return text
    return str(yaml.dump(content, Dumper=dumper, sort_keys=False, **options))
